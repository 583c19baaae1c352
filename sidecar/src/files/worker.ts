// The process that touches files. It runs as the sandbox user, so that it can do what the user can and nothing else.
import { once } from 'node:events'
import { constants } from 'node:fs'
import { access, mkdir, stat } from 'node:fs/promises'
import { Failure } from '@atoll/protocol'
import type { Config } from '../config.ts'
import type { Log } from '../log.ts'
import type { Call, Handler, Routes } from '../router.ts'
import { createServer } from '../server.ts'
import { describeEntry, list, type Move, makeDirectory, move, remove } from './entries.ts'
import { fileFailure } from './file-failure.ts'
import { killMarked, type ProcessMark } from './marked-processes.ts'
import { Paths } from './paths.ts'
import { type SecretFiles, writeSecretFiles } from './secret-files.ts'
import { takeSnapshot } from './snapshot.ts'
import { download, upload } from './transfer.ts'
import { sendChanges } from './watch-stream.ts'
import { workerSocket } from './worker-socket.ts'

const pathOf = ({ query }: Call): string => query.get('path') ?? ''

/** Failures of the file system become failures of the wire. */
const guarded = (routes: Routes): Routes => {
  const guard =
    (handler: Handler): Handler =>
    async (call) => {
      try {
        return await handler(call)
      } catch (error) {
        throw fileFailure(error, pathOf(call) || 'The path')
      }
    }
  return Object.fromEntries(Object.entries(routes).map(([key, handler]) => [key, guard(handler)]))
}

async function checkDirectory(directory: string): Promise<object> {
  if (!(await stat(directory)).isDirectory()) throw new Failure('file.not_a_directory', `${directory} is not a directory.`)
  await access(directory, constants.X_OK)
  return {}
}

function workerRoutes(config: Config, paths: Paths): Routes {
  const pace = { heartbeatMs: config.limits.heartbeatMs, stallMs: config.limits.readerStallMs }
  return guarded({
    'GET /files': (call) => list(paths, call.query.get('path') ?? '.'),
    'GET /files/stat': async (call) => describeEntry(await paths.entry(pathOf(call))),
    'GET /files/content': (call) => download(paths, call),
    'PUT /files/content': (call) => upload(paths, call),
    'POST /files/mkdir': async (call) => makeDirectory(paths, (await call.json<{ path: string }>()).path),
    'POST /files/move': async (call) => move(paths, await call.json<Move>()),
    'DELETE /files': (call) => remove(paths, pathOf(call), call.query.get('recursive') === 'true'),
    'GET /files/watch': (call) => sendChanges(paths, call, pace),
    // These are the sidecar's own questions; the operator cannot ask them.
    'GET /directory': (call) => checkDirectory(pathOf(call)),
    'POST /directory': async (call) => {
      await mkdir(pathOf(call), { recursive: true, mode: Number.parseInt(call.query.get('mode') ?? '755', 8) })
      return {}
    },
    'GET /snapshot': (call) => takeSnapshot(pathOf(call)),
    'POST /marked-processes': async (call) => killMarked(await call.json<ProcessMark>()),
    'PUT /secrets': async (call) => {
      await writeSecretFiles(config.secrets, await call.json<SecretFiles>())
      return {}
    },
  })
}

/** Serves, and says on standard output when it does. */
export async function startFileWorker(config: Config, log: Log, name: string): Promise<void> {
  process.umask(0o022)
  const paths = new Paths(config.workspace, [...new Set([config.user.home, config.workspace, '/tmp'])])
  const server = createServer({ routes: workerRoutes(config, paths), upgrades: {}, log })
  server.listen(workerSocket(name))
  await once(server, 'listening')
  process.stdout.write('ready\n')
  // When the sidecar ends, its end of this pipe closes.
  process.stdin.once('end', () => process.exit(0)).resume()
}
