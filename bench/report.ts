// Numbers of a run, for people and as JSON.
import os from 'node:os'

export interface Row {
  readonly name: string
  readonly unit: 'ms' | 'MiB/s' | 'events/s'
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

export interface Report {
  readonly bench: string
  readonly runtime: string
  readonly count: number
  readonly rows: readonly Row[]
  /** Atoll over the bare parts, by their p50. */
  readonly ratio: { readonly of: string; readonly value: number }
  readonly machine: {
    readonly processors: number
    readonly model: string
    readonly kernel: string
    readonly node: string
    readonly load: number
  }
}

/** The value that this share of the samples does not exceed. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN
}

/** For rates, where less is worse, p95 is what 95 of 100 runs reach. */
export function row(name: string, samples: readonly number[], unit: Row['unit'] = 'ms'): Row {
  const at = (share: number): number => percentile(samples, unit === 'ms' ? share : 1 - share)
  return { name, unit, p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}

/** How much later the same share of one row is than of another. */
export const difference = (name: string, one: Row, other: Row): Row => ({
  name,
  unit: one.unit,
  p50: one.p50 - other.p50,
  p95: one.p95 - other.p95,
  p99: one.p99 - other.p99,
})

export const report = (parts: Omit<Report, 'machine'>): Report => ({
  ...parts,
  machine: {
    processors: os.availableParallelism(),
    model: os.cpus()[0]?.model ?? 'unknown',
    kernel: os.release(),
    node: process.version,
    load: os.loadavg()[0] ?? 0,
  },
})

export function describe({ bench, runtime, count, rows, ratio, machine }: Report): string {
  const width = Math.max(...rows.map(({ name }) => name.length))
  const cell = (value: number): string => value.toFixed(value < 10 ? 2 : 1).padStart(9)
  return [
    `${bench} on ${runtime}, ${count} times (${machine.processors} processors, load ${machine.load.toFixed(1)})`,
    `${' '.repeat(width)}        p50       p95       p99`,
    ...rows.map(({ name, unit, p50, p95, p99 }) => `${name.padEnd(width)} ${cell(p50)} ${cell(p95)} ${cell(p99)}  ${unit}`),
    `${ratio.of}: ${ratio.value.toFixed(3)}`,
  ].join('\n')
}
