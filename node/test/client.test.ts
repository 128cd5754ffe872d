/** The client against a real server and against servers that are none: what is thrown, and what must not be sent. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { Fairlead, FairleadError } from '@fairlead/node'
import { openSite } from '../../server/test/connection/support/site.ts'
import { freePort } from '../../server/test/support/fairlead.ts'

type Test = { after(work: () => Promise<void>): void }

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const key = '0f0e0d0c-0b0a-4908-8706-050403020100'
const name = { provider_config_key: 'sf', connection_id: 'ada' }

async function gather<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = []
  for await (const item of items) all.push(item)
  return all
}

async function thrown(work: Promise<unknown>): Promise<FairleadError> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  assert.ok(error instanceof FairleadError, String(error))
  return error
}

test('every group of calls against a real server', async t => {
  const site = await openSite(t)
  const [server] = site.servers
  const fairlead = new Fairlead({ url: `${server.url}/`, apiKey: server.key })
  const ids = [await site.connect('ada'), await site.connect('grace')]

  const listed = await gather(fairlead.connections.list())
  assert.deepEqual(
    listed.map(one => one.connection_id),
    ids.toReversed(),
  )
  assert.deepEqual(await gather(fairlead.connections.list({ tags: { none: 'such' } })), [])
  const connection = listed[0]!
  const read = await fairlead.connections.get(connection)
  assert.equal(read.credentials.type, 'OAUTH2')
  assert.equal('refresh_token' in read.credentials, false)
  assert.ok((await fairlead.connections.get(connection, { refresh_token: true })).credentials.refresh_token)
  assert.equal((await fairlead.connections.refresh(connection)).health, 'active')
  assert.equal((await fairlead.connections.pause(connection)).state.name, 'paused')
  assert.equal((await thrown(fairlead.proxy.get(connection, '/x'))).code, 'connection_paused')
  await fairlead.connections.resume(connection)
  assert.match((await fairlead.connectSessions.reconnect(connection)).connect_link, /session_token=/)

  const answer = await fairlead.proxy.get(connection, 'services/data/v66.0/limits', {
    headers: { Accept: 'text/json' },
  })
  assert.equal(answer.status, 200)
  // What the provider refuses is its answer, not an exception.
  const refused = await fairlead.proxy.post(connection, '/services/data/v66.0/sobjects/Account', { json: {} })
  assert.equal(refused.status, 400)
  const failing = fairlead.proxy.pages(connection, '/services/data/v66.0/query', { query: { q: 'SELECT' } })
  const error = await thrown(failing.next())
  assert.deepEqual([error.code, error.status, error.provider], ['provider_answer', 400, true])
  assert.match(String(error.payload), /MALFORMED_QUERY/)

  const query = { q: 'SELECT Name FROM Account ORDER BY Name' }
  const pages = await gather(
    fairlead.proxy.pages<{ Name: string }>(connection, '/services/data/v66.0/query', {
      query,
      headers: { 'Sforce-Query-Options': 'batchSize=200' },
    }),
  )
  const { totalSize } = pages[0]!.body as { totalSize: number }
  assert.equal(new Set(pages.flatMap(page => page.items.map(item => item.Name))).size, totalSize)

  assert.deepEqual(
    (await fairlead.integrations.list()).map(one => one.unique_key),
    ['sf'],
  )
  assert.equal((await fairlead.integrations.update('sf', { display_name: 'CRM' })).display_name, 'CRM')
  assert.equal((await fairlead.providers.list({ search: 'sandbox' }))[0]!.name, 'salesforce-sandbox')
  await fairlead.connections.delete(connection)
  assert.equal((await thrown(fairlead.connections.get(connection))).status, 404)
  const wrong = await thrown(fairlead.connectSessions.create({ end_user: { id: '' } }))
  assert.deepEqual([wrong.code, wrong.provider, wrong.issues[0]?.path], ['invalid_body', false, ['end_user', 'id']])
  assert.equal(
    (await thrown(new Fairlead({ url: server.url, apiKey: crypto.randomUUID() }).integrations.list())).code,
    'unknown_account',
  )
})

test('a list of several pages is one list', async t => {
  const asked: string[] = []
  const url = await serve(t, (req, res) => {
    asked.push(req.url ?? '')
    const page = Number(new URL(req.url ?? '', 'http://x').searchParams.get('page'))
    const connections = Array.from({ length: page < 2 ? 500 : 1 }, (_, i) => ({ connection_id: `${page}-${i}` }))
    res.end(JSON.stringify({ connections }))
  })
  const listing = new Fairlead({ url, apiKey: key }).connections.list({ search: 'a b' })
  assert.equal((await listing.next()).value?.connection_id, '0-0')
  assert.equal(asked.length, 1, 'no page before somebody wants it')
  let count = 1
  for await (const _ of listing) count++
  assert.equal(count, 1001)
  assert.deepEqual(
    asked,
    [0, 1, 2].map(page => `/connections?search=a+b&limit=500&page=${page}`),
  )
})

test('nobody there, and somebody else there', async t => {
  const closed = new Fairlead({ url: `http://127.0.0.1:${await freePort()}`, apiKey: key })
  for (const work of [closed.integrations.list(), closed.proxy.get(name, '/x')]) {
    const error = await thrown(work)
    assert.deepEqual([error.code, error.status], ['unreachable', 0])
    assert.ok(error.cause)
  }
  const stopped = AbortSignal.abort(new Error('enough'))
  await assert.rejects(closed.proxy.get(name, '/x', { signal: stopped }), /enough/)

  let stolen = false
  const elsewhere = await serve(t, (_req, res) => {
    stolen = true
    res.end('{}')
  })
  for (const listener of [
    (_req, res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<h1>nginx</h1>'),
    (_req, res) => res.writeHead(404).end('{"error":"Not Found"}'),
    (_req, res) => res.writeHead(302, { location: elsewhere }).end(),
  ] as RequestListener[]) {
    const stranger = new Fairlead({ url: await serve(t, listener), apiKey: key })
    assert.equal((await thrown(stranger.integrations.list())).code, 'not_fairlead')
  }
  assert.equal(stolen, false, 'a redirect is not followed with the key')
})

test('errors carry what the answer said', async t => {
  const url = await serve(t, (_req, res) =>
    res
      .writeHead(503, { 'Fairlead-Error': 'provider_busy', 'Retry-After': '7' })
      .end('{"error":{"code":"provider_busy","message":"Later.","payload":{"id":1}}}'),
  )
  const error = await thrown(new Fairlead({ url, apiKey: key }).proxy.get(name, '/x'))
  assert.deepEqual(
    [error.code, error.status, error.provider, error.retryAfter, error.payload, error.message],
    ['provider_busy', 503, false, 7, { id: 1 }, 'Later.'],
  )
})

test('a proxied call carries what it was given, and no path leads out of the proxy', async t => {
  const asked: { url: string; headers: Record<string, unknown>; body: string }[] = []
  const url = await serve(t, async (req, res) => {
    let body = ''
    for await (const piece of req) body += piece
    asked.push({ url: req.url ?? '', headers: req.headers, body })
    res.end('{}')
  })
  const { proxy } = new Fairlead({ url, apiKey: key })
  await proxy.post(name, '/a/b?c=d', {
    query: { e: 'f g', none: undefined },
    json: { x: 1 },
    retries: 2,
    retryOn: [409],
  })
  const [{ url: at, headers, body }] = asked as [(typeof asked)[0]]
  assert.deepEqual([at, body], ['/proxy/a/b?c=d&e=f+g', '{"x":1}'])
  assert.deepEqual(
    [
      headers.authorization,
      headers['provider-config-key'],
      headers['connection-id'],
      headers.retries,
      headers['retry-on'],
    ],
    [`Bearer ${key}`, 'sf', 'ada', '2', '409'],
  )
  assert.equal(headers['content-type'], 'application/json')
  for (const path of ['../connections/ada', '/..', 'a/../../integrations', '/%2e%2e/integrations', 'a/.%2E', '\\..\\x'])
    assert.equal((await thrown(proxy.get(name, path))).code, 'proxy_path_traversal', path)
  assert.equal(asked.length, 1)
  await proxy.get(name, '/a..b/...?x=../y')
  assert.equal(asked[1]!.url, '/proxy/a..b/...?x=../y')
})

test('settings that cannot work are refused at once', () => {
  assert.throws(() => new Fairlead({ url: 'localhost:3003', apiKey: key }), /`url` must be an http or https URL/)
  assert.throws(() => new Fairlead({ url: 'http://a', apiKey: key }).webhooks.verify('{}', {}), /webhookSigningKey/)
})
