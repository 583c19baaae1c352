// `/etc/atoll/harnesses.json`: what an image says of its harnesses, after each of them was run.
import { z } from 'zod'

export const manifestHarness = z.object({
  id: z.string().min(1),
  label: z.string().min(1),
  version: z.string().min(1),
  /** Name on PATH. */
  command: z.string().min(1),
  /** Ways of driving it, the best first. */
  routes: z.array(z.string()),
  mcp: z.boolean(),
  skills: z.boolean(),
  subagents: z.boolean(),
  models_api: z.string(),
  /** In the user's home; folders end in a slash. */
  credential_locations: z.array(z.string()),
  credential_env: z.array(z.string()),
})

export const manifest = z.object({ generation: z.literal(1), harnesses: z.array(manifestHarness) })

export type ManifestHarness = z.infer<typeof manifestHarness>
export type Manifest = z.infer<typeof manifest>
