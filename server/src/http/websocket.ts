/**
 * WebSockets, mechanics only: which requests are one, how many there may be, when one is given up. What is said on them is its owner's
 * business. What a client sends is never read: nothing here takes messages.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { minutes, seconds } from '../lib/time.ts'

export interface WebSockets {
  /** RFC 6455 §4.1, and nothing else that asks for an upgrade. */
  isFor(req: IncomingMessage): boolean
  take(req: IncomingMessage, socket: Duplex, head: Buffer): void
  /** RFC 6455 §7.4.1: 1001, going away. */
  close(): void
}

interface Options {
  path: string
  /** One more is refused; those who are here stay. */
  max: number
  /** Sent with every ping, because a page's script sees no pings. */
  heartbeat: string
  heartbeatMs?: number
  /** Told of every new socket; may send on it and close it. */
  opened(socket: WebSocket, req: IncomingMessage): void
  /** Asked at every heartbeat: whether somebody still needs it after `ageMs`. */
  isNeeded(socket: WebSocket, ageMs: number): boolean
}

/** As long as a connect session lives, and a little longer. */
const maxAgeMs = minutes(35)

export function webSockets({ path, max, heartbeat, heartbeatMs = seconds(20), opened, isNeeded }: Options): WebSockets {
  const server = new WebSocketServer({ noServer: true, maxPayload: 1024, perMessageDeflate: false })
  const since = new WeakMap<WebSocket, number>()
  /** Those that have answered the last ping. */
  const alive = new WeakSet<WebSocket>()

  const beat = setInterval(() => {
    for (const socket of server.clients) {
      const ageMs = performance.now() - (since.get(socket) ?? 0)
      if (!alive.delete(socket)) socket.terminate()
      else if (ageMs > maxAgeMs || !isNeeded(socket, ageMs)) socket.close(1000)
      else {
        socket.ping()
        socket.send(heartbeat)
      }
    }
  }, heartbeatMs)
  beat.unref()

  return {
    isFor: ({ method, url = '', headers }) =>
      method === 'GET' && url.split('?')[0] === path && headers.upgrade?.toLowerCase() === 'websocket',

    take(req, stream, head) {
      if (server.clients.size >= max) {
        stream.end(
          'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n',
        )
        return
      }
      // A stream that breaks before it is a WebSocket has nobody else who listens.
      stream.on('error', () => stream.destroy())
      server.handleUpgrade(req, stream, head, socket => {
        since.set(socket, performance.now())
        alive.add(socket)
        socket.on('pong', () => alive.add(socket))
        // Too large a message, say: the socket is closed by the library, and that is all there is to do.
        socket.on('error', () => {})
        opened(socket, req)
      })
    },

    close() {
      clearInterval(beat)
      for (const socket of server.clients) socket.close(1001)
      // A client that does not answer the close would hold the server's end.
      setTimeout(() => {
        for (const socket of server.clients) socket.terminate()
      }, 500).unref()
    },
  }
}
