// On which runtimes a test of the whole operator runs.
import { existsSync } from 'node:fs'

export type TestRuntime = 'namespace' | 'docker'

/** The runtimes of this machine; with the reason for one that is left out. */
export const testRuntimes: readonly { readonly name: TestRuntime; readonly skip: string | false }[] = [
  { name: 'namespace', skip: false },
  { name: 'docker', skip: skipDocker() },
]

function skipDocker(): string | false {
  if (process.env['ATOLL_TEST_SKIP_DOCKER'] === '1') return 'ATOLL_TEST_SKIP_DOCKER is set'
  return existsSync('/var/run/docker.sock') ? false : 'no container engine on this machine'
}
