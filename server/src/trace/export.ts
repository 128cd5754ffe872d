/**
 * Spans to a collector: OTLP/HTTP with JSON (opentelemetry.io/docs/specs/otlp), in batches, through the one way out. Nothing waits for it: what
 * a slow or absent collector leaves no room for is dropped and counted.
 */
import type { Log } from '../lib/log.ts'
import { minutes, seconds } from '../lib/time.ts'
import type { Egress } from '../seams.ts'
import type { TracingSettings } from './settings.ts'

export type Attributes = Record<string, string | number | boolean | undefined>

/** One that has ended. Instants in milliseconds since the epoch. */
export interface EndedSpan {
  traceId: string
  spanId: string
  parentId: string | undefined
  name: string
  kind: Kind
  startedAt: number
  endedAt: number
  attributes: Attributes
  failed: boolean
}

/** As OTLP counts them. */
export type Kind = 1 | 2 | 3
export const inside: Kind = 1
export const serving: Kind = 2
export const asking: Kind = 3

/** What OpenTelemetry's own batches hold. A span is some 600 bytes here: a megabyte. */
const mostWaiting = 2_048
const mostAtOnce = 512
const flushEvery = seconds(1)
const answerWithin = seconds(10)
const drainWithin = seconds(2)

export interface Exporter {
  add(span: EndedSpan): void
  close(): Promise<void>
}

interface Deps {
  egress: Egress
  settings: TracingSettings
  version: string
  log: Log
  onDropped(spans: number): void
}

export function createExporter({ egress, settings, version, log, onDropped }: Deps): Exporter {
  let waiting: EndedSpan[] = []
  let sending: Promise<void> | undefined
  let saidAt = Number.NEGATIVE_INFINITY

  const headers = () => ({
    'Content-Type': 'application/json',
    ...Object.fromEntries(Object.entries(settings.headers).map(([name, value]) => [name, value.reveal()])),
  })

  async function send(): Promise<void> {
    const batch = waiting.slice(0, mostAtOnce)
    if (batch.length === 0) return
    const body = JSON.stringify(otlp(batch, settings.resource, version))
    let reason: string
    try {
      const ask = { method: 'POST', url: settings.url, headers: headers(), body } as const
      const { status } = await egress.request({ ...ask, deadlineMs: answerWithin, maxBytes: 64 * 1024 })
      if (status < 300) {
        waiting = waiting.slice(batch.length)
        return
      }
      reason = `HTTP ${status}`
      // What it cannot take now it will never take (OTLP, "Failures"): only these are worth another try.
      if (![429, 502, 503, 504].includes(status)) {
        waiting = waiting.slice(batch.length)
        onDropped(batch.length)
      }
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error)
    }
    if (performance.now() - saidAt < minutes(1)) return
    saidAt = performance.now()
    log.warn({ collector: settings.url.host, reason, waiting: waiting.length }, 'traces could not be handed over')
  }

  const flush = () => {
    sending ??= send().finally(() => {
      sending = undefined
    })
    return sending
  }
  const timer = setInterval(() => void flush(), flushEvery)
  timer.unref()

  return {
    add(span) {
      if (waiting.length >= mostWaiting) return onDropped(1)
      waiting.push(span)
      if (waiting.length === mostAtOnce) void flush()
    },
    async close() {
      clearInterval(timer)
      const until = performance.now() + drainWithin
      const late = new Promise(resolve => setTimeout(resolve, drainWithin).unref())
      for (let left = Number.POSITIVE_INFINITY; waiting.length > 0 && waiting.length < left; ) {
        left = waiting.length
        await Promise.race([flush(), late])
        if (performance.now() >= until) return
      }
    },
  }
}

/** Nanoseconds do not fit a number, and a double has no room for a millisecond's parts at this distance from 1970 but microseconds. */
const nanoseconds = (ms: number): string => `${Math.round(ms * 1_000)}000`

const value = (of: string | number | boolean) =>
  typeof of === 'string'
    ? { stringValue: of }
    : typeof of === 'boolean'
      ? { boolValue: of }
      : Number.isInteger(of)
        ? { intValue: String(of) }
        : { doubleValue: of }

const attributesOf = (attributes: Attributes) =>
  Object.entries(attributes).flatMap(([key, one]) => (one === undefined ? [] : [{ key, value: value(one) }]))

const otlp = (spans: EndedSpan[], resource: Attributes, version: string) => ({
  resourceSpans: [
    {
      resource: { attributes: attributesOf({ ...resource, 'service.version': version }) },
      scopeSpans: [
        {
          scope: { name: 'fairlead', version },
          spans: spans.map(span => ({
            traceId: span.traceId,
            spanId: span.spanId,
            ...(span.parentId !== undefined && { parentSpanId: span.parentId }),
            name: span.name,
            kind: span.kind,
            startTimeUnixNano: nanoseconds(span.startedAt),
            endTimeUnixNano: nanoseconds(span.endedAt),
            attributes: attributesOf(span.attributes),
            status: span.failed ? { code: 2 } : {},
          })),
        },
      ],
    },
  ],
})
