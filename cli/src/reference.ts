// Sandboxes as people name them: by id, by the beginning of an id, or by name.
import { sandboxStates } from '@atoll/protocol'
import { type Atoll, Failure, type Process, type Sandbox } from '@atoll/sdk'

interface Named {
  readonly id: string
  readonly name?: string
}

const idPrefix = 'sandbox-'

/** The one that is meant. A full id wins over a name, a name over the beginning of an id. @throws Failure `sandbox.not_found`, `sandbox.ambiguous` */
export function pick<T extends Named>(reference: string, all: readonly T[]): T {
  const ways: ((one: T) => boolean)[] = [
    ({ id }) => id === reference,
    ({ name }) => name === reference,
    ({ id }) => id.startsWith(reference) || id.startsWith(`${idPrefix}${reference}`),
  ]
  for (const way of ways) {
    const [found, ...more] = all.filter(way)
    if (found && more.length === 0) return found
    if (found) {
      const ids = [found, ...more].map(({ id }) => id)
      throw new Failure('sandbox.ambiguous', `"${reference}" may be any of ${ids.join(', ')}. Write more of the id.`)
    }
  }
  throw new Failure('sandbox.not_found', `Nothing of yours is called "${reference}". List sandboxes with: atoll ls`)
}

const fullId = /^sandbox-[0-9a-f-]{36}$/

/** @throws Failure `sandbox.not_found`, `sandbox.ambiguous` */
export async function findSandbox(atoll: Atoll, reference: string): Promise<Sandbox> {
  if (fullId.test(reference)) return atoll.sandboxes.get(reference)
  const all: Sandbox[] = []
  for await (const sandbox of atoll.sandboxes.list({ pageSize: 500, state: sandboxStates })) {
    all.push(sandbox)
  }
  return pick(reference, all)
}

/** @throws Failure `process.not_found`, `sandbox.ambiguous` */
export async function findProcess(sandbox: Sandbox, reference: string): Promise<Process> {
  const all = await sandbox.processes.list()
  const found = all.filter(({ id, info }) => id === reference || String(info.pid) === reference)
  const [only] = found.length > 0 ? found : all.filter(({ id }) => id.startsWith(reference))
  if (only && (found.length === 1 || all.filter(({ id }) => id.startsWith(reference)).length === 1)) return only
  if (only) throw new Failure('sandbox.ambiguous', `"${reference}" may be several processes. Write more of the id.`)
  throw new Failure('process.not_found', `No process "${reference}" in ${sandbox.id}. List them with: atoll ps ${sandbox.id}`)
}
