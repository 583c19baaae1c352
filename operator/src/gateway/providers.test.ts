import assert from 'node:assert/strict'
import { test } from 'node:test'
import { providerFor } from './providers.ts'

test('a provider of the table has its own address and takes no other', () => {
  for (const id of ['anthropic', 'openai', 'google', 'moonshot', 'openrouter']) {
    const { provider, custom } = providerFor(id)
    assert.deepEqual([provider.id, custom], [id, undefined])
    const url = new URL(provider.baseUrl)
    assert.deepEqual([url.protocol, url.username, url.search, provider.baseUrl.endsWith('/')], ['https:', '', '', false])
    for (const rule of provider.paths) assert.match(rule, /^(GET|POST) \/[\w/*.-]+$/)
    assert.throws(() => providerFor(id, { like: 'openai' }), { code: 'provider.invalid' })
  }
  for (const id of ['', 'Anthropic', 'constructor', '__proto__', 'custom:', 'custom:-a', `custom:${'a'.repeat(33)}`]) {
    assert.throws(() => providerFor(id, { baseUrl: 'https://a.example.com' }), { code: 'provider.unknown' }, id)
  }
})

test('a custom provider speaks the API of one of the table at an address of its own', () => {
  const { provider, custom } = providerFor('custom:mine', { baseUrl: 'https://Models.Example.com:8443/v1//', like: 'anthropic' })
  assert.deepEqual(custom, { baseUrl: 'https://models.example.com:8443/v1', like: 'anthropic' })
  assert.equal(provider.id, 'custom:mine')
  assert.deepEqual(provider.paths, providerFor('anthropic').provider.paths)
  assert.deepEqual(providerFor('custom:mine', custom), { provider, custom }, 'what is kept can be read again')
})

test('an address that is not a public https one is refused, in whichever spelling', () => {
  const wrong = [
    ...['', 'models.example.com', 'http://a.example.com', 'ftp://a.example.com', 'https://', 'https://u@a.example.com'],
    ...['https://:p@a.example.com', 'https://a.example.com/?key=1', 'https://a.example.com/#x', 'https://localhost', 'https://metadata'],
    ...['https://127.0.0.1', 'https://2130706433', 'https://0x7f.1', 'https://0177.0.0.1', 'https://[::1]', 'https://[::ffff:10.0.0.1]'],
    ...['https://169.254.169.254', 'https://8.8.8.8', 'https://127.0.0.1.', 'https://localhost.', 'https://a.localhost'],
    ...['https://metadata.google.internal', 'https://printer.local.'],
  ]
  for (const baseUrl of wrong) assert.throws(() => providerFor('custom:a', { baseUrl }), { code: 'provider.invalid' }, baseUrl)
})
