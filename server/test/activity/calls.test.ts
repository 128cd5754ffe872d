/** The record of every way a call can end, through a whole server. Each row also says what the others must not say: all members are compared. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { before, beforeEach, test, after as whenDone } from 'node:test'
import type { ActivityView } from '@fairlead/contract'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import type { Db } from '../../src/seams.ts'
import { until } from '../db/until.ts'
import { naming, open, send, startWorld, type World } from '../proxy/world.ts'
import { lastFirst } from '../support/last-first.ts'

let world: World
let id: string
let db: Db
const file = lastFirst({ after: whenDone })

before(async () => {
  world = await startWorld(file)
  const opened = await openDb({ url: world.fairlead.databaseUrl })
  file.after(opened.close)
  db = opened.db
})

beforeEach(async () => {
  id = await world.connect()
  world.issuer.refreshes = 0
  world.upstream.early = undefined
  world.upstream.answer = (_req, res) => void res.end('ok')
})

const call = (path = '/proxy/things/42?q=secret', more: Record<string, string> = {}, method = 'GET', body?: string) =>
  send(world.fairlead.url, {
    method,
    path,
    headers: { ...naming(world, id), ...more },
    ...(body !== undefined && { body }),
  })

/** The one call on this test's connection. */
async function recorded(connection = id): Promise<ActivityView> {
  const list = () => world.fairlead.call('GET', `/activity?connection_id=${connection}`)
  await until(async () => (await list()).json.activity.length > 0)
  const { activity, next_cursor, dropped } = (await list()).json
  assert.deepEqual([activity.length, next_cursor, dropped], [1, null, 0])
  assert.deepEqual((await world.fairlead.call('GET', `/activity/${activity[0].id}`)).json, activity[0])
  return activity[0]
}

/** What a plain GET leaves behind, with what is different about this one. Times and ids are looked at apart. */
async function leaves(different: Partial<ActivityView>, connection = id): Promise<ActivityView> {
  const whole = await recorded(connection)
  const { id: _, request_id, at, api_key_id, sent_ms, first_byte_ms, total_ms, ...row } = whole
  assert.deepEqual(row, {
    ...{ provider_config_key: 'own', connection_id: id, method: 'GET', host: new URL(world.upstream.url).host },
    ...{ path: '/things/{id}', status: 200, outcome: 'answered', error: null, bytes_up: 0, bytes_down: 2, retries: 0 },
    ...{ refreshed: false, repeats_token: false, has_bodies: false },
    ...different,
  })
  assert.match(request_id, /^[0-9a-f]{10}-/)
  assert.ok(api_key_id !== null && api_key_id > 0 && !Number.isNaN(Date.parse(at)))
  const order = [0, sent_ms, first_byte_ms, total_ms].filter(ms => ms !== null)
  assert.deepEqual(
    order,
    order.toSorted((a, b) => a - b),
  )
  return whole
}

test('an answer of the provider', async () => {
  await call()
  const { sent_ms, first_byte_ms } = await leaves({})
  assert.ok(sent_ms !== null && first_byte_ms !== null)
})

test('by path, with a body each way', async () => {
  world.upstream.answer = (_req, res, { body }) => void res.writeHead(201).end(Buffer.concat([body, body]))
  await call(`/via/own/${encodeURIComponent(id)}/v1/things`, {}, 'POST', 'x'.repeat(500))
  await leaves({ method: 'POST', path: '/v1/things', status: 201, bytes_up: 500, bytes_down: 1000 })
})

test('an upload of unknown length is counted as it streams', async () => {
  const body = new PassThrough()
  const req = open(world.fairlead.url, { method: 'PUT', path: '/proxy/upload', headers: naming(world, id), body })
  for (let i = 0; i < 10; i++) body.write(Buffer.alloc(100_000))
  body.end()
  await once(await once(req, 'response').then(([res]) => res.resume()), 'end')
  await leaves({ method: 'PUT', path: '/upload', bytes_up: 1_000_000 })
})

test("the provider's own errors are its answer", async () => {
  world.upstream.answer = (_req, res) => void res.writeHead(500).end('broken')
  await call()
  await leaves({ status: 500, bytes_down: 6 })
})

test('an answer that ends a token: one refresh, and what the second attempt brought', async () => {
  world.upstream.answer = (req, res) =>
    req.headers.authorization === 'Bearer token-1' ? void res.end('ok') : void res.writeHead(401).end('token ended')
  await call()
  assert.equal(world.issuer.refreshes, 1)
  await leaves({ refreshed: true })
})

test('an answer that repeats the token it was asked with goes down as it came, and that it did is said', async () => {
  const token = 'a-token-of-a-usual-length'
  world.issuer.refuse = { status: 200, body: { access_token: token, token_type: 'Bearer', refresh_token: 'r-2' } }
  world.upstream.answer = ({ headers: { authorization } }, res) =>
    authorization === `Bearer ${token}` ? void res.end(authorization) : void res.writeHead(401).end('token ended')
  const answer = await call()
  world.issuer.refuse = undefined
  assert.equal(String(answer.body), `Bearer ${token}`)
  await leaves({ refreshed: true, repeats_token: true, bytes_down: 7 + token.length })
})

test('attempts', async () => {
  let asked = 0
  world.upstream.answer = (_req, res) =>
    ++asked < 3 ? void res.writeHead(503, { 'Retry-After': '0' }).end('later') : void res.end('ok')
  await call(undefined, { Retries: '3' })
  await leaves({ retries: 2 })
})

test('a connection that does not exist', async () => {
  const answer = await send(world.fairlead.url, {
    path: '/proxy/things/42',
    headers: { ...naming(world, id), 'Connection-Id': 'nobody' },
  })
  assert.equal(answer.ours, 'unknown_connection')
  const { sent_ms, first_byte_ms } = await leaves(
    {
      connection_id: 'nobody',
      host: null,
      status: 400,
      outcome: 'refused',
      error: 'unknown_connection',
      bytes_down: 0,
    },
    'nobody',
  )
  assert.deepEqual([sent_ms, first_byte_ms], [null, null])
})

test('our key where a connection should be named is not kept', async () => {
  const before = await db.query(sql`select id from activity where connection_id = ''`)
  await send(world.fairlead.url, {
    path: `/via/own/${world.fairlead.key}/x`,
    headers: { Authorization: `Bearer ${world.fairlead.key}` },
  })
  await until(
    async () => (await db.query(sql`select id from activity where connection_id = ''`)).length > before.length,
  )
  assert.deepEqual(
    await db.query(sql`select id from activity where activity::text like ${`%${world.fairlead.key}%`}`),
    [],
  )
})

test('a path we refuse', async () => {
  assert.equal((await call('/proxy/a/../b')).ours, 'proxy_path_traversal')
  await leaves({
    host: null,
    path: '/a/{id}/b',
    status: 400,
    outcome: 'refused',
    error: 'proxy_path_traversal',
    bytes_down: 0,
  })
})

test('a paused connection', async () => {
  await world.fairlead.call('POST', `/connections/${id}/pause?provider_config_key=own`)
  const answer = await call()
  assert.equal(answer.ours, 'connection_paused')
  await leaves({ host: null, status: 423, outcome: 'refused', error: 'connection_paused', bytes_down: 0 })
})

test('a provider that is not there', async () => {
  id = await world.connect('own', 'http://127.0.0.1:1')
  assert.equal((await call()).ours, 'upstream_unreachable')
  const { first_byte_ms } = await leaves({
    ...{ host: '127.0.0.1:1', status: 502, outcome: 'refused', error: 'upstream_unreachable', bytes_down: 0 },
  })
  assert.equal(first_byte_ms, null)
})

test('a provider that breaks before it answers', async () => {
  world.upstream.early = req => void req.socket.destroy()
  assert.equal((await call(undefined, {}, 'POST', 'x')).ours, 'upstream_failed')
  await leaves({
    method: 'POST',
    status: 502,
    outcome: 'refused',
    error: 'upstream_failed',
    bytes_up: 1,
    bytes_down: 0,
  })
})

test('a limit the provider named', async () => {
  world.upstream.answer = (_req, res) => void res.writeHead(429, { 'Retry-After': '30' }).end('slow down')
  // Each server learns it for itself.
  for (let n = 0; n < world.fairlead.servers; n++) {
    assert.equal((await call()).ours, undefined)
    await leaves({ status: 429, bytes_down: 9 })
  }
  assert.equal((await call()).ours, 'rate_limited')
  const refused = async () =>
    (await world.fairlead.call('GET', `/activity?connection_id=${id}&outcome=refused`)).json.activity
  await until(async () => (await refused()).length === 1)
  const [{ status, error, host, path }] = await refused()
  assert.deepEqual([status, error, host, path], [429, 'rate_limited', null, '/things/{id}'])
})

test('an answer that breaks off', async () => {
  world.upstream.answer = (_req, res) => {
    res.writeHead(200, { 'Content-Length': '1000' }).write('x'.repeat(100))
    setImmediate(() => setTimeout(() => res.destroy(), 50))
  }
  await assert.rejects(call())
  await leaves({ outcome: 'cut', bytes_down: 100 })
})

test('a caller who goes away in the middle of the answer', async () => {
  world.upstream.answer = (_req, res) => void res.writeHead(200).write('x'.repeat(100))
  const req = open(world.fairlead.url, { path: '/proxy/stream', headers: naming(world, id) }).on('error', () => {})
  const [res] = await once(req, 'response')
  await once(res, 'data')
  req.destroy()
  await leaves({ path: '/stream', outcome: 'aborted', bytes_down: 100 })
})

test('a caller who goes away before there is one', async () => {
  const came = Promise.withResolvers<void>()
  world.upstream.answer = () => came.resolve()
  const req = open(world.fairlead.url, { path: '/proxy/stream', headers: naming(world, id) }).on('error', () => {})
  await came.promise
  req.destroy()
  const { first_byte_ms } = await leaves({ path: '/stream', status: null, outcome: 'aborted', bytes_down: 0 })
  assert.equal(first_byte_ms, null)
})

test('a caller who goes away in the middle of an upload', async () => {
  const body = new PassThrough()
  const came = Promise.withResolvers<void>()
  world.upstream.early = req => void req.once('data', came.resolve)
  const req = open(world.fairlead.url, { method: 'PUT', path: '/proxy/upload', headers: naming(world, id), body }).on(
    'error',
    () => {},
  )
  body.write(Buffer.alloc(1000))
  await came.promise
  req.destroy()
  await leaves({ method: 'PUT', path: '/upload', status: null, outcome: 'aborted', bytes_up: 1000, bytes_down: 0 })
})

test('who is not known leaves nothing', async () => {
  const all = async () =>
    (await db.query<{ calls: number }>(sql`select count(*)::int as calls from activity`))[0]!.calls
  await call()
  await recorded()
  const before = await all()
  for (const headers of [{}, { Authorization: `Bearer ${crypto.randomUUID()}` }])
    assert.equal(
      (
        await send(world.fairlead.url, {
          path: '/proxy/x',
          headers: { ...naming(world, id), ...headers, ...(!('Authorization' in headers) && { Authorization: '' }) },
        })
      ).status,
      401,
    )
  id = await world.connect()
  await call()
  await recorded()
  assert.equal(await all(), before + 1)
})

test('a stop writes what is waiting', async t => {
  const own = await startWorld(t)
  const connection = await own.connect()
  await send(own.fairlead.url, { path: '/proxy/x', headers: naming(own, connection) })
  await own.fairlead.app.stop()
  const { db: after, close } = await openDb({ url: own.fairlead.databaseUrl })
  t.after(close)
  assert.deepEqual(await after.query(sql`select connection_id, outcome from activity`), [
    { connection_id: connection, outcome: 'answered' },
  ])
})
