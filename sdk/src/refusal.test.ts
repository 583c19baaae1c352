import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refusalOf } from './refusal.ts'

const answer = (status: number, body: string, headers: Record<string, string> = {}): Response => new Response(body, { status, headers })

test('a refusal keeps its code, its words and its time', async () => {
  const failure = await refusalOf(answer(429, JSON.stringify({ error: 'Too fast', code: 'request.rate_limited', retry_after_ms: 1500 })))
  assert.deepEqual([failure.code, failure.message, failure.status, failure.retryAfterMs], ['request.rate_limited', 'Too fast', 429, 1500])
})

test('a code of a newer operator becomes internal and stays readable', async () => {
  const failure = await refusalOf(answer(418, JSON.stringify({ error: 'No tea', code: 'tea.empty' })))
  assert.deepEqual([failure.code, failure.message, failure.status], ['internal', 'No tea (tea.empty)', 418])
})

test('an answer that is no JSON keeps its status, and the header tells when to come back', async () => {
  const failure = await refusalOf(answer(502, '<html>', { 'retry-after': '2' }))
  assert.deepEqual([failure.code, failure.status, failure.retryAfterMs], ['internal', 502, 2000])
})
