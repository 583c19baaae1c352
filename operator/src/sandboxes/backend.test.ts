import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CreateSandbox } from '@atoll/protocol'
import { requestedRuntime, runtimeNamed } from './backend.ts'

const asked = (body: object) => requestedRuntime(CreateSandbox.parse(body))

test('a runtime is asked for by any of its names, in any case', () => {
  assert.equal(runtimeNamed('Container'), 'docker')
  assert.equal(runtimeNamed(' microVM '), 'firecracker')
  assert.equal(runtimeNamed('confidential-vm'), 'tee')
  assert.throws(() => runtimeNamed('lxc'), { code: 'runtime.unknown', status: 400 })
  assert.throws(() => runtimeNamed('__proto__'), { code: 'runtime.unknown' })
})

test('metadata names the runtime flat or nested, as an object or as text', () => {
  assert.equal(asked({ metadata_json: { runtime_backend: 'docker' } }), 'docker')
  assert.equal(asked({ metadata_json: '{"runtime":{"backend":"namespace"}}' }), 'namespace')
  assert.equal(asked({}), undefined)
})

test('tee_required means the tee runtime and contradicts any other', () => {
  assert.equal(asked({ tee_required: true }), 'tee')
  assert.equal(asked({ tee_required: true, metadata_json: { runtime_backend: 'confidential' } }), 'tee')
  assert.throws(() => asked({ tee_required: true, metadata_json: { runtime_backend: 'firecracker' } }), {
    code: 'request.invalid',
    status: 400,
  })
})
