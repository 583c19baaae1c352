// Rebuilds the operator's failures from its answers, in this one place.
import { Failure, isFailureCode } from '@atoll/protocol'

/** The failure that a refusing answer stands for. A code that this version does not know becomes `internal` and keeps its status. */
export async function refusalOf(response: Response): Promise<Failure> {
  const text = await response.text().catch(() => '')
  const body = jsonObject(text)
  const code = body['code']
  const error = body['error']
  const said = typeof error === 'string' ? error : `The operator answered ${response.status} ${response.statusText}`.trim()
  const retryAfterMs = retryAfter(body['retry_after_ms'], response.headers.get('retry-after'))
  const message = code === undefined || isFailureCode(code) ? said : `${said} (${String(code)})`
  return new Failure(isFailureCode(code) ? code : 'internal', message, {
    status: response.status,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  })
}

function jsonObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {} // A proxy in between answers HTML; its status is all there is to tell.
  }
}

function retryAfter(ms: unknown, header: string | null): number | undefined {
  if (typeof ms === 'number' && ms >= 0) return ms
  return header !== null && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : undefined
}
