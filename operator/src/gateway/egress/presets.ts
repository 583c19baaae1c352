// The lists of hosts that a policy can take by name, as data.
import type { EgressPolicy } from '@atoll/protocol'
import { providerHosts } from '../providers.ts'

export const presetHosts: Readonly<Record<EgressPolicy['presets'][number], readonly string[]>> = {
  npm: ['registry.npmjs.org'],
  pypi: ['pypi.org', 'files.pythonhosted.org'],
  github: ['github.com', 'api.github.com', 'codeload.github.com', 'uploads.github.com', '*.githubusercontent.com'],
  debian: ['deb.debian.org', 'security.debian.org', 'cdn-fastly.deb.debian.org'],
  'model-apis': providerHosts,
}
