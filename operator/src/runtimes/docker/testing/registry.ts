// A registry of one small image, which speaks what the engine needs to pull. Engines trust loopback registries without TLS.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import { gzipSync } from 'node:zlib'

export interface RegistryImage {
  readonly layer: Buffer
  readonly architecture?: string
}

export interface TestRegistry {
  /** `127.0.0.1:port` */
  readonly host: string
  /** How often a manifest was asked for. */
  readonly manifests: () => number
  /** While set, blobs are not answered. */
  hold: Promise<void> | undefined
  readonly close: () => Promise<void>
}

interface Found {
  readonly data: Buffer
  readonly type: string
}

const digestOf = (data: Buffer): string => `sha256:${createHash('sha256').update(data).digest('hex')}`

export async function openRegistry(images: Readonly<Record<string, RegistryImage>>): Promise<TestRegistry> {
  const blobs = new Map<string, Buffer>()
  const manifests = new Map<string, Buffer>()
  for (const [name, image] of Object.entries(images)) manifests.set(name, publish(image, blobs))
  let asked = 0
  const registry: TestRegistry = { host: '', manifests: () => asked, hold: undefined, close: () => Promise.resolve() }
  const find = async (method: string, url: string): Promise<Found | undefined> => {
    const [, repository = '', kind, name = ''] = /^\/v2\/([^/]+)\/(manifests|blobs)\/(.+)$/.exec(url) ?? []
    if (kind === 'manifests') {
      if (method === 'GET') asked++
      const data = manifests.get(repository)
      return data && { data, type: 'application/vnd.docker.distribution.manifest.v2+json' }
    }
    await registry.hold
    const data = blobs.get(name)
    return data && { data, type: 'application/octet-stream' }
  }
  const server = http.createServer(async (request, response) => {
    if (request.url === '/v2/') return void response.end('{}')
    const found = await find(request.method ?? '', request.url ?? '')
    if (!found) return void response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
    const headers = { 'content-type': found.type, 'docker-content-digest': digestOf(found.data), 'content-length': found.data.length }
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : found.data)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  return Object.assign(registry, {
    host: `127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  })
}

/** Keeps layer and description of an image, and answers its manifest. */
function publish({ layer, architecture }: RegistryImage, blobs: Map<string, Buffer>): Buffer {
  const packed = gzipSync(layer)
  const config = Buffer.from(
    JSON.stringify({
      architecture: architecture ?? (process.arch === 'arm64' ? 'arm64' : 'amd64'),
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
      history: [{ created: '2026-01-01T00:00:00Z' }],
    }),
  )
  for (const blob of [packed, config]) blobs.set(digestOf(blob), blob)
  const media = 'application/vnd.docker'
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${media}.distribution.manifest.v2+json`,
      config: { mediaType: `${media}.container.image.v1+json`, size: config.length, digest: digestOf(config) },
      layers: [{ mediaType: `${media}.image.rootfs.diff.tar.gzip`, size: packed.length, digest: digestOf(packed) }],
    }),
  )
}
