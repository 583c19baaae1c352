// Asks a provider for the next tokens of a login (RFC 6749, section 6).
import { Failure } from '@atoll/protocol'
import type { Dispatcher } from 'undici'
import { z } from 'zod'

const deadlineMs = 30_000
const maxAnswer = 64 * 1024

const Tokens = z.object({
  access_token: z.string().min(1),
  refresh_token: z.string().min(1).optional(),
  expires_in: z.number().positive().optional(),
})

export interface LoginToRefresh {
  readonly refreshToken: string
  readonly tokenUrl: string
  readonly clientId: string
  readonly format: 'form' | 'json'
}

async function textOf(body: Dispatcher.ResponseData['body']): Promise<string> {
  let text = ''
  for await (const chunk of body.setEncoding('utf8')) {
    text += chunk
    if (text.length > maxAnswer) throw new Error('the answer is too long')
  }
  return text
}

export const createRefresh =
  (upstream: Dispatcher) =>
  async ({ refreshToken, tokenUrl, clientId, format }: LoginToRefresh) => {
    const url = new URL(tokenUrl)
    const fields = { grant_type: 'refresh_token', refresh_token: refreshToken, client_id: clientId }
    const body = format === 'json' ? JSON.stringify(fields) : new URLSearchParams(fields).toString()
    const type = format === 'json' ? 'application/json' : 'application/x-www-form-urlencoded'
    const unreachable = (cause: unknown): Failure =>
      new Failure('provider.unreachable', `${url.host} does not refresh the login. Try again in a moment.`, { cause, retryAfterMs: 2000 })
    const signal = AbortSignal.timeout(deadlineMs)
    const headers = { 'content-type': type, accept: 'application/json' }
    let status: number
    let text: string
    try {
      const answer = await upstream.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: 'POST',
        headers,
        body,
        signal,
      })
      status = answer.statusCode
      text = await textOf(answer.body)
    } catch (cause) {
      throw unreachable(cause)
    }
    if (status >= 400 && status < 500 && status !== 429 && status !== 408) {
      throw new Failure(
        'provider.login_expired',
        `${url.host} does not refresh the login any more (${status}). Its owner must log in again.`,
      )
    }
    const parsed = status < 300 ? Tokens.safeParse(asJson(text)) : undefined
    if (!parsed?.success) throw unreachable(new Error(`status ${status}`))
    return { accessToken: parsed.data.access_token, refreshToken: parsed.data.refresh_token, expiresInSeconds: parsed.data.expires_in }
  }

function asJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
