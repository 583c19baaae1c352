// Keeps single events to a size that every reader can take.
import type { LoggedEvent } from './run-log.ts'

type EventOf<One> = One extends { seq: number } ? Omit<One, 'seq' | 'at'> : never
/** An event without what every event has. */
export type RunEvent = EventOf<LoggedEvent>

const maxTextLength = 1024 * 1024
const maxDetailLength = 256 * 1024

const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length)}\n[${text.length - length} more characters]`

function cutInput(input: unknown): unknown {
  const text = JSON.stringify(input) ?? ''
  return text.length <= maxDetailLength ? input : { truncated: true, beginning: text.slice(0, maxDetailLength) }
}

/** The event with what is too long in it cut, and saying so. */
export function bounded(event: RunEvent): RunEvent {
  const limits = { text: maxTextLength, output: maxDetailLength, diff: maxDetailLength, output_delta: maxDetailLength, message: 16 * 1024 }
  const cuts = Object.entries(limits).flatMap(([name, limit]) => {
    const value: unknown = Reflect.get(event, name)
    return typeof value === 'string' && value.length > limit ? [[name, cut(value, limit)]] : []
  })
  const hasInput = 'input' in event && typeof event.input === 'object'
  if (cuts.length === 0 && !hasInput) return event
  return { ...event, ...Object.fromEntries(cuts), ...(hasInput && { input: cutInput(event.input) }) }
}
