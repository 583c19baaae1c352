// Runs first-journey.ts on the pinned Node: it needs the SDK, which needs what has just been installed.
import { spawn } from 'node:child_process'
import path from 'node:path'
import { node24Path, Refusal, root } from '../machine.mjs'

/** Resolves with `{ sandbox, timings, output, firstOutputAt }`. @throws Refusal with the reason */
export function firstJourney({ url, stateDir }, { runtime, once }) {
  return new Promise((resolve, reject) => {
    const args = ['scripts/first-journey.ts', '--url', url, '--key-file', path.join(stateDir, 'admin-key'), '--runtime', runtime]
    const child = spawn(node24Path(), [...args, ...(once ? ['--once'] : [])], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    let result = ''
    let complaint = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      result += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      complaint = text
      process.stderr.write(text)
    })
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(JSON.parse(result))
      else
        reject(
          new Refusal(
            `The first journey failed: ${complaint.trim() || `it ended with ${code}`}\nSee what is missing with: npx atoll doctor`,
          ),
        )
    })
  })
}
