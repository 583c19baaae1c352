import pino, { type Logger } from 'pino'

/** JSON lines on standard output. What is secret is of type Secret and prints as such; these paths are the second fence. */
export const createLog = (level: string): Logger =>
  pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: {
      paths: ['authorization', '*.authorization', 'headers.authorization', 'headers["x-api-key"]', 'headers.cookie'],
      censor: '[secret]',
    },
  })
