import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

export interface Listening {
  port: number
  /** Ends in order: see `drain`. */
  stop(graceMs: number): Promise<void>
}

/** Load balancers need a moment to see that we are not ready; until then what they still send is served. */
const lingerMs = 5_000

/**
 * The one listener. Headers must arrive within 10 s (slowloris); a body may take as long as it keeps coming, because uploads do.
 * Idle connections outlive the 60 s of common load balancers, so that ours is never the side that closes first.
 */
export function listen(
  handler: (req: IncomingMessage, res: ServerResponse) => void,
  { host, port }: { host: string; port: number },
): Promise<Listening> {
  let inFlight = 0
  let stopping = false
  let idle = () => {}
  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: 0, keepAliveTimeout: 65_000, maxHeaderSize: 32 * 1024 },
    (req, res) => {
      inFlight++
      res.once('close', () => {
        inFlight--
        if (inFlight === 0) idle()
      })
      if (stopping) res.shouldKeepAlive = false
      handler(req, res)
    },
  )

  /** Serves what is in flight; refuses new connections when nothing is, or after a moment; cuts what is left when the grace is over. */
  async function drain(graceMs: number): Promise<void> {
    stopping = true
    if (inFlight > 0) {
      const quiet = new Promise<void>(resolve => {
        idle = resolve
      })
      await Promise.race([quiet, new Promise(resolve => setTimeout(resolve, Math.min(lingerMs, graceMs)))])
    }
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    server.closeIdleConnections()
    const cut = setTimeout(() => server.closeAllConnections(), graceMs)
    await closed
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
    server.listen(port, host, () => {
      const address = server.address()
      resolve({ port: typeof address === 'object' && address ? address.port : port, stop: drain })
    })
  })
}
