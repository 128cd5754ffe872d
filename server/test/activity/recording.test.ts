/** The room by itself on a real database: what is written, what is dropped, and that nobody waits. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addEnvironment, listEnvironments } from '../../src/account/store.ts'
import { type Call, createActivity } from '../../src/activity/activity.ts'
import { countDropped, listActivity, retainActivity } from '../../src/activity/store.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { systemClock } from '../../src/lib/time.ts'
import type { Db } from '../../src/seams.ts'
import { until } from '../db/until.ts'
import { testDatabase } from '../support/database.ts'
import { newEncryptionKey, vaultOn } from '../support/vault.ts'

const kept = { activity: 14, bodies: 1 }

type Test = { after(work: () => Promise<void>): void }

async function openRoom(t: Test) {
  const { db, url } = await testDatabase(t)
  await addEnvironment(db, 'dev')
  const environmentId = (await listEnvironments(db))[0]!.id
  const vault = await vaultOn(db, newEncryptionKey())
  const logged: { level: string; message: string; fields: object }[] = []
  const at = (level: string) => (fields: object, message: string) => void logged.push({ level, message, fields })
  const log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
  const start = (on: Db = db) =>
    createActivity({ db: on, vault, clock: systemClock, log, onCall: () => {}, onDropped: () => {} })
  const call = (change: Partial<Call> = {}): Call => {
    const now = performance.now()
    return {
      ...{ environmentId, apiKeyId: 7, integration: 'sf', connection: 'ada', method: 'GET', path: '/a?b=c' },
      ...{ host: 'api.example.com', status: 200, outcome: 'answered', error: undefined, bytesUp: 0, bytesDown: 2 },
      ...{ arrivedAt: now - 30, sentAt: now - 20, answeredAt: now - 10, endedAt: now, retries: 0, refreshed: false },
      ...{ requestId: 'r-1', repeatsToken: false, bodies: undefined },
      ...change,
    }
  }
  const count = async () => {
    const [row] = await db.query<{ calls: number }>(sql`select count(*)::int as calls from activity`)
    return row!.calls
  }
  return { db, url, environmentId, start, call, count, logged }
}

/** Holds the table until the returned function is called: every statement on it hangs. */
async function hold(t: Test, url: string): Promise<() => void> {
  const other = await openDb({ url, poolMax: 1 })
  t.after(other.close)
  const release = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  const done = other.db.transaction(async tx => {
    await tx.query(sql`lock table activity in access exclusive mode`)
    held.resolve()
    await release.promise
  })
  done.catch(held.reject)
  await held.promise
  return release.resolve
}

test('calls are written within a second or two, and at once when there are many', async t => {
  const { db, environmentId, start, call, count } = await openRoom(t)
  const activity = start()
  activity.record(
    call({
      path: '/first/1?secret=x',
      status: undefined,
      outcome: 'aborted',
      sentAt: undefined,
      answeredAt: undefined,
    }),
  )
  await until(async () => (await count()) === 1)
  const { rows } = await listActivity(db, environmentId, { limit: 10 })
  const { id, at, total_ms, ...row } = rows[0]!
  assert.deepEqual(row, {
    ...{ environment_id: environmentId, api_key_id: 7, provider_config_key: 'sf', connection_id: 'ada', method: 'GET' },
    ...{ host: 'api.example.com', path: '/first/{id}', status: null, outcome: 'aborted', error: null, bytes_up: 0 },
    ...{
      bytes_down: 2,
      sent_ms: null,
      first_byte_ms: null,
      retries: 0,
      refreshed: false,
      repeats_token: false,
      request_id: 'r-1',
      bodies: null,
    },
  })
  assert.ok(id > 0 && Math.abs(total_ms - 30) < 1, String(total_ms))
  assert.ok(Math.abs(at.getTime() - Date.now()) < 60_000, 'the time is now')
  for (let i = 0; i < 1_700; i++) activity.record(call())
  await activity.drain()
  assert.equal(await count(), 1_701)
})

test('while the database hangs nobody waits; what does not fit is dropped, counted, and the count is written', async t => {
  const { db, url, environmentId, start, call, count, logged } = await openRoom(t)
  const activity = start()
  const release = await hold(t, url)
  for (let i = 0; i < 10_123; i++) activity.record(call({ status: 201 }))
  // `record` is synchronous, so all of them have returned although not one could be written.
  for (let i = 0; i < 7; i++) activity.record(call({ environmentId: environmentId + 1000 }))
  release()
  await until(async () => (await count()) === 10_000)
  await until(async () => (await countDropped(db, environmentId, {})) === 123)
  assert.equal(await countDropped(db, environmentId + 1000, {}), 7)
  assert.equal(await countDropped(db, environmentId, { since: new Date(Date.now() + 3_600_000) }), 0)
  assert.deepEqual(
    logged.filter(({ level }) => level === 'warn').map(({ message, fields }) => [message, fields]),
    [['calls were not recorded', { calls: 130 }]],
  )
  activity.record(call())
  await activity.drain()
  assert.equal(await count(), 10_001)
  assert.equal(await countDropped(db, environmentId, {}), 123, 'told once')
})

test('a database that is away for a while loses nothing that fits', async t => {
  const { db, start, call, count } = await openRoom(t)
  let away = true
  const flaky: Db = {
    query: db.query,
    transaction: async work => {
      if (!away) return db.transaction(work)
      const { Failure } = await import('../../src/errors.ts')
      throw new Failure('database_unavailable')
    },
  }
  const activity = start(flaky)
  for (let i = 0; i < 900; i++) activity.record(call())
  await new Promise(resolve => setImmediate(resolve))
  away = false
  await until(async () => (await count()) === 900)
  await activity.drain()
  assert.equal(await count(), 900, 'and nothing twice')
})

test('what the table does not take is dropped and told, and does not hold up what comes after', async t => {
  const { db, environmentId, start, call, count, logged } = await openRoom(t)
  const activity = start()
  activity.record(call({ status: 99_999 }))
  await activity.drain()
  activity.record(call())
  await activity.drain()
  assert.equal(await count(), 1)
  assert.equal(await countDropped(db, environmentId, {}), 1)
  assert.ok(logged.some(({ level, message }) => level === 'error' && message === 'activity could not be recorded'))
})

test('names in any script, long ones and none at all are read as they were written', async t => {
  const { db, environmentId, start, call } = await openRoom(t)
  const activity = start()
  const names = ['zoë {a,b} "quoted" \\', '顧客', '🚀'.repeat(100), 'NULL', '', 'x'.repeat(9_000)]
  for (const connection of names) activity.record(call({ connection, apiKeyId: null, bytesDown: 2 ** 40 }))
  await activity.drain()
  const { rows } = await listActivity(db, environmentId, { limit: 10 })
  assert.deepEqual(rows.map(row => row.connection_id).reverse(), names)
  assert.ok(rows.every(row => row.api_key_id === null && row.bytes_down === 2 ** 40))
})

test('two servers write at once', async t => {
  const { start, call, count, db } = await openRoom(t)
  const servers = [start(), start()]
  for (let i = 0; i < 1_200; i++) for (const server of servers) server.record(call())
  await Promise.all(servers.map(server => server.drain()))
  assert.equal(await count(), 2_400)
  const [row] = await db.query<{ ids: number }>(sql`select count(distinct id)::int as ids from activity`)
  assert.equal(row!.ids, 2_400)
})

test('a stop waits for a hanging database for a few seconds and says what was lost', async t => {
  const { url, start, call, logged } = await openRoom(t)
  const activity = start()
  const release = await hold(t, url)
  activity.record(call())
  await activity.drain()
  release()
  assert.deepEqual(
    logged.filter(({ level }) => level === 'warn').map(({ message, fields }) => [message, fields]),
    [['the last calls were not recorded', { calls: 1 }]],
  )
})

test('retention: a slot is left after a day or when it is big, and the oldest is emptied', async t => {
  const { db, start, call, count } = await openRoom(t)
  const activity = start()
  const ring = async () => {
    const [row] = await db.query<{ slot: number; age: number }>(sql`
      select slot, extract(epoch from clock_timestamp() - since)::float8 / 86400 as age from activity_ring where name = 'activity'`)
    return row!
  }
  const age = (days: number) =>
    db.query(sql`update activity_ring set since = since - ${days}::float8 * interval '1 day' where name = 'activity'`)
  const fill = async () => {
    activity.record(call())
    await (async () => {
      const before = await count()
      await until(async () => (await count()) > before)
    })()
  }
  await fill()
  await retainActivity(db, kept)
  assert.equal((await ring()).slot, 0, 'a young slot stays')

  await age(1.1)
  await retainActivity(db, kept)
  assert.deepEqual([(await ring()).slot, await count()], [1, 1])
  assert.ok((await ring()).age < 0.2, 'days follow one another without drifting')
  await fill()
  const [there] = await db.query<{ zero: number; one: number }>(
    sql`select (select count(*)::int from activity_0) as zero, (select count(*)::int from activity_1) as one`,
  )
  assert.deepEqual(there, { zero: 1, one: 1 })

  // Thirteen more days: the first day's row is there until its slot is wanted again.
  for (let day = 0; day < 13; day++) {
    await age(1)
    await retainActivity(db, kept)
  }
  assert.deepEqual([(await ring()).slot, await count()], [14, 2])
  await age(1)
  await retainActivity(db, kept)
  assert.deepEqual([(await ring()).slot, await count()], [0, 1])

  // Nobody ran for two months: everything is old, and the ring is in step again after one run.
  await age(60)
  await retainActivity(db, kept)
  assert.equal(await count(), 0)
  assert.ok((await ring()).age < 1.1, String((await ring()).age))
  await activity.drain()
})

test('retention: by size', async t => {
  const { db, start, call, count } = await openRoom(t)
  const activity = start()
  for (let i = 0; i < 3_000; i++) activity.record(call({ path: `/${'word'.repeat(12)}` }))
  await activity.drain()
  const ring = { name: 'activity', slots: 15, ms: 86_400_000, bytes: 10 * 2 ** 20 }
  const slot = async () =>
    (await db.query<{ slot: number }>(sql`select slot from activity_ring where name = 'activity'`))[0]!.slot
  await retainActivity(db, kept, [ring])
  assert.equal(await slot(), 0)
  await retainActivity(db, kept, [{ ...ring, bytes: 2 ** 19 }])
  assert.equal(await slot(), 1, 'once: the new slot is empty')
  assert.equal(await count(), 3_000)
  await db.query(sql`update activity_ring set slot = 14 where name = 'activity'`)
  activity.record(call())
  await activity.drain()
  // An empty slot has the first pages of its indexes.
  await retainActivity(db, kept, [{ ...ring, bytes: 2 ** 16 }])
  assert.equal(await count(), 1, 'the oldest is emptied')
})

test('what is older than fourteen days is not shown, even while its slot is not yet emptied', async t => {
  const { db, environmentId, start, call, count } = await openRoom(t)
  const activity = start()
  activity.record(call())
  await activity.drain()
  await db.query(sql`update activity set at = at - interval '14 days 1 minute'`)
  assert.equal(await count(), 1)
  assert.deepEqual(await listActivity(db, environmentId, { limit: 10 }), { rows: [], end: undefined })
})
