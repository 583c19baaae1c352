import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { Watch } from './watch.ts'

test('changes are told on a file system that gives no notice of them', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'atoll-watch-'))
  const told = new EventEmitter()
  const watch = new Watch({
    root: { path: '/shown', real: folder },
    isRecursive: true,
    emit: (event) => told.emit(event.type, event),
    onError: (error) => told.emit('error', error),
    notice: () => {
      throw new Error('ENOSPC: no watches are left')
    },
  })
  try {
    await watch.start()
    const created = once(told, 'created')
    mkdirSync(path.join(folder, 'new'))
    writeFileSync(path.join(folder, 'new/f'), '1')
    assert.deepEqual(await created, [{ type: 'created', path: '/shown/new' }])
    const removed = once(told, 'removed')
    rmSync(path.join(folder, 'new'), { recursive: true })
    assert.equal((await removed)[0].type, 'removed')
  } finally {
    watch.close()
    rmSync(folder, { recursive: true, force: true })
  }
})
