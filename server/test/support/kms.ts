/** A KMS of our own that checks Signature Version 4 from its specification. */
import assert from 'node:assert/strict'
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto'
import { EgressError } from '../../src/errors.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Egress, EgressRequest } from '../../src/seams.ts'
import { kmsKey } from '../../src/vault/kms.ts'
import { configuredKeys } from '../../src/vault/provider.ts'

export const arn = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'
export const secretAccessKey = 'canary-wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'
const credentials = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: new Secret(secretAccessKey),
  sessionToken: new Secret('canary-session'),
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
function signatureOf({ url, headers = {}, body = '' }: EgressRequest, signed: string[], scope: string): string {
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]))
  lower.host ??= url.host
  const canonical = [
    'POST',
    url.pathname,
    '',
    ...signed.map(name => `${name}:${lower[name]?.trim()}`),
    '',
    signed.join(';'),
    sha256(body),
  ].join('\n')
  const toSign = ['AWS4-HMAC-SHA256', lower['x-amz-date'], scope, sha256(canonical)].join('\n')
  const key = scope.split('/').reduce<string | Buffer>((by, part) => hmac(by, part), `AWS4${secretAccessKey}`)
  return hmac(key, toSign).toString('hex')
}

export function fakeKms() {
  const key = randomBytes(32)
  const asked: string[] = []
  let refusal: { status: number; body: string } | 'unreachable' | undefined
  const request = async (ask: EgressRequest) => {
    const headers = Object.fromEntries(Object.entries(ask.headers ?? {}).map(([k, v]) => [k.toLowerCase(), String(v)]))
    asked.push(headers['x-amz-target']!)
    if (refusal === 'unreachable') throw new EgressError('unsent', 'kms.eu-central-1.amazonaws.com: ECONNREFUSED')
    const answer = (status: number, body: string) => ({ status, headers: {}, body: Buffer.from(body) })
    if (refusal) return answer(refusal.status, refusal.body)

    assert.equal(ask.url.href, 'https://kms.eu-central-1.amazonaws.com/')
    const [, id, scope, signed = '', signature] =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/([^,]+), SignedHeaders=([^,]+), Signature=(.+)$/.exec(
        headers.authorization ?? '',
      ) ?? []
    assert.equal(id, credentials.accessKeyId)
    assert.match(scope!, /^\d{8}\/eu-central-1\/kms\/aws4_request$/)
    for (const name of ['host', 'x-amz-date', 'x-amz-target', 'x-amz-security-token']) assert.ok(signed.includes(name))
    assert.equal(signature, signatureOf(ask, signed.split(';'), scope!))

    const input = JSON.parse(ask.body!)
    assert.equal(input.KeyId, arn)
    const context = Buffer.from(JSON.stringify(Object.entries(input.EncryptionContext).sort()))
    if (headers['x-amz-target'] === 'TrentService.Encrypt') {
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(context)
      const text = Buffer.concat([cipher.update(Buffer.from(input.Plaintext, 'base64')), cipher.final()])
      const CiphertextBlob = Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64')
      return answer(200, JSON.stringify({ CiphertextBlob }))
    }
    const blob = Buffer.from(input.CiphertextBlob, 'base64')
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(0, 12)).setAAD(context)
      decipher.setAuthTag(blob.subarray(12, 28))
      const text = Buffer.concat([decipher.update(blob.subarray(28)), decipher.final()])
      return answer(200, JSON.stringify({ Plaintext: text.toString('base64') }))
    } catch {
      return answer(400, '{"__type":"InvalidCiphertextException"}')
    }
  }
  const egress = { request } as Pick<Egress, 'request'> as Egress
  return {
    asked,
    refuse: (how: typeof refusal) => {
      refusal = how
    },
    keyNamed: (named: string) => kmsKey(egress, credentials, named),
    keys: (...local: string[]) =>
      configuredKeys(
        [`aws-kms:${arn}`, ...local].map(text => new Secret(text)),
        named => kmsKey(egress, credentials, named),
      ),
  }
}
