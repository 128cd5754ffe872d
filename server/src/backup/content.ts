/**
 * What is within the envelope: frames of one letter, four bytes of length, and that many bytes.
 *   m  what follows: JSON of `Manifest`, once, first
 *   t  a table begins: its number in the manifest
 *   d  its rows, as COPY writes them
 *   e  it ends: how many rows
 *   z  the end
 * Whoever reads them knows already that they are as they were written: the envelope says so.
 */
import type { Table } from '../db/copy.ts'
import { Failure } from '../errors.ts'

export interface Manifest {
  taken_at: string
  /** Of the schema it was taken from. */
  migrations: string[]
  tables: Table[]
  sequences: Record<string, number>
}

type Kind = 'm' | 't' | 'd' | 'e' | 'z'

export type Frame = { kind: Kind; body: Buffer }

export function frame(kind: Kind, body: Buffer | string | number): Buffer {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(String(body))
  const head = Buffer.from(`${kind}....`)
  head.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}

export async function* frames(source: AsyncIterable<Buffer>): AsyncGenerator<Frame> {
  let held: Buffer = Buffer.alloc(0)
  for await (const piece of source) {
    held = held.length === 0 ? piece : Buffer.concat([held, piece])
    let at = 0
    while (held.length - at >= 5) {
      const end = at + 5 + held.readUInt32BE(at + 1)
      if (end > held.length) break
      yield { kind: String.fromCharCode(held[at]!) as Kind, body: held.subarray(at + 5, end) }
      at = end
    }
    held = held.subarray(at)
  }
  if (held.length > 0) throw new Failure('backup_altered')
}
