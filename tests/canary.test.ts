// Secrets of every kind, planted, used and looked for in every place: none is anywhere but where it must be.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { appendFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { CanarySubject, userKinds } from './canary/journey.ts'
import { Needles } from './canary/needles.ts'
import { type EngineLog, engineLog, type Finding, namespaceOf, processWith, Search } from './canary/places.ts'
import { testRuntimes } from './runtimes.ts'
import { startProvider, type TestProvider } from './test-provider.ts'

const isUserKind = (name: string): boolean => userKinds.some((kind) => kind === name)
const hasEngine = testRuntimes.find(({ name }) => name === 'docker')?.skip === false
const startedAt = Math.floor(Date.now() / 1000)

let provider: TestProvider
let log: EngineLog | undefined

before(async () => {
  provider = await startProvider()
  log = engineLog()
})
after(() => provider[Symbol.asyncDispose]())

/** What a caller is served, of all that can be asked. */
async function served(subject: CanarySubject, search: Search): Promise<void> {
  const at =
    subject.own === ''
      ? []
      : [
          '',
          '/secrets-are-not-asked',
          '/processes',
          '/events',
          '/agents/runs',
          '/egress',
          '/egress/bindings',
          '/ports',
          '/files?path=.',
          '/live/terminal/sessions',
        ]
  const common = [
    '/health',
    '/readyz',
    '/metrics',
    '/openapi.json',
    '/api/capabilities',
    '/api/usage',
    '/api/keys',
    '/api/provisions',
    '/api/services',
  ]
  const lists = ['/api/services/default/provider-keys', '/api/snapshots', '/api/sandboxes?state=creating,running,stopped,deleting,ended']
  const targets = [
    ...common,
    ...lists,
    '/api/events?limit=1000',
    '/api/audit?limit=1000',
    ...at.map((rest) => `/api/sandboxes/${subject.own}${rest}`),
  ]
  for (const target of targets) {
    const { text, headers } = await subject.call('GET', target)
    search.text('served', target, text)
    search.text('served', `headers of ${target}`, JSON.stringify([...headers]))
  }
  for (const target of ['/api/sandboxes', '/api/events?limit=1000', '/api/audit?limit=1000']) {
    search.text('served', `${target} to ann`, (await subject.call('GET', target, undefined, subject.annKey)).text)
  }
}

/** Looks everywhere. */
async function lookEverywhere(subject: CanarySubject, containers: readonly string[], isAlive: boolean): Promise<Search> {
  const search = new Search(subject.needles)
  const { folder } = subject.operator
  await search.folder('file', folder)
  search.processes()
  if (hasEngine) await search.engine({ containers, since: startedAt, log })
  await served(subject, search)
  if (!isAlive) return search
  for (const mark of subject.marks) await search.root(processWith(mark))
  const look = 'cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; cat /run/secrets/* 2>/dev/null; true'
  search.text('inside', subject.own, (await subject.exec(look, subject.own)).stdout)
  search.text('inside', subject.other, (await subject.exec(look, subject.other, subject.annKey)).stdout)
  return search
}

/** Where a secret belongs. */
function belongs({ name, kind, where }: Finding, subject: CanarySubject, own: string): boolean {
  const { folder, pid } = subject.operator
  const file = (rest: string): boolean => kind === 'file' && where === path.join(folder, rest)
  if (name === 'adminKey') return file('state/admin-key')
  if (name === 'sealingKey') return file('state/keys.json')
  if (name === 'agentEnv') return file('agents.env')
  // It was given to the operator in its environment.
  if (name === 'sessionSecret') return kind === 'environ' && where === String(pid)
  // The link is printed for the person who starts the operator, and good for one use.
  if (name === 'signInCode') return file('operator.log')
  if (!isUserKind(name)) return false
  if (kind === 'inside') return where === subject.own
  if (kind === 'environ') return own !== '' && namespaceOf(where) === own
  return kind === 'root' && name === 'userSecret' && /\/root\/run\/secrets\/USER_SECRET$/.test(where)
}

const shown = ({ name, kind, where }: Finding): string => `${name}: ${kind} ${where}`

for (const { name: runtime, skip } of testRuntimes) {
  describe(`secrets on ${runtime}`, { skip }, () => {
    let subject: CanarySubject
    before(async () => {
      subject = await CanarySubject.start(runtime, provider)
    })
    after(() => subject?.[Symbol.asyncDispose]())

    test('are used, through errors and a crash', async () => {
      await subject.setUp()
      await subject.journey()
      await subject.errors()
      await subject.interrupt()
    })

    test('are nowhere but where they belong, while sandboxes run', async () => {
      const own = namespaceOf(processWith(subject.marks[0]))
      const { findings } = await lookEverywhere(
        subject,
        runtime === 'docker' ? [subject.own, subject.other].map((id) => `atoll-${id}`) : [],
        true,
      )
      const leaks = findings.filter((finding) => !belongs(finding, subject, own))
      assert.deepEqual(leaks.map(shown), [])
      const found = new Set(findings.map(({ name }) => name))
      // What must be somewhere was found there, so the look does look.
      for (const name of [
        'adminKey',
        'agentEnv',
        'signInCode',
        'userSecret',
        'envSecret',
        runtime === 'docker' ? 'sessionSecret' : 'sealingKey',
      ]) {
        assert.ok(found.has(name), `${name} is not where it must be`)
      }
    })

    test('of a sandbox are gone with it, also after a new sealing key', async () => {
      if (runtime === 'namespace') await subject.call('POST', '/api/sealing-key/rotate')
      for (const id of [subject.own, subject.other]) assert.equal((await subject.call('DELETE', `/api/sandboxes/${id}`)).status, 200)
      const { findings } = await lookEverywhere(subject, [], false)
      assert.deepEqual(findings.filter((finding) => isUserKind(finding.name) || !belongs(finding, subject, '')).map(shown), [])
    })
  })
}

test('a value in any of the places is found, in any of the spellings', async () => {
  await using subject = await CanarySubject.start('namespace', provider)
  const decoys: [string, string][] = []
  const decoy = (kind: string): string => {
    const value = `d${randomBytes(14).toString('hex')}`
    subject.needles.add(kind, value)
    decoys.push([kind, value])
    return value
  }
  const { folder } = subject.operator
  const hex = (text: string): string => Buffer.from(text).toString('hex')
  const base64 = (text: string): string => Buffer.from(`xy${text}z`).toString('base64')
  writeFileSync(path.join(folder, 'state/decoy'), Buffer.concat([Buffer.alloc(5 << 20), Buffer.from(base64(decoy('file')))]))
  appendFileSync(path.join(folder, 'operator.log'), `{"msg":"${hex(decoy('log'))}"}\n`)
  const db = new DatabaseSync(path.join(folder, 'state/atoll.db'))
  db.prepare("insert into settings (name, value) values ('decoy', ?)").run(decoy('database'))
  // It waits for a line that does not come.
  const waiter = spawn('sh', ['-c', 'read line', decoy('cmdline')], {
    env: { DECOY: decoy('environ') },
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  subject.own = await subject.operator.newSandbox({ memory_mb: 256, name: decoy('served') })
  subject.other = subject.own
  subject.annKey = subject.operator.adminKey
  const at = `/api/sandboxes/${subject.own}`
  await subject.call('PUT', `${at}/files/content?path=decoy.txt`, encodeURIComponent(`"${decoy('root')}"`))
  await subject.call('POST', `${at}/secrets`, { env_json: { [decoy('audit')]: 'value' } })
  await subject.call('PUT', `/api/services/default/provider-keys/custom:${decoy('events')}`, { key: 'sk-12345678', base_url: provider.url })
  for (const mark of subject.marks) await subject.call('POST', `${at}/processes`, { argv: ['sleep', mark] })
  await subject.call('POST', `${at}/processes`, { argv: ['sh', '-c', `sleep 60; true ${decoy('inside')}`] })
  const container = `atoll-canary-${randomBytes(4).toString('hex')}`
  if (hasEngine) {
    const script = `echo ${decoy('container log')}; echo ${decoy('container files')} > /tmp/decoy`
    execFileSync('docker', ['run', '--name', container, '--label', `decoy=${decoy('inspect')}`, 'atoll/base:bookworm', 'sh', '-c', script])
  }
  try {
    const search = await lookEverywhere(subject, hasEngine ? [container] : [], true)
    const where = (kind: string): string[] =>
      search.findings.filter(({ name }) => name === kind).map((finding) => `${finding.kind} ${finding.where}`)
    const expected: Record<string, RegExp> = {
      file: /^file .*\/state\/decoy$/,
      log: /^file .*operator\.log$/,
      database: /^file .*\/atoll\.db(-wal)?$/,
      cmdline: new RegExp(`^cmdline ${waiter.pid}$`),
      environ: new RegExp(`^environ ${waiter.pid}$`),
      served: /^served \/api\/sandboxes/,
      audit: /^served \/api\/audit/,
      events: /^served \/api\/events/,
      root: /^root .*decoy\.txt$/,
      inside: /^inside /,
      'container log': /^container log /,
      'container files': /^container files /,
      inspect: /^inspect container/,
    }
    for (const [kind] of decoys)
      assert.ok(expected[kind] && where(kind).some((text) => expected[kind]?.test(text)), `${kind}: ${where(kind)}`)
  } finally {
    waiter.kill()
    db.close()
    if (hasEngine) execFileSync('docker', ['rm', '-f', container])
  }
})

test('what is cut in pieces or spelt otherwise is found', () => {
  const needles = new Needles()
  const value = `${randomBytes(12).toString('hex')}+/"%=${randomBytes(12).toString('hex')}`
  needles.add('it', value)
  const spellings = [
    value,
    Buffer.from(`a${value}b`).toString('base64'),
    Buffer.from(`ab${value}`).toString('base64url'),
    Buffer.from(value).toString('hex'),
    Buffer.from(value).toString('hex').toUpperCase(),
    encodeURIComponent(value),
    JSON.stringify({ value }),
    JSON.stringify(JSON.stringify({ value })),
  ]
  for (const text of spellings) assert.deepEqual([...needles.find(Buffer.from(`before ${text} after`))], ['it'], text)
  for (let cut = 1; cut < value.length; cut += 1) {
    const text = `{"delta":${JSON.stringify(value.slice(0, cut))}}\n{"delta":${JSON.stringify(value.slice(cut))}}`
    assert.equal(needles.find(Buffer.from(text)).size, 1, `cut at ${cut}`)
  }
  assert.equal(needles.find(randomBytes(1 << 20)).size, 0)
})
