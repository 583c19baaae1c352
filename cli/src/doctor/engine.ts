// The container engine: whether it answers, and what it runs containers with.
import { readFile } from 'node:fs/promises'
import http from 'node:http'
import { gunzipSync } from 'node:zlib'
import type { Check } from './check.ts'
import { firstLine, runProgram } from './command.ts'
import { knownRuncEscapes } from './version.ts'

interface EngineVersion {
  readonly Version?: string
  readonly ApiVersion?: string
  readonly Components?: readonly { readonly Name?: string; readonly Version?: string }[]
}

const howToInstall = 'For the stronger wall of containers, install an engine: apt-get install docker.io'

/** Also whether containers are safe to use, as far as this can be known. */
export async function checkEngine(host = process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock'): Promise<Check[]> {
  const title = 'container engine'
  if (!host.startsWith('unix://')) {
    return [
      {
        id: 'engine',
        title,
        status: 'problem',
        seen: `DOCKER_HOST is ${host}`,
        advice: 'Only an engine on this machine, on a unix socket, can be used.',
      },
    ]
  }
  const socketPath = host.slice('unix://'.length)
  try {
    const version = await askEngine(socketPath)
    const seen = `${version.Version ?? 'of unknown version'}, API ${version.ApiVersion ?? '?'}, on ${socketPath}`
    return [{ id: 'engine', title, status: 'ok', seen }, await checkRunc(version)]
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    return [{ id: 'engine', title, status: 'warning', seen: `does not answer: ${reason}`, advice: howToInstall }]
  }
}

function askEngine(socketPath: string): Promise<EngineVersion> {
  return new Promise((resolve, reject) => {
    const request = http.get({ socketPath, path: '/version', timeout: 5000 }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (piece) => {
        text += piece
      })
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(text))
        else reject(new Error(`it answered ${response.statusCode}`))
      })
    })
    request.on('timeout', () => request.destroy(new Error('no answer within 5 s')))
    request.on('error', reject)
  })
}

async function checkRunc({ Components = [] }: EngineVersion): Promise<Check> {
  const version = Components.find(({ Name }) => Name === 'runc')?.Version
  const about = { id: 'runc', title: 'container starter (runc)' }
  if (version === undefined) return { ...about, status: 'unknown', seen: 'the engine does not say which one it uses' }
  const escapes = knownRuncEscapes(version)
  if (escapes.length === 0) return { ...about, status: 'ok', seen: `${version}, no escape known` }
  const mended = await mendedByDistribution(escapes)
  const open = escapes.filter((cve) => !mended.cves.includes(cve))
  if (open.length === 0)
    return { ...about, status: 'ok', seen: `${version}, with ${escapes.join(', ')} mended in package ${mended.package}` }
  return {
    ...about,
    status: 'problem',
    seen: `${version}${mended.package === '' ? '' : ` (package ${mended.package})`} lets a container out: ${open.join(', ')}`,
    advice:
      mended.package === ''
        ? 'Update runc to 1.2.8, 1.3.3 or later.'
        : 'Update the package (apt-get install --only-upgrade runc), or ask your distribution: it may mend an escape under the same number.',
  }
}

/** Debian and Ubuntu mend old versions; the package's own changelog tells which escapes. */
async function mendedByDistribution(cves: readonly string[]): Promise<{ package: string; cves: string[] }> {
  const { code, output } = await runProgram('dpkg-query', ['-W', '-f', '$' + '{Version}', 'runc'])
  if (code !== 0) return { package: '', cves: [] }
  const changelog = await readFile('/usr/share/doc/runc/changelog.Debian.gz').then(
    (packed) => gunzipSync(packed).toString('utf8'),
    () => '', // Images often leave documentation out; then nothing is known.
  )
  return { package: firstLine(output), cves: cves.filter((cve) => changelog.includes(cve)) }
}
