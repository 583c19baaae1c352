// Model calls of sandboxes: checked, given the real key, passed on byte for byte, and counted.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { Failure, type ServiceQuotas } from '@atoll/protocol'
import type { Dispatcher } from 'undici'
import type { Secret } from '../secrets/secret.ts'
import type { Caller } from './caller.ts'
import type { Handler } from './gateway.ts'
import type { Ledger } from './ledger.ts'
import { bodyWithModel } from './model-name.ts'
import { openModelSocket } from './model-socket.ts'
import { fitsName } from './patterns.ts'
import type { Prices } from './prices.ts'
import type { Provider } from './providers.ts'
import { assertAllowed, detachedBody, hasBody, headersFor, type ModelCall, modelCallOf, queryFor, runOf } from './requests.ts'
import { passOn } from './responses.ts'
import type { Upstream } from './upstream.ts'
import { type Usage, UsageReader } from './usage-reader.ts'

/** What a service lets its sandboxes use of a provider. */
export interface Grant {
  readonly provider: Provider
  readonly key: Secret
  /** Names of models, with `*` for anything; none: every model. */
  readonly models: readonly string[]
  /** Where the key is the token of a login: is told when the provider does not take it. */
  readonly login: { refused(): void } | undefined
}

/** What the gateway asks of services. */
export interface Grants {
  /**
   * @throws Failure `service.not_found` when the sandbox's owner is no member of its service any more, `provider.key_missing`,
   * `provider.unknown`
   */
  grant(caller: Caller, providerId: string): Promise<Grant>
  quotas(caller: Caller): Promise<ServiceQuotas>
}

export interface ModelProxyParts {
  readonly grants: Grants
  readonly ledger: Ledger
  readonly prices: Prices
  readonly upstream: Upstream
}

/** A call that was admitted. */
export interface Admitted extends Grant {
  readonly caller: Caller
  readonly call: ModelCall
  readonly url: URL
  readonly headers: string[]
  readonly runId: string
  readonly body: Readable | Buffer | null
  /** That was asked for, where it was looked at; else empty. */
  readonly model: string
}

/** What is asked with these may cost something. */
const countedMethods = new Set(['POST', 'PUT'])

export class ModelProxy implements Handler {
  readonly #parts: ModelProxyParts

  constructor(parts: ModelProxyParts) {
    this.#parts = parts
  }

  async request(caller: Caller, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const departed = new AbortController()
    response.once('close', () => response.writableFinished || departed.abort())
    const admitted = await this.#admit(caller, request, { isCounted: countedMethods.has(request.method ?? '') })
    const { provider, url, headers, body } = admitted
    const { socket } = request
    const sentBefore = socket.bytesRead
    const answer = await this.#parts.upstream.calls
      .request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: (request.method ?? 'GET') as Dispatcher.HttpMethod,
        headers,
        body,
        signal: departed.signal,
      })
      .catch((cause: unknown) => this.#lost(admitted, cause))
    const reader = new UsageReader(provider.usage, {
      contentType: String(answer.headers['content-type'] ?? ''),
      contentEncoding: String(answer.headers['content-encoding'] ?? ''),
    })
    const isWhole = await passOn(answer, response, { key: admitted.key.reveal(), tap: (chunk) => reader.push(chunk) })
    if (answer.statusCode === 401) admitted.login?.refused()
    const isUsed = answer.statusCode < 400
    const sent = Buffer.isBuffer(body) ? body.length : socket.bytesRead - sentBefore
    await this.#settle(admitted, isUsed && request.method === 'POST' ? await reader.end(sent, isWhole) : undefined, !isUsed || !isWhole)
  }

  async upgrade(caller: Caller, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const admitted = await this.#admit(caller, request, { isCounted: true, isSocket: true })
    const reader = new UsageReader(admitted.provider.usage, { contentType: '', contentEncoding: '' })
    try {
      await openModelSocket(this.#parts.upstream.sockets, admitted, { request, socket, head, told: (text) => reader.message(text) })
    } catch (cause) {
      return this.#lost(admitted, cause)
    }
    await this.#settle(admitted, await reader.end(0), false)
  }

  /** @throws Failure whatever keeps the call from being made */
  async #admit(caller: Caller, request: IncomingMessage, { isCounted, isSocket = false }: Asking): Promise<Admitted> {
    const { grants, ledger, prices } = this.#parts
    const call = modelCallOf(request.url ?? '')
    const grant = await grants.grant(caller, call.providerId)
    const { provider, key, models } = grant
    assertAllowed(provider, request.method ?? '', call.path)
    const quotas = await grants.quotas(caller)
    if (isSocket) assertUnlimited(models, quotas)
    const isPriced = quotas.spend_per_day_usd > 0
    const isLimited = isCounted && (models.length > 0 || isPriced || quotas.tokens_per_day > 0)
    const { body, model } = isLimited
      ? await bodyWithModel(request, { path: call.path, sandboxId: caller.sandboxId })
      : { body: hasBody(request) ? detachedBody(request) : null, model: '' }
    if (isLimited) assertModel(grant, model)
    if (isLimited && isPriced && provider.usage.cost === undefined && !prices.has(provider.id, model)) throw unpriced(provider, model)
    if (isCounted) await ledger.admit(caller, quotas)
    const login = grant.login && provider.login
    const credential = login?.credential ?? provider.credentials[0]
    const url = new URL(`${provider.baseUrl}${call.path}${queryFor(call.query, credential, key.reveal())}`)
    return {
      ...grant,
      caller,
      call,
      url,
      headers: headersFor(request, { credential, key: key.reveal(), more: login?.headers ?? {} }),
      runId: runOf(request, call.query),
      body,
      model,
    }
  }

  /** The provider did not answer. */
  async #lost(admitted: Admitted, cause: unknown): Promise<never> {
    await this.#settle(admitted, undefined, true)
    if (cause instanceof Failure) throw cause
    const message = `${admitted.provider.id} at ${admitted.url.host} does not answer. Try again in a moment.`
    throw new Failure('provider.unreachable', message, { cause, retryAfterMs: 1000 })
  }

  #settle({ caller, provider, runId, model }: Admitted, usage: Usage | undefined, isFailed: boolean): Promise<void> {
    const { ledger, prices } = this.#parts
    // The answer may name the model otherwise than the call.
    const cost = usage && (prices.costOf(provider.id, usage) ?? prices.costOf(provider.id, { ...usage, model }))
    const tokens = usage ? usage.input + usage.output + usage.cached : 0
    return ledger.settle({
      ...caller,
      runId,
      provider: provider.id,
      model: usage?.model ?? '',
      failed: isFailed ? 1 : 0,
      estimated: usage?.isEstimated ? 1 : 0,
      input: usage?.input ?? 0,
      output: usage?.output ?? 0,
      cached: usage?.cached ?? 0,
      costUsd: cost ?? 0,
      unpriced: cost === undefined ? tokens : 0,
    })
  }
}

interface Asking {
  readonly isCounted: boolean
  readonly isSocket?: boolean
}

/** In a socket nobody can count, check or refuse one call. @throws Failure `request.invalid` */
function assertUnlimited(models: readonly string[], quotas: ServiceQuotas): void {
  const { requests_per_day: requests, tokens_per_day: tokens, spend_per_day_usd: spend } = quotas
  if (models.length === 0 && requests + tokens + spend === 0) return
  throw new Failure('request.invalid', 'This service limits models, calls, tokens or spend, so no WebSocket can be opened to a provider.')
}

function assertModel({ provider, models }: Grant, model: string): void {
  if (models.length === 0 || models.some((pattern) => fitsName(pattern, model))) return
  const asked = model === '' ? 'A call without a model' : `The model ${JSON.stringify(model.slice(0, 120))}`
  throw new Failure(
    'provider.model_refused',
    `${asked} is not among those of ${provider.id} that this service allows: ${models.join(', ')}.`,
  )
}

const unpriced = (provider: Provider, model: string): Failure =>
  new Failure(
    'budget.unpriced',
    `The service has a limit of spend, and ${provider.id}/${model.slice(0, 120)} has no price. Have one put into ATOLL_PRICES_FILE.`,
  )
