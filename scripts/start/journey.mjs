// Runs first-journey.ts on the pinned Node: it needs the SDK, which needs what has just been installed.
import { spawn } from 'node:child_process'
import path from 'node:path'
import { interruption, node24Path, Refusal, root } from '../machine.mjs'

/**
 * Resolves with `{ sandbox, timings, output, firstOutputAt }`.
 * @throws Refusal with the reason; Interrupted when this process was asked to end, in which case the sandbox is removed
 */
export async function firstJourney({ url, stateDir }, { runtime, once }) {
  interruption.throwIfAborted()
  const args = ['scripts/first-journey.ts', '--url', url, '--key-file', path.join(stateDir, 'admin-key'), '--runtime', runtime]
  // A process group of its own: a Ctrl-C of the terminal comes from here, once.
  const options = { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] }
  const child = spawn(node24Path(), [...args, ...(once ? ['--once'] : [])], options)
  const pass = () => child.kill('SIGTERM')
  interruption.addEventListener('abort', pass)
  try {
    const { code, result, complaint } = await ending(child)
    interruption.throwIfAborted()
    if (code === 0) return JSON.parse(result)
    const reason = complaint.trim() || `it ended with ${code}`
    throw new Refusal(`The first journey failed: ${reason}\nSee what is missing with: npx atoll doctor`)
  } finally {
    interruption.removeEventListener('abort', pass)
  }
}

/** Its progress is passed on as it comes. */
function ending(child) {
  let result = ''
  let complaint = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    result += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    complaint = text
    process.stderr.write(text)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, result, complaint }))
  })
}
