// Hosts of the world that real programs get packages and repositories from.
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import os from 'node:os'
import path from 'node:path'

type Serve = (request: IncomingMessage, response: ServerResponse, url: URL) => void

/** What each host serves; all of it lies in a folder that is removed at the end of the process. */
export function packageHosts(): Readonly<Record<string, Serve>> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-world-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const repositories = git(folder)
  const gits = { 'git.example.com': repositories, 'look.example.com': repositories, 'private.example.com': guarded(repositories) }
  return { 'registry.npmjs.org': npmRegistry(folder), 'pypi.org': pythonIndex, ...gits }
}

/** What the private host wants, as a password. */
export const gitToken = 'canary-token-of-git-0815'

const guarded =
  (serve: Serve): Serve =>
  (request, response, url) => {
    const wanted = `Basic ${Buffer.from(`x:${gitToken}`).toString('base64')}`
    if (request.headers.authorization === wanted) serve(request, response, url)
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end()
  }

/** One package, called tiny. */
function npmRegistry(folder: string): Serve {
  const source = path.join(folder, 'package')
  mkdirSync(source)
  const manifest = { name: 'tiny', version: '1.0.0', main: 'index.js' }
  writeFileSync(path.join(source, 'package.json'), JSON.stringify(manifest))
  writeFileSync(path.join(source, 'index.js'), 'module.exports = "tiny works"\n')
  execFileSync('tar', ['-czf', 'tiny.tgz', 'package'], { cwd: folder })
  const archive = readFileSync(path.join(folder, 'tiny.tgz'))
  const dist = {
    tarball: 'https://registry.npmjs.org/tiny/-/tiny-1.0.0.tgz',
    integrity: `sha512-${createHash('sha512').update(archive).digest('base64')}`,
  }
  const known = JSON.stringify({ name: 'tiny', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': { ...manifest, dist } } })
  return (_, response, { pathname }) => {
    if (pathname.endsWith('.tgz')) response.end(archive)
    else if (pathname === '/tiny') response.writeHead(200, { 'content-type': 'application/json' }).end(known)
    else response.writeHead(404).end()
  }
}

const wheel = Buffer.alloc(300_000, 'wheel')

/** An index as pip reads it, with a file that a checksum belongs to. */
const pythonIndex: Serve = (_, response, { pathname }) => {
  if (pathname.endsWith('.whl')) return void response.end(wheel)
  const sum = createHash('sha256').update(wheel).digest('hex')
  response.end(`<a href="https://pypi.org/files/tiny-1.0-py3-none-any.whl#sha256=${sum}">tiny</a>`)
}

/** A repository that everybody may push to, by git's own program for it. */
function git(folder: string): Serve {
  const repository = path.join(folder, 'repo.git')
  execFileSync('git', ['init', '--quiet', '--bare', '--initial-branch=main', repository])
  execFileSync('git', ['-C', repository, 'config', 'http.receivepack', 'true'])
  return (request, response, { pathname, search }) => {
    const { headers } = request
    const env = {
      PATH: process.env['PATH'],
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: '1',
      PATH_INFO: pathname,
      QUERY_STRING: search.slice(1),
      REQUEST_METHOD: request.method,
      CONTENT_TYPE: headers['content-type'],
      HTTP_CONTENT_ENCODING: String(headers['content-encoding'] ?? ''),
      HTTP_GIT_PROTOCOL: String(headers['git-protocol'] ?? ''),
    }
    const child = spawn('git', ['-c', 'safe.directory=*', 'http-backend'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
    child.stdin.on('error', () => undefined)
    request.pipe(child.stdin)
    const chunks: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.once('close', () => {
      const said = Buffer.concat(chunks)
      const end = said.indexOf('\r\n\r\n')
      for (const line of said.toString('latin1', 0, end).split('\r\n')) {
        const [name = '', value = ''] = line.split(': ')
        if (name === 'Status') response.statusCode = Number.parseInt(value, 10)
        else response.setHeader(name, value)
      }
      response.end(said.subarray(end + 4))
    })
  }
}
