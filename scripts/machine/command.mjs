// Runs programs of the machine.
import { spawn } from 'node:child_process'

/**
 * Resolves with status and output. Nothing is inherited but the environment.
 * @param {{ cwd?: string, env?: Record<string, string>, input?: import('node:stream').Readable }} [options]
 */
export function command(program, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: options.cwd, env: { ...process.env, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] })
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
