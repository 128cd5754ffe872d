/**
 * How the end of a sign-in is told: on the WebSocket as the wire contract has it, in the session's record, and by the last page. Two whole
 * servers on one database, because the process that finishes need not be the one that holds the socket.
 */
import './support/scope.ts'

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { sql } from '../../src/db/sql.ts'
import { openSite } from '../connection/support/site.ts'
import { until } from '../db/until.ts'
import { type Answer, Browser, type Fairlead, request } from '../support/fairlead.ts'
import { scope } from './support/scope.ts'

const site = await openSite(scope, ['sf', 'other'])
const [first, second] = site.servers
const app = 'https://app.example.com'

interface Page {
  id: string
  socket: WebSocket
  /** What came after the acknowledgement, heartbeats left out. */
  // biome-ignore lint/suspicious/noExplicitAny: a test reads members of whatever came
  messages: any[]
}

async function openPage(server: Fairlead, origin: string | undefined = app): Promise<Page> {
  const socket = new WebSocket(server.url.replace('http', 'ws'), { ...(origin && { origin }) })
  scope.after(async () => socket.terminate())
  const messages: Page['messages'] = []
  socket.on('message', data => messages.push(JSON.parse(String(data))))
  await until(() => messages.length > 0)
  const acknowledged = messages.shift()
  assert.deepEqual(Object.keys(acknowledged), ['message_type', 'ws_client_id'])
  assert.equal(acknowledged.message_type, 'connection_ack')
  assert.match(acknowledged.ws_client_id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  return { id: acknowledged.ws_client_id, socket, messages }
}

async function newSession(body: object = { end_user: { id: 'ada' } }): Promise<string> {
  const opened = await first.call('POST', '/connect/sessions', body)
  return opened.json.data.token
}

const start = (token: string, attempt: string, key = 'sf', query = '') =>
  `${first.app.url}/oauth/connect/${key}?connect_session_token=${token}&ws_client_id=${attempt}${query}`

const results = (token: string, query = ''): Promise<Answer> =>
  request(`${second.url}/connect/session/results${query}`, { headers: { Authorization: `Bearer ${token}` } })

/** To the provider and no further: what it answers is not followed. */
async function begin(token: string, attempt: string): Promise<{ browser: Browser; state: string; callback: URL }> {
  const browser = new Browser()
  const { location } = await browser.open(start(token, attempt))
  const authorize = new URL(location ?? '')
  const state = authorize.searchParams.get('state') ?? ''
  const callback = new URL(authorize.searchParams.get('redirect_uri') ?? '')
  callback.searchParams.set('state', state)
  return { browser, state, callback }
}

for (const [where, holder] of [
  ['the process that finishes', first],
  ['another process', second],
] as const)
  test(`a success is told on the socket of ${where}, and stays with the session`, async () => {
    const page = await openPage(holder)
    const token = await newSession()
    const last = await new Browser().follow(start(token, page.id))
    assert.equal(last.status, 200, last.text)
    await until(() => page.messages.length > 0)
    const [connection] = (await first.call('GET', '/connections?limit=1')).json.connections
    assert.deepEqual(page.messages, [
      {
        message_type: 'success',
        provider_config_key: 'sf',
        connection_id: connection.connection_id,
        is_pending: false,
      },
    ])
    const { data } = (await results(token)).json
    const [{ at, account, ...told }] = data
    assert.deepEqual(told, {
      attempt: page.id,
      provider_config_key: 'sf',
      connection_id: connection.connection_id,
      success: true,
      is_pending: false,
      operation: 'creation',
      missing_scopes: [],
      error: null,
    })
    assert.equal(new Date(at).toISOString(), at)
    assert.equal(account.label, account.details[0].value)
    assert.ok(
      account.details.some(({ value }: { value: string }) => /^00D/.test(value)),
      JSON.stringify(account),
    )
    assert.equal(data.length, 1)
  })

test('the last page speaks to the page that opened it by its origin, and to nobody else', async () => {
  const token = await newSession()
  for (const [holder, origin, target] of [
    [first, app, `"${app}"`],
    [second, app, `"${app}"`],
    [first, '', 'null'],
    [first, 'null', 'null'],
    [first, 'https://app.example.com/path', 'null'],
  ] as const) {
    const page = await openPage(holder, origin)
    const { browser, callback } = await begin(token, page.id)
    if (holder === second)
      await until(async () => {
        const rows = await site.db.query(
          sql`select 1 from handshake where attempt = ${page.id} and opener_origin = ${app}`,
        )
        return rows.length > 0
      })
    callback.searchParams.set('error', 'access_denied')
    const last = await browser.open(callback.href)
    assert.equal(last.status, 400)
    assert.ok(last.text.includes(`opened=${target};`), last.text)
    assert.match(last.text, /"type":"nango_oauth_callback_error","payload":\{"message":"Access was not granted/)
    assert.doesNotMatch(last.text, /postMessage\([^)]*\*/)
    assert.match(
      last.headers.get('content-security-policy') ?? '',
      /^default-src 'none'; style-src 'nonce-.*frame-ancestors 'none'$/,
    )
    page.socket.close()
  }
})

test('a denial is told, with what the provider said as text', async () => {
  const page = await openPage(second)
  const token = await newSession()
  const { browser, callback } = await begin(token, page.id)
  callback.searchParams.set('error', 'access_denied')
  callback.searchParams.set('error_description', 'end-user denied authorization')
  await browser.open(callback.href)
  await until(() => page.messages.length > 0)
  const [told] = page.messages
  assert.deepEqual(Object.keys(told), [
    'message_type',
    'provider_config_key',
    'connection_id',
    'error_type',
    'error_desc',
  ])
  assert.equal(told.message_type, 'error')
  assert.equal(told.error_type, 'callback_err')
  assert.match(
    told.error_desc,
    /^Access was not granted.* The provider said: access_denied: end-user denied authorization$/,
  )
  const { data } = (await results(token)).json
  const [{ success, operation, error }] = data
  assert.deepEqual([data.length, success, operation], [1, false, null])
  const { cause: _, ...said } = error
  assert.deepEqual(said, {
    type: 'callback_err',
    code: 'access_denied',
    description: told.error_desc,
    provider_said: 'access_denied: end-user denied authorization',
  })
})

test('what fails before the provider is asked is told, too', async () => {
  const token = await newSession({ end_user: { id: 'ada' }, allowed_integrations: ['other'] })
  const page = await openPage(first)
  const answer = await new Browser().open(start(token, page.id))
  assert.equal(answer.headers.get('fairlead-error'), 'integration_not_allowed')
  await until(() => page.messages.length > 0)
  assert.equal(page.messages[0].error_type, 'provider_config_err')
  assert.equal((await results(token)).json.data[0].error.code, 'integration_not_allowed')
})

test('another browser at the callback is told as a failure and connects nothing', async () => {
  const page = await openPage(first)
  const token = await newSession()
  const before = (await first.call('GET', '/connections')).json.connections.length
  const { callback } = await begin(token, page.id)
  callback.searchParams.set('code', 'stolen')
  await new Browser().open(callback.href)
  await until(() => page.messages.length > 0)
  assert.equal(page.messages[0].error_type, 'state_cookie_err')
  assert.equal((await first.call('GET', '/connections')).json.connections.length, before)
})

test('a client without a socket finds its result by a UUID of its own', async () => {
  const token = await newSession()
  const mine = randomUUID().toUpperCase()
  await new Browser().follow(start(token, mine))
  await new Browser().follow(start(token, randomUUID()))
  const { data } = (await results(token)).json
  assert.equal(data.length, 2)
  assert.equal(data[1].attempt, mine.toLowerCase())
  assert.equal(data[1].success, true)
  assert.ok(data[0].at >= data[1].at)
  const without = await new Browser().follow(`${first.app.url}/oauth/connect/sf?connect_session_token=${token}`)
  assert.equal(without.status, 200)
  assert.equal((await results(token)).json.data[0].attempt, null)
})

test('one session sees nothing of another, and an ended one nothing at all', async () => {
  const mine = await newSession()
  const other = await newSession()
  await new Browser().follow(start(mine, randomUUID()))
  assert.deepEqual((await results(other)).json, { data: [], under_way: [] })
  assert.equal((await results(mine, '?attempt=x')).json.error.code, 'invalid_query_params')
  const withKey = await first.call('GET', '/connect/session/results')
  assert.equal(withKey.json.error.code, 'invalid_connect_session_token_format')
  await request(`${first.url}/connect/session`, { method: 'DELETE', headers: { Authorization: `Bearer ${mine}` } })
  assert.equal((await results(mine)).json.error.code, 'unknown_connect_session_token')
})

test('a sign-in nobody came back from ends as one that expired', async () => {
  const page = await openPage(first)
  const token = await newSession()
  const { browser, callback } = await begin(token, page.id)
  assert.deepEqual((await results(token)).json.data, [], 'still under way')
  await site.db.query(
    sql`update handshake set expires_at = clock_timestamp() - interval '1 second' where attempt = ${page.id}`,
  )
  callback.searchParams.set('code', 'late')
  assert.equal((await browser.open(callback.href)).headers.get('fairlead-error'), 'state_unknown')
  const { data } = (await results(token)).json
  assert.equal(data.length, 1)
  assert.deepEqual([data[0].attempt, data[0].error.type, data[0].error.code], [page.id, 'state_err', 'sign_in_expired'])
  await until(() => page.messages.length > 0)
  assert.equal(page.messages[0].error_type, 'state_err')
})

test('a reconnect is told as an override', async () => {
  const id = await site.connect('grace')
  const opened = await first.call('POST', '/connect/sessions/reconnect', { connection_id: id, integration_id: 'sf' })
  const page = await openPage(first)
  await new Browser().follow(start(opened.json.data.token, page.id))
  await until(() => page.messages.length > 0)
  assert.equal(page.messages[0].connection_id, id)
  const { data } = (await results(opened.json.data.token)).json
  assert.deepEqual([data[0].operation, data[0].connection_id], ['override', id])
})

test('an id that is no UUID, or is sent twice, is refused and told to nobody', async () => {
  const token = await newSession()
  for (const attempt of ['1', 'x'.repeat(36), `${randomUUID()}&ws_client_id=${randomUUID()}`]) {
    const answer = await new Browser().open(start(token, attempt))
    assert.equal(answer.json?.error.code, 'invalid_query_params', answer.text)
  }
  assert.deepEqual((await results(token)).json, { data: [], under_way: [] })
})

test('only GET / is a WebSocket; elsewhere an upgrade is refused or not seen', async () => {
  for (const [path, status] of [
    ['/health', 200],
    ['/proxy/socket', 405],
    ['/via/sf/ada/socket', 405],
    ['//', 404],
    ['/connect/session', 401],
  ] as const) {
    const socket = new WebSocket(`${first.url.replace('http', 'ws')}${path}`)
    const [, answer] = await once(socket, 'unexpected-response')
    assert.equal(answer.statusCode, status, path)
    answer.destroy()
  }
  for (const head of [
    'POST / HTTP/1.1',
    'GET / HTTP/1.1\r\nTransfer-Encoding: gzip',
    'GET / HTTP/1.1\r\nSec-WebSocket-Key: short',
  ]) {
    const raw = connect(Number(new URL(first.url).port), '127.0.0.1')
    raw.end(`${head}\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n`)
    let text = ''
    for await (const piece of raw) text += piece
    assert.doesNotMatch(text, /^HTTP\/1.1 101/, text)
  }
})

test('what a client sends is not read, and a large message ends its socket', async () => {
  const page = await openPage(first)
  page.socket.send(JSON.stringify({ message_type: 'success', connection_id: 'mine' }))
  page.socket.send('x'.repeat(64 * 1024))
  const [code] = await once(page.socket, 'close')
  assert.equal(code, 1009)
  assert.deepEqual(page.messages, [])
})
