// How opencode is set up for one turn: a folder of settings, skills and subagents that goes before the user's own.
import path from 'node:path'
import type { Turn, TurnContext } from '../harness.ts'
import { writeSkills, writeSubagents } from './definitions.ts'

type Env = Readonly<Record<string, string>>

interface Provider {
  readonly id: string
  readonly keys: readonly string[]
  readonly models: RegExp
  readonly base: (env: Env) => string | undefined
}

export interface Model {
  readonly providerID: string
  readonly modelID: string
}

const under = (base: string | undefined, version: string): string | undefined => base && `${base.replace(/\/+$/, '')}${version}`
const providers: readonly Provider[] = [
  { id: 'anthropic', keys: ['ANTHROPIC_API_KEY'], models: /^claude/, base: (env) => under(env['ANTHROPIC_BASE_URL'], '/v1') },
  { id: 'openai', keys: ['OPENAI_API_KEY'], models: /^(gpt|o\d|codex)/, base: (env) => env['OPENAI_BASE_URL'] || undefined },
  {
    id: 'google',
    keys: ['GEMINI_API_KEY', 'GOOGLE_API_KEY'],
    models: /^gemini/,
    base: (env) => under(env['GOOGLE_GEMINI_BASE_URL'] || env['GEMINI_BASE_URL'], '/v1beta'),
  },
]

export const opencodeCredentialEnv: readonly string[] = [
  'ANTHROPIC_API_KEY',
  'ANTHROPIC_BASE_URL',
  'OPENAI_API_KEY',
  'OPENAI_BASE_URL',
  'GEMINI_API_KEY',
  'GEMINI_BASE_URL',
  'GOOGLE_API_KEY',
  'GOOGLE_GEMINI_BASE_URL',
]

/** Where users set up models of their own, in their home. */
export const ownFiles: readonly string[] = [
  '.config/opencode/opencode.json',
  '.config/opencode/opencode.jsonc',
  '.local/share/opencode/auth.json',
]

const keyOf = ({ keys }: Provider, env: Env): string | undefined => keys.find((name) => env[name])

export const usableProviders = (env: Env): readonly Provider[] => providers.filter((provider) => keyOf(provider, env) !== undefined)

/** `provider/model`, or a model alone of whichever provider would have it. */
function modelOf({ model }: Turn, env: Env, hasOwn: boolean): Model | undefined {
  if (model === '') return undefined
  const usable = usableProviders(env)
  const [providerID = '', ...rest] = model.split('/')
  const isNamed = rest.length > 0 && (hasOwn || usable.length === 0 || providers.some(({ id }) => id === providerID))
  if (isNamed) return { providerID, modelID: rest.join('/') }
  const provider = usable.find(({ models }) => models.test(model)) ?? usable[0]
  return provider && { providerID: provider.id, modelID: model }
}

const providersOf = (env: Env, model: Model | undefined): object =>
  Object.fromEntries(
    usableProviders(env).map((one) => {
      const baseURL = one.base(env)
      const options = { apiKey: `{env:${keyOf(one, env)}}`, ...(baseURL && { baseURL }) }
      // A model that the program does not know is declared; of one that it knows, nothing changes.
      return [one.id, { options, ...(one.id === model?.providerID && { models: { [model.modelID]: {} } }) }]
    }),
  )

const serversOf = ({ mcpServers }: Turn): object =>
  Object.fromEntries(
    Object.entries(mcpServers).map(([name, server]) => [
      name,
      'url' in server
        ? { type: 'remote', url: server.url, headers: server.headers, enabled: true }
        : { type: 'local', command: [server.command, ...server.args], environment: server.env, enabled: true },
    ]),
  )

const harmless = ['read', 'glob', 'grep', 'list', 'skill', 'todoread', 'todowrite', 'lsp']
const asking = { '*': 'ask', ...Object.fromEntries(harmless.map((name) => [name, 'allow'])) }

/** Keys are named here; they stand in the environment. */
function settingsOf(turn: Turn, env: Env, { model, hasOwn }: { model: Model | undefined; hasOwn: boolean }): object {
  const usable = usableProviders(env)
  return {
    autoupdate: false,
    share: 'disabled',
    provider: providersOf(env, model),
    mcp: serversOf(turn),
    // Nobody is there to answer a question of the model's.
    permission: { ...(turn.permissionMode === 'ask' && asking), question: 'deny' },
    // Else models that need no key would do where nobody names one.
    ...(!hasOwn && usable.length > 0 && { enabled_providers: usable.map(({ id }) => id) }),
  }
}

/** Answers the folder, and the model to ask for. */
export async function furnish(turn: Turn, context: TurnContext): Promise<{ place: string; model: Model | undefined }> {
  const place = path.join(context.scratch, 'opencode')
  const found = await Promise.all(ownFiles.map((file) => context.readFile(path.join(context.home, file))))
  const hasOwn = found.some((text) => text !== undefined)
  const model = modelOf(turn, context.env, hasOwn)
  await context.writeFile(path.join(place, 'opencode.json'), JSON.stringify(settingsOf(turn, context.env, { model, hasOwn })))
  await writeSkills(turn, context, path.join(place, 'skills'))
  await writeSubagents(turn, context, { folder: path.join(place, 'agents'), fields: { mode: 'subagent' } })
  return { place, model }
}
