import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import pg from 'pg'
import { clientConfig, isUniqueViolation, openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { Failure } from '../../src/errors.ts'
import { testDatabase } from '../support/database.ts'
import { until } from './until.ts'

const { db, url } = await testDatabase(undefined, { empty: true })
await db.query(sql`create table item (name text constraint item_name_key unique)`)

function unavailable(error: unknown): boolean {
  return error instanceof Failure && error.code === 'database_unavailable' && error.cause !== undefined
}

const names = async () =>
  (await db.query<{ name: string }>(sql`select name from item order by name`)).map(row => row.name)

test('values come back as the types the rooms expect', async () => {
  const [row] = await db.query<Record<string, unknown>>(sql`
    select ${2 ** 53 - 1}::int8 as big, array[1, null, 3]::int8[] as bigs, count(*) as counted,
      timestamptz '2026-01-02 03:04:05Z' as at, ${JSON.stringify({ a: [1] })}::jsonb as json, ${Buffer.from([0, 255])}::bytea as bytes
    from item where false`)
  assert.deepEqual(row, {
    big: 2 ** 53 - 1,
    bigs: [1, null, 3],
    counted: 0,
    at: new Date('2026-01-02T03:04:05Z'),
    json: { a: [1] },
    bytes: Buffer.from([0, 255]),
  })
})

test('a transaction is kept whole or not at all', async () => {
  await db.query(sql`delete from item`)
  const result = await db.transaction(async tx => {
    await Promise.all([tx.query(sql`insert into item values ('a')`), tx.query(sql`insert into item values ('b')`)])
    return 'done'
  })
  assert.equal(result, 'done')
  const thrown = new Error('no')
  const work = db.transaction(async tx => {
    await tx.query(sql`insert into item values ('c')`)
    throw thrown
  })
  await assert.rejects(work, error => error === thrown)
  assert.deepEqual(await names(), ['a', 'b'])
})

test('a transaction within a transaction undoes its own work only', async () => {
  await db.query(sql`delete from item`)
  await db.transaction(async tx => {
    await tx.query(sql`insert into item values ('outer')`)
    const inner = tx.transaction(async nested => {
      await nested.query(sql`insert into item values ('inner')`)
      await nested.query(sql`insert into item values ('outer')`)
    })
    await assert.rejects(inner, error => isUniqueViolation(error))
    await tx.transaction(async nested => void (await nested.query(sql`insert into item values ('second')`)))
  })
  assert.deepEqual(await names(), ['outer', 'second'])
})

test('a swallowed error cannot pass for a commit', async () => {
  const work = db.transaction(async tx => {
    await tx.query(sql`select 1 / 0`).catch(() => {})
  })
  await assert.rejects(work, /swallowed/)
})

test('a unique violation is told from everything else', async () => {
  await db.query(sql`delete from item`)
  await db.query(sql`insert into item values ('a')`)
  const error = await db.query(sql`insert into item values ('a')`).catch(error => error)
  assert(isUniqueViolation(error))
  assert(isUniqueViolation(error, 'item_name_key'))
  assert(!isUniqueViolation(error, 'another'))
  assert(!isUniqueViolation(new Error('x')))
})

test('no database is database_unavailable, and a wrong name is not waited for', async () => {
  const nowhere = 'postgresql://nobody@/none?host=/nonexistent'
  await assert.rejects(openDb({ url: nowhere, startTimeoutMs: 0 }), unavailable)
  await assert.rejects(openDb({ url: 'postgresql://nobody@127.0.0.1:1/none', startTimeoutMs: 0 }), unavailable)
  const begun = performance.now()
  const misnamed = new URL(url)
  misnamed.pathname = '/no_such_database'
  await assert.rejects(openDb({ url: misnamed.href, startTimeoutMs: 60_000 }), unavailable)
  assert(performance.now() - begun < 10_000)
})

test('a URL with an empty host and a socket folder is understood', { skip: !url.includes('host=') }, async () => {
  const opened = await openDb({ url: url.replace('@localhost/', '@/') })
  await opened.ping()
  await opened.close()
})

test('connections ended by the server: each statement either works or says so, and the next works', async t => {
  const other = await openDb({ url, poolMax: 2 })
  t.after(other.close)
  const [me] = await other.db.query<{ pid: number }>(sql`select pg_backend_pid() as pid`)
  const sleeping = assert.rejects(other.db.query(sql`select pg_sleep(60)`), unavailable)
  const inside = assert.rejects(
    other.db.transaction(async tx => void (await tx.query(sql`select pg_sleep(60)`))),
    unavailable,
  )
  await until(async () => {
    const rows = await db.query(
      sql`select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`,
    )
    return rows.length === 2
  })
  await db.query(sql`
    select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`)
  await Promise.all([sleeping, inside])
  const [again] = await other.db.query<{ pid: number }>(sql`select pg_backend_pid() as pid`)
  assert.notEqual(again?.pid, me?.pid)
})

test('a statement without an answer is given up, and its outcome called unknown', async t => {
  const other = await openDb({ url, poolMax: 1, queryTimeoutMs: 200 })
  t.after(other.close)
  const lost = other.db.query(sql`select pg_sleep(5)`)
  await assert.rejects(lost, error => unavailable(error) && /unknown/.test((error as Error).message))
  const inside = other.db.transaction(async tx => void (await tx.query(sql`select pg_sleep(5)`)))
  await assert.rejects(inside, error => unavailable(error) && /Nothing was changed/.test((error as Error).message))
  await other.ping()
})

test('a pool with nothing free says so', async t => {
  const other = await openDb({ url, poolMax: 1, connectTimeoutMs: 50 })
  t.after(other.close)
  await other.db.transaction(async () => {
    await assert.rejects(other.db.query(sql`select 1`), unavailable)
  })
})

test('a listener hears, learns of every gap, and goes on hearing', async t => {
  const other = await openDb({ url })
  t.after(other.close)
  const heard: string[] = []
  const else_: string[] = []
  let gaps = 0
  const onGap = () => void gaps++
  const [stop] = await Promise.all([
    other.listen('Some "channel"', { onPayload: payload => heard.push(payload), onGap }),
    other.listen('another', { onPayload: payload => else_.push(payload), onGap() {} }),
  ])
  const notify = (payload: string) => db.query(sql`select pg_notify('Some "channel"', ${payload})`)
  await notify('one')
  await until(() => heard.length === 1)
  assert.equal(gaps, 0)

  await db.query(sql`
    select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%' and datname = current_database()`)
  await until(() => gaps === 2)
  await notify('two')
  await until(() => heard.length === 2)
  assert.deepEqual(heard, ['one', 'two'])
  assert.deepEqual(else_, [])

  await stop()
  await notify('three')
  await db.query(sql`select pg_notify('another', 'end')`)
  await until(() => else_.length === 1)
  assert.deepEqual(heard, ['one', 'two'])
})

test('a listening connection that falls silent without an error is noticed', async t => {
  const { url: behind } = await testDatabase(t)
  const { host, port } = new pg.Client(clientConfig({ url: behind }))
  const sockets = new Set<Socket>()
  let silent = false
  const relay = createServer(near => {
    const far = connect(host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port })
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from.on('error', () => {}))
      from.on('data', bytes => void (silent || to.write(bytes)))
      from.on('close', () => to.destroy())
    }
  })
  t.after(async () => {
    for (const socket of sockets) socket.destroy()
    relay.close()
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  const through = new URL(behind)
  through.search = ''
  through.host = `127.0.0.1:${(relay.address() as AddressInfo).port}`
  const far = await openDb({ url: behind, directUrl: through.href })
  t.after(() => far.close())
  let gaps = 0
  await far.listen('news', { onPayload() {}, onGap: () => void gaps++ })
  assert.equal(gaps, 0)
  silent = true
  await until(() => gaps === 1, 5_000)
})

test('listening where there is nothing fails at once', async () => {
  const other = await openDb({ url, directUrl: 'postgresql://nobody@127.0.0.1:1/none' })
  await assert.rejects(other.listen('x', { onPayload() {}, onGap() {} }), unavailable)
  await other.close()
  await assert.rejects(other.ping(), unavailable)
  await other.close()
})

test('whoever leaves while the database is away does not wait for it', async t => {
  const doomed = await testDatabase(t, { empty: true })
  const { promise: lost, resolve: onGap } = Promise.withResolvers<void>()
  const unlisten = await doomed.listen('x', { onPayload() {}, onGap })
  await db.query({ text: `drop database ${new URL(doomed.url).pathname.slice(1)} with (force)`, values: [] })
  await lost
  await unlisten()
  await doomed.close()
})
