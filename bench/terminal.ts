import { Failure, type Sandbox } from '@atoll/sdk'
import { type IPty, spawn } from '@lydell/node-pty'
import { percentile, report, row } from './report.ts'
import { type Bench, type Invocation, size } from './subject.ts'

/** A terminal whose program gives each typed character back at once. */
interface Echo {
  /** Types one character. Resolves with the milliseconds until it is shown. */
  type(character: string): Promise<number>
  close(): Promise<void>
}

const answerDeadlineMs = 10_000
/** Without the terminal's own line editing, which is the same on both sides but says things of its own. */
const program = "stty raw -echo; printf 'rea''dy\\n'; exec cat"
const letters = 'abcdefghijklmnopqrstuvwxyz'

/** Waits for a text among what a terminal shows. What was there before it is forgotten. */
class Screen {
  #shown = ''
  #changed = (): void => undefined

  show(text: string): void {
    this.#shown += text
    this.#changed()
  }

  async until(text: string): Promise<void> {
    const deadline = setTimeout(() => this.#changed(), answerDeadlineMs)
    const startedAt = performance.now()
    while (!this.#shown.includes(text)) {
      if (performance.now() - startedAt > answerDeadlineMs)
        throw new Failure('internal', `The terminal did not show ${JSON.stringify(text)}.`)
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
    clearTimeout(deadline)
    this.#shown = ''
  }
}

async function typeAndWait(screen: Screen, character: string, write: (text: string) => unknown): Promise<number> {
  const startedAt = performance.now()
  // Not awaited: the answer may be shown before the call that typed it is over.
  const written = Promise.resolve(write(character))
  await Promise.all([screen.until(character), written.then(() => undefined)])
  return performance.now() - startedAt
}

async function ourEcho(sandbox: Sandbox): Promise<Echo> {
  const terminal = await sandbox.terminals.open()
  const screen = new Screen()
  const left = new AbortController()
  const viewing = (async () => {
    for await (const output of terminal.output({ signal: left.signal })) if (output.type === 'output') screen.show(output.text)
  })().catch((error: unknown) => {
    if (!left.signal.aborted) throw error
  })
  await terminal.write(`${program}\n`)
  // The shell shows the line as it was typed, with its quotes; the program without.
  await screen.until('ready\n')
  return {
    type: (character) => typeAndWait(screen, character, (text) => terminal.write(text)),
    close: async () => {
      left.abort()
      await viewing
      await terminal.close()
    },
  }
}

async function localEcho([file, ...args]: Invocation): Promise<Echo> {
  const screen = new Screen()
  const pty: IPty = spawn(file, args, { cols: 80, rows: 24, name: 'xterm' })
  pty.onData((text) => screen.show(text))
  const ended = new Promise<void>((resolve) => {
    pty.onExit(() => resolve())
  })
  await screen.until('ready\n')
  return {
    type: (character) => typeAndWait(screen, character, (text) => pty.write(text)),
    close: async () => {
      pty.kill('SIGKILL')
      await ended
    },
  }
}

/** One typed character until it is shown, over a terminal on this machine. */
export const benchTerminal: Bench = async ({ atoll, runtime, bare, count, progress }) => {
  await using sandbox = await atoll.sandboxes.create({ ...size, runtime })
  const ours: number[] = []
  const theirs: number[] = []
  const remote = await ourEcho(sandbox)
  const local = await localEcho(bare.invocation(sandbox, ['sh', '-c', program], true))
  try {
    for (let done = 1; done <= count; done++) {
      const letter = letters[done % letters.length] ?? 'x'
      ours.push(await remote.type(letter))
      theirs.push(await local.type(letter))
      progress(done, count)
    }
  } finally {
    await Promise.all([remote.close(), local.close()])
  }
  return report({
    bench: 'terminal',
    runtime,
    count,
    rows: [row('Atoll: a typed character until it is shown', ours), row(`${bare.invocationName} on a local terminal`, theirs)],
    ratio: { of: `Atoll over ${bare.invocationName} (p50)`, value: percentile(ours, 0.5) / percentile(theirs, 0.5) },
  })
}
