// What images were found to be able to do, in SQLite.
import { RuntimeName } from '@atoll/protocol'
import { z } from 'zod'
import { type ImageProbe, type ImageProbeStore, ProbedHarness } from '../agents/image-probes.ts'
import type { Database } from './database.ts'

const json = <T extends z.ZodType>(schema: T) =>
  z
    .string()
    .transform((text): unknown => JSON.parse(text))
    .pipe(schema)

const ProbeRow = z
  .object({
    runtime: RuntimeName,
    image: z.string(),
    image_id: z.string(),
    probed_at: z.int(),
    harnesses_json: json(z.array(ProbedHarness)),
    problems_json: json(z.array(z.string())),
  })
  .transform(
    ({ image_id: imageId, probed_at: probedAt, harnesses_json: harnesses, problems_json: problems, ...rest }): ImageProbe => ({
      ...rest,
      imageId,
      probedAt,
      harnesses,
      problems,
    }),
  )

export const sqliteImageProbes = (db: Database): ImageProbeStore => ({
  list: async () => db.all('select * from image_probes order by runtime, image').map((row) => ProbeRow.parse(row)),
  save: async ({ runtime, image, imageId, probedAt, harnesses, problems }) => {
    db.run(
      `insert or replace into image_probes (runtime, image, image_id, probed_at, harnesses_json, problems_json)
       values (:runtime, :image, :imageId, :probedAt, :harnesses, :problems)`,
      { runtime, image, imageId, probedAt, harnesses: JSON.stringify(harnesses), problems: JSON.stringify(problems) },
    )
  },
  remove: async ({ runtime, image }) => {
    db.run('delete from image_probes where runtime = :runtime and image = :image', { runtime, image })
  },
})
