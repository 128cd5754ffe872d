/**
 * Whether an answer repeats the access token its request carried, as debugging endpoints and careless error pages do (security checklist
 * SS10). It is told (log, activity, metrics) and never altered: a body is the provider's. Looked for when the answer is through: nobody
 * waits for it, and 1 KB takes a tenth of a microsecond.
 */
import type { Received } from './headers.ts'

/** What is longer is data. */
const longest = 64 * 1024
/** A shorter token would be found by chance. */
const shortestToken = 16

export interface Heard {
  headers: Received
  /** Undefined: the body is not looked at. */
  pieces: Buffer[] | undefined
  size: number
}

/** Compressed bodies are not looked at, nor streams of events, which would be held for as long as they last. */
export function heard(headers: Received): Heard {
  const isLong = Number(headers['content-length'] ?? 0) > longest
  const isEvents = String(headers['content-type'] ?? '').startsWith('text/event-stream')
  const isPlain = headers['content-encoding'] === undefined
  return { headers, pieces: isPlain && !isLong && !isEvents ? [] : undefined, size: 0 }
}

export function hear(answer: Heard, piece: Buffer): void {
  if (!answer.pieces) return
  answer.size += piece.length
  if (answer.size > longest) answer.pieces = undefined
  else answer.pieces.push(piece)
}

export function repeats({ headers, pieces = [] }: Heard, token: string): boolean {
  if (token.length < shortestToken) return false
  for (const name in headers) {
    const value = headers[name]
    if (typeof value === 'string' ? value.includes(token) : value?.some(one => one.includes(token))) return true
  }
  return (pieces.length > 1 ? Buffer.concat(pieces) : pieces[0])?.includes(token, 0, 'latin1') === true
}
