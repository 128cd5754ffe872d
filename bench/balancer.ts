/**
 * The plainest load balancer there is: turn by turn over the servers that say they are ready, asked every half second; a connection that is
 * refused goes on to the next. Nothing is repeated, nobody is stuck to a server, bodies stream.
 */
import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'

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
  const server = createServer((req, res) => pass(req, res, inTurn()))
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
