// An operator whose sandboxes have the real coding agents: from an image on docker, from a folder that is lent on namespace.
import { mkdirSync, mkdtempSync, symlinkSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { harnessFolder } from './harness-folder.ts'
import { harnessImage } from './harness-image.ts'
import type { TestRuntime } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

/** @param prepare makes files in the operator's folder, and answers settings that name them */
export async function startWithHarnesses(
  runtime: TestRuntime,
  prepare: (folder: string) => Readonly<Record<string, string>> = () => ({}),
): Promise<TestOperator> {
  const image = runtime === 'docker' ? { SIDECAR_IMAGE: await harnessImage() } : {}
  const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-test-'))
  const state = path.join(folder, 'state')
  mkdirSync(state, { mode: 0o711 })
  if (runtime === 'namespace') symlinkSync(await harnessFolder(), path.join(state, 'harnesses'))
  return startOperator({ runtime, folder, env: { ...prepare(folder), ...image } })
}
