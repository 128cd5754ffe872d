/** A backup whose key stays in AWS KMS: opened by asking it once, by nobody who may not, and never by the file alone. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Keys, open, seal } from '../../src/backup/envelope.ts'
import { Failure } from '../../src/errors.ts'
import { Secret } from '../../src/lib/secret.ts'
import { arn, fakeKms, secretAccessKey } from '../support/kms.ts'
import { newEncryptionKey, noKms } from '../support/vault.ts'

const canary = 'canary-of-a-row '.repeat(10_000)

async function* pieces(...bytes: Buffer[]): AsyncGenerator<Buffer> {
  yield* bytes
}
async function whole(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const read: Buffer[] = []
  for await (const piece of source) read.push(piece)
  return Buffer.concat(read)
}
const keysOf = (kms: ReturnType<typeof fakeKms>, ...local: string[]): Keys => ({
  configured: [`aws-kms:${arn}`, ...local].map(text => new Secret(text)),
  kms: kms.keyNamed,
})
const failing = (code: string) => (error: unknown) => error instanceof Failure && error.code === code

test('one question seals it, one opens it, and neither the rows nor the key are in the file', async () => {
  const kms = fakeKms()
  const file = await whole(seal(keysOf(kms, newEncryptionKey()), pieces(Buffer.from(canary))))
  assert.deepEqual(kms.asked.splice(0), ['TrentService.Encrypt'])
  assert.ok(!file.includes('canary'))
  assert.ok(file.includes(arn), 'it says by whose key')
  assert.equal((await whole(open(keysOf(kms), pieces(file)))).toString(), canary)
  assert.deepEqual(kms.asked.splice(0), ['TrentService.Decrypt'])
})

test('without that key, or where KMS refuses, it stays shut', async () => {
  const kms = fakeKms()
  const file = await whole(seal(keysOf(kms), pieces(Buffer.from(canary))))
  const local: Keys = { configured: [new Secret(newEncryptionKey())], kms: noKms }
  await assert.rejects(whole(open(local, pieces(file))), failing('backup_key_missing'))
  kms.refuse({ status: 400, body: '{"__type":"AccessDeniedException","Message":"not authorized"}' })
  await assert.rejects(whole(open(keysOf(kms), pieces(file))), error => {
    assert.match(String(error), /AccessDenied/)
    assert.ok(!String(error).includes(secretAccessKey))
    return true
  })
  kms.refuse('unreachable')
  await assert.rejects(whole(open(keysOf(kms), pieces(file))))
  await assert.rejects(whole(seal(keysOf(kms), pieces(Buffer.from(canary)))))
})

test('a byte that was changed is found, in the wrapped key as well as in the rows', async () => {
  const kms = fakeKms()
  const file = await whole(seal(keysOf(kms), pieces(Buffer.from(canary))))
  const changed = (at: number) => {
    const copy = Buffer.from(file)
    copy[at]! ^= 1
    return copy
  }
  await assert.rejects(whole(open(keysOf(kms), pieces(changed(file.length - 100)))), failing('backup_altered'))
  await assert.rejects(whole(open(keysOf(kms), pieces(changed(file.indexOf('"wrapped":"') + 60)))))
  await assert.rejects(whole(open(keysOf(kms), pieces(file.subarray(0, -1)))), failing('backup_altered'))
})
