import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Failure } from '@atoll/sdk'
import { percentile, report, row } from './report.ts'
import { type Bench, type Invocation, size, timed } from './subject.ts'

const mebibytes = 256
const bytes = mebibytes * 1_048_576
/** Text: what agents print. Zero bytes would measure how JSON spells them. */
const command = ['sh', '-c', `head -c ${bytes} /dev/zero | tr '\\0' 'x'`]

/** A long output, over the pipe of the command that a person would type. */
export const benchStream: Bench = async ({ atoll, runtime, bare, count, progress }) => {
  await using sandbox = await atoll.sandboxes.create({ ...size, runtime })
  const rate = (ms: number): number => mebibytes / (ms / 1000)
  const ours: number[] = []
  const theirs: number[] = []
  const throughAtoll = async (): Promise<void> => {
    let read = 0
    const { exitCode } = await sandbox.run(command, {
      collect: false,
      onStdout: (text) => {
        read += text.length
      },
    })
    assertWhole(read, exitCode)
  }
  for (let done = 1; done <= count; done++) {
    ours.push(rate(await timed(throughAtoll)))
    theirs.push(rate(await timed(() => readToEnd(bare.invocation(sandbox, command)))))
    progress(done, count)
  }
  return report({
    bench: 'stream',
    runtime,
    count,
    rows: [row(`Atoll: ${mebibytes} MiB through run()`, ours, 'MiB/s'), row(`${bare.invocationName}, its pipe`, theirs, 'MiB/s')],
    ratio: { of: `Atoll over ${bare.invocationName} (p50)`, value: percentile(ours, 0.5) / percentile(theirs, 0.5) },
  })
}

function assertWhole(read: number, code: number | null): void {
  if (read !== bytes || code !== 0) throw new Failure('internal', `Read ${read} of ${bytes} bytes; the command ended with ${code}.`)
}

async function readToEnd([program, ...args]: Invocation): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let read = 0
  child.stdout.on('data', (chunk: Buffer) => {
    read += chunk.length
  })
  const [code] = await once(child, 'close')
  assertWhole(read, code)
}
