import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Command } from 'commander'
import { createProgram } from './program.ts'

function helpOf(command: Command): string {
  let text = ''
  command.configureOutput({
    writeOut: (piece) => {
      text += piece
    },
  })
  command.outputHelp()
  return text
}

test('every command says what it does, and shows an example', () => {
  const program = createProgram()
  const commands = [program, ...program.commands.flatMap((command) => (command.commands.length > 0 ? command.commands : [command]))]
  assert.ok(commands.length > 15)
  for (const command of commands) {
    assert.notEqual(command.description(), '')
    assert.match(helpOf(command), /Example:\n {2}\$ atoll/, command.name())
  }
})
