import { Failure } from '@atoll/sdk'
import { percentile, report, row } from './report.ts'
import { sidecarStartMs } from './sidecar-start.ts'
import { type Bench, size } from './subject.ts'

/** A cold sandbox to the first output of a command, over the bare runtime plus the sidecar's own start. */
export const benchCreate: Bench = async ({ atoll, runtime, bare, count, progress }) => {
  const ours: number[] = []
  const place: number[] = []
  const sidecar: number[] = []
  let image = ''
  const once = async (): Promise<number> => {
    const startedAt = performance.now()
    const sandbox = await atoll.sandboxes.create({ ...size, runtime })
    image = sandbox.info.image
    try {
      const { stdout } = await sandbox.exec(['echo', 'ready'])
      if (stdout !== 'ready\n') throw new Failure('internal', 'The sandbox did not answer.')
      return performance.now() - startedAt
    } finally {
      await sandbox.delete()
    }
  }
  // The first one finds cold caches on every side and counts for none.
  await once()
  await bare.create(image)
  await sidecarStartMs()
  for (let done = 1; done <= count; done++) {
    ours.push(await once())
    place.push(await bare.create(image))
    sidecar.push(await sidecarStartMs())
    progress(done, count)
  }
  const sum = percentile(place, 0.5) + percentile(sidecar, 0.5)
  return report({
    bench: 'create',
    runtime,
    count,
    rows: [row('Atoll: create and first output', ours), row(bare.name, place), row('sidecar alone, until it answers', sidecar)],
    ratio: { of: 'Atoll over the sum of its parts (p50)', value: percentile(ours, 0.5) / sum },
  })
}
