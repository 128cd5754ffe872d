/**
 * The sealed file: two lines that name the key, then chunks of 64 KiB, each under AES-256-GCM. A chunk's nonce is its number and whether it
 * is the last (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, as in age), so a chunk that was altered, moved,
 * repeated or left out does not open, and neither does a file that ends early. The associated data is the hash of the two lines. The key is
 * made for this file alone, by HKDF (RFC 5869) from a key-encryption key and a random salt, so a counter is a nonce.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'
import { Failure } from '../errors.ts'
import type { Secret } from '../lib/secret.ts'
import { type KeyProvider, kmsPrefix, localKeyId } from '../vault/provider.ts'

const magic = 'fairlead-backup 1'
const chunkBytes = 64 * 1024
const tagBytes = 16
/** An ARN, a salt and a wrapped key are far from it. */
const headerBytes = 4096

/** In the clear: which key it takes, and what makes the file's own key of it. */
interface Header {
  key: string
  salt: string
  /** Of a key in a key management service, which gives no bytes to derive from: random ones, wrapped by it. */
  wrapped?: string
}

export interface Keys {
  /** Key-encryption keys as they are configured: the first seals, all open. */
  configured: readonly Secret[]
  kms(arn: string): KeyProvider
}

const context = { purpose: 'backup' }

const idOf = (secret: Secret): string => {
  const text = secret.reveal()
  return text.startsWith(kmsPrefix) ? text.slice(kmsPrefix.length) : localKeyId(Buffer.from(text, 'base64'))
}

const derived = (bytes: Buffer, salt: Buffer): Buffer =>
  Buffer.from(hkdfSync('sha256', bytes, salt, 'fairlead backup 1', 32))

export async function* seal({ configured, kms }: Keys, plain: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const [first] = configured
  if (!first)
    throw new Failure('backup_key_missing', { message: 'There is no encryption key here to seal a backup with.' })
  const salt = randomBytes(32)
  const id = idOf(first)
  const inService = first.reveal().startsWith(kmsPrefix)
  const bytes = inService ? randomBytes(32) : Buffer.from(first.reveal(), 'base64')
  const header: Header = {
    key: id,
    salt: salt.toString('base64'),
    ...(inService && { wrapped: (await kms(id).wrap(bytes, context)).toString('base64') }),
  }
  const head = Buffer.from(`${magic}\n${JSON.stringify(header)}\n`)
  yield head
  const cipher = cipherOf(derived(bytes, salt), head)
  let number = 0
  // Whether a block is the last is known when there is another, or an end.
  for await (const { block, last } of blocks(plain, chunkBytes)) yield cipher.seal(block, number++, last)
}

/** Throws `backup_altered` at the first byte that is not as it was written, after what came before it was handed on. */
export async function* open({ configured, kms }: Keys, file: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const source = file[Symbol.asyncIterator]()
  let start = Buffer.alloc(0)
  let end = -1
  while (end < 0 && start.length <= headerBytes) {
    const { value, done } = await source.next()
    if (done) break
    start = Buffer.concat([start, value])
    end = start.indexOf('\n', magic.length + 1)
  }
  if (end < 0 || start.toString('latin1', 0, magic.length + 1) !== `${magic}\n`) throw new Failure('backup_altered')
  const head = start.subarray(0, end + 1)
  const cipher = cipherOf(await keyFor(head), head)
  let number = 0
  try {
    for await (const { block, last } of blocks(rest(), chunkBytes + tagBytes)) yield cipher.open(block, number++, last)
  } finally {
    await source.return?.()
  }

  async function* rest() {
    yield start.subarray(end + 1)
    for (;;) {
      const { value, done } = await source.next()
      if (done) return
      yield value
    }
  }

  async function keyFor(head: Buffer): Promise<Buffer> {
    const { key, salt, wrapped } = read(head)
    const ours = configured.find(secret => idOf(secret) === key)
    if (!ours) throw new Failure('backup_key_missing')
    const bytes =
      wrapped === undefined
        ? Buffer.from(ours.reveal(), 'base64')
        : await kms(key).unwrap(Buffer.from(wrapped, 'base64'), key, context)
    return derived(bytes!, Buffer.from(salt, 'base64'))
  }
}

function read(head: Buffer): Header {
  try {
    const { key, salt, wrapped } = JSON.parse(head.toString('utf8', magic.length + 1)) as Partial<Header>
    if (typeof key === 'string' && typeof salt === 'string' && (wrapped === undefined || typeof wrapped === 'string'))
      return { key, salt, ...(wrapped !== undefined && { wrapped }) }
  } catch {}
  throw new Failure('backup_altered')
}

function cipherOf(key: Buffer, head: Buffer) {
  const associated = createHash('sha256').update(head).digest()
  const options = { authTagLength: tagBytes }
  const nonce = (number: number, last: boolean) => {
    const bytes = Buffer.alloc(12)
    bytes.writeUIntBE(number, 5, 6)
    bytes[11] = last ? 1 : 0
    return bytes
  }
  return {
    seal(block: Buffer, number: number, last: boolean): Buffer {
      const cipher = createCipheriv('aes-256-gcm', key, nonce(number, last), options).setAAD(associated)
      return Buffer.concat([cipher.update(block), cipher.final(), cipher.getAuthTag()])
    },
    open(block: Buffer, number: number, last: boolean): Buffer {
      if (block.length < tagBytes) throw new Failure('backup_altered')
      const cut = block.length - tagBytes
      const decipher = createDecipheriv('aes-256-gcm', key, nonce(number, last), options).setAAD(associated)
      decipher.setAuthTag(block.subarray(cut))
      try {
        return Buffer.concat([decipher.update(block.subarray(0, cut)), decipher.final()])
      } catch (cause) {
        throw new Failure('backup_altered', { cause })
      }
    },
  }
}

/** Blocks of one size; the last may be shorter and is always there, if only as an empty one. */
async function* blocks(source: AsyncIterable<Buffer>, size: number): AsyncGenerator<{ block: Buffer; last: boolean }> {
  let held: Buffer[] = []
  let length = 0
  for await (const piece of source) {
    held.push(piece)
    length += piece.length
    if (length <= size) continue
    const all = Buffer.concat(held)
    let at = 0
    for (; all.length - at > size; at += size) yield { block: all.subarray(at, at + size), last: false }
    held = [all.subarray(at)]
    length = all.length - at
  }
  yield { block: Buffer.concat(held), last: true }
}
