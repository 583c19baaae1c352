// Runs programs of the machine.
import { spawn } from 'node:child_process'
import path from 'node:path'
import { interruption, withSignals } from './interrupt.mjs'

/** How long a program may clean up after it was asked to end. */
const cleanUpMs = 20_000

/** Asks a program that leads its own process group to end with all that it started; after a while it is made to. */
export function stopGroup(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const tell = (signal) => {
    try {
      process.kill(-child.pid, signal)
    } catch {
      // The group has ended.
    }
  }
  tell('SIGTERM')
  const timer = setTimeout(() => tell('SIGKILL'), cleanUpMs)
  child.once('close', () => clearTimeout(timer))
}

function ending(child) {
  return new Promise((resolve) => {
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8')
      stream.on('data', (text) => {
        output = (output + text).slice(-100_000)
      })
    }
    child.once('error', (error) => resolve({ status: 127, output: String(error) }))
    child.once('close', (status, signal) => resolve({ status: status ?? 128, output: signal ? `${output}\nended by ${signal}` : output }))
  })
}

/**
 * Resolves with status and output. Nothing is inherited but the environment.
 * @param {{ cwd?: string, env?: Record<string, string> }} [options]
 */
export const command = (program, args, options = {}) => ending(open(program, args, options))

/**
 * A command that a Ctrl-C does not reach. `stop`: it is then ended with all that it started; `finish`: it is waited for, because stopping it
 * would leave something half-made.
 * @throws Interrupted when this process was asked to end
 */
export function guarded(program, args, { onInterrupt, ...options }) {
  return withSignals(async () => {
    interruption.throwIfAborted()
    const child = open(program, args, { ...options, detached: true })
    const name = path.basename(program)
    const react = () => {
      process.stderr.write(onInterrupt === 'stop' ? `\nStopping ${name}.\n` : `\nWaiting for ${name}, which cannot be stopped halfway.\n`)
      if (onInterrupt === 'stop') stopGroup(child)
    }
    interruption.addEventListener('abort', react)
    const result = await ending(child)
    interruption.removeEventListener('abort', react)
    interruption.throwIfAborted()
    return result
  })
}

const open = (program, args, { cwd, env, detached = false }) =>
  spawn(program, args, { cwd, detached, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })

/** Runs with the terminal handed on; ends with the program, and passes on the signals that ask to end. */
export function attached(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit', ...options })
    const pass = (signal) => child.kill(signal)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, pass)
    child.once('error', reject)
    child.once('exit', (status, signal) => {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(name, pass)
      resolve(status ?? (signal ? 128 + 15 : 1))
    })
  })
}
