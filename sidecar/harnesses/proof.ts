// Puts the proof of a folder's harnesses beside them: `verify.ts` and the model that it plays, run as `blueprint-verify-harnesses`.
import { cp, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { placeScript } from './commands.ts'

const sources = ['harnesses', 'scripted-model'] as const
/** Folders and sources: no tests, no hidden files, and not what was downloaded. */
function isProof(file: string): boolean {
  const name = path.basename(file)
  if (name.startsWith('.') || name === 'downloads') return false
  return path.extname(name) === '' || (/\.(ts|json)$/.test(name) && !name.endsWith('.test.ts'))
}

export async function placeProof(folder: string): Promise<void> {
  const draft = await mkdtemp(path.join(folder, `.draft-${process.pid}-`))
  try {
    const verify = path.join(draft, 'verify')
    for (const name of sources) {
      const from = path.resolve(import.meta.dirname, '..', name)
      await cp(from, path.join(verify, name), { recursive: true, filter: isProof })
    }
    await writeFile(path.join(verify, 'package.json'), '{ "type": "module" }\n')
    await rename(path.join(folder, 'verify'), path.join(draft, 'old')).catch(() => undefined)
    await rename(verify, path.join(folder, 'verify'))
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
  await placeScript(folder, 'blueprint-verify-harnesses', 'verify/harnesses/verify.ts', '--folder "$here/.." ')
}
