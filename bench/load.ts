/**
 * A closed loop of callers, each with a connection of its own: send one request, read its answer, send the next. Raw sockets and bytes
 * made beforehand, so that the callers cost less than what they measure. Answers must carry Content-Length.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface Load {
  /** Milliseconds per request, sorted. */
  latencies: Float64Array
  seconds: number
}

export interface Ask {
  url: URL
  method?: string
  headers?: Record<string, string>
  body?: string
}

/** Resolves after `ms`, when the last answers are in. Any answer but `status` throws. */
export async function load(ask: Ask, connections: number, ms: number, status = 200): Promise<Load> {
  const bytes = requestBytes(ask)
  const callers = await Promise.all(Array.from({ length: connections }, () => openCaller(ask.url)))
  const took: number[] = []
  const from = performance.now()
  await Promise.all(
    callers.map(async caller => {
      for (let at = performance.now(); at - from < ms; ) {
        await caller.roundTrip(bytes, status)
        const now = performance.now()
        took.push(now - at)
        at = now
      }
      caller.close()
    }),
  )
  const seconds = (performance.now() - from) / 1000
  return { latencies: Float64Array.from(took).sort(), seconds }
}

/** `sorted` at `share` of its length: 0.5 is the median. */
export const quantile = (sorted: Float64Array, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN

/** What is sent for `ask`, made beforehand. */
export function requestBytes({ url, method = 'GET', headers = {}, body = '' }: Ask): Buffer {
  const lines = Object.entries({
    Host: url.host,
    ...headers,
    ...(body && { 'Content-Length': Buffer.byteLength(body) }),
  })
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return Buffer.from(`${method} ${url.pathname}${url.search} HTTP/1.1\r\n${head}\r\n${body}`)
}

/** One connection, kept open; one request at a time. */
export interface Caller {
  roundTrip(bytes: Buffer, status: number): Promise<void>
  close(): void
}

export async function openCaller(url: URL): Promise<Caller> {
  const socket: Socket = connect(Number(url.port), url.hostname).setNoDelay()
  await once(socket, 'connect')
  let turn: PromiseWithResolvers<void> | undefined
  let head = ''
  let wanted = ''
  /** Bytes of body still to come; -1 while the head is incomplete. */
  let left = -1
  const fail = (error: Error) => turn?.reject(error)
  socket.on('error', fail)
  socket.on('close', () => fail(new Error(`${url.host} closed the connection`)))
  socket.on('data', (chunk: Buffer) => {
    if (left >= 0) left -= chunk.length
    else {
      head += chunk.toString('latin1')
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
      if (!head.startsWith(wanted) || length === undefined)
        return fail(new Error(`${url.href} answered ${head.slice(0, 400)}`))
      left = Number(length) - (head.length - end - 4)
    }
    if (left > 0) return
    head = ''
    left = -1
    turn?.resolve()
  })
  return {
    roundTrip(bytes, status) {
      wanted = `HTTP/1.1 ${status} `
      turn = Promise.withResolvers()
      socket.write(bytes)
      return turn.promise
    },
    close: () => void socket.removeAllListeners('close').destroy(),
  }
}
