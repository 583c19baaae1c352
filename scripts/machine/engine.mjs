// The container engine of the machine: found, or for tests started.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { command } from './command.mjs'
import { root } from './node-modules.mjs'
import { ensurePackages } from './packages.mjs'
import { Refusal, step } from './say.mjs'

/** Image of a sandbox that does not name one; the operator's setting SIDECAR_IMAGE has the same default. */
export const baseImage = 'atoll/base:bookworm'

const socketPath = () => {
  const host = process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock'
  return host.startsWith('unix://') ? host.slice('unix://'.length) : undefined
}

/** One call of the engine's API. Resolves with status and text; rejects when nothing answers. */
function ask(method, target, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({
      socketPath: socketPath(),
      method,
      path: target,
      headers: body ? { 'content-type': 'application/x-tar' } : {},
    })
    request.once('error', reject)
    request.once('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += chunk
      })
      response.once('end', () => resolve({ status: response.statusCode, text }))
      response.once('error', reject)
    })
    if (body) body.pipe(request)
    else request.end()
  })
}

/** Whether a local engine answers. */
export async function engineAnswers() {
  if (socketPath() === undefined) return false
  try {
    return (await ask('GET', '/_ping')).status === 200
  } catch {
    return false
  }
}

/** For tests: installs and starts an engine when none answers. One that runs is never touched. */
export async function ensureEngine() {
  if (await engineAnswers()) return
  await ensurePackages(['docker.io', 'iptables'])
  if (await engineAnswers()) return
  if (process.getuid?.() !== 0) throw new Refusal('No container engine answers. Type:\n  sudo systemctl start docker')
  await step('starting the container engine', async () => {
    if (existsSync('/run/systemd/system')) await command('systemctl', ['start', 'docker'])
    else startByHand()
    for (let tries = 0; tries < 300; tries += 1) {
      if (await engineAnswers()) return
      await delay(100)
    }
    throw new Refusal('The container engine did not answer within 30 s. Its log is in /var/log/atoll/dockerd.log.')
  })
}

function startByHand() {
  mkdirSync('/var/log/atoll', { recursive: true })
  const log = openSync('/var/log/atoll/dockerd.log', 'a')
  const child = spawn('dockerd', [], { detached: true, stdio: ['ignore', log, log] })
  child.unref()
}

/** Makes the base image from Debian packages when the engine does not have it. */
export async function ensureBaseImage({ install = true } = {}) {
  if ((await ask('GET', `/images/${baseImage}/json`)).status === 200) return
  await ensurePackages(['mmdebstrap'], { install })
  await step('building the base image from Debian packages (once)', async () => {
    const build = spawn(path.join(root, 'sidecar/scripts/build-base'), [], { stdio: ['ignore', 'pipe', 'pipe'] })
    let complaint = ''
    build.stderr.setEncoding('utf8')
    build.stderr.on('data', (text) => {
      complaint = (complaint + text).slice(-2000)
    })
    const ended = new Promise((resolve) => build.once('close', resolve))
    const [name, tag] = baseImage.split(':')
    const changes = encodeURIComponent('LABEL org.tangle.atoll.base=bookworm')
    const { status, text } = await ask('POST', `/images/create?fromSrc=-&repo=${name}&tag=${tag}&changes=${changes}`, build.stdout)
    const code = await ended
    if (code !== 0 || status !== 200) {
      await ask('DELETE', `/images/${baseImage}`).catch(() => undefined) // Half an image must not pass for a whole one.
      throw new Refusal(`The base image could not be built:\n${code === 0 ? text : complaint}`)
    }
  })
}
