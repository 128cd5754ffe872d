// Reads a ZIP archive in memory: stored and deflated entries, checked against their CRC (APPNOTE.TXT 6.3.10 §4.3).

import { crc32, inflateRawSync } from 'node:zlib'

export class BadZip extends Error {}

const MAX_FILE = 1024 * 1024
const MAX_FILES = 1000

/** Path → text of every file; folders are left out. */
export function readZip(archive: Buffer): Map<string, string> {
  const end = archive.lastIndexOf(Buffer.from('PK\x05\x06'))
  if (end < 0 || end + 22 > archive.length) throw new BadZip('not a zip archive')
  const count = archive.readUInt16LE(end + 10)
  if (count > MAX_FILES) throw new BadZip('too many files')
  const files = new Map<string, string>()
  try {
    for (let at = archive.readUInt32LE(end + 16), i = 0; i < count; i++) {
      if (archive.toString('latin1', at, at + 4) !== 'PK\x01\x02') throw new BadZip('broken directory')
      const method = archive.readUInt16LE(at + 10)
      const checksum = archive.readUInt32LE(at + 16)
      const packed = archive.readUInt32LE(at + 20)
      const nameLength = archive.readUInt16LE(at + 28)
      const name = archive.toString('utf8', at + 46, at + 46 + nameLength)
      const local = archive.readUInt32LE(at + 42)
      const from = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28)
      const raw = archive.subarray(from, from + packed)
      at += 46 + nameLength + archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32)
      if (name.endsWith('/')) continue
      if (method !== 0 && method !== 8) throw new BadZip(`${name}: unknown compression`)
      const data = method === 0 ? raw : inflateRawSync(raw, { maxOutputLength: MAX_FILE })
      if (crc32(data) !== checksum) throw new BadZip(`${name}: checksum does not match`)
      files.set(name, data.toString('utf8'))
    }
  } catch (error) {
    // A number that leads outside the archive, or data that does not inflate.
    if (error instanceof BadZip) throw error
    throw new BadZip(error instanceof Error ? error.message : 'broken archive')
  }
  return files
}
