// The container engine of the machine: found, or for tests started.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { command, stopGroup } from './command.mjs'
import { interruption, withSignals } from './interrupt.mjs'
import { root } from './node-modules.mjs'
import { ensurePackages } from './packages.mjs'
import { Refusal, step } from './say.mjs'

/** Image of a sandbox that does not name one; the operator's setting SIDECAR_IMAGE has the same default. */
export const baseImage = 'atoll/base:bookworm'

const socketPath = () => {
  const host = process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock'
  return host.startsWith('unix://') ? host.slice('unix://'.length) : undefined
}

/**
 * One call of the engine's API. Resolves with status and text; rejects when nothing answers.
 * @param {{ stream: import('node:stream').Readable, whole: Promise<void> }} [upload] a body that counts only once `whole` resolves
 */
function ask(method, target, upload) {
  return new Promise((resolve, reject) => {
    const request = http.request({
      socketPath: socketPath(),
      method,
      path: target,
      headers: upload ? { 'content-type': 'application/x-tar' } : {},
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
    if (!upload) return void request.end()
    upload.stream.pipe(request, { end: false })
    // Broken off, it is half an image that the engine throws away.
    upload.whole.then(
      () => request.end(),
      (error) => request.destroy(error),
    )
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

const hasBaseImage = async () => (await ask('GET', `/images/${baseImage}/json`)).status === 200

/** The packages that it takes to make the base image; none when the engine has it. */
export const packagesForBaseImage = async () => ((await hasBaseImage()) ? [] : ['mmdebstrap', 'debian-archive-keyring'])

/** Makes the base image from Debian packages when the engine does not have it. */
export async function ensureBaseImage({ install = true } = {}) {
  if (await hasBaseImage()) return
  await ensurePackages(await packagesForBaseImage(), { install })
  await step('building the base image from Debian packages (once)', () => withSignals(buildBaseImage))
}

async function buildBaseImage() {
  interruption.throwIfAborted()
  const build = spawn(path.join(root, 'sidecar/scripts/build-base'), [], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const stop = () => stopGroup(build)
  interruption.addEventListener('abort', stop)
  const whole = wholeOutput(build)
  const [name, tag] = baseImage.split(':')
  const changes = encodeURIComponent('LABEL org.tangle.atoll.base=bookworm')
  try {
    const target = `/images/create?fromSrc=-&repo=${name}&tag=${tag}&changes=${changes}`
    const { status, text } = await ask('POST', target, { stream: build.stdout, whole })
    if (status !== 200) throw new Error(text)
  } catch (error) {
    stop() // The engine may have given up first.
    build.stdout.resume()
    await whole.catch(() => undefined) // Its own clean-up; why it failed is in `error`.
    interruption.throwIfAborted()
    throw new Refusal(`The base image could not be built:\n${error.message}`)
  } finally {
    interruption.removeEventListener('abort', stop)
  }
}

/** Resolves when the program has written all of it; rejects with what it complained of. */
function wholeOutput(build) {
  let complaint = ''
  build.stderr.setEncoding('utf8')
  build.stderr.on('data', (text) => {
    complaint = (complaint + text).slice(-2000)
  })
  return new Promise((resolve, reject) => {
    build.once('error', reject)
    build.once('close', (code) => (code === 0 ? resolve() : reject(new Error(complaint))))
  })
}
