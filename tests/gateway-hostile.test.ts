// Providers that mean harm, or say what they should not.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { GatewaySubject, post, realKey } from './gateway-subject.ts'
import { startProvider, type TestProvider } from './test-provider.ts'

let provider: TestProvider
let subject: GatewaySubject

before(async () => {
  provider = await startProvider()
  subject = await GatewaySubject.start('namespace', provider)
})

after(async () => {
  await subject?.[Symbol.asyncDispose]()
  await provider?.[Symbol.asyncDispose]()
})

test('a refusal that is packed or has no end shows no key, and costs the operator no memory', async () => {
  const said = gzipSync(`wrong key: ${realKey}`)
  provider.answer = (_, response) => void response.writeHead(400, { 'content-encoding': 'gzip' }).end(said)
  const packed = await subject.ask('/custom:mine/responses', post('{}', { 'accept-encoding': 'gzip' }))
  assert.deepEqual([packed.status, packed.text], [400, 'wrong key: [secret]'])
  provider.answer = (_, response) => {
    response.writeHead(400)
    const more = (): boolean => !response.destroyed && response.write(Buffer.alloc(65_536)) && more()
    response.on('drain', more)
    more()
  }
  assert.equal(
    await subject.script(
      `console.log(JSON.stringify(await fetch('http://127.0.0.1:7077/custom:mine/responses', ${post('{}')}).then((r) => r.text().then(() => 'whole'), () => 'cut')))`,
    ),
    'cut',
  )
})

test('an answer that Node would not say cuts off the call, and not the operator', async () => {
  for (const head of ['HTTP/1.1 000 x', 'HTTP/1.1 200 a\u0001b', 'HTTP/1.1 099 x', 'nonsense']) {
    provider.answer = (_, response) => void response.socket?.end(`${head}\r\ncontent-length: 0\r\n\r\n`)
    await subject.script(
      `console.log(JSON.stringify(await fetch('http://127.0.0.1:7077/custom:mine/models').then((r) => r.status, () => 'cut')))`,
    )
  }
  provider.answer = (_, response) => void response.end('{}')
  assert.equal((await subject.ask('/custom:mine/models')).status, 200)
})

test('a service that limits what its sandboxes use opens no WebSocket, in which nobody could count', async () => {
  const made = await subject.operator.call('POST', '/api/services', { body: { name: 'tight', quotas: { tokens_per_day: 1000 } } })
  await subject.setKey('custom:mine', { like: 'openai' }, made.body.id)
  const sandbox = await subject.operator.newSandbox({ memory_mb: 512, service_id: made.body.id })
  const opened = await subject.script(
    `const ws = new WebSocket('ws://127.0.0.1:7077/custom:mine/realtime')
     console.log(JSON.stringify(await new Promise((r) => { ws.onopen = () => r('open'); ws.onerror = () => r('refused') })))`,
    sandbox,
  )
  assert.equal(opened, 'refused')
})
