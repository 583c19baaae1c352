// A client of a model, as a program of its own.

/** Runs on both sides: calls one after another, or many streams at once. Its last line is the answer. */
export const client = `
import http from 'node:http'
const [base, mode, count, events] = [process.argv[2], process.argv[3], Number(process.argv[4]), Number(process.argv[5])]
const agent = new http.Agent({ keepAlive: true })
const body = JSON.stringify({ model: 'bench', stream: true, messages: [{ role: 'user', content: 'x'.repeat(2000) }] })
const call = () => new Promise((resolve, reject) => {
  const startedAt = performance.now()
  const request = http.request(base + '/chat/completions?n=' + events, { method: 'POST', agent, headers: { 'content-type': 'application/json', 'content-length': body.length } })
  request.on('error', reject)
  request.on('response', (response) => {
    let firstMs, got = 0
    if (response.statusCode !== 200) reject(new Error('status ' + response.statusCode))
    response.on('data', (chunk) => { firstMs ??= performance.now() - startedAt; got += chunk.length })
    response.on('end', () => resolve({ firstMs, wholeMs: performance.now() - startedAt, got }))
  })
  request.end(body)
})
if (mode === 'calls') {
  await call()
  const samples = []
  for (let done = 0; done < count; done++) samples.push(await call())
  console.log(JSON.stringify(samples))
} else {
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: count }, call))
  console.log(JSON.stringify(count * events / ((performance.now() - startedAt) / 1000)))
}
`
