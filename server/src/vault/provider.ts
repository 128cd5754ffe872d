/**
 * Key-encryption keys: what data keys are wrapped with. Ours come from the environment; a key management service fits behind the same
 * interface, hence promises, ids that the provider chooses, and the context as pairs (KMS calls it the encryption context).
 */
import { createCipheriv, createDecipheriv, createHash, createSecretKey, randomBytes } from 'node:crypto'
import type { Secret } from '../lib/secret.ts'

export interface KeyProvider {
  /** The key that wraps now. */
  readonly id: string
  wrap(dataKey: Buffer, context: Record<string, string>): Promise<Buffer>
  /** Undefined when this provider does not hold `id`. Throws when it does and the wrapped key was altered or belongs elsewhere. */
  unwrap(wrapped: Buffer, id: string, context: Record<string, string>): Promise<Buffer | undefined>
}

const version = 1
const nonceLength = 12
const tagLength = 16

/** An order of its own, so that the same context is always the same bytes. */
const associatedData = (id: string, context: Record<string, string>): Buffer =>
  Buffer.from(JSON.stringify([version, id, ...Object.entries(context).sort()]))

/** `keys`: base64 of 32 bytes each; the first wraps, all unwrap. Their form was checked by `config.ts`. */
export function configuredKeys(keys: readonly Secret[]): KeyProvider {
  const ring = new Map(
    keys.map(secret => {
      const bytes = Buffer.from(secret.reveal(), 'base64')
      const id = createHash('sha256').update('fairlead key id').update(bytes).digest('hex').slice(0, 16)
      return [id, createSecretKey(bytes)] as const
    }),
  )
  const [id] = ring.keys()
  if (id === undefined) throw new Error('A vault needs at least one key-encryption key.')

  return {
    id,
    async wrap(dataKey, context) {
      const nonce = randomBytes(nonceLength)
      const cipher = createCipheriv('aes-256-gcm', ring.get(id)!, nonce, { authTagLength: tagLength })
      cipher.setAAD(associatedData(id, context))
      const wrapped = Buffer.concat([cipher.update(dataKey), cipher.final()])
      return Buffer.concat([Buffer.from([version]), nonce, cipher.getAuthTag(), wrapped])
    },
    async unwrap(wrapped, by, context) {
      const key = ring.get(by)
      if (!key) return undefined
      if (wrapped[0] !== version || wrapped.length < 1 + nonceLength + tagLength)
        throw new Error('not a wrapped data key')
      const nonce = wrapped.subarray(1, 1 + nonceLength)
      const tag = wrapped.subarray(1 + nonceLength, 1 + nonceLength + tagLength)
      const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagLength })
      decipher.setAAD(associatedData(by, context))
      decipher.setAuthTag(tag)
      return Buffer.concat([decipher.update(wrapped.subarray(1 + nonceLength + tagLength)), decipher.final()])
    },
  }
}
