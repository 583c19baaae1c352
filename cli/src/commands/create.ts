import { runtimeNames } from '@atoll/protocol'
import { Failure, type Provision, type RuntimeName } from '@atoll/sdk'
import { type Command, Option } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { note, print, printJson } from '../print.ts'
import { addPair, addPort, envFile, gigabytes, megabytes, number, seconds } from '../values.ts'

interface CreateOptions extends GlobalOptions {
  readonly service?: number
  readonly snapshot?: string
  readonly name?: string
  readonly image?: string
  readonly cpu?: number
  readonly memory?: number
  readonly disk?: number
  readonly port?: readonly number[]
  readonly env?: Record<string, string>
  readonly envFile?: Record<string, string>
  readonly metadata?: Record<string, string>
  readonly runtime?: RuntimeName
  readonly idleTimeout?: number
  readonly lifetime?: number
  readonly idleAction?: 'stop' | 'pause'
  readonly autoResume?: boolean
  readonly idempotencyKey?: string
}

export function addCreate(program: Command): void {
  program
    .command('create')
    .description('Make a sandbox, wait until it runs, and print its id.')
    .option('--name <name>', 'a name for people')
    .option('--service <number>', 'the service it belongs to; your default one when not given', number)
    .option('--snapshot <id>', 'a snapshot to begin with; what else is not given is as it was there')
    .option('--image <image>', "image to start from; the operator's own when not given")
    .option('--cpu <cores>', 'processor cores', number)
    .option('--memory <size>', 'memory, such as 512m or 2g', megabytes)
    .option('--disk <size>', 'disk, such as 10g', gigabytes)
    .option('--port <port>', 'a port to reach from outside; may be repeated', addPort)
    .option('--env <KEY=VALUE>', 'an environment variable; may be repeated', addPair)
    .option('--env-file <file>', 'a file of environment variables', envFile)
    .option('--metadata <KEY=VALUE>', 'a mark to find it by; may be repeated', addPair)
    .addOption(new Option('--runtime <name>', 'where it runs').choices(runtimeNames))
    .option('--idle-timeout <time>', 'time without use after which it is stopped, such as 30m', seconds)
    .addOption(new Option('--idle-action <action>', 'what becomes of it when it is idle').choices(['stop', 'pause']))
    .option('--auto-resume', 'resume it when it is used')
    .option('--lifetime <time>', 'time after which it is ended, such as 2h', seconds)
    .option('--idempotency-key <key>', 'the same key again gives the same sandbox')
    .addHelpText('after', example('atoll create --name web --memory 1g --port 3000 --env NODE_ENV=development'))
    .action((_, command: Command) => create(command.optsWithGlobals()))
}

async function create(options: CreateOptions): Promise<void> {
  const { idleTimeout, lifetime, cpu, memory, disk, port, env, envFile: fromFile } = options
  const sandbox = await connect(options).sandboxes.create(
    {
      serviceId: options.service,
      snapshot: options.snapshot,
      name: options.name,
      image: options.image,
      metadata: options.metadata,
      runtime: options.runtime,
      ports: port,
      env: { ...fromFile, ...env },
      cpuCores: cpu,
      memoryMb: memory,
      diskGb: disk,
      idleTimeoutSeconds: idleTimeout,
      maxLifetimeSeconds: lifetime,
      idleAction: options.idleAction,
      autoResume: options.autoResume,
    },
    { idempotencyKey: options.idempotencyKey, ...(process.stderr.isTTY && { onProgress: showProgress }) },
  )
  if (sandbox.info.status === 'ended') throw new Failure('sandbox.ended', `Sandbox ${sandbox.id} has ended.`)
  if (options.json) printJson(sandbox.info)
  else print(sandbox.id)
}

const phases: Readonly<Record<Provision['phase'], string>> = {
  queued: 'waiting for its turn',
  image_pull: 'fetching the image',
  container_create: 'making it',
  container_start: 'starting it',
  health_check: 'waiting for its answer',
  ready: 'ready',
  failed: 'failed',
}

const showProgress = ({ phase, message, progress_pct: percent }: Provision): void =>
  note(`${String(percent).padStart(3)}%  ${message ?? phases[phase]}`)
