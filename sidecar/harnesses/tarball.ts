// Tarballs from npm: fetched by npm itself, believed only if they are what was pinned.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import type { PinnedPackage } from './versions.ts'

const execute = promisify(execFile)
const fetchTimeoutMs = 600_000

async function integrityOf(file: string): Promise<string> {
  const hash = createHash('sha512')
  await pipeline(createReadStream(file), hash)
  return `sha512-${hash.digest('base64')}`
}

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  )

async function pack({ name, version }: PinnedPackage, folder: string, signal: AbortSignal | undefined): Promise<string> {
  const spec = `${name}@${version}`
  const argv = ['pack', spec, '--pack-destination', folder, '--ignore-scripts', '--loglevel=error', '--cache', path.join(folder, 'cache')]
  try {
    await execute('npm', argv, { cwd: folder, timeout: fetchTimeoutMs, ...(signal && { signal }) })
  } catch (error) {
    signal?.throwIfAborted()
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`npm could not fetch ${spec}: ${reason.trim()}`)
  }
  const tarball = (await readdir(folder)).find((file) => file.endsWith('.tgz'))
  if (!tarball) throw new Error(`npm fetched nothing for ${spec}.`)
  return path.join(folder, tarball)
}

/** The tarball of a package in `downloads`, fetched unless it is there; its bytes are the pinned ones. */
export async function fetchTarball(wanted: PinnedPackage, downloads: string, signal?: AbortSignal): Promise<string> {
  const file = path.join(downloads, `${wanted.name.replace('/', '-').replace('@', '')}-${wanted.version}.tgz`)
  if ((await exists(file)) && (await integrityOf(file)) === wanted.integrity) return file
  await mkdir(downloads, { recursive: true })
  // npm is run in it, so that a way that is not from the root would lead elsewhere.
  const draft = await mkdtemp(path.resolve(downloads, '.draft-'))
  try {
    const fetched = await pack(wanted, draft, signal)
    const found = await integrityOf(fetched)
    if (found !== wanted.integrity) {
      throw new Error(`${wanted.name}@${wanted.version} is not what was pinned: its hash is ${found}, wanted is ${wanted.integrity}.`)
    }
    await rename(fetched, file)
    return file
  } finally {
    await rm(draft, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** Unpacks what is wanted of a tarball into a folder; the tarball's own top folder is left out. */
export async function unpack(tarball: string, { keep, drop }: PinnedPackage, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const left = (drop ?? []).map((name) => `--exclude=package/${name}`)
  const wanted = (keep ?? []).map((name) => `package/${name}`)
  const options = ['--strip-components=1', '--no-same-owner', '--no-same-permissions']
  await execute('tar', ['-xzf', tarball, '-C', folder, ...options, ...left, ...wanted])
}
