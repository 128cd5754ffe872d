/**
 * HTTP mechanics and nothing else: how a request is validated against the contract, how a Failure becomes an answer,
 * how large a body may be, what a page carries. Knows no room's meaning; every room's routes are built with `api()`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ErrorEnvelope, errors, unstorable } from '@fairlead/contract'
import type { HttpBindings } from '@hono/node-server'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { cors } from 'hono/cors'
import { HTTPException } from 'hono/http-exception'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { ZodError } from 'zod'
import { Failure } from '../errors.ts'
import type { Log } from '../lib/log.ts'

const maxBodyBytes = 5 * 1024 * 1024

const invalidCode = {
  json: 'invalid_body',
  form: 'invalid_body',
  query: 'invalid_query_params',
  param: 'invalid_uri_params',
  header: 'invalid_headers',
  cookie: 'invalid_headers',
} as const

const issuesOf = (error: ZodError) =>
  error.issues.map(issue => ({
    code: issue.code ?? 'custom',
    message: issue.message,
    path: issue.path.map(part => (typeof part === 'symbol' ? String(part) : part)),
  }))

/** A room's routes. Input that does not match its schema never reaches a handler. */
export const api = () =>
  new OpenAPIHono({
    defaultHook: result => {
      if (!result.success) throw new Failure(invalidCode[result.target], { issues: issuesOf(result.error) })
      const path = unstorablePath(result.data)
      if (path)
        throw new Failure(invalidCode[result.target], {
          issues: [{ code: 'custom', message: 'Holds U+0000 or half of a surrogate pair.', path }],
        })
    },
  })

/** Where in a valid input a text stands, as a key or a value, that cannot be stored. */
function unstorablePath(value: unknown): (string | number)[] | undefined {
  if (typeof value === 'string') return unstorable.test(value) ? [] : undefined
  if (typeof value !== 'object' || value === null) return undefined
  for (const [name, member] of Object.entries(value)) {
    const path = unstorable.test(name) ? [] : unstorablePath(member)
    if (path) return [Array.isArray(value) ? Number(name) : name, ...path]
  }
  return undefined
}

/** Guaranteed by the one listener, which runs the router on node:http. */
export const incomingOf = (c: Context): IncomingMessage => (c.env as HttpBindings).incoming

/** The envelope of a failure; its operator's half (`cause`) stays out of it. */
export const envelope = (failure: Failure): ErrorEnvelope => ({
  error: {
    code: failure.code,
    message: failure.message,
    ...(failure.issues && { errors: failure.issues }),
    ...(failure.payload !== undefined && { payload: failure.payload }),
    ...(failure.explained && { cause: failure.explained }),
  },
})

/** On every answer, a provider's included: what a caller quotes, and what log lines and the record of a call hold. */
export const requestIdHeader = 'Fairlead-Request-Id'

/** Of a request at the router; the listener has put it on the response. */
export const requestIdOf = (c: Context): string => String((c.env as HttpBindings).outgoing.getHeader(requestIdHeader))

/** The header that tells an answer of ours from an answer of the provider. */
export const errorHeader = 'Fairlead-Error'

/** The answer of a Failure where no router stands. */
export function sendFailure(res: ServerResponse, failure: Failure, requestId: string): void {
  const body = JSON.stringify(envelope(failure))
  res.writeHead(failure.status, {
    ...failure.headers,
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    [errorHeader]: failure.code,
    [requestIdHeader]: requestId,
  })
  res.end(body)
}

/** Any thrown value as a Failure; what is not one of ours is a fault of this server. Each is logged with the id that the caller can quote. */
export function asFailure(error: unknown, log: Log, requestId: string): Failure {
  if (error instanceof Failure) {
    const said = { request_id: requestId, code: error.code, cause: causeText(error.cause) }
    if (error.status >= 500 || error.cause) log.warn(said, 'request failed')
    else log.debug(said, 'request refused')
    return error
  }
  if (error instanceof HTTPException && error.status === 400) return new Failure('invalid_json')
  if (error instanceof HTTPException && error.status === 413) return new Failure('body_too_large')
  // A body without a content type, or with one that only looks like JSON.
  if (error instanceof HTTPException && error.status === 415) return new Failure('invalid_content_type')
  log.error({ request_id: requestId, error: causeText(error) }, 'unexpected failure')
  return new Failure('server_error', { payload: { id: requestId } })
}

/** Messages and stacks of nested causes; never their enumerable members, which may hold what was being processed. */
function causeText(cause: unknown): string | undefined {
  if (cause === undefined || cause === null) return undefined
  if (!(cause instanceof Error)) return String(cause)
  const inner = causeText(cause.cause)
  return `${cause.stack ?? cause.message}${inner ? `\n  because: ${inner}` : ''}`
}

export const onError =
  (log: Log) =>
  (error: unknown, c: Context): Response => {
    const failure = asFailure(error, log, requestIdOf(c))
    for (const [name, value] of Object.entries(failure.headers)) c.header(name, value)
    c.header(errorHeader, failure.code)
    return c.json(envelope(failure), failure.status as ContentfulStatusCode)
  }

export const onNotFound = (): never => {
  throw new Failure('not_found')
}

/**
 * Any page may ask: who may is decided by the token it sends, and no cookie goes along (https://fetch.spec.whatwg.org/#cors-protocol).
 * The wire contract's headers; `Fairlead-Error`, `Fairlead-Request-Id` and `Retry-After` are ours.
 */
export const openToPages: MiddlewareHandler = cors({
  origin: '*',
  maxAge: 600,
  allowMethods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
  allowHeaders: [
    'Authorization',
    'Content-Type',
    'Accept',
    'Origin',
    'X-Requested-With',
    'Nango-Activity-Log-Id',
    'Nango-Is-Dry-Run',
    'Nango-Is-Sync',
    'Provider-Config-Key',
    'Connection-Id',
    'Sentry-Trace',
    'Baggage',
  ],
  exposeHeaders: [
    'Authorization',
    'Etag',
    'Content-Type',
    'Content-Length',
    'X-Nango-Signature',
    'X-RateLimit-Limit',
    'X-RateLimit-Remaining',
    'X-RateLimit-Reset',
    'Retry-After',
    errorHeader,
    requestIdHeader,
  ],
})

/** RFC 9112 §6.3: without either header there is none. */
const hasBody = (c: Context): boolean =>
  c.req.header('transfer-encoding') !== undefined || Number(c.req.header('content-length') ?? 0) > 0

/**
 * Bodies are JSON. A Content-Type without a body is tolerated: clients in the field send
 * `Content-Type: application/json` on GET and DELETE.
 */
export const jsonOnly: MiddlewareHandler = async (c, next) => {
  const type = c.req.header('content-type')
  if (hasBody(c) && type !== undefined && !/^application\/([a-z0-9.+-]+\+)?json\s*(;|$)/i.test(type))
    throw new Failure('invalid_content_type')
  await next()
}

const limit = bodyLimit({
  maxSize: maxBodyBytes,
  onError: () => {
    throw new Failure('body_too_large', { message: `${errors.body_too_large[1]} The limit is ${maxBodyBytes} bytes.` })
  },
})

/** Not asked where there is no body: to look for one it builds a whole Request, a fifth of what reading a connection costs. */
export const limitBody: MiddlewareHandler = (c, next) => (hasBody(c) ? limit(c, next) : next())

/** Puts the check of who is calling in front of a route; made by `account/`, handed to every room with routes. */
export type Guard = <Route extends object>(route: Route) => Route & { middleware: MiddlewareHandler }
