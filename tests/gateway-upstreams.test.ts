// Providers that speak HTTP/2 over TLS, and streams that are silent for long.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { GatewaySubject, post } from './gateway-subject.ts'
import { startProvider, type TestProvider } from './test-provider.ts'

let folder: string
let provider: TestProvider
let subject: GatewaySubject
const versions: string[] = []

before(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-tls-'))
  const [key, cert] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')]
  const subjectName = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
  execFileSync('openssl', ['req', '-x509', '-nodes', '-days', '2', ...curve, ...subjectName, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  })
  provider = await startProvider({ key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') })
  subject = await GatewaySubject.start('namespace', provider, { NODE_EXTRA_CA_CERTS: cert })
})

after(async () => {
  await subject?.[Symbol.asyncDispose]()
  await provider?.[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

test('a provider that speaks HTTP/2 is asked so, many calls at once on few connections, and every answer is whole', async () => {
  provider.answer = async (seen, response) => {
    versions.push(String(seen.headers[':authority'] !== undefined))
    response.setHeader('content-type', 'text/event-stream')
    for (let piece = 0; piece < 20; piece += 1) {
      response.write(`data: ${JSON.stringify({ piece, asked: String(seen.body) })}\n\n`)
      await delay(2)
    }
    response.end(`data: ${JSON.stringify({ model: 'two-1', usage: { prompt_tokens: 1, completion_tokens: 2 } })}\n\n`)
  }
  const answers: [number, boolean][] = await subject.script(
    `const one = async (n) => {
       const r = await fetch('http://127.0.0.1:7077/custom:mine/chat/completions', { method: 'POST', body: 'body ' + n })
       const text = await r.text()
       return [r.status, text.split('body ' + n + '"').length === 21 && text.includes('two-1')]
     }
     console.log(JSON.stringify(await Promise.all(Array.from({ length: 60 }, (_, n) => one(n)))))`,
  )
  assert.equal(answers.filter(([status, isWhole]) => status === 200 && isWhole).length, 60)
  assert.deepEqual(new Set(versions), new Set(['true']))
  const [row] = await subject.usage('by=model')
  assert.deepEqual([row.model, row.requests, row.output_tokens, row.estimated], ['two-1', 60, 120, 0])
})

test('a stream that says nothing for a while goes on afterwards', async () => {
  provider.answer = async (_, response) => {
    response.setHeader('content-type', 'text/event-stream')
    response.write('data: 1\n\n')
    await delay(8000)
    response.end('data: 2\n\n')
  }
  const answer = await subject.ask('/custom:mine/responses', post('{}'))
  assert.equal(answer.text, 'data: 1\n\ndata: 2\n\n')
})

test('a provider that nobody vouches for by its certificate is not told the key', async () => {
  const other = await GatewaySubject.start('namespace', provider)
  try {
    const before = provider.seen.length
    const answer = await other.ask('/custom:mine/responses', post('{}'))
    assert.deepEqual([answer.status, JSON.parse(answer.text).error.code], [502, 'provider.unreachable'])
    assert.equal(provider.seen.length, before)
  } finally {
    await other[Symbol.asyncDispose]()
  }
})
