// The model providers, as data. A new one is a line here; nothing else in the operator names one.
import { isIP } from 'node:net'
import { Failure } from '@atoll/protocol'

/** Where the key stands in a request. */
export type Credential = { readonly header: string; readonly prefix?: string } | { readonly query: string }

/** Dotted names in an answer or in an event of one. Of names for the same thing the value that is seen last counts. */
export interface UsageFields {
  readonly model: readonly string[]
  readonly input: readonly string[]
  /** Counted as input, and not part of it. */
  readonly inputBeside?: readonly string[]
  readonly output: readonly string[]
  readonly outputBeside?: readonly string[]
  readonly cached: readonly string[]
  /** Whether what came from a cache is part of the input as well. */
  readonly inputHoldsCached: boolean
  /** US dollars, where the provider says them. */
  readonly cost?: readonly string[]
}

export interface Provider {
  readonly id: string
  /** Without a slash at its end. */
  readonly baseUrl: string
  /** The first is how the key is put in; whatever a request carries in any of them is taken out. */
  readonly credentials: readonly [Credential, ...Credential[]]
  /** `METHOD /path` below the base URL; `*` is one segment or the rest of one, `**` is any. */
  readonly paths: readonly string[]
  /** How a token of a login goes in, where not as a key does, and what it goes with. */
  readonly login?: { readonly credential: Credential; readonly headers: Readonly<Record<string, string>> }
  /** Variables by which clients find the key and the address. */
  readonly variables: { readonly key: string; readonly baseUrl: string }
  readonly usage: UsageFields
}

const bearer = { header: 'authorization', prefix: 'Bearer ' } as const

const anthropicApi = {
  credentials: [{ header: 'x-api-key' }, bearer],
  paths: ['POST /v1/messages', 'POST /v1/messages/count_tokens', 'GET /v1/models', 'GET /v1/models/*'],
  login: { credential: bearer, headers: { 'anthropic-beta': 'oauth-2025-04-20' } },
  variables: { key: 'ANTHROPIC_API_KEY', baseUrl: 'ANTHROPIC_BASE_URL' },
  usage: {
    model: ['model', 'message.model'],
    input: ['usage.input_tokens', 'message.usage.input_tokens'],
    inputBeside: ['usage.cache_creation_input_tokens', 'message.usage.cache_creation_input_tokens'],
    output: ['usage.output_tokens', 'message.usage.output_tokens'],
    cached: ['usage.cache_read_input_tokens', 'message.usage.cache_read_input_tokens'],
    inputHoldsCached: false,
  },
} as const satisfies Omit<Provider, 'id' | 'baseUrl'>

const openaiApi = {
  credentials: [bearer, { header: 'api-key' }],
  paths: [
    ...['POST /chat/completions', 'POST /completions', 'POST /responses', 'POST /responses/compact', 'GET /responses/*'],
    ...['POST /embeddings', 'GET /models', 'GET /models/**', 'GET /responses', 'GET /realtime'],
  ],
  variables: { key: 'OPENAI_API_KEY', baseUrl: 'OPENAI_BASE_URL' },
  usage: {
    model: ['model', 'response.model'],
    input: ['usage.prompt_tokens', 'usage.input_tokens', 'response.usage.input_tokens'],
    output: ['usage.completion_tokens', 'usage.output_tokens', 'response.usage.output_tokens'],
    cached: [
      ...['usage.prompt_tokens_details.cached_tokens', 'usage.input_tokens_details.cached_tokens'],
      'response.usage.input_tokens_details.cached_tokens',
    ],
    inputHoldsCached: true,
  },
} as const satisfies Omit<Provider, 'id' | 'baseUrl'>

const googleApi = {
  credentials: [{ header: 'x-goog-api-key' }, { query: 'key' }, bearer],
  paths: ['POST /v1beta/models/*', 'GET /v1beta/models', 'GET /v1beta/models/*', 'POST /v1/models/*', 'GET /v1/models', 'GET /v1/models/*'],
  login: { credential: bearer, headers: {} },
  variables: { key: 'GEMINI_API_KEY', baseUrl: 'GOOGLE_GEMINI_BASE_URL' },
  usage: {
    model: ['modelVersion'],
    input: ['usageMetadata.promptTokenCount'],
    output: ['usageMetadata.candidatesTokenCount'],
    outputBeside: ['usageMetadata.thoughtsTokenCount'],
    cached: ['usageMetadata.cachedContentTokenCount'],
    inputHoldsCached: true,
  },
} as const satisfies Omit<Provider, 'id' | 'baseUrl'>

const kimi = { key: 'KIMI_API_KEY', baseUrl: 'KIMI_BASE_URL' }
const openrouterApi = {
  ...openaiApi,
  variables: { key: 'OPENROUTER_API_KEY', baseUrl: 'OPENROUTER_BASE_URL' },
  usage: { ...openaiApi.usage, cost: ['usage.cost'] },
}

const providers: readonly Provider[] = [
  { id: 'anthropic', baseUrl: 'https://api.anthropic.com', ...anthropicApi },
  { id: 'openai', baseUrl: 'https://api.openai.com/v1', ...openaiApi },
  { id: 'google', baseUrl: 'https://generativelanguage.googleapis.com', ...googleApi },
  { id: 'moonshot', baseUrl: 'https://api.moonshot.ai/v1', ...openaiApi, variables: kimi },
  { id: 'openrouter', baseUrl: 'https://openrouter.ai/api/v1', ...openrouterApi },
]

/** Everything that carries a key to some provider: none of it may leave a sandbox. */
export const everyCredential: readonly Credential[] = providers.flatMap(({ credentials }) => credentials)

/** Where the providers of the table are. */
export const providerHosts: readonly string[] = providers.map(({ baseUrl }) => new URL(baseUrl).hostname)

/** What an owner says of a provider that is not in the table. */
export interface CustomProvider {
  readonly baseUrl: string
  /** The provider of the table whose API it speaks. */
  readonly like: string
}

/** Whether the operator's owner vouches for an address that is not public; `url` is one that is well-formed. */
export type IsTrusted = (url: URL) => boolean

const nobody: IsTrusted = () => false

/** What somebody may have said. */
export type SaidOfProvider = { readonly [Field in keyof CustomProvider]?: string | undefined }

const customName = /^custom:[a-z0-9][a-z0-9-]{0,31}$/
const defaultLike = 'openai'

/**
 * The provider of a name. What is said of one that is in the table is refused rather than passed over.
 * @throws Failure `provider.unknown`, `provider.invalid`
 */
export function providerFor(
  id: string,
  custom: SaidOfProvider = {},
  isTrusted: IsTrusted = nobody,
): { provider: Provider; custom: CustomProvider | undefined } {
  const provider = known(id)
  const isSaid = custom.baseUrl !== undefined || custom.like !== undefined
  if (provider && isSaid) throw new Failure('provider.invalid', `base_url and like are for custom providers; ${id} has its own.`)
  if (provider) return { provider, custom: undefined }
  if (!customName.test(id)) {
    const names = providers.map((one) => one.id).join(', ')
    const shown = JSON.stringify(id.slice(0, 64))
    throw new Failure('provider.unknown', `No provider is called ${shown}. Use one of ${names}, or custom:<name> with a base_url.`)
  }
  if (custom.baseUrl === undefined) throw new Failure('provider.invalid', `${id} needs a base_url such as https://models.example.com/v1.`)
  const { like = defaultLike } = custom
  const api = known(like)
  if (!api) throw new Failure('provider.invalid', `like must be one of ${providers.map((one) => one.id).join(', ')}.`)
  const baseUrl = checkedUrl(custom.baseUrl, isTrusted)
  return { provider: { ...api, id, baseUrl }, custom: { baseUrl, like } }
}

/** The same of what was checked and kept. @throws Failure `provider.unknown` when this operator does not know it any more */
export function keptProvider(id: string, custom: CustomProvider | undefined): Provider {
  const api = known(custom?.like ?? id)
  if (!api) throw new Failure('provider.unknown', `This operator knows no provider ${JSON.stringify(id)} any more. Set its key again.`)
  return custom ? { ...api, id, baseUrl: custom.baseUrl } : api
}

const known = (id: string): Provider | undefined => providers.find((one) => one.id === id)

/**
 * A public https address. Whether the name leads to a public machine is for whoever dials it to see; a number instead of a name, in
 * whichever spelling, never is a name in public.
 */
export function checkedUrl(said: string, isTrusted: IsTrusted): string {
  const refuse = (why: string): never => {
    throw new Failure('provider.invalid', `The address ${why}. Write one such as https://models.example.com/v1.`)
  }
  if (!URL.canParse(said)) return refuse('is no address')
  const url = new URL(said)
  if (url.username !== '' || url.password !== '') return refuse('must not hold a credential')
  if (url.search !== '' || url.hash !== '') return refuse('must end with its path')
  const text = url.href.replace(/\/+$/, '')
  if (/^https?:$/.test(url.protocol) && isTrusted(url)) return text
  if (url.protocol !== 'https:') return refuse('must begin with https://')
  const host = url.hostname.replace(/\.$/, '')
  const isPublicName =
    isIP(host.replace(/^\[|\]$/g, '')) === 0 && host.includes('.') && !/\.(localhost|local|internal|localdomain)$/.test(host)
  if (!isPublicName) return refuse('must name a host in public, and not by number')
  return text
}
