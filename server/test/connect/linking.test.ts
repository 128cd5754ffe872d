/**
 * Who gains access, and who decides it: a start that came from a link waits for a click, an environment's lists are kept to the letter, and a
 * connection that has to be confirmed is of no use before. What must not happen is a handshake, a connection or a usable token.
 */
import './support/scope.ts'

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { channelId, isChannelOf } from '../../src/connect/browser.ts'
import { sql } from '../../src/db/sql.ts'
import { sha256 } from '../../src/lib/id.ts'
import { openSite } from '../connection/support/site.ts'
import { until } from '../db/until.ts'
import { type Answer, Browser, request } from '../support/fairlead.ts'
import { counts } from './support/journey.ts'
import { scope } from './support/scope.ts'

const site = await openSite(scope)
const [first, second] = site.servers
const app = 'https://app.example.com'
const evil = 'https://evil.example'

const settings = (change: object) => first.call('PATCH', '/environment/settings', change)
async function newSession(
  end_user: object = { id: 'ada', display_name: 'Ada <b>', email: 'ada@example.com' },
): Promise<string> {
  return (
    await first.call('POST', '/connect/sessions', { end_user, organization: { id: 'acme', display_name: 'Acme' } })
  ).json.data.token
}
const start = (token: string, query = '') => `${first.app.url}/oauth/connect/sf?connect_session_token=${token}${query}`

/** A page of `origin` in the browser that calls itself `agent`; resolves to its ws_client_id. */
async function page(origin: string, agent = 'one', server = first): Promise<string> {
  const socket = new WebSocket(server.url.replace('http', 'ws'), { origin, headers: { 'user-agent': agent } })
  scope.after(async () => socket.terminate())
  return new Promise(resolve => socket.once('message', data => resolve(JSON.parse(String(data)).ws_client_id)))
}

const goesOn = (answer: Answer) =>
  answer.status === 302 && /\/services\/oauth2\/authorize/.test(answer.headers.get('location') ?? '')
const asks = (answer: Answer) => answer.status === 200 && answer.text.includes('<form method="post"')

interface Case {
  name: string
  origins?: string[]
  headers?: Record<string, string>
  attempt?: () => Promise<string>
  expect: 'goes on' | 'asks' | 'origin_not_allowed'
}

const cross = { 'Sec-Fetch-Site': 'cross-site', 'User-Agent': 'one' }
const there = { ...cross, Referer: `${app}/settings` }
const cases: Case[] = [
  { name: 'a click on a page of ours', headers: { 'Sec-Fetch-Site': 'same-origin' }, expect: 'goes on' },
  { name: 'a link in a mail', headers: { 'Sec-Fetch-Site': 'none' }, expect: 'asks' },
  { name: 'a link in a web mail', headers: { ...cross, Referer: 'https://mail.example/' }, expect: 'asks' },
  { name: 'whoever says nothing of itself', headers: { 'Sec-Fetch-Site': '' }, expect: 'asks' },
  { name: 'a neighbour on our site', headers: { 'Sec-Fetch-Site': 'same-site' }, expect: 'asks' },
  {
    name: 'a prefetch of our own page',
    headers: { 'Sec-Fetch-Site': 'same-origin', 'Sec-Purpose': 'prefetch;prerender' },
    expect: 'asks',
  },
  { name: 'a page with a socket in this browser', headers: there, attempt: () => page(app), expect: 'goes on' },
  {
    name: 'the same, held by another process',
    headers: there,
    attempt: () => page(app, 'one', second),
    expect: 'goes on',
  },
  {
    name: 'a socket in this browser, and nobody says where the link stood',
    headers: cross,
    attempt: () => page(app),
    expect: 'asks',
  },
  { name: 'a socket of another browser', headers: there, attempt: () => page(app, 'two'), expect: 'asks' },
  {
    name: 'a socket in this browser, and a link elsewhere',
    headers: { ...cross, Referer: 'https://mail.example/' },
    attempt: () => page(app),
    expect: 'asks',
  },
  {
    name: 'the same, held by another process, and a link elsewhere',
    headers: { ...cross, Referer: 'https://mail.example/' },
    attempt: () => page(app, 'one', second),
    expect: 'asks',
  },
  {
    name: 'a socket, and a link in a mail',
    headers: { ...cross, 'Sec-Fetch-Site': 'none' },
    attempt: () => page(app),
    expect: 'asks',
  },
  { name: 'an id that was made up', headers: there, attempt: async () => randomUUID(), expect: 'asks' },
  {
    name: 'a page the environment names',
    origins: [app],
    headers: { ...cross, Referer: `${app}/` },
    attempt: async () => randomUUID(),
    expect: 'goes on',
  },
  { name: 'its socket', origins: [app], headers: there, attempt: () => page(app), expect: 'goes on' },
  {
    name: 'its socket, and nobody says where the link stood',
    origins: [app],
    headers: cross,
    attempt: () => page(app),
    expect: 'asks',
  },
  { name: 'a page it does not name', origins: [app], headers: { ...cross, Referer: `${evil}/` }, expect: 'asks' },
  {
    name: 'a socket of a page it does not name',
    origins: [app],
    headers: cross,
    attempt: () => page(evil),
    expect: 'origin_not_allowed',
  },
  {
    name: 'one whose name begins like one it names',
    origins: [app],
    headers: cross,
    attempt: () => page(`${app}.evil.example`),
    expect: 'origin_not_allowed',
  },
  {
    name: 'a socket without an origin, elsewhere',
    origins: [app],
    headers: cross,
    attempt: () => page('null'),
    expect: 'asks',
  },
]

for (const { name, origins = [], headers = {}, attempt, expect } of cases)
  test(`${name}: ${expect}`, async () => {
    await settings({ allowed_origins: origins })
    const id = attempt && (await attempt())
    const before = await counts(site.db)
    const answer = await new Browser().open(start(await newSession(), id ? `&ws_client_id=${id}` : ''), { headers })
    if (expect === 'goes on') return assert.ok(goesOn(answer), answer.text)
    // Only the server that holds the page's socket knows whose page it is; the others ask, which lets nobody in.
    const knows = first.servers === 1 || !asks(answer)
    if (expect === 'asks' || !knows) assert.ok(asks(answer), answer.text)
    else assert.equal(answer.headers.get('fairlead-error'), expect)
    assert.deepEqual(await counts(site.db), before, 'nothing was begun')
    await settings({ allowed_origins: [] })
  })

test('the page says who gains access, as text, and only its own button in this browser goes on', async () => {
  const token = await newSession()
  const browser = new Browser()
  const asked = await browser.open(start(token), { headers: { 'Sec-Fetch-Site': 'none' } })
  for (const text of ['Ada &lt;b&gt;', 'ada@example.com', 'Acme', 'Salesforce Sandbox'])
    assert.ok(asked.text.includes(text), text)
  assert.ok(!asked.text.includes('Ada <b>'))
  assert.match(asked.headers.get('content-security-policy') ?? '', /frame-ancestors 'none'/)
  const action = /action="([^"]+)"/.exec(asked.text)![1]!.replaceAll('&amp;', '&')
  const url = new URL(action, first.app.url)
  const post = (by: Browser, at: URL | string, headers = {}) => by.open(String(at), { method: 'POST', headers })

  const before = await counts(site.db)
  const forged = new URL(url)
  forged.searchParams.set('click', 'A'.repeat(43))
  const without = new URL(url)
  without.searchParams.delete('click')
  // Another browser, and a page of another site: a form it sends carries no Lax cookie.
  for (const answer of [
    await post(new Browser(), url),
    await post(browser, forged),
    await post(browser, without),
    await post(new Browser(), start(token)),
    await request(String(url), { method: 'POST' }),
  ])
    assert.equal(answer.headers.get('fairlead-error'), 'click_missing', answer.text)
  assert.deepEqual(await counts(site.db), before)

  // A second tab keeps the first one's button working.
  await browser.open(start(token), { headers: { 'Sec-Fetch-Site': 'none' } })
  const went = await post(browser, url)
  assert.equal(went.status, 303, went.text)
  const last = await browser.follow(went.location!)
  assert.equal(last.status, 200, last.text)
})

test('an id names its page in its browser for ten minutes', () => {
  const hash = sha256
  const mine = { browser: 'mine', origin: app }
  const id = channelId(hash, mine, 1_000_000)
  assert.equal(isChannelOf(hash, id, mine, 1_000_000 + 599_000), true)
  assert.equal(isChannelOf(hash, id, mine, 1_000_000 + 601_000), false)
  assert.equal(isChannelOf(hash, id, { ...mine, browser: 'theirs' }, 1_000_000), false)
  assert.equal(isChannelOf(hash, id, { ...mine, origin: evil }, 1_000_000), false)
  assert.equal(isChannelOf(hash, id, { ...mine, origin: null }, 1_000_000), false)
  assert.equal(isChannelOf(hash, randomUUID(), mine), false)
  assert.equal(isChannelOf(hash, '', mine), false)
})

test('return URLs are the ones the environment names, to the letter', async () => {
  const done = 'https://app.example.com/done?from=connect'
  await settings({ return_urls: [done] })
  const token = await newSession()
  const before = await counts(site.db)
  for (const wrong of [
    'https://app.example.com/done',
    `${done}&x=1`,
    `${done}/`,
    'https://app.example.com/done?from=connect#',
    'https://app.example.com:443/done?from=connect',
    'https://APP.example.com/done?from=connect',
    'http://app.example.com/done?from=connect',
    'https://app.example.com@evil.example/done?from=connect',
    'https://app.example.com/%64one?from=connect',
    '//app.example.com/done?from=connect',
    'https:app.example.com/done?from=connect',
    '/\\app.example.com/done',
    'javascript:alert(1)',
    '',
  ]) {
    const answer = await new Browser().open(start(token, `&return_url=${encodeURIComponent(wrong)}`))
    assert.equal(answer.headers.get('fairlead-error'), 'return_url_not_allowed', wrong)
  }
  assert.deepEqual(await counts(site.db), before)

  for (const error of [undefined, 'access_denied']) {
    const browser = new Browser()
    const attempt = randomUUID()
    let { location } = await browser.open(
      start(token, `&ws_client_id=${attempt}&return_url=${encodeURIComponent(done)}`),
    )
    if (error) {
      const authorize = new URL(location!)
      location = `${authorize.searchParams.get('redirect_uri')}?error=${error}&state=${authorize.searchParams.get('state')}`
    }
    let answer = await browser.open(location!)
    while (answer.location && answer.location !== done) answer = await browser.open(answer.location)
    assert.deepEqual(
      [answer.status, answer.location, answer.headers.get('referrer-policy')],
      [303, done, 'no-referrer'],
    )
    const results = await request(`${first.url}/connect/session/results`, {
      headers: { Authorization: `Bearer ${token}` },
    })
    const mine = results.json.data.find((one: { attempt: string }) => one.attempt === attempt)
    assert.equal(mine.error?.code, error)
  }
  await settings({ return_urls: [] })
})

const confirm = (id: string, body?: object, server = first) =>
  server.call('POST', `/connections/${id}/confirm?provider_config_key=sf`, body)

async function connectUnconfirmed(): Promise<{ id: string; token: string }> {
  await settings({ confirm_connections: true })
  const token = await newSession()
  const last = await new Browser().follow(start(token))
  assert.equal(last.status, 200, last.text)
  await settings({ confirm_connections: false })
  const results = await request(`${first.url}/connect/session/results`, {
    headers: { Authorization: `Bearer ${token}` },
  })
  const [{ connection_id, is_pending }] = results.json.data
  assert.equal(is_pending, true)
  return { id: connection_id, token }
}

async function isUnusable(id: string): Promise<void> {
  for (const server of site.servers) {
    const read = await site.read(server, id)
    assert.deepEqual([read.status, read.json.error.code], [424, 'connection_unconfirmed'], read.text)
    const proxied = await site.proxied(server, id)
    assert.deepEqual([proxied.status, proxied.headers.get('fairlead-error')], [424, 'connection_unconfirmed'])
    const renewed = await server.call('POST', `/connections/${id}/refresh?provider_config_key=sf`)
    assert.equal(renewed.json.error.code, 'connection_unconfirmed')
  }
}

test('a connection that has to be confirmed is of no use before, and is afterwards, on every server', async () => {
  const { id } = await connectUnconfirmed()
  await isUnusable(id)
  const [listed] = (await first.call('GET', `/connections?connectionId=${id}`)).json.connections
  assert.match(listed.state.message, /waits for POST \/connections\/:id\/confirm/)
  const wrong = await confirm(id, { end_user_id: 'mallory' })
  assert.deepEqual([wrong.status, wrong.json.error.code], [409, 'conflict'])
  await isUnusable(id)
  assert.equal((await confirm('nobody')).status, 404)
  assert.deepEqual((await confirm(id, { end_user_id: 'ada' }, second)).json, { success: true })
  for (const server of site.servers) {
    await until(async () => (await site.read(server, id)).status === 200)
    assert.equal((await site.proxied(server, id)).status, 200)
  }
  assert.deepEqual((await confirm(id)).json, { success: true }, 'twice is harmless')
  assert.equal((await site.read(first, id)).json.confirm_by, null)
  const trail = await site.db.query<{ action: string }>(
    sql`select action from audit where target = ${`sf/${id}`} order by sequence`,
  )
  assert.deepEqual(
    trail.map(({ action }) => action).filter(action => /linking|confirm/.test(action)),
    ['linking.mismatch', 'connection.confirmed'],
  )
})

test('what nobody confirms in time is deleted and ended at the provider, and cannot be confirmed any more', async () => {
  const { id } = await connectUnconfirmed()
  await site.db.query(
    sql`update connection set confirm_by = clock_timestamp() - interval '1 second' where connection_id = ${id}`,
  )
  const late = await confirm(id)
  assert.equal(late.status, 404, late.text)
  await until(
    async () => (await first.call('GET', `/connections?connectionId=${id}`)).json.connections.length === 0,
    60_000,
  )
  await until(async () => {
    const { revocations } = (await first.call('GET', `/revocations?connection_id=${id}`)).json
    return revocations.length === 1 && revocations[0].status === 'revoked'
  }, 60_000)
})
