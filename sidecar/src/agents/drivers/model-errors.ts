// What a harness says about its model where it gives no status of its own.
import type { AgentError } from '@atoll/protocol'
import { agentError, providerError } from '../harness-error.ts'

const unreachable =
  /fetch failed|econn|enotfound|etimedout|epipe|eai_again|socket|network|terminated|premature|connection|unable to connect|stream (ended|closed|error)|incomplete|no finish reason/i

const unknownModel = /\bmodels?\b.{0,120}\bnot (found|exist|supported|available)|requested entity was not found/i

export function errorOfMessage(message: string): AgentError {
  const status = /\b(4\d\d|5\d\d)\b/.exec(message)?.[1]
  if (status !== undefined) return providerError(Number(status), message)
  if (/unauthori[sz]ed|invalid api key|authentication/i.test(message)) return agentError('auth', message)
  if (unknownModel.test(message)) return agentError('model_not_found', message)
  if (unreachable.test(message)) return agentError('network', message)
  const { code } = providerError(undefined, message)
  return agentError(code === 'context' ? code : 'internal', message)
}
