/** Credentials that are given instead of signed in for: from the form to a call at the provider, its renewal, and every way it can fail. */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { generateKeyPairSync, verify } from 'node:crypto'
import { before, test } from 'node:test'
import type { Answer, Fairlead } from '../support/fairlead.ts'
import { request, startFairlead } from '../support/fairlead.ts'
import { openSession } from './support/journey.ts'
import { type Asked, type Provider, send, sendJson, startProvider } from './support/provider.ts'
import { scope } from './support/scope.ts'

let fairlead: Fairlead
let provider: Provider

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

before(async () => {
  provider = await startProvider(scope)
  const definitions = `
keyed:
  display_name: Keyed
  auth_mode: API_KEY
  credentials:
    apiKey: { title: Key, example: key_1234, pattern: '^key_[a-z0-9-]+$', secret: true }
  proxy:
    base_url: ${provider.url}/api
    headers: { X-Key: '\${apiKey}', X-Version: '7' }
    query: { k: '\${apiKey}' }
    verification: { method: GET, endpoints: [me] }
plain:
  display_name: Plain
  auth_mode: BASIC
  proxy: { base_url: '${provider.url}' }
client:
  display_name: Client
  auth_mode: OAUTH2_CC
  token_url: ${provider.url}/token
  token_params: { audience: '\${connectionConfig.tenant}' }
  default_scopes: [read, write]
  connection_config:
    tenant: { type: string, title: Tenant, pattern: '^[a-z]+$', example: acme }
    learned: { type: string, title: Learned, automated: true }
  token_response_metadata: [learned]
  proxy: { base_url: '${provider.url}' }
login:
  display_name: Login
  auth_mode: TWO_STEP
  credentials:
    user: { type: string, title: User }
    pass: { type: string, title: Password, secret: true }
    app: { type: string, title: App, automated: false }
  token_url: ${provider.url}/token?step=1
  token_params: { auth: { name: '\${credentials.user}', words: ['\${credentials.pass}'] }, app: '\${credentials.app}' }
  additional_steps:
    - token_url: ${provider.url}/token?step=2
      token_headers: { X-Ticket: '\${step1.data.ticket}' }
      token_params: { again: '\${step1.data.id}' }
  token_response: { token: session.token, token_expiration: session.ends, token_expiration_strategy: expireAt }
  proxy: { base_url: '${provider.url}' }
bearer:
  display_name: Bearer
  auth_mode: TWO_STEP
  credentials:
    client_id: { type: string, title: Client }
    user: { type: string, title: User }
    private_key: { type: string, title: Key, secret: true }
  assertion:
    type: jwt
    algorithm: RS256
    signing_key: \${credentials.private_key}
    payload: { iss: '\${credentials.client_id}', sub: '\${credentials.user}', aud: '${provider.url}' }
  token_url: ${provider.url}/token
  body_format: form
  token_params: { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: '\${assertion}' }
  token_response: { token: access_token, token_expiration: expires_in, token_expiration_strategy: expireIn }
  proxy: { base_url: '${provider.url}' }
signed:
  display_name: Signed
  auth_mode: JWT
  credentials: { id: { type: string, title: Id }, secret: { type: string, title: Secret, secret: true } }
  signature: { protocol: HMAC, hmac_secret_encoding: hex }
  token: { signing_key: '\${credentials.secret}', expires_in_ms: 300000, header: { kid: '\${credentials.id}' }, payload: { aud: /admin/ } }
  proxy: { base_url: '${provider.url}' }
open:
  display_name: Open
  auth_mode: NONE
  proxy: { base_url: '${provider.url}' }
`
  fairlead = await startFairlead(scope, { providers: definitions })
  for (const name of ['keyed', 'plain', 'client', 'login', 'bearer', 'signed', 'open']) {
    const config = name === 'login' ? { integration_config: { app: 'the-app' } } : {}
    const made = await fairlead.call('POST', '/integrations', { provider: name, unique_key: name, ...config })
    assert.equal(made.status, 200, made.text)
  }
})

async function submit(path: string, body: unknown, options: { token?: string; query?: string } = {}): Promise<Answer> {
  const token = options.token ?? (await openSession(fairlead))
  return request(`${fairlead.url}${path}?connect_session_token=${token}${options.query ?? ''}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
}

/** The call as it arrived at the provider. */
async function called(key: string, id: string, path = 'x'): Promise<Asked> {
  const answer = await fairlead.call('GET', `/proxy/${path}`, undefined, {
    'Provider-Config-Key': key,
    'Connection-Id': id,
  })
  assert.equal(answer.status, 200, answer.text)
  return provider.otherRequests.at(-1)!
}

const read = async (key: string, id: string, query = '') =>
  (await fairlead.call('GET', `/connections/${id}?provider_config_key=${key}${query}`)).json

const stored = async () => (await fairlead.call('GET', '/connections')).json.connections.length as number

const claimsOf = (jwt: string) =>
  jwt
    .split('.')
    .slice(0, 2)
    .map(part => JSON.parse(Buffer.from(part, 'base64url').toString()))

test('an API key: tried, stored, and put where provider data says', async () => {
  provider.api = (res, asked) => sendJson(asked.url === '/api/me?k=key_one' ? 200 : 401, {})(res, asked)
  const answer = await submit('/api-auth/api-key/keyed', { apiKey: 'key_one', type: 'API_KEY' })
  assert.equal(answer.status, 200, answer.text)
  assert.deepEqual(Object.keys(answer.json).sort(), ['connectionId', 'providerConfigKey'])
  assert.equal(provider.otherRequests.at(-1)?.headers['x-key'], 'key_one')
  provider.api = undefined
  const { headers, url } = await called('keyed', answer.json.connectionId, 'x?a=1')
  assert.equal(headers['x-key'], 'key_one')
  assert.equal(headers['x-version'], '7')
  assert.equal(headers.authorization, undefined, 'our own key stays here')
  assert.equal(url, '/api/x?a=1&k=key_one')
  const connection = await read('keyed', answer.json.connectionId)
  assert.deepEqual(connection.credentials, { type: 'API_KEY', apiKey: 'key_one' })
  assert.doesNotMatch(fairlead.log(), /key_one/)
})

test('a caller cannot replace what the credential sets, only what the definition sets', async () => {
  const { connectionId } = (await submit('/api-auth/api-key/keyed', { apiKey: 'key_two' })).json
  await fairlead.call('GET', '/proxy/x', undefined, {
    'Provider-Config-Key': 'keyed',
    'Connection-Id': connectionId,
    'Nango-Proxy-X-Key': 'mine',
    'x-key': 'mine',
    'Nango-Proxy-X-Version': '8',
  })
  const { headers } = provider.otherRequests.at(-1)!
  assert.equal(headers['x-key'], 'key_two')
  assert.equal(headers['x-version'], '8')
})

test('a key the provider does not take is not stored, and the provider’s words are passed on without the key', async () => {
  const before = await stored()
  provider.api = sendJson(403, { error: { message: 'key_bad is not a key' } })
  const answer = await submit('/api-auth/api-key/keyed', { apiKey: 'key_bad' })
  provider.api = undefined
  assert.equal(answer.status, 400)
  assert.equal(answer.json.error.code, 'connection_test_failed')
  assert.match(answer.json.error.message, /403: \[redacted\] is not a key/)
  assert.equal(await stored(), before)
})

test('user and password; either may be empty', async () => {
  const { connectionId } = (await submit('/api-auth/basic/plain', { username: 'ada', password: 'wörd:x' })).json
  const { headers } = await called('plain', connectionId)
  assert.equal(headers.authorization, `Basic ${Buffer.from('ada:wörd:x').toString('base64')}`)
  const alone = (await submit('/api-auth/basic/plain', { username: 'sk_1', password: '' })).json
  assert.equal((await called('plain', alone.connectionId)).headers.authorization, `Basic ${btoa('sk_1:')}`)
  const { credentials } = await read('plain', alone.connectionId)
  assert.deepEqual(credentials, { type: 'BASIC', username: 'sk_1', password: '' })
})

const clientBody = { client_id: 'own client', client_secret: 's&cret' }

test('client credentials: asked for at once, renewed at its end, revoked by nobody else’s client', async () => {
  let issued = 0
  provider.answer = (res, asked) =>
    sendJson(200, { access_token: `cc-${++issued}`, expires_in: 3600, learned: 'it' })(res, asked)
  const answer = await submit('/oauth2/auth/client', clientBody, { query: '&params[tenant]=acme' })
  assert.equal(answer.status, 200, answer.text)
  const { connectionId } = answer.json
  const form = Object.fromEntries(provider.tokenRequests.at(-1)!.form)
  assert.deepEqual(form, { ...clientBody, audience: 'acme', grant_type: 'client_credentials', scope: 'read write' })
  assert.equal((await called('client', connectionId)).headers.authorization, 'Bearer cc-1')

  const connection = await read('client', connectionId)
  assert.deepEqual(connection.connection_config, { tenant: 'acme', learned: 'it' })
  const { expires_at, raw, ...rest } = connection.credentials
  assert.deepEqual(rest, { type: 'OAUTH2_CC', token: 'cc-1', ...clientBody })
  assert.ok(Date.parse(expires_at) > Date.now() + 3_500_000 && raw.learned === 'it')

  const forced = await read('client', connectionId, '&force_refresh=true')
  assert.equal(forced.credentials.token, 'cc-2')
  // A provider that calls the token dead: renewed, and the call is made again.
  provider.api = (res, asked) => sendJson(asked.headers.authorization === 'Bearer cc-3' ? 200 : 401, {})(res, asked)
  const { headers } = await called('client', connectionId)
  assert.equal(headers.authorization, 'Bearer cc-3')
  provider.api = undefined
})

test('a client that is withdrawn ends its connection, and a sign-in of its owner heals it under the same id', async () => {
  provider.answer = sendJson(200, { access_token: 'before', expires_in: 3600 })
  const { connectionId } = (await submit('/oauth2/auth/client', clientBody, { query: '&params[tenant]=acme' })).json
  provider.answer = sendJson(401, { error: 'invalid_client', error_description: 's&cret is wrong' })
  const refused = await fairlead.call(
    'GET',
    `/connections/${connectionId}?provider_config_key=client&force_refresh=true`,
  )
  assert.equal(refused.status, 400)
  assert.equal(refused.json.error.code, 'invalid_credentials')
  assert.equal((await read('client', connectionId)).state.cause, 'login_refused')
  assert.doesNotMatch(fairlead.log(), /s&cret/)

  provider.answer = sendJson(200, { access_token: 'after', expires_in: 3600 })
  const opened = await fairlead.call('POST', '/connect/sessions/reconnect', {
    connection_id: connectionId,
    integration_id: 'client',
  })
  const again = await submit(
    '/oauth2/auth/client',
    { ...clientBody, client_secret: 'new' },
    { token: opened.json.data.token },
  )
  assert.equal(again.status, 200, again.text)
  assert.equal(again.json.connectionId, connectionId)
  const { credentials, health } = await read('client', connectionId)
  assert.deepEqual([credentials.token, credentials.client_secret, health], ['after', 'new', 'active'])
})

test('no client, no connection; and what the provider says of it', async () => {
  const before = await stored()
  const query = { query: '&params[tenant]=acme' }
  const codes = [
    (await submit('/oauth2/auth/client', {}, query)).json.error.code,
    (await submit('/oauth2/auth/client', { client_id: 'x' }, query)).json.error.code,
  ]
  assert.deepEqual(codes, ['missing_client_id', 'missing_client_secret'])
  provider.answer = sendJson(400, { error: 'invalid_client', error_description: 'no such client' })
  const refused = await submit('/oauth2/auth/client', clientBody, query)
  assert.equal(refused.status, 400)
  assert.equal(refused.json.error.code, 'client_credentials_fetch_error')
  assert.match(refused.json.error.message, /no such client/)
  provider.answer = sendJson(503, {})
  const busy = await submit('/oauth2/auth/client', clientBody, query)
  assert.equal(busy.json.error.code, 'connection_test_unanswered')
  assert.equal(await stored(), before)
})

test('a login in two steps, with what the integration sets for everybody', async () => {
  const ends = new Date(Date.now() + 3_600_000).toISOString()
  provider.answer = (res, asked) =>
    asked.url.endsWith('step=1')
      ? sendJson(200, { data: { ticket: 't-1', id: 17 } })(res, asked)
      : sendJson(200, { session: { token: 'the-token', ends } })(res, asked)
  const answer = await submit('/auth/two-step/login', { type: 'TWO_STEP', user: 'ada', pass: 'pässword' })
  assert.equal(answer.status, 200, answer.text)
  const [first, second] = provider.tokenRequests.slice(-2)
  assert.deepEqual(JSON.parse(first!.body), { auth: { name: 'ada', words: ['pässword'] }, app: 'the-app' })
  assert.equal(second!.headers['x-ticket'], 't-1')
  assert.deepEqual(JSON.parse(second!.body), { again: '17' })
  const { connectionId } = answer.json
  assert.equal((await called('login', connectionId)).headers.authorization, 'Bearer the-token')
  const { credentials } = await read('login', connectionId)
  assert.ok(Math.abs(Date.parse(credentials.expires_at) - Date.parse(ends)) < 60_000, credentials.expires_at)
  assert.deepEqual([credentials.type, credentials.user, credentials.pass], ['TWO_STEP', 'ada', 'pässword'])
  assert.equal(credentials.app, undefined, 'what the developer set is not the connection’s')

  const listed = (await fairlead.call('GET', '/integrations/login')).json.data
  assert.deepEqual(listed.preconfigured_credentials, ['app'])
  const overridden = await submit('/auth/two-step/login', { user: 'a', pass: 'b', app: 'mine' })
  assert.equal(overridden.json.error.code, 'credential_automated')
})

test('a login that is refused: the provider’s words, nothing stored', async () => {
  const before = await stored()
  provider.answer = sendJson(401, { message: 'wrong password: pass-of-ada' })
  const refused = await submit('/auth/two-step/login', { user: 'ada', pass: 'pass-of-ada' })
  assert.equal(refused.status, 400)
  assert.equal(refused.json.error.code, 'connection_test_failed')
  assert.match(refused.json.error.message, /wrong password: \[redacted\]/)
  provider.answer = send(200, 'text/html', '<h1>welcome</h1>')
  const unreadable = await submit('/auth/two-step/login', { user: 'ada', pass: 'x' })
  assert.equal(unreadable.json.error.code, 'token_response_unreadable')
  assert.equal(await stored(), before)
})

test('a signed assertion (RFC 7523) among what is sent', async () => {
  provider.answer = sendJson(200, { access_token: 'by-assertion', expires_in: 600 })
  const body = { client_id: 'app', user: 'ada@acme.com', private_key: pem.replaceAll('\n', '\\n') }
  const answer = await submit('/auth/two-step/bearer', body)
  assert.equal(answer.status, 200, answer.text)
  const { form } = provider.tokenRequests.at(-1)!
  assert.equal(form.get('grant_type'), 'urn:ietf:params:oauth:grant-type:jwt-bearer')
  const assertion = form.get('assertion')!
  const [header, claims] = claimsOf(assertion)
  assert.equal(header.alg, 'RS256')
  assert.deepEqual([claims.iss, claims.sub, claims.aud], ['app', 'ada@acme.com', provider.url])
  assert.ok(claims.exp - claims.iat === 180)
  const [signed, signature] = [assertion.slice(0, assertion.lastIndexOf('.')), assertion.split('.')[2]!]
  assert.ok(verify('sha256', Buffer.from(signed), publicKey, Buffer.from(signature, 'base64url')))
  assert.equal((await called('bearer', answer.json.connectionId)).headers.authorization, 'Bearer by-assertion')

  const malformed = await submit('/auth/two-step/bearer', { ...body, private_key: 'nonsense' })
  assert.equal(malformed.json.error.code, 'credential_malformed')
})

test('a token signed here: nobody is asked, and it is made anew', async () => {
  const asked = provider.tokenRequests.length
  const answer = await submit('/auth/jwt/signed', { type: 'JWT', id: 'kid-1', secret: 'abcd' })
  assert.equal(answer.status, 200, answer.text)
  const { connectionId } = answer.json
  const first = (await called('signed', connectionId)).headers.authorization!.slice('Bearer '.length)
  const [header, claims] = claimsOf(first)
  assert.deepEqual(header, { typ: 'JWT', alg: 'HS256', kid: 'kid-1' })
  assert.deepEqual([claims.aud, claims.exp - claims.iat], ['/admin/', 300])
  const renewed = await read('signed', connectionId, '&force_refresh=true')
  assert.equal(renewed.health, 'active')
  assert.equal(renewed.credentials.type, 'JWT')
  assert.equal(provider.tokenRequests.length, asked)
})

test('an API that asks nobody who they are', async () => {
  const answer = await submit('/auth/unauthenticated/open', undefined)
  assert.equal(answer.status, 200, answer.text)
  assert.equal((await called('open', answer.json.connectionId)).headers.authorization, undefined)
  assert.deepEqual((await read('open', answer.json.connectionId)).credentials, { type: 'NONE' })
})

const refusals: [what: string, path: string, body: unknown, query: string, status: number, code: string][] = [
  ['an unknown integration', '/api-auth/api-key/nobody', { apiKey: 'x' }, '', 404, 'unknown_provider_config'],
  ['another kind', '/api-auth/basic/keyed', { username: 'x' }, '', 400, 'invalid_auth_mode'],
  ['a form that is not filled in', '/api-auth/api-key/keyed', {}, '', 400, 'invalid_body'],
  ['a key that has not the form', '/api-auth/api-key/keyed', { apiKey: 'nokey' }, '', 400, 'invalid_body'],
  ['a member nobody asks for', '/api-auth/api-key/keyed', { apiKey: 'key_1', more: '1' }, '', 400, 'invalid_body'],
  ['a number for a key', '/api-auth/api-key/keyed', { apiKey: 7 }, '', 400, 'invalid_body'],
  ['a key without end', '/api-auth/api-key/keyed', { apiKey: `key_${'a'.repeat(1024)}` }, '', 400, 'invalid_body'],
  ['no JSON', '/api-auth/api-key/keyed', undefined, '', 400, 'invalid_json'],
  ['a fact that is missing', '/oauth2/auth/client', clientBody, '', 400, 'connection_config_missing'],
  [
    'a fact that has not the form',
    '/oauth2/auth/client',
    clientBody,
    '&params[tenant]=A/..',
    400,
    'connection_config_invalid',
  ],
  [
    'a fact only the provider may tell',
    '/oauth2/auth/client',
    clientBody,
    '&params[tenant]=a&params[learned]=x',
    400,
    'connection_config_automated',
  ],
  [
    'a connection id',
    '/api-auth/api-key/keyed',
    { apiKey: 'key_1' },
    '&connection_id=mine',
    400,
    'invalid_query_params',
  ],
  ['a kind that is not here yet', '/auth/tba/keyed', {}, '', 501, 'not_implemented'],
]
for (const [what, path, body, query, status, code] of refusals)
  test(`refused: ${what}`, async () => {
    const before = await stored()
    const asked = provider.tokenRequests.length
    const answer = await submit(path, body, { query })
    assert.deepEqual([answer.status, answer.json?.error?.code], [status, code], answer.text)
    assert.ok(answer.json.error.message)
    assert.equal(await stored(), before)
    assert.equal(provider.tokenRequests.length, asked)
  })

test('refused: an integration the session does not allow, and a session that never was', async () => {
  const token = await openSession(fairlead, { end_user: { id: 'ada' }, allowed_integrations: ['open'] })
  const other = await submit('/api-auth/api-key/keyed', { apiKey: 'key_1' }, { token })
  assert.deepEqual([other.status, other.json.error.code], [400, 'integration_not_allowed'])
  const none = await submit(
    '/api-auth/api-key/keyed',
    { apiKey: 'key_1' },
    { token: `nango_connect_session_${'0'.repeat(64)}` },
  )
  assert.deepEqual([none.status, none.json.error.code], [401, 'unknown_connect_session_token'])
})

test('a connection that is deleted asks nobody to revoke a password', async () => {
  const { connectionId } = (await submit('/api-auth/basic/plain', { username: 'ada', password: 'p' })).json
  const before = provider.tokenRequests.length + provider.otherRequests.length
  const gone = await fairlead.call('DELETE', `/connections/${connectionId}?provider_config_key=plain`)
  assert.equal(gone.status, 200)
  for (;;) {
    const { revocations } = (await fairlead.call('GET', `/revocations?connection_id=${connectionId}`)).json
    if (revocations[0]?.status === 'pending') {
      await new Promise(resolve => setTimeout(resolve, 50))
      continue
    }
    assert.equal(revocations[0]?.status, 'not_offered')
    break
  }
  assert.equal(provider.tokenRequests.length + provider.otherRequests.length, before)
})

test('a connection is imported with its credentials, tried and shown whole; what cannot be is refused', async () => {
  const body = {
    provider_config_key: 'keyed',
    connection_id: 'brought',
    credentials: { type: 'API_KEY', apiKey: 'key_old' },
    metadata: { a: 1 },
  }
  const made = await fairlead.call('POST', '/connections', body)
  assert.equal(made.status, 201, made.text)
  assert.deepEqual(made.json.credentials, { type: 'API_KEY', apiKey: 'key_old' })
  assert.deepEqual(made.json.metadata, { a: 1 })
  assert.equal((await called('keyed', 'brought')).headers['x-key'], 'key_old')
  const before = await stored()
  const codes = [
    await fairlead.call('POST', '/connections', { ...body, provider_config_key: 'nobody' }),
    await fairlead.call('POST', '/connections', {
      ...body,
      credentials: { type: 'BASIC', username: 'a', password: 'b' },
    }),
    await fairlead.call('POST', '/connections', { ...body, surplus: 1 }),
  ].map(answer => [answer.status, answer.json.error.code])
  assert.deepEqual(codes, [
    [404, 'unknown_provider_config'],
    [400, 'invalid_body'],
    [400, 'invalid_body'],
  ])
  assert.equal(await stored(), before)
})

test('a connection that is here gets what is imported in the place of what it had; the rest stays', async () => {
  const body = {
    provider_config_key: 'keyed',
    connection_id: 'twice',
    credentials: { type: 'API_KEY', apiKey: 'key_1' },
  }
  const owned = { ...body, metadata: { a: 1 }, tags: { plan: 'gold' }, end_user: { id: 'ada' } }
  const first = (await fairlead.call('POST', '/connections', owned)).json
  const before = await stored()
  const second = await fairlead.call('POST', '/connections', {
    ...body,
    credentials: { type: 'API_KEY', apiKey: 'key_2' },
  })
  assert.equal(second.status, 201, second.text)
  assert.deepEqual(second.json.credentials, { type: 'API_KEY', apiKey: 'key_2' })
  assert.deepEqual(
    [second.json.id, second.json.metadata, second.json.tags, second.json.end_user.id],
    [first.id, { a: 1 }, first.tags, 'ada'],
  )
  assert.equal((await called('keyed', 'twice')).headers['x-key'], 'key_2')
  assert.equal(await stored(), before, 'no second row')
  const at = '/connections/twice'
  await fairlead.call('POST', `${at}/pause?provider_config_key=keyed`)
  const paused = await fairlead.call('POST', '/connections', body)
  assert.deepEqual([paused.status, paused.json.state.name], [201, 'paused'])
})

test('the older, flat import: by the kind of its integration, echoed, and read like any other', async () => {
  const body = { provider_config_key: 'keyed', connection_id: 'flat', api_key: 'key_flat', metadata: { b: 2 } }
  const made = await fairlead.call('POST', '/connection', body)
  assert.equal(made.status, 201, made.text)
  assert.deepEqual(made.json, body)
  const read = (await fairlead.call('GET', '/connection/flat?provider_config_key=keyed')).json
  assert.deepEqual([read.credentials, read.metadata], [{ type: 'API_KEY', apiKey: 'key_flat' }, { b: 2 }])
  assert.equal((await called('keyed', 'flat')).headers['x-key'], 'key_flat')
  const again = await fairlead.call('POST', '/connection', { ...body, api_key: 'key_flat_2' })
  assert.equal(again.status, 201)
  assert.equal((await called('keyed', 'flat')).headers['x-key'], 'key_flat_2')
  const before = await stored()
  const refused = [
    await fairlead.call('POST', '/connection', { ...body, connection_id: 'other', api_key: undefined }),
    await fairlead.call('POST', '/connection', { ...body, provider_config_key: 'nobody' }),
    await fairlead.call('POST', '/connection', { ...body, connection_id: '' }),
    await fairlead.call('POST', '/connection?x=1', body),
  ].map(answer => [answer.status, answer.json.error.code])
  assert.deepEqual(refused, [
    [400, 'invalid_body'],
    [404, 'unknown_provider_config'],
    [400, 'invalid_body'],
    [400, 'invalid_query_params'],
  ])
  assert.equal(await stored(), before)
})
