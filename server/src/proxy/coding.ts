/** Content codings of answers (RFC 9110 §8.4), for the two who read them: the rules for an ended token, and a caller who asks for plain. */
import type { Transform } from 'node:stream'
import {
  brotliDecompressSync,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  gunzipSync,
  inflateSync,
} from 'node:zlib'
import type { Received } from './headers.ts'

export interface Coding {
  stream(): Transform
  whole(body: Buffer, options: { maxOutputLength: number }): Buffer
}

const gzip: Coding = { stream: createGunzip, whole: gunzipSync }
const codings: Record<string, Coding> = {
  gzip,
  'x-gzip': gzip,
  deflate: { stream: createInflate, whole: inflateSync },
  br: { stream: createBrotliDecompress, whole: brotliDecompressSync },
}

/** The one coding of an answer, when it is known. A part of a coded whole (206) cannot be decoded by itself. */
export const codingOf = (status: number, headers: Received): Coding | undefined =>
  status === 206 ? undefined : codings[String(headers['content-encoding'] ?? '').toLowerCase()]

export function decodedHeaders({ 'content-encoding': _c, 'content-length': _l, ...headers }: Received): Received {
  return headers
}

/** Undefined when it cannot be decoded, or would be longer than a megabyte. */
export function plainBody({
  status,
  headers,
  body,
}: {
  status: number
  headers: Received
  body: Buffer
}): Buffer | undefined {
  const coding = codingOf(status, headers)
  if (!coding || body.length === 0) return body
  try {
    return coding.whole(body, { maxOutputLength: 1024 * 1024 })
  } catch {
    return undefined
  }
}
