/** Fairlead against an authorization server none of us wrote: what it calls wrong is wrong. */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { until } from '../db/until.ts'
import { Browser, type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { type AuthorizationServer, clients, startAuthorizationServer } from './authorization-server.ts'

type Client = keyof typeof clients

const overlay = (issuer: string): string =>
  [
    ['oidc-post', 'body'],
    ['oidc-basic', 'header'],
  ]
    .map(
      ([name, method]) => `${name}:
  display_name: OpenID by ${method}
  auth_mode: OAUTH2
  authorization_url: ${issuer}/auth
  token_url: ${issuer}/token
  introspection_url: ${issuer}/token/introspection
  revocation_url: ${issuer}/token/revocation
  authorization_method: ${method}
  authorization_params: { prompt: consent }
  default_scopes: [openid, offline_access]
  allowed_hosts: ['127.0.0.1']
  proxy: { base_url: ${issuer} }
`,
    )
    .join('')

async function setUp(test: TestContext): Promise<{ server: AuthorizationServer; fairlead: Fairlead }> {
  const t = lastFirst(test)
  let redirectUri = ''
  const server = await startAuthorizationServer(t, () => redirectUri)
  const fairlead = await startFairlead(t, { providers: overlay(server.issuer) })
  redirectUri = `${fairlead.app.url}/oauth/callback`
  for (const [name, { id, secret }] of Object.entries(clients)) {
    const credentials = { type: 'OAUTH2', client_id: id, client_secret: secret }
    const body = { provider: `oidc-${name}`, unique_key: `oidc-${name}`, credentials }
    assert.equal((await fairlead.call('POST', '/integrations', body)).status, 200)
  }
  return { server, fairlead }
}

async function startUrl(fairlead: Fairlead, client: Client): Promise<string> {
  const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
  return `${fairlead.app.url}/oauth/connect/oidc-${client}?connect_session_token=${session.json.data.token}`
}

const connections = async (fairlead: Fairlead) => (await fairlead.call('GET', '/connections')).json.connections

/** The whole flow; answers the id of the connection. */
async function connect(fairlead: Fairlead, client: Client): Promise<string> {
  const page = await new Browser().follow(await startUrl(fairlead, client))
  assert.equal(page.status, 200, page.text)
  assert.match(page.text, /is connected/)
  const [newest] = await connections(fairlead)
  assert.equal(newest.provider_config_key, `oidc-${client}`)
  return newest.connection_id
}

const read = (fairlead: Fairlead, client: Client, id: string, query = '') =>
  fairlead.call('GET', `/connections/${id}?provider_config_key=oidc-${client}&refresh_token=true${query}`)

const userinfo = (fairlead: Fairlead, client: Client, id: string) =>
  fairlead.call('GET', '/proxy/me', undefined, { 'Provider-Config-Key': `oidc-${client}`, 'Connection-Id': id })

describe('against oidc-provider', () => {
  for (const client of ['post', 'basic'] as const)
    it(`connects, calls and renews with client_secret_${client}`, async t => {
      const { server, fairlead } = await setUp(t)
      const id = await connect(fairlead, client)
      assert.deepEqual(server.grants, [
        { type: 'authorization_code', client: clients[client].id, authentication: client },
      ])

      const { json } = await read(fairlead, client, id)
      assert.equal(json.credentials.type, 'OAUTH2')
      assert.deepEqual(json.scopes.granted, ['openid', 'offline_access'])
      const leftMs = Date.parse(json.credentials.expires_at) - Date.now()
      assert.ok(leftMs > 3_500_000 && leftMs <= 3_600_000, `${leftMs} ms left`)
      assert.deepEqual((await userinfo(fairlead, client, id)).json, { sub: 'ada' })

      const tokens = [json.credentials.refresh_token]
      for (let round = 0; round < 3; round++) {
        const renewed = await read(fairlead, client, id, '&force_refresh=true')
        assert.equal(renewed.status, 200, renewed.text)
        tokens.push(renewed.json.credentials.refresh_token)
        assert.deepEqual((await userinfo(fairlead, client, id)).json, { sub: 'ada' })
      }
      assert.equal(new Set(tokens).size, 4, 'every renewal brought a new refresh token')
      assert.equal(server.grants.length, 4)
      assert.deepEqual(server.introspected, [], 'expires_in said when the token ends')
      assert.deepEqual(server.alarms, [])
      for (const secret of [...tokens, clients[client].secret]) assert.ok(!fairlead.log().includes(secret))
    })

  it('presents a rotating token once, however many callers ask for a new one', async t => {
    const { server, fairlead } = await setUp(t)
    const id = await connect(fairlead, 'post')
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => read(fairlead, 'post', id, '&force_refresh=true')),
    )
    assert.deepEqual(new Set(answers.map(answer => answer.status)), new Set([200]))
    assert.deepEqual(server.alarms, [])
    assert.equal((await userinfo(fairlead, 'post', id)).status, 200)
  })

  it('renews after a 401 and the caller never notices', async t => {
    const { server, fairlead } = await setUp(t)
    const id = await connect(fairlead, 'post')
    const { json } = await read(fairlead, 'post', id)
    await server.expire(json.credentials.access_token)
    const answer = await userinfo(fairlead, 'post', id)
    assert.deepEqual([answer.status, answer.json], [200, { sub: 'ada' }])
    assert.deepEqual(
      server.grants.map(grant => grant.type),
      ['authorization_code', 'refresh_token'],
    )
  })

  it('sends a verifier that the server checks', async t => {
    const { server, fairlead } = await setUp(t)
    const browser = new Browser()
    const { location } = await browser.open(await startUrl(fairlead, 'post'))
    const authorize = new URL(location!)
    assert.equal(authorize.searchParams.get('code_challenge_method'), 'S256')

    const without = new URL(authorize)
    without.searchParams.delete('code_challenge')
    without.searchParams.delete('code_challenge_method')
    const refused = await new Browser().open(without.href)
    assert.match(refused.location ?? '', /error=invalid_request&error_description=.*PKCE/)

    // SHA-256 of another verifier, as if the code had been taken to a server that did not begin this sign-in.
    authorize.searchParams.set('code_challenge', 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM')
    const page = await browser.follow(authorize.href)
    assert.equal(page.headers.get('fairlead-error'), 'token_exchange_refused', page.text)
    assert.match(server.alarms.at(-1) ?? '', /^grant\.error: .*code_verifier does not match code_challenge/)
    assert.deepEqual(await connections(fairlead), [])
  })

  it('learns when a token ends by asking once, when the token response does not say', async t => {
    const { server, fairlead } = await setUp(t)
    server.hideLifetime = true
    const id = await connect(fairlead, 'basic')
    const endOf = async () => (await read(fairlead, 'basic', id)).json.credentials.expires_at
    await until(async () => (await endOf()) !== undefined)
    const first = (await read(fairlead, 'basic', id)).json.credentials
    const leftMs = Date.parse(first.expires_at) - Date.now()
    assert.ok(leftMs > 3_500_000 && leftMs <= 3_600_000, `${leftMs} ms left`)
    for (let i = 0; i < 5; i++) await userinfo(fairlead, 'basic', id)
    assert.deepEqual(server.introspected, [first.access_token])

    const second = (await read(fairlead, 'basic', id, '&force_refresh=true')).json.credentials
    await until(async () => (await endOf()) !== undefined)
    for (let i = 0; i < 5; i++) await userinfo(fairlead, 'basic', id)
    assert.deepEqual(server.introspected, [first.access_token, second.access_token])
    assert.deepEqual(server.alarms, [])
  })

  it('says so when the grant has ended', async t => {
    const { server, fairlead } = await setUp(t)
    const id = await connect(fairlead, 'post')
    await server.revoke((await read(fairlead, 'post', id)).json.credentials.refresh_token)
    assert.deepEqual(server.alarms, ['grant.revoked'])

    const call = await userinfo(fairlead, 'post', id)
    assert.deepEqual([call.status, call.headers.get('fairlead-error')], [401, null], "the provider's own answer")
    assert.deepEqual(
      (await connections(fairlead)).map((one: { health: string }) => one.health),
      ['needs_reauth'],
    )
    const answer = await read(fairlead, 'post', id, '&force_refresh=true')
    assert.deepEqual([answer.status, answer.json.error.code], [400, 'invalid_credentials'])
    assert.match(server.alarms[1] ?? '', /^grant\.error: .*invalid_grant/i)
    assert.equal(server.alarms.length, 2, 'a refused token is not presented again')
  })

  for (const key of ['post', 'basic'] as const)
    it(`ends the grant of a deleted connection, and sees that it is dead (${key})`, async t => {
      const { server, fairlead } = await setUp(t)
      const id = await connect(fairlead, key)
      await read(fairlead, key, id, '&force_refresh=true')
      const deleted = await fairlead.call('DELETE', `/connections/${id}?provider_config_key=oidc-${key}`)
      assert.equal(deleted.status, 200)
      const receipt = async () => (await fairlead.call('GET', `/revocations?connection_id=${id}`)).json.revocations[0]
      await until(async () => (await receipt()).ended_at !== null)
      const { status, verified_at } = await receipt()
      assert.equal(status, 'revoked')
      assert.ok(verified_at)
      assert.ok(server.alarms.includes('grant.revoked'))
      assert.deepEqual(
        server.alarms.filter(alarm => alarm !== 'grant.revoked'),
        [],
      )
    })

  it('says that access was not granted', async t => {
    const { server, fairlead } = await setUp(t)
    server.decision = 'deny'
    const page = await new Browser().follow(await startUrl(fairlead, 'post'))
    assert.deepEqual([page.status, page.headers.get('fairlead-error')], [400, 'access_denied'])
    assert.match(page.text, /Access was not granted/)
    assert.match(page.text, /&lt;b&gt;Ada&lt;\/b&gt; said no/, 'what a provider wrote is text')
    assert.deepEqual(await connections(fairlead), [])
    assert.deepEqual(server.grants, [])
  })
})
