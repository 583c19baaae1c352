// What the operator advertises, from what was probed and nothing else.
import { type healthRoutes, ImageProbe as ImageProbeView, type RouteOutput } from '@atoll/protocol'
import type { ImageProbe, ProbedHarness } from './image-probes.ts'

type Capabilities = RouteOutput<typeof healthRoutes.capabilities>

const seconds = (ms: number): number => Math.floor(ms / 1000)

const viewOf = ({ runtime, image, imageId, harnesses, problems, probedAt }: ImageProbe) =>
  ImageProbeView.parse({
    runtime,
    image,
    image_id: imageId,
    harnesses: harnesses.map(({ id }) => id),
    problems,
    probed_at: seconds(probedAt),
  })

/** Each harness once, as the image that was probed last has it. */
function harnessesOf(probes: readonly ImageProbe[]): ProbedHarness[] {
  const newestLast = [...probes].sort((a, b) => a.probedAt - b.probedAt)
  const byId = new Map(newestLast.flatMap(({ harnesses }) => harnesses.map((harness) => [harness.id, harness])))
  return [...byId.values()]
}

export function capabilitiesOf(probes: readonly ImageProbe[]): Pick<Capabilities, 'capabilities' | 'harnesses' | 'images' | 'evidence'> {
  const harnesses = harnessesOf(probes)
  const proving = probes.filter((probe) => probe.harnesses.length > 0)
  return {
    capabilities:
      harnesses.length === 0
        ? []
        : [
            {
              id: 'all_harness',
              label: 'All Harness Runtime',
              description: `Enable the open-source all-harness agent runtime: ${harnesses.map(({ label }) => label).join(', ')}.`,
            },
          ],
    harnesses: harnesses.map(({ id, label, mcp, skills, subagents }) => ({ id, label, mcp, skills, subagents })),
    images: probes.map(viewOf),
    evidence: proving.map(({ runtime, image, imageId, probedAt }) => ({
      capability: 'all_harness',
      runtime,
      image,
      image_id: imageId,
      probe: 'blueprint-verify-harnesses --json',
      probed_at: seconds(probedAt),
    })),
  }
}
