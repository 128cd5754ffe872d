/** The API behind every proxy: 1 KB of JSON, as fast as Node answers. */
import { createServer } from 'node:http'

const body = Buffer.from(JSON.stringify({ records: 'x'.repeat(1024 - 14) }))

createServer((req, res) => {
  req.resume()
  res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length })
  res.end(body)
}).listen(Number(process.argv[2]), '127.0.0.1')
