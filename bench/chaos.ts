// npm run chaos -- [--cycles N] [--seed N] [--runtime docker|namespace]: kills the operator at random, and counts what that left or made untrue.
import { parseArgs } from 'node:util'
import { faultPoints } from '../operator/src/sandboxes/faults.ts'
import { bundle } from '../sidecar/scripts/bundle.ts'
import { CrashJourney, type Death, operations } from '../tests/crash-journey.ts'
import { type TestRuntime, testRuntimes } from '../tests/runtimes.ts'

const usage = `Usage: npm run chaos -- [--cycles N] [--seed N] [--runtime docker|namespace]
Each cycle kills the operator with SIGKILL in the middle of an operation, at a named point or at any moment, starts it again, and looks for
leaks (what stays on the machine) and lies (what a record or an answer says that is not so). The same seed makes the same cycles.`

/** mulberry32: small, and the same everywhere. */
function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const longestMs = 600

function deathOf(next: () => number): Death {
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(next() * items.length)] as Item
  return next() < 0.5 ? { point: pick(faultPoints) } : { operation: pick(operations), afterMs: Math.floor(next() * longestMs) }
}

const nameOf = (death: Death): string => ('point' in death ? death.point : `${death.operation} after ${death.afterMs} ms`)

interface Asked {
  readonly cycles: number
  readonly seed: number
  readonly runtime: TestRuntime
}

/** Undefined when what was typed cannot be meant. */
function asked(values: { readonly cycles: string; readonly seed: string; readonly runtime: string }): Asked | undefined {
  const [cycles, seed] = [Number(values.cycles), Number(values.seed)]
  const runtime = testRuntimes.find(({ name, skip }) => name === values.runtime && !skip)?.name
  return runtime && Number.isInteger(cycles) && cycles > 0 && Number.isInteger(seed) ? { cycles, seed, runtime } : undefined
}

/** Undefined when everything held. */
async function outcomeOf(journey: CrashJourney, death: Death): Promise<{ kind: 'leaks' | 'lies'; message: string } | undefined> {
  try {
    await journey.cycle(death)
    return undefined
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    await journey.recover()
    return { kind: message.startsWith('something was left') ? 'leaks' : 'lies', message }
  }
}

async function run({ cycles, seed, runtime }: Asked): Promise<number> {
  await bundle()
  const found = { leaks: 0, lies: 0 }
  const next = random(seed)
  await using journey = await CrashJourney.start(runtime)
  for (let cycle = 1; cycle <= cycles; cycle += 1) {
    const death = deathOf(next)
    const outcome = await outcomeOf(journey, death)
    if (outcome) {
      found[outcome.kind] += 1
      console.log(`cycle ${cycle}, ${nameOf(death)}: ${outcome.message}`)
    }
    if (cycle % 50 === 0 || process.stderr.isTTY)
      process.stderr.write(process.stderr.isTTY ? `\r${cycle}/${cycles}` : `${cycle}/${cycles}\n`)
  }
  console.log(`${cycles} cycles on ${runtime}, seed ${seed}: ${cycles} faults, ${found.leaks} leaks, ${found.lies} lies`)
  return found.leaks + found.lies === 0 ? 0 : 1
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      cycles: { type: 'string', default: '100' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      runtime: { type: 'string', default: 'namespace' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const wanted = asked(values)
  if (wanted && !values.help) return run(wanted)
  console.error(usage)
  return values.help ? 0 : 2
}

process.exitCode = await main()
