// npm start: from a fresh machine to a command's output from a sandbox. Plain JavaScript without packages: it runs before any is installed.
import { existsSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import {
  engineAnswers,
  ensureBaseImage,
  ensureNodeModules,
  explain,
  guarded,
  installPackages,
  interruption,
  missingPackages,
  node24Path,
  packagesForBaseImage,
  Refusal,
  root,
  statusOf,
  step,
  withSignals,
} from './machine.mjs'
import { firstJourney } from './start/journey.mjs'
import { startOperator, stateDirOf } from './start/operator.mjs'
import { assertPortIsFree } from './start/port.mjs'

const usage = `Usage: npm start -- [options]

Installs what is missing, starts the operator on 127.0.0.1, and runs a command in a first sandbox.
The operator then stays in the foreground until Ctrl-C.

  --once            remove the sandbox, stop the operator, and end
  --runtime NAME    docker or namespace (SANDBOX_RUNTIME_BACKEND); else docker when an engine answers, else namespace
  --port NUMBER     port of the operator (ATOLL_PORT, else 9090)
  --no-install      install nothing: say what is missing and what to type
  --json            one JSON document with the timings on standard output; progress stays on standard error
  --help            this text

Example: npm start -- --once --json`

/** What the runtimes stand on. An engine brings the rest of its own. */
const packagesOf = {
  docker: ['e2fsprogs', 'util-linux', 'mount'],
  namespace: ['bubblewrap', 'e2fsprogs', 'util-linux', 'mount'],
}

/** Other names that the operator's setting takes. */
const aliases = { container: 'docker', bubblewrap: 'namespace' }

const say = (text) => process.stderr.write(`${text}\n`)

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean', default: false },
        runtime: { type: 'string', default: process.env.SANDBOX_RUNTIME_BACKEND || undefined },
        port: { type: 'string', default: process.env.ATOLL_PORT || process.env.OPERATOR_API_PORT || '9090' },
        'no-install': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false, short: 'h' },
      },
    })
    const runtime = aliases[values.runtime] ?? values.runtime
    if (runtime !== undefined && !Object.hasOwn(packagesOf, runtime)) {
      throw new Error(`No runtime is called ${runtime}. Use ${Object.keys(packagesOf).join(' or ')}.`)
    }
    if (!/^[1-9]\d{0,4}$/.test(values.port) || Number(values.port) > 65_535) throw new Error(`${values.port} is no port.`)
    return { ...values, runtime, port: Number(values.port), install: !values['no-install'] }
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${usage}\n`)
    process.exit(2)
  }
}

/** Told before anything is installed: every runtime mounts disks and makes control groups. */
function assertRoot() {
  if (process.getuid?.() === 0) return
  throw new Refusal('Sandboxes have disks and limits of their own, which only root can make. Type:\n  sudo npm start')
}

async function chooseRuntime(asked) {
  const hasEngine = await engineAnswers()
  if (asked === 'docker' && !hasEngine) {
    throw new Refusal(
      'No container engine answers on the socket. Install one (apt-get install docker.io) and start it, or leave --runtime out.',
    )
  }
  if (asked !== undefined) return asked
  if (hasEngine) return 'docker'
  say('No container engine answers, so sandboxes run in namespaces (bubblewrap), which are a weaker wall than containers.')
  say('For containers: apt-get install docker.io, start it, and run npm start again.')
  return 'namespace'
}

/** Resolves with how long the work took. */
async function timed(work) {
  const startedAt = performance.now()
  await work()
  return Math.round(performance.now() - startedAt)
}

/** Packages of the system and from npm at the same time; neither needs the other. */
async function prepare(runtime, install) {
  const timings = {}
  const imagePackages = runtime === 'docker' ? await packagesForBaseImage() : []
  const asking = missingPackages([...packagesOf[runtime], ...imagePackages], { install })
  // A question is answered before anything else writes on the terminal.
  await Promise.allSettled([asking])
  const system = async () => {
    timings.packages_ms = await timed(async () => installPackages(await asking))
    if (runtime === 'docker') timings.image_ms = await timed(() => ensureBaseImage({ install }))
  }
  const modules = async () => {
    timings.modules_ms = await timed(() => ensureNodeModules({ install, dev: hasDevTools() }))
    timings.sidecar_ms = await timed(() => step('bundling the sidecar', bundleSidecar))
  }
  const startedAt = performance.now()
  const ended = await Promise.allSettled([system(), modules()])
  interruption.throwIfAborted()
  const refusals = ended.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
  // Both are told at once, so that nobody has to come back for the second.
  if (refusals.length > 1 && refusals.every((refusal) => refusal instanceof Refusal)) {
    throw new Refusal(refusals.map(({ message }) => message).join('\n'))
  }
  if (refusals.length > 0) throw refusals[0]
  return { install_ms: Math.round(performance.now() - startedAt), ...timings }
}

/** A tree in which somebody develops keeps its tools: installing without them would take them away. */
const hasDevTools = () => existsSync(path.join(root, 'node_modules/typescript'))

async function bundleSidecar() {
  const { status, output } = await guarded(node24Path(), ['sidecar/scripts/bundle.ts'], { cwd: root, onInterrupt: 'finish' })
  if (status !== 0) throw new Refusal(`The sidecar could not be bundled:\n${output.slice(-1500)}`)
}

async function start(options) {
  const startedAt = Date.now()
  assertRoot()
  await assertPortIsFree(options.port)
  const runtime = await chooseRuntime(options.runtime)
  const prepared = await prepare(runtime, options.install)
  const operator = await startOperator({
    runtime,
    port: options.port,
    isPersonThere: process.stderr.isTTY && !options.once,
    log: options.json ? process.stderr : process.stdout,
  })
  try {
    await visit(operator, { ...options, runtime, prepared, startedAt })
  } catch (error) {
    await operator.stop().catch(({ message }) => say(message))
    throw error
  }
  await operator.stop()
}

/** The first journey, its report, and without `once` the time until somebody asks to end. */
async function visit(operator, { runtime, prepared, startedAt, once, json }) {
  const journey = await firstJourney(operator, { runtime, once })
  const first_output_ms = journey.firstOutputAt - startedAt
  const timings = { ...prepared, operator_ms: operator.readyMs, ...journey.timings, first_output_ms, total_ms: Date.now() - startedAt }
  if (json) process.stdout.write(`${JSON.stringify({ ok: true, runtime, timings, output: journey.output }, null, 2)}\n`)
  say(`\nFirst output after ${(first_output_ms / 1000).toFixed(1)} s.`)
  if (once) return
  say(whatNext(operator, journey.sandbox))
  await operator.untilAsked()
}

/** What the command and the SDK must be told because they would not find it by themselves. */
const exportsFor = ({ url, stateDir }) => [
  ...(url === 'http://127.0.0.1:9090' ? [] : [`export ATOLL_URL=${url}`]),
  ...(stateDir === stateDirOf({}) ? [] : [`export ATOLL_STATE_DIR=${stateDir}`]),
]

function whatNext(operator, sandbox) {
  const { url, stateDir } = operator
  const signIn = operator.signInLine()
  return `
The operator runs at ${url} until Ctrl-C. In another terminal, in this folder:
  ${[...exportsFor(operator), `npx atoll exec ${sandbox} -- uname -a`].join('\n  ')}
  npx atoll shell ${sandbox}
  npx atoll agent prompt ${sandbox} --harness echo "hello"    (real agents: npx atoll harness install codex)
  npx atoll create --name mine
  npx atoll --help
  curl -H "authorization: Bearer $(cat ${stateDir}/admin-key)" ${url}/api/sandboxes
${signIn ? `\n${signIn}\n` : ''}`
}

const options = readOptions()
if (options.help) {
  process.stdout.write(`${usage}\n`)
} else {
  try {
    await withSignals(() => start(options))
  } catch (error) {
    const message = explain(error)
    if (options.json) process.stdout.write(`${JSON.stringify({ ok: false, error: message })}\n`)
    say(message)
    process.exitCode = statusOf(error)
  }
}
