/**
 * Key-encryption keys: what data keys are wrapped with, on start and when a data key is made; never while a request is served. They
 * come from the environment or stay in a key management service (`kms.ts`), hence promises, ids that the provider chooses, and the
 * context as pairs (KMS calls it the encryption context).
 */
import { createCipheriv, createDecipheriv, createHash, createSecretKey, randomBytes } from 'node:crypto'
import type { Secret } from '../lib/secret.ts'

export interface KeyProvider {
  /** The key that wraps now. */
  readonly id: string
  wrap(dataKey: Buffer, context: Record<string, string>): Promise<Buffer>
  /** Undefined when this provider does not hold `id`. Throws, saying why, when it does and the wrapped key does not open. */
  unwrap(wrapped: Buffer, id: string, context: Record<string, string>): Promise<Buffer | undefined>
}

const version = 1
const nonceLength = 12
const tagLength = 16

/** An order of its own, so that the same context is always the same bytes. */
const associatedData = (id: string, context: Record<string, string>): Buffer =>
  Buffer.from(JSON.stringify([version, id, ...Object.entries(context).sort()]))

/** How a key of AWS KMS is written where a key-encryption key stands: the prefix, then its ARN. */
export const kmsPrefix = 'aws-kms:'

/**
 * `keys`: base64 of 32 bytes each, or `aws-kms:` and an ARN; the first wraps, all unwrap, so a database moves from one kind to the other
 * as it moves from key to key. Their form was checked by `config.ts`.
 */
export function configuredKeys(keys: readonly Secret[], kmsKey: (arn: string) => KeyProvider): KeyProvider {
  const providers = keys.map(key =>
    key.reveal().startsWith(kmsPrefix) ? kmsKey(key.reveal().slice(kmsPrefix.length)) : localKey(key),
  )
  const [first] = providers
  if (!first) throw new Error('A vault needs at least one key-encryption key.')
  return {
    id: first.id,
    wrap: first.wrap,
    async unwrap(wrapped, id, context) {
      for (const provider of providers) {
        const bytes = await provider.unwrap(wrapped, id, context)
        if (bytes) return bytes
      }
      return undefined
    },
  }
}

/** Tells one key from another and nothing of either. */
export const localKeyId = (bytes: Buffer): string =>
  createHash('sha256').update('fairlead key id').update(bytes).digest('hex').slice(0, 16)

/** AES-256-GCM in this process. */
function localKey(secret: Secret): KeyProvider {
  const bytes = Buffer.from(secret.reveal(), 'base64')
  const id = localKeyId(bytes)
  const key = createSecretKey(bytes)
  return {
    id,
    async wrap(dataKey, context) {
      const nonce = randomBytes(nonceLength)
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagLength })
      cipher.setAAD(associatedData(id, context))
      const wrapped = Buffer.concat([cipher.update(dataKey), cipher.final()])
      return Buffer.concat([Buffer.from([version]), nonce, cipher.getAuthTag(), wrapped])
    },
    async unwrap(wrapped, by, context) {
      if (by !== id) return undefined
      if (wrapped[0] !== version || wrapped.length < 1 + nonceLength + tagLength)
        throw new Error('it is no wrapped data key')
      const nonce = wrapped.subarray(1, 1 + nonceLength)
      const tag = wrapped.subarray(1 + nonceLength, 1 + nonceLength + tagLength)
      const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagLength })
      decipher.setAAD(associatedData(by, context))
      decipher.setAuthTag(tag)
      try {
        return Buffer.concat([decipher.update(wrapped.subarray(1 + nonceLength + tagLength)), decipher.final()])
      } catch (cause) {
        throw new Error('it was altered', { cause })
      }
    },
  }
}
