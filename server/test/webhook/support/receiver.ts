/** A developer's server on the loopback that takes webhooks, and what it was sent. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Taken {
  path: string
  headers: IncomingHttpHeaders
  body: string
  // biome-ignore lint/suspicious/noExplicitAny: a test reads members of whatever came
  json: any
}

export interface ReceiverServer {
  url: string
  taken: Taken[]
  /** 204 unless a test says otherwise. */
  answer: (res: ServerResponse, taken: Taken) => void
  /** Refuses connections, as a server that is down. */
  down(): Promise<void>
  up(): Promise<void>
}

type Test = { after(work: () => Promise<void>): void }

export async function startReceiver(t: Test): Promise<ReceiverServer> {
  const server = createServer(async (req, res) => {
    let body = ''
    for await (const chunk of req.setEncoding('utf8')) body += chunk
    const one = { path: req.url ?? '', headers: req.headers, body, json: JSON.parse(body) as unknown }
    receiver.taken.push(one)
    receiver.answer(res, one)
  })
  const open = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  const close = async () => {
    if (!server.listening) return
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  }
  await open(0)
  const { port } = server.address() as AddressInfo
  const receiver: ReceiverServer = {
    url: `http://127.0.0.1:${port}/hook`,
    taken: [],
    answer: res => res.writeHead(204).end(),
    down: close,
    up: () => open(port),
  }
  t.after(close)
  return receiver
}

export const answering =
  (status: number, headers: Record<string, string> = {}, body = ''): ReceiverServer['answer'] =>
  res =>
    void res.writeHead(status, headers).end(body)
