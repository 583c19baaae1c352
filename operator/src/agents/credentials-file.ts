// Variables for agents alone, from a file of the operator's owner.
import { Environment, Failure } from '@atoll/protocol'
import { readPrivateFile } from '../secrets/private-file.ts'

const invalid = (path: string, what: string, cause?: unknown): Failure =>
  new Failure('config.invalid', `The agents' environment file ${path} ${what}`, { cause })

/** `NAME=value` lines; blank lines and lines that begin with # count for nothing. */
function linesOf(path: string, text: string): Record<string, string> {
  const lines = text.split('\n').map((line, index) => ({ line: line.trim(), number: index + 1 }))
  const entries = lines.filter(({ line }) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(
    entries.map(({ line, number }) => {
      const at = line.indexOf('=')
      if (at < 1) throw invalid(path, `has no NAME=value on line ${number}.`)
      return [
        line
          .slice(0, at)
          .replace(/^export\s+/, '')
          .trim(),
        line
          .slice(at + 1)
          .trim()
          .replace(/^(["'])(.*)\1$/, '$2'),
      ]
    }),
  )
}

/**
 * Read anew at each call, so that a key can be replaced while the operator runs. Without a path: none.
 * @throws Failure `config.invalid` when others can read it, or when it is not what it should be
 */
export async function readAgentEnvironment(path: string | undefined): Promise<Readonly<Record<string, string>>> {
  if (path === undefined) return {}
  const text = await readPrivateFile(path)
  if (text === undefined) throw invalid(path, 'does not exist. Make it, or take ATOLL_AGENT_ENV_FILE away.')
  const parsed = Environment.safeParse(linesOf(path, text))
  if (!parsed.success) throw invalid(path, `has a wrong entry: ${parsed.error.issues[0]?.message ?? 'unknown'}.`, parsed.error)
  return parsed.data
}
