import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HarnessEvent } from './harness.ts'
import { Patience } from './patience.ts'

const silenceMs = 10

/** Whether it is over so long after the events were told. */
function isOverAfter(quietMs: number, events: readonly HarnessEvent[], isAsking = false): boolean {
  let now = 0
  const patience = new Patience(silenceMs, () => now)
  for (const event of events) patience.take(event)
  now = quietMs
  return patience.isOver(isAsking)
}

const linked: HarnessEvent = { type: 'session.linked', native_session_id: 's' }
const says: HarnessEvent = { type: 'text.delta', message_id: 'm', text: 'a' }
const drafts = (tool_id: string, more: object = {}): HarnessEvent => ({
  type: 'tool.started',
  tool_id,
  name: 'write',
  kind: 'edit',
  isDraft: true,
  ...more,
})
const runs = (tool_id: string): HarnessEvent => ({ type: 'tool.started', tool_id, name: 'shell', kind: 'shell', input: {} })
const argument = (tool_id: string): HarnessEvent => ({ type: 'tool.updated', tool_id, input_delta: '{' })
const input = (tool_id: string): HarnessEvent => ({ type: 'tool.updated', tool_id, input: {} })
const usage: HarnessEvent = { type: 'usage', scope: 'step', input: 1, output: 1, cache_read: 0, cache_write: 0, reasoning: 0 }
const retry: HarnessEvent = { type: 'retry', attempt: 1, message: 'again' }

const cases: readonly (readonly [name: string, events: readonly HarnessEvent[], limitMs: number])[] = [
  ['a program that starts has long', [], 100],
  ['a model that was asked has not', [linked], 10],
  ['a text goes on', [linked, says], 10],
  ['a model at work has long', [linked, says, { type: 'text.done', message_id: 'm', text: 'a' }], 100],
  ['a tool that runs has for ever', [linked, runs('t')], Number.POSITIVE_INFINITY],
  ['arguments that were begun go on', [linked, drafts('t'), argument('t')], 10],
  ['arguments that nobody shows have long', [linked, drafts('t')], 100],
  ['a call with its input runs', [linked, drafts('t'), argument('t'), input('t')], Number.POSITIVE_INFINITY],
  ['a call that tells output runs', [drafts('t'), { type: 'tool.updated', tool_id: 't', output_delta: 'x' }], Number.POSITIVE_INFINITY],
  ['a call that is said to run runs', [drafts('t'), { type: 'tool.updated', tool_id: 't', isDraft: false }], Number.POSITIVE_INFINITY],
  ['arguments go on while another tool runs', [runs('t'), drafts('u'), argument('u')], 10],
  ['the calls of an answer that is complete run', [drafts('t'), usage], Number.POSITIVE_INFINITY],
  ['those of a subagent that is not are drafts', [drafts('t', { parent_tool_id: 'p' }), usage], 100],
  ['a call that was begun before a retry is none', [drafts('t'), argument('t'), retry, runs('u')], Number.POSITIVE_INFINITY],
  [
    'what a subagent had begun is over when it is',
    [runs('p'), drafts('t', { parent_tool_id: 'p' }), { type: 'tool.finished', tool_id: 'p', status: 'ok' }, runs('u')],
    Number.POSITIVE_INFINITY,
  ],
  ['a warning changes nothing', [linked, { type: 'warning', message: 'w' }], 10],
]

for (const [name, events, limitMs] of cases) {
  test(`${name}: ${limitMs} ms`, () => {
    assert.equal(isOverAfter(Math.min(limitMs, 1e6), events), false)
    assert.equal(isOverAfter(Math.min(limitMs, 1e6) + 1, events), limitMs < 1e6)
  })
}

test('who is asked may take for ever, and the patience begins anew after that', () => {
  let now = 0
  const patience = new Patience(silenceMs, () => now)
  patience.take(says)
  now = 1000
  assert.equal(patience.isOver(true), false)
  now = 1010
  assert.equal(patience.isOver(false), false)
  now = 1011
  assert.equal(patience.isOver(false), true)
  assert.equal(patience.errorOf('It').message, 'The model was silent for 10 ms.')
})

test('a call that the caller is asked about runs when it is allowed', () => {
  let now = 0
  const patience = new Patience(silenceMs, () => now)
  patience.take(drafts('t'))
  patience.asked('t')
  now = 1000
  assert.equal(patience.isOver(false), false)
})
