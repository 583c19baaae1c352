// Every setting of the operator: read once, from the environment, by one schema.
import os from 'node:os'
import path from 'node:path'
import { Failure, type RuntimeName } from '@atoll/protocol'
import { z } from 'zod'
import type { Limits } from './sandboxes/admission.ts'
import { runtimeNamed } from './sandboxes/backend.ts'
import { type FaultPoint, faultPoints, isFaultPoint } from './sandboxes/faults.ts'

interface Setting<T extends z.ZodType = z.ZodType> {
  /** Environment names; the first that is set counts. Later ones are the reference operator's. */
  readonly names: readonly [string, ...string[]]
  readonly schema: T
  readonly about: string
}

const setting = <T extends z.ZodType>(names: Setting['names'], schema: T, about: string): Setting<T> => ({ names, schema, about })

const integer = (fallback: number, min = 0, max = Number.MAX_SAFE_INTEGER) => z.coerce.number().int().min(min).max(max).default(fallback)
const decimal = (fallback: number) => z.coerce.number().min(0).default(fallback)
const flag = (fallback: boolean) =>
  z
    .enum(['true', '1', 'false', '0'], 'must be true or false')
    .transform((text) => text === 'true' || text === '1')
    .default(fallback)
const list = z
  .string()
  .default('')
  .transform((text) => text.split(',').map((item) => item.trim()))
  .transform((items) => items.filter((item) => item !== ''))
const optionalText = z.string().optional()

const isRoot = process.getuid?.() === 0
const defaultStateDir = isRoot ? '/var/lib/atoll' : path.join(os.homedir(), '.local/state/atoll')
const defaultRunDir = isRoot ? '/run/atoll' : path.join(process.env['XDG_RUNTIME_DIR'] ?? os.tmpdir(), 'atoll')
const day = 86_400

export const settings = {
  host: setting(['ATOLL_HOST'], z.string().default('127.0.0.1'), 'Address to listen on.'),
  port: setting(['ATOLL_PORT', 'OPERATOR_API_PORT'], integer(9090, 0, 65_535), 'Port to listen on; 0 takes a free one.'),
  bindAll: setting(['BIND_ALL_INTERFACES'], flag(false), 'Listen on every address of the machine.'),
  publicUrl: setting(['ATOLL_PUBLIC_URL'], z.url().optional(), 'Where clients reach the operator, when a proxy stands before it.'),
  stateDir: setting(
    ['ATOLL_STATE_DIR', 'BLUEPRINT_STATE_DIR'],
    z.string().default(defaultStateDir),
    'Folder for the database, keys and disks.',
  ),
  runDir: setting(['ATOLL_RUN_DIR'], z.string().default(defaultRunDir), 'Folder for the guest channel sockets; keep its path short.'),
  sidecarDir: setting(['ATOLL_SIDECAR_DIR'], optionalText, "Folder with the sidecar program; the repository's own by default."),
  sessionSecret: setting(
    ['SESSION_AUTH_SECRET'],
    optionalText,
    'At least 32 bytes; derives the sealing and session keys instead of the key file.',
  ),
  previousSessionSecret: setting(
    ['ATOLL_PREVIOUS_SESSION_SECRET'],
    optionalText,
    'The earlier `SESSION_AUTH_SECRET`, until `atoll keys rotate` has sealed everything with the new one.',
  ),
  wallets: setting(['ATOLL_WALLETS'], list, 'Wallet addresses that may sign in, with commas between; without them, every wallet may.'),
  corsOrigins: setting(
    ['CORS_ALLOWED_ORIGINS'],
    z.string().default(''),
    'Origins that browsers may call from: a comma list, `*`, or `none`.',
  ),
  allowedHosts: setting(['ATOLL_ALLOWED_HOSTS'], list, 'More Host names that requests may carry.'),
  trustedProxies: setting(
    ['ATOLL_TRUSTED_PROXIES'],
    list,
    'Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed.',
  ),
  previewDomain: setting(
    ['ATOLL_PREVIEW_DOMAIN'],
    optionalText,
    'Domain whose subdomains lead to sandbox ports; `localhost` on a loopback address.',
  ),
  rateLimits: setting(['ATOLL_RATE_LIMITS'], z.enum(['on', 'off']).default('on'), 'Rate limits; `off` is for benchmarks.'),
  readPerMinute: setting(['ATOLL_RATE_READ'], integer(120, 1), 'Reads per minute and client address.'),
  writePerMinute: setting(['ATOLL_RATE_WRITE'], integer(30, 1), 'Writes per minute and client address.'),
  interactivePerMinute: setting(
    ['ATOLL_RATE_INTERACTIVE'],
    integer(2400, 1),
    'Terminal and standard input calls per minute and client address.',
  ),
  authPerMinute: setting(['ATOLL_RATE_AUTH'], integer(10, 1), 'Sign-ins per minute and client address.'),
  keyPerMinute: setting(['ATOLL_RATE_KEY'], integer(6000, 1), 'Calls per minute of one API key.'),
  maxRequests: setting(
    ['ATOLL_MAX_REQUESTS'],
    integer(512, 1),
    'Requests in flight, streams not counted; one owner gets at most half of them.',
  ),
  runtime: setting(
    ['SANDBOX_RUNTIME_BACKEND'],
    z
      .string()
      .optional()
      .transform((name): RuntimeName | undefined => (name ? runtimeNamed(name) : undefined)),
    'Runtime of a sandbox that does not name one; else docker when an engine answers, else namespace.',
  ),
  image: setting(['SIDECAR_IMAGE'], z.string().default('atoll/base:bookworm'), 'Image of a sandbox that does not name one.'),
  allowedImages: setting(
    ['ATOLL_ALLOWED_IMAGES'],
    list,
    'Images that sandboxes may name beside the default one, as `registry/name:tag` or `registry/name@sha256:…`; `*` stands for anything. Empty: every image that this machine has or can fetch.',
  ),
  pullImages: setting(['SIDECAR_PULL_IMAGE'], flag(true), 'Fetch images that the engine does not have.'),
  engine: setting(['DOCKER_HOST'], z.string().default('unix:///var/run/docker.sock'), "The engine's socket."),
  engineTimeoutSeconds: setting(['DOCKER_OPERATION_TIMEOUT_SECS'], integer(60, 1), 'How long one call of the engine may take.'),
  defaultCpuCores: setting(['ATOLL_DEFAULT_CPU_CORES'], decimal(2), 'CPU cores of a sandbox that asks for 0.'),
  defaultMemoryMb: setting(['ATOLL_DEFAULT_MEMORY_MB'], integer(2048, 64), 'Memory of a sandbox that asks for 0.'),
  defaultDiskGb: setting(['ATOLL_DEFAULT_DISK_GB'], integer(10, 1), 'Disk of a sandbox that asks for 0.'),
  maxCpuCores: setting(['SANDBOX_MAX_CPU_CORES'], decimal(0), 'Most CPU cores of one sandbox; 0: those of the machine.'),
  maxMemoryMb: setting(['SANDBOX_MAX_MEMORY_MB'], integer(0), 'Most memory of one sandbox; 0: that of the machine.'),
  maxDiskGb: setting(['SANDBOX_MAX_DISK_GB'], integer(0), 'Most disk of one sandbox; 0: 1024.'),
  pids: setting(['ATOLL_MAX_PIDS'], integer(512, 16), 'Processes and threads of one sandbox.'),
  maxCount: setting(['SANDBOX_MAX_COUNT'], integer(100), 'Sandboxes in all, stopped ones too; 0: no limit.'),
  memoryBudgetMb: setting(['SANDBOX_HOST_MEMORY_BUDGET_MB'], integer(0), 'Memory of all running sandboxes; 0: no limit.'),
  cpuBudget: setting(['SANDBOX_HOST_CPU_BUDGET', 'SANDBOX_CPU_BUDGET'], decimal(0), 'CPU cores of all running sandboxes; 0: no limit.'),
  diskReserveMb: setting(
    ['ATOLL_DISK_RESERVE_MB'],
    integer(1024),
    'No sandbox is created or resumed while the disk of the state folder has less free than this.',
  ),
  maxSnapshots: setting(['ATOLL_MAX_SNAPSHOTS'], integer(100), 'Snapshots that one owner may have.'),
  createParallel: setting(['ATOLL_CREATE_PARALLEL'], integer(4, 1), 'Creations at once.'),
  createQueue: setting(['ATOLL_CREATE_QUEUE'], integer(64), 'Creations that may wait; more are refused at once.'),
  readySeconds: setting(['ATOLL_READY_SECONDS'], integer(30, 1), 'How long a new sandbox may take until it answers.'),
  defaultIdleSeconds: setting(['SANDBOX_DEFAULT_IDLE_TIMEOUT'], integer(1800, 1), 'Seconds without use after which a sandbox is stopped.'),
  maxIdleSeconds: setting(['SANDBOX_MAX_IDLE_TIMEOUT'], integer(7200, 1), 'Longest idle timeout that may be asked for, in seconds.'),
  defaultLifetimeSeconds: setting(['SANDBOX_DEFAULT_MAX_LIFETIME'], integer(day, 1), 'Seconds after which a sandbox is ended.'),
  maxLifetimeSeconds: setting(['SANDBOX_MAX_MAX_LIFETIME'], integer(2 * day, 1), 'Longest lifetime that may be asked for, in seconds.'),
  reaperSeconds: setting(['SANDBOX_REAPER_INTERVAL'], integer(30, 1), 'Seconds between two looks for idle and leftover sandboxes.'),
  eventDays: setting(
    ['ATOLL_EVENT_DAYS'],
    integer(30, 1),
    'Days after which events are forgotten; of one owner, the last 100 000 are kept.',
  ),
  auditDays: setting(['ATOLL_AUDIT_DAYS'], integer(365, 1), 'Days after which entries of the audit log are forgotten.'),
  endedDays: setting(
    ['ATOLL_ENDED_DAYS'],
    integer(7, 1),
    'Days after which a sandbox that ended is forgotten, with its provision and its Idempotency-Key.',
  ),
  proxySeconds: setting(['REQUEST_TIMEOUT_SECS'], integer(120, 1), 'How long a program behind a port may take until it answers.'),
  drainSeconds: setting(['ATOLL_DRAIN_SECONDS'], integer(10), 'How long requests in flight may take when the operator stops.'),
  agentEnvFile: setting(
    ['ATOLL_AGENT_ENV_FILE'],
    optionalText,
    "File of NAME=value lines, mode 0600: credentials that agents get in the operator's owner's own sandboxes, and no other process does.",
  ),
  trustedUpstreams: setting(
    ['ATOLL_TRUSTED_UPSTREAMS'],
    list,
    'What the gateway may dial though it is not public, as model servers of your own: `host:port` or origins, with commas between.',
  ),
  defaultEgress: setting(
    ['ATOLL_DEFAULT_EGRESS'],
    z.string().trim().default('none'),
    'What a sandbox may reach whose owner has not said it: `none`, `internet`, or presets with commas between.',
  ),
  nameServers: setting(
    ['ATOLL_DNS'],
    list,
    "Servers that the gateway resolves names with, as `address` or `address:port`; else the machine's.",
  ),
  pricesFile: setting(
    ['ATOLL_PRICES_FILE'],
    optionalText,
    'JSON file of what models cost, in US dollars for a million tokens: `{"provider/model*": {"input": 3, "output": 15, "cached": 0.3}}`.',
  ),
  fault: setting(
    ['ATOLL_FAULT'],
    z
      .string()
      .optional()
      .refine((name) => name === undefined || isFaultPoint(name), `must be one of ${faultPoints.join(', ')}`)
      .transform((name) => name as FaultPoint | undefined),
    'For tests of crashes only: the operator dies when it comes by this point.',
  ),
  managingOperator: setting(['MANAGING_OPERATOR_ADDRESS', 'OPERATOR_ADDRESS'], optionalText, 'Address shown as managing operator.'),
  logLevel: setting(
    ['ATOLL_LOG', 'RUST_LOG'],
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).catch('info').default('info'),
    'Least level of log lines: trace, debug, info, warn, error, silent.',
  ),
} as const

export type Config = { readonly [Name in keyof typeof settings]: z.output<(typeof settings)[Name]['schema']> }

type Env = Readonly<Record<string, string | undefined>>

/** Names of ours that no setting has: a typing error would otherwise go unnoticed. */
export function unknownNames(env: Env = process.env): string[] {
  const known = new Set<string>(Object.values(settings).flatMap(({ names }) => names))
  return Object.keys(env).filter((name) => /^(ATOLL|SANDBOX)_/.test(name) && !known.has(name) && !clientNames.has(name))
}

/** Read by the SDK and the tests, not by the operator. */
const clientNames = new Set(['ATOLL_URL', 'ATOLL_API_KEY', 'ATOLL_TEST_SKIP_DOCKER'])

/** @throws Failure `config.invalid`, naming every setting that is wrong */
export function readConfig(env: Env = process.env): Config {
  const shape = Object.fromEntries(Object.entries(settings).map(([key, { schema }]) => [key, schema]))
  const input: Record<string, string> = {}
  for (const [key, { names }] of Object.entries(settings)) {
    const name = names.find((candidate) => (env[candidate] ?? '').trim() !== '')
    if (name) input[key] = env[name] ?? ''
  }
  try {
    // The shape is built from the table's own schemas, so what it gives is the table's type.
    return z.object(shape).parse(input) as Config
  } catch (error) {
    throw invalid(error)
  }
}

function invalid(error: unknown): Failure {
  if (!(error instanceof z.ZodError))
    return new Failure('config.invalid', error instanceof Error ? error.message : String(error), { cause: error })
  const problems = error.issues.map(({ path: [key], message }) => {
    const found = Object.entries(settings).find(([name]) => name === key)
    return `${found?.[1].names.join(' or ') ?? String(key)}: ${message}`
  })
  return new Failure('config.invalid', problems.join('; '), { cause: error })
}

/** Documentation of every setting, in Markdown. */
export function configurationTable(): string {
  const rows = Object.values(settings).map(({ names, about }) => `| ${names.map((name) => `\`${name}\``).join(', ')} | ${about} |`)
  return ['| variable | meaning |', '|---|---|', ...rows].join('\n')
}

/** What sandboxes may take, on this machine. */
export const limitsOf = (config: Config): Limits => ({
  defaultCpuCores: Math.min(config.defaultCpuCores, os.availableParallelism()),
  defaultMemoryMb: config.defaultMemoryMb,
  defaultDiskGb: config.defaultDiskGb,
  maxCpuCores: config.maxCpuCores || os.availableParallelism(),
  maxMemoryMb: config.maxMemoryMb || Math.floor(os.totalmem() / 1_048_576),
  maxDiskGb: config.maxDiskGb || 1024,
  pids: config.pids,
  maxCount: config.maxCount,
  memoryBudgetMb: config.memoryBudgetMb,
  cpuBudget: config.cpuBudget,
  diskReserveMb: config.diskReserveMb,
  defaultIdleSeconds: config.defaultIdleSeconds,
  maxIdleSeconds: config.maxIdleSeconds,
  defaultLifetimeSeconds: config.defaultLifetimeSeconds,
  maxLifetimeSeconds: config.maxLifetimeSeconds,
})
