/** The same with what Node brings: http.request over an agent that keeps its connections. */
import { Agent, createServer, request } from 'node:http'

const [, , port, origin] = process.argv
const agent = new Agent({ keepAlive: true, maxSockets: 128 })

createServer((req, res) => {
  const { host: _host, connection: _connection, ...headers } = req.headers
  const upstream = request(`${origin}${req.url}`, { method: req.method, headers, agent }, answer => {
    res.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(res)
  })
  upstream.on('error', () => res.headersSent || res.writeHead(502).end())
  req.pipe(upstream)
}).listen(Number(port), '127.0.0.1')
