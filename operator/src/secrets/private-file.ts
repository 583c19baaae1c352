// Small files that only their owner may read: the keys, the admin key.
import { randomUUID } from 'node:crypto'
import { link, mkdir, open, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { Failure } from '@atoll/protocol'

const isErrno = (error: unknown, code: string): boolean => error instanceof Error && 'code' in error && error.code === code

/**
 * The text of a file, or undefined when it does not exist.
 * @throws Failure `config.invalid` when anybody but its owner may read or change it
 */
export async function readPrivateFile(file: string): Promise<string | undefined> {
  const handle = await open(file, 'r').catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined
    throw new Failure('config.invalid', `${file} cannot be opened. Make it a file of the user that runs the operator.`, { cause: error })
  })
  if (!handle) return undefined
  try {
    // Asked of the open file, so that what was checked is what is read.
    const { mode } = await handle.stat()
    if ((mode & 0o077) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, '0')
      throw new Failure('config.invalid', `${file} holds secrets and others may use it (mode ${octal}). Run: chmod 600 ${file}`)
    }
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

/** Replaces a file in one step, mode 0600: after a crash there is the old text or the new one, whole. */
export async function writePrivateFile(file: string, text: string): Promise<void> {
  await written(file, text, async (draft) => {
    await rename(draft, file)
  })
}

/** Like `writePrivateFile`, but leaves a file that exists alone and says false. */
export async function createPrivateFile(file: string, text: string): Promise<boolean> {
  let isNew = true
  await written(file, text, async (draft) => {
    await link(draft, file).catch((error: unknown) => {
      if (!isErrno(error, 'EEXIST')) throw error
      isNew = false
    })
  })
  return isNew
}

async function written(file: string, text: string, place: (draft: string) => Promise<void>): Promise<void> {
  const folder = path.dirname(file)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const draft = path.join(folder, `.${path.basename(file)}.${randomUUID()}`)
  try {
    const handle = await open(draft, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await place(draft)
    await syncFolder(folder)
  } finally {
    await rm(draft, { force: true })
  }
}

/** A new name in a folder is durable when the folder is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
