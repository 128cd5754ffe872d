import assert from 'node:assert/strict'
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
import { configuredKeys } from '../../src/vault/provider.ts'
import { openRing } from '../../src/vault/ring.ts'
import { createVault } from '../../src/vault/vault.ts'
import { keysInMemory, newEncryptionKey, noKms, ringOn, vaultInMemory } from '../support/vault.ts'

const vault = await vaultInMemory()
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
})

test('a value moved elsewhere does not open', () => {
  const sealed = vault.seal('canary', place)
  for (const moved of [
    { table: 'integration' },
    { column: 'client_secret_sealed' },
    { environment: 2 },
    // Its key is known, so it is the associated data and not the missing key that refuses.
    { environment: 2, row: 'b' },
    { environment: 11, row: '' },
    { row: 'b' },
    { row: '' },
    // The same letters with the border elsewhere are another place.
    { table: 'credentials', column: 'ealed' },
    { table: '', column: 'credentialsealed' },
  ])
    refuses(sealed, { ...place, ...moved })
})

test('a value of another key does not open, even with that key’s id written over', async () => {
  const other = await vaultInMemory()
  const sealed = vault.seal('canary', place)
  refuses(sealed, place, other)
  const relabelled = Buffer.concat([sealed.subarray(0, 1), other.seal('', place).subarray(1, 9), sealed.subarray(9)])
  refuses(relabelled, place, other)
  refuses(relabelled)
  // The same of two keys that are both known.
  const elsewhere = vault.seal('canary', { ...place, environment: 2 })
  refuses(Buffer.concat([sealed.subarray(0, 1), elsewhere.subarray(1, 9), sealed.subarray(9)]))
  refuses(Buffer.concat([Buffer.from([1]), sealed.subarray(1)]))
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

test('of the key-encryption keys the first wraps, all unwrap, and one that was wrapped away from is free to go', async () => {
  const store = keysInMemory()
  const [old, next] = [newEncryptionKey(), newEncryptionKey()]
  const first = await ringOn(store, old)
  await first.supply(1)
  const [before] = await store.list()
  const sealed = createVault(first).seal('canary', place)
  await assert.rejects(ringOn(store, next), /^Error: This database was sealed with another encryption key/)
  assert.deepEqual(await store.list(), [before])

  const during = await ringOn(store, next, old)
  assert.equal(createVault(during).open(sealed, place), 'canary')
  const [after] = await store.list()
  assert.deepEqual([after!.id, after!.createdAt], [before!.id, before!.createdAt])
  assert.notEqual(after!.kekId, before!.kekId)
  assert.ok(!after!.wrapped.equals(before!.wrapped))

  assert.equal(createVault(await ringOn(store, next)).open(sealed, place), 'canary')
  await assert.rejects(ringOn(store, old), /^Error: This database was sealed with another encryption key/)
  await assert.rejects(ringOn(store), /at least one key-encryption key/)
})

test('a wrapped key belongs to its row: altered, cut short or in another one’s place it is refused', async () => {
  const key = newEncryptionKey()
  const store = keysInMemory()
  const ring = await ringOn(store, key)
  for (const environment of [0, 1, 2]) await ring.supply(environment)
  const [, one, two] = await store.list()
  const refused = async (change: Partial<typeof one>) => {
    const altered = keysInMemory()
    altered.rows.push({ ...one!, ...change })
    await assert.rejects(
      ringOn(altered, key),
      /^Error: The data key [0-9a-f]{16} of this database cannot be unwrapped: it (was altered|is no wrapped)/,
    )
  }
  await refused({ wrapped: two!.wrapped })
  await refused({ environment: 2 })
  await refused({ id: two!.id })
  for (const length of [0, 1, 12, 29, 60]) await refused({ wrapped: one!.wrapped.subarray(0, length) })
  for (let at = 0; at < one!.wrapped.length; at++) {
    const flipped = Buffer.from(one!.wrapped)
    flipped[at]! ^= 1
    await refused({ wrapped: flipped })
  }
})

test('a new data key seals at once; what the retired one sealed opens; another process finds both when it meets them', async () => {
  const store = keysInMemory()
  const key = newEncryptionKey()
  const [here, there] = [await ringOn(store, key), await ringOn(store, key)]
  const [ours, theirs] = [createVault(here), createVault(there)]
  // An environment's first key is made by whoever seals first.
  const old = await ours.withKeys(() => ours.seal('canary', place))
  assert.throws(() => theirs.open(old, place), unreadable)
  assert.equal(await theirs.withKeys(() => theirs.open(old, place)), 'canary')

  await here.replace(1)
  const fresh = ours.seal('canary', place)
  assert.ok(!fresh.subarray(1, 9).equals(old.subarray(1, 9)))
  assert.equal(ours.open(old, place), 'canary')
  assert.throws(() => theirs.open(fresh, place), unreadable)
  assert.equal(await theirs.withKeys(() => theirs.open(fresh, place)), 'canary')
  assert.ok(theirs.seal('', place).subarray(1, 9).equals(fresh.subarray(1, 9)))
  assert.equal(theirs.open(old, place), 'canary')
  // One of each environment at most, whoever asks.
  await Promise.all([here.supply(3), there.supply(3), here.supply(3)])
  assert.equal(store.rows.filter(row => row.environment === 3).length, 1)
  // What nobody knows stays unreadable, and what fails for another reason is not tried again.
  const stranger = Buffer.concat([fresh.subarray(0, 1), Buffer.alloc(8), fresh.subarray(9)])
  await assert.rejects(
    theirs.withKeys(() => theirs.open(stranger, place)),
    unreadable,
  )
  let runs = 0
  await assert.rejects(
    ours.withKeys(() => ours.open(old, { ...place, row: `${runs++}` })),
    unreadable,
  )
  assert.equal(runs, 1)
})

test('nothing of a key prints', async () => {
  const store = keysInMemory()
  const encryptionKey = newEncryptionKey()
  const provider = configuredKeys([new Secret(encryptionKey)], noKms)
  const kept: Buffer[] = []
  const ring = await openRing(store, {
    ...provider,
    wrap: (dataKey, context) => {
      kept.push(Buffer.from(dataKey))
      return provider.wrap(dataKey, context)
    },
  })
  await ring.supply(1)
  const secrets = [Buffer.from(encryptionKey, 'base64'), ...kept]
  assert.equal(secrets.length, 2)
  const all = { ring, provider, vault: createVault(ring), found: ring.current(1), rows: store.rows }
  const printed = [inspect(all, { depth: 9, showHidden: true, maxArrayLength: null }), JSON.stringify(all)].join()
  for (const bytes of secrets)
    for (const text of [
      bytes.toString('base64'),
      bytes.toString('hex'),
      [...bytes].join(),
      inspect(bytes).slice(8, -1),
    ])
      assert.ok(!printed.includes(text))
})

test('sealing and opening a token takes microseconds', t => {
  const token = 'x'.repeat(120)
  const sealed = vault.seal(token, place)
  const times = { seal: () => void vault.seal(token, place), open: () => void vault.open(sealed, place) }
  for (const [what, work] of Object.entries(times)) {
    for (let n = 0; n < 2_000; n++) work()
    const began = performance.now()
    for (let n = 0; n < 10_000; n++) work()
    const micros = (performance.now() - began) / 10
    t.diagnostic(`${what}: ${micros.toFixed(1)} µs for ${token.length} bytes`)
    // Ten times the goal: a machine under load is not a fault.
    assert.ok(micros < 600)
  }
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
