// What a provider's answer means, for every harness.
import type { AgentError, AgentErrorCode } from '@atoll/protocol'

const byStatus: Readonly<Record<number, AgentErrorCode>> = {
  401: 'auth',
  402: 'auth',
  403: 'auth',
  404: 'model_not_found',
  408: 'network',
  413: 'context',
  429: 'rate_limit',
  503: 'overloaded',
  529: 'overloaded',
}

const retryable: ReadonlySet<AgentErrorCode> = new Set(['rate_limit', 'overloaded', 'server', 'network', 'timeout', 'lost'])
const tooLong = /context (length|window)|prompt is too long|maximum context|too many tokens/i

export const agentError = (code: AgentErrorCode, message: string, status?: number): AgentError => ({
  code,
  message,
  ...(status !== undefined && { http_status: status }),
  retryable: retryable.has(code),
})

/** @param status what the provider answered; undefined when it gave no answer */
export function providerError(status: number | undefined, message: string): AgentError {
  if (tooLong.test(message)) return agentError('context', message, status)
  if (status === undefined) return agentError('network', message)
  const code = byStatus[status] ?? (status >= 500 ? 'server' : status >= 400 ? 'config' : 'network')
  return agentError(code, message, status)
}
