/**
 * Where the worker listens: a name in the sandbox's own network and no file, so that it needs no directory and no room on a disk. Whoever
 * can connect there is the user that the worker is.
 */
export const workerSocket = (name: string): string => `\0atoll-files-${name}`
