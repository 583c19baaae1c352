// Opens a terminal in a sandbox, types into it, leaves, and comes back to what it shows.
import { Atoll, type Terminal } from '@atoll/sdk'

const atoll = new Atoll()
await using sandbox = await atoll.sandboxes.create({ name: 'example-terminal' })

/** What the terminal shows, up to and with a text. */
async function readUntil(terminal: Terminal, text: string): Promise<string> {
  let shown = ''
  for await (const output of terminal.output()) {
    if (output.type === 'output') shown += output.text
    if (shown.includes(text)) break
  }
  return shown
}

const terminal = await sandbox.terminals.open({ cols: 100, rows: 30 })
await terminal.write('echo "the size is $(stty size)"\n')
await readUntil(terminal, 'the size is 30 100')
console.log('the terminal has 30 lines of 100 characters')

await terminal.resize(120, 40)
await terminal.write('echo "now it is $(stty size)"\n')
await readUntil(terminal, 'now it is 40 120')
console.log('and now 40 of 120')

// The shell lives on without a viewer. Whoever attaches gets the scrollback first.
const [info] = (await sandbox.terminals.list()).map((open) => open.info)
if (!info) throw new Error('The terminal is gone.')
const again = sandbox.terminals.attach(info)
console.log(`a second viewer sees ${(await readUntil(again, 'now it is 40 120')).match(/the size is \d+ \d+/)?.[0]}`)
await again.close()
