// Reads an event stream that a sidecar sends.
import type { Readable } from 'node:stream'

/** The data of each event, parsed. @throws Error when the stream breaks off in the middle */
export async function* eventsOf<Event>(body: Readable): AsyncGenerator<Event> {
  let rest = ''
  // Decoded as a stream, so that no character is cut where two pieces meet.
  const decoder = new TextDecoder()
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const frames = rest.split('\n\n')
    rest = frames.pop() ?? ''
    for (const frame of frames) {
      const data = frame.split('\n').find((line) => line.startsWith('data: '))
      if (data !== undefined) yield JSON.parse(data.slice('data: '.length))
    }
  }
}
