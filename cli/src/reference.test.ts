import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '@atoll/sdk'
import { pick } from './reference.ts'

const all = [
  { id: 'sandbox-aa11', name: 'web' },
  { id: 'sandbox-aa22', name: 'sandbox-aa11-copy' },
  { id: 'sandbox-bb33', name: 'aa' },
  { id: 'sandbox-cc44', name: 'twin' },
  { id: 'sandbox-cc55', name: 'twin' },
]

const refusal = (reference: string): string | undefined => {
  try {
    pick(reference, all)
    return undefined
  } catch (error) {
    return error instanceof Failure ? error.code : String(error)
  }
}

test('a sandbox is found by its id, its name, or the beginning of its id with or without the prefix', () => {
  assert.equal(pick('sandbox-aa11', all).id, 'sandbox-aa11')
  assert.equal(pick('web', all).id, 'sandbox-aa11')
  assert.equal(pick('bb', all).id, 'sandbox-bb33')
  assert.equal(pick('sandbox-bb', all).id, 'sandbox-bb33')
})

test('a name wins over the beginning of an id', () => {
  assert.equal(pick('aa', all).id, 'sandbox-bb33')
})

test('what may be several is refused, and what is none is not found', () => {
  assert.equal(refusal('cc'), 'sandbox.ambiguous')
  assert.equal(refusal('twin'), 'sandbox.ambiguous')
  assert.equal(refusal('zz'), 'sandbox.not_found')
})
