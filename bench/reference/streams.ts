/**
 * The API behind the proxies of bench/streaming.ts. `/down?mb=N&framing=length|chunked|gzip` sends N MB, `/up` counts what it gets,
 * `/slow` sends 1 KB a second, `/events` an event every 20 ms with the moment it was sent.
 */
import { createServer, type ServerResponse } from 'node:http'

const megabyte = Buffer.alloc(1 << 20, 'streams of it, ')
const kilobyte = Buffer.alloc(1024, 'x')

createServer((req, res) => {
  const url = new URL(req.url!, 'http://upstream')
  const path = url.pathname.slice(url.pathname.lastIndexOf('/'))
  if (path === '/up') {
    let bytes = 0
    req.on('data', piece => {
      bytes += piece.length
    })
    req.on('end', () => answer(res, String(bytes)))
    return
  }
  req.resume()
  if (path === '/down') return down(res, Number(url.searchParams.get('mb')), url.searchParams.get('framing')!)
  if (path === '/slow') return every(res, 1000, () => kilobyte)
  if (path === '/events') {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders()
    return every(res, 20, () => `data: ${Date.now()} ${performance.timeOrigin + performance.now()}\n\n`)
  }
  answer(res, 'ok')
}).listen(Number(process.argv[2]), '127.0.0.1')

function answer(res: ServerResponse, text: string): void {
  res.writeHead(200, { 'Content-Length': text.length })
  res.end(text)
}

/** `gzip` only says so: nobody on the way may look. */
function down(res: ServerResponse, count: number, framing: string): void {
  res.writeHead(200, {
    'Content-Type': 'application/octet-stream',
    ...(framing === 'gzip' && { 'Content-Encoding': 'gzip' }),
    ...(framing !== 'chunked' && { 'Content-Length': count << 20 }),
  })
  let left = count
  const write = () => {
    while (left > 0) {
      left--
      if (!res.write(megabyte)) return void res.once('drain', write)
    }
    res.end()
  }
  write()
}

function every(res: ServerResponse, ms: number, piece: () => string | Buffer): void {
  res.write(piece())
  const timer = setInterval(() => res.write(piece()), ms)
  res.on('close', () => clearInterval(timer))
}
