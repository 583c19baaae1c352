// What the runtime contract's cases share: a started sandbox with hands inside it.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { ExecResult, Process, ProcessEvent } from '@atoll/protocol'
import type { RunRequest } from '@atoll/protocol/sidecar'
import type { Guest, OpenGuest } from '../guest.ts'
import type { LimitName, Plan, Probe, Running, Runtime, StartContext } from '../runtime.ts'

export interface Opened {
  readonly runtime: Runtime
  readonly openGuest: OpenGuest
  readonly images: {
    /** The one to start from; empty for the runtime's own default. */
    readonly default: string
    /** One that is nowhere. */
    readonly missing: string
    /** One that cannot run on this machine. */
    readonly notLinuxOrMusl?: string
    /** One without /bin/sh. */
    readonly noShell?: string
  }
  /** Another runtime object over the same state, as after a restart of the operator. The contract closes it. */
  readonly reopen: () => Promise<Runtime>
  /** What is left of a sandbox on the host: directories, mounts, control groups, processes, an engine's objects. */
  readonly leftovers: (id: string) => Promise<readonly string[]>
  readonly close: () => Promise<void>
}

/** Stands for a secret in the operator's environment; no sandbox may ever see it. */
export const canaryName = 'ATOLL_CONTRACT_CANARY'

const readyDeadlineMs = 30_000

export const newId = (): string => `contract-${randomBytes(5).toString('hex')}`

export const planOf = (plan: Partial<Plan> = {}): Plan => ({
  id: newId(),
  image: '',
  cpuCores: 1,
  memoryMb: 512,
  diskGb: 1,
  pids: 128,
  ...plan,
})

export const contextOf = (signal: AbortSignal = new AbortController().signal): StartContext => ({ signal, progress: () => undefined })

export interface Event {
  readonly id: number | undefined
  readonly data: ProcessEvent
}

/** A started sandbox and its guest channel. */
export class Box {
  readonly plan: Plan
  readonly running: Running
  readonly guest: Guest

  constructor(plan: Plan, running: Running, guest: Guest) {
    this.plan = plan
    this.running = running
    this.guest = guest
  }

  exec(request: RunRequest): Promise<ExecResult> {
    return this.guest.call<ExecResult>({ method: 'POST', path: '/exec', body: request, signal: AbortSignal.timeout(60_000) })
  }

  /** Standard output of a shell command that must succeed. */
  async sh(command: string): Promise<string> {
    const result = await this.exec({ command })
    assert.equal(result.exit_code, 0, `"${command}" ended with ${result.exit_code}: ${result.stderr}`)
    return result.stdout.trim()
  }

  /** Asserts that a shell command fails, and nothing else. */
  async refuses(command: string): Promise<void> {
    const result = await this.exec({ command })
    assert.notEqual(result.exit_code, 0, `"${command}" succeeded: ${result.stdout}`)
  }

  start(request: RunRequest): Promise<Process> {
    return this.guest.call<Process>({ method: 'POST', path: '/processes', body: request })
  }

  signal(pid: string, signal: string): Promise<object> {
    return this.guest.call({ method: 'POST', path: `/processes/${pid}/signal`, body: { signal } })
  }

  /** Events after a cursor, until the process has ended or `enough` says so. */
  async events(pid: string, cursor = 0, enough: (events: readonly Event[]) => boolean = () => false): Promise<Event[]> {
    const signal = AbortSignal.timeout(60_000)
    const answer = await this.guest.send({ method: 'GET', path: `/processes/${pid}/events?cursor=${cursor}`, signal })
    assert.equal(answer.status, 200)
    const events: Event[] = []
    let rest = ''
    answer.body.setEncoding('utf8')
    for await (const chunk of answer.body) {
      const frames = (rest + chunk).split('\n\n')
      rest = frames.pop() ?? ''
      events.push(...frames.flatMap(parseFrame))
      if (enough(events)) break
    }
    return events
  }
}

function parseFrame(frame: string): Event[] {
  const lines = frame.split('\n')
  const data = lines.find((line) => line.startsWith('data: '))?.slice(6)
  if (data === undefined) return []
  const id = lines.find((line) => line.startsWith('id: '))?.slice(4)
  return [{ id: id === undefined ? undefined : Number(id), data: JSON.parse(data) }]
}

/** The bytes of standard output in a list of events. */
export const outputOf = (events: readonly Event[]): Buffer =>
  Buffer.concat(
    events.map(({ data }) => {
      if (data.type !== 'stdout') return Buffer.alloc(0)
      return data.base64 === undefined ? Buffer.from(data.text ?? '') : Buffer.from(data.base64, 'base64')
    }),
  )

/** One open runtime under test, and the sandboxes that its cases made. */
export class Subject {
  readonly name: string
  readonly opened: Opened
  readonly probe: Probe
  readonly #boxes = new Map<string, Box>()
  #shared: Promise<Box> | undefined

  constructor(name: string, opened: Opened, probe: Probe) {
    this.name = name
    this.opened = opened
    this.probe = probe
  }

  get runtime(): Runtime {
    return this.opened.runtime
  }

  /** A sandbox for cases that leave it as they found it. */
  shared(): Promise<Box> {
    this.#shared ??= this.start()
    return this.#shared
  }

  async start(plan: Partial<Plan> = {}): Promise<Box> {
    const whole = planOf({ image: this.opened.images.default, ...plan })
    return this.attach(whole, await this.runtime.start(whole, contextOf()))
  }

  async resume(plan: Plan, runtime: Runtime = this.runtime): Promise<Box> {
    return this.attach(plan, await runtime.resume(plan, contextOf()))
  }

  async attach(plan: Plan, running: Running): Promise<Box> {
    this.#boxes.get(plan.id)?.guest.close()
    const box = new Box(plan, running, this.opened.openGuest(running.socketPath))
    this.#boxes.set(plan.id, box)
    await box.guest.ready(readyDeadlineMs, AbortSignal.timeout(readyDeadlineMs))
    return box
  }

  async stop(box: Box): Promise<void> {
    box.guest.close()
    await this.runtime.stop(box.plan.id)
  }

  async remove(box: Box): Promise<void> {
    box.guest.close()
    this.#boxes.delete(box.plan.id)
    await this.runtime.remove(box.plan.id)
  }

  async stateOf(id: string, runtime: Runtime = this.runtime): Promise<'running' | 'paused' | 'stopped' | 'gone'> {
    return (await runtime.list()).find((observed) => observed.id === id)?.state ?? 'gone'
  }

  /** Why a limit cannot be tested here, or undefined when it holds. */
  skipFor(limit: LimitName): string | undefined {
    const claim = this.probe.limits[limit]
    return claim === true ? undefined : `${this.name} does not hold ${limit} here: ${claim}`
  }

  async close(): Promise<void> {
    for (const box of this.#boxes.values()) {
      box.guest.close()
      await this.runtime.remove(box.plan.id)
    }
    await this.runtime.close()
    await this.opened.close()
  }
}

/** Waits for a condition with a deadline. */
export async function until(what: string, condition: () => Promise<boolean>, deadlineMs = 15_000): Promise<void> {
  const deadline = Date.now() + deadlineMs
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `${what}: not within ${deadlineMs / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
