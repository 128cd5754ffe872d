/**
 * Traces: how long what took inside one request, told to a collector. Imported by app.ts only when OTEL_* names one, and laid around the seams
 * and the listener from outside: no room knows of it, and where nobody asked for it nothing of it is on any path.
 *
 * A span holds names an operator chose, our codes, hosts and statuses. Never a URL, a query, a header, a body or a statement.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import { EgressError, Failure } from '../errors.ts'
import { errorHeader } from '../http/api.ts'
import type { Db, Egress, Trace } from '../seams.ts'
import { type Attributes, asking, type Exporter, inside, type Kind, serving } from './export.ts'
import type { TracingSettings } from './settings.ts'

export interface Tracing {
  /** A step beneath whatever is running. */
  trace: Trace
  /** Says something of what is running. */
  annotate(attributes: Attributes): void
  /** Requests to others are steps, and carry on the trace where a setting says so. */
  egress(egress: Egress): Egress
  /** Transactions are steps. */
  db(db: Db): Db
  /** Every request is a trace, or goes on with its caller's. */
  serving(serve: Serve): Serve
  /** At the router: by which of its patterns a request is served. */
  naming: MiddlewareHandler
  close(): Promise<void>
}

type Serve = (req: IncomingMessage, res: ServerResponse, requestId: string) => Promise<void>

interface Running {
  traceId: string
  spanId: string
  /** Not sampled: carried along, told to nobody. */
  sampled: boolean
  attributes: Attributes
  name: string
}

/** https://www.w3.org/TR/trace-context/#traceparent-header; a version above 00 may hold more behind it. */
const traceparent = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/

export function createTracing(settings: TracingSettings, exporter: Exporter): Tracing {
  const running = new AsyncLocalStorage<Running>()
  const now = () => performance.timeOrigin + performance.now()

  const isChosen = (traceId: string): boolean =>
    settings.ratio >= 1 || Number.parseInt(traceId.slice(-13), 16) < settings.ratio * 2 ** 52

  /** Begins a span; the function it returns ends it. */
  function begin(
    name: string,
    kind: Kind,
    attributes: Attributes,
    caller?: string,
  ): { span: Running; end(failed: boolean): void } {
    const [, callersTrace, callersSpan, flags = '00'] = traceparent.exec(caller ?? '') ?? []
    const parent = running.getStore()
    const traceId = parent?.traceId ?? callersTrace ?? randomBytes(16).toString('hex')
    const goesOn = settings.parentBased && callersTrace !== undefined
    const span: Running = {
      traceId,
      spanId: randomBytes(8).toString('hex'),
      sampled: parent?.sampled ?? (goesOn ? (Number.parseInt(flags, 16) & 1) === 1 : isChosen(traceId)),
      attributes,
      name,
    }
    const startedAt = now()
    const parentId = parent?.spanId ?? callersSpan
    return {
      span,
      end(failed) {
        if (!span.sampled) return
        const { spanId, attributes, name } = span
        exporter.add({ traceId, spanId, parentId, name, kind, startedAt, endedAt: now(), attributes, failed })
      },
    }
  }

  async function within<T>(
    name: string,
    kind: Kind,
    attributes: Attributes,
    work: (span: Running) => Promise<T>,
  ): Promise<T> {
    const { span, end } = begin(name, kind, attributes)
    try {
      const result = await running.run(span, () => work(span))
      end(false)
      return result
    } catch (error) {
      span.attributes['error.type'] =
        error instanceof Failure ? error.code : error instanceof EgressError ? error.phase : 'error'
      end(true)
      throw error
    }
  }

  const annotate = (attributes: Attributes) => {
    const span = running.getStore()
    if (span) Object.assign(span.attributes, attributes)
  }

  const parentOf = ({ traceId, spanId, sampled }: Running): string => `00-${traceId}-${spanId}-0${sampled ? 1 : 0}`

  return {
    trace: (name, attributes, work) => within(name, inside, attributes, work),

    annotate,

    egress: egress => ({
      ...egress,
      request: ask =>
        within(ask.method, asking, aboutRequest(ask.method, ask.url.host), async span => {
          const answer = await egress.request(ask)
          span.attributes['http.response.status_code'] = answer.status
          return answer
        }),
      dispatcher: {
        dispatch(options, handler) {
          const method = String(options.method)
          const { span, end } = begin(method, asking, aboutRequest(method, new URL(String(options.origin)).host))
          // The proxy hands over pairs, in order.
          const headers = settings.toProviders
            ? [...(options.headers as string[]), 'traceparent', parentOf(span)]
            : (options.headers as string[])
          return egress.dispatcher.dispatch(
            { ...options, headers },
            {
              onRequestStart: (controller, context) => handler.onRequestStart?.(controller, context),
              onResponseStart(controller, status, received, text) {
                if (status >= 200) span.attributes['http.response.status_code'] = status
                handler.onResponseStart?.(controller, status, received, text)
              },
              onResponseData: (controller, chunk) => handler.onResponseData?.(controller, chunk),
              onResponseEnd(controller, trailers) {
                end(false)
                handler.onResponseEnd?.(controller, trailers)
              },
              onResponseError(controller, error) {
                span.attributes['error.type'] = (error as NodeJS.ErrnoException).code ?? 'error'
                end(true)
                handler.onResponseError?.(controller, error)
              },
            },
          )
        },
      },
    }),

    db: db => ({
      ...db,
      transaction: work => within('transaction', inside, {}, () => db.transaction(work)),
    }),

    serving: serve => async (req, res, requestId) => {
      const [path = ''] = (req.url ?? '').split('?')
      if (path === '/health' || path === '/ready' || path === '/metrics') return serve(req, res, requestId)
      const method = /^[A-Z]{1,10}$/.test(req.method ?? '') ? req.method! : 'other'
      const about = { 'http.request.method': method, 'fairlead.request_id': requestId }
      // Whoever shows no key may not add to somebody's trace, nor have every page of a sign-in written down.
      const caller = req.headers.authorization === undefined ? undefined : req.headers.traceparent?.toString()
      const { span, end } = begin(method, serving, about, caller)
      const closed = new Promise(resolve => res.once('close', resolve))
      await running.run(span, () => serve(req, res, requestId))
      await closed
      const { statusCode } = res
      span.attributes['http.response.status_code'] = statusCode
      const route = span.attributes['http.route']
      if (route) span.name = `${method} ${route}`
      end(statusCode >= 500)
    },

    async naming(c, next) {
      await next()
      // The pattern, never what stood in its place. The last one that matched is the handler's.
      annotate({ 'http.route': routePath(c, -1), 'error.type': c.res.headers.get(errorHeader) ?? undefined })
    },

    close: () => exporter.close(),
  }
}

const aboutRequest = (method: string, host: string): Attributes => ({
  'http.request.method': method,
  'server.address': host,
})
