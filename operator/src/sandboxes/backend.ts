// Which runtime a creation asks for.
import { type CreateSandbox, Failure, type RuntimeName } from '@atoll/protocol'

/** The names that may stand in `metadata_json.runtime_backend` and in the setting, by what they mean. */
const aliases: Readonly<Record<string, RuntimeName>> = {
  docker: 'docker',
  container: 'docker',
  firecracker: 'firecracker',
  microvm: 'firecracker',
  tee: 'tee',
  confidential: 'tee',
  'confidential-vm': 'tee',
  namespace: 'namespace',
  bubblewrap: 'namespace',
}

/** @throws Failure `runtime.unknown` */
export function runtimeNamed(name: string): RuntimeName {
  const key = name.trim().toLowerCase()
  const runtime = Object.hasOwn(aliases, key) ? aliases[key] : undefined
  if (!runtime) throw new Failure('runtime.unknown', `No runtime is called "${name}". Use one of ${Object.keys(aliases).join(', ')}.`)
  return runtime
}

/** The runtime asked for, or undefined for the operator's default. @throws Failure `runtime.unknown`, `request.invalid` */
export function requestedRuntime(spec: CreateSandbox): RuntimeName | undefined {
  const name = spec.metadata_json.runtime_backend ?? spec.metadata_json.runtime?.backend
  const asked = name === undefined || name.trim() === '' ? undefined : runtimeNamed(name)
  if (!spec.tee_required) return asked
  if (asked !== undefined && asked !== 'tee') {
    throw new Failure('request.invalid', `tee_required cannot be combined with the runtime ${asked}. Leave one of them out.`)
  }
  return 'tee'
}
