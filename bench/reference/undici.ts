/** The least a proxy can do with undici's `dispatch`: pass the headers, stream the answer, keep the pace. No key, no connection, no token. */
import { createServer } from 'node:http'
import { Agent } from 'undici'

const [, , port, origin] = process.argv
const agent = new Agent({ connections: 1_024, pipelining: 1 })

createServer((req, res) => {
  const body =
    req.headers['content-length'] === undefined && req.headers['transfer-encoding'] === undefined ? null : req
  let controller: { abort(reason: Error): void; pause(): void; resume(): void } | undefined
  res.on('close', () => res.writableFinished || controller?.abort(new Error('gone')))
  res.on('drain', () => controller?.resume())
  agent.dispatch(
    { origin: origin!, path: req.url!, method: req.method as 'GET', headers: endToEnd(req.rawHeaders), body },
    {
      onRequestStart(c) {
        controller = c
      },
      onResponseStart(_c, status, headers) {
        if (status >= 200) res.writeHead(status, headers as Record<string, string>)
      },
      onResponseData(_c, chunk) {
        if (!res.write(chunk)) controller?.pause()
      },
      onResponseEnd() {
        res.end()
      },
      onResponseError() {
        if (res.headersSent) return void res.destroy()
        res.writeHead(502)
        res.end()
      },
    },
  )
}).listen(Number(port), '127.0.0.1')

function endToEnd(raw: string[]): string[] {
  const sent: string[] = []
  for (let i = 0; i < raw.length; i += 2)
    if (!/^(?:host|connection|keep-alive|transfer-encoding|expect)$/i.test(raw[i]!)) sent.push(raw[i]!, raw[i + 1]!)
  return sent
}
