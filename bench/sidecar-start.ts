// How long the sidecar alone takes: started by hand, until it answers.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '@atoll/sdk'
import { bundle } from '../sidecar/scripts/bundle.ts'

const deadlineMs = 20_000

export async function sidecarStartMs(): Promise<number> {
  const program = await bundle()
  const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-bench-'))
  const places = ['CHANNEL', 'STATE', 'HOME', 'WORKSPACE', 'SECRETS', 'ROOT_HOME'].map(
    (name) => [`ATOLL_${name}`, path.join(folder, name.toLowerCase())] as const,
  )
  for (const [, place] of places) mkdirSync(place)
  const startedAt = performance.now()
  const child = spawn(path.join(program, 'node'), [path.join(program, 'sidecar.mjs')], { env: Object.fromEntries(places), stdio: 'ignore' })
  const ended = once(child, 'exit')
  try {
    await answers(path.join(folder, 'channel/sidecar.sock'))
    return performance.now() - startedAt
  } finally {
    child.kill('SIGTERM')
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
}

async function answers(socketPath: string): Promise<void> {
  const deadline = Date.now() + deadlineMs
  while (!(await isHealthy(socketPath))) {
    if (Date.now() > deadline) throw new Failure('sandbox.start_failed', `The sidecar did not answer within ${deadlineMs / 1000} s.`)
    await delay(1)
  }
}

function isHealthy(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = http.get({ socketPath, path: '/health' }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    request.on('error', () => resolve(false))
  })
}
