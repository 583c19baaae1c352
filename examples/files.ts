// Writes, reads, lists and watches files of a sandbox.
import { Atoll } from '@atoll/sdk'

const atoll = new Atoll()
await using sandbox = await atoll.sandboxes.create({ name: 'example-files' })
const { files } = sandbox

// Missing directories are made, and a file appears whole or not at all.
await files.write('notes/hello.txt', 'hello\n')
await files.write('notes/run.sh', '#!/bin/sh\nwc -c < notes/hello.txt\n', { mode: '755' })
console.log(`hello.txt says ${JSON.stringify(await files.readText('notes/hello.txt'))}`)
console.log(`run.sh counts ${(await sandbox.run('notes/run.sh')).stdout.trim()} bytes`)

for (const { name, type, size } of await files.list('notes')) console.log(`${type} ${name} ${size}`)

// What a command does to files is seen as it happens. The first event says that the watch is on.
for await (const event of files.watch('notes')) {
  if (event.type === 'ready') await sandbox.run('echo more >> notes/log.txt')
  if ('path' in event && event.path.endsWith('log.txt')) {
    console.log(`saw ${event.type} of log.txt`)
    break
  }
}

// Large files go as streams, in either direction, and are never held in memory whole.
await sandbox.run('head -c 20000000 /dev/zero > large.bin')
let bytes = 0
for await (const piece of await files.readStream('large.bin')) bytes += piece.length
console.log(`large.bin has ${bytes} bytes`)
