import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { pino } from 'pino'
import { Failure } from '../../src/errors.ts'
import { Secret } from '../../src/lib/secret.ts'
import { readKeyFile, writeKeyFile } from '../../src/vault/key-file.ts'
import { createVault } from '../../src/vault/vault.ts'

const newKey = () => new Secret(randomBytes(32).toString('base64'))
const key = newKey()
const vault = createVault([key])
const place = { table: 'credential', column: 'sealed', environment: 1, row: 'a' }

const unreadable = (error: unknown) => {
  assert.ok(error instanceof Failure)
  assert.equal(error.code, 'sealed_value_unreadable')
  // What the caller may read says nothing of the place, the key or the value.
  assert.ok(!/credential|canary/.test(error.message))
  return true
}
const refuses = (sealed: Buffer, at = place, by = vault) => assert.throws(() => by.open(sealed, at), unreadable)

test('what is sealed opens again, byte for byte', () => {
  for (const plain of ['', 'canary', '{"access_token":"00D!é😀"}', 'x'.repeat(1_000_000)])
    assert.equal(vault.open(vault.seal(plain, place), place), plain)
  fc.assert(fc.property(fc.string({ unit: 'binary' }), plain => vault.open(vault.seal(plain, place), place) === plain))
})

test('the plain text is not in the sealed value, and its length is all that shows', () => {
  const sealed = vault.seal('canary', place)
  assert.ok(!sealed.includes('canary'))
  assert.equal(sealed.length, 1 + 8 + 12 + 16 + 'canary'.length)
  assert.ok(!sealed.includes(Buffer.from(key.reveal(), 'base64').subarray(0, 8)))
})

test('a value moved elsewhere does not open', () => {
  const sealed = vault.seal('canary', place)
  for (const moved of [
    { table: 'integration' },
    { column: 'client_secret_sealed' },
    { environment: 2 },
    { environment: 11, row: '' },
    { row: 'b' },
    { row: '' },
    // The same letters with the border elsewhere are another place.
    { table: 'credentials', column: 'ealed' },
    { table: '', column: 'credentialsealed' },
  ])
    refuses(sealed, { ...place, ...moved })
})

test('a value of another key does not open, even with that key’s id written over', () => {
  const other = createVault([newKey()])
  const sealed = vault.seal('canary', place)
  refuses(sealed, place, other)
  const relabelled = Buffer.concat([sealed.subarray(0, 1), other.seal('', place).subarray(1, 9), sealed.subarray(9)])
  refuses(relabelled, place, other)
  refuses(relabelled, place, createVault([newKey(), key]))
})

test('a tag cut to 4, 8 or 12 bytes does not open', () => {
  for (const plain of ['canary', 'a plain text longer than any tag'])
    for (const left of [0, 4, 8, 12, 15]) {
      const sealed = vault.seal(plain, place)
      const cut = Buffer.concat([sealed.subarray(0, 21 + left), sealed.subarray(37)])
      refuses(cut)
      // As GCM itself would take it: the short tag where the whole one belongs, nothing behind it.
      refuses(sealed.subarray(0, 21 + left))
    }
})

test('no byte can be changed, added or taken away', () => {
  const sealed = vault.seal('canary of sixteen', place)
  for (let at = 0; at < sealed.length; at++)
    for (const bit of [1, 128]) {
      const flipped = Buffer.from(sealed)
      flipped[at]! ^= bit
      refuses(flipped)
    }
  for (let length = 0; length < sealed.length; length++) refuses(sealed.subarray(0, length))
  refuses(Buffer.concat([sealed, Buffer.alloc(1)]))
})

test('of a ring the first key seals and every key opens', () => {
  const [old, next] = [newKey(), newKey()]
  const before = createVault([old]).seal('canary', place)
  const during = createVault([next, old])
  assert.equal(during.open(before, place), 'canary')
  const after = during.seal('canary', place)
  assert.equal(createVault([next]).open(after, place), 'canary')
  assert.equal(createVault([old, next]).open(after, place), 'canary')
  refuses(after, place, createVault([old]))
  // The retired key's values are gone with it, and say so.
  refuses(before, place, createVault([next]))
  assert.throws(() => createVault([]), /at least one key/)
})

test('no nonce comes twice in ten thousand seals', () => {
  const nonces = new Set<string>()
  for (let n = 0; n < 10_000; n++) nonces.add(vault.seal('', place).subarray(9, 21).toString('hex'))
  assert.equal(nonces.size, 10_000)
})

test('a secret does not print', () => {
  const secret = new Secret('canary')
  const holder = { deep: [{ secret }], map: new Map([[secret, secret]]) }
  let logged = ''
  const sink = new Writable({
    write(chunk, _encoding, done) {
      logged += chunk
      done()
    },
  })
  const log = pino({ level: 'trace' }, sink)
  log.info({ secret, holder, error: new Error(`with ${secret}`, { cause: secret }) }, `and ${secret}`)
  log.error(Object.assign(new Error('failed'), { secret, holder }))
  const printed = [
    `${secret}`,
    String(secret),
    ['', secret].join(''),
    JSON.stringify({ secret, holder }),
    inspect(secret, { showHidden: true, depth: 9 }),
    inspect(holder, { showHidden: true, depth: 9, getters: true }),
    inspect(secret, { customInspect: false, showHidden: true }),
    new Error(`with ${secret}`, { cause: secret }).stack,
    inspect(new Error('with', { cause: secret })),
    Object.entries(secret).join(),
    JSON.stringify(Reflect.ownKeys(secret)),
    logged,
  ]
  for (const text of printed) assert.ok(!String(text).includes('canary'), String(text))
  assert.ok(logged.includes('[secret]'))
  assert.throws(() => structuredClone({ f: () => secret }))
  assert.deepEqual(structuredClone(secret), {})
  assert.equal(secret.reveal(), 'canary')
})

test('the key file belongs to its owner, holds 32 bytes, and nothing else is taken for a key', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-key-'))
  t.after(() => rm(folder, { recursive: true }))
  assert.equal(await readKeyFile(folder), undefined)
  const written = await writeKeyFile(folder)
  assert.equal(Buffer.from(written.reveal(), 'base64').length, 32)
  assert.equal((await readKeyFile(folder))?.reveal(), written.reveal())
  assert.equal((await stat(join(folder, 'encryption.key'))).mode & 0o777, 0o600)
  const text = await readFile(join(folder, 'encryption.key'), 'utf8')
  for (const broken of ['', '\n', text.slice(0, 20), `${text}${text}`]) {
    await writeFile(join(folder, 'encryption.key'), broken)
    await assert.rejects(
      readKeyFile(folder),
      error => /encryption\.key/.test(String(error)) && !String(error).includes(text.slice(0, 20)),
    )
  }
})
