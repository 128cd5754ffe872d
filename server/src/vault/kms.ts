/**
 * A key-encryption key that never leaves AWS KMS: Encrypt and Decrypt of its JSON protocol, signed with Signature Version 4.
 * https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html, …/API_Decrypt.html
 *
 * Asked once per data key on start and once when one is made. What was unwrapped stays in memory, so an outage of KMS stops no server
 * that runs, and a key disabled there locks out no server before it ends.
 */
import type { Secret } from '../lib/secret.ts'
import { seconds } from '../lib/time.ts'
import type { Egress } from '../seams.ts'
import type { KeyProvider } from './provider.ts'

export interface AwsCredentials {
  accessKeyId: string
  secretAccessKey: Secret
  /** Of temporary credentials. */
  sessionToken: Secret | undefined
}

/** arn:partition:kms:region:account:key/id. Not an alias: it may be pointed at another key, which cannot open what this one wrapped. */
export const kmsArn = /^arn:(aws|aws-us-gov|aws-cn):kms:([a-z0-9-]+):\d{12}:key\/[A-Za-z0-9-]+$/

/** Throws, on the first use, what KMS or the way there says against it. */
export function kmsKey(egress: Egress, credentials: AwsCredentials, arn: string): KeyProvider {
  const [, partition, region = ''] = kmsArn.exec(arn) ?? []
  const url = new URL(`https://kms.${region}.amazonaws.com${partition === 'aws-cn' ? '.cn' : ''}/`)

  async function call(action: 'Encrypt' | 'Decrypt', input: object): Promise<Record<string, string>> {
    // Loaded only where KMS is used.
    const { default: aws4 } = await import('aws4')
    const body = JSON.stringify({ KeyId: arn, ...input })
    const request = {
      service: 'kms',
      region,
      method: 'POST' as const,
      host: url.host,
      path: url.pathname,
      headers: { 'Content-Type': 'application/x-amz-json-1.1', 'X-Amz-Target': `TrentService.${action}` },
      body,
    }
    const { headers } = aws4.sign(request, {
      accessKeyId: credentials.accessKeyId,
      secretAccessKey: credentials.secretAccessKey.reveal(),
      ...(credentials.sessionToken && { sessionToken: credentials.sessionToken.reveal() }),
    })
    const answer = await egress
      .request({
        method: 'POST',
        url,
        headers: headers as Record<string, string>,
        body,
        deadlineMs: seconds(10),
        maxBytes: 64 * 1024,
      })
      .catch((cause: Error) => {
        throw new Error(`AWS KMS cannot be reached (${cause.message})`, { cause })
      })
    const said = parsed(answer.body)
    if (answer.status === 200) return said
    // "com.amazonaws.kms#AccessDeniedException" or the name alone; the message names the caller and the key, no secret.
    const type = (said.__type ?? '').split('#').at(-1) || `HTTP ${answer.status}`
    throw new Error(`AWS KMS says ${type}: ${said.message ?? said.Message ?? 'nothing more'}`)
  }

  return {
    id: arn,
    async wrap(dataKey, context) {
      const { CiphertextBlob } = await call('Encrypt', {
        Plaintext: dataKey.toString('base64'),
        EncryptionContext: context,
      })
      return bytesOf(CiphertextBlob)
    },
    async unwrap(wrapped, id, context) {
      if (id !== arn) return undefined
      const { Plaintext } = await call('Decrypt', {
        CiphertextBlob: wrapped.toString('base64'),
        EncryptionContext: context,
      })
      return bytesOf(Plaintext)
    },
  }
}

function parsed(body: Buffer): Record<string, string> {
  try {
    return JSON.parse(body.toString('utf8')) ?? {}
  } catch {
    return {}
  }
}

function bytesOf(base64: string | undefined): Buffer {
  if (!base64) throw new Error('AWS KMS answered without a key')
  return Buffer.from(base64, 'base64')
}
