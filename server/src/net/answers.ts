/**
 * What a connection of undici's pool has heard since its latest request was written, which undici tells nobody:
 *
 * - whether it broke without a byte of an answer after it had served before. Most likely its other end closed it while it idled, and
 *   nothing was processed (`brokeInReuse`).
 * - whether what comes next begins an answer. RFC 9110 §15.2.1 has a client discard a `100 Continue` that nobody asked for, and servers of
 *   the days of RFC 2616 send it before every answer to a POST; undici breaks the connection instead (client-h1.js, onHeadersComplete),
 *   after the request may have been carried out. It skips every other interim answer, so a 100 is shown to it as 102.
 */
import { subscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'

interface Heard {
  /** Anything, ever. */
  served: boolean
  /** Anything before the latest request. */
  reused: boolean
  /** Anything since. */
  answered: boolean
  /** Nothing but interim answers since. What comes after is body, whatever it looks like. */
  awaiting: boolean
}

const heardOn = new WeakMap<Socket, Heard>()

subscribe('undici:client:sendHeaders', message => {
  const heard = heardOn.get((message as { socket: Socket }).socket)
  if (!heard) return
  heard.reused = heard.served
  heard.answered = false
  heard.awaiting = true
})

interface BrokenError extends NodeJS.ErrnoException {
  unansweredInReuse?: boolean
}

/** For every connection that is given to undici. Before it is: what listens later may pass an error on as it is. */
export function watchAnswers(socket: Socket): void {
  const heard: Heard = { served: false, reused: false, answered: false, awaiting: false }
  heardOn.set(socket, heard)
  socket.prependListener('error', (error: BrokenError) => {
    error.unansweredInReuse = heard.reused && !heard.answered
  })
  const read = socket.read
  socket.read = size => {
    const chunk = read.call(socket, size)
    if (chunk === null) return chunk
    heard.served = true
    heard.answered = true
    if (heard.awaiting) heard.awaiting = isInterim(chunk)
    return chunk
  }
}

export const brokeInReuse = (error: unknown): boolean => (error as BrokenError | undefined)?.unansweredInReuse === true

/** Whether all of `chunk` is interim answers; each 100 among them becomes a 102. One cut into two chunks is the last that is looked at. */
function isInterim(chunk: Buffer): boolean {
  for (let at = 0; at < chunk.length; ) {
    // The first digit of the status says it of nearly every answer.
    if (chunk[at + 9] !== 0x31 || chunk.toString('latin1', at, at + 10) !== 'HTTP/1.1 1') return false
    if (chunk.toString('latin1', at + 10, at + 12) === '00') chunk[at + 11] = 0x32
    const end = chunk.indexOf('\r\n\r\n', at, 'latin1')
    if (end < 0) return false
    at = end + 4
  }
  return true
}
