// npm run check: lint, types, dead code, architecture, unit tests. Says what failed, and how long each took.
import { unitTests } from './areas.mjs'
import { command, ensureNodeModules, node24Path, root, run } from './machine.mjs'

const bin = (name) => `${root}/node_modules/.bin/${name}`
const node = (...args) => [node24Path(), args]

const checks = {
  lint: [bin('biome'), ['ci', '--colors=off', '--error-on-warnings', '.']],
  types: [bin('tsc'), ['-p', '.']],
  'dead code': node('node_modules/knip/bin/knip.js', '--no-progress'),
  architecture: node('--test', 'tests/architecture.test.ts', 'tests/docs.test.ts'),
  'unit tests': node('--test', '--test-isolation=none', '--test-reporter=spec', ...unitTests),
}

run(async () => {
  await ensureNodeModules({ dev: true })
  const failed = []
  const check = async ([name, [program, args]]) => {
    const startedAt = Date.now()
    const { status, output } = await command(program, args, { cwd: root, env: { NO_COLOR: '1' } })
    const seconds = ((Date.now() - startedAt) / 1000).toFixed(1)
    const count = name === 'unit tests' ? /^ℹ pass (\d+)$/m.exec(output)?.[1] : undefined
    process.stdout.write(`${status === 0 ? '✔' : '✖'} ${name}${count ? ` (${count})` : ''} ${seconds} s\n`)
    if (status !== 0) failed.push(`\n── ${name}\n${output}`)
  }
  // Two at a time: more would only wait for one another on a small machine.
  const entries = Object.entries(checks)
  const worker = async () => {
    for (let next = entries.shift(); next; next = entries.shift()) await check(next)
  }
  await Promise.all([worker(), worker()])
  process.stdout.write(failed.join('\n'))
  process.exitCode = failed.length === 0 ? 0 : 1
})
