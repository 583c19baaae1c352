// The directories that the sidecar works in, made ready at its start.
import { chmodSync, chownSync, lstatSync, mkdirSync, statSync } from 'node:fs'
import type { Config, User } from './config.ts'
import { describe, type Log } from './log.ts'

/** Only for the sidecar. */
function makePrivate(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const { uid, mode } = statSync(directory)
  if (uid === process.getuid?.() && (mode & 0o777) !== 0o700) chmodSync(directory, 0o700)
}

/** The user's own. The mode is set before it is given away, because afterwards only the user may do that. */
function giveTo(user: User, directory: string, mode: number): void {
  mkdirSync(directory, { recursive: true, mode })
  const found = lstatSync(directory)
  // A link is the user's own, and leads wherever the user likes: what is there must not be given away.
  if (found.uid === user.uid || !found.isDirectory()) return
  if (found.uid === process.getuid?.()) chmodSync(directory, mode)
  chownSync(directory, user.uid, user.gid)
}

/**
 * Makes what is missing, and the home and workspace writable for the user. Answers what it could not make: the sidecar may not write
 * where only the user may, so the user has to. It is not fatal, because most of what a sandbox does works without it.
 */
export function prepareDirectories({ channel, state, workspace, secrets, user }: Config, log: Log): readonly string[] {
  const left: string[] = []
  makePrivate(channel)
  makePrivate(state)
  const owned: [string, number][] = [
    [workspace, 0o755],
    [user.home, 0o755],
    [secrets, 0o700],
  ]
  for (const [directory, mode] of owned) {
    try {
      giveTo(user, directory, mode)
    } catch (error) {
      log('warn', `${directory} is not ready for the sandbox user`, describe(error))
      left.push(directory)
    }
  }
  return left
}
