// Which part may import which, and how large a file may be. This table is the architecture.
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

const packages: Record<string, readonly string[]> = {
  protocol: [],
  sdk: ['protocol'],
  cli: ['sdk', 'protocol'],
  sidecar: ['protocol'],
  operator: ['protocol'],
}

/** Folders of the operator. `*` is every part; a part may always import itself. */
const parts: Record<string, readonly string[]> = {
  sandboxes: [],
  auth: ['secrets'],
  audit: ['sandboxes', 'secrets'],
  secrets: ['sandboxes'],
  host: [],
  'gateway/providers.ts': [],
  gateway: ['sandboxes', 'secrets', 'gateway/providers.ts'],
  services: ['sandboxes', 'secrets', 'gateway/providers.ts'],
  snapshots: ['sandboxes', 'host'],
  storage: ['sandboxes', 'audit', 'auth', 'agents', 'services', 'secrets', 'gateway'],
  'guest-channel': ['sandboxes', 'host'],
  telemetry: ['sandboxes'],
  'runtimes/docker': ['sandboxes', 'host'],
  'runtimes/namespace': ['sandboxes', 'host'],
  agents: ['sandboxes', 'secrets'],
  http: ['sandboxes', 'agents', 'audit', 'auth', 'secrets', 'services', 'gateway', 'telemetry', 'config.ts'],
  'config.ts': ['sandboxes'],
  'assemble.ts': ['*'],
  'main.ts': ['*'],
}

/** What the core may load besides Node's own: a schema library would be for borders, a framework for elsewhere. */
const coreLibraries = new Set(['@atoll/protocol', '@atoll/protocol/sidecar', 'pino', 'zod'])

const sources = (pattern: string): string[] => globSync(pattern, { cwd: root, exclude: ['**/node_modules/**', '**/dist/**'] }).sort()
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8')
const isTest = (file: string): boolean => /\.(test|contract)\.ts$|\/testing\/|\/contract\//.test(file)

const importsOf = (file: string): string[] => [...read(file).matchAll(/(?:from|import) '([^']+)'/g)].map(([, target]) => target ?? '')

test('packages import only what their place in the map allows', () => {
  const offences: string[] = []
  for (const [name, allowed] of Object.entries(packages)) {
    for (const file of sources(`${name}/src/**/*.ts`)) {
      for (const target of importsOf(file)) {
        const other = /^@atoll\/(\w+)/.exec(target)?.[1]
        const leaves = target.startsWith('.') && !path.join(path.dirname(file), target).startsWith(`${name}/`)
        if ((other && other !== name && !allowed.includes(other)) || (leaves && !isTest(file))) offences.push(`${file} imports ${target}`)
      }
    }
  }
  assert.deepEqual(offences, [])
})

const partOf = (file: string): string => {
  const [, inside = ''] = file.split('operator/src/')
  return Object.keys(parts).find((part) => inside === part || inside.startsWith(`${part}/`)) ?? inside
}

/** What is wrong with one import; undefined when nothing is. */
function offence(file: string, target: string): string | undefined {
  const from = partOf(file)
  const allowed = parts[from]
  if (!allowed) return `${file} is in no part of the map`
  if (!target.startsWith('.')) {
    const isForeign = from === 'sandboxes' && !target.startsWith('node:') && !coreLibraries.has(target)
    return isForeign ? `${file} imports ${target}` : undefined
  }
  const to = partOf(path.join(path.dirname(file), target))
  const isAllowed = to === from || target.endsWith('package.json') || allowed.includes('*') || allowed.includes(to)
  return isAllowed ? undefined : `${file} imports ${target}`
}

test('inside the operator every arrow points to the core', () => {
  const files = sources('operator/src/**/*.ts').filter((name) => !isTest(name))
  const offences = files.flatMap((file) => importsOf(file).map((target) => offence(file, target)))
  assert.deepEqual(
    offences.filter((text) => text !== undefined),
    [],
  )
})

test('the protocol needs zod and nothing else', () => {
  const used = new Set(
    sources('protocol/src/**/*.ts')
      .filter((file) => !isTest(file))
      .flatMap(importsOf)
      .filter((target) => !target.startsWith('.')),
  )
  assert.deepEqual([...used], ['zod'])
})

test('the name of an engine stands in its runtime, the protocol, the settings and the assembly, and nowhere else', () => {
  const withoutProse = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
  const offences = sources('{operator,sidecar}/src/**/*.ts')
    .filter((file) => !isTest(file) && !/runtimes\/docker\/|operator\/src\/(config|assemble)\.ts|sandboxes\/backend\.ts/.test(file))
    .filter((file) => /docker/i.test(withoutProse(read(file))))
  assert.deepEqual(offences, [])
})

test('a file has at most 400 lines', () => {
  const long = sources('{protocol,operator,sidecar,sdk,cli,tests,bench,scripts,examples}/**/*.{ts,mjs}').flatMap((file) => {
    const lines = read(file).split('\n').length - 1
    return lines > 400 ? [`${file}: ${lines}`] : []
  })
  assert.deepEqual(long, [])
})

test('nothing exports everything of another file, and no file is called by what it does not say', () => {
  const offences = sources('{protocol,operator,sidecar,sdk,cli}/**/*.ts').filter(
    (file) => /^export \* /m.test(read(file)) || /(^|\/)(utils?|helpers?|common|misc)(\.|\/|-)/.test(file),
  )
  assert.deepEqual(offences, [])
})
