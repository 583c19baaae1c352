/** The file worker listens on this socket in its working directory. */
export const workerSocketName = 'files.sock'
