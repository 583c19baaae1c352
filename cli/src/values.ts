// Values as people type them.
import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { InvalidArgumentError } from 'commander'

/** Adds `KEY=VALUE` to those before it. */
export function addPair(text: string, pairs: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('Write KEY=VALUE.')
  return { ...pairs, [text.slice(0, at)]: text.slice(at + 1) }
}

/** Reads `KEY=VALUE` lines of a file. */
export function envFile(file: string): Record<string, string> {
  try {
    const entries = Object.entries(parseEnv(readFileSync(file, 'utf8')))
    return Object.fromEntries(entries.map(([key, value]) => [key, value ?? '']))
  } catch (error) {
    throw new InvalidArgumentError(`The file cannot be read: ${error instanceof Error ? error.message : String(error)}.`)
  }
}

/** Adds a port to those before it. */
export function addPort(text: string, ports: readonly number[] = []): number[] {
  return [...ports, port(text)]
}

export function port(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text) || Number(text) > 65_535) throw new InvalidArgumentError('A port is a number from 1 to 65535.')
  return Number(text)
}

/** 0 lets the system choose. */
export const portOrFree = (text: string): number => (text === '0' ? 0 : port(text))

export function number(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('Write a number.')
  return Number(text)
}

/** The number of a service, or `default`. */
export function serviceReference(text: string): number | 'default' {
  if (text === 'default') return text
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('Write the number of a service, or default.')
  return Number(text)
}

const unitSeconds: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 }

/** `90`, `90s`, `30m`, `2h`, `1d` in seconds. */
export function seconds(text: string): number {
  const [, count = '', unit = ''] = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text) ?? []
  const factor = unitSeconds[unit]
  if (count === '' || factor === undefined) throw new InvalidArgumentError('Write a time such as 90s, 30m or 2h.')
  return Math.round(Number(count) * factor)
}

const unitMb: Readonly<Record<string, number>> = { '': 1, m: 1, g: 1024 }

/** `512`, `512m`, `2g` in MiB. */
export function megabytes(text: string): number {
  const [, count = '', unit = ''] = /^(\d+(?:\.\d+)?)([mg]?)i?b?$/.exec(text.toLowerCase()) ?? []
  const factor = unitMb[unit]
  if (count === '' || factor === undefined) throw new InvalidArgumentError('Write a size such as 512m or 2g.')
  return Math.round(Number(count) * factor)
}

/** `10`, `10g` in GiB. */
export function gigabytes(text: string): number {
  const [, count = ''] = /^(\d+)g?i?b?$/.exec(text.toLowerCase()) ?? []
  if (count === '') throw new InvalidArgumentError('Write whole gigabytes, such as 10g.')
  return Number(count)
}
