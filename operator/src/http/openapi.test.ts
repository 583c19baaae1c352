import assert from 'node:assert/strict'
import { test } from 'node:test'
import { routes } from '@atoll/protocol'
import { openapi, servedRoutes } from './openapi.ts'

const document = JSON.parse(JSON.stringify(openapi('1.2.3')))

test('every route and every twin for the only sandbox is in the document once', () => {
  const printed = Object.entries<object>(document.paths).flatMap(([path, item]) => Object.keys(item).map((method) => `${method} ${path}`))
  const served = servedRoutes().map(({ path, route }) => `${route.method.toLowerCase()} ${path}`)
  assert.deepEqual(printed.sort(), served.sort())
  assert.equal(new Set(served).size, served.length)
  assert.ok(served.includes('post /api/sandbox/exec'))
})

test('every reference leads somewhere', () => {
  const text = JSON.stringify(document)
  for (const [, name] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    assert.ok(name && document.components.schemas[name], `no schema ${name}`)
  }
})

test('a schema that parses a request is the one that is printed', () => {
  const exec = document.paths['/api/sandboxes/{id}/exec'].post
  assert.deepEqual(exec.requestBody.content['application/json'].schema, { $ref: '#/components/schemas/ExecRequest' })
  const shape = Object.keys(routes.processes.exec.body.shape).sort()
  assert.deepEqual(Object.keys(document.components.schemas.ExecRequest.properties).sort(), shape)
})

test('what each operation needs is said', () => {
  for (const item of Object.values<Record<string, { 'x-access': string; security: unknown[]; responses: object }>>(document.paths)) {
    for (const operation of Object.values(item)) {
      assert.equal(operation.security.length, operation['x-access'] === 'public' ? 0 : 1)
      assert.ok('default' in operation.responses)
    }
  }
})
