// The beginning of what a sandbox says in a tunnel, before anything of it is passed on.
import { type Duplex, Transform } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { EgressDenial } from '@atoll/protocol'
import { GreetingReader, type Hello, type Reading } from './client-hello.ts'

/** For the first bytes to come, and for a greeting to be whole. */
const greetingMs = 20_000

export type Greeting =
  | { readonly kind: 'tls'; readonly bytes: Buffer; readonly hello: Hello; readonly reader: GreetingReader }
  | { readonly kind: 'plain'; readonly bytes: Buffer }
  | { readonly kind: 'denied'; readonly denial: EgressDenial }
  | { readonly kind: 'gone' }

const deniedIn = (reading: Reading): EgressDenial | undefined => (typeof reading === 'object' ? reading.denial : undefined)

/** @param serverName the only one that TLS may ask for; undefined: it must name none */
export async function readGreeting(socket: Duplex, serverName: string | undefined): Promise<Greeting> {
  const reader = new GreetingReader(serverName)
  const chunks: Buffer[] = []
  const late = AbortSignal.timeout(greetingMs)
  for (;;) {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) {
      if (!(await isReadable(socket, late))) return late.aborted ? { kind: 'denied', denial: 'not_tls' } : { kind: 'gone' }
      continue
    }
    chunks.push(chunk)
    const greeting = greetingIn(chunks, chunk, reader)
    if (greeting) return greeting
  }
}

/** Undefined: it is not whole yet. */
function greetingIn(chunks: readonly Buffer[], last: Buffer, reader: GreetingReader): Greeting | undefined {
  const [first = last] = chunks
  if (!GreetingReader.isTls(first)) return { kind: 'plain', bytes: Buffer.concat(chunks) }
  const denial = deniedIn(reader.push(last))
  if (denial) return { kind: 'denied', denial }
  return reader.hello && { kind: 'tls', bytes: Buffer.concat(chunks), hello: reader.hello, reader }
}

/** Resolves when there is something to read, or nothing will come any more. */
async function isReadable(socket: Duplex, late: AbortSignal): Promise<boolean> {
  if (socket.readableEnded || socket.destroyed || late.aborted) return false
  const done = new AbortController()
  const wait = delay(greetingMs, undefined, { signal: AbortSignal.any([late, done.signal]), ref: false }).catch(() => undefined)
  let settle: (can: boolean) => void = () => undefined
  const told = new Promise<boolean>((resolve) => {
    settle = resolve
  })
  const [readable, over] = [() => settle(true), () => settle(false)]
  socket.once('readable', readable).once('end', over).once('close', over)
  const can = await Promise.race([told, wait.then(() => false)])
  done.abort()
  socket.off('readable', readable).off('end', over).off('close', over)
  return can
}

/** Passes on what follows a first greeting; a second one is held until it is seen whole. */
export function guard(reader: GreetingReader, denied: (denial: EgressDenial) => void): Transform {
  let held: Buffer[] = []
  let isOver = false
  return new Transform({
    transform(chunk: Buffer, _, done) {
      if (isOver) return done(null, chunk)
      const reading = reader.push(chunk)
      const denial = deniedIn(reading)
      if (denial) return denied(denial)
      held.push(chunk)
      if (reading === 'hold') return done()
      isOver = reading === 'over'
      const passed = Buffer.concat(held)
      held = []
      done(null, passed)
    },
  })
}

/** Told to a client before its connection is cut: a fatal alert, unrecognized_name. */
export const tlsAlert = Buffer.from([21, 3, 3, 0, 2, 2, 112])
