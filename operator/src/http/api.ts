// The operator's HTTP face: every route with its handler, the doors to ports, and the server around them.
import {
  agentRoutes,
  auditRoutes,
  authRoutes,
  chatRoutes,
  egressRoutes,
  eventRoutes,
  fileRoutes,
  healthRoutes,
  portRoutes,
  processRoutes,
  sandboxRoutes,
  secretRoutes,
  serviceRoutes,
  snapshotRoutes,
  terminalRoutes,
  usageRoutes,
} from '@atoll/protocol'
import type { Logger } from 'pino'
import type { ImageProbes } from '../agents/image-probes.ts'
import type { Audit } from '../audit/audit.ts'
import type { Auth } from '../auth/auth.ts'
import type { Config } from '../config.ts'
import type { EgressPolicies } from '../gateway/egress/policies.ts'
import type { UsageView } from '../gateway/usage-view.ts'
import type { Activity } from '../sandboxes/activity.ts'
import type { Guests } from '../sandboxes/guests.ts'
import type { Lifecycle } from '../sandboxes/lifecycle.ts'
import type { Probes } from '../sandboxes/probes.ts'
import type { Secrets } from '../sandboxes/secrets.ts'
import type { Snapshots } from '../sandboxes/snapshots.ts'
import type { Store } from '../sandboxes/store.ts'
import type { KeyRotation } from '../secrets/rotation.ts'
import type { Secret } from '../secrets/secret.ts'
import type { ProviderKeys } from '../services/provider-keys.ts'
import type { RunQuota } from '../services/run-quota.ts'
import type { Services } from '../services/services.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { clientAddressReader, secureReader } from './client-address.ts'
import { Doors } from './doors.ts'
import { RateLimits } from './limits.ts'
import { type MountParts, serveAll } from './mount.ts'
import { openapi } from './openapi.ts'
import { PortProxy } from './port-proxy.ts'
import { Previews } from './preview.ts'
import { RateLimiter } from './rate-limit.ts'
import { agentHandlers } from './routes/agents.ts'
import { auditHandlers } from './routes/audit.ts'
import { authHandlers } from './routes/auth.ts'
import { chatHandlers } from './routes/chat.ts'
import { egressHandlers } from './routes/egress.ts'
import { fileHandlers, portHandlers, processHandlers, terminalHandlers } from './routes/guest.ts'
import { eventHandlers, healthHandlers } from './routes/infra.ts'
import { sandboxHandlers, secretHandlers } from './routes/sandboxes.ts'
import { serviceHandlers } from './routes/services.ts'
import { snapshotHandlers } from './routes/snapshots.ts'
import { usageHandlers } from './routes/usage.ts'
import { corsRule, loopbackHosts } from './security-headers.ts'
import { createServer, type Server } from './server.ts'
import { Shares, Strangers } from './shares.ts'
import { Trail } from './trail.ts'
import { View } from './view.ts'

export interface ApiParts {
  readonly config: Config
  readonly store: Store
  readonly lifecycle: Lifecycle
  readonly secrets: Secrets
  readonly snapshots: Snapshots
  readonly services: Services
  readonly providerKeys: ProviderKeys
  readonly runQuota: RunQuota
  readonly usage: UsageView
  readonly egressPolicies: EgressPolicies
  readonly settleUsage: () => Promise<void>
  readonly guests: Guests
  readonly activity: Activity
  readonly probes: Probes
  readonly images: ImageProbes
  readonly audit: Audit
  readonly metrics: Metrics
  readonly log: Logger
  readonly version: string
  readonly previewKey: () => Secret<Uint8Array>
  readonly rotation: KeyRotation
  /** @param origin where clients reach the operator, known once it listens */
  readonly createAuth: (origin: () => string) => Auth
}

export interface Api {
  /** Resolves with the address that clients use. */
  listen(): Promise<string>
  close(): Promise<void>
}

const loopback = new Set(['127.0.0.1', '::1', 'localhost'])

/** Where the operator is reached, and under which names. Known for good once it listens. */
class Addresses {
  readonly #config: Config
  #port: number
  readonly #isLoopback: boolean

  constructor(config: Config) {
    this.#config = config
    this.#port = config.port
    this.#isLoopback = !config.bindAll && loopback.has(config.host)
  }

  listensOn(port: number): void {
    this.#port = port
  }

  get bindHost(): string {
    return this.#config.bindAll ? '::' : this.#config.host
  }

  publicUrl(): string {
    if (this.#config.publicUrl) return this.#config.publicUrl.replace(/\/$/, '')
    const host = this.#config.bindAll ? '127.0.0.1' : this.#config.host
    return `http://${host.includes(':') ? `[${host}]` : host}:${this.#port}`
  }

  previewDomain(): string | undefined {
    return this.#config.previewDomain ?? (this.#isLoopback && !this.#config.publicUrl ? 'localhost' : undefined)
  }

  /** Where a port is opened in a browser: under a host name of its own where there is a domain for that. */
  preview(sandboxId: string, port: number): string {
    const domain = this.previewDomain()
    if (domain === undefined) return `${this.publicUrl()}/api/sandboxes/${sandboxId}/port/${port}/`
    const { protocol, port: publicPort } = new URL(this.publicUrl())
    return `${protocol}//${port}--${sandboxId}.${domain}${publicPort ? `:${publicPort}` : ''}/`
  }

  /** Undefined: any name, as for an operator that stands on a public address under names that it does not know. */
  hosts(): readonly string[] | undefined {
    const { allowedHosts, publicUrl } = this.#config
    if (!this.#isLoopback && allowedHosts.length === 0) return undefined
    const domain = this.previewDomain()
    return [...loopbackHosts, ...allowedHosts, ...(publicUrl ? [new URL(publicUrl).host] : []), ...(domain ? [`*.${domain}`] : [])]
  }
}

function limitsOf(config: Config, metrics: Metrics): RateLimits {
  const limiter = new RateLimiter({
    perMinute: {
      read: config.readPerMinute,
      write: config.writePerMinute,
      interactive: config.interactivePerMinute,
      auth: config.authPerMinute,
      key: config.keyPerMinute,
      proxy: config.keyPerMinute,
    },
    off: config.rateLimits === 'off',
    onRefused: () => metrics.rateLimited(),
  })
  return new RateLimits({ limiter, addressOf: clientAddressReader(config.trustedProxies) })
}

function serveRoutes(parts: ApiParts, mount: MountParts, shared: { view: View; previews: Previews; stopping: AbortSignal }): void {
  const { auth, limits } = mount
  const sandboxes = { ...parts, ...shared, now: Date.now }
  const infra = { ...parts, ...shared }
  const guest = { ...parts, ...shared }
  serveAll(mount, healthRoutes, healthHandlers(infra))
  serveAll(mount, authRoutes, authHandlers({ auth, limits, rotation: parts.rotation }))
  serveAll(mount, eventRoutes, eventHandlers(infra))
  serveAll(mount, sandboxRoutes, sandboxHandlers(sandboxes))
  serveAll(mount, snapshotRoutes, snapshotHandlers({ ...parts, ...shared }))
  serveAll(mount, secretRoutes, secretHandlers(sandboxes))
  serveAll(mount, serviceRoutes, serviceHandlers(parts))
  serveAll(mount, usageRoutes, usageHandlers(parts))
  serveAll(mount, egressRoutes, egressHandlers(parts))
  serveAll(mount, auditRoutes, auditHandlers(parts))
  serveAll(mount, processRoutes, processHandlers(guest))
  serveAll(mount, terminalRoutes, terminalHandlers(guest))
  serveAll(mount, fileRoutes, fileHandlers(guest))
  serveAll(mount, portRoutes, portHandlers(guest))
  serveAll(mount, agentRoutes, agentHandlers(guest))
  serveAll(mount, chatRoutes, chatHandlers(guest))
}

export function createApi(parts: ApiParts): Api {
  const { config, log, metrics } = parts
  const addresses = new Addresses(config)
  const stopping = new AbortController()
  const auth = parts.createAuth(() => addresses.publicUrl())
  const limits = limitsOf(config, metrics)
  const previews = new Previews({
    key: () => parts.previewKey().reveal(),
    now: Date.now,
    address: (id, port) => addresses.preview(id, port),
  })
  const view = new View({
    store: parts.store,
    publicUrl: () => addresses.publicUrl(),
    managingOperator: config.managingOperator,
    hasProviderKey: (serviceId) => parts.providerKeys.has(serviceId),
  })
  const proxy = new PortProxy({ ...parts, answerDeadlineMs: config.proxySeconds * 1000 })
  const shares = new Shares({ most: Math.ceil(config.maxRequests / 2) })
  const strangers = new Strangers(config)
  const trail = new Trail({ audit: parts.audit, clientOf: (incoming) => limits.clientOf(incoming), log })
  const fence = () => ({ cors: corsRule(config.corsOrigins), hosts: addresses.hosts() })
  const isSecure = secureReader(config.trustedProxies)
  const previewDomain = (): string | undefined => addresses.previewDomain()
  const doors = new Doors({ ...parts, auth, limits, shares, trail, previews, proxy, fence, isSecure, previewDomain })
  const server: Server = createServer({
    log,
    metrics,
    doors: () => doors,
    fence,
    onRefused: (incoming, thrown) => trail.of({ method: incoming.method ?? 'GET', path: '/' }, incoming).failed(thrown),
    maxRequests: config.maxRequests,
  })
  serveRoutes(parts, { ...parts, app: server.app, auth, limits, shares, strangers, trail }, { view, previews, stopping: stopping.signal })
  const document = openapi(parts.version)
  server.app.get('/openapi.json', (context) => context.json(document))
  server.app.get('/metrics', async (context) =>
    context.text(await metrics.text(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),
  )
  return {
    listen: async () => {
      const { port } = await server.listen(addresses.bindHost, config.port)
      addresses.listensOn(port)
      return addresses.publicUrl()
    },
    close: async () => {
      stopping.abort()
      await server.close(config.drainSeconds * 1000)
    },
  }
}
