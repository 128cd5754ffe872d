import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import {
  ADA,
  askToken,
  authorizeUrl,
  CALLBACK,
  click,
  connect,
  decide,
  exchange,
  newCode,
  newVerifier,
  open,
  post,
  refresh,
  rest,
  s256,
  simulate,
  text,
} from './support.ts'

const basic = (id: string, secret: string) => `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`

test('the whole code flow, clicked through, on My Domain and on test.', async t => {
  const simulator = await simulate(t)
  for (const at of ['acme--uat', 'test']) {
    const verifier = newVerifier()
    const login = await open(authorizeUrl(simulator, { code_challenge: s256(verifier) }, at))
    assert.equal(login.status, 200)
    assert.match(login.page, /Simulated Salesforce/)
    assert.match(login.page, /value="ada@acme.com.uat"/)
    assert.doesNotMatch(login.page, /(src|href)="https?:/)

    const again = await click(login.page, { password: 'wrong' })
    assert.match(again.page, /role="alert"/)
    assert.equal(again.location, null)
    const elsewhere = await click(login.page, { username: 'ada@acme.com' })
    assert.match(elsewhere.page, /role="alert"/, 'a production user does not exist in the sandbox')

    const allowed = await decide((await click(login.page)).page, 'allow')
    const back = allowed.location
    assert.equal(allowed.status, 302)
    assert.equal(`${back?.origin}${back?.pathname}`, CALLBACK)
    assert.equal(back?.searchParams.get('state'), 'the state')
    assert.match(back?.search ?? '', /code=aPrx[^&]*%3D%3D/)

    const { status, json, headers } = await exchange(
      simulator,
      back?.searchParams.get('code') ?? '',
      { code_verifier: verifier },
      at,
    )
    assert.equal(status, 200)
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.match(text(json, 'access_token'), /^00D[A-Za-z0-9]{12}![A-Za-z0-9._]{96}$/)
    assert.match(text(json, 'refresh_token'), /^5Aep861[A-Za-z0-9._]{80}$/)
    assert.equal(json.token_type, 'Bearer')
    assert.equal(json.scope, 'api refresh_token id')
    assert.equal(json.instance_url, simulator.base('acme--uat'))
    assert.match(text(json, 'id'), new RegExp(`^${simulator.base('test')}/id/00D\\w{15}/005\\w{15}$`))
    assert.ok(!('expires_in' in json), 'Salesforce sends no expiry')
    const issued = text(json, 'issued_at')
    assert.ok(Math.abs(Number(issued) - Date.now()) < 10_000)
    const secret = simulator.app('acme--uat').clientSecret
    assert.equal(
      json.signature,
      createHmac('sha256', secret)
        .update(text(json, 'id') + issued)
        .digest('base64'),
    )
  }
})

test('Deny comes back as access_denied and leaves nothing', async t => {
  const simulator = await simulate(t)
  const login = await open(authorizeUrl(simulator))
  const { location } = await decide((await click(login.page)).page, 'deny')
  assert.equal(location?.searchParams.get('error'), 'access_denied')
  assert.equal(location?.searchParams.get('error_description'), 'end-user denied authorization')
  assert.equal(location?.searchParams.get('state'), 'the state')
  assert.equal(location?.searchParams.has('code'), false)
  assert.deepEqual(simulator.control.state().grants, [])
})

test('authorize: what stays on a Salesforce page and what goes back to the app', async t => {
  const simulator = await simulate(t)
  const table: [string, Record<string, string | null>, string, 'here' | 'there', string][] = [
    ['unknown app', { client_id: '3MVG9nobody' }, 'acme--uat', 'here', 'invalid_client_id'],
    ['sandbox app on production', {}, 'acme', 'here', 'invalid_client_id'],
    ['sandbox app on login.', {}, 'login', 'here', 'invalid_client_id'],
    ['trailing slash', { redirect_uri: `${CALLBACK}/` }, 'acme--uat', 'here', 'redirect_uri_mismatch'],
    ['no redirect_uri', { redirect_uri: null }, 'acme--uat', 'here', 'redirect_uri_missing'],
    ['no response_type', { response_type: null }, 'acme--uat', 'here', 'invalid_request'],
    ['user-agent flow', { response_type: 'token' }, 'acme--uat', 'there', 'unsupported_response_type'],
    ['no challenge', { code_challenge: null }, 'acme--uat', 'there', 'invalid_request'],
    ['plain challenge', { code_challenge_method: 'plain' }, 'acme--uat', 'there', 'invalid_request'],
    ['scope not on the app', { scope: 'api full' }, 'acme--uat', 'there', 'invalid_scope'],
    ['immediate', { immediate: 'true' }, 'acme--uat', 'there', 'immediate_unsuccessful'],
  ]
  for (const [name, changes, at, where, error] of table) {
    const arrival = await open(authorizeUrl(simulator, changes, at))
    if (where === 'here') {
      assert.equal(arrival.status, 400, name)
      assert.equal(arrival.location, null, `${name}: the callback must not be called`)
      assert.match(arrival.page, new RegExp(`<code>${error}</code>`), name)
    } else {
      assert.equal(arrival.location?.searchParams.get('error'), error, name)
      assert.equal(arrival.location?.searchParams.get('state'), 'the state', name)
      assert.equal(arrival.location?.searchParams.has('code'), false, name)
    }
  }
  const omitted = await open(authorizeUrl(simulator, { code_challenge_method: null }))
  assert.equal(omitted.status, 200, 'jsforce omits the method')
})

test('settings that make hosts stricter', async t => {
  const simulator = await simulate(t)
  simulator.control.set({ localAppsOnGenericHosts: false })
  assert.match((await open(authorizeUrl(simulator, {}, 'test'))).page, /invalid_client_id/)
  assert.equal((await open(authorizeUrl(simulator))).status, 200)
  simulator.control.set({ localAppsOnGenericHosts: true })
  simulator.control.setOrg({ org: 'acme--uat', onlyMyDomainLogin: true })
  const login = await open(authorizeUrl(simulator, {}, 'test'))
  assert.match((await click(login.page)).page, /only accepts logins on its My Domain/)
})

test('automatic approval', async t => {
  const simulator = await simulate(t, { autoApprove: true })
  const hinted = await newCode(simulator, { login_hint: 'ben@acme.com.uat' })
  const { json } = await exchange(simulator, hinted)
  assert.equal(simulator.control.state().grants.at(-1)?.username, 'ben@acme.com.uat')
  assert.ok(json.access_token)
  simulator.control.set({ autoApprove: 'deny' })
  assert.equal((await open(authorizeUrl(simulator))).location?.searchParams.get('error'), 'access_denied')
  simulator.control.set({ autoApprove: false })
  assert.equal((await open(authorizeUrl(simulator))).status, 200)
})

test('code exchange refuses, and a refused code stays refused', async t => {
  const simulator = await simulate(t)
  const table: [string, Record<string, string | null>, string, string][] = [
    ['wrong verifier', { code_verifier: 'x'.repeat(64) }, 'invalid_grant', 'invalid code verifier'],
    ['no verifier', { code_verifier: null }, 'invalid_request', 'missing required code verifier'],
    [
      'other redirect_uri',
      { redirect_uri: `${CALLBACK}/` },
      'redirect_uri_mismatch',
      'redirect_uri must match configuration',
    ],
  ]
  for (const [name, changes, error, error_description] of table) {
    const code = await newCode(simulator)
    const first = await exchange(simulator, code, changes)
    assert.deepEqual([first.status, first.json], [400, { error, error_description }], name)
    assert.equal((await exchange(simulator, code)).json.error_description, 'expired authorization code', name)
  }
  assert.deepEqual(simulator.control.state().sessions, [])
})

test('a code works once, for 15 minutes, with a verifier of any length', async t => {
  const simulator = await simulate(t)
  const code = await newCode(simulator)
  assert.equal((await exchange(simulator, code)).status, 200)
  const again = await exchange(simulator, code)
  assert.deepEqual(again.json, { error: 'invalid_grant', error_description: 'expired authorization code' })

  const old = await newCode(simulator)
  simulator.control.skipClock({ ms: 15 * 60_000 + 1000 })
  assert.equal((await exchange(simulator, old)).json.error_description, 'expired authorization code')

  const long = 'L'.repeat(171)
  const code2 = await newCode(simulator, { code_challenge: s256(long), code_challenge_method: null })
  assert.equal((await exchange(simulator, code2, { code_verifier: long })).status, 200)
})

test('client authentication', async t => {
  const simulator = await simulate(t)
  const { clientId, clientSecret } = simulator.app('acme--uat')
  const url = `${simulator.base('acme--uat')}/services/oauth2/token`
  const { refresh_token } = (await connect(simulator)) as { refresh_token: string }
  const form = { grant_type: 'refresh_token', refresh_token }
  const table: [string, Record<string, string | null>, Record<string, string>, number, string | undefined][] = [
    ['body', { client_id: clientId, client_secret: clientSecret }, {}, 200, undefined],
    ['basic', {}, { authorization: basic(clientId, clientSecret) }, 200, undefined],
    [
      'both',
      { client_id: clientId, client_secret: clientSecret },
      { authorization: basic(clientId, clientSecret) },
      200,
      undefined,
    ],
    ['malformed basic', {}, { authorization: 'Basic ???' }, 400, 'invalid_basic_auth_header'],
    ['basic without colon', {}, { authorization: 'Basic YWJj' }, 400, 'invalid_basic_auth_header'],
    ['wrong secret', { client_id: clientId, client_secret: 'x' }, {}, 400, 'invalid_client'],
    ['no secret', { client_id: clientId }, {}, 400, 'invalid_client'],
    ['unknown client', { client_id: 'x', client_secret: 'x' }, {}, 400, 'invalid_client_id'],
    ['no client', {}, {}, 400, 'invalid_client_id'],
  ]
  for (const [name, extra, headers, status, error] of table) {
    const answer = await post(url, { ...form, ...extra }, headers)
    assert.equal(answer.status, status, name)
    assert.equal(answer.json.error, error, name)
  }
  simulator.control.setApp({ clientId, secretRequiredForRefresh: false })
  assert.equal((await post(url, { ...form, client_id: clientId })).status, 200)
  const wrong = await post(url, { ...form, client_id: clientId, client_secret: 'x' })
  assert.equal(wrong.json.error, 'invalid_client', 'an optional secret is still validated')
})

test('refresh without rotation: no refresh_token in the answer, the old one and the old session stay', async t => {
  const simulator = await simulate(t)
  const first = await connect(simulator)
  for (let i = 0; i < 3; i++) {
    const { status, json } = await refresh(simulator, text(first, 'refresh_token'))
    assert.equal(status, 200)
    assert.ok(!('refresh_token' in json))
    assert.notEqual(json.access_token, first.access_token)
    assert.equal(json.instance_url, first.instance_url)
  }
  assert.equal((await rest(first, '/v60.0/limits')).status, 200)
  const scoped = await refresh(simulator, text(first, 'refresh_token'), { scope: 'api' })
  assert.equal(scoped.json.error, 'invalid_request', 'never send scope on refresh')
})

test('rotation: each refresh gives a new token; presenting an old one kills the family', async t => {
  const simulator = await simulate(t, { rotation: true })
  const one = await connect(simulator)
  const two = (await refresh(simulator, text(one, 'refresh_token'))).json
  assert.notEqual(two.refresh_token, one.refresh_token)
  const three = (await refresh(simulator, text(two, 'refresh_token'))).json
  assert.equal((await rest(three, '/v60.0/limits')).status, 200)

  const reuse = await refresh(simulator, text(one, 'refresh_token'))
  assert.deepEqual(reuse.json, { error: 'invalid_grant', error_description: 'expired access/refresh token' })
  assert.equal((await refresh(simulator, text(three, 'refresh_token'))).status, 400)
  for (const tokens of [one, two, three]) assert.equal((await rest(tokens, '/v60.0/limits')).status, 401)
  const { rotations, familyRevocations } = simulator.control.counters()
  assert.deepEqual({ rotations, familyRevocations }, { rotations: 2, familyRevocations: 1 })
})

test('two refreshes at once: one wins, the other is told so and revokes nothing', async t => {
  const simulator = await simulate(t, { rotation: true, settings: { refreshHoldMs: 300 } })
  const tokens = await connect(simulator)
  const both = await Promise.all([1, 2].map(() => refresh(simulator, text(tokens, 'refresh_token'))))
  const winner = both.find(a => a.status === 200)
  const loser = both.find(a => a.status === 400)
  assert.deepEqual(loser?.json, {
    error: 'invalid_grant',
    error_description: 'token request is already being processed',
  })
  assert.equal((await refresh(simulator, text(winner?.json ?? {}, 'refresh_token'))).status, 200)
  assert.equal(simulator.control.counters().familyRevocations, 0)
  assert.equal(simulator.control.counters().alreadyProcessing, 1)
})

test('a sixth approval silently revokes the oldest', async t => {
  const simulator = await simulate(t)
  const all = []
  for (let i = 0; i < 6; i++) all.push(await connect(simulator))
  const answers = await Promise.all(all.map(tokens => refresh(simulator, text(tokens, 'refresh_token'))))
  assert.deepEqual(
    answers.map(a => a.status),
    [400, 200, 200, 200, 200, 200],
  )
  assert.equal(simulator.control.counters().evictions, 1)
  assert.equal((await connect(simulator, { login_hint: 'ben@acme.com.uat' })).token_type, 'Bearer')
  assert.equal(simulator.control.counters().evictions, 1, 'another user has approvals of his own')
})

test('refresh token policies', async t => {
  const simulator = await simulate(t)
  const { clientId } = simulator.app('acme--uat')
  const day = 86_400_000
  const set = (refreshPolicy: Parameters<typeof simulator.control.setApp>[0]['refreshPolicy']) =>
    simulator.control.setApp({ clientId, ...(refreshPolicy ? { refreshPolicy } : {}) })
  const token = text(await connect(simulator), 'refresh_token')
  set({ kind: 'idle', days: 30 })
  simulator.control.skipClock({ ms: 29 * day })
  assert.equal((await refresh(simulator, token)).status, 200)
  simulator.control.skipClock({ ms: 29 * day })
  assert.equal((await refresh(simulator, token)).status, 200, 'use slides an idle limit')
  set({ kind: 'lifetime', days: 60 })
  simulator.control.skipClock({ ms: 3 * day })
  assert.equal((await refresh(simulator, token)).status, 400, 'use does not slide a lifetime')
})

test('client credentials: My Domain only, a run-as user, no refresh scope', async t => {
  const simulator = await simulate(t)
  const ask = (at: string) => askToken(simulator, { grant_type: 'client_credentials' }, at)
  const { json } = await ask('acme--uat')
  assert.equal(json.scope, 'api id')
  assert.ok(!('refresh_token' in json))
  assert.deepEqual((await ask('test')).json, {
    error: 'invalid_grant',
    error_description: 'request not supported on this domain',
  })
  simulator.control.setApp({ clientId: simulator.app('acme--uat').clientId, clientCredentialsUser: null })
  assert.equal((await ask('acme--uat')).json.error_description, 'no client credentials user enabled')
})

test('grants and hosts that answer unsupported_grant_type, and GET', async t => {
  const simulator = await simulate(t)
  for (const grant_type of ['password', 'device', 'constructor', '']) {
    assert.equal((await askToken(simulator, { grant_type })).json.error, 'unsupported_grant_type', grant_type)
  }
  const lightning = await post(`${simulator.url}/acme--uat.lightning/services/oauth2/token`, {
    grant_type: 'refresh_token',
  })
  assert.deepEqual(lightning.json, { error: 'unsupported_grant_type', error_description: 'grant type not supported' })
  const get = await fetch(`${simulator.base('test')}/services/oauth2/token`)
  assert.equal(get.status, 400)
  assert.equal(((await get.json()) as { error: string }).error, 'invalid_request')
})

test('introspection', async t => {
  const simulator = await simulate(t)
  const { clientId, clientSecret } = simulator.app('acme--uat')
  const other = simulator.control.addApp({ org: 'acme--uat' })
  const url = `${simulator.base('acme--uat')}/services/oauth2/introspect`
  const tokens = await connect(simulator)
  const own = { client_id: clientId, client_secret: clientSecret }
  const ask = (token: string, client: Record<string, string> = own) => post(url, { token, ...client })

  const active = (await ask(text(tokens, 'access_token'))).json as { exp: number; iat: number; nbf: number }
  assert.deepEqual(
    { ...active, exp: active.exp - active.iat, iat: 0, nbf: active.nbf - active.iat },
    {
      active: true,
      scope: 'api refresh_token id',
      client_id: clientId,
      username: ADA,
      sub: tokens.id,
      token_type: 'access_token',
      exp: 7200,
      iat: 0,
      nbf: 0,
    },
  )
  const byRefresh = (await ask(text(tokens, 'refresh_token'))).json
  assert.equal(byRefresh.token_type, 'refresh_token')
  assert.ok(!('exp' in byRefresh))
  assert.deepEqual((await ask('nonsense')).json, { active: false })
  const theirs = { client_id: other.clientId, client_secret: other.clientSecret }
  assert.deepEqual((await ask(text(tokens, 'access_token'), theirs)).json, { active: false })
  simulator.control.setApp({ clientId: other.clientId, introspectAll: true })
  assert.equal((await ask(text(tokens, 'access_token'), theirs)).json.active, true)
  const denied = await ask(text(tokens, 'access_token'), { client_id: clientId, client_secret: 'x' })
  assert.deepEqual([denied.status, denied.json.error], [401, 'invalid_client'])
  simulator.control.expireAccessTokens()
  assert.deepEqual((await ask(text(tokens, 'access_token'))).json, { active: false })
})

test('revocation by either token, POST or GET', async t => {
  const simulator = await simulate(t)
  const url = `${simulator.base('test')}/services/oauth2/revoke`
  const a = await connect(simulator)
  assert.equal((await post(url, { token: text(a, 'access_token') })).status, 200)
  assert.equal((await rest(a, '/v60.0/limits')).status, 401)
  assert.equal((await refresh(simulator, text(a, 'refresh_token'))).status, 200, 'the refresh token outlives it')

  const b = await connect(simulator)
  assert.equal((await fetch(`${url}?token=${encodeURIComponent(text(b, 'refresh_token'))}`)).status, 200)
  assert.equal((await rest(b, '/v60.0/limits')).status, 401)
  assert.equal((await refresh(simulator, text(b, 'refresh_token'))).status, 400)
  const again = await post(url, { token: text(b, 'refresh_token') })
  assert.deepEqual([again.status, again.json.error], [400, 'invalid_token'])
})

test('what happens to users and apps happens to their tokens', async t => {
  const simulator = await simulate(t)
  const { control } = simulator
  const { clientId } = simulator.app('acme--uat')
  const tokens = await connect(simulator)
  control.setUser({ username: ADA, active: false })
  assert.equal((await rest(tokens, '/v60.0/limits')).status, 401)
  assert.equal((await refresh(simulator, text(tokens, 'refresh_token'))).json.error_description, 'inactive user')
  control.setUser({ username: ADA, active: true })
  assert.equal((await refresh(simulator, text(tokens, 'refresh_token'))).status, 200)

  const { clientSecret } = control.rotateSecret({ clientId })
  const dead = await refresh(simulator, text(tokens, 'refresh_token'), { client_secret: clientSecret })
  assert.equal(dead.json.error_description, 'expired access/refresh token')

  const before = control.state().orgs.find(o => o.key === 'acme--uat')?.id
  const { id } = control.refreshSandbox({ org: 'acme--uat' })
  assert.notEqual(id, before)
  const gone = await post(`${simulator.base('acme--uat')}/services/oauth2/token`, {
    grant_type: 'refresh_token',
    client_id: clientId,
    client_secret: clientSecret,
  })
  assert.equal(gone.json.error, 'invalid_client_id', 'local apps do not survive a sandbox refresh')

  control.addApp({ org: 'acme', clientId: '3MVG9late', clientSecret: 's', propagationMs: 600_000 })
  const late = { client_id: '3MVG9late', client_secret: 's', grant_type: 'refresh_token' }
  const url = `${simulator.base('acme')}/services/oauth2/token`
  assert.equal((await post(url, late)).json.error, 'invalid_client_id', 'not propagated yet')
  control.skipClock({ ms: 600_000 })
  assert.equal((await post(url, late)).json.error, 'invalid_grant')
})

test('openid: discovery, keys and an id_token that verifies', async t => {
  const simulator = await simulate(t)
  simulator.control.setApp({ clientId: simulator.app('acme--uat').clientId, scopes: ['api', 'openid'] })
  const base = simulator.base('acme--uat')
  const discovery = (await (await fetch(`${base}/.well-known/openid-configuration`)).json()) as Record<string, string>
  assert.equal(discovery.issuer, base)
  const tokens = await connect(simulator, { nonce: 'n1' })
  assert.ok(!('refresh_token' in tokens), 'no refresh scope, no refresh token')
  const { keys } = (await (await fetch(discovery.jwks_uri ?? '')).json()) as { keys: Record<string, string>[] }
  const [head = '', claims = '', signature = ''] = text(tokens, 'id_token').split('.')
  const key = await crypto.subtle.importKey(
    'jwk',
    keys[0] ?? {},
    { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    false,
    ['verify'],
  )
  const valid = await crypto.subtle.verify(
    'RSASSA-PKCS1-v1_5',
    key,
    Buffer.from(signature, 'base64url'),
    Buffer.from(`${head}.${claims}`),
  )
  assert.ok(valid)
  const { iss, sub, nonce } = JSON.parse(Buffer.from(claims, 'base64url').toString())
  assert.deepEqual({ iss, sub, nonce }, { iss: base, sub: tokens.id, nonce: 'n1' })
})
