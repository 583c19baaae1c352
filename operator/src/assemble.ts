// The only file that knows every implementation: builds the parts from the settings and ties them together.
import { randomUUID } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RuntimeName } from '@atoll/protocol'
import type { Logger } from 'pino'
import packageJson from '../package.json' with { type: 'json' }
import { readAgentEnvironment } from './agents/credentials-file.ts'
import { ImageProbes } from './agents/image-probes.ts'
import { Audit } from './audit/audit.ts'
import { followEvents } from './audit/follow-events.ts'
import { ofOperator } from './audit/happening.ts'
import { headFile } from './audit/head.ts'
import { ApiKeys } from './auth/api-keys.ts'
import { Auth } from './auth/auth.ts'
import { Challenges } from './auth/challenge.ts'
import { adminOwner, ensureAdminKey, SignInLinks } from './auth/first-start.ts'
import { Sessions } from './auth/session.ts'
import { type Config, limitsOf } from './config.ts'
import { DeniedEvents } from './gateway/denied-events.ts'
import { createDialer, trustedUpstreams, trustedUrl } from './gateway/dial.ts'
import { Egress } from './gateway/egress/egress.ts'
import { proxyVariables } from './gateway/egress/environment.ts'
import { EgressPolicies, usualPolicy } from './gateway/egress/policies.ts'
import { environmentOf } from './gateway/environment.ts'
import { Gateway } from './gateway/gateway.ts'
import { Ledger } from './gateway/ledger.ts'
import { ModelProxy } from './gateway/model-proxy.ts'
import { createRefresh } from './gateway/oauth-refresh.ts'
import { readPrices } from './gateway/prices.ts'
import { createUpstream, type Upstream } from './gateway/upstream.ts'
import { HistoryReaders } from './guest-channel/history-readers.ts'
import { openHttpGuest } from './guest-channel/http-guest.ts'
import { openCgroups } from './host/cgroup.ts'
import { installProgram } from './host/sidecar-program.ts'
import { openWorkspaceDisks, type WorkspaceDisks } from './host/workspace-disk.ts'
import { type Api, createApi } from './http/api.ts'
import { createDockerRuntime } from './runtimes/docker/docker-runtime.ts'
import { createNamespaceRuntime } from './runtimes/namespace/namespace-runtime.ts'
import { Activity } from './sandboxes/activity.ts'
import { CreationQueue } from './sandboxes/creation-queue.ts'
import { Guests } from './sandboxes/guests.ts'
import type { History } from './sandboxes/history.ts'
import { Lifecycle } from './sandboxes/lifecycle.ts'
import { Locks } from './sandboxes/locks.ts'
import { Probes } from './sandboxes/probes.ts'
import { reap } from './sandboxes/reaper.ts'
import { reconcile, redeliver } from './sandboxes/reconcile.ts'
import { Retention } from './sandboxes/retention.ts'
import type { Runtime } from './sandboxes/runtime.ts'
import { Secrets } from './sandboxes/secrets.ts'
import { Snapshots, type SnapshotsParts } from './sandboxes/snapshots.ts'
import { Keyring } from './secrets/keyring.ts'
import { KeyRotation } from './secrets/rotation.ts'
import { Secret } from './secrets/secret.ts'
import { OAuthLogins } from './services/oauth-logins.ts'
import { ProviderKeys } from './services/provider-keys.ts'
import { RunQuota } from './services/run-quota.ts'
import { Services } from './services/services.ts'
import { DiskSnapshots } from './snapshots/disk-snapshots.ts'
import { Database } from './storage/database.ts'
import { lastEvent, sqliteAudit } from './storage/sqlite-audit.ts'
import { sqliteApiKeys, sqliteSessions } from './storage/sqlite-auth.ts'
import { sqliteEgress } from './storage/sqlite-egress.ts'
import { sqliteImageProbes } from './storage/sqlite-image-probes.ts'
import { sqliteSealedTexts } from './storage/sqlite-sealed-texts.ts'
import { sqliteServices } from './storage/sqlite-services.ts'
import { sqliteSnapshots } from './storage/sqlite-snapshots.ts'
import { SqliteStore } from './storage/sqlite-store.ts'
import { sqliteUsage } from './storage/sqlite-usage.ts'
import { Metrics } from './telemetry/metrics.ts'

export interface Operator {
  /** @param options.isPersonThere somebody reads standard error, so a sign-in link is printed there; else only the first start does */
  start(options: { readonly isPersonThere: boolean }): Promise<void>
  /** Answers what is in flight, leaves the sandboxes running. */
  stop(): Promise<void>
}

/** How old a probe may be before it is made again. */
const probeAgeMs = 10 * 60_000

const here = path.dirname(fileURLToPath(import.meta.url))

interface Runtimes {
  readonly runtimes: Map<RuntimeName, Runtime>
  readonly history: History
  readonly disks: WorkspaceDisks
  close(): Promise<void>
}

/** The runtimes of this machine. Which of them work is for their probes to say. */
async function openRuntimes(config: Config, instanceId: string, log: Logger): Promise<Runtimes> {
  const programDir = await installProgram(config.sidecarDir ?? path.join(here, '../../sidecar/dist'), path.join(config.stateDir, 'program'))
  const disks = await openWorkspaceDisks({ stateDir: config.stateDir, readySizeGb: config.defaultDiskGb, log })
  const cgroups = await openCgroups({ name: instanceId })
  const common = { programDir, runDir: config.runDir, stateDir: config.stateDir, operatorId: instanceId, disks, log }
  const engine = createDockerRuntime({
    ...common,
    engineSocket: config.engine,
    engineDeadlineMs: config.engineTimeoutSeconds * 1000,
    defaultImage: config.image,
    allowedImages: config.allowedImages,
    pullImages: config.pullImages,
  })
  const runtimes = new Map([engine, createNamespaceRuntime({ ...common, cgroups })].map((runtime) => [runtime.name, runtime]))
  const history = new HistoryReaders({ ...common, openGuest: openHttpGuest })
  const close = async (): Promise<void> => {
    await history.closeAll()
    for (const runtime of runtimes.values()) await runtime.close()
    await disks.close()
    cgroups.close()
  }
  return { runtimes, history, disks, close }
}

/** The runtime named by the setting; else docker when an engine answers, else namespace, said loudly. */
async function chooseDefault(config: Config, runtimes: ReadonlyMap<RuntimeName, Runtime>, log: Logger): Promise<RuntimeName> {
  if (config.runtime) return config.runtime
  const silent = await runtimes.get('docker')?.ping(AbortSignal.timeout(5000))
  if (silent === undefined) return 'docker'
  log.warn({ reason: silent }, 'no container engine answers: sandboxes run in namespaces, a weaker wall. Install Docker for a stronger one')
  return 'namespace'
}

/** Everything that leaves sandboxes goes through here. */
function openGateway(
  config: Config,
  parts: {
    db: Database
    store: SqliteStore
    keyring: Keyring
    services: Services
    providerKeys: ProviderKeys
    upstream: Upstream
    log: Logger
  },
) {
  const { db, store, keyring, services, providerKeys, upstream, log } = parts
  const usage = sqliteUsage(db)
  const ledger = new Ledger({ store: usage, now: Date.now, log })
  const grants = {
    grant: providerKeys.grant.bind(providerKeys),
    quotas: ({ serviceId, owner }: { serviceId: number; owner: string }) => services.modelQuotas(serviceId, owner),
  }
  const models = new ModelProxy({ grants, ledger, prices: readPrices(config.pricesFile), upstream })
  const egressStore = sqliteEgress(db, store)
  const egressPolicies = new EgressPolicies({ store: egressStore, seal: keyring, usual: usualPolicy(config.defaultEgress) })
  const denied = new DeniedEvents({ appendEvent: (event) => store.appendEvent(event), now: Date.now, log })
  const egress = new Egress({
    policies: egressPolicies,
    store: egressStore,
    seal: keyring,
    // What the operator's owner trusts is for models: there, keys and budgets are looked after.
    dialer: createDialer({ nameServers: config.nameServers, trusted: [] }),
    denied,
    now: Date.now,
  })
  const gateway = new Gateway({
    models,
    denied,
    egress,
    environment: async ({ serviceId, sandboxId }) => ({
      variables: [...environmentOf(await providerKeys.providers(serviceId)).variables, proxyVariables],
      caPem: await egress.certificate(sandboxId),
    }),
    log,
  })
  const closeGateway = async (): Promise<void> => {
    gateway.closeAll()
    egress.close()
    await ledger.flush().catch(() => undefined) // Logged where it happened.
    await upstream.close()
  }
  const ownEgress = { own: egressStore.policy, set: egressPolicies.set.bind(egressPolicies) }
  return { gateway, egressPolicies, ownEgress, usage, settleUsage: () => ledger.flush(), closeGateway }
}

const freeDiskOf = (config: Config) => async (): Promise<number> => {
  const { bavail, bsize } = await statfs(config.stateDir)
  return Math.floor((bavail * bsize) / 1_048_576)
}

function openSnapshots(
  config: Config,
  parts: {
    db: Database
    store: SqliteStore
    keyring: Keyring
    disks: WorkspaceDisks
    lifecycle: Lifecycle
    locks: Locks
    ownEgress: SnapshotsParts['egress']
    log: Logger
  },
): Snapshots {
  const { db, store, keyring, disks, ownEgress, ...rest } = parts
  return new Snapshots({
    ...rest,
    store: sqliteSnapshots(db, store),
    files: new DiskSnapshots({ stateDir: config.stateDir, disks, seal: keyring }),
    egress: ownEgress,
    queue: new CreationQueue({ parallel: config.createParallel, waiting: config.createQueue }),
    limits: config,
    most: config.maxSnapshots,
    freeDiskMb: freeDiskOf(config),
    now: Date.now,
    newId: (kind) => `${kind}-${randomUUID()}`,
  })
}

function openCore(
  config: Config,
  parts: {
    db: Database
    store: SqliteStore
    keyring: Keyring
    runtimes: Map<RuntimeName, Runtime>
    history: History
    disks: WorkspaceDisks
    defaultRuntime: RuntimeName
    log: Logger
  },
) {
  const { db, store, keyring, runtimes, history, disks, defaultRuntime, log } = parts
  const now = Date.now
  const locks = new Locks()
  const serviceStore = sqliteServices(db, store)
  const services = new Services({ store: serviceStore, locks, now, isConfidential: runtimes.has('tee') })
  const trusted = trustedUpstreams(config.trustedUpstreams)
  const upstream = createUpstream(createDialer({ nameServers: config.nameServers, trusted }))
  const logins = new OAuthLogins({ store: serviceStore, seal: keyring, refresh: createRefresh(upstream.calls), now })
  const providerKeys = new ProviderKeys({
    services,
    store: serviceStore,
    seal: keyring,
    now,
    logins,
    isTrusted: trustedUrl(trusted),
    changed: (serviceId) => {
      secrets
        .refresh(serviceId)
        .catch((error: unknown) => log.error({ serviceId, err: error }, 'sandboxes could not be told of a provider key'))
    },
  })
  const { gateway, ownEgress, ...metered } = openGateway(config, { db, store, keyring, services, providerKeys, upstream, log })
  const settled = (id: string) => locks.run(id, () => store.get(id))
  const guests = new Guests({ openGuest: openHttpGuest, gateway, history, settled })
  const agentEnvironment = async (owner: string) => (owner === adminOwner ? readAgentEnvironment(config.agentEnvFile) : {})
  const secrets = new Secrets({ store, seal: keyring, guests, locks, agentEnvironment, gateway })
  const lifecycle = new Lifecycle({
    store,
    runtimes,
    defaultRuntime,
    guests,
    secrets,
    tenants: services,
    limits: limitsOf(config),
    queue: new CreationQueue({ parallel: config.createParallel, waiting: config.createQueue }),
    locks,
    now,
    newId: () => `sandbox-${randomUUID()}`,
    log,
    readyDeadlineMs: config.readySeconds * 1000,
    freeDiskMb: freeDiskOf(config),
  })
  const runQuota = new RunQuota({ services: serviceStore, store, guests, locks })
  const rotation = new KeyRotation({ keyring, texts: sqliteSealedTexts(db, store), locks })
  const probes = new Probes({ runtimes, defaultRuntime, now })
  return {
    guests,
    gateway,
    ...metered,
    secrets,
    services,
    providerKeys,
    runQuota,
    rotation,
    lifecycle,
    snapshots: openSnapshots(config, { db, store, keyring, disks, lifecycle, locks, ownEgress, log }),
    activity: new Activity(store, now),
    probes,
  }
}

/** The audit log, which is told of what happens without a request too. */
async function openAudit(config: Config, { db, store, keyring, log }: { db: Database; store: SqliteStore; keyring: Keyring; log: Logger }) {
  const file = headFile(path.join(config.stateDir, 'audit-head'))
  const audit = await Audit.open({ store: sqliteAudit(db), keys: keyring, file, now: Date.now, log })
  const settle = followEvents({ store, audit, cursor: lastEvent(db), log })
  const began = async (isFirst: boolean): Promise<void> => {
    await audit.record(ofOperator('operator.start', { version: packageJson.version }))
    if (isFirst) await audit.record(ofOperator('key.create', { owner: adminOwner, scope: 'admin' }))
  }
  const closeAudit = async (): Promise<void> => {
    await settle()
    await audit.close().catch(() => undefined) // Logged where it happened.
  }
  return { audit, began, closeAudit, pruneAudit: () => audit.prune(config.auditDays) }
}

/** Runs `round` again and again, with a pause after each, until it is stopped. Rounds never overlap. */
function repeat(seconds: number, round: () => Promise<void>): { stop(): Promise<void> } {
  let isStopped = false
  let timer: NodeJS.Timeout | undefined
  let current = Promise.resolve()
  const next = (): void => {
    timer = setTimeout(() => {
      current = round().finally(() => isStopped || next())
    }, seconds * 1000)
  }
  next()
  return {
    stop: async () => {
      isStopped = true
      clearTimeout(timer)
      await current
    },
  }
}

function openKeyring({ stateDir, sessionSecret, previousSessionSecret }: Config): Promise<Keyring> {
  const secret = (text: string | undefined): Secret | undefined => (text === undefined ? undefined : new Secret(text))
  const previous = secret(previousSessionSecret)
  return Keyring.open({ stateDir, sessionSecret: secret(sessionSecret), previousSecrets: previous ? [previous] : [] })
}

export async function assemble(config: Config, log: Logger): Promise<Operator> {
  // Told at the start, and not by the first sandbox that fails.
  await readAgentEnvironment(config.agentEnvFile)
  const db = new Database(path.join(config.stateDir, 'atoll.db'))
  const store = new SqliteStore(db, Date.now)
  const keyring = await openKeyring(config)
  const { audit, began, closeAudit, pruneAudit } = await openAudit(config, { db, store, keyring, log })
  const { runtimes, history, disks, close: closeRuntimes } = await openRuntimes(config, db.instanceId(), log)
  const defaultRuntime = await chooseDefault(config, runtimes, log)
  const core = openCore(config, { db, store, keyring, runtimes, history, disks, defaultRuntime, log })
  const images = new ImageProbes({ ...core, store, probes: sqliteImageProbes(db), runtimes, defaultRuntime, now: Date.now, log })
  const metrics = new Metrics(store)
  const keys = new ApiKeys({ store: sqliteApiKeys(db) })
  const links = new SignInLinks()
  const wallets = new Set(config.wallets.map((wallet) => wallet.toLowerCase()))
  const sessionStore = sqliteSessions(db)
  const sessions = new Sessions({ key: () => keyring.deriveKey('session'), operatorId: keyring.operatorId, store: sessionStore })
  const api: Api = createApi({
    ...core,
    images,
    audit,
    config,
    store,
    metrics,
    log,
    version: packageJson.version,
    previewKey: () => keyring.deriveKey('preview'),
    createAuth: (origin) => new Auth({ challenges: new Challenges({ origin }), sessions, keys, links, wallets }),
  })
  const retention = new Retention({ ...config, store, now: Date.now, log })
  const reconcileParts = { ...core, store, runtimes: [...runtimes.values()], log }
  const round = async (): Promise<void> => {
    await reconcile(reconcileParts)
    metrics.reaped(await reap({ ...core, store, now: Date.now, log }))
    await sessionStore.prune(Date.now())
    await retention.round()
    await pruneAudit()
    await core.probes.refreshOlderThan(probeAgeMs)
    await images.refresh()
  }
  let loop: ReturnType<typeof repeat> | undefined
  return {
    start: async ({ isPersonThere }) => {
      const admin = await ensureAdminKey({ keys, stateDir: config.stateDir })
      await Promise.all([began(admin.isNew), core.snapshots.recover()])
      await reconcile(reconcileParts)
      await redeliver(reconcileParts)
      const url = await api.listen()
      loop = repeat(config.reaperSeconds, round)
      log.info({ event: 'listening', url, runtime: defaultRuntime, adminKeyFile: admin.file }, 'listening')
      if (admin.isNew || isPersonThere)
        process.stderr.write(`Sign in once, within 15 minutes: ${links.create({ origin: url }).url.reveal()}\n`)
      await core.probes.refresh()
      void images.refresh()
    },
    stop: async () => {
      await images.stop()
      await loop?.stop()
      await api.close()
      await Promise.all([core.snapshots.stop(), core.lifecycle.settle(), core.probes.settle()])
      core.guests.closeAll()
      await core.closeGateway()
      await closeRuntimes()
      await closeAudit()
      db.close()
    },
  }
}
