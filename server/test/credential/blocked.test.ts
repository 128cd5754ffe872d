/** A policy at the provider: the wait is slow, ends by itself, and can be ended by somebody who knows that it was lifted. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { liftBlock, setPaused } from '../../src/credential/store.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { failureOf, lapsed, openRoom, type Room } from './support/room.ts'

const restrict = ({ simulator }: Room, times = 1) =>
  simulator.control.fail({
    endpoint: 'token',
    status: 400,
    body: { error: 'invalid_grant', error_description: 'ip restricted' },
    times,
  })
const waitMinutes = async (room: Room, id: string) =>
  Math.round(((await room.load(id)).nextTryAt - room.deps.clock.now()) / 60_000)
/** The wait is over, as the row sees it. */
const ripen = ({ db }: Room, id: string) =>
  db.query(sql`update credential set next_try_at = clock_timestamp() - interval '1 second' where id = ${id}`)
const due = async (room: Room): Promise<string[]> => (await room.deps.store.blockedDue()).map(row => row.id)
/** Sweeps, and waits for what came of it: the row is no longer due. */
const sweep = async (room: Room, id: string) => {
  await room.credentials.sweep()
  await until(async () => !(await due(room)).includes(id) && (await room.row(id)).claim_id === null)
}

test('it is asked again after 15 minutes, half an hour and then every hour, and heals by itself', async t => {
  const room = await openRoom(t, { rotation: true })
  const { id } = await room.connect(lapsed)
  restrict(room, 5)
  await failureOf(room.credentials.fresh(room.holder, await room.load(id)))
  const waits = [await waitMinutes(room, id)]
  for (let again = 0; again < 4; again++) {
    // Before the wait is over nothing is sent, neither by the sweep nor for a caller.
    const before = room.presented()
    assert.deepEqual(await due(room), [])
    assert.equal((await failureOf(room.process().forced(room.holder, await room.load(id)))).code, 'refresh_unavailable')
    assert.equal(room.presented(), before)
    await ripen(room, id)
    await sweep(room, id)
    assert.equal(room.presented(), before + 1)
    assert.deepEqual(await room.load(id).then(({ health, cause, intentClaim }) => [health, cause, intentClaim]), [
      'blocked_by_policy',
      'policy',
      null,
    ])
    waits.push(await waitMinutes(room, id))
  }
  assert.deepEqual(waits, [15, 30, 60, 60, 60])

  await ripen(room, id)
  await sweep(room, id)
  const healed = await room.load(id)
  assert.deepEqual([healed.health, healed.cause, healed.failures, healed.tokenVersion], ['active', null, 0, 2])
  assert.equal(room.simulator.control.counters().familyRevocations, 0)
})

test('somebody who says that the policy was lifted is believed at once', async t => {
  const room = await openRoom(t)
  const { id } = await room.connect(lapsed)
  restrict(room)
  await failureOf(room.credentials.fresh(room.holder, await room.load(id)))
  await liftBlock(room.db, id)
  assert.equal((await room.process().forced(room.holder, await room.load(id))).health, 'active')

  // Any other wait stays: it protects the provider.
  room.simulator.control.fail({ endpoint: 'token', status: 429, body: '' })
  await failureOf(room.process().forced(room.holder, await room.load(id)))
  await liftBlock(room.db, id)
  const before = room.presented()
  await failureOf(room.process().forced(room.holder, await room.load(id)))
  assert.equal(room.presented(), before)
})

test('the sweep leaves alone what is paused, gone or over', async t => {
  const room = await openRoom(t)
  const blocked = async () => {
    const { id } = await room.connect(lapsed)
    restrict(room)
    await failureOf(room.process().fresh(room.holder, await room.load(id)))
    await ripen(room, id)
    return id
  }
  const [paused, gone, over] = [await blocked(), await blocked(), await blocked()]
  await setPaused(room.db, [paused], true)
  await room.deleteRow(gone)
  await room.db.query(sql`update credential set health = 'needs_reauth' where id = ${over}`)
  assert.deepEqual(await due(room), [])
  await setPaused(room.db, [paused], false)
  assert.deepEqual(await due(room), [paused])
  const before = room.presented()
  await sweep(room, paused)
  assert.equal(room.presented(), before + 1)
  assert.equal((await room.load(paused)).health, 'active')
})
