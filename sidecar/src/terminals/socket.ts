// A terminal over a WebSocket: binary frames are bytes both ways. A text frame from the viewer resizes, one to it is an event.
import { type WebSocket, WebSocketServer } from 'ws'
import { changeOr, type Pace } from '../event-stream.ts'
import type { Upgrade } from '../server.ts'
import type { Size } from './pty.ts'
import type { Entry } from './scrollback.ts'
import type { Terminal } from './terminal.ts'

const maxFrameBytes = 1024 * 1024
/** RFC 6455: what a server does to a client that breaks the rules, and when it is done. */
const policyViolation = 1008
const normalClosure = 1000

const isSide = (value: unknown): value is number => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 1000

function parseSize(text: string): Size | undefined {
  try {
    const { cols, rows } = JSON.parse(text)
    return isSide(cols) && isSide(rows) ? { cols, rows } : undefined
  } catch {
    return undefined
  }
}

async function receive(socket: WebSocket, terminal: Terminal, { data, isBinary }: { data: Buffer; isBinary: boolean }): Promise<void> {
  if (!terminal.isRunning) return
  if (isBinary) {
    // The viewer waits while the program does not read.
    socket.pause()
    await terminal.input(data).finally(() => socket.resume())
    return
  }
  const size = parseSize(data.toString('utf8'))
  if (size) terminal.resize(size)
  else socket.close(policyViolation, 'A text frame is {"cols","rows"}.')
}

/** Sends, and resolves when it is on its way: true; false when the viewer has left or takes nothing. */
function send(socket: WebSocket, entry: Entry, stallMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      socket.terminate()
      resolve(false)
    }, stallMs)
    const payload = entry.type === 'data' ? entry.bytes : JSON.stringify(entry.event)
    socket.send(payload, { binary: entry.type === 'data' }, (error) => {
      clearTimeout(timer)
      resolve(!error)
    })
  })
}

const coalesce = (entries: readonly Entry[]): readonly Entry[] => {
  if (!entries.every((entry) => entry.type === 'data')) return entries
  return entries.length > 1 ? [{ type: 'data', bytes: Buffer.concat(entries.map(({ bytes }) => bytes)) }] : entries
}

async function show(socket: WebSocket, terminal: Terminal, { after, pace }: { after: number; pace: Pace }): Promise<void> {
  const { scrollback } = terminal
  const reader = scrollback.attach(after)
  try {
    while (socket.readyState === socket.OPEN) {
      const change = scrollback.changed()
      const entries = scrollback.takeEntries(reader)
      for (const entry of coalesce(entries)) if (!(await send(socket, entry, pace.stallMs))) return
      if (entries.length > 0) continue
      if (scrollback.isEnded) return socket.close(normalClosure, 'The terminal session has ended.')
      if ((await changeOr(socket, change, pace.heartbeatMs)) === 'idle') socket.ping()
    }
  } finally {
    scrollback.detach(reader)
    terminal.touch()
  }
}

export function serveSocket({ request, socket, head }: Upgrade, terminal: Terminal, options: { after: number; pace: Pace }): void {
  const server = new WebSocketServer({ noServer: true, maxPayload: maxFrameBytes, perMessageDeflate: false })
  server.handleUpgrade(request, socket, head, (viewer) => {
    viewer.on('error', () => viewer.terminate())
    viewer.on('message', (data: Buffer, isBinary) => {
      receive(viewer, terminal, { data, isBinary }).catch(() => viewer.close(policyViolation, 'The terminal does not take this.'))
    })
    show(viewer, terminal, options).catch(() => viewer.terminate())
  })
}
