// The user's secrets as files, one each, on a memory file system.
import { rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'

export interface SecretFiles {
  readonly secrets: Readonly<Record<string, string>>
  /** Names whose files go. */
  readonly gone: readonly string[]
}

const fileName = /^[A-Za-z_]\w*$/

export async function writeSecretFiles(directory: string, { secrets, gone }: SecretFiles): Promise<void> {
  for (const name of gone) if (fileName.test(name)) await rm(path.join(directory, name), { force: true })
  for (const [name, value] of Object.entries(secrets)) {
    // Whatever else is a name in the environment could lead out of the directory.
    if (!fileName.test(name)) continue
    const draft = path.join(directory, `.${name}`)
    await rm(draft, { force: true })
    await writeFile(draft, value, { mode: 0o400, flag: 'wx' })
    await rename(draft, path.join(directory, name))
  }
}
