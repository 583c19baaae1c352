// The sidecar's own directory on the host: what of it outlives a stop of the sandbox, and what does not.
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { sidecarPaths } from '@atoll/protocol/sidecar'

/** Takes away what an earlier run left: logs of processes that nobody remembers. Succeeds when there is no such directory. */
export async function clearSidecarState(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const passing = names.filter((name) => name !== sidecarPaths.lastingState)
  await Promise.all(passing.map((name) => rm(join(directory, name), { recursive: true, force: true })))
}
