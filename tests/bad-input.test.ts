// What bad input gets: a 4xx with a stable code and one sentence, and nothing half-made.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { readEvents } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

const create = (operator: TestOperator, body: unknown, headers: Record<string, string> = {}) =>
  operator.call('POST', '/api/sandboxes', { body, headers: { 'content-type': 'application/json', ...headers } })

const countAll = async (operator: TestOperator): Promise<number> => {
  const { body } = await operator.call('GET', '/api/sandboxes?limit=500&state=creating,running,stopped,deleting')
  return body.sandboxes.length
}

const refused: readonly (readonly [what: string, body: unknown, status: number, code: string])[] = [
  ['an unknown backend', { metadata_json: { runtime_backend: 'lxc' } }, 400, 'runtime.unknown'],
  ['firecracker with tee', { metadata_json: { runtime_backend: 'firecracker' }, tee_required: true }, 400, 'request.invalid'],
  ['a backend that this operator does not run', { metadata_json: { runtime_backend: 'firecracker' } }, 503, 'runtime.unavailable'],
  ['nine ports', { metadata_json: { ports: [1, 2, 3, 4, 5, 6, 7, 8, 9] } }, 400, 'request.invalid'],
  ['port 0', { metadata_json: { ports: [0] } }, 400, 'request.invalid'],
  ['port 02280 as text', { metadata_json: '{"ports":["02280"]}' }, 400, 'request.invalid'],
  ['a port above 65535', { metadata_json: { ports: [65_536] } }, 400, 'request.invalid'],
  ['a negative size', { memory_mb: -1 }, 400, 'request.invalid'],
  ['an absurd size', { memory_mb: 1e15 }, 400, 'request.invalid'],
  ['more memory than the machine has', { memory_mb: 16_000_000 }, 400, 'sandbox.too_large'],
  ['more cores than the machine has', { cpu_cores: 1000 }, 400, 'sandbox.too_large'],
  ['a fraction of a megabyte', { memory_mb: 0.5 }, 400, 'request.invalid'],
  ['too little memory to run', { memory_mb: 1 }, 400, 'request.invalid'],
  ['an environment that is not an object', { env_json: '[1,2]' }, 400, 'request.invalid'],
  ['an environment that is a number', { env_json: 5 }, 400, 'request.invalid'],
  ['environment text that is not JSON', { env_json: '{"A":' }, 400, 'request.invalid'],
  ['an environment name with =', { env_json: { 'A=B': 'x' } }, 400, 'request.invalid'],
  ['an empty environment name', { env_json: { '': 'x' } }, 400, 'request.invalid'],
  ['a NUL in an environment value', { env_json: { A: 'a\0b' } }, 400, 'request.invalid'],
  ['an environment value that is an object', { env_json: { A: { b: 1 } } }, 400, 'request.invalid'],
  ['a NUL in the name', { name: 'a\0b' }, 400, 'request.invalid'],
  ['an image that does not exist', { image: 'no-such-image-anywhere:1' }, 400, 'image.not_found'],
  ['an image that is a path', { image: '../../etc' }, 400, 'image.not_found'],
]

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    let sandbox: string
    before(async () => {
      // No registry is asked: it would take its time to say no.
      operator = await startOperator({ runtime, env: { SIDECAR_PULL_IMAGE: 'false' } })
      sandbox = await operator.newSandbox()
    })
    after(() => operator[Symbol.asyncDispose]())

    for (const [what, body, status, code] of refused) {
      test(`${what} is refused and nothing is made`, async () => {
        const before = await countAll(operator)
        const answer = await create(operator, body)
        assert.deepEqual([answer.status, answer.body?.code], [status, code], answer.text)
        assert.equal(typeof answer.body.error, 'string')
        assert.ok(answer.body.error.length > 5)
        assert.equal(await countAll(operator), before)
      })
    }

    test('a body of 2 MiB is refused with 413', async () => {
      const { status, body } = await create(operator, JSON.stringify({ name: 'x'.repeat(2 * 1024 * 1024) }))
      assert.deepEqual([status, body.code], [413, 'request.too_large'])
    })

    test('a body that is not JSON, or of another type, is refused', async () => {
      assert.equal((await create(operator, '{"name":')).body.code, 'request.invalid_json')
      assert.equal((await create(operator, Buffer.from([0x7b, 0xff, 0x7d]))).body.code, 'request.invalid_json')
      const { status, body } = await create(operator, 'name=x', { 'content-type': 'application/x-www-form-urlencoded' })
      assert.deepEqual([status, body.code], [415, 'request.content_type'])
      assert.equal((await create(operator, '[1]')).body.code, 'request.invalid')
      assert.equal((await create(operator, 'null')).body.code, 'request.invalid')
    })

    const file = (method: string, target: string, options = {}) =>
      operator.call(method, `/api/sandboxes/${sandbox}/files${target}`, options)

    test('a path with NUL, or out of the places for files, is refused', async () => {
      for (const path of [
        'a%00b',
        '../../../etc/passwd',
        '/etc/passwd',
        '/home/agent/../../etc/shadow',
        '/proc/1/environ',
        '/run/atoll/sidecar.sock',
      ]) {
        const { status, body } = await file('GET', `/content?path=${path}`)
        assert.ok(status >= 400 && status < 500, `${path}: ${status}`)
        assert.match(body.code, /^(request\.invalid|file\.)/, path)
        const written = await file('PUT', `/content?path=${path}`, { body: 'x' })
        assert.ok(written.status >= 400 && written.status < 500, `${path}: ${written.status}`)
      }
    })

    test('a link that leads out of the workspace is not followed', async () => {
      await operator.call('POST', `/api/sandboxes/${sandbox}/exec`, { body: { command: 'ln -sfn /etc out && ln -sfn /etc/passwd pass' } })
      for (const path of ['out/passwd', 'pass', 'out']) {
        for (const method of ['GET', 'PUT']) {
          const { status, body } = await file(method, `/content?path=${path}`, method === 'PUT' ? { body: 'x' } : {})
          assert.ok(status >= 400 && status < 500, `${method} ${path}: ${status}`)
          assert.match(body.code, /^file\./)
        }
      }
    })

    test('a file that is not there answers 404', async () => {
      for (const target of ['/content?path=nothing', '/stat?path=nothing', '?path=nothing']) {
        assert.deepEqual((await file('GET', target)).body.code, 'file.not_found')
      }
    })

    const exec = async (body: object) => (await operator.call('POST', `/api/sandboxes/${sandbox}/exec`, { body })).body

    test('a command that does not exist is a result of 127, not an error', async () => {
      for (const body of [{ command: 'no-such-command-here' }, { argv: ['no-such-command-here'] }, { argv: ['/no/such/file'] }]) {
        const result = await exec(body)
        assert.equal(result.exit_code, 127, JSON.stringify(result))
        assert.deepEqual(result.exit, { type: 'exited', code: 127 })
        assert.notEqual(result.stderr, '')
      }
    })

    test('a command that is missing, blank, too long or given twice is refused', async () => {
      for (const body of [
        {},
        { command: '   ' },
        { command: 'x'.repeat(102_401) },
        { command: 'a', argv: ['a'] },
        { argv: [] },
        { argv: [''] },
      ]) {
        assert.equal((await exec(body)).code, 'request.invalid')
      }
    })

    test('unknown processes and terminals answer 404', async () => {
      const at = `/api/sandboxes/${sandbox}`
      assert.equal((await operator.call('GET', `${at}/processes/nothing`)).body.code, 'process.not_found')
      assert.equal((await operator.call('GET', `${at}/processes/nothing/events`)).body.code, 'process.not_found')
      assert.equal((await operator.call('DELETE', `${at}/live/terminal/sessions/nothing`)).body.code, 'terminal.not_found')
      assert.equal(
        (await operator.call('PATCH', `${at}/live/terminal/sessions/x`, { body: { cols: 0, rows: 5 } })).body.code,
        'request.invalid',
      )
    })

    test('a gigabyte of output goes through with bounded memory on both sides', async () => {
      const bytes = 1024 * 1024 * 1024
      const started = await operator.call('POST', `/api/sandboxes/${sandbox}/processes`, {
        body: { command: `head -c ${bytes} /dev/zero | tr '\\0' a` },
      })
      assert.equal(started.status, 201, started.text)
      const stream = await operator.fetch('GET', `/api/sandboxes/${sandbox}/processes/${started.body.id}/events`)
      let seen = 0
      let last = 0
      for await (const { data } of readEvents(stream)) {
        if (data.type === 'gap') assert.fail(`a reader that kept up lost ${data.from}…${data.to}`)
        assert.equal(data.seq, last + 1)
        last = data.seq
        if (data.type === 'stdout') seen += data.text.length
        else if (data.type === 'exit') assert.deepEqual(data.exit, { type: 'exited', code: 0 })
      }
      assert.equal(seen, bytes)
      const { text } = await operator.call('GET', '/metrics')
      const rss = Number(/^atoll_process_resident_memory_bytes (\S+)/m.exec(text)?.[1])
      assert.ok(rss < 600 * 1024 * 1024, `the operator holds ${rss} bytes`)
    })

    test('a client that goes away mid-stream leaves nothing held, and the process goes on', async () => {
      const started = await operator.call('POST', `/api/sandboxes/${sandbox}/processes`, {
        body: { command: 'for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.1; done' },
      })
      const abort = new AbortController()
      const stream = await operator.fetch('GET', `/api/sandboxes/${sandbox}/processes/${started.body.id}/events`, { signal: abort.signal })
      const first = await readEvents(stream).next()
      assert.equal(first.value?.data.text, '1\n')
      abort.abort()
      const all = await operator.fetch('GET', `/api/sandboxes/${sandbox}/processes/${started.body.id}/events?cursor=1`)
      let text = ''
      for await (const { data } of readEvents(all)) {
        if (data.type === 'stdout') text += data.text
      }
      assert.equal(text, '2\n3\n4\n5\n6\n7\n8\n9\n10\n')
    })

    test('a full disk is a clear failure, the old file stays, and room made is room again', async () => {
      await file('PUT', '/content?path=keep.txt', { body: 'old' })
      const fill = await exec({ command: 'head -c 3G /dev/zero > filler; rc=$?; ls filler >/dev/null && exit $rc', timeout_ms: 120_000 })
      assert.notEqual(fill.exit_code, 0, 'three gigabytes fit on a disk of one')
      const { status, body } = await file('PUT', '/content?path=keep.txt', { body: 'x'.repeat(20 * 1024 * 1024) })
      assert.deepEqual([status, body.code], [507, 'file.disk_full'])
      assert.equal((await file('GET', '/content?path=keep.txt')).text, 'old')
      await exec({ command: 'rm filler' })
      assert.equal((await file('PUT', '/content?path=keep.txt', { body: 'new' })).status, 200)
      assert.deepEqual((await exec({ command: 'ls -A | grep -v "^out$" | grep -v "^pass$"' })).stdout, 'keep.txt\n')
    })
  })
}
