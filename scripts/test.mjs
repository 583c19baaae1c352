// npm test [AREA…]: the whole suite or parts of it, on real parts. The last line is `N passed, N failed, N skipped`.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { areas } from './areas.mjs'
import { attached, ensureBaseImage, ensureEngine, ensureNodeModules, ensurePackages, node24Path, Refusal, root, run } from './machine.mjs'

const usage = `Usage: npm test [-- AREA…]
Areas: ${Object.keys(areas).join(', ')}. Without one, all of them.
ATOLL_TEST_SKIP_DOCKER=1 leaves out what needs a container engine, and says so.`

async function prepare(chosen) {
  await ensureNodeModules({ dev: true })
  await ensurePackages(['bubblewrap', 'e2fsprogs', 'util-linux', 'mount', 'iproute2'])
  if (process.env.ATOLL_TEST_SKIP_DOCKER === '1')
    process.stderr.write('Left out: tests on a container engine (ATOLL_TEST_SKIP_DOCKER is set).\n')
  else if (chosen.some((name) => areas[name].engine)) {
    await ensureEngine()
    await ensureBaseImage()
  }
  const built = await attached(node24Path(), ['sidecar/scripts/bundle.ts'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  if (built !== 0) throw new Refusal('The sidecar could not be bundled; the reason stands above.')
}

/** Runs files on the pinned Node, shows what the runner says, and counts. */
function runTests(files, flags) {
  return new Promise((resolve) => {
    const child = spawn(
      node24Path(),
      ['--test', '--test-reporter=spec', '--test-timeout=300000', '--test-force-exit', ...flags, ...files],
      {
        cwd: root,
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    const counts = { pass: 0, fail: 0, skipped: 0 }
    createInterface({ input: child.stdout }).on('line', (line) => {
      process.stdout.write(`${line}\n`)
      const [, name, number] = /^ℹ (pass|fail|cancelled|skipped) (\d+)$/.exec(line) ?? []
      if (name) counts[name === 'cancelled' ? 'fail' : name] += Number(number)
    })
    child.once('close', (status) => resolve({ ...counts, status }))
  })
}

run(async () => {
  const asked = process.argv.slice(2)
  if (asked.includes('--help') || asked.includes('-h')) return void process.stdout.write(`${usage}\n`)
  const unknown = asked.filter((name) => !Object.hasOwn(areas, name))
  if (unknown.length > 0) {
    process.stderr.write(`No area is called ${unknown.join(', ')}.\n${usage}\n`)
    process.exitCode = 2
    return
  }
  const chosen = asked.length > 0 ? [...new Set(asked)] : Object.keys(areas)
  await prepare(chosen)
  const result = await runTests(
    chosen.flatMap((name) => areas[name].files),
    ['--test-concurrency=2'],
  )
  process.stdout.write(`${result.pass} passed, ${result.fail} failed, ${result.skipped} skipped\n`)
  process.exitCode = result.status === 0 && result.pass > 0 ? 0 : 1
})
