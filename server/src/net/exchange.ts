/**
 * One request on one open connection, answer read whole. This is the send window and the wait of a token refresh
 * (refresh-protocol.md §5 steps 3–4), and everything else small uses it too. It is node:http rather than undici because
 * of one property: with a socket already attached, `end(body)` hands headers and body to the kernel before it returns,
 * whereas undici's Client decides itself when to write.
 *
 * What failed is only half of what a caller must know; the other half is whether a byte was written. `written` turns
 * true in the same turn as the write and decides between `unsent` and `unanswered` for whatever happens afterwards.
 */
import { type ClientRequest, type IncomingMessage, request as openRequest } from 'node:http'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate, inflateRaw } from 'node:zlib'
import { EgressError } from '../errors.ts'
import type { EgressAnswer, EgressRequest } from '../seams.ts'
import type { Line } from './dial.ts'

/** Header and trailer bytes of one answer. Node's default of 16 KB is near what providers with many cookies send. */
export const maxHeaderBytes = 32 * 1024

/** How often the loop may poll past the deadline while every poll still brings bytes. */
const graceTurns = 64

export async function exchange(line: Line, ask: EgressRequest, userAgent: string): Promise<EgressAnswer> {
  const { socket, wire } = line
  const host = ask.url.host
  const answer = Promise.withResolvers<EgressAnswer>()
  // Nobody awaits the answer until `ready` has answered; a failure before that must wait, not end the process.
  answer.promise.catch(() => {})
  let written = false
  let settled = false
  let received = 0
  let timer: NodeJS.Timeout | undefined

  const settle = (): boolean => {
    const first = !settled
    settled = true
    clearTimeout(timer)
    return first
  }
  const fail = (message: string, cause?: unknown, reason?: EgressError['reason']): void => {
    if (!settle()) return
    // A reset, not a FIN: bytes of ours still in the send queue must not arrive after we stopped waiting.
    wire.resetAndDestroy()
    socket.destroy()
    answer.reject(new EgressError(written ? 'unanswered' : 'unsent', `${host}: ${message}`, cause, reason))
  }

  const read = (response: IncomingMessage): void => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => {
      received += chunk.length
      chunks.push(chunk)
      if (received > ask.maxBytes) fail(`the answer is longer than ${ask.maxBytes} bytes`, undefined, 'too_large')
    })
    response.on('error', error => fail('the answer broke off', error))
    response.on('close', () => fail('the answer broke off'))
    response.on('end', () => {
      if (!response.complete) return fail('the answer broke off')
      if (!settle()) return
      wire.destroy()
      answer.resolve(decoded(response, Buffer.concat(chunks), ask, host))
    })
  }

  let call: ClientRequest
  try {
    call = openRequest({
      method: ask.method,
      path: `${ask.url.pathname}${ask.url.search}`,
      createConnection: () => socket,
      setHost: false,
      headers: headersOf(ask, userAgent),
      maxHeaderSize: maxHeaderBytes,
      insecureHTTPParser: false,
    })
  } catch (error) {
    wire.destroy()
    throw new EgressError('unsent', `${host}: the request cannot be written as HTTP`, error)
  }
  let answering = false
  call.on('error', (error: NodeJS.ErrnoException) => {
    const flooded = error.code === 'HPE_HEADER_OVERFLOW'
    fail(`no answer: ${error.code ?? error.message}`, error, flooded ? 'too_large' : undefined)
  })
  call.on('response', response => {
    answering = true
    if (written) read(response)
    else fail('the server answered before it was asked')
  })
  call.on('upgrade', () => fail('the server switched protocols unasked'))
  call.on('close', () => answering || fail('the connection closed without an answer'))
  const attached = Promise.withResolvers<void>()
  call.once('socket', () => attached.resolve())
  await Promise.race([attached.promise, answer.promise])

  // A connection that breaks while `ready` is asked is reported only when `ready` has answered: a caller that were told
  // earlier would withdraw an intent that is still on its way into the database.
  let go: boolean
  try {
    go = ask.ready ? await ask.ready() : true
  } catch (error) {
    fail('withheld, because asking whether to send failed', error, 'withheld')
    return answer.promise
  }
  if (!go) fail('withheld', undefined, 'withheld')
  if (settled) return answer.promise

  // From `ready`'s resolution to the return of `end` nothing else runs: no I/O, no timer.
  written = true
  const start = performance.now()
  call.end(ask.body)
  const onDeadline = (): void => {
    // Timers count from the loop's cached clock, which stood still while this turn computed.
    const left = start + ask.deadlineMs - performance.now()
    if (left > 0) timer = setTimeout(onDeadline, Math.ceil(left))
    else lastPolls(graceTurns)
  }
  // After a pause of this process, timers run before the answer that already lies in the kernel is read. setImmediate
  // runs after the poll phase, so a whole answer that was there is settled by then. One read does not always take it
  // all (64 KB, one TLS record, the FIN after the body): while a poll brings bytes, one more is due, up to a bound.
  const lastPolls = (turns: number): void => {
    const before = wire.bytesRead
    setImmediate(() => {
      if (settled) return
      if (turns > 1 && wire.bytesRead > before) lastPolls(turns - 1)
      else fail(`no whole answer within ${ask.deadlineMs} ms`, undefined, 'deadline')
    })
  }
  onDeadline()
  return answer.promise
}

export function headersOf(ask: EgressRequest, userAgent: string): Record<string, string> {
  const headers: Record<string, string> = { 'user-agent': userAgent, accept: '*/*' }
  for (const [name, value] of Object.entries(ask.headers ?? {})) headers[name.toLowerCase()] = value
  delete headers['transfer-encoding']
  delete headers['content-length']
  if (ask.method === 'POST' || ask.body !== undefined) {
    headers['content-length'] = String(Buffer.byteLength(ask.body ?? ''))
  }
  return { ...headers, host: ask.url.host, 'accept-encoding': 'identity', connection: 'close' }
}

const decoders: Record<string, (body: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>> = {
  gzip: promisify(gunzip),
  'x-gzip': promisify(gunzip),
  // RFC 9110 §8.4.1.2: "deflate" is zlib, but some servers send it raw. A zlib header's low nibble is always 8.
  deflate: (body, options) => promisify((body[0] ?? 0) % 16 === 8 ? inflate : inflateRaw)(body, options),
  br: promisify(brotliDecompress),
}

/** We ask for `identity`; some servers compress all the same. The bound holds for what comes out, too. */
export async function decoded(
  { statusCode: status = 0, headers }: Pick<IncomingMessage, 'statusCode' | 'headers'>,
  body: Buffer,
  { maxBytes }: EgressRequest,
  host: string,
): Promise<EgressAnswer> {
  const decode = decoders[headers['content-encoding']?.trim().toLowerCase() ?? '']
  if (!decode || body.length === 0) return { status, headers, body }
  try {
    const plain = await decode(body, { maxOutputLength: Math.max(1, maxBytes) })
    const { 'content-encoding': _coding, 'content-length': _length, ...rest } = headers
    return { status, headers: rest, body: plain }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new EgressError(
        'unanswered',
        `${host}: the answer unpacks to more than ${maxBytes} bytes`,
        error,
        'too_large',
      )
    }
    throw new EgressError('unanswered', `${host}: the answer cannot be unpacked`, error)
  }
}
