import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure } from '../errors.ts'
import { newRequestId } from '../lib/id.ts'
import { envelope, errorHeader, requestIdHeader } from './api.ts'

export interface Listening {
  port: number
  /** Ends in order: see `drain`. */
  stop(graceMs: number, lingerMs: number): Promise<void>
}

/** Who takes connections over. A request for an upgrade that is not for it is answered as the request it also is. */
export interface Upgrades {
  isFor(req: IncomingMessage): boolean
  take(req: IncomingMessage, socket: Duplex, head: Buffer): void
  close(): void
}

/**
 * Connections the kernel keeps for us while we are busy; the system's own ceiling (net.core.somaxconn, 4096) may be lower. With Node's 511
 * a burst of 10,000 callers had some of them wait 17 s for a place, because a SYN that finds none is sent again after 1, 3, 7 and 15 s.
 */
const backlog = 4_096

/** So long without a request, and whoever sends them has seen that we are not ready. */
const quietMs = 1_000

/**
 * The one listener. Headers must arrive within 10 s (slowloris); a body may take as long as it keeps coming, because uploads do.
 * Idle connections outlive the 60 s of common load balancers, so that ours is never the side that closes first.
 */
export function listen(
  handler: (req: IncomingMessage, res: ServerResponse) => void,
  { host, port }: { host: string; port: number },
  upgrades: Upgrades,
): Promise<Listening> {
  /** Answers under way, by connection, in the order of their requests. */
  const answersOn = new WeakMap<Duplex, ServerResponse[]>()
  let underWay = 0
  /** Connections that are done but for a body nobody wants: some callers never finish sending one once they have their answer. */
  const unfinished = new Set<Duplex>()
  let stopping = false
  let lastRequest = Number.NEGATIVE_INFINITY
  /** One function for all answers instead of a closure for each. */
  function over(this: ServerResponse): void {
    underWay--
    const { req } = this
    const { socket } = req
    const answers = answersOn.get(socket)!
    if (answers.length === 1) answers.pop()
    else answers.splice(answers.indexOf(this), 1)
    if (req.complete || socket.destroyed) return
    unfinished.add(socket)
    req.once('close', () => unfinished.delete(socket))
  }
  const server = createServer(
    {
      headersTimeout: 10_000,
      requestTimeout: 0,
      keepAliveTimeout: 65_000,
      maxHeaderSize: 32 * 1024,
      // Said aloud so that --insecure-http-parser in NODE_OPTIONS changes nothing: two readings of one request are a smuggled one.
      insecureHTTPParser: false,
      // A request without a body gets no stream machinery: 2 % of a proxied call.
      optimizeEmptyRequests: true,
      shouldUpgradeCallback: req => !stopping && !isAmbiguous(req) && upgrades.isFor(req),
    },
    (req, res) => {
      const { socket } = req
      // What came behind a request that could be read in two ways is nobody's request.
      if (!socket.writable) return
      if (isAmbiguous(req)) return refuse(socket)
      const answers = answersOn.get(socket)
      if (answers) answers.push(res)
      else answersOn.set(socket, [res])
      underWay++
      res.on('close', over)
      lastRequest = performance.now()
      if (stopping) res.shouldKeepAlive = false
      handler(req, res)
    },
  )
  /** Answers the request that cannot be read, and nothing after it on its connection. */
  const refuse = (socket: Duplex, code?: string): void => {
    // Only that request may be answered so: not one before it that is still being served.
    const misplaced = answersOn.get(socket)?.some(res => res.headersSent || res.req.complete)
    if (!socket.writable || misplaced) return void socket.destroy()
    socket.end(unreadable(code), () => socket.destroy())
  }
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuse(socket, error.code))
  server.on('upgrade', (req, socket, head) => upgrades.take(req, socket, head))
  // RFC 9110 §10.1.1: an expectation nobody knows may be ignored. Node would answer 417 by itself, without the mark of our errors.
  server.on('checkExpectation', (req, res) => server.emit('request', req, res))

  /**
   * Serves on until no more requests come, for `lingerMs` at most: a load balancer needs a moment to see that we are not ready, and a
   * connection closed while it sends a request is a failed request. Then refuses new connections, and cuts what is left when the grace is over.
   */
  async function drain(graceMs: number, lingerMs: number): Promise<void> {
    stopping = true
    const cut = setTimeout(() => server.closeAllConnections(), graceMs)
    const until = performance.now() + Math.min(lingerMs, graceMs)
    const busy = () => underWay > 0 || performance.now() - lastRequest < quietMs
    while (busy() && performance.now() < until) await new Promise(resolve => setTimeout(resolve, 50))
    upgrades.close()
    // A connection whose call was told "keep-alive" before the stop becomes idle only when that call ends.
    const sweep = setInterval(() => {
      server.closeIdleConnections()
      for (const socket of unfinished) socket.destroy()
    }, 50)
    await new Promise<void>(resolve => server.close(() => resolve()))
    clearInterval(sweep)
    clearTimeout(cut)
  }

  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new Error(`Port ${port} on ${host} is in use. Set PORT to another one.`, { cause: error })
          : error,
      ),
    )
    server.listen({ port, host, backlog }, () => {
      const address = server.address()
      resolve({ port: typeof address === 'object' && address ? address.port : port, stop: drain })
    })
  })
}

/**
 * What Node's parser lets through although another server may read it otherwise. RFC 9112 §6.1: chunks in HTTP/1.0 are faulty framing, and
 * any list of codings but "chunked" alone is one that somebody on the way may not understand; §2.3: other versions frame in other ways.
 */
function isAmbiguous({ httpVersion, rawHeaders }: IncomingMessage): boolean {
  let coding: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.length === 17 && rawHeaders[i]!.toLowerCase() === 'transfer-encoding')
      coding = coding === undefined ? rawHeaders[i + 1]! : `${coding}, ${rawHeaders[i + 1]}`
  if (httpVersion !== '1.1') return httpVersion !== '1.0' || coding !== undefined
  return coding !== undefined && coding.toLowerCase() !== 'chunked'
}

/** What Node would say of a request that is not HTTP, marked as ours: an answer without the mark is a provider's. */
function unreadable(code: string | undefined): string {
  const status =
    code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : '400 Bad Request'
  const failure = new Failure('invalid_headers', { message: `The request could not be read: ${status}.` })
  const body = JSON.stringify(envelope(failure))
  return [
    `HTTP/1.1 ${status}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `${errorHeader}: ${failure.code}`,
    `${requestIdHeader}: ${newRequestId()}`,
    '',
    body,
  ].join('\r\n')
}
