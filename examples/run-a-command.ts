// Creates a sandbox, runs a command in it, and shows its output while it runs.
import { Atoll } from '@atoll/sdk'

const atoll = new Atoll() // ATOLL_URL and ATOLL_API_KEY say which operator and who asks
await using sandbox = await atoll.sandboxes.create({ name: 'example-run' })

const count = await sandbox.run('for i in 1 2 3; do echo "step $i"; sleep 0.3; done', {
  onStdout: (text) => void process.stdout.write(text),
})
console.log(`exit code ${count.exitCode} after ${Math.round(count.durationMs)} ms`)

// Input is text, bytes or a stream. A list is a program and its arguments, which no shell sees.
const sorted = await sandbox.run(['sort', '-r'], { stdin: 'apple\npear\nfig\n' })
console.log(sorted.stdout.trimEnd().split('\n').join(', '))

// A command that fails is a result, not an exception.
const failed = await sandbox.run('echo "no such thing" >&2; exit 3')
console.log(`exit code ${failed.exitCode}: ${failed.stderr.trimEnd()}`)

// A command that takes too long is ended with all that it started.
const late = await sandbox.run('sleep 60', { timeoutMs: 500 })
console.log(late.timedOut ? 'ended because its time was over' : 'ended by itself')
