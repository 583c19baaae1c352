import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { auditActions } from '@atoll/protocol'
import { servedRoutes } from './openapi.ts'

/** What belongs to something that has an entry already, and comes with every key that is pressed; and a challenge, which gives nothing. */
const unnamed = new Set([
  'POST /api/auth/challenge',
  'POST /api/sandboxes/{id}/processes/{pid}/stdin',
  'PATCH /api/sandboxes/{id}/live/terminal/sessions/{sid}',
  'POST /api/sandboxes/{id}/live/terminal/sessions/{sid}/input',
])

const nativeRoutes = servedRoutes().filter(({ path, route }) => path === route.path)

test('every route that changes something has a name in the audit log', () => {
  const missing = nativeRoutes
    .filter(({ route }) => route.method !== 'GET' && route.audit === undefined)
    .map(({ path, route }) => `${route.method} ${path}`)
  assert.deepEqual(missing.sort(), [...unnamed].sort(), 'name what the audit log calls it, in the field audit of the route')
})

test('what is read of secrets and files has a name in the audit log too', () => {
  const named = nativeRoutes.filter(({ route }) => route.method === 'GET' && route.audit !== undefined).map(({ route }) => route.audit)
  for (const action of ['secret.read', 'provider_key.read', 'file.read', 'terminal.attach', 'agent.transcript'] as const) {
    assert.ok(named.includes(action), action)
    assert.ok(action in auditActions)
  }
})

test('the page about the audit log tells of every action', () => {
  const page = readFileSync(new URL('../../../docs/audit.md', import.meta.url), 'utf8')
  for (const [action, [when, meaning]] of Object.entries(auditActions)) {
    assert.ok(page.includes(`| \`${action}\` | ${meaning} | ${when === 'soon' ? 'soon' : 'before the answer'} |`), action)
  }
})
