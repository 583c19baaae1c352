// The operator as a child of npm start: its start, its log, and its graceful end.
import { spawn } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { node24Path, Refusal, root, step } from '../machine.mjs'

const startDeadlineMs = 60_000
const stopDeadlineMs = 20_000
/** One Ctrl-C comes from the terminal and again from npm. */
const sameKeyMs = 500

const stateDirOf = (env) =>
  env.ATOLL_STATE_DIR ||
  env.BLUEPRINT_STATE_DIR ||
  (process.getuid?.() === 0 ? '/var/lib/atoll' : path.join(os.homedir(), '.local/state/atoll'))

/** Resolves when it answers that it is ready. @throws Refusal with its own words when it does not get there */
export async function startOperator({ runtime, port }) {
  const startedAt = performance.now()
  const env = { ...process.env, ATOLL_HOST: '127.0.0.1', ATOLL_PORT: String(port), SANDBOX_RUNTIME_BACKEND: runtime }
  // A process group of its own: a Ctrl-C is passed on once, below.
  const child = spawn(node24Path(), ['operator/src/main.ts'], { cwd: root, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const log = followLog(child)
  const exited = new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)))
  const operator = {
    url: `http://127.0.0.1:${port}`,
    stateDir: stateDirOf(env),
    /** Resolves with its status when it ends by itself or by a signal to this process. */
    ended: () => {
      log.show()
      return exited
    },
    stop: () => stop(child, exited),
  }
  passSignals(child)
  try {
    await step('starting the operator', () => waitUntilReady(operator.url, exited, log))
  } catch (error) {
    await operator.stop()
    throw error
  }
  return { ...operator, readyMs: Math.round(performance.now() - startedAt) }
}

/** Keeps the last lines for the case that something fails, and shows all of them once that is asked for. */
function followLog(child) {
  const tail = []
  let isShown = false
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      tail.push(line)
      if (tail.length > 200) tail.shift()
      if (isShown) process.stdout.write(`${line}\n`)
    })
  }
  return {
    show: () => {
      isShown = true
    },
    /** What it complained of. */
    complaint: () => {
      const complaints = tail.filter((line) => !line.startsWith('{') || /"level":(50|60)/.test(line))
      return (complaints.length > 0 ? complaints : tail).slice(-5).join('\n')
    },
  }
}

async function waitUntilReady(url, exited, log) {
  const deadline = Date.now() + startDeadlineMs
  let hasEnded = false
  exited.then(() => {
    hasEnded = true
  })
  let reason = 'it does not answer'
  while (Date.now() < deadline) {
    if (hasEnded) throw new Refusal(`The operator could not start:\n${log.complaint()}`)
    try {
      const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(10_000) })
      if (response.status === 200) return
      const body = await response.json()
      reason = body.runtime_error ?? 'its store cannot be written'
    } catch {
      // Not listening yet; the deadline tells when that has lasted too long.
    }
    await delay(50)
  }
  throw new Refusal(
    `The operator did not get ready within ${startDeadlineMs / 1000} s: ${reason}.\nSee what is missing with: npx atoll doctor`,
  )
}

function passSignals(child) {
  let passedAt = 0
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (Date.now() - passedAt < sameKeyMs) return
      if (passedAt === 0) process.stderr.write('\nStopping the operator; sandboxes go on running.\n')
      passedAt = Date.now()
      child.kill(signal === 'SIGHUP' ? 'SIGTERM' : signal)
    })
  }
}

async function stop(child, exited) {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const wait = new AbortController()
  const isLate = await Promise.race([
    exited.then(() => false),
    delay(stopDeadlineMs, true, { signal: wait.signal }).catch(() => false), // The wait is cut short when it has ended.
  ])
  wait.abort()
  if (!isLate) return
  child.kill('SIGKILL')
  await exited
}
