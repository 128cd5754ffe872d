import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openJournal } from '../../src/credential/journal.ts'
import type { CredentialStore, Successor } from '../../src/credential/store.ts'
import { Failure } from '../../src/errors.ts'
import { newId } from '../../src/lib/id.ts'
import { Secret } from '../../src/lib/secret.ts'
import { createVault } from '../../src/vault/vault.ts'
import { keysInMemory, newEncryptionKey, ringOn, vaultInMemory } from '../support/vault.ts'
import { lapsed, openRoom } from './support/room.ts'

const vault = await vaultInMemory()
const logged: string[] = []
const note = (fields: object, message: string) => void logged.push(`${message} ${JSON.stringify(fields)}`)
const log = { debug: note, info: note, warn: note, error: note }

const answer = (version: number): Successor => ({
  credentialId: newId(),
  environmentId: 1,
  integrationId: 7,
  config: { instance_url: 'https://acme.my.salesforce.com' },
  grantNumber: 2,
  tokenVersion: version,
  presented: randomBytes(32),
  presentedEpoch: '1.0',
  epoch: '1.0',
  tokens: {
    accessToken: new Secret(`access-${version}`),
    refreshToken: new Secret(`refresh-${version}`),
    tokenType: 'Bearer',
    lifeMs: 7_200_000,
    scopes: ['api'],
    raw: { access_token: `access-${version}` },
  },
  rotated: true,
  facts: { instance_url: 'https://acme.my.salesforce.com' },
})

function folder(t: { after(work: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'fairlead-journal-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

/** Closed when the test is over; until then a test leaves it as a crash would. */
async function open(t: { after(work: () => Promise<void>): void }, dataDir: string, by = vault) {
  const journal = await openJournal(dataDir, by, log)
  t.after(() => journal.close())
  return journal
}

const files = (dataDir: string) => readdirSync(join(dataDir, 'journal')).map(name => join(dataDir, 'journal', name))

test('what was appended is there after a crash, whole, in order and sealed; what was decided is not offered again', async t => {
  const dataDir = folder(t)
  const journal = await open(t, dataDir)
  assert.deepEqual(files(dataDir), [])
  const [second, first] = await Promise.all([journal.append(answer(2)), journal.append(answer(1))])
  const decided = await journal.append(answer(3))
  await journal.decide(decided, '1.0')
  // No close: the process is gone.
  const text = files(dataDir)
    .map(file => readFileSync(file, 'utf8'))
    .join('')
  for (const secret of ['access-1', 'refresh-1', 'refresh-3']) {
    assert.ok(!text.includes(secret))
    assert.ok(!text.includes(Buffer.from(secret).toString('base64').slice(0, 8)))
  }
  assert.equal(statSync(files(dataDir)[0]!).mode & 0o777, 0o600)

  const next = await open(t, dataDir)
  assert.deepEqual(next.pending(), [second, first])
  assert.deepEqual(await next.retained(() => true), [decided])
  assert.equal(next.pending()[1]!.tokens.refreshToken?.reveal(), 'refresh-1')
})

test('what was decided is retained under the history it was decided in last, by whichever process', async t => {
  const dataDir = folder(t)
  const journal = await open(t, dataDir)
  const entry = await journal.append(answer(1))
  const ahead = await journal.append(answer(2))
  const other = await journal.append(answer(3))
  await journal.decide(entry, '1.0')
  await journal.decide(ahead, undefined)
  await journal.decide(other, '1.0')
  const elsewhere = async (by: typeof journal, current: string) =>
    (await by.retained(({ history }) => history !== current)).map(each => each.tokenVersion)
  assert.deepEqual(await elsewhere(journal, '1.0'), [2])
  assert.deepEqual(await elsewhere(journal, '2.0'), [1, 2, 3])

  const next = await open(t, dataDir)
  assert.deepEqual(next.pending(), [])
  await next.decide(entry, '2.0')
  assert.deepEqual(await elsewhere(journal, '2.0'), [2, 3])
  const ofOne = await next.retained(({ credentialId }) => credentialId === other.credentialId)
  assert.deepEqual(ofOne, [other])
})

test('a torn line was never acknowledged; a line that does not open does not keep the server from starting', async t => {
  const dataDir = folder(t)
  const journal = await open(t, dataDir)
  const kept = await journal.append(answer(1))
  const [file] = files(dataDir)
  appendFileSync(file!, `e ${newId()} 1 ${newId()} 4 ${randomBytes(64).toString('base64')}\n`)
  appendFileSync(file!, readFileSync(file!, 'utf8').slice(0, 90))
  logged.length = 0
  const next = await open(t, dataDir)
  assert.deepEqual(next.pending(), [kept])
  assert.equal(logged.filter(line => line.startsWith('a journal entry cannot be opened')).length, 1)
  // A key that was taken away opens nothing, and says so.
  const other = await vaultInMemory()
  assert.deepEqual((await open(t, dataDir, other)).pending(), [])
})

test('an answer from before a rotation of the data key is read after it', async t => {
  const ring = await ringOn(keysInMemory(), newEncryptionKey())
  await ring.supply(1)
  const rotating = createVault(ring)
  const dataDir = folder(t)
  const journal = await openJournal(dataDir, rotating, log)
  const before = await journal.append(answer(1))
  await ring.replace(1)
  const after = await journal.append(answer(2))
  await journal.close()
  const next = await openJournal(dataDir, rotating, log)
  assert.deepEqual(next.pending(), [before, after])
  await next.close()
})

test('an answer the database never heard of is installed by the next start', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  const dataDir = folder(t)
  const journal = await open(t, dataDir)
  const { promise: refused, resolve: noticed } = Promise.withResolvers<void>()
  const deaf: CredentialStore = {
    ...room.deps.store,
    install: () => {
      noticed()
      return Promise.reject(new Failure('database_unavailable'))
    },
  }
  const doomed = room.process({ store: deaf, journal })
  const call = doomed.fresh(room.holder, old)
  call.catch(() => {})
  await refused
  assert.equal((await room.load(old.id)).tokenVersion, 1)

  const reopened = await open(t, dataDir)
  assert.equal(reopened.pending().length, 1)
  const next = room.process({ journal: reopened })
  await next.replay()
  const stored = await room.load(old.id)
  assert.deepEqual([stored.tokenVersion, stored.health, stored.intentClaim], [2, 'active', null])
  assert.deepEqual(reopened.pending(), [])
  assert.equal(room.presented(), 1)
  await next.replay()
  assert.equal((await room.load(old.id)).tokenVersion, 2)
})

test('a late answer of a connection that was deleted is ended at the provider', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  room.simulator.control.delay({ endpoint: 'token', ms: 400, when: 'after' })
  const call = room.process().fresh(room.holder, old)
  call.catch(() => {})
  await t.waitFor(() => assert.equal(room.presented(), 1))
  await room.deleteRow(old.id)
  await assert.rejects(call, (error: Failure) => error.code === 'unknown_connection')
  assert.ok(room.simulator.control.state().grants.every(grant => grant.ended !== null))
})
