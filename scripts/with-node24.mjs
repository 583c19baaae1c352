// Runs a program of the repository on the pinned Node: with-node24.mjs FILE ARGUMENTS…
import { existsSync } from 'node:fs'
import { attached, node24Path, Refusal, run } from './machine.mjs'

run(async () => {
  if (!existsSync(node24Path())) throw new Refusal('The packages from npm are not installed. Type:\n  npm install')
  process.exitCode = await attached(node24Path(), process.argv.slice(2))
})
