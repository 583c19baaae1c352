import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { test } from 'node:test'
import { agentOver, forwardRequest } from './forward.ts'

const portOf = (server: net.Server): number => (server.address() as AddressInfo).port

test('an answer that Node would not say ends the exchange, and nothing else', async () => {
  let says = ''
  const server = net.createServer((socket) => socket.on('error', () => undefined).once('data', () => socket.end(says, 'latin1')))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const agent = agentOver(async () => net.connect(portOf(server), '127.0.0.1'))
  const outgoing = { agent, path: '/', headers: ['Host', 'x'], name: 'x' }
  const proxy = http.createServer((request, response) => {
    forwardRequest(request, response, outgoing).catch(() => response.writeHead(502).end())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const ask = (): Promise<number | string> =>
    fetch(`http://127.0.0.1:${portOf(proxy)}/`)
      .then(({ status }) => status)
      .catch(() => 'cut')
  for (const head of ['HTTP/1.1 000 x', 'HTTP/1.1 099 x', 'HTTP/1.1 200 a\u0001b', 'HTTP/1.1 999999 x', 'nonsense']) {
    says = `${head}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`
    assert.ok(['cut', 502].includes(await ask()), head)
  }
  says = 'HTTP/1.1 204 fine\r\nconnection: close\r\n\r\n'
  assert.equal(await ask(), 204)
  proxy.close()
  server.close()
})
