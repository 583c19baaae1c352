// The harnesses there are. A new one is a file in harnesses/ and a line here.
import type { Harness } from './harness.ts'
import { claudeCode } from './harnesses/claude-code.ts'
import { echo } from './harnesses/echo.ts'

export interface Registry {
  readonly all: readonly Harness[]
  find(id: string): Harness | undefined
}

const all: readonly Harness[] = [claudeCode, echo]

export const registry: Registry = {
  all,
  find: (id) => all.find((harness) => harness.id === id),
}
