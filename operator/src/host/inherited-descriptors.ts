// What the operator's own parent left open. Node keeps its descriptors from its children, but those that it inherited with a number
// beyond a gap would go on into every sandbox that is made by a process of ours.
import { closeSync, readdirSync, readFileSync } from 'node:fs'

const closeOnExec = 0o2000000

/** Closes every descriptor but the standard three that a child would inherit. */
export function closeInheritedDescriptors(): void {
  if (process.platform !== 'linux') return
  for (const name of readdirSync('/proc/self/fdinfo')) {
    const descriptor = Number(name)
    if (descriptor > 2 && isInheritable(name)) closeSync(descriptor)
  }
}

function isInheritable(name: string): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${name}`, 'utf8'))?.[1]
    return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0
  } catch {
    return false // The one with which the list was read.
  }
}
