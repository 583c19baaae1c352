// Prints the pages that come from code, so that they cannot part from it.
import { writeFileSync } from 'node:fs'
import { configurationTable } from '../operator/src/config.ts'
import { openapi } from '../operator/src/http/openapi.ts'
import packageJson from '../package.json' with { type: 'json' }

const page = `# Configuration

Every setting is an environment variable. Where two names stand, the first that is set counts. Sizes and times have the unit that the
meaning says; \`true\` and \`false\` are also written \`1\` and \`0\`. A name that begins with \`ATOLL_\` or \`SANDBOX_\` and is not here is reported
when the operator starts.

${configurationTable()}
`

const root = new URL('../', import.meta.url)
writeFileSync(new URL('docs/configuration.md', root), page)
writeFileSync(new URL('docs/openapi.json', root), `${JSON.stringify(openapi(packageJson.version), null, 2)}\n`)
