/**
 * The vault: seals and opens bytes with AES-256-GCM. It owns the sealed format and the key ring and knows nothing of what it seals.
 * Called by every room's store that keeps a secret; has no URLs and no tables.
 *
 * Sealed value, version 1:  1 byte version | 8 bytes key id | 12 bytes nonce | 16 bytes tag | ciphertext
 * The associated data names the place (table, column, environment, row) and the key, so a value copied to another row,
 * column, environment or key does not open (security checklist CR2).
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { Failure } from '../errors.ts'
import type { Secret } from '../lib/secret.ts'
import type { SealedPlace, Vault } from '../seams.ts'

const version = 1
const idLength = 8
const nonceLength = 12
// GCM accepts tags down to 4 bytes unless told otherwise, and a short tag can be guessed.
const tagLength = 16
const headerLength = 1 + idLength + nonceLength + tagLength

interface Key {
  id: Buffer
  bytes: Buffer
}

const keyOf = (secret: Secret): Key => {
  const bytes = Buffer.from(secret.reveal(), 'base64')
  return { id: createHash('sha256').update('fairlead key id').update(bytes).digest().subarray(0, idLength), bytes }
}

/** Each part is preceded by its length, so ("ab","c") and ("a","bc") are different places. */
function associatedData(place: SealedPlace, keyId: Buffer): Buffer {
  const parts = [place.table, place.column, String(place.environment), place.row].map(part => Buffer.from(part))
  const framed = [...parts, keyId].flatMap(part => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(part.length)
    return [length, part]
  })
  return Buffer.concat([Buffer.from([version]), ...framed])
}

/** `keys`: base64 of 32 bytes each; the first seals, all open. Their form was checked by `config.ts`. */
export function createVault(keys: readonly Secret[]): Vault {
  const ring = keys.map(keyOf)
  const sealing = ring[0]
  if (!sealing) throw new Error('A vault needs at least one key.')

  return {
    seal(plain, place) {
      const nonce = randomBytes(nonceLength)
      const cipher = createCipheriv('aes-256-gcm', sealing.bytes, nonce, { authTagLength: tagLength })
      cipher.setAAD(associatedData(place, sealing.id))
      const ciphertext = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      return Buffer.concat([Buffer.from([version]), sealing.id, nonce, cipher.getAuthTag(), ciphertext])
    },

    open(sealed, place) {
      const where = `${place.table}.${place.column}`
      if (sealed.length < headerLength || sealed[0] !== version)
        throw new Failure('sealed_value_unreadable', { cause: `${where}: not a sealed value` })
      const id = sealed.subarray(1, 1 + idLength)
      const key = ring.find(candidate => candidate.id.equals(id))
      if (!key)
        throw new Failure('sealed_value_unreadable', { cause: `${where}: sealed with key ${id.toString('hex')}` })
      const nonce = sealed.subarray(1 + idLength, 1 + idLength + nonceLength)
      const tag = sealed.subarray(headerLength - tagLength, headerLength)
      const decipher = createDecipheriv('aes-256-gcm', key.bytes, nonce, { authTagLength: tagLength })
      decipher.setAAD(associatedData(place, key.id))
      decipher.setAuthTag(tag)
      try {
        return decipher.update(sealed.subarray(headerLength), undefined, 'utf8') + decipher.final('utf8')
      } catch (cause) {
        throw new Failure('sealed_value_unreadable', { cause: new Error(`${where}: altered or moved`, { cause }) })
      }
    },
  }
}
