// Runs a web server in a sandbox and makes a link that opens it in a browser.
import { Atoll } from '@atoll/sdk'

const port = 8000
const server = `
const http = require('node:http')
const server = http.createServer((request, response) => response.end('hello from ' + request.url + '\\n'))
server.listen(${port}, '127.0.0.1', () => console.log('listening'))
`

const atoll = new Atoll()
// Ports that are to be reached are named when the sandbox is made.
await using sandbox = await atoll.sandboxes.create({ name: 'example-web', ports: [port] })
await sandbox.files.write('server.cjs', server)

const running = await sandbox.processes.start(['/opt/atoll/node', 'server.cjs'])
for await (const output of running.output()) if (output.stream === 'stdout' && output.text.includes('listening')) break

// A program asks with its key…
const answer = await sandbox.ports.fetch(port, '/from-a-program')
console.log(`${answer.status} ${(await answer.text()).trim()}`)

// …a browser with a link that works until it expires, for this port alone.
const link = await sandbox.ports.preview(port, { ttlSeconds: 600 })
console.log(`open ${link.url}`)

await running.kill()
console.log(`the server ended by ${JSON.stringify((await running.wait()).exit)}`)
