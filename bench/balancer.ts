/**
 * The two plainest load balancers there are. One takes turns by request, over the servers that say they are ready, asked every half second; a
 * connection that is refused goes on to the next; nothing is repeated, nobody is stuck to a server, bodies stream. The other takes turns by
 * connection and passes bytes: for whoever looks at those, which one that speaks HTTP writes anew.
 */
import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'

interface Backend {
  port: number
  isReady: boolean
  agent: Agent
}

export interface Balancer {
  url: string
  /** From now on to these ports. */
  serve(ports: number[]): void
  stop(): void
}

/** On `port`, or on any. */
export async function startBalancer(port = 0): Promise<Balancer> {
  let backends: Backend[] = []
  let turn = 0

  function pass(req: IncomingMessage, res: ServerResponse, left: Backend[]): void {
    const backend = left.shift()
    if (!backend) return void res.writeHead(503).end('no server is ready')
    const { method, url, headers } = req
    const onward = request({ host: '127.0.0.1', port: backend.port, agent: backend.agent, method, path: url, headers })
    onward.on('response', answer => {
      res.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
      answer.pipe(res)
      answer.on('error', () => res.destroy())
      // Answered before the whole body was there: the rest is read and thrown away.
      answer.on('end', () => {
        if (req.complete) return
        req.unpipe(onward)
        onward.destroy()
        req.resume()
      })
    })
    onward.on('error', (error: NodeJS.ErrnoException) => {
      // Refused: nothing of the request has left.
      if (error.code === 'ECONNREFUSED') {
        backend.isReady = false
        req.unpipe(onward)
        return pass(req, res, left)
      }
      if (res.headersSent) res.destroy()
      else res.writeHead(502).end(`the server went away: ${error.code}`)
    })
    // A body is sent when there is a connection to send it on, so that a refused one costs none of it.
    if (method === 'GET' || method === 'HEAD') onward.end()
    else
      onward.on('socket', socket => {
        if (socket.connecting) socket.once('connect', () => req.pipe(onward))
        else req.pipe(onward)
      })
  }

  const inTurn = (): Backend[] => {
    const ready = backends.filter(({ isReady }) => isReady)
    const first = turn++ % Math.max(1, ready.length)
    return [...ready.slice(first), ...ready.slice(0, first)]
  }
  // As long as our own servers take: a sign-in that was begun with everything has 16 KB of address.
  const server = createServer({ maxHeaderSize: 32 * 1024 }, (req, res) => pass(req, res, inTurn()))
  server.on('upgrade', (req, socket, head) => {
    const [backend] = inTurn()
    if (!backend) return void socket.destroy()
    const onward = connect(backend.port, '127.0.0.1')
    const lines = [`${req.method} ${req.url} HTTP/1.1`]
    for (let at = 0; at < req.rawHeaders.length; at += 2) lines.push(`${req.rawHeaders[at]}: ${req.rawHeaders[at + 1]}`)
    onward.write(`${lines.join('\r\n')}\r\n\r\n`)
    onward.write(head)
    socket.pipe(onward).pipe(socket)
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  })
  // Longer than any caller keeps a connection that it does not use.
  server.keepAliveTimeout = 65_000
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')

  const look = (backend: Backend): void => {
    const asked = request({ host: '127.0.0.1', port: backend.port, path: '/ready', timeout: 2_000 }, answer => {
      answer.resume()
      backend.isReady = answer.statusCode === 200
    })
    asked.on('timeout', () => asked.destroy())
    asked.on('error', () => {
      backend.isReady = false
    })
    asked.end()
  }
  const looking = setInterval(() => backends.forEach(look), 500)

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    serve(ports) {
      backends = ports.map(port => ({ port, isReady: true, agent: new Agent({ keepAlive: true, maxSockets: 512 }) }))
    },
    stop() {
      clearInterval(looking)
      server.close()
      server.closeAllConnections()
    },
  }
}

/** Each connection to the next server; what goes over it is not looked at. */
export async function startConnectionBalancer(port = 0): Promise<Balancer> {
  let ports: number[] = []
  let turn = 0
  const open = new Set<Socket>()
  const server = createTcpServer({ allowHalfOpen: true, noDelay: true }, socket => {
    const onward = connect({
      port: ports[turn++ % ports.length]!,
      host: '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    })
    socket.pipe(onward).pipe(socket)
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      open.add(one)
      // A reset is passed on as one: to the other side it says that something is missing.
      one.on('error', () => other.resetAndDestroy())
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
    }
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    serve(given) {
      ports = given
    },
    stop() {
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}
