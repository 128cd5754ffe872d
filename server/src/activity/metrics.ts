/**
 * What a scraper sees at GET /metrics. Names and labels are stable: dashboards and alerts are built on them (docs/metrics.md). Nothing here
 * names a connection, a person or a path; `integration` is a name the operator chose.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Lookups } from '../lib/cache.ts'
import { createMetrics, type Reading } from '../lib/metrics.ts'
import type { Call } from './activity.ts'

export interface Observed {
  call(call: Call): void
  refresh(outcome: { kind: string }): void
  dropped(calls: number): void
  /** Spans no collector took. */
  untold(spans: number): void
  text(): Promise<string>
}

/** Read from the database or the process at every scrape. */
export interface Readers {
  /** Grants that are not simply active, by state. */
  unwell(): Promise<{ state: string; grants: number }[]>
  /** Presentations of a refresh token whose answer nobody has. */
  inDoubt(): Promise<number>
  /** Deliveries not made yet, and how long the oldest has been due, in seconds. */
  webhooks(): Promise<{ pending: number; lagSeconds: number }>
  /** How long the job that has been due longest has been so, in seconds. */
  jobLag(): Promise<number>
  /** Of the caches in front of the database, by name. */
  caches(): Record<string, Lookups>
  pool(): { open: number; idle: number; waiting: number }
}

const upstreamSeconds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const ownSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1]

export function observe(read: Readers): Observed {
  const metrics = createMetrics()
  const calls = metrics.counter('fairlead_proxy_calls_total', 'Calls through the proxy, by how they ended.', [
    'integration',
    'outcome',
    'status',
  ])
  const retries = metrics.counter('fairlead_proxy_retries_total', 'Requests to providers beyond the first of a call.', [
    'integration',
  ])
  const upstream = metrics.histogram(
    'fairlead_proxy_upstream_seconds',
    'From handing a request to the provider to the head of its answer.',
    ['integration'],
    upstreamSeconds,
  )
  const own = metrics.histogram(
    'fairlead_proxy_overhead_seconds',
    'From the arrival of a call to handing it to the provider: ours alone.',
    ['integration'],
    ownSeconds,
  )
  const bytes = metrics.counter('fairlead_proxy_bytes_total', 'Bytes of bodies on the wire.', [
    'integration',
    'direction',
  ])
  const repeated = metrics.counter(
    'fairlead_proxy_tokens_repeated_total',
    'Answers of providers that held the access token they were asked with.',
    ['integration'],
  )
  const refreshes = metrics.counter('fairlead_refreshes_total', 'Attempts at renewing a grant, by outcome.', [
    'outcome',
  ])
  const dropped = metrics.counter('fairlead_activity_dropped_total', 'Calls there was no room to record.')

  const untold = metrics.counter('fairlead_spans_dropped_total', 'Spans that the collector of traces did not take.')

  metrics.gauge('fairlead_grants_unwell', 'Grants that are not simply active, by state.', ['state'], async () =>
    (await read.unwell()).map(({ state, grants }): Reading => [[state], grants]),
  )
  metrics.gauge('fairlead_refreshes_in_doubt', 'Refresh tokens presented without an answer yet.', [], async () => [
    [[], await read.inDoubt()],
  ])
  metrics.gauge('fairlead_webhooks_pending', 'Deliveries not made yet.', [], async () => [
    [[], (await read.webhooks()).pending],
  ])
  metrics.gauge('fairlead_webhooks_lag_seconds', 'Since when the oldest delivery is due.', [], async () => [
    [[], (await read.webhooks()).lagSeconds],
  ])
  metrics.gauge('fairlead_jobs_lag_seconds', 'Since when the oldest job is due.', [], async () => [
    [[], await read.jobLag()],
  ])
  const results = ['hit', 'miss']
  metrics.tally('fairlead_cache_lookups_total', 'Asked of a cache, by whether it was there.', ['cache', 'result'], () =>
    Object.entries(read.caches()).flatMap(([cache, { hits, misses }]) =>
      [hits, misses].map((n, i): Reading => [[cache, results[i]!], n]),
    ),
  )
  metrics.gauge('fairlead_database_connections', 'Connections of the pool, by state.', ['state'], () => {
    const { open, idle, waiting } = read.pool()
    return [
      [['idle'], idle],
      [['busy'], open - idle],
      [['waited_for'], waiting],
    ]
  })

  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  metrics.gauge('fairlead_event_loop_delay_seconds', 'Since the last scrape.', ['quantile'], () => {
    const seconds = (nanoseconds: number) => nanoseconds / 1e9
    const readings: Reading[] = [
      [['0.5'], seconds(delay.percentile(50))],
      [['0.99'], seconds(delay.percentile(99))],
      [['1'], seconds(delay.max)],
    ]
    delay.reset()
    return readings
  })
  metrics.gauge('process_resident_memory_bytes', 'Resident memory of this process.', [], () => [
    [[], process.memoryUsage.rss()],
  ])
  metrics.gauge('process_cpu_seconds', 'CPU time of this process.', [], () => {
    const { user, system } = process.cpuUsage()
    return [[[], (user + system) / 1e6]]
  })

  return {
    call(call) {
      // A call that was sent nowhere may name what does not exist.
      const integration = call.host === undefined ? '' : call.integration
      calls([integration, call.outcome, call.error ?? String(call.status ?? '')])
      if (call.repeatsToken) repeated([integration])
      if (call.retries > 0) retries([integration], call.retries)
      if (call.bytesUp > 0) bytes([integration, 'up'], call.bytesUp)
      if (call.bytesDown > 0) bytes([integration, 'down'], call.bytesDown)
      if (call.sentAt === undefined) return
      own([integration], (call.sentAt - call.arrivedAt) / 1000)
      if (call.answeredAt !== undefined) upstream([integration], (call.answeredAt - call.sentAt) / 1000)
    },
    refresh: ({ kind }) => refreshes([kind]),
    dropped: calls => dropped([], calls),
    untold: spans => untold([], spans),
    text: () => metrics.text(),
  }
}
