/**
 * The vault: seals and opens bytes with AES-256-GCM. It owns the sealed format, the key ring and the table `data_key`, and knows nothing
 * of what it seals. Called by every room's store that keeps a secret; has no URLs.
 *
 * Envelope: key-encryption keys (`provider.ts`) wrap data keys (`ring.ts`), one per environment; data keys seal values.
 * Sealed value, version 2:  1 byte version | 8 bytes data key id | 12 bytes nonce | 16 bytes tag | ciphertext
 * The associated data names the place (table, column, environment, row) and the key, so a value copied to another row,
 * column, environment or key does not open (security checklist CR2).
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { Failure } from '../errors.ts'
import type { SealedPlace, Vault } from '../seams.ts'
import { keyIdLength, type Ring } from './ring.ts'

const version = 2
const nonceLength = 12
// GCM accepts tags down to 4 bytes unless told otherwise, and a short tag can be guessed.
const tagLength = 16
const headerLength = 1 + keyIdLength + nonceLength + tagLength

/** Each part is preceded by its length, so ("ab","c") and ("a","bc") are different places. */
function associatedData({ table, column, environment, row }: SealedPlace, keyId: Buffer): Buffer {
  const parts = [table, column, String(environment), row]
  const data = Buffer.allocUnsafe(parts.reduce((sum, part) => sum + 4 + Buffer.byteLength(part), 1 + 4 + keyId.length))
  let at = data.writeUInt8(version)
  for (const part of parts) {
    const length = data.write(part, at + 4)
    data.writeUInt32BE(length, at)
    at += 4 + length
  }
  data.writeUInt32BE(keyId.length, at)
  keyId.copy(data, at + 4)
  return data
}

/** A key this process has not loaded. Becomes an answer only when the table does not have it either. */
class KeyMissing extends Failure {
  /** The environment that wants to seal; undefined when a value was to be opened. */
  readonly sealing: number | undefined

  constructor(cause: string, sealing?: number) {
    super('sealed_value_unreadable', { cause })
    this.sealing = sealing
  }
}

export function createVault(ring: Ring): Vault {
  return {
    seal(plain, place) {
      const key = ring.current(place.environment)
      if (!key) throw new KeyMissing(`environment ${place.environment} has no data key`, place.environment)
      const nonce = randomBytes(nonceLength)
      const cipher = createCipheriv('aes-256-gcm', key.key, nonce, { authTagLength: tagLength })
      cipher.setAAD(associatedData(place, key.id))
      const ciphertext = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      return Buffer.concat([Buffer.from([version]), key.id, nonce, cipher.getAuthTag(), ciphertext])
    },

    open(sealed, place) {
      const where = `${place.table}.${place.column}`
      if (sealed.length < headerLength || sealed[0] !== version)
        throw new Failure('sealed_value_unreadable', { cause: `${where}: not a sealed value` })
      const id = sealed.subarray(1, 1 + keyIdLength)
      const key = ring.find(id)
      if (!key)
        throw new KeyMissing(
          `${where}: sealed with data key ${id.toString('hex')}, which is unknown or wrapped with a key this server was not given`,
        )
      const nonce = sealed.subarray(1 + keyIdLength, 1 + keyIdLength + nonceLength)
      const tag = sealed.subarray(headerLength - tagLength, headerLength)
      const decipher = createDecipheriv('aes-256-gcm', key.key, nonce, { authTagLength: tagLength })
      decipher.setAAD(associatedData(place, key.id))
      decipher.setAuthTag(tag)
      try {
        return decipher.update(sealed.subarray(headerLength), undefined, 'utf8') + decipher.final('utf8')
      } catch (cause) {
        throw new Failure('sealed_value_unreadable', { cause: new Error(`${where}: altered or moved`, { cause }) })
      }
    },

    async withKeys(work) {
      // Twice at most: `work` may open with one new key and seal with another.
      for (let missing = 0; ; missing++) {
        try {
          return work()
        } catch (error) {
          if (!(error instanceof KeyMissing) || missing === 2) throw error
          await (error.sealing === undefined ? ring.load() : ring.supply(error.sealing))
        }
      }
    },
  }
}
