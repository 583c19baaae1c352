#!/usr/bin/env node
// Starts the command on the pinned Node 24, whatever Node the machine has. Plain JavaScript, so that an older Node can read it.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import module, { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))
const [major = 0] = process.versions.node.split('.').map(Number)

if (major >= 24) {
  // Starting takes half as long when the sources need not be compiled each time.
  module.enableCompileCache()
  await import(main)
} else runOn(pinnedNode())

function pinnedNode() {
  try {
    const found = path.join(path.dirname(createRequire(import.meta.url).resolve('node/package.json')), 'bin/node')
    if (existsSync(found)) return found
  } catch {
    // Not installed; said below.
  }
  process.stderr.write(`atoll: needs Node 24; this is ${process.version}, and the pinned one is not installed. Type: npm install\n`)
  process.exit(1)
}

function runOn(node) {
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' })
  // A terminal sends its signals to both; those sent to this process alone are passed on.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    process.stderr.write(`atoll: ${node} could not be started: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}
