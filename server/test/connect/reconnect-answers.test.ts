/** A reconnect at a provider that answers oddly: without a refresh token, with one that is known already, or with no account in it. */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { type Answer, startFairlead } from '../support/fairlead.ts'
import { addIntegration, begin, callbackOf, openSession } from './support/journey.ts'
import { overlay, sendJson, startProvider, tokens } from './support/provider.ts'
import { scope } from './support/scope.ts'

const provider = await startProvider(scope)
const fairlead = await startFairlead(scope, {
  providers: [
    overlay('mock', `${provider.url}/token`),
    overlay('whole', `${provider.url}/token`, '  revokes: user_and_app\n'),
    overlay('nameless', `${provider.url}/token`, '  identity: []\n'),
  ].join(''),
})
const { call } = fairlead
const { db, close } = await openDb({ url: fairlead.databaseUrl })
scope.after(close)
for (const key of ['mock', 'whole', 'nameless']) await addIntegration(fairlead, key)

/** Each sign-in brings another refresh token, unless the test says which. */
let issued = 0
const answering = (changed: Record<string, unknown> = {}) => {
  provider.answer = (res, asked) =>
    sendJson(200, tokens(provider, { refresh_token: `5Aep-refresh-${issued++}`, ...changed }))(res, asked)
}

async function signIn(key: string, token: string): Promise<Answer> {
  const begun = await begin(fairlead, key, { token })
  return begun.browser.open(callbackOf(begun, 'a-code').href)
}

async function connect(
  key: string,
  changed: Record<string, unknown> = {},
  endUser = `user-${issued}`,
): Promise<string> {
  answering(changed)
  const page = await signIn(key, await openSession(fairlead, { end_user: { id: endUser } }))
  assert.equal(page.status, 200, page.text)
  return (await call('GET', '/connections?limit=1')).json.connections[0].connection_id
}

async function reconnect(key: string, id: string, changed: Record<string, unknown> = {}): Promise<Answer> {
  const body = { connection_id: id, integration_id: key }
  const opened = await call('POST', '/connect/sessions/reconnect', body)
  assert.equal(opened.status, 201, opened.text)
  answering(changed)
  return signIn(key, opened.json.data.token)
}

const credentialOf = async (id: string) => {
  const [row] = await db.query<{ id: string; text: string }>(sql`
    select k.id, (to_jsonb(k) - '{expires_at,lifetime_asked}'::text[])::text as text from credential k join connection c on c.credential_id = k.id where c.connection_id = ${id}`)
  return row!
}
const refreshTokenOf = async (key: string, id: string): Promise<string> =>
  (await call('GET', `/connections/${id}?provider_config_key=${key}&refresh_token=true`)).json.credentials.refresh_token
const revoked = () =>
  provider.otherRequests.filter(({ url }) => url.endsWith('/revoke')).map(({ form }) => form.get('token'))

for (const [what, changed, code] of [
  ['no refresh token', { refresh_token: undefined }, 'refresh_token_missing'],
  ['another organization', { id: 'https://login.test/id/00D000000000002EAA/005000000000001AAA' }, 'account_mismatch'],
  ['another user', { id: 'https://login.test/id/00D000000000001EAA/005000000000002AAA' }, 'account_mismatch'],
  ['no account', { id: undefined }, 'account_mismatch'],
] as const)
  test(`${what}: nothing is changed`, async () => {
    const id = await connect('mock')
    const before = await credentialOf(id)
    const token = await refreshTokenOf('mock', id)
    const page = await reconnect('mock', id, changed)
    assert.deepEqual([page.status, page.headers.get('fairlead-error')], [400, code], page.text)
    assert.equal((await credentialOf(id)).text, before.text)
    assert.ok(!revoked().includes(token))
    // A known account's tokens are ended where they are nobody's.
    if (code === 'account_mismatch') await until(() => revoked().includes(`5Aep-refresh-${issued - 1}`))
  })

test('an account that was never told is not compared', async () => {
  const id = await connect('nameless')
  const before = await credentialOf(id)
  const page = await reconnect('nameless', id, { id: 'https://login.test/id/00D000000000002EAA/005000000000001AAA' })
  assert.equal(page.status, 200, page.text)
  assert.equal((await credentialOf(id)).id, before.id)
})

test('the same refresh token again is the same grant: it is kept, and nothing is revoked', async () => {
  const id = await connect('mock')
  const token = await refreshTokenOf('mock', id)
  const page = await reconnect('mock', id, { refresh_token: token, access_token: '00D!another' })
  assert.equal(page.status, 200, page.text)
  const { credentials } = (await call('GET', `/connections/${id}?provider_config_key=mock&refresh_token=true`)).json
  assert.deepEqual([credentials.refresh_token, credentials.access_token], [token, '00D!another'])
  assert.ok(!revoked().includes(token))
})

test('a refresh token that another connection holds: both stand on its grant, and the old one is ended', async () => {
  const [one, two] = [await connect('mock'), await connect('mock')]
  const [old, shared] = [await refreshTokenOf('mock', one), await refreshTokenOf('mock', two)]
  const lonely = await credentialOf(one)
  const page = await reconnect('mock', one, { refresh_token: shared })
  assert.equal(page.status, 200, page.text)
  assert.equal((await credentialOf(one)).id, (await credentialOf(two)).id)
  for (const id of [one, two]) assert.equal(await refreshTokenOf('mock', id), shared)
  await until(() => revoked().includes(old))
  assert.ok(!revoked().includes(shared))
  const [row] = await db.query(sql`select sealed, gone_at is not null as gone from credential where id = ${lonely.id}`)
  assert.deepEqual(row, { sealed: null, gone: true })
})

test('an import, new or in the place of what is here, is asked about before it is presented', async () => {
  const id = await connect('mock')
  for (const [connection, token] of [
    [id, 'of another server'],
    ['of its own', 'of another server, too'],
  ] as const) {
    const imported = await fairlead.call('POST', '/connections', {
      provider_config_key: 'mock',
      connection_id: connection,
      credentials: { type: 'OAUTH2', access_token: `access ${token}`, refresh_token: token },
      connection_config: { instance_url: provider.url },
    })
    assert.equal(imported.status, 201, imported.text)
    const [row] = await db.query(sql`select suspect from credential where id = ${(await credentialOf(connection)).id}`)
    assert.deepEqual(row, { suspect: true }, connection)
  }
})

test('a refresh token that was replaced is not stored again', async () => {
  const id = await connect('mock')
  const past = await refreshTokenOf('mock', id)
  assert.equal((await reconnect('mock', id)).status, 200)
  const current = await refreshTokenOf('mock', id)
  await until(() => revoked().includes(past))
  const times = revoked().length
  const page = await reconnect('mock', id, { refresh_token: past })
  assert.equal(page.headers.get('fairlead-error'), 'refresh_token_superseded', page.text)
  assert.equal(await refreshTokenOf('mock', id), current)
  // Connecting with it leads to the grant that took its place.
  const other = await connect('mock', { refresh_token: past })
  assert.equal((await credentialOf(other)).id, (await credentialOf(id)).id)
  assert.equal(await refreshTokenOf('mock', other), current)
  assert.equal(revoked().length, times)
})

test('a provider that ends everything of a user at once: nothing of an account that has a grant here is revoked', async () => {
  const id = await connect('whole')
  const [old, times] = [await refreshTokenOf('whole', id), revoked().length]
  assert.equal((await reconnect('whole', id)).status, 200)
  assert.notEqual(await refreshTokenOf('whole', id), old)
  // Another account, which is connected too: its grant must live.
  const someone = { id: 'https://login.test/id/00D000000000002EAA/005000000000007AAA' }
  await connect('whole', someone)
  assert.equal((await reconnect('whole', id, someone)).headers.get('fairlead-error'), 'account_mismatch')
  assert.deepEqual(await db.query(sql`select id from revocation where provider_config_key = 'whole'`), [])
  assert.equal(revoked().length, times)
  // One that is not: what came is ended.
  const stranger = { id: 'https://login.test/id/00D000000000009EAA/005000000000009AAA' }
  assert.equal((await reconnect('whole', id, stranger)).headers.get('fairlead-error'), 'account_mismatch')
  await until(() => revoked().includes(`5Aep-refresh-${issued - 1}`))
})

test('an address somebody gave is not asked for again', async () => {
  answering()
  const token = await openSession(fairlead, { end_user: { id: 'by-address' } })
  const begun = await begin(fairlead, 'mock', { token, query: '&params[hostname]=acme--uat.sandbox.my.salesforce.com' })
  assert.equal((await begun.browser.open(callbackOf(begun, 'a-code').href)).status, 200)
  const id = (await call('GET', '/connections?limit=1')).json.connections[0].connection_id
  const opened = await call('POST', '/connect/sessions/reconnect', { connection_id: id, integration_id: 'mock' })
  const seen = await call('GET', '/connect/session', undefined, { Authorization: `Bearer ${opened.json.data.token}` })
  assert.ok(seen.json.data.reconnect.known.includes('hostname'))
  assert.equal((await signIn('mock', opened.json.data.token)).status, 200)
  const { connection_config } = (await call('GET', `/connections/${id}?provider_config_key=mock`)).json
  assert.equal(connection_config.hostname, 'acme--uat.sandbox.my.salesforce.com')
})

test('where nothing tells accounts apart and connections are confirmed, a reconnect waits like a first sign-in', async () => {
  const [nameless, named] = [await connect('nameless'), await connect('mock')]
  const read = (key: string, id: string) => call('GET', `/connections/${id}?provider_config_key=${key}`)
  const replaced = await refreshTokenOf('mock', named)
  await call('PATCH', '/environment/settings', { confirm_connections: true })
  // Its owner began it, and somebody else was sent the link.
  const victims = await reconnect('nameless', nameless, { access_token: '00D!of-the-victim' })
  const owns = await reconnect('mock', named)
  await call('PATCH', '/environment/settings', { confirm_connections: false })
  assert.deepEqual([victims.status, owns.status], [200, 200])
  const refused = await read('nameless', nameless)
  assert.deepEqual([refused.status, refused.json.error.code], [424, 'connection_unconfirmed'])
  assert.ok(!refused.text.includes('of-the-victim'))
  assert.equal((await read('mock', named)).status, 200, 'the provider said that it is the same account')
  const confirm = (body: object) => call('POST', `/connections/${nameless}/confirm?provider_config_key=nameless`, body)
  assert.equal((await confirm({ end_user_id: 'nobody' })).status, 409)
  assert.equal((await read('nameless', nameless)).status, 424)
  assert.equal((await confirm({})).status, 200)
  assert.equal((await read('nameless', nameless)).status, 200)
  await until(() => revoked().includes(replaced))
})
