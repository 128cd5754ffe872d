// What a handler is given (Call) and what it gives back (Reply); reading bodies with a limit, writing answers with
// the headers Salesforce puts on everything. No handler touches a socket.

import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { promisify } from 'node:util'
import { gunzipSync, gzip } from 'node:zlib'
import type { Address } from './hosts.ts'

export type Call = {
  method: string
  address: Address
  /** The path after the org prefix: what Salesforce would have seen. */
  path: string
  query: URLSearchParams
  headers: IncomingHttpHeaders
  body: Buffer
  /** The peer's IP address. */
  remote: string
}

export type Reply = {
  status: number
  headers?: Record<string, string>
  /** Exactly one of these, or neither for an empty body. */
  json?: unknown
  text?: string
  type?: string
}

const MAX_BODY = 6 * 1024 * 1024

export class TooLarge extends Error {}
export class BadEncoding extends Error {}

export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  // Too large a body is read to its end without being kept, so that the sender gets to see the answer.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > 10 * MAX_BODY) throw new TooLarge()
    if (size <= MAX_BODY) chunks.push(chunk)
  }
  if (size > MAX_BODY) throw new TooLarge()
  const raw = Buffer.concat(chunks)
  if (raw.length === 0 || request.headers['content-encoding']?.toLowerCase() !== 'gzip') return raw
  try {
    return gunzipSync(raw, { maxOutputLength: MAX_BODY })
  } catch {
    throw new BadEncoding()
  }
}

/** Form parameters of a POST, or the query of a GET. A body of any other type yields no parameters. */
export function formOf(call: Call): URLSearchParams {
  if (call.method === 'GET' || call.method === 'HEAD') return call.query
  const type = call.headers['content-type'] ?? ''
  return type.startsWith('application/x-www-form-urlencoded')
    ? new URLSearchParams(call.body.toString('utf8'))
    : new URLSearchParams()
}

export const html = (status: number, text: string): Reply => ({
  status,
  headers: {
    // No form-action: Chromium applies it to the redirect after Allow, which must reach the app's callback.
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
  },
  text,
  type: 'text/html; charset=UTF-8',
})

export const redirect = (location: string): Reply => ({
  status: 302,
  headers: { location, 'cache-control': 'no-store' },
  text: '',
  type: 'text/html; charset=UTF-8',
})

/** OAuth failures are an object; 400 in nearly all cases (RFC 6749 §5.2, fact sheet §2.3). */
export const oauthError = (error: string, error_description: string, status = 400): Reply => ({
  status,
  headers: { 'cache-control': 'no-store', pragma: 'no-cache' },
  json: { error, error_description },
})

/** REST failures are an array of one (fact sheet §6.2). */
export const restError = (status: number, errorCode: string, message: string, fields?: string[]): Reply => ({
  status,
  json: [fields ? { message, errorCode, fields } : { message, errorCode }],
})

/** `Authorization: Bearer x` or `OAuth x`. 'malformed' is any other scheme. */
export function presentedToken(call: Call): string | 'missing' | 'malformed' {
  const header = call.headers.authorization
  if (!header) return 'missing'
  return /^(?:Bearer|OAuth) +(\S+)$/i.exec(header)?.[1] ?? 'malformed'
}

const compress = promisify(gzip)

export type Rendered = { status: number; headers: Record<string, string | string[]>; body: Buffer }

export async function render(reply: Reply, request: IncomingMessage): Promise<Rendered> {
  const headers: Record<string, string | string[]> = {
    // Real answers always set these; a proxy must strip them (fact sheet §6.3).
    'set-cookie': [
      `BrowserId=${randomBytes(16).toString('base64url')}; path=/; Max-Age=31536000`,
      'CookieConsentPolicy=0:1; path=/; Max-Age=31536000',
    ],
    'x-request-id': randomBytes(16).toString('hex'),
    'x-content-type-options': 'nosniff',
    vary: 'Accept-Encoding',
    ...reply.headers,
  }
  let body: Buffer = Buffer.alloc(0)
  if (reply.json !== undefined) {
    body = Buffer.from(JSON.stringify(reply.json))
    headers['content-type'] = reply.type ?? 'application/json;charset=UTF-8'
  } else if (reply.text !== undefined) {
    body = Buffer.from(reply.text)
    headers['content-type'] = reply.type ?? 'text/plain;charset=UTF-8'
  }
  if (body.length > 0 && /\bgzip\b/i.test(String(request.headers['accept-encoding'] ?? ''))) {
    body = await compress(body)
    headers['content-encoding'] = 'gzip'
  }
  if (reply.status !== 204 && reply.status !== 304) headers['content-length'] = String(body.length)
  return { status: reply.status, headers, body }
}

export function write(response: ServerResponse, rendered: Rendered, headOnly: boolean): void {
  if (response.destroyed) return
  response.writeHead(rendered.status, rendered.headers)
  if (headOnly || rendered.status === 204 || rendered.status === 304) response.end()
  else response.end(rendered.body)
}
