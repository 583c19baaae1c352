import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Failure } from '@atoll/sdk'
import { percentile, report, row } from './report.ts'
import { type Bench, type Invocation, size, timed } from './subject.ts'

/** `true` in a running sandbox over HTTP, over the command that a person would type. */
export const benchExec: Bench = async ({ atoll, runtime, bare, count, progress }) => {
  await using sandbox = await atoll.sandboxes.create({ ...size, runtime })
  const ours: number[] = []
  const theirs: number[] = []
  const viaHttp = async (): Promise<void> => {
    const { exit_code: code } = await sandbox.exec(['true'])
    if (code !== 0) throw new Failure('internal', `true ended with ${code}.`)
  }
  const byHand = (): Promise<void> => runToEnd(bare.invocation(sandbox, ['true']))
  await viaHttp()
  await byHand()
  for (let done = 1; done <= count; done++) {
    ours.push(await timed(viaHttp))
    theirs.push(await timed(byHand))
    progress(done, count)
  }
  return report({
    bench: 'exec',
    runtime,
    count,
    rows: [row('Atoll: exec true over HTTP', ours), row(`${bare.invocationName} true`, theirs)],
    ratio: { of: `Atoll over ${bare.invocationName} (p50)`, value: percentile(ours, 0.5) / percentile(theirs, 0.5) },
  })
}

async function runToEnd([program, ...args]: Invocation): Promise<void> {
  const [code] = await once(spawn(program, args, { stdio: 'ignore' }), 'exit')
  if (code !== 0) throw new Failure('internal', `${program} ${args.join(' ')} ended with ${code}.`)
}
