// Prometheus metrics: the reference operator's names, and ours beside them under `atoll_`.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Store } from '../sandboxes/store.ts'

const buckets = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 5000]

export interface HttpSample {
  /** Route template, or `unmatched`. */
  readonly path: string
  readonly method: string
  readonly status: number
  readonly durationMs: number
}

export class Metrics {
  readonly #registry = new Registry()
  readonly #requests = this.#counter('http_requests_total', 'Requests.', ['path'])
  readonly #durationTotal = this.#counter('http_request_duration_ms_total', 'Milliseconds spent on requests.', ['path'])
  readonly #serverErrors = this.#counter('http_request_errors_total', 'Requests answered with 5xx.', ['path'])
  readonly #clientErrors = this.#counter('http_request_client_errors_total', 'Requests answered with 4xx.', ['path'])
  readonly #rateLimited = this.#counter('rate_limit_rejections_total', 'Requests refused by a rate limit.', [])
  readonly #answers = this.#counter('atoll_http_answers_total', 'Answers by route, method and status.', ['path', 'method', 'status'])
  readonly #reapedIdle = this.#counter('sandbox_reaped_idle', 'Sandboxes stopped because they were idle.', [])
  readonly #reapedLifetime = this.#counter('sandbox_reaped_lifetime', 'Sandboxes ended at the end of their lifetime.', [])
  readonly #duration = new Histogram({
    name: 'http_request_duration_ms',
    help: 'Milliseconds until the answer was complete.',
    labelNames: ['path'],
    buckets,
    registers: [this.#registry],
  })
  readonly #startedJobs = this.#counter('sandbox_total_jobs', 'Sandboxes asked for.', [])
  readonly #failedJobs = this.#counter('sandbox_failed_jobs', 'Sandboxes that could not be made.', [])
  readonly #creation = new Histogram({
    name: 'atoll_sandbox_creation_ms',
    help: 'Milliseconds from the request until the sandbox ran.',
    labelNames: ['runtime'],
    buckets: [25, 50, 100, 250, 500, 1000, 2500, 5000, 15_000, 60_000],
    registers: [this.#registry],
  })
  #peak = 0

  constructor(store: Store) {
    collectDefaultMetrics({ register: this.#registry, prefix: 'atoll_' })
    this.#gauge('sandbox_active_sandboxes', 'Sandboxes that take room.', async () => (await store.usage()).sandboxes)
    this.#gauge('sandbox_allocated_cpu_cores', 'CPU cores of running sandboxes.', async () => (await store.usage()).cpuCores)
    this.#gauge('sandbox_allocated_memory_mb', 'Memory of running sandboxes.', async () => (await store.usage()).memoryMb)
    this.#gauge('sandbox_peak_sandboxes', 'Most sandboxes seen at once since start.', async () => {
      this.#peak = Math.max(this.#peak, (await store.usage()).sandboxes)
      return this.#peak
    })
  }

  request({ path, method, status, durationMs }: HttpSample): void {
    this.#requests.inc({ path })
    this.#durationTotal.inc({ path }, durationMs)
    this.#duration.observe({ path }, durationMs)
    this.#answers.inc({ path, method, status: String(status) })
    if (status >= 500) this.#serverErrors.inc({ path })
    else if (status >= 400) this.#clientErrors.inc({ path })
  }

  rateLimited(): void {
    this.#rateLimited.inc()
  }

  creationStarted(): void {
    this.#startedJobs.inc()
  }

  creationDone(runtime: string, durationMs: number | undefined): void {
    if (durationMs === undefined) this.#failedJobs.inc()
    else this.#creation.observe({ runtime }, durationMs)
  }

  reaped(done: { idle: number; lifetime: number }): void {
    this.#reapedIdle.inc(done.idle)
    this.#reapedLifetime.inc(done.lifetime)
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  #gauge(name: string, help: string, read: () => Promise<number>): Gauge {
    return new Gauge({
      name,
      help,
      registers: [this.#registry],
      async collect() {
        this.set(await read())
      },
    })
  }
}
