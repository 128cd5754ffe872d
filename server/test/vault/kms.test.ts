/** Key-encryption keys in AWS KMS, against a KMS of our own that checks Signature Version 4 from its specification. */
import assert from 'node:assert/strict'
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { EgressError } from '../../src/errors.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Egress, EgressRequest } from '../../src/seams.ts'
import { kmsKey } from '../../src/vault/kms.ts'
import { configuredKeys } from '../../src/vault/provider.ts'
import { openRing } from '../../src/vault/ring.ts'
import { createVault } from '../../src/vault/vault.ts'
import { keysInMemory, newEncryptionKey } from '../support/vault.ts'

const arn = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'
const secretAccessKey = 'canary-wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'
const credentials = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: new Secret(secretAccessKey),
  sessionToken: new Secret('canary-session'),
}
const place = { table: 'credential', column: 'sealed', environment: 1, row: 'a' }

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

function fakeKms() {
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
    keys: (...local: string[]) =>
      configuredKeys(
        [`aws-kms:${arn}`, ...local].map(text => new Secret(text)),
        named => kmsKey(egress, credentials, named),
      ),
  }
}

test('data keys are wrapped in KMS: a second start opens what the first sealed, and serving asks nobody', async () => {
  const kms = fakeKms()
  const store = keysInMemory()
  const ring = await openRing(store, kms.keys())
  await ring.supply(1)
  const sealed = createVault(ring).seal('canary', place)
  // Made, and read back from the table as every process reads it.
  assert.deepEqual(kms.asked.splice(0), ['TrentService.Encrypt', 'TrentService.Decrypt'])

  const vault = createVault(await openRing(store, kms.keys()))
  assert.deepEqual(kms.asked.splice(0), ['TrentService.Decrypt'])
  kms.refuse('unreachable')
  for (let n = 0; n < 100; n++) assert.equal(vault.open(sealed, place), 'canary')
  assert.deepEqual(kms.asked, [])
})

test('a database moves from a key of its own to one in KMS by naming both, the new one first', async () => {
  const kms = fakeKms()
  const store = keysInMemory()
  const old = newEncryptionKey()
  const before = await openRing(
    store,
    configuredKeys([new Secret(old)], () => assert.fail('there is no KMS yet')),
  )
  await before.supply(1)
  const sealed = createVault(before).seal('canary', place)
  await openRing(store, kms.keys(old))
  assert.deepEqual(
    store.rows.map(row => row.kekId),
    [arn],
  )
  const after = createVault(await openRing(store, kms.keys()))
  assert.equal(after.open(sealed, place), 'canary')
})

test('what KMS says against it is said on start, and no secret with it', async () => {
  const kms = fakeKms()
  const store = keysInMemory()
  await (await openRing(store, kms.keys())).supply(1)
  const refused = async (how: Parameters<typeof kms.refuse>[0], says: RegExp) => {
    kms.refuse(how)
    await assert.rejects(openRing(store, kms.keys()), error => {
      assert.match(String(error), says)
      assert.doesNotMatch(inspect(error, { depth: 9 }), /canary/)
      return true
    })
  }
  const denied = { __type: 'AccessDeniedException', Message: 'User: arn:aws:iam::1:user/x is not authorized' }
  await refused(
    { status: 400, body: JSON.stringify(denied) },
    /cannot be unwrapped: AWS KMS says AccessDeniedException: User/,
  )
  await refused({ status: 400, body: '{"__type":"com.amazonaws.kms#DisabledException"}' }, /says DisabledException/)
  await refused({ status: 503, body: '<html>' }, /says HTTP 503/)
  await refused({ status: 200, body: '{}' }, /answered without a key/)
  await refused('unreachable', /AWS KMS cannot be reached/)

  // A wrapped key moved to another row: its context is another one.
  kms.refuse(undefined)
  store.rows[0]!.id = randomBytes(8)
  await assert.rejects(openRing(store, kms.keys()), /InvalidCiphertextException/)
})
