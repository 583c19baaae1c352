// Numbers of a run, for people and as JSON.
import os from 'node:os'

export interface Row {
  readonly name: string
  readonly unit: 'ms' | 'MiB/s'
  readonly p50: number
  readonly p95: number
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
  return { name, unit, p50: percentile(samples, 0.5), p95: percentile(samples, unit === 'ms' ? 0.95 : 0.05) }
}

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
    `${' '.repeat(width)}        p50       p95`,
    ...rows.map(({ name, unit, p50, p95 }) => `${name.padEnd(width)} ${cell(p50)} ${cell(p95)}  ${unit}`),
    `${ratio.of}: ${ratio.value.toFixed(3)}`,
  ].join('\n')
}
