/**
 * A sign-in that goes well, from the session to the deleted connection, and the contract of every endpoint on the way. Against the
 * Salesforce simulator, which refuses what Salesforce refuses, and against a mock that keeps every byte of the token request.
 */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { walkConsent } from '../../../demo/consent.ts'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { buildPages } from '../../../pages/build.ts'
import { openKeyedHash } from '../../src/account/pepper.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { type Answer, Browser, request, startFairlead } from '../support/fairlead.ts'
import { vaultOn } from '../support/vault.ts'
import { addIntegration, begin, callbackOf, clientId, clientSecret, openSession, startUrl } from './support/journey.ts'
import { overlay, sendJson, startProvider, tokens } from './support/provider.ts'
import { scope } from './support/scope.ts'

const simulator = await startSimulator({ autoApprove: true, contacts: 1 })
scope.after(() => simulator.close())
const provider = await startProvider(scope)
provider.answer = (res, asked) => sendJson(200, tokens(provider))(res, asked)

const encryptionKey = randomBytes(32).toString('base64')
const fairlead = await startFairlead(scope, {
  env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey },
  providers: [
    sandboxOverlay(simulator.base('test'), ['127.0.0.1']),
    sandboxOverlay(simulator.base('test', 'name'), ['*.salesforce.localhost']).replace(
      'salesforce-sandbox:',
      'by-name:\n  alias: salesforce-sandbox',
    ),
    overlay('mock', `${provider.url}/token`),
    overlay('mock-basic', `${provider.url}/token`, '  authorization_method: header\n'),
    overlay('mock-json', `${provider.url}/token`, '  body_format: json\n'),
  ].join(''),
})
const { call } = fairlead
const { db, close } = await openDb({ url: fairlead.databaseUrl })
scope.after(close)

const app = simulator.app('acme--uat')
simulator.control.setApp({ clientId: app.clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
for (const key of ['salesforce-sandbox', 'by-name']) {
  const credentials = { type: 'OAUTH2', client_id: app.clientId, client_secret: app.clientSecret }
  assert.equal((await call('POST', '/integrations', { provider: key, unique_key: key, credentials })).status, 200)
}
for (const key of ['mock', 'mock-basic', 'mock-json']) await addIntegration(fairlead, key)

const utcOffset = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$/
const uuid4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** A key with exactly these scopes. The API cannot make one yet, so it is written where the server looks it up. */
const keyedHash = await openKeyedHash(db, await vaultOn(db, encryptionKey))
async function keyWith(...scopes: string[]): Promise<string> {
  const key = randomUUID()
  await db.query(sql`insert into api_key (environment_id, display_name, lookup, scopes)
    select id, ${key}, ${keyedHash(key)}, ${scopes} from environment where name = 'dev'`)
  return key
}
const as = (key: string) => ({ Authorization: `Bearer ${key}` })

function failsWith(answer: Answer, status: number, code: string, path?: (string | number)[]): void {
  assert.equal(answer.json?.error.code, code, answer.text)
  assert.equal(answer.status, status)
  assert.equal(answer.headers.get('fairlead-error'), code)
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
  assert.equal(typeof answer.json.error.message, 'string')
  if (path)
    assert.deepEqual(
      answer.json.error.errors.map((issue: { path: unknown }) => issue.path),
      [path],
    )
}

async function connectionOf(endUserId: string, key: string): Promise<string> {
  const { json } = await call('GET', `/connections?endUserId=${endUserId}&integrationId=${key}`)
  assert.equal(json.connections.length, 1)
  return json.connections[0].connection_id
}

test('a sandbox is connected through the simulator', async t => {
  const session = await call('POST', '/connect/sessions', {
    end_user: { id: 'ada', email: 'ada@acme.com', display_name: 'Ada', tags: { Team: 'sales' } },
    organization: { id: 'acme', display_name: 'Acme' },
    allowed_integrations: ['salesforce-sandbox'],
    tags: { Plan: 'gold' },
  })
  const { token, connect_link, expires_at } = session.json.data
  const tags = {
    end_user_id: 'ada',
    end_user_email: 'ada@acme.com',
    end_user_display_name: 'Ada',
    organization_id: 'acme',
    organization_display_name: 'Acme',
    team: 'sales',
    plan: 'gold',
  }
  const endUser = {
    id: 'ada',
    email: 'ada@acme.com',
    display_name: 'Ada',
    tags: { Team: 'sales' },
    organization: { id: 'acme', display_name: 'Acme' },
  }

  await t.test('the session is answered as the contract says', () => {
    assert.equal(session.status, 201)
    assert.deepEqual(Object.keys(session.json.data).sort(), ['connect_link', 'expires_at', 'token'])
    assert.match(token, /^nango_connect_session_[0-9a-f]{64}$/)
    assert.equal(connect_link, `${fairlead.app.url}/connect/?session_token=${token}`)
    const life = Date.parse(expires_at) - Date.now()
    assert.ok(life > 29 * 60_000 && life <= 30 * 60_000, expires_at)
  })

  const browser = new Browser()
  const redirect = await browser.open(startUrl(fairlead, 'salesforce-sandbox', token))
  await t.test('the start redirects to the provider and binds the browser', () => {
    assert.equal(redirect.status, 302)
    const authorize = new URL(redirect.location ?? '')
    assert.equal(`${authorize.origin}${authorize.pathname}`, `${simulator.base('test')}/services/oauth2/authorize`)
    assert.deepEqual([...authorize.searchParams.keys()].sort(), [
      'client_id',
      'code_challenge',
      'code_challenge_method',
      'prompt',
      'redirect_uri',
      'response_type',
      'scope',
      'state',
    ])
    assert.equal(authorize.searchParams.get('redirect_uri'), `${fairlead.app.url}/oauth/callback`)
    assert.match(authorize.searchParams.get('state') ?? '', /^[\w-]{43}$/)
    const [cookie = '', ...more] = redirect.headers.getSetCookie()
    assert.match(
      cookie,
      /^fairlead_[0-9a-f]{16}=[\w-]{43}; Path=\/; HttpOnly; SameSite=Lax; Max-Age=600$/,
      'on http: no Secure, no __Host-',
    )
    assert.equal(more.length, 0)
    assert.equal(redirect.headers.get('cache-control'), 'no-store')
    assert.equal(redirect.headers.get('referrer-policy'), 'no-referrer')
  })

  const done = await browser.follow(redirect.location ?? '')
  await t.test('the callback answers 200 with a page that leaves nothing behind', () => {
    assert.equal(done.status, 200, done.text)
    assert.equal(new URL(done.url).pathname, '/oauth/callback')
    assert.match(done.text, /Salesforce Sandbox is connected/)
    assert.equal(done.headers.get('cache-control'), 'no-store')
    assert.equal(done.headers.get('referrer-policy'), 'no-referrer')
    assert.match(done.headers.get('content-security-policy') ?? '', /frame-ancestors 'none'/)
    assert.match(done.text, /history\.replaceState\(null,'',location\.pathname\)/)
    assert.doesNotMatch(done.text, /https?:\/\//, 'no third party')
    assert.match(done.headers.getSetCookie().join(), /^fairlead_[0-9a-f]{16}=; .*Max-Age=0/)
  })

  const id = await connectionOf('ada', 'salesforce-sandbox')
  await t.test('the list shows it, newest first, without secrets', async () => {
    const { status, json } = await call('GET', '/connections')
    assert.equal(status, 200)
    const [listed] = json.connections
    assert.match(listed.created, utcOffset)
    assert.equal(typeof listed.id, 'number')
    assert.match(listed.connection_id, uuid4)
    assert.deepEqual(listed, {
      id: listed.id,
      connection_id: id,
      provider_config_key: 'salesforce-sandbox',
      provider: 'salesforce-sandbox',
      errors: [],
      end_user: endUser,
      tags,
      metadata: null,
      created: listed.created,
      health: 'active',
      state: { name: 'active', cause: null, message: 'It works.', since: listed.state.since },
    })
    assert.ok(Math.abs(Date.parse(listed.state.since) - Date.parse(listed.created)) < 1_000, listed.state.since)
  })

  await t.test('it is read with a token that works, and with a refresh token only when asked', async () => {
    const { status, json } = await call('GET', `/connections/${id}?provider_config_key=salesforce-sandbox`)
    assert.equal(status, 200)
    for (const name of ['created_at', 'updated_at', 'last_fetched_at']) assert.match(json[name], utcOffset)
    const { credentials, connection_config, ...rest } = json
    assert.deepEqual(connection_config, {
      instance_url: simulator.base('acme--uat'),
      organization_id: connection_config.organization_id,
      user_id: connection_config.user_id,
      organization_kind: 'sandbox',
      instance_name: 'USA408S',
      api_version: '68.0',
    })
    assert.match(connection_config.organization_id, /^00D\w{15}$/)
    assert.match(connection_config.user_id, /^005\w{15}$/)
    assert.deepEqual(rest.scopes.requested, ['api', 'refresh_token'])
    assert.deepEqual(rest.scopes.granted.toSorted(), ['api', 'refresh_token'])
    assert.deepEqual(rest.end_user, endUser)
    assert.deepEqual(rest.tags, tags)
    assert.equal(rest.metadata, null)
    assert.equal(rest.webhook_url_override, null)
    assert.deepEqual(rest.errors, [])
    assert.equal(credentials.type, 'OAUTH2')
    assert.equal(credentials.raw.access_token, credentials.access_token)
    assert.doesNotMatch(JSON.stringify(json), /refresh_?token":|5Aep/i)

    const { Authorization } = as(credentials.access_token)
    const limits = await request(`${connection_config.instance_url}/services/data/v66.0/limits`, {
      headers: { Authorization },
    })
    assert.equal(limits.status, 200)

    const asked = await call(
      'GET',
      `/connections/${id}?provider_config_key=salesforce-sandbox&refresh_token=true&force_refresh=false`,
    )
    assert.match(asked.json.credentials.refresh_token, /^5Aep/)
    assert.equal(asked.json.credentials.raw.refresh_token, asked.json.credentials.refresh_token)
  })

  await t.test('a key without read_credentials gets everything but the credentials', async () => {
    const reader = await keyWith('environment:connections:read')
    const path = `/connections/${id}?provider_config_key=salesforce-sandbox`
    const { status, json, text } = await call('GET', path, undefined, as(reader))
    assert.equal(status, 200)
    assert.deepEqual(json.credentials, {})
    assert.doesNotMatch(text, /00D\w+!/)
    for (const flag of ['refresh_token', 'force_refresh', 'refresh_github_app_jwt_token'])
      failsWith(await call('GET', `${path}&${flag}=true`, undefined, as(reader)), 403, 'forbidden')
  })

  await t.test('every list filter finds it, and another value does not', async () => {
    const found = async (query: string) => (await call('GET', `/connections?${query}`)).json.connections.length
    const filters: [string, string][] = [
      [`connectionId=${id}`, `connectionId=${randomUUID()}`],
      ['endUserId=ada', 'endUserId=ad'],
      ['endUserOrganizationId=acme', 'endUserOrganizationId=umbrella'],
      ['integrationId=other,salesforce-sandbox', 'integrationId=other'],
      ['tags[plan]=gold&tags[team]=sales', 'tags[plan]=gold&tags[team]=support'],
      ['tags[PLAN]=gold', 'tags[plan]=Gold'],
      ['search=acme.com', 'search=%25'],
      ['limit=1', 'limit=1&page=1'],
      ['state=active', 'state=paused'],
    ]
    for (const [hit, miss] of filters) {
      assert.equal(await found(hit), 1, hit)
      assert.equal(await found(miss), 0, miss)
    }
  })

  await t.test('what is missing has its own status on every verb', async () => {
    const none = randomUUID()
    const key = 'provider_config_key=salesforce-sandbox'
    failsWith(await call('GET', `/connections/${none}?${key}`), 404, 'not_found')
    failsWith(await call('GET', `/connections/${id}?provider_config_key=mock`), 404, 'not_found')
    failsWith(await call('GET', `/connections/${id}?provider_config_key=none`), 400, 'unknown_provider_config')
    failsWith(await call('DELETE', `/connections/${none}?${key}`), 400, 'unknown_connection')
    failsWith(await call('DELETE', `/connections/${id}?provider_config_key=none`), 400, 'unknown_provider_config')
    assert.equal((await call('GET', '/connections')).json.connections.length, 1, 'nothing was deleted')
  })

  await t.test('deleting it deletes the grant with its tokens', async () => {
    const path = `/connections/${id}?provider_config_key=salesforce-sandbox`
    const { status, json } = await call('DELETE', path)
    assert.deepEqual({ status, json }, { status: 200, json: { success: true } })
    failsWith(await call('GET', path), 404, 'not_found')
    failsWith(await call('DELETE', path), 400, 'unknown_connection')
    // The row stays as a tombstone, for whatever still refers to it; of the secret nothing is left in it.
    assert.deepEqual(await db.query(sql`select sealed, config from credential where gone_at is not null`), [
      { sealed: null, config: {} },
    ])
    assert.deepEqual(await db.query(sql`select id from credential where gone_at is null`), [])
  })
})

test('a sandbox reached by name, as a browser reaches it, ends the same way', async () => {
  const token = await openSession(fairlead, { end_user: { id: 'by-name' } })
  await walkConsent(startUrl(fairlead, 'by-name', token))
  const id = await connectionOf('by-name', 'by-name')
  const { json } = await call('GET', `/connections/${id}?provider_config_key=by-name`)
  assert.equal(json.connection_config.instance_url, simulator.base('acme--uat', 'name'))
})

test('the token request', async t => {
  /** Connects at the mock and returns both halves of what it saw. */
  async function exchanged(key: string) {
    const begun = await begin(fairlead, key)
    const done = await begun.browser.open(callbackOf(begun, 'the code').href)
    assert.equal(done.status, 200, done.text)
    const asked = provider.tokenRequests.at(-1)!
    return { asked, authorize: begun.authorize.searchParams, state: begun.state }
  }

  await t.test('repeats redirect_uri byte for byte and proves the challenge', async () => {
    const { asked, authorize } = await exchanged('mock')
    assert.equal(asked.form.get('redirect_uri'), authorize.get('redirect_uri'))
    // Undecoded on both sides, so that two spellings of one URL would differ.
    const raw = (text: string) => /redirect_uri=([^&]*)/.exec(text)?.[1]
    assert.equal(raw(asked.body), encodeURIComponent(authorize.get('redirect_uri') ?? ''))
    assert.equal(authorize.get('code_challenge_method'), 'S256')
    const verifier = asked.form.get('code_verifier') ?? ''
    assert.match(verifier, /^[A-Za-z0-9._~-]{43,128}$/, 'RFC 7636 §4.1')
    assert.equal(createHash('sha256').update(verifier).digest('base64url'), authorize.get('code_challenge'))
    assert.equal(asked.form.get('code'), 'the code')
    assert.equal(asked.form.get('grant_type'), 'authorization_code')
  })

  await t.test('takes a fresh state, verifier and cookie every time', async () => {
    const runs = [await exchanged('mock'), await exchanged('mock')]
    for (const of of [
      (run: (typeof runs)[number]) => run.state,
      (run: (typeof runs)[number]) => run.asked.form.get('code_verifier'),
    ])
      assert.equal(new Set(runs.map(of)).size, 2)
  })

  const ways: { key: string; header: boolean; json?: boolean }[] = [
    { key: 'mock', header: false },
    { key: 'mock-basic', header: true },
    { key: 'mock-json', header: false, json: true },
  ]
  for (const { key, header, json = false } of ways)
    await t.test(`${key}: the client authenticates one way, with the secret, and never in a URL`, async () => {
      const { asked, authorize } = await exchanged(key)
      assert.equal(asked.method, 'POST')
      assert.equal(asked.url, '/token', 'nothing in the query')
      const body: Record<string, string> = json ? JSON.parse(asked.body) : Object.fromEntries(asked.form)
      assert.match(asked.headers['content-type'] ?? '', json ? /json/ : /x-www-form-urlencoded/)
      assert.ok(body.code_verifier, 'PKCE as well')
      if (header) {
        const [scheme, encoded = ''] = (asked.headers.authorization ?? '').split(' ')
        assert.equal(scheme, 'Basic')
        const [user = '', ...password] = Buffer.from(encoded, 'base64').toString().split(':')
        // RFC 6749 §2.3.1: form-encoded before joining, so a colon or a plus in the secret survives.
        const [id, secret] = [user, password.join(':')].map(part => new URLSearchParams(`x=${part}`).get('x'))
        assert.deepEqual([id, secret], [clientId, clientSecret])
        assert.equal(body.client_id, undefined)
        assert.equal(body.client_secret, undefined)
      } else {
        assert.equal(asked.headers.authorization, undefined)
        assert.equal(body.client_id, clientId)
        assert.equal(body.client_secret, clientSecret)
      }
      assert.doesNotMatch(authorize.toString(), /secret|verifier/i)
      assert.equal(asked.headers.cookie, undefined)
    })
})

test('scopes: what was asked for and what was granted are both kept', async t => {
  const cases: { name: string; session: object; granted: unknown; requested: string[]; kept: string[] }[] = [
    { name: 'default of the provider', session: {}, granted: undefined, requested: ['api', 'refresh_token'], kept: [] },
    { name: 'narrower grant', session: {}, granted: 'api', requested: ['api', 'refresh_token'], kept: ['api'] },
    {
      name: 'override of the session',
      session: { connection_config: { oauth_scopes_override: 'full,web' } },
      granted: undefined,
      requested: ['full', 'web'],
      kept: [],
    },
  ]
  for (const { name, session, granted, requested, kept } of cases)
    await t.test(name, async () => {
      provider.answer = (res, asked) => sendJson(200, tokens(provider, { scope: granted }))(res, asked)
      const token = await openSession(fairlead, {
        end_user: { id: name },
        integrations_config_defaults: { mock: session },
      })
      const begun = await begin(fairlead, 'mock', { token })
      assert.equal(begun.authorize.searchParams.get('scope'), requested.join(' '))
      assert.equal((await begun.browser.open(callbackOf(begun, 'c').href)).status, 200)
      const id = await connectionOf(encodeURIComponent(name), 'mock')
      const { json } = await call('GET', `/connections/${id}?provider_config_key=mock`)
      // RFC 6749 §5.1: no scope in the answer means as requested.
      assert.deepEqual(json.scopes, { requested, granted: kept.length > 0 ? kept : requested })
      assert.equal(json.connection_config.oauth_scopes_override, undefined)
    })
})

test('session defaults: the developer decides over the browser', async () => {
  const token = await openSession(fairlead, {
    end_user: { id: 'x' },
    integrations_config_defaults: {
      mock: { authorization_params: { prompt: 'undefined', login_hint: 'ada', state: 'forged', redirect_uri: 'x' } },
    },
  })
  const { authorize, state } = await begin(fairlead, 'mock', {
    token,
    query: '&authorization_params[login_hint]=mallory&params[note]=kept',
  })
  assert.equal(authorize.searchParams.get('login_hint'), 'ada')
  assert.equal(authorize.searchParams.get('prompt'), null, '"undefined" removes a parameter')
  assert.notEqual(state, 'forged')
  assert.deepEqual(authorize.searchParams.getAll('redirect_uri'), [`${fairlead.app.url}/oauth/callback`])
})

test('a session token opens its session, its integrations, and nothing else', async t => {
  const token = await openSession(fairlead, {
    end_user: { id: 'ada' },
    allowed_integrations: ['mock'],
    integrations_config_defaults: { mock: { authorization_params: { a: 'b' } } },
  })
  const bearer = as(token)

  await t.test('GET /connect/session', async () => {
    const { status, json } = await call('GET', '/connect/session', undefined, bearer)
    assert.equal(status, 200)
    assert.deepEqual(json.data.endUser, {
      id: 'ada',
      display_name: null,
      email: null,
      tags: null,
      organization: null,
    })
    assert.deepEqual(json.data.allowed_integrations, ['mock'])
    assert.deepEqual(json.data.integrations_config_defaults, {
      mock: { connection_config: {}, authorization_params: { a: 'b' } },
    })
    assert.equal(json.data.websocketsPath, '/')
    const { theme, defaultTheme, showWatermark } = json.data.connectUISettings
    assert.deepEqual(Object.keys(theme), ['light', 'dark'])
    assert.match(`${theme.light.primary} ${theme.dark.primary}`, /^#[0-9a-f]{6} #[0-9a-f]{6}$/)
    assert.deepEqual([defaultTheme, showWatermark], ['system', false])
    assert.deepEqual(Object.keys(json.data.scopes), ['mock'], 'of what the session allows')
    assert.deepEqual(json.data.allowed_origins, [])
    assert.equal(json.data.callback_url, `${fairlead.app.url}/oauth/callback`)
    failsWith(await call('GET', '/connect/session?x=1', undefined, bearer), 400, 'invalid_query_params')
  })

  await t.test('GET /integrations shows the allowed ones; a session that allows all shows all', async () => {
    const keys = async (headers: Record<string, string>) =>
      (await call('GET', '/integrations', undefined, headers)).json.data.map(
        (one: { unique_key: string }) => one.unique_key,
      )
    assert.deepEqual(await keys(bearer), ['mock'])
    const all = ['salesforce-sandbox', 'by-name', 'mock', 'mock-basic', 'mock-json']
    assert.deepEqual(await keys(as(await openSession(fairlead))), all)
    assert.deepEqual(await keys({}), all)
    const { text } = await call('GET', '/integrations', undefined, bearer)
    assert.ok(!text.includes(clientSecret))
    assert.doesNotMatch(text, /client/)
  })

  await t.test('it is refused where only a key belongs, and a key where only it belongs', async () => {
    for (const [method, path] of [
      ['POST', '/connect/sessions'],
      ['GET', '/connections'],
      ['GET', '/connections/x?provider_config_key=mock'],
      ['DELETE', '/connections/x?provider_config_key=mock'],
      ['GET', '/integrations/mock'],
      ['DELETE', '/integrations/mock'],
    ] as const)
      failsWith(await call(method, path, undefined, bearer), 403, 'forbidden')
    failsWith(await call('GET', '/connect/session'), 401, 'invalid_connect_session_token_format')
    failsWith(await call('DELETE', '/connect/session'), 401, 'invalid_connect_session_token_format')
  })

  await t.test('the link shows a page that begins nothing by itself and is framed by nobody', async () => {
    await buildPages(() => {})
    const link = await openSession(fairlead, { end_user: { id: 'x' }, allowed_integrations: ['mock'] })
    const before = await db.query(sql`select state_hash from handshake`)
    const at = `${fairlead.url}/connect/?session_token=${link}`
    const { status, text, headers } = await request(at)
    assert.equal(status, 200)
    assert.ok(!text.includes(link))
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.match(headers.get('content-security-policy') ?? '', /frame-ancestors 'none'$/)
    assert.deepEqual(await db.query(sql`select state_hash from handshake`), before, 'a scanner begins nothing')
    const ancestors = async (query: string) =>
      /frame-ancestors (.*)$/.exec(
        (await request(`${fairlead.url}/connect/${query}`)).headers.get('content-security-policy') ?? '',
      )?.[1]
    // Without a token the framing page brings it; the page itself looks at who that is.
    assert.equal(await ancestors(''), '*')
    assert.equal(await ancestors('?session_token=none'), "'none'")
    assert.equal(await ancestors('?preview'), "'self'")
    await call('PATCH', '/environment/settings', { allowed_origins: ['https://app.example.com'] })
    assert.equal(await ancestors(`?session_token=${link}`), 'https://app.example.com')
    assert.equal(await ancestors(''), '*', 'another environment has no list yet')
    await db.query(sql`update environment set allowed_origins = '{https://other.example.com}' where name <> 'dev'`)
    assert.equal((await ancestors(''))?.split(' ').sort().join(), 'https://app.example.com,https://other.example.com')
    await db.query(sql`update environment set allowed_origins = '{}'`)
  })

  await t.test('DELETE ends it', async () => {
    const ended = await call('DELETE', '/connect/session', undefined, {
      ...bearer,
      'Content-Type': 'application/json',
    })
    assert.deepEqual([ended.status, ended.text], [204, ''])
    failsWith(await call('GET', '/connect/session', undefined, bearer), 401, 'unknown_connect_session_token')
    failsWith(await request(startUrl(fairlead, 'mock', token)), 401, 'unknown_connect_session_token')
  })
})

test('tags are derived from the end user and merged as the contract says', async t => {
  const long = 'v'.repeat(300)
  const nine = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`t${i}`, 'x']))
  const cases: { name: string; body: object; tags: Record<string, string> }[] = [
    { name: 'tags alone', body: { tags: { Plan: 'A' } }, tags: { plan: 'A' } },
    { name: 'absent members give no tag', body: { end_user: { id: 'u' } }, tags: { end_user_id: 'u' } },
    {
      name: 'long values of the end user are cut',
      body: { end_user: { id: 'u', tags: { Note: long } } },
      tags: { end_user_id: 'u', note: 'v'.repeat(255) },
    },
    {
      name: 'explicit tags win',
      body: { end_user: { id: 'u', tags: { plan: 'free' } }, tags: { plan: 'paid' } },
      tags: { end_user_id: 'u', plan: 'paid' },
    },
    {
      name: 'the end user’s own tags go wholesale when all would be more than ten',
      body: { end_user: { id: 'u', email: 'u@x.io', tags: nine } },
      tags: { end_user_id: 'u', end_user_email: 'u@x.io' },
    },
    { name: 'ten are not too many', body: { end_user: { id: 'u', tags: nine } }, tags: { end_user_id: 'u', ...nine } },
  ]
  for (const { name, body, tags } of cases)
    await t.test(name, async () => {
      await openSession(fairlead, body)
      const [row] = await db.query<{ tags: object }>(sql`select tags from connect_session order by id desc limit 1`)
      assert.deepEqual(row?.tags, tags)
    })
})

test('what does not match the contract is refused with the member that is wrong', async t => {
  const integration = { provider: 'mock', unique_key: 'new' }
  const credentials = { type: 'OAUTH2', client_id: 'a', client_secret: 'b' }
  const eleven = Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`t${i}`, 'x']))
  const bodies: [name: string, path: string, body: unknown, at: (string | number)[]][] = [
    ['neither end user nor tags', '/connect/sessions', {}, ['end_user']],
    ['an end user without id', '/connect/sessions', { end_user: {} }, ['end_user', 'id']],
    ['an empty id', '/connect/sessions', { end_user: { id: '' } }, ['end_user', 'id']],
    ['no e-mail', '/connect/sessions', { end_user: { id: 'a', email: 'a' } }, ['end_user', 'email']],
    ['unknown member', '/connect/sessions', { end_user: { id: 'a' }, admin: true }, []],
    ['unknown member inside', '/connect/sessions', { end_user: { id: 'a', role: 'x' } }, ['end_user']],
    [
      'unknown integration',
      '/connect/sessions',
      { tags: {}, allowed_integrations: ['mock', 'no'] },
      ['allowed_integrations', 1],
    ],
    [
      'unknown default',
      '/connect/sessions',
      { tags: {}, integrations_config_defaults: { no: {} } },
      ['integrations_config_defaults', 'no'],
    ],
    ['unknown override', '/connect/sessions', { tags: {}, overrides: { no: {} } }, ['overrides', 'no']],
    ['eleven tags', '/connect/sessions', { tags: eleven }, ['tags']],
    ['a tag key with a space', '/connect/sessions', { tags: { 'a b': 'x' } }, ['tags', 'a b']],
    ['tag keys that differ in case', '/connect/sessions', { tags: { a: 'x', A: 'y' } }, ['tags', 'A']],
    ['an empty tag', '/connect/sessions', { tags: { a: '' } }, ['tags', 'a']],
    [
      'a webhook URL that is none',
      '/connect/sessions',
      { tags: {}, webhook_url_override: 'ftp://x' },
      ['webhook_url_override'],
    ],
    ['no object', '/connect/sessions', [], []],
    ['U+0000 in a value', '/connect/sessions', { end_user: { id: 'a\u0000' } }, ['end_user', 'id']],
    [
      'U+0000 in a name',
      '/connect/sessions',
      { tags: {}, integrations_config_defaults: { mock: { connection_config: { 'a\u0000': 1 } } } },
      ['integrations_config_defaults', 'mock', 'connection_config', 'a\u0000'],
    ],
    ['half a surrogate pair', '/connect/sessions', { tags: { a: '\ud800' } }, ['tags', 'a']],
    ['unknown provider', '/integrations', { ...integration, provider: 'no-such', credentials }, ['provider']],
    ['no credentials', '/integrations', integration, ['credentials']],
    ['a key that is taken', '/integrations', { ...integration, unique_key: 'mock', credentials }, ['uniqueKey']],
    ['a key with a slash', '/integrations', { ...integration, unique_key: 'a/b', credentials }, ['unique_key']],
    [
      'credentials of another kind',
      '/integrations',
      { ...integration, credentials: { ...credentials, type: 'BASIC' } },
      ['credentials', 'type'],
    ],
    [
      'an empty secret',
      '/integrations',
      { ...integration, credentials: { ...credentials, client_secret: ' ' } },
      ['credentials', 'client_secret'],
    ],
    [
      'scopes with spaces',
      '/integrations',
      { ...integration, credentials: { ...credentials, scopes: 'a, b' } },
      ['credentials', 'scopes'],
    ],
  ]
  for (const [name, path, body, at] of bodies)
    await t.test(name, async () => failsWith(await call('POST', path, body), 400, 'invalid_body', at))

  const queries: [path: string, at: (string | number)[]][] = [
    ['/connections?limit=0', ['limit']],
    ['/connections?limit=2001', ['limit']],
    ['/connections?page=-1', ['page']],
    ['/connections?unknown=1', []],
    ['/connections/x', ['provider_config_key']],
    ['/connections/x?provider_config_key=mock&refresh_token=yes', ['refresh_token']],
    ['/connections/x?provider_config_key=a%2Fb', ['provider_config_key']],
    ['/integrations/mock?include=everything', ['include']],
    ['/connections?endUserId=a%00', ['endUserId']],
    ['/connections?tags[a]=b%00', ['tags', 'a']],
  ]
  for (const [path, at] of queries)
    await t.test(path, async () => failsWith(await call('GET', path), 400, 'invalid_query_params', at))
  await t.test('a query on a route that has none', async () =>
    failsWith(await call('POST', '/connect/sessions?x=1', { tags: { a: 'b' } }), 400, 'invalid_query_params', []),
  )
  await t.test('an id with a character ids do not have', async () =>
    failsWith(await call('GET', '/connections/a%00b?provider_config_key=mock'), 400, 'invalid_uri_params'),
  )

  const sizeLimit = 5 * 1024 * 1024
  const raw = (body: string | Buffer<ArrayBuffer> | ReadableStream, type: string | undefined) =>
    request(`${fairlead.url}/connect/sessions`, {
      method: 'POST',
      headers: { ...as(fairlead.key), ...(type && { 'Content-Type': type }) },
      body,
      duplex: 'half',
    })
  await t.test('another content type', async () => {
    const body = Buffer.from('{"tags":{"a":"b"}}')
    for (const type of [
      undefined,
      'text/plain',
      'text/json',
      'application/x-www-form-urlencoded',
      'multipart/form-data',
      'application/jsonp',
      'application/json;',
    ])
      failsWith(await raw(body, type), 415, 'invalid_content_type')
    for (const type of ['application/json; charset=utf-8', 'Application/JSON', 'application/vnd.api+json'])
      assert.equal((await raw(body, type)).status, 201, type)
  })
  await t.test('broken JSON', async () => {
    for (const body of ['{', '{"tags":', 'tags', '{"a":1}}'])
      failsWith(await raw(body, 'application/json'), 400, 'invalid_json')
  })
  await t.test('a body that is too large, announced or not', async () => {
    failsWith(await raw(' '.repeat(sizeLimit + 1), 'application/json'), 413, 'body_too_large')
    const piece = new Uint8Array(sizeLimit / 4 + 1).fill(32)
    const chunked = ReadableStream.from([piece, piece, piece, piece])
    failsWith(await raw(chunked, 'application/json'), 413, 'body_too_large')
  })
  await t.test('an unknown path', async () => failsWith(await call('GET', '/nothing'), 404, 'not_found'))
  await t.test('none of it was stored', async () => {
    assert.deepEqual(await db.query(sql`select unique_key from integration where unique_key in ('new', 'a/b')`), [])
  })
})

test('who is calling', async t => {
  const cases: [name: string, header: string | undefined, code: string][] = [
    ['no header', undefined, 'missing_auth_header'],
    ['another scheme', 'Basic abc', 'malformed_auth_header'],
    ['no token', 'Bearer ', 'malformed_auth_header'],
    ['two words', 'Bearer a b', 'malformed_auth_header'],
    ['no key', 'Bearer abc', 'invalid_secret_key_format'],
    ['an unknown key', `Bearer ${randomUUID()}`, 'unknown_account'],
    ['a malformed session token', 'Bearer nango_connect_session_xyz', 'invalid_connect_session_token_format'],
    ['an unknown session token', `Bearer nango_connect_session_${'0'.repeat(64)}`, 'unknown_connect_session_token'],
  ]
  for (const [name, header, code] of cases)
    await t.test(name, async () => {
      const init = header === undefined ? {} : { headers: { Authorization: header } }
      failsWith(await request(`${fairlead.url}/integrations`, init), 401, code)
    })
  await t.test('the scheme in any case', async () => {
    const { status } = await call('GET', '/integrations', undefined, { Authorization: `bEARER  ${fairlead.key}` })
    assert.equal(status, 200)
  })
})

test('each route wants its own scope and names it', async t => {
  const routes: [method: string, path: string, body: object | undefined, scope: string][] = [
    ['GET', '/integrations', undefined, 'environment:integrations:list'],
    ['POST', '/integrations', {}, 'environment:integrations:create'],
    ['GET', '/integrations/none', undefined, 'environment:integrations:read'],
    ['PATCH', '/integrations/none', {}, 'environment:integrations:update'],
    ['DELETE', '/integrations/none', undefined, 'environment:integrations:delete'],
    ['POST', '/connect/sessions', {}, 'environment:connect_sessions:write'],
    ['GET', '/connections', undefined, 'environment:connections:list'],
    ['GET', '/connections/none?provider_config_key=none', undefined, 'environment:connections:read'],
    ['DELETE', '/connections/none?provider_config_key=none', undefined, 'environment:connections:delete'],
    ['POST', '/connections/none/refresh?provider_config_key=none', undefined, 'environment:connections:update'],
    ['POST', '/connections/none/pause?provider_config_key=none', undefined, 'environment:connections:update'],
    ['POST', '/connections/none/resume?provider_config_key=none', undefined, 'environment:connections:update'],
    ['GET', '/revocations', undefined, 'environment:connections:read'],
    ['POST', '/kill', { provider_config_key: 'none' }, 'environment:connections:delete'],
  ]
  const every = routes.map(([, , , scope]) => scope)
  for (const [method, path, body, scope] of routes)
    await t.test(`${method} ${path}`, async () => {
      const lacking = await call(method, path, body, as(await keyWith(...every.filter(other => other !== scope))))
      failsWith(lacking, 403, 'forbidden')
      assert.ok(lacking.json.error.message.includes(scope), lacking.json.error.message)
      const enough = await call(method, path, body, as(await keyWith(scope)))
      assert.notEqual(enough.json.error?.code, 'forbidden')
    })
  await t.test('a prefix opens what is below it and nothing beside it', async () => {
    const key = await keyWith('environment:connections:*')
    assert.equal((await call('GET', '/connections', undefined, as(key))).status, 200)
    failsWith(await call('GET', '/integrations', undefined, as(key)), 403, 'forbidden')
  })
  await t.test('a client secret leaves for read_credentials alone', async () => {
    const path = '/integrations/mock?include=credentials'
    failsWith(await call('GET', path, undefined, as(await keyWith('environment:integrations:read'))), 403, 'forbidden')
    const { json } = await call('GET', path)
    assert.equal(json.data.credentials.client_secret, clientSecret)
  })
})
