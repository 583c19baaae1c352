// Vite's dev server runs in a sandbox, and hot module replacement works through a preview link.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { WebSocket } from 'ws'
import { readEvents } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The folders of a package and of everything that it needs, as far as they are installed. */
function closure(name: string, found = new Set<string>()): Set<string> {
  const folder = `node_modules/${name}`
  const manifest = path.join(root, folder, 'package.json')
  if (found.has(folder) || !existsSync(manifest)) return found
  found.add(folder)
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(manifest, 'utf8'))
  for (const next of [...Object.keys(dependencies), ...Object.keys(optionalDependencies)]) closure(next, found)
  return found
}

const page = '<!doctype html><html><body><script type="module" src="/main.js"></script></body></html>'
const script = (text: string): string =>
  `document.body.textContent = ${JSON.stringify(text)}\nif (import.meta.hot) import.meta.hot.accept()\n`

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    let files: string
    let origin: string
    let cookie: string
    let host: string
    before(async () => {
      operator = await startOperator({ runtime })
      const sandbox = await operator.newSandbox({ metadata_json: { ports: [5173] }, memory_mb: 1024 })
      files = `/api/sandboxes/${sandbox}/files/content?path=`
      const { stdout: archive } = await promisify(execFile)('tar', ['-cf', '-', ...closure('vite')], {
        cwd: root,
        encoding: 'buffer',
        maxBuffer: 512 * 1024 * 1024,
      })
      await operator.call('PUT', `${files}vite.tar`, { body: new Uint8Array(archive) })
      const unpacked = await operator.call('POST', `/api/sandboxes/${sandbox}/exec`, {
        body: { command: 'tar -xf vite.tar && rm vite.tar' },
      })
      assert.equal(unpacked.body.exit_code, 0, unpacked.text)
      await operator.call('PUT', `${files}index.html`, { body: page })
      await operator.call('PUT', `${files}main.js`, { body: script('one') })
      const argv = ['/opt/atoll/node', 'node_modules/vite/bin/vite.js', '--host', '127.0.0.1', '--port', '5173', '--strictPort']
      const started = await operator.call('POST', `/api/sandboxes/${sandbox}/processes`, { body: { argv } })
      let output = ''
      for await (const { data } of readEvents(
        await operator.fetch('GET', `/api/sandboxes/${sandbox}/processes/${started.body.id}/events`),
      )) {
        output += data.text ?? JSON.stringify(data)
        if (/ready in|"exit"/.test(output)) break
      }
      assert.match(output, /ready in/)
      const { body } = await operator.call('POST', `/api/sandboxes/${sandbox}/ports/5173/preview`, { body: {} })
      const link = new URL(body.url)
      // The name leads to this machine in a browser; here the Host header says it.
      origin = `http://127.0.0.1:${link.port}`
      host = link.host
      const opened = await browse(`/${link.search}`)
      cookie = opened.headers.getSetCookie()[0]?.split(';')[0] ?? ''
      assert.match(cookie, /^atoll_preview=/)
    })
    after(() => operator[Symbol.asyncDispose]())

    const browse = async (target: string): Promise<{ status: number; headers: Headers; text: string }> => {
      const { request } = await import('node:http')
      return new Promise((resolve, reject) => {
        const asked = request(`${origin}${target}`, { headers: { host, ...(cookie && { cookie }) } }, (response) => {
          const headers = new Headers()
          for (const [name, values] of Object.entries(response.headersDistinct))
            for (const value of values ?? []) headers.append(name, value)
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (chunk) => {
            text += chunk
          })
          response.on('end', () => resolve({ status: response.statusCode ?? 0, headers, text }))
        })
        asked.on('error', reject)
        asked.end()
      })
    }

    test('the page and its modules load', async () => {
      const index = await browse('/')
      assert.equal(index.status, 200)
      assert.match(index.text, /@vite\/client/)
      const main = await browse('/main.js')
      assert.match(main.headers.get('content-type') ?? '', /javascript/)
      assert.match(main.text, /"one"/)
    })

    test('a change of a file reaches the browser over the WebSocket', async () => {
      const client = await browse('/@vite/client')
      const token = /wsToken = "([^"]+)"/.exec(client.text)?.[1]
      assert.ok(token, 'the client script has the token')
      // Node's own client cannot say another Host, which a browser derives from the link.
      const socket = new WebSocket(`${origin.replace('http', 'ws')}/?token=${token}`, 'vite-hmr', {
        headers: { host, cookie, origin: `http://${host}` },
      })
      const messages: { type: string }[] = []
      const seen = (type: string): Promise<void> =>
        new Promise((resolve, reject) => {
          const look = (): void => void (messages.some((message) => message.type === type) && resolve())
          socket.onmessage = ({ data }) => {
            messages.push(JSON.parse(String(data)))
            look()
          }
          socket.onerror = () => reject(new Error('the WebSocket failed'))
          socket.onclose = () => reject(new Error(`the WebSocket closed before ${type}`))
          look()
        })
      await seen('connected')
      await operator.call('PUT', `${files}main.js`, { body: script('two') })
      await seen('update')
      assert.match((await browse('/main.js')).text, /"two"/)
      socket.onclose = () => undefined
      socket.close()
    })
  })
}
