// npm start: from a fresh machine to a command's output from a sandbox. Plain JavaScript without packages: it runs before any is installed.
import { existsSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { command, engineAnswers, ensureBaseImage, ensureNodeModules, ensurePackages, node24Path, Refusal, root, step } from './machine.mjs'
import { firstJourney } from './start/journey.mjs'
import { startOperator } from './start/operator.mjs'
import { assertPortIsFree } from './start/port.mjs'

const usage = `Usage: npm start -- [options]

Installs what is missing, starts the operator on 127.0.0.1, and runs a command in a first sandbox.
The operator then stays in the foreground until Ctrl-C.

  --once            remove the sandbox, stop the operator, and end
  --runtime NAME    docker or namespace; else docker when an engine answers, else namespace
  --port NUMBER     port of the operator (9090)
  --no-install      install nothing: say what is missing and what to type
  --json            one JSON document with the timings on standard output; progress stays on standard error
  --help            this text

Example: npm start -- --once --json`

/** What the runtimes stand on. An engine brings the rest of its own. */
const packagesOf = {
  docker: ['e2fsprogs', 'util-linux', 'mount'],
  namespace: ['bubblewrap', 'e2fsprogs', 'util-linux', 'mount'],
}

const say = (text) => process.stderr.write(`${text}\n`)

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean', default: false },
        runtime: { type: 'string' },
        port: { type: 'string', default: '9090' },
        'no-install': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false, short: 'h' },
      },
    })
    if (values.runtime !== undefined && !Object.hasOwn(packagesOf, values.runtime))
      throw new Error(`No runtime is called ${values.runtime}.`)
    if (!/^[1-9]\d{0,4}$/.test(values.port) || Number(values.port) > 65_535) throw new Error(`${values.port} is no port.`)
    return { ...values, port: Number(values.port), install: !values['no-install'] }
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${usage}\n`)
    process.exit(2)
  }
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
  const system = async () => {
    timings.packages_ms = await timed(() => ensurePackages(packagesOf[runtime], { install }))
    if (runtime === 'docker') timings.image_ms = await timed(() => ensureBaseImage({ install }))
  }
  const modules = async () => {
    timings.modules_ms = await timed(() => ensureNodeModules({ install, dev: hasDevTools() }))
    timings.sidecar_ms = await timed(() => step('bundling the sidecar', bundleSidecar))
  }
  const startedAt = performance.now()
  const ended = await Promise.allSettled([system(), modules()])
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
  const { status, output } = await command(node24Path(), ['sidecar/scripts/bundle.ts'], { cwd: root })
  if (status !== 0) throw new Refusal(`The sidecar could not be bundled:\n${output.slice(-1500)}`)
}

async function start(options) {
  const startedAt = Date.now()
  await assertPortIsFree(options.port)
  const runtime = await chooseRuntime(options.runtime)
  const prepared = await prepare(runtime, options.install)
  const operator = await startOperator({ runtime, port: options.port })
  try {
    const journey = await firstJourney(operator, { runtime, once: options.once })
    const first_output_ms = journey.firstOutputAt - startedAt
    const timings = { ...prepared, operator_ms: operator.readyMs, ...journey.timings, first_output_ms, total_ms: Date.now() - startedAt }
    if (options.json) process.stdout.write(`${JSON.stringify({ ok: true, runtime, timings, output: journey.output }, null, 2)}\n`)
    say(`\nFirst output after ${(first_output_ms / 1000).toFixed(1)} s.`)
    if (options.once) return
    say(whatNext(operator, journey.sandbox))
    await operator.ended()
  } finally {
    await operator.stop()
  }
}

/** What the command and the SDK try when they are told nothing. */
const isDefault = (url) => url === 'http://127.0.0.1:9090'

const whatNext = ({ url, stateDir }, sandbox) => `
The operator runs at ${url} until Ctrl-C. In another terminal:${isDefault(url) ? '' : `\n  export ATOLL_URL=${url}`}
  npx atoll exec ${sandbox} -- uname -a
  npx atoll shell ${sandbox}
  npx atoll create --name mine
  npx atoll --help
  curl -H "authorization: Bearer $(cat ${stateDir}/admin-key)" ${url}/api/sandboxes
`

const options = readOptions()
if (options.help) {
  process.stdout.write(`${usage}\n`)
} else {
  try {
    await start(options)
  } catch (error) {
    const message = error instanceof Refusal ? error.message : (error.stack ?? String(error))
    if (options.json) process.stdout.write(`${JSON.stringify({ ok: false, error: message })}\n`)
    say(message)
    process.exitCode = 1
  }
}
