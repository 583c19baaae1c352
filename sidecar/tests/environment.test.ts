import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { type SidecarProcess, startSidecarProcess } from './sidecar-process.ts'

const startWith = (text: string): Promise<SidecarProcess> =>
  startSidecarProcess({
    prepare: async (folder) => {
      await mkdir(path.join(folder, 'state'), { mode: 0o700 })
      await writeFile(path.join(folder, 'state/image-env.json'), text)
    },
  })

const environmentOf = async (sidecar: SidecarProcess, more: object = {}): Promise<Map<string, string>> => {
  const { stdout } = await sidecar.exec('env -0', more)
  return new Map(stdout.split('\0').map((line) => [line.split('=')[0] ?? '', line.slice(line.indexOf('=') + 1)]))
}

test('the variables of the image reach processes, below those of the sandbox and of the request', async () => {
  await using sidecar = await startWith(JSON.stringify({ JAVA_HOME: '/opt/java', SANDBOX: 'image', REQUEST: 'image', TWO_LINES: 'a=b\nc' }))
  await sidecar.json('PUT', '/environment', { env: { SANDBOX: 'sandbox', REQUEST: 'sandbox' }, secrets: {} })
  const environment = await environmentOf(sidecar, { env: { REQUEST: 'request' } })
  const names = ['JAVA_HOME', 'SANDBOX', 'REQUEST', 'TWO_LINES']
  assert.deepEqual(
    names.map((name) => environment.get(name)),
    ['/opt/java', 'sandbox', 'request', 'a=b\nc'],
  )
  const { session_id: terminal } = await sidecar.json<{ session_id: string }>('POST', '/terminals', {})
  await sidecar.json('POST', `/terminals/${terminal}/input`, { data: 'echo "<$JAVA_HOME>"; exit\n' })
  assert.match(JSON.stringify(await sidecar.allEvents(`/terminals/${terminal}/stream`)), /<\/opt\/java>/)
})

test('programs are found where the image has them, and its word for language counts', async () => {
  await using sidecar = await startWith(JSON.stringify({ PATH: '/opt/tool/bin:/usr/bin:/bin', LANG: 'de_DE.UTF-8' }))
  const environment = await environmentOf(sidecar)
  const { home } = sidecar
  assert.equal(environment.get('PATH'), `${home}/.local/bin:${home}/bin:/opt/tool/bin:/usr/bin:/bin`)
  assert.equal(environment.get('LANG'), 'de_DE.UTF-8')
})

test('who the user is does not depend on the image', async () => {
  const foreign = { HOME: '/root', USER: 'root', LOGNAME: 'root', SHELL: '/none', PWD: '/none' }
  await using sidecar = await startWith(JSON.stringify(foreign))
  const environment = await environmentOf(sidecar)
  const { home, workspace } = sidecar
  assert.deepEqual(
    ['HOME', 'USER', 'LOGNAME', 'PWD'].map((name) => environment.get(name)),
    [home, 'agent', 'agent', workspace],
  )
  assert.notEqual(environment.get('SHELL'), '/none')
})

test('what cannot be a variable is left out, and a broken file is told', async () => {
  await using odd = await startWith('{"GOOD":"1","NUMBER":2,"NULL":null,"ZERO":"a\\u0000b","A=B":"c","":"d"}')
  const environment = await environmentOf(odd)
  assert.equal(environment.get('GOOD'), '1')
  for (const name of ['NUMBER', 'NULL', 'ZERO', 'A']) assert.equal(environment.has(name), false, name)
  await using broken = await startWith('{')
  assert.equal((await broken.exec('echo works')).stdout, 'works\n')
  assert.match(broken.log, /variables of the image/)
})
