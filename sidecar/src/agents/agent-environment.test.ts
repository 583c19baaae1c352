import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readConfig } from '../config.ts'
import { Environment } from '../environment.ts'
import { agentEnvironment } from './agent-environment.ts'

const config = readConfig({})
const names = ['MODEL_KEY', 'MODEL_BASE_URL']
const lent = { MODEL_KEY: 'key-of-the-operator', MODEL_BASE_URL: 'http://gateway', OTHER_KEY: 'of another harness' }

function given(secrets: Record<string, string>, requested: Record<string, string> = {}) {
  const environment = new Environment(config.user, {})
  environment.replace({ env: { SHARED: 'yes' }, secrets, agents: lent })
  return { environment, ...agentEnvironment({ config, environment }, { cwd: '/', names, requested }) }
}

test('a harness gets the credentials that it declares, and other processes get none', () => {
  const { environment, variables, secrets } = given({})
  assert.deepEqual(
    [variables.MODEL_KEY, variables.MODEL_BASE_URL, variables.OTHER_KEY, variables.SHARED],
    ['key-of-the-operator', 'http://gateway', undefined, 'yes'],
  )
  assert.deepEqual(secrets, ['key-of-the-operator'])
  assert.equal(environment.of('/').MODEL_KEY, undefined)
})

test("a user's key does not go to the operator's address, nor the operator's key to the user's", () => {
  const own = given({ MODEL_KEY: 'key-of-the-user' })
  assert.deepEqual([own.variables.MODEL_KEY, own.variables.MODEL_BASE_URL], ['key-of-the-user', undefined])
  const elsewhere = given({}, { MODEL_BASE_URL: 'http://elsewhere' })
  assert.deepEqual([elsewhere.variables.MODEL_KEY, elsewhere.variables.MODEL_BASE_URL], [undefined, 'http://elsewhere'])
})

test('what must not be told is every secret, and every variable that is called one', () => {
  const { secrets } = given(
    { PLAIN: 'a secret' },
    { GITHUB_TOKEN: 'a token', apiKey: 'a key', DB_PASSWORD: 'a password', TOKENIZER: 'fast', AUTHOR: 'ann' },
  )
  assert.deepEqual([...secrets].sort(), ['a key', 'a password', 'a secret', 'a token', 'key-of-the-operator'])
})
