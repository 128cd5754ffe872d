/** A ZIP archive, for a deployment of a few kilobytes: entries stored, not compressed (APPNOTE.TXT 6.3.10 §4.3). */
import { crc32 } from 'node:zlib'

/** 1980-01-01 00:00, so that the same files make the same archive. */
const dosDate = 0x0021
const utf8Names = 0x0800

export function zip(files: Readonly<Record<string, string>>): Buffer {
  const body: Buffer[] = []
  const directory: Buffer[] = []
  let offset = 0
  for (const [path, text] of Object.entries(files)) {
    const name = Buffer.from(path)
    const data = Buffer.from(text)
    const facts = Buffer.alloc(26)
    facts.writeUInt16LE(20, 0) // version needed to extract
    facts.writeUInt16LE(utf8Names, 2)
    facts.writeUInt16LE(0, 4) // stored
    facts.writeUInt16LE(0, 6)
    facts.writeUInt16LE(dosDate, 8)
    facts.writeUInt32LE(crc32(data), 10)
    facts.writeUInt32LE(data.length, 14)
    facts.writeUInt32LE(data.length, 18)
    facts.writeUInt16LE(name.length, 22)
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), facts, name, data])
    const entry = Buffer.alloc(14)
    entry.writeUInt32LE(offset, 10)
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), facts, entry, name]))
    body.push(local)
    offset += local.length
  }
  const entries = Buffer.concat(directory)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(directory.length, 4)
  end.writeUInt16LE(directory.length, 6)
  end.writeUInt32LE(entries.length, 8)
  end.writeUInt32LE(offset, 12)
  return Buffer.concat([...body, entries, Buffer.from('PK\x05\x06'), end])
}
