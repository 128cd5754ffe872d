/** Signing in again to an account that is here: what moves, what must not, and which tokens live and die at the provider. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from '../../src/db/sql.ts'
import { openSite, type Site } from '../connection/support/site.ts'
import { until } from '../db/until.ts'
import { type Answer, Browser } from '../support/fairlead.ts'

const ben = 'ben@acme.com.uat'

async function openReconnect(site: Site, id: string, body: object = {}): Promise<string> {
  const opened = await site.servers[0].call('POST', '/connect/sessions/reconnect', {
    connection_id: id,
    integration_id: 'sf',
    ...body,
  })
  assert.equal(opened.status, 201, opened.text)
  return opened.json.data.token
}

/** The provider's log-in page suggests this user. */
const as = (user: string) => ({ integrations_config_defaults: { sf: { authorization_params: { login_hint: user } } } })

const follow = (site: Site, token: string): Promise<Answer> =>
  new Browser().follow(`${site.servers[0].app.url}/oauth/connect/sf?connect_session_token=${token}`)

const reconnect = async (site: Site, id: string, body: object = {}): Promise<Answer> =>
  follow(site, await openReconnect(site, id, body))

const connectAs = async (site: Site, endUser: string, user?: string): Promise<string> => {
  const opened = await site.servers[0].call('POST', '/connect/sessions', {
    end_user: { id: endUser },
    ...(user && as(user)),
  })
  const page = await follow(site, opened.json.data.token)
  assert.equal(page.status, 200, page.text)
  return (await site.servers[0].call('GET', '/connections?limit=1')).json.connections[0].connection_id
}

const rowOf = async (site: Site, id: string) => {
  const [row] = await site.db.query<Record<string, unknown> & { id: string; grant_number: number; text: string }>(sql`
    select k.*, (to_jsonb(k) - '{expires_at,lifetime_asked}'::text[])::text as text from credential k join connection c on c.credential_id = k.id where c.connection_id = ${id}`)
  return row!
}
const aliveGrants = ({ simulator }: Site) => simulator.control.state().grants.filter(grant => grant.ended === null)
const receipts = async (site: Site, query = '') =>
  (await site.servers[0].call('GET', `/revocations${query}`)).json.revocations as Record<string, string | null>[]
const settled = (site: Site, count: number) =>
  until(async () => {
    const all = await receipts(site)
    return all.length === count && all.every(receipt => receipt.ended_at !== null)
  })

test('a session for a reconnect is bound to one connection, and says which', async t => {
  const site = await openSite(t, ['sf', 'other'])
  const [first] = site.servers
  const id = await site.connect('ada')
  const { call } = first

  const opened = await call('POST', '/connect/sessions/reconnect', { connection_id: id, integration_id: 'sf' })
  assert.equal(opened.status, 201, opened.text)
  assert.deepEqual(Object.keys(opened.json.data).sort(), ['connect_link', 'expires_at', 'token'])
  const { token, connect_link } = opened.json.data
  assert.equal(connect_link, `${first.app.url}/connect/?session_token=${token}`)

  const seen = await call('GET', '/connect/session', undefined, { Authorization: `Bearer ${token}` })
  assert.equal(seen.json.data.isReconnecting, true)
  assert.deepEqual(seen.json.data.allowed_integrations, ['sf'])
  assert.equal(seen.json.data.endUser.id, 'ada')
  const plain = await call('POST', '/connect/sessions', { end_user: { id: 'x' } })
  const other = await call('GET', '/connect/session', undefined, { Authorization: `Bearer ${plain.json.data.token}` })
  assert.equal('isReconnecting' in other.json.data, false)

  const { connection_config: config } = (await site.read(first, id)).json
  const { reconnect: expected } = seen.json.data
  assert.equal(expected.connection_id, id)
  const shown = expected.account.details.map(({ value }: { value: string }) => value)
  for (const value of [config.organization_id, config.user_id, new URL(config.instance_url).host])
    assert.ok(shown.includes(value), value)
  assert.deepEqual(Object.keys(seen.json.data.scopes), ['sf'])
  const elsewhere = await new Browser().open(`${first.app.url}/oauth/connect/other?connect_session_token=${token}`)
  assert.equal(elsewhere.headers.get('fairlead-error'), 'integration_not_allowed')

  const valid = { connection_id: id, integration_id: 'sf' }
  for (const [body, path] of [
    [{ ...valid, connection_id: 'none' }, ['connection_id']],
    [{ ...valid, integration_id: 'other' }, ['connection_id']],
    [{ ...valid, integration_id: 'none' }, ['integration_id']],
    [{ ...valid, integrations_config_defaults: { none: {} } }, ['integrations_config_defaults', 'none']],
    [{ ...valid, overrides: { none: {} } }, ['overrides', 'none']],
    [{ connection_id: id }, ['integration_id']],
    [{ integration_id: 'sf' }, ['connection_id']],
    [{ ...valid, allowed_integrations: ['sf'] }, []],
    [{ ...valid, tags: { a: 'x', A: 'y' } }, ['tags', 'A']],
  ] as const) {
    const refused = await call('POST', '/connect/sessions/reconnect', body)
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_body'], JSON.stringify(body))
    assert.deepEqual(refused.json.error.errors[0].path, path, refused.text)
  }
  const query = await call('POST', '/connect/sessions/reconnect?x=1', valid)
  assert.deepEqual([query.status, query.json.error.code], [400, 'invalid_query_params'])

  // The session ends with its connection.
  assert.equal((await call('DELETE', `/connections/${id}?provider_config_key=sf`)).status, 200)
  const gone = await new Browser().open(`${first.app.url}/oauth/connect/sf?connect_session_token=${token}`)
  assert.equal(gone.json.error.code, 'unknown_connect_session_token')
})

test('a reconnect puts the new grant in the place of the old one, for everything that stands on it', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  await site.db.query(sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id, end_user)
    select environment_id, integration_id, credential_id, 'twin', '{"id": "twin"}' from connection`)
  for (const server of site.servers)
    for (const one of [id, 'twin']) assert.equal((await site.proxied(server, one)).status, 200)
  const [old] = aliveGrants(site)
  const before = await rowOf(site, id)
  await site.db.query(sql`update credential set health = 'needs_reauth', cause = 'invalid_grant', paused = true`)

  const page = await reconnect(site, id, { organization: { id: 'acme' }, tags: { plan: 'gold' } })
  assert.equal(page.status, 200, page.text)
  assert.match(page.text, /Reconnected/)
  const after = await rowOf(site, id)
  assert.deepEqual([after.id, after.grant_number], [before.id, before.grant_number + 1])
  assert.deepEqual([after.health, after.cause, after.suspect, after.spent], ['active', null, false, false])
  // What people decided stays decided.
  assert.equal(after.paused, true)
  const resumed = await first.call('POST', `/connections/${id}/resume?provider_config_key=sf`)
  assert.equal(resumed.json.state.name, 'active')
  for (const server of site.servers)
    for (const one of [id, 'twin']) await until(async () => (await site.proxied(server, one)).status === 200)

  // One receipt for each connection that stood on it.
  await settled(site, 2)
  assert.deepEqual(
    aliveGrants(site).map(grant => grant.id === old!.id),
    [false],
  )
  const [receipt] = await receipts(site, `?connection_id=${id}`)
  assert.deepEqual([receipt!.state, receipt!.status], ['reconnected', 'revoked'])
  assert.ok(receipt!.verified_at)
  for (const server of site.servers) {
    assert.equal((await site.proxied(server, 'twin')).status, 200)
    assert.equal((await server.call('POST', `/connections/${id}/refresh?provider_config_key=sf`)).status, 200)
  }
  // Ids and the owner stay; what was given is new.
  const { connections } = (await second.call('GET', '/connections')).json
  assert.deepEqual(
    connections.map((one: { connection_id: string }) => one.connection_id).toSorted(),
    [id, 'twin'].toSorted(),
  )
  const read = (await site.read(first, id)).json
  assert.deepEqual([read.end_user.id, read.end_user.organization.id], ['ada', 'acme'])
  assert.deepEqual(read.tags, { end_user_id: 'ada', organization_id: 'acme', plan: 'gold' })
  for (const server of site.servers) assert.ok(!server.log().includes(old!.refreshToken))
})

test('another account is refused: nothing is stored, and what came is ended', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  await site.connect('somebody else')
  const before = await rowOf(site, id)
  const alive = aliveGrants(site).map(grant => grant.id)

  const page = await reconnect(site, id, { ...as(ben), end_user: { id: 'mallory' } })
  assert.deepEqual([page.status, page.headers.get('fairlead-error')], [400, 'account_mismatch'])
  const config = (await site.read(first, id)).json.connection_config
  const bens = site.simulator.control.state().users.find(user => user.username === ben)!
  for (const shown of ['This is another account', config.user_id, bens.id]) assert.ok(page.text.includes(shown), shown)
  assert.equal((await rowOf(site, id)).text, before.text)
  assert.equal((await site.read(first, id)).json.end_user.id, 'ada')

  await settled(site, 1)
  const [receipt] = await receipts(site)
  assert.deepEqual([receipt!.connection_id, receipt!.state, receipt!.status], [id, 'refused', 'revoked'])
  assert.deepEqual(
    aliveGrants(site).map(grant => grant.id),
    alive,
  )
  for (const server of site.servers) assert.equal((await site.proxied(server, id)).status, 200)
})

test('a new address alone is not another account; a refreshed sandbox is, and the page says so', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  const moved = site.simulator.control.state().orgs.find(org => org.key === 'acme--uat')!
  site.simulator.control.moveOrg({ org: 'acme--uat', domain: 'apex--uat' })
  assert.equal((await reconnect(site, id)).status, 200)
  const { connection_config: config } = (await site.read(first, id)).json
  assert.equal(config.organization_id, moved.id)
  await settled(site, 1)

  const app = site.simulator.app('acme--uat')
  const { id: fresh } = site.simulator.control.refreshSandbox({ org: 'acme--uat' })
  site.simulator.control.addApp({ ...app, callbacks: [`${first.app.url}/oauth/callback`] })
  const page = await reconnect(site, id)
  assert.equal(page.headers.get('fairlead-error'), 'account_mismatch', page.text)
  assert.match(page.text, /a sandbox gets a new ID whenever it is refreshed/)
  for (const shown of [config.organization_id, fresh]) assert.ok(page.text.includes(shown), shown)
  assert.equal((await rowOf(site, id)).grant_number, 2)
})

test('a renewal that was under way misses, and its late answer is ended alone', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  site.simulator.control.delay({ endpoint: 'token', grantType: 'refresh_token', ms: 1_500, when: 'after' })
  const late = second.call('POST', `/connections/${id}/refresh?provider_config_key=sf`)
  await until(() => site.simulator.control.counters().grants.refresh_token === 1)
  assert.equal((await reconnect(site, id)).status, 200)
  const { grant_number, token_version, token_fp } = await rowOf(site, id)
  await late
  const after = await rowOf(site, id)
  assert.deepEqual([after.grant_number, after.token_version, after.token_fp], [grant_number, token_version, token_fp])
  await until(async () => (await receipts(site)).length === 2)
  await until(() => aliveGrants(site).length === 1)
  for (const receipt of await receipts(site)) assert.equal(receipt.state, 'reconnected')
  for (const server of site.servers) assert.equal((await site.proxied(server, id)).status, 200)
  assert.equal((await first.call('POST', `/connections/${id}/refresh?provider_config_key=sf`)).status, 200)
})

test('a provider that gives two grants one access token: ending the old grant takes nothing from the new one', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  site.simulator.control.set({ sharedSessions: true })
  const id = await site.connect('ada')
  const before = (await site.read(first, id)).json.credentials.access_token
  assert.equal((await reconnect(site, id)).status, 200)
  await settled(site, 1)
  for (const server of site.servers) {
    await until(async () => (await site.read(server, id)).json.credentials?.access_token !== before)
    assert.equal((await site.proxied(server, id)).status, 200)
  }
  assert.equal(aliveGrants(site).length, 1)
})

test('two reconnects at once: both are served one after the other, and one grant is left', async t => {
  const site = await openSite(t)
  const id = await site.connect('ada')
  const pages = await Promise.all([1, 2, 3].map(() => reconnect(site, id)))
  assert.deepEqual(
    pages.map(page => page.status),
    [200, 200, 200],
  )
  assert.equal((await rowOf(site, id)).grant_number, 4)
  await settled(site, 3)
  assert.equal(aliveGrants(site).length, 1)
  for (const server of site.servers) assert.equal((await site.proxied(server, id)).status, 200)
})

test('deleted while its owner signs in: the connection does not come back, and the new tokens die', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  const token = await openReconnect(site, id)
  site.simulator.control.delay({ endpoint: 'token', grantType: 'authorization_code', ms: 800, when: 'after' })
  const signing = follow(site, token)
  await until(() => site.simulator.control.counters().grants.authorization_code === 2)
  assert.equal((await first.call('DELETE', `/connections/${id}?provider_config_key=sf`)).status, 200)
  const page = await signing
  assert.equal(page.headers.get('fairlead-error'), 'unknown_connect_session_token', page.text)
  assert.deepEqual(await site.db.query(sql`select id from connection`), [])
  await until(() => aliveGrants(site).length === 0)
  assert.deepEqual((await receipts(site)).map(receipt => receipt.state).toSorted(), ['deleted', 'refused'])
})

test('deleted while its owner signs in, and others stand on the grant: theirs is left as it was', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  await site.db.query(sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id)
    select environment_id, integration_id, credential_id, 'twin' from connection`)
  const token = await openReconnect(site, id)
  const [grant] = aliveGrants(site)
  site.simulator.control.delay({ endpoint: 'token', grantType: 'authorization_code', ms: 800, when: 'after' })
  const signing = follow(site, token)
  await until(() => site.simulator.control.counters().grants.authorization_code === 2)
  assert.equal((await first.call('DELETE', `/connections/${id}?provider_config_key=sf`)).status, 200)
  assert.equal((await signing).headers.get('fairlead-error'), 'unknown_connect_session_token')
  assert.equal((await rowOf(site, 'twin')).grant_number, 1)
  await until(() => aliveGrants(site).length === 1)
  assert.equal(aliveGrants(site)[0]!.id, grant!.id)
  assert.equal((await site.proxied(first, 'twin')).status, 200)
})

test('grants of one account are counted, and the last but one carries a warning', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  site.simulator.control.set({ maxApprovals: 5 })
  const ids: string[] = []
  for (const who of ['a', 'b', 'c']) ids.push(await connectAs(site, who))
  assert.deepEqual((await site.read(first, ids[2]!)).json.warnings, [])
  // Somebody else's grants do not count.
  const bens = await connectAs(site, 'd', ben)
  assert.ok(!first.log().includes('grants_near_limit'))

  const opened = await first.call('POST', '/connect/sessions', { end_user: { id: 'd' } })
  const page = await follow(site, opened.json.data.token)
  assert.match(page.text, /has now been connected 4 times/)
  assert.match(first.log(), /"code":"grants_near_limit","live":4,"limit":5/)
  const [fourth] = (await first.call('GET', '/connections?limit=1')).json.connections
  const [warning, ...more] = (await site.read(first, fourth.connection_id)).json.warnings
  assert.deepEqual([warning.code, warning.payload, more], ['grants_near_limit', { live: 4, limit: 5 }, []])
  assert.match(warning.message, /silently ends the oldest/)
  assert.deepEqual((await site.read(first, bens)).json.warnings, [])
  // A grant that is over does not count.
  assert.equal((await first.call('DELETE', `/connections/${ids[0]}?provider_config_key=sf`)).status, 200)
  const [row] = await site.db.query<{ connection_id: string }>(
    sql`select connection_id from connection where connection_id = ${ids[1]}`,
  )
  assert.deepEqual((await site.read(site.servers[1], row!.connection_id)).json.warnings, [])
})

test('one end user who connects one account again and again has one grant', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  site.simulator.control.set({ maxApprovals: 5 })
  const ids: string[] = []
  for (let i = 0; i < 8; i++) ids.push(await connectAs(site, 'ada'))
  assert.equal(new Set(ids).size, 8)
  // Each time the grant before was ended, with a receipt for each connection that stood on it.
  await settled(site, 28)
  assert.equal(aliveGrants(site).length, 1)
  assert.equal(site.simulator.control.counters().evictions, 0)
  assert.equal((await site.db.query(sql`select id from credential`)).length, 1)
  for (const id of [ids[0]!, ids[7]!]) {
    assert.equal((await site.proxied(first, id)).status, 200)
    assert.deepEqual((await site.read(first, id)).json.warnings, [])
  }
  // Another account, another end user, a paused grant, fewer scopes: each a grant of its own.
  await connectAs(site, 'ada', ben)
  await connectAs(site, 'grace')
  assert.equal((await site.db.query(sql`select id from credential`)).length, 3)
  assert.equal((await first.call('POST', `/connections/${ids[0]}/pause?provider_config_key=sf`)).status, 200)
  const fresh = await connectAs(site, 'ada')
  assert.equal((await site.proxied(first, fresh)).status, 200)
  assert.equal((await site.db.query(sql`select id from credential`)).length, 4)
  await site.db.query(sql`update credential set scopes_granted = scopes_granted || '{extra}'::text[]`)
  await connectAs(site, 'ada')
  assert.equal((await site.db.query(sql`select id from credential`)).length, 5)
  assert.equal(aliveGrants(site).length, 5)
})

test('another account takes the place of the old one only where the owner said so, and never with others on its grant', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  const before = await rowOf(site, id)

  const refused = await reconnect(site, id, as(ben))
  assert.equal(refused.headers.get('fairlead-error'), 'account_mismatch')
  const unsaid = await reconnect(site, id, { ...as(ben), another_account: false })
  assert.equal(unsaid.headers.get('fairlead-error'), 'account_mismatch')
  assert.equal((await rowOf(site, id)).grant_number, before.grant_number)

  const insert = sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id)
    select environment_id, integration_id, credential_id, 'twin' from connection`
  await site.db.query(insert)
  const shared = await reconnect(site, id, { ...as(ben), another_account: true })
  assert.equal(shared.headers.get('fairlead-error'), 'account_mismatch', 'the twin’s owner wants no other account')
  assert.equal((await rowOf(site, 'twin')).grant_number, before.grant_number)
  await site.db.query(sql`delete from connection where connection_id = 'twin'`)

  const ended = receipts(site).then(all => all.length)
  const page = await reconnect(site, id, { ...as(ben), another_account: true })
  assert.equal(page.status, 200, page.text)
  const after = await rowOf(site, id)
  assert.deepEqual([after.id, after.grant_number], [before.id, before.grant_number + 1])
  assert.notEqual(after.account, before.account)
  const { connection_config: config } = (await site.read(first, id)).json
  assert.ok(String(after.account).includes(config.user_id), 'the facts are those of the new account')
  assert.equal((await site.proxied(first, id)).status, 200)
  await settled(site, (await ended) + 1)
  assert.equal(aliveGrants(site).length, 1, 'the grant before it is revoked')
})
