// What is mounted on the host, from the kernel's own table.
import { readFile } from 'node:fs/promises'
import { runCommand } from './command.ts'

/** A blank, tab, newline or backslash in a path is written as an octal escape. */
const decodeEscapes = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/** Mount points at or below a directory, the deepest first. `directory` is absolute and free of links. */
export async function mountsBelow(directory: string): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8')
  return table
    .split('\n')
    .map((line) => decodeEscapes(line.split(' ')[4] ?? ''))
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .sort((a, b) => b.length - a.length)
}

export const isMounted = async (directory: string): Promise<boolean> => (await mountsBelow(directory)).includes(directory)

/** Takes away every mount at or below a directory; one that is in use goes when its last user does. Safe to repeat. */
export async function unmountBelow(directory: string): Promise<void> {
  for (const point of await mountsBelow(directory)) {
    try {
      await runCommand('umount', [point])
    } catch (error) {
      if (!(await isMounted(point))) continue
      await runCommand('umount', ['--lazy', point]).catch((cause: unknown) => {
        throw new Error(`${point} could not be unmounted`, { cause: [error, cause] })
      })
    }
  }
}
