import { Failure, type FailureCode } from '@atoll/protocol'

const meanings: Readonly<Record<string, readonly [FailureCode, string]>> = {
  ENOENT: ['file.not_found', 'does not exist'],
  EEXIST: ['file.exists', 'exists already'],
  ENOTDIR: ['file.not_a_directory', 'is not a directory, or one of its parents is not'],
  EISDIR: ['file.is_a_directory', 'is a directory'],
  ENOTEMPTY: ['file.not_empty', 'is a directory that is not empty'],
  EACCES: ['file.permission', 'may not be touched by the sandbox user'],
  EPERM: ['file.permission', 'may not be touched by the sandbox user'],
  EROFS: ['file.permission', 'is on a read-only file system'],
  EBUSY: ['file.permission', 'is in use by the system'],
  ENOSPC: ['file.disk_full', 'does not fit: the disk of the sandbox is full'],
  EDQUOT: ['file.disk_full', 'does not fit: the disk of the sandbox is full'],
  EFBIG: ['file.disk_full', 'is larger than the disk of the sandbox takes'],
  ENAMETOOLONG: ['file.invalid_path', 'is too long for a path'],
  ELOOP: ['file.invalid_path', 'is a circle of links'],
  EINVAL: ['file.invalid_path', 'is not a place that this can be done to'],
  ENXIO: ['file.invalid_path', 'is not a regular file'],
}

export const errnoOf = (thrown: unknown): string => (thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '')

/** The failure of a file operation as callers know it; anything that is not one of the file system is returned as it is. */
export function fileFailure(thrown: unknown, subject: string): unknown {
  if (thrown instanceof Failure) return thrown
  const meaning = meanings[errnoOf(thrown)]
  return meaning ? new Failure(meaning[0], `${subject} ${meaning[1]}.`, { cause: thrown }) : thrown
}
