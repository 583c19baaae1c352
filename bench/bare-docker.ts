// The container engine without Atoll: its API for making containers, its command for running in them.
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { Failure } from '@atoll/sdk'
import type { Bare } from './subject.ts'

const socketPath = (process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock').replace(/^unix:\/\//, '')
const agent = new http.Agent({ keepAlive: true, maxFreeSockets: 1 })

/** One call of the engine's API, to the end of its answer. */
function ask(method: string, path: string, body?: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const headers = text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
    const request = http.request({ socketPath, agent, method, path, headers }, (response) => {
      let answer = ''
      response.setEncoding('utf8')
      response.on('data', (piece: string) => {
        answer += piece
      })
      response.on('end', () => {
        if ((response.statusCode ?? 500) < 400) resolve(answer)
        else reject(new Failure('runtime.unavailable', `The engine answered ${response.statusCode} to ${method} ${path}: ${answer.trim()}`))
      })
    })
    request.on('error', reject)
    request.end(text)
  })
}

async function create(image: string): Promise<number> {
  const name = `atoll-bench-${randomUUID()}`
  const startedAt = performance.now()
  try {
    await ask('POST', `/containers/create?name=${name}`, { Image: image, Cmd: ['sleep', '60'], HostConfig: { NetworkMode: 'none' } })
    await ask('POST', `/containers/${name}/start`)
    const { Id: id } = JSON.parse(await ask('POST', `/containers/${name}/exec`, { Cmd: ['echo', 'ready'], AttachStdout: true }))
    const output = await ask('POST', `/exec/${id}/start`, { Detach: false, Tty: false })
    if (!output.includes('ready')) throw new Failure('internal', 'The bare container did not answer.')
    return performance.now() - startedAt
  } finally {
    await ask('DELETE', `/containers/${name}?force=true&v=true`)
  }
}

const docker = '/usr/bin/docker'

export const bareDocker: Bare = {
  name: 'engine API: create, start, exec',
  create,
  invocationName: 'docker exec',
  invocation: ({ id }, argv, isTerminal = false) => [docker, 'exec', ...(isTerminal ? ['-it'] : []), `atoll-${id}`, ...argv],
}
