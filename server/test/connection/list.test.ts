/** Pages of connections: each once and in order, by cursor also while others come and go. */
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { sql } from '../../src/db/sql.ts'
import { scope } from '../connect/support/scope.ts'
import { openSite } from './support/site.ts'

const site = await openSite(scope)
const [first] = site.servers
await site.connect('ada')
const { db } = site

/** Copies of ada's connection on its grant. */
const add = (names: string[]) =>
  db.query(sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id, end_user, tags)
    select environment_id, integration_id, credential_id, name, jsonb_build_object('id', 'u-' || name), jsonb_build_object('plan', 'gold')
    from connection, unnest(${names}::text[]) as name where end_user ->> 'id' = 'ada'`)
const list = async (query: string) => (await first.call('GET', `/connections?${query}`)).json
const idsOf = (page: { connections: { connection_id: string }[] }) => page.connections.map(one => one.connection_id)

test('by cursor: everything once, newest first, whatever comes or goes meanwhile', async () => {
  const names = Array.from({ length: 25 }, (_, n) => `c-${String(n).padStart(2, '0')}`)
  await add(names)
  const seen: string[] = []
  let cursor: string | null = ''
  for (let page = 0; cursor !== null; page++) {
    const answer = await list(`limit=10&tags[plan]=gold${cursor && `&cursor=${cursor}`}`)
    seen.push(...idsOf(answer))
    cursor = answer.next_cursor
    await add([`late-${page}`])
    if (page === 0) await db.query(sql`delete from connection where connection_id = 'c-20'`)
  }
  assert.deepEqual(seen, names.toReversed())
  const all = await list('tags[plan]=gold')
  assert.equal(all.next_cursor, null)
  const exact = await list(`limit=${all.connections.length}&tags[plan]=gold`)
  assert.equal(exact.next_cursor, null, 'a last page that is full')
})

test('page and cursor show the same, with every filter', async () => {
  for (const filter of ['tags[plan]=gold', 'state=active', 'integrationId=sf', 'search=c-1', 'endUserId=u-c-03', '']) {
    const whole = idsOf(await list(filter))
    assert.ok(whole.length > 0, filter)
    const paged: string[] = []
    for (let page = 0; paged.length < whole.length; page++) {
      const ids = idsOf(await list(`${filter}&limit=7&page=${page}`))
      assert.ok(ids.length > 0)
      paged.push(...ids)
    }
    assert.deepEqual(paged, whole, filter)
    const start = await list(`${filter}&limit=1`)
    if (start.next_cursor) assert.deepEqual(idsOf(await list(`${filter}&cursor=${start.next_cursor}`)), whole.slice(1))
  }
  assert.deepEqual(await list('page=1000&limit=100'), { connections: [], next_cursor: null })
})

test('a page far back begins where it should, also after others were made', async () => {
  await db.query(sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id)
    select environment_id, integration_id, credential_id, 'deep-' || n
    from connection, generate_series(1, 24000) as n where end_user ->> 'id' = 'ada'`)
  const expected = async (offset: number) => {
    const rows = await db.query<{ connection_id: string }>(
      sql`select connection_id from connection order by id desc limit 7 offset ${offset}`,
    )
    return rows.map(row => row.connection_id)
  }
  const [row] = await db.query<{ n: number }>(sql`select count(*)::int as n from connection`)
  const last = Math.floor((row!.n - 1) / 7)
  for (const page of [2_857, 2_858, 3_000, 3_333, last, last + 1, last + 1_000]) {
    assert.deepEqual(idsOf(await list(`limit=7&page=${page}`)), await expected(page * 7), String(page))
    await add([`after-${page}`, `and-${page}`])
  }
})

test('a cursor that is none is refused, and so are two ways of paging at once', async () => {
  for (const query of ['cursor=x', 'cursor=-1', 'cursor=', `cursor=${randomUUID()}`, 'cursor=5&page=1', 'page=-1'])
    assert.equal((await list(query)).error.code, 'invalid_query_params', query)
})
