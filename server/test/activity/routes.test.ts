/** Reading activity: filters, pages, whose it is, and bodies where they are asked for. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { before, test, after as whenDone } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { ActivityView } from '@fairlead/contract'
import { openKeyedHash } from '../../src/account/pepper.ts'
import { addActivity, Batch, type NewActivity, retainActivity } from '../../src/activity/store.ts'
import { type OpenDb, openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { naming, send, startWorld, type World } from '../proxy/world.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { newEncryptionKey, vaultOn } from '../support/vault.ts'

const kept = { activity: 14, bodies: 1 }

const file = lastFirst({ after: whenDone })
const encryptionKey = newEncryptionKey()
let server: Fairlead
let database: OpenDb
let other: string

before(async () => {
  other = randomUUID()
  server = await startFairlead(file, {
    env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey, FAIRLEAD_SECRET_KEY_PROD: other },
  })
  database = await openDb({ url: server.databaseUrl })
  file.after(database.close)
})

const minute = 60_000
type Row = NewActivity & { age: number }

const row = (change: Partial<Row> = {}): Row => ({
  ...{
    request_id: 'r-1',
    age: 0,
    environment_id: 1,
    api_key_id: 1,
    provider_config_key: 'sf',
    connection_id: 'ada',
    method: 'GET',
  },
  ...{ host: 'api.example.com', path: '/a', status: 200, outcome: 'answered', error: null, bytes_up: 0, bytes_down: 0 },
  ...{ sent_ms: 1, first_byte_ms: 2, total_ms: 3, retries: 0, refreshed: false, repeats_token: false, bodies: null },
  ...change,
})
const add = (rows: Row[]) => {
  const batch = new Batch()
  for (const { age, ...one } of rows) batch.add(one, -age)
  return addActivity(database.db, batch, [], [], 0)
}
const empty = () => database.db.query(sql`truncate activity`)
const list = async (query = '', key = server.key) =>
  (await server.call('GET', `/activity${query}`, undefined, { Authorization: `Bearer ${key}` })).json
const paths = async (query = '') => (await list(query)).activity.map((one: ActivityView) => one.path)

test('every filter, and together', async () => {
  await empty()
  await add([
    row({ path: '/1', age: 60 * minute }),
    row({ path: '/2', age: 50 * minute, connection_id: 'grace' }),
    row({ path: '/3', age: 40 * minute, provider_config_key: 'crm' }),
    row({ path: '/4', age: 30 * minute, status: 404 }),
    row({ path: '/5', age: 20 * minute, status: 502, outcome: 'refused', error: 'upstream_failed' }),
    row({ path: '/6', age: 10 * minute, method: 'POST', status: 201 }),
    row({ path: '/7', age: 5 * minute, status: null, outcome: 'aborted' }),
    row({ path: '/8', age: minute, outcome: 'cut' }),
    row({ path: '/other', environment_id: 2 }),
  ])
  const at = (minutes: number) => encodeURIComponent(new Date(Date.now() - minutes * minute).toISOString())
  const cases: [query: string, expected: string[]][] = [
    ['', ['/8', '/7', '/6', '/5', '/4', '/3', '/2', '/1']],
    ['?connection_id=grace', ['/2']],
    ['?provider_config_key=crm', ['/3']],
    ['?provider_config_key=crm&connection_id=grace', []],
    ['?status=404', ['/4']],
    ['?status=4xx', ['/4']],
    ['?status=5xx', ['/5']],
    ['?status=2xx&method=POST', ['/6']],
    ['?outcome=aborted', ['/7']],
    ['?outcome=cut', ['/8']],
    ['?outcome=refused&status=404', []],
    ['?method=POST', ['/6']],
    [`?since=${at(25)}&until=${at(7)}`, ['/6', '/5']],
    [`?since=${at(25)}&status=5xx&connection_id=ada&method=GET`, ['/5']],
    ['?limit=2', ['/8', '/7']],
  ]
  for (const [query, expected] of cases) assert.deepEqual(await paths(query), expected, query)
  assert.deepEqual(
    (await list('', other)).activity.map((one: ActivityView) => one.path),
    ['/other'],
  )
  const [{ id }] = (await list('', other)).activity
  assert.equal((await server.call('GET', `/activity/${id}`)).status, 404, 'of another environment')

  for (const wrong of [
    'status=6xx',
    'status=40',
    'outcome=fine',
    'method=get',
    'since=yesterday',
    'cursor=x',
    'limit=201',
    'path=/a',
  ])
    assert.equal((await server.call('GET', `/activity?${wrong}`)).json.error?.code, 'invalid_query_params', wrong)
  assert.equal((await server.call('GET', '/activity/0')).json.error.code, 'invalid_uri_params')
})

test('pages: each call once, in order, also among calls of one millisecond and while new ones come', async () => {
  await empty()
  await add(Array.from({ length: 95 }, (_, i) => row({ path: `/${i}`, age: Math.floor(i / 10) })))
  const seen: string[] = []
  for (let cursor = ''; ; ) {
    const page = await list(`?limit=10${cursor && `&cursor=${cursor}`}`)
    seen.push(...page.activity.map((one: ActivityView) => one.id))
    await add([row({ path: '/new' })])
    if (page.next_cursor === null) break
    cursor = page.next_cursor
  }
  assert.equal(seen.length, 95)
  assert.equal(new Set(seen).size, 95)
})

test('a filter that matches next to nothing goes through the calls page by page and finds it', async () => {
  await empty()
  await add([row({ path: '/needle', age: 20 * minute, method: 'DELETE' })])
  await database.db.query(sql`
    insert into activity (slot, at, environment_id, api_key_id, provider_config_key, connection_id, method, path, status, outcome,
      bytes_up, bytes_down, total_ms, retries, refreshed)
    select 0, date_trunc('milliseconds', clock_timestamp() - n * interval '10 milliseconds'), 1, 1, 'sf', 'ada', 'GET', '/hay', 200, 'answered',
      0, 0, 1, 0, false from generate_series(1, 25000) as n`)
  const pages: number[] = []
  let found: string[] = []
  for (let cursor = ''; ; ) {
    const page = await list(`?method=DELETE${cursor && `&cursor=${cursor}`}`)
    pages.push(page.activity.length)
    found = [...found, ...page.activity.map((one: ActivityView) => one.path)]
    if (page.next_cursor === null) break
    cursor = page.next_cursor
  }
  assert.deepEqual([pages, found], [[0, 0, 1], ['/needle']])
})

test('each condition that can narrow down has an index to do it by', async () => {
  await database.db.query(sql`analyze activity`)
  for (const [where, index] of [
    ['', 'newest'],
    ["and connection_id = 'grace'", 'by_connection'],
    ["and provider_config_key = 'crm'", 'by_integration'],
    ["and (outcome <> 'answered' or status >= 400)", 'failed'],
  ] as const) {
    const plan = await database.db.query<{ 'QUERY PLAN': string }>({
      text: `explain select * from activity where environment_id = 1 ${where} order by at desc, id desc limit 50`,
      values: [],
    })
    const text = plan.map(line => line['QUERY PLAN']).join('\n')
    const columns = {
      newest: 'environment_id_at_id',
      by_connection: 'connection_id',
      by_integration: 'provider_config',
      failed: 'id_at_id_idx1',
    }
    assert.match(text, new RegExp(`activity_0_.*${columns[index]}`), text)
    assert.doesNotMatch(text, /Seq Scan on activity_0 /, text)
  }
})

test('a key needs the scope of what it asks for, and a call refused for want of one is recorded under its key', async () => {
  const { db } = database
  const keyedHash = await openKeyedHash(db, await vaultOn(db, encryptionKey))
  const keyWith = async (scope: string) => {
    const key = randomUUID()
    const [added] = await db.query<{ id: number }>(sql`
      insert into api_key (environment_id, display_name, lookup, scopes)
      select id, ${key}, ${keyedHash(key)}, ${[scope]} from environment where name = 'dev' returning id`)
    return { id: added!.id, headers: { Authorization: `Bearer ${key}` } }
  }
  const reads = await keyWith('environment:activity:read')
  const credentials = await keyWith('environment:connections:read_credentials')
  const { id } = (await list()).activity[0]
  for (const [path, scoped] of [
    ['/activity', reads],
    [`/activity/${id}`, reads],
    [`/activity/${id}/bodies`, credentials],
  ] as const)
    for (const key of [reads, credentials]) {
      const { status } = await server.call('GET', path, undefined, key.headers)
      assert.equal(status === 403, key !== scoped, path)
    }

  const refused = await server.call('GET', '/proxy/x', undefined, {
    ...reads.headers,
    'Provider-Config-Key': 'sf',
    'Connection-Id': 'forbidden',
  })
  assert.equal(refused.json.error.code, 'forbidden')
  const found = async () => (await list('?connection_id=forbidden')).activity
  await until(async () => (await found()).length === 1)
  const [{ api_key_id, outcome, error, status }] = await found()
  assert.deepEqual([api_key_id, outcome, error, status], [reads.id, 'refused', 'forbidden', 403])
})

test('bodies: for an integration that asks for it, redacted, and for a day', async t => {
  const world: World = await startWorld(t)
  const { call } = world.fairlead
  const { db, close } = await openDb({ url: world.fairlead.databaseUrl })
  t.after(close)
  const id = await world.connect()
  const headers = { ...naming(world, id), 'Content-Type': 'application/json; charset=utf-8' }
  const ours = world.fairlead.key
  const sent = JSON.stringify({ name: 'Edge', password: 'hunter2', nested: { apiKey: 'abc', note: `Bearer ${ours}` } })
  const post = async (body: string | Buffer, type = headers['Content-Type']) => {
    const before = (await call('GET', '/activity')).json.activity.length
    await send(world.fairlead.url, {
      method: 'POST',
      path: '/proxy/x',
      headers: { ...headers, 'Content-Type': type },
      body,
    })
    await until(async () => (await call('GET', '/activity')).json.activity.length > before)
    const [{ id: activity, has_bodies }] = (await call('GET', '/activity')).json.activity
    return { has_bodies, ...(await call('GET', `/activity/${activity}/bodies`)) }
  }
  let answer: { type: string; body: string | Buffer; encoding?: string } = { type: 'application/json', body: '{}' }
  world.upstream.answer = (_req, res) =>
    void res
      .writeHead(200, { 'Content-Type': answer.type, ...(answer.encoding && { 'Content-Encoding': answer.encoding }) })
      .end(answer.body)

  assert.equal((await call('GET', '/integrations/own')).json.data.capture_bodies, false)
  const off = await post(sent)
  assert.deepEqual([off.has_bodies, off.status], [false, 404])
  assert.deepEqual(await db.query(sql`select id from activity_body`), [])

  assert.equal((await call('PATCH', '/integrations/own', { capture_bodies: true })).json.data.capture_bodies, true)
  // Tokens are called token-<n> and refresh-<n> here, too short to be known values; a name hides them.
  answer = { type: 'application/json', body: '{"access_token":"token-0","rows":[{"Id":"001"}]}' }
  const on = await post(sent)
  assert.equal(on.has_bodies, true, on.text)
  assert.deepEqual(on.json, {
    request: {
      type: 'application/json',
      text: '{"name":"Edge","password":"[redacted]","nested":{"apiKey":"[redacted]","note":"Bearer [redacted]"}}',
      truncated: false,
    },
    answer: { type: 'application/json', text: '{"access_token":"[redacted]","rows":[{"Id":"001"}]}', truncated: false },
  })
  const [stored] = await db.query<{ sealed: Buffer }>(sql`select sealed from activity_body`)
  assert.ok(!stored!.sealed.includes('Edge'), 'it is sealed')

  const long = JSON.stringify({
    rows: Array.from({ length: 2_000 }, (_, i) => ({ Id: i, Name: 'Edge Communications' })),
  })
  for (const [encoding, body] of [
    [undefined, long],
    ['gzip', gzipSync(long)],
  ] as const) {
    answer = { type: 'application/json', body, ...(encoding && { encoding }) }
    const { json } = await post('x'.repeat(9_000), 'text/plain')
    assert.deepEqual([json.answer.text, json.answer.truncated], [long.slice(0, 8192), true])
    assert.deepEqual([json.request.text, json.request.truncated], ['x'.repeat(8192), true])
  }

  answer = { type: 'application/octet-stream', body: 'binary' }
  const binary = await post('binary', 'image/png')
  assert.deepEqual([binary.has_bodies, binary.status], [false, 404])
  answer = { type: 'text/plain; charset=utf-16', body: Buffer.from(`password: ${ours}`, 'utf16le') }
  assert.deepEqual((await post('a=1', 'application/x-www-form-urlencoded')).json, {
    request: { type: 'application/x-www-form-urlencoded', text: 'a=1', truncated: false },
    answer: null,
  })

  await db.query(sql`update activity_body set at = at - interval '1 day 1 minute'`)
  const [newest] = (await call('GET', '/activity')).json.activity
  assert.equal((await call('GET', `/activity/${newest.id}/bodies`)).status, 404, 'a day is over')
  await db.query(sql`update activity_ring set since = since - interval '2 days'`)
  await retainActivity(db, kept)
  assert.deepEqual(await db.query(sql`select id from activity_body`), [])
})
