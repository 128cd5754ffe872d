/**
 * Somebody else's server, in its own thread: it keeps answering while the test blocks the event loop of the client.
 * `signal[0]` becomes 1 when a whole request has been read, 2 when the kernel has taken the whole answer.
 */
import { createServer as createPlain, type RequestListener } from 'node:http'
import { createServer as createSecure } from 'node:https'
import type { AddressInfo } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'

const { tls, answerBytes, signal, delimited } = workerData as PeerData

export interface PeerData {
  tls: { key: string; cert: string } | undefined
  answerBytes: number
  /** Whether the answer has a length; otherwise the end of the connection ends it. */
  delimited: boolean
  signal: Int32Array
}

const tell = (value: number): void => {
  Atomics.store(signal, 0, value)
  Atomics.notify(signal, 0)
}

const listener: RequestListener = (request, response) => {
  request.resume().on('end', () => {
    tell(1)
    if (!delimited) response.useChunkedEncodingByDefault = false
    response.writeHead(200, { ...(delimited ? { 'content-length': answerBytes } : {}), connection: 'close' })
    response.end(Buffer.alloc(answerBytes, 'a'))
    response.on('finish', () => setImmediate(() => tell(2)))
  })
}

const server = tls ? createSecure(tls, listener) : createPlain(listener)
server.listen(0, '127.0.0.1', () => parentPort?.postMessage((server.address() as AddressInfo).port))
