/** Refresh tokens that were replaced: known for 90 days, never stored again. And what else is forgotten, and when. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listReceipts, pruneReceipts } from '../../src/credential/revocation/store.ts'
import {
  addCredential,
  type Credential,
  pruneCredentials,
  replaceGrant,
  type StoredGrant,
} from '../../src/credential/store.ts'
import { sql } from '../../src/db/sql.ts'
import { grantOf, openRoom, type Room } from './support/room.ts'

const added = (room: Room, grant = grantOf(room)) => ({
  environmentId: room.environmentId,
  integrationId: room.integrationId,
  ...grant,
  scopesRequested: [],
  scopesGranted: [],
  epoch: 'test',
})

/** The grant as somebody would import it who still holds the tokens of this moment. */
const heldBy = ({ accessToken, refreshToken, config, raw }: Credential) => ({
  tokens: { accessToken, refreshToken, tokenType: 'Bearer', lifeMs: undefined, scopes: undefined, raw },
  config,
})

const pastOf = (room: Room, id: string) => room.db.query(sql`select from credential_past where credential_id = ${id}`)

test('a token that was rotated away is not stored: the row that holds its successor answers', async t => {
  const room = await openRoom(t, { rotation: true })
  const first = await room.connect()
  const second = await room.credentials.forced(room.holder, first)
  const third = await room.credentials.forced(room.holder, second)
  for (const old of [first, second]) {
    // None of what was given is there now, so nothing is told of its version.
    assert.deepEqual(await addCredential(room.deps, added(room, heldBy(old))), {
      id: first.id,
      tokenVersion: undefined,
    })
    const now = await room.load(first.id)
    assert.equal(now.tokenVersion, third.tokenVersion)
    assert.equal(now.refreshToken!.reveal(), third.refreshToken!.reveal())
    assert.deepEqual(now.config, third.config)
  }
  // The current one joins.
  const joined = { id: first.id, tokenVersion: third.tokenVersion + 1 }
  assert.deepEqual(await addCredential(room.deps, added(room, heldBy(third))), joined)
  assert.equal((await room.load(first.id)).tokenVersion, third.tokenVersion + 1)
  const rows = await room.db.query(sql`select id from credential where integration_id = ${room.integrationId}`)
  assert.equal(rows.length, 1)
  await room.credentials.forced(room.holder, await room.load(first.id))
  assert.equal(room.simulator.control.counters().familyRevocations, 0)
})

test('a token that is being replaced this very moment is not stored either', async t => {
  const room = await openRoom(t)
  const first = await room.connect()
  let importing: Promise<StoredGrant> | undefined
  await room.db.transaction(async tx => {
    await replaceGrant({ ...room.deps, db: tx }, first.id, added(room))
    importing = addCredential(room.deps, added(room, heldBy(first)))
    // It waits for this transaction; once it does, this one may go on.
    for (let waits = 0; waits === 0; ) {
      // A transaction sees the activity as it was when it first looked.
      await tx.query(sql`select pg_stat_clear_snapshot()`)
      const [row] = await tx.query<{ waits: number }>(
        sql`select count(*)::int as waits from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into credential %'`,
      )
      waits = row!.waits
    }
  })
  assert.equal((await importing)?.id, first.id)
  const rows = await room.db.query(sql`select id from credential where integration_id = ${room.integrationId}`)
  assert.equal(rows.length, 1)
})

test('an old token proves nothing where tokens are issued again, or where its row is gone', async t => {
  const room = await openRoom(t)
  const first = await room.connect()
  await replaceGrant(room.deps, first.id, added(room))
  assert.equal((await pastOf(room, first.id)).length, 1)
  await room.db.query(sql`update credential set rotates = false where id = ${first.id}`)
  const { id: other } = await addCredential(room.deps, added(room, heldBy(first)))
  assert.notEqual(other, first.id)
  await room.deleteRow(other)

  await room.db.query(sql`update credential set rotates = null where id = ${first.id}`)
  assert.equal((await addCredential(room.deps, added(room, heldBy(first)))).id, first.id)
  await room.deleteRow(first.id)
  assert.notEqual((await addCredential(room.deps, added(room, heldBy(first)))).id, first.id)
})

test('what has served its time is forgotten, and nothing before', async t => {
  const room = await openRoom(t)
  const [kept, gone, recent, old] = [
    await room.connect(),
    await room.connect(),
    await room.connect(),
    await room.connect(),
  ]
  for (const { id } of [kept, gone]) await replaceGrant(room.deps, id, added(room))
  const age = (id: string, days: number) =>
    room.db.query(sql`
      with past as (update credential_past set replaced_at = now() - ${days}::int * interval '1 day' where credential_id = ${id})
      update credential set created_at = now() - ${days}::int * interval '1 day',
        gone_at = case when gone_at is not null then now() - ${days}::int * interval '1 day' end
      where id = ${id}`)
  for (const { id } of [gone, recent, old]) await room.deleteRow(id)
  await room.revocations.sweep()
  await age(kept.id, 400)
  await age(gone.id, 91)
  await age(recent.id, 89)
  await room.db.query(
    sql`update revocation set ended_at = now() - interval '366 days' where credential_id = ${gone.id}`,
  )
  await room.db.query(sql`update revocation set ended_at = now() - interval '364 days' where credential_id = ${old.id}`)
  await pruneCredentials(room.db, 90)
  await pruneReceipts(room.db, 365)

  const there = async (id: string) => (await room.db.query(sql`select from credential where id = ${id}`)).length
  assert.deepEqual(await Promise.all([kept, gone, recent, old].map(({ id }) => there(id))), [1, 0, 1, 1])
  assert.deepEqual(await pastOf(room, kept.id), [])
  assert.deepEqual(await pastOf(room, gone.id), [])
  assert.ok(await room.load(kept.id))
  const receipts = await listReceipts(room.db, room.environmentId, {})
  const of = receipts.map(receipt => receipt.connection_id)
  assert.deepEqual(
    [gone, recent, old].map(({ id }) => of.includes(`of-${id}`)),
    [false, true, true],
  )
})
