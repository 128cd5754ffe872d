/**
 * `100 Continue` that nobody asked for. RFC 9110 §15.2.1 has a client discard it, and servers of the days of RFC 2616 send it before every
 * answer to a POST; undici breaks the connection instead (client-h1.js, onHeadersComplete), after the request may have been carried out.
 * It skips every other interim answer, so a 100 is shown to it as 102.
 */
import type { Socket } from 'node:net'

/** Connections whose next bytes begin an answer. What stands later in them is body, whatever it looks like. */
const awaited = new WeakSet<Socket>()

/** A request was written. */
export const awaitAnswer = (socket: Socket): void => void awaited.add(socket)

/** For every connection that is given to undici. */
export function disguiseContinue(socket: Socket): void {
  const read = socket.read
  socket.read = size => {
    const chunk = read.call(socket, size)
    if (chunk !== null && awaited.has(socket) && !isInterim(chunk)) awaited.delete(socket)
    return chunk
  }
}

/** Whether all of `chunk` is interim answers; each 100 among them becomes a 102. One cut into two chunks is the last that is looked at. */
function isInterim(chunk: Buffer): boolean {
  for (let at = 0; at < chunk.length; ) {
    if (chunk.toString('latin1', at, at + 10) !== 'HTTP/1.1 1') return false
    if (chunk.toString('latin1', at + 10, at + 12) === '00') chunk[at + 11] = 0x32
    const end = chunk.indexOf('\r\n\r\n', at, 'latin1')
    if (end < 0) return false
    at = end + 4
  }
  return true
}
