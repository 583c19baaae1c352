// The operator as a child of npm start: its start, its log, and its graceful end.
import { spawn } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { impatience, interruption, node24Path, Refusal, root, step } from '../machine.mjs'

const startDeadlineMs = 60_000
const sameReasonMs = 3000
const stopDeadlineMs = 20_000

/** Where the operator keeps its state; the operator's settings say the same. */
export const stateDirOf = (env) =>
  env.ATOLL_STATE_DIR ||
  env.BLUEPRINT_STATE_DIR ||
  (process.getuid?.() === 0 ? '/var/lib/atoll' : path.join(os.homedir(), '.local/state/atoll'))

/**
 * Resolves when it answers that it is ready.
 * @param {{ runtime: string, port: number, isPersonThere: boolean, log: import('node:stream').Writable }} options `log`: where its log is
 *   shown, once that is asked for
 * @throws Refusal with its own words when it does not get there; Interrupted
 */
export async function startOperator({ runtime, port, isPersonThere, log: output }) {
  interruption.throwIfAborted()
  const startedAt = performance.now()
  const env = { ...process.env, ATOLL_HOST: '127.0.0.1', ATOLL_PORT: String(port), SANDBOX_RUNTIME_BACKEND: runtime }
  const args = ['operator/src/main.ts', ...(isPersonThere ? ['--sign-in-link'] : [])]
  // A process group of its own: a Ctrl-C is passed on once, below.
  const child = spawn(node24Path(), args, { cwd: root, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const log = followLog(child, output)
  const exited = new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)))
  const operator = {
    url: `http://127.0.0.1:${port}`,
    stateDir: stateDirOf(env),
    /** The line with the one-time link; undefined when this start has none. */
    signInLine: log.signInLine,
    /** Resolves when this process is asked to end. @throws Refusal when the operator ends by itself */
    untilAsked: async () => {
      log.show()
      const status = await Promise.race([exited, interrupted()])
      if (!interruption.aborted) throw new Refusal(`The operator ended with ${status}:\n${log.complaint()}`)
      process.stderr.write('\nStopping the operator; sandboxes go on running.\n')
    },
    /** @throws Refusal when it does not end as it should */
    stop: async () => {
      const status = await stop(child, exited)
      if (status !== 0 && !impatience.aborted) throw new Refusal(`The operator did not end well (status ${status}):\n${log.complaint()}`)
    },
  }
  try {
    await step('starting the operator', () => waitUntilReady(operator.url, exited, log))
  } catch (error) {
    await stop(child, exited)
    throw error
  }
  return { ...operator, readyMs: Math.round(performance.now() - startedAt) }
}

const interrupted = () =>
  new Promise((resolve) => {
    if (interruption.aborted) resolve()
    else interruption.addEventListener('abort', () => resolve(), { once: true })
  })

/** Keeps the last lines for the case that something fails, and shows all of them once that is asked for. */
function followLog(child, output) {
  const tail = []
  let isShown = false
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      tail.push(line)
      if (tail.length > 200) tail.shift()
      if (isShown) output.write(`${line}\n`)
    })
  }
  return {
    show: () => {
      isShown = true
    },
    signInLine: () => tail.find((line) => line.startsWith('Sign in ')),
    /** What it complained of. */
    complaint: () => {
      const complaints = tail.filter((line) => !line.startsWith('{') || /"level":(50|60)/.test(line))
      return (complaints.length > 0 ? complaints : tail).slice(-5).join('\n')
    },
  }
}

/** What it says about itself while it is not ready comes from real probes: if it stays the same for a while, it stays so for good. */
async function waitUntilReady(url, exited, log) {
  const deadline = Date.now() + startDeadlineMs
  let hasEnded = false
  exited.then(() => {
    hasEnded = true
  })
  let said = { reason: undefined, at: 0 }
  while (Date.now() < deadline) {
    interruption.throwIfAborted()
    if (hasEnded) throw new Refusal(`The operator could not start:\n${log.complaint()}`)
    const { isReady, reason } = await askReady(url)
    if (isReady) return
    if (reason !== said.reason) said = { reason, at: Date.now() }
    if (reason && Date.now() - said.at > sameReasonMs) break
    // Once it listens, asking often would only meet its rate limit.
    await delay(reason ? 500 : 50)
  }
  throw new Refusal(`The operator does not get ready: ${said.reason ?? 'it does not answer'}.\nSee what is missing with: npx atoll doctor`)
}

async function askReady(url) {
  try {
    const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(10_000) })
    const body = await response.json()
    if (response.status === 200) return { isReady: true }
    const reason =
      body.runtime_error ?? (body.store === false ? 'its store cannot be written' : `it answers with status ${response.status}`)
    return { reason: reason.replace(/\.$/, '') }
  } catch {
    return {} // Not listening yet; the deadline tells when that has lasted too long.
  }
}

/** Resolves with its status; 0 when it had ended before. */
async function stop(child, exited) {
  if (child.exitCode !== null || child.signalCode !== null) return 0
  child.kill('SIGTERM')
  // Asked again, it does not wait for what is in flight.
  const hurry = () => child.kill('SIGINT')
  impatience.addEventListener('abort', hurry)
  const late = setTimeout(() => child.kill('SIGKILL'), stopDeadlineMs)
  const status = await exited
  clearTimeout(late)
  impatience.removeEventListener('abort', hurry)
  return status
}
