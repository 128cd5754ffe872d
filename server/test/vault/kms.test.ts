/** Key-encryption keys in AWS KMS, against a KMS of our own that checks Signature Version 4 from its specification. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { Secret } from '../../src/lib/secret.ts'
import { configuredKeys } from '../../src/vault/provider.ts'
import { openRing } from '../../src/vault/ring.ts'
import { createVault } from '../../src/vault/vault.ts'
import { arn, fakeKms } from '../support/kms.ts'
import { keysInMemory, newEncryptionKey } from '../support/vault.ts'

const place = { table: 'credential', column: 'sealed', environment: 1, row: 'a' }

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
