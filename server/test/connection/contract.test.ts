/**
 * The wire contract by the letter, asked with plain requests: statuses, codes, members, timestamps, and what is refused. What its clients do
 * with it is in `conformance/`; here is what they would not notice and a team's own code might. Row by row, on one server.
 */
// First, so that its hook runs before the database's.
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { begin, callbackOf, openSession } from '../connect/support/journey.ts'
import { type Provider, sendJson, startProvider } from '../connect/support/provider.ts'
import { scope } from '../connect/support/scope.ts'
import { type Answer, type Fairlead, request, startFairlead } from '../support/fairlead.ts'

let fairlead: Fairlead
let provider: Provider
/** Connections of `keyed` and `signin`. */
const ids = { keyed: 'key of ada', signin: '' }

const kinds = ['keyed', 'basic', 'client', 'login', 'signed', 'open', 'signin', 'hosted']

before(async () => {
  provider = await startProvider(scope)
  provider.answer = sendJson(200, {
    ...{ access_token: 'AT-1', refresh_token: 'RT-1', refreshToken: 'RT-2', token_type: 'Bearer', expires_in: 7200 },
    ...{ team: { id: 'T-1', paid: true, seats: 3 }, nested: { 'Refresh-Token': 'RT-3' } },
  })
  const at = provider.url
  fairlead = await startFairlead(scope, {
    providers: `
keyed: { display_name: Keyed, auth_mode: API_KEY, proxy: { base_url: '${at}/v1', headers: { x-key: '\${apiKey}' } } }
basic: { display_name: Basic, auth_mode: BASIC, proxy: { base_url: '${at}/v1' } }
client: { display_name: Client, auth_mode: OAUTH2_CC, token_url: '${at}/token', proxy: { base_url: '${at}/v1' } }
login:
  display_name: Login
  auth_mode: TWO_STEP
  credentials: { user: { title: User }, pass: { title: Password } }
  token_url: ${at}/token
  token_params: { user: '\${credentials.user}' }
  token_response: { token: access_token, token_expiration: expires_in, token_expiration_strategy: expireIn }
  proxy: { base_url: '${at}/v1' }
signed:
  display_name: Signed
  auth_mode: JWT
  credentials: { id: { title: Id }, secret: { title: Secret } }
  signature: { protocol: HMAC }
  token: { signing_key: '\${credentials.secret}', expires_in_ms: 300000 }
  proxy: { base_url: '${at}/v1' }
open: { display_name: Open, auth_mode: NONE, proxy: { base_url: '${at}/v1' } }
hosted:
  display_name: Hosted
  auth_mode: OAUTH2
  authorization_url: ${at}/authorize
  token_url: ${at}/token
  token_response_metadata: [instance]
  proxy: { base_url: '\${connectionConfig.instance}/v1' }
signin:
  display_name: Sign-in
  auth_mode: OAUTH2
  authorization_url: ${at}/authorize
  token_url: ${at}/token
  token_response_metadata: [team.id, team.paid, team.seats, missing]
  redirect_uri_metadata: [shop]
  connection_config: { region: { title: Region, optional: true }, shop: { pattern: '^[a-z]+$', automated: true } }
  proxy: { base_url: '${at}/v1' }
`,
  })
  for (const key of kinds) {
    const credentials = /^(signin|hosted)$/.test(key) && { type: 'OAUTH2', client_id: 'a', client_secret: 'b' }
    const made = await call('POST', '/integrations', {
      provider: key,
      unique_key: key,
      ...(credentials && { credentials }),
    })
    assert.equal(made.status, 200, made.text)
  }
  const body = { provider_config_key: 'keyed', connection_id: ids.keyed, credentials: { type: 'API_KEY', apiKey: 'k' } }
  assert.equal((await call('POST', '/connections', body)).status, 201)
})

const call: Fairlead['call'] = (...args) => fairlead.call(...args)
const withToken = (path: string, token: string, method = 'GET') =>
  request(`${fairlead.url}${path}`, { method, headers: { Authorization: `Bearer ${token}` } })
const submit = async (path: string, body?: object): Promise<Answer> => {
  const token = await openSession(fairlead, { end_user: { id: 'ada' } })
  const json = { 'Content-Type': 'application/json' }
  return request(`${fairlead.url}${path}?connect_session_token=${token}`, {
    method: 'POST',
    headers: json,
    ...(body && { body: JSON.stringify(body) }),
  })
}
const read = async (key: string, id: string, query = '') =>
  (await call('GET', `/connections/${encodeURIComponent(id)}?provider_config_key=${key}${query}`)).json
const utc = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$/
const zulu = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const has = (found: object, ...members: string[]) => {
  for (const member of members) assert.ok(Object.hasOwn(found, member), `${member} in ${Object.keys(found)}`)
}

const one = `/connections/${encodeURIComponent(ids.keyed)}`
/** §§1–14: what is refused, by status and code. A body that is a text goes as it is. */
const refusals: [what: string, method: string, path: string, body: unknown, status: number, code: string][] = [
  ['JSON that is none', 'POST', '/connect/sessions', '{', 400, 'invalid_json'],
  ['an unknown member', 'POST', '/connect/sessions', { tags: { a: 'b' }, other: 1 }, 400, 'invalid_body'],
  ['a query where there is none', 'POST', '/connect/sessions?a=1', { tags: { a: 'b' } }, 400, 'invalid_query_params'],
  ['a session for nobody', 'POST', '/connect/sessions', {}, 400, 'invalid_body'],
  ['an end user with more', 'POST', '/connect/sessions', { end_user: { id: 'a', role: 'x' } }, 400, 'invalid_body'],
  ['tags alike', 'POST', '/connect/sessions', { tags: { A: 'b', a: 'b' } }, 400, 'invalid_body'],
  [
    'eleven tags',
    'POST',
    '/connect/sessions',
    { tags: Object.fromEntries(Array.from({ length: 11 }, (_, n) => [`t${n}`, 'x'])) },
    400,
    'invalid_body',
  ],
  ['a tag that is no address', 'POST', '/connect/sessions', { tags: { end_user_email: 'x' } }, 400, 'invalid_body'],
  [
    'a reconnect of nothing',
    'POST',
    '/connect/sessions/reconnect',
    { connection_id: 'x', integration_id: 'keyed' },
    400,
    'invalid_body',
  ],
  ['an API key for a session', 'GET', '/connect/session', undefined, 401, 'invalid_connect_session_token_format'],
  ['no such provider', 'GET', '/providers/nothing', undefined, 404, 'not_found'],
  ['a name no provider has', 'GET', '/providers/no%20thing', undefined, 400, 'invalid_uri_params'],
  ['a provider with a query', 'GET', '/providers/keyed?a=1', undefined, 400, 'invalid_query_params'],
  ['an integration of nothing', 'POST', '/integrations', { provider: 'nothing', unique_key: 'x' }, 400, 'invalid_body'],
  ['an integration twice', 'POST', '/integrations', { provider: 'keyed', unique_key: 'keyed' }, 400, 'invalid_body'],
  ['no OAuth client', 'POST', '/integrations', { provider: 'signin', unique_key: 'x' }, 400, 'invalid_body'],
  [
    'another kind of client',
    'POST',
    '/integrations',
    { provider: 'signin', unique_key: 'x', credentials: { type: 'OAUTH1', client_id: 'a', client_secret: 'b' } },
    400,
    'invalid_body',
  ],
  ['a name with a slash', 'POST', '/integrations', { provider: 'keyed', unique_key: 'a/b' }, 400, 'invalid_body'],
  [
    'a new name, once there are connections',
    'PATCH',
    '/integrations/keyed',
    { unique_key: 'other' },
    400,
    'invalid_body',
  ],
  ['an unknown include', 'GET', '/integrations/keyed?include=all', undefined, 400, 'invalid_query_params'],
  ['no such integration', 'GET', '/integrations/nothing', undefined, 404, 'not_found'],
  ['no such integration to change', 'PATCH', '/integrations/nothing', {}, 404, 'not_found'],
  ['no such integration to delete', 'DELETE', '/integrations/nothing', undefined, 404, 'not_found'],
  ['an unknown filter', 'GET', '/connections?connection_id=x', undefined, 400, 'invalid_query_params'],
  ['2,001 of a list', 'GET', '/connections?limit=2001', undefined, 400, 'invalid_query_params'],
  ['none of a list', 'GET', '/connections?limit=0', undefined, 400, 'invalid_query_params'],
  ['a page before the first', 'GET', '/connections?page=-1', undefined, 400, 'invalid_query_params'],
  ['a connection of no integration', 'GET', one, undefined, 400, 'invalid_query_params'],
  [
    'a connection of an unknown one',
    'GET',
    `${one}?provider_config_key=nothing`,
    undefined,
    400,
    'unknown_provider_config',
  ],
  ['no such connection', 'GET', '/connections/nobody?provider_config_key=keyed', undefined, 404, 'not_found'],
  [
    'a boolean that is none',
    'GET',
    `${one}?provider_config_key=keyed&force_refresh=1`,
    undefined,
    400,
    'invalid_query_params',
  ],
  [
    'a patch of an unknown integration',
    'PATCH',
    `${one}?provider_config_key=nothing`,
    {},
    400,
    'unknown_provider_config',
  ],
  ['a patch of nothing', 'PATCH', '/connections/nobody?provider_config_key=keyed', {}, 404, 'not_found'],
  ['a patch of more than there is', 'PATCH', `${one}?provider_config_key=keyed`, { metadata: {} }, 400, 'invalid_body'],
  [
    'a delete of nothing',
    'DELETE',
    '/connections/nobody?provider_config_key=keyed',
    undefined,
    400,
    'unknown_connection',
  ],
  [
    'metadata of nothing',
    'POST',
    '/connections/metadata',
    { connection_id: [ids.keyed, 'nobody'], provider_config_key: 'keyed', metadata: {} },
    404,
    'unknown_connection',
  ],
  [
    'metadata laid over nothing',
    'PATCH',
    '/connections/metadata',
    { connection_id: 'nobody', provider_config_key: 'keyed', metadata: {} },
    404,
    'unknown_connection',
  ],
  [
    'an import for nothing',
    'POST',
    '/connections',
    { provider_config_key: 'nothing', credentials: { type: 'NONE' } },
    404,
    'unknown_provider_config',
  ],
  [
    'an import of another kind',
    'POST',
    '/connections',
    { provider_config_key: 'signin', credentials: { type: 'API_KEY', apiKey: 'k' } },
    400,
    'invalid_body',
  ],
  [
    'an import with more',
    'POST',
    '/connections',
    { provider_config_key: 'keyed', credentials: { type: 'API_KEY', apiKey: 'k', more: 1 } },
    400,
    'invalid_body',
  ],
  ...['BILL', 'SIGNATURE', 'JWT', 'TWO_STEP', 'AWS_SIGV4'].map((type): (typeof refusals)[number] => [
    ...([`an import of ${type}`, 'POST', '/connections'] as const),
    { provider_config_key: 'keyed', credentials: { type } },
    400,
    'invalid_body',
  ]),
  [
    '5 MB and one byte',
    'POST',
    '/connect/sessions',
    { tags: { a: 'x'.repeat(5 * 1024 * 1024) } },
    413,
    'body_too_large',
  ],
]
for (const [what, method, path, body, status, code] of refusals)
  test(`refused: ${what}`, async () => {
    const init = typeof body === 'string' && {
      ...{ method, body, headers: { Authorization: `Bearer ${fairlead.key}`, 'Content-Type': 'application/json' } },
    }
    const answer = init ? await request(`${fairlead.url}${path}`, init) : await call(method, path, body)
    assert.deepEqual([answer.status, answer.json?.error.code], [status, code], answer.text)
    assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
    const { message, errors, ...rest } = answer.json.error
    assert.ok(typeof message === 'string' && message.length > 10, 'a client reads it without a guard')
    assert.deepEqual(
      Object.keys(rest).filter(name => !['code', 'payload'].includes(name)),
      [],
    )
    for (const issue of errors ?? []) {
      assert.deepEqual(Object.keys(issue).sort(), ['code', 'message', 'path'])
      assert.ok(Array.isArray(issue.path))
    }
    if (/^invalid_(body|query_params|uri_params)$/.test(code)) assert.ok(errors.length > 0)
  })

test('who is calling: each way to be nobody has its code (§2.1)', async () => {
  const as = (Authorization?: string) =>
    request(`${fairlead.url}/connections`, { headers: Authorization === undefined ? {} : { Authorization } })
  for (const [header, code] of [
    [undefined, 'missing_auth_header'],
    ['Basic abc', 'malformed_auth_header'],
    ['Bearer not-a-uuid', 'invalid_secret_key_format'],
    [`Bearer ${crypto.randomUUID()}`, 'unknown_account'],
  ] as const) {
    const answer = await as(header)
    assert.deepEqual([answer.status, answer.json.error.code], [401, code])
  }
  const browser = (query: string) => request(`${fairlead.url}/api-auth/api-key/keyed${query}`, { method: 'POST' })
  for (const [query, code] of [
    ['', 'missing_public_key'],
    [`?public_key=${crypto.randomUUID()}`, 'deprecated_authentication'],
    ['?connect_session_token=x', 'invalid_connect_session_token_format'],
    [`?connect_session_token=nango_connect_session_${'a'.repeat(64)}`, 'unknown_connect_session_token'],
  ]) {
    const [headless, popup] = [await browser(query!), await request(`${fairlead.url}/oauth/connect/signin${query}`)]
    for (const answer of [headless, popup])
      assert.deepEqual([answer.status, answer.json?.error.code], [401, code], answer.text)
  }
})

test('content types (§1): JSON alone where there is a body; named without one it is no fault', async () => {
  const headers = { Authorization: `Bearer ${fairlead.key}` }
  const at = (path: string, init: RequestInit) => request(`${fairlead.url}${path}`, init)
  const form = { ...headers, 'Content-Type': 'application/x-www-form-urlencoded' }
  const refused = await at('/connect/sessions', { method: 'POST', headers: form, body: 'a=b' })
  assert.deepEqual([refused.status, refused.json.error.code], [415, 'invalid_content_type'])
  const json = { ...headers, 'Content-Type': 'application/json; charset=utf-8' }
  assert.equal((await at('/connections', { headers: json })).status, 200)
  const gone = await at('/connections/nobody?provider_config_key=keyed', { method: 'DELETE', headers: json })
  assert.equal(gone.json.error.code, 'unknown_connection')
})

test('another origin may read everything (§1 CORS)', async () => {
  const asked = 'Authorization,Content-Type,Provider-Config-Key,Connection-Id'
  const preflight = await request(`${fairlead.url}/connect/session`, {
    method: 'OPTIONS',
    headers: {
      ...{ Origin: 'https://crm.example', 'Access-Control-Request-Method': 'DELETE' },
      'Access-Control-Request-Headers': asked,
    },
  })
  assert.equal(preflight.status, 204)
  assert.deepEqual(
    [preflight.headers.get('access-control-allow-origin'), preflight.headers.get('access-control-max-age')],
    ['*', '600'],
  )
  assert.match(preflight.headers.get('access-control-allow-methods') ?? '', /DELETE/)
  const allowed = preflight.headers.get('access-control-allow-headers')?.toLowerCase().split(',') ?? []
  for (const name of [...asked.split(','), 'Nango-Is-Sync', 'Nango-Is-Dry-Run', 'Nango-Activity-Log-Id', 'Baggage'])
    assert.ok(allowed.includes(name.toLowerCase()), name)
  // Refusals too: a browser hides what it may not read, and its page would only say "network error".
  const refused = await request(`${fairlead.url}/connections`, { headers: { Origin: 'https://crm.example' } })
  assert.deepEqual([refused.status, refused.headers.get('access-control-allow-origin')], [401, '*'])
  const exposed = refused.headers.get('access-control-expose-headers')?.split(',') ?? []
  for (const name of ['X-Nango-Signature', 'X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset'])
    assert.ok(exposed.includes(name), name)
})

test('providers: by name, searched, and all of them without a key (§1, §5)', async () => {
  const found = (await call('GET', '/providers?search=SIGNI')).json.data
  assert.deepEqual([found.length, found[0].name, found[0].auth_mode], [1, 'signin', 'OAUTH2'])
  has(found[0], 'name', 'logo_url', 'authorization_url', 'token_url', 'connection_config', 'proxy')
  const all = await request(`${fairlead.url}/providers.json`)
  assert.equal(all.status, 200)
  assert.deepEqual(all.json.signin, found[0])
  assert.equal(Object.keys(all.json).length, (await call('GET', '/providers')).json.data.length)
})

test('integrations: members, times, and what is asked for (§6)', async () => {
  const { data } = (await call('GET', '/integrations/signin')).json
  has(data, 'unique_key', 'provider', 'display_name', 'logo', 'forward_webhooks', 'created_at', 'updated_at')
  for (const member of ['webhook_url', 'credentials']) assert.ok(!Object.hasOwn(data, member))
  for (const time of [data.created_at, data.updated_at]) assert.match(time, zulu)
  assert.equal(data.forward_webhooks, true)
  const whole = (await call('GET', '/integrations/signin?include=webhook&include=credentials')).json.data
  assert.equal(whole.webhook_url, null)
  assert.deepEqual([whole.credentials.type, whole.credentials.client_id], ['OAUTH2', 'a'])
  assert.equal((await call('GET', '/integrations/keyed?include=credentials')).json.data.credentials, null)
  const renamed = await call('PATCH', '/integrations/open', { unique_key: 'opened' })
  assert.deepEqual([renamed.status, renamed.json.data.unique_key], [200, 'opened'])
  assert.equal((await call('PATCH', '/integrations/opened', { unique_key: 'open' })).status, 200)
  assert.deepEqual((await call('GET', '/config/keyed')).json.config.provider, 'keyed')
})

test('a session: 201, its link and its half hour; 200 to read; 204 to end (§7)', async () => {
  const asked = {
    end_user: { id: 'u', email: 'u@acme.com', display_name: 'U', tags: { Team: 'blue' } },
    organization: { id: 'o', display_name: 'O' },
    tags: { own: '1', end_user_id: 'mine' },
    allowed_integrations: ['keyed', 'signin'],
    integrations_config_defaults: {
      signin: { authorization_params: { prompt: 'login' }, connection_config: { region: 'eu' } },
    },
    overrides: { keyed: { docs_connect: 'https://crm.example/help' } },
  }
  const made = await call('POST', '/connect/sessions', asked)
  const { token, connect_link, expires_at } = made.json.data
  assert.deepEqual([made.status, Object.keys(made.json.data)], [201, ['token', 'connect_link', 'expires_at']])
  assert.match(token, /^nango_connect_session_[0-9a-f]{64}$/)
  assert.equal(new URL(connect_link).searchParams.get('session_token'), token)
  assert.match(expires_at, zulu)
  const left = Date.parse(expires_at) - Date.now()
  assert.ok(left > 28 * 60_000 && left <= 31 * 60_000, `${left} ms`)

  const session = await withToken('/connect/session', token)
  const { data } = session.json
  assert.equal(session.status, 200)
  assert.deepEqual(data.endUser, {
    ...{ id: 'u', display_name: 'U', email: 'u@acme.com', tags: { Team: 'blue' } },
    organization: { id: 'o', display_name: 'O' },
  })
  assert.deepEqual(Object.keys(data.connectUISettings.theme), ['light', 'dark'])
  has(data.connectUISettings, 'theme', 'defaultTheme', 'showWatermark')
  assert.deepEqual(data.allowed_integrations, asked.allowed_integrations)
  assert.deepEqual(data.integrations_config_defaults, asked.integrations_config_defaults)
  assert.deepEqual(data.overrides, asked.overrides)
  assert.equal(data.websocketsPath, '/')
  assert.ok(!Object.hasOwn(data, 'isReconnecting'))
  const seen = (await withToken('/integrations', token)).json.data
  assert.deepEqual(
    seen.map((integration: { unique_key: string }) => integration.unique_key),
    asked.allowed_integrations,
  )

  const [bare] = [await openSession(fairlead, { tags: { own: '1' } })]
  const nobody = (await withToken('/connect/session', bare)).json.data
  assert.equal(nobody.endUser, null)
  for (const absent of ['allowed_integrations', 'integrations_config_defaults', 'overrides'])
    assert.ok(!Object.hasOwn(nobody, absent), absent)

  const ended = await withToken('/connect/session', token, 'DELETE')
  assert.deepEqual([ended.status, ended.text], [204, ''])
  assert.equal((await withToken('/connect/session', token)).json.error.code, 'unknown_connect_session_token')
})

test('what a session names and nobody knows is named with its place (§7.1)', async () => {
  const who = { end_user: { id: 'u' } }
  for (const [body, path] of [
    [{ allowed_integrations: ['keyed', 'nothing'] }, ['allowed_integrations', 1]],
    [{ integrations_config_defaults: { nothing: {} } }, ['integrations_config_defaults', 'nothing']],
    [{ overrides: { nothing: {} } }, ['overrides', 'nothing']],
  ] as const) {
    const { error } = (await call('POST', '/connect/sessions', { ...who, ...body })).json
    assert.deepEqual([error.code, error.errors[0].path], ['invalid_body', path])
  }
})

test('a sign-in: the redirect, the token request, what is learned, and its credentials (§8, §9, §15)', async () => {
  const token = await openSession(fairlead, { end_user: { id: 'ada', email: 'ada@acme.com' }, tags: { Plan: 'gold' } })
  const query = '&params[region]=eu&authorization_params[prompt]=undefined&authorization_params[hint]=x'
  const begun = await begin(fairlead, 'signin', { token, query })
  const sent = begun.authorize.searchParams
  assert.deepEqual(
    [sent.get('response_type'), sent.get('client_id'), sent.get('code_challenge_method')],
    ['code', 'a', 'S256'],
  )
  assert.equal(sent.get('redirect_uri'), `${fairlead.app.url}/oauth/callback`)
  assert.deepEqual([sent.has('prompt'), sent.get('hint')], [false, 'x'])
  const way = callbackOf(begun, 'the-code')
  way.searchParams.set('shop', 'acme')
  const page = await begun.browser.open(way.href)
  assert.deepEqual([page.status, page.headers.get('content-type')?.split(';')[0]], [200, 'text/html'])
  assert.match(page.text, /"type":"nango_oauth_callback_success"/)
  assert.match(page.text, /nango-oauth-callback/)

  const { form, headers } = provider.tokenRequests.at(-1)!
  assert.deepEqual(
    ['grant_type', 'code', 'redirect_uri', 'client_id', 'client_secret'].map(name => form.get(name)),
    ['authorization_code', 'the-code', `${fairlead.app.url}/oauth/callback`, 'a', 'b'],
  )
  assert.ok(form.get('code_verifier'))
  assert.equal(headers.authorization, undefined)

  const [listed] = (await call('GET', '/connections?integrationId=signin')).json.connections
  ids.signin = listed.connection_id
  has(
    listed,
    'id',
    'connection_id',
    'provider_config_key',
    'provider',
    'errors',
    'end_user',
    'tags',
    'metadata',
    'created',
  )
  assert.equal(typeof listed.id, 'number')
  assert.deepEqual(listed.tags, { plan: 'gold', end_user_id: 'ada', end_user_email: 'ada@acme.com' })
  assert.deepEqual(listed.errors, [])

  const plain = await read('signin', ids.signin)
  has(plain, 'id', 'errors', 'end_user', 'tags', 'connection_config', 'webhook_url_override', 'last_fetched_at')
  for (const time of [plain.created_at, plain.updated_at, plain.last_fetched_at]) assert.match(time, utc)
  assert.equal(plain.metadata, null)
  assert.equal(plain.webhook_url_override, null)
  // Texts and booleans alone (§22); from the callback's query too.
  assert.deepEqual(plain.connection_config, { 'team.id': 'T-1', 'team.paid': true, shop: 'acme', region: 'eu' })
  assert.deepEqual(Object.keys(plain.credentials).sort(), ['access_token', 'expires_at', 'raw', 'type'])
  assert.equal(plain.credentials.type, 'OAUTH2')
  assert.equal(plain.credentials.raw.team.seats, 3)
  const whole = await read('signin', ids.signin, '&refresh_token=true')
  assert.deepEqual([whole.credentials.refresh_token, whole.credentials.raw.refreshToken], ['RT-1', 'RT-2'])
  assert.equal(whole.credentials.raw.nested['Refresh-Token'], 'RT-3')
  for (const secret of ['RT-1', 'RT-2', 'RT-3']) assert.ok(!JSON.stringify(plain).includes(secret), secret)
})

test('a browser adds to the authorization page and replaces nothing of it (RFC 9101 among it)', async () => {
  const asked = [
    'redirect_uri',
    'state',
    'client_id',
    'response_type',
    'scope',
    'code_challenge',
    'code_challenge_method',
  ]
  const never = ['request', 'request_uri', 'registration', 'response_mode']
  const query = [...asked, ...never, 'login_hint'].map(name => `&authorization_params[${name}]=evil`).join('')
  const { authorize } = await begin(fairlead, 'signin', { query })
  const sent = [...authorize.searchParams].filter(([, value]) => value === 'evil').map(([name]) => name)
  assert.deepEqual(sent, ['login_hint'])
  for (const name of never) assert.ok(!authorize.searchParams.has(name), name)
})

test('a link to help that is a script is no link', async () => {
  for (const docs_connect of ['javascript:alert(1)', 'data:text/html,x', '/relative', 'JaVaScRiPt:alert(1)']) {
    const body = { end_user: { id: 'u' }, overrides: { keyed: { docs_connect } } }
    const refused = await call('POST', '/connect/sessions', body)
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_body'], docs_connect)
  }
})

test('a fact beside the code is held to its form, and once is enough (§22 redirect_uri_metadata)', async () => {
  const before = (await call('GET', '/connections')).json.connections.length
  const exchanges = provider.tokenRequests.length
  for (const shops of [
    ['acme', 'evil'],
    ['Acme!', ''],
  ]) {
    const begun = await begin(fairlead, 'signin')
    const way = callbackOf(begun, 'c')
    for (const shop of shops.filter(Boolean)) way.searchParams.append('shop', shop)
    const page = await begun.browser.open(way.href)
    assert.deepEqual([page.status, page.headers.get('fairlead-error')], [400, 'callback_malformed'])
  }
  assert.equal(provider.tokenRequests.length, exchanges, 'the code went nowhere')
  assert.equal((await call('GET', '/connections')).json.connections.length, before)
})

/** §11, §15: the endpoint of each kind, what it is given, and the members its credentials have when read. */
const headless: [key: string, path: string, body: object | undefined, shown: string[]][] = [
  ['keyed', '/api-auth/api-key/keyed', { apiKey: 'k' }, ['apiKey', 'type']],
  ['basic', '/api-auth/basic/basic', { username: 'ada', password: '' }, ['password', 'type', 'username']],
  [
    'client',
    '/oauth2/auth/client',
    { client_id: 'c', client_secret: 's' },
    ['client_id', 'client_secret', 'expires_at', 'raw', 'token', 'type'],
  ],
  [
    'login',
    '/auth/two-step/login',
    { type: 'TWO_STEP', user: 'ada', pass: 'p' },
    ['expires_at', 'pass', 'raw', 'token', 'type', 'user'],
  ],
  [
    'signed',
    '/auth/jwt/signed',
    { type: 'JWT', id: 'i', secret: 's' },
    ['expires_at', 'id', 'secret', 'token', 'type'],
  ],
  ['open', '/auth/unauthenticated/open', undefined, ['type']],
]
for (const [key, path, body, shown] of headless)
  test(`${path}: 200, and credentials with ${shown.join(', ')}`, async () => {
    const made = await submit(path, body)
    assert.deepEqual([made.status, Object.keys(made.json)], [200, ['connectionId', 'providerConfigKey']], made.text)
    const { credentials } = await read(key, made.json.connectionId)
    assert.deepEqual(Object.keys(credentials).sort(), shown)
    assert.equal(
      (await call('DELETE', `/connections/${made.json.connectionId}?provider_config_key=${key}`)).status,
      200,
    )
  })

test('what the credential endpoints refuse (§11)', async () => {
  for (const [path, body, status, code] of [
    ['/api-auth/api-key/nothing', { apiKey: 'k' }, 404, 'unknown_provider_config'],
    ['/api-auth/api-key/signin', { apiKey: 'k' }, 400, 'invalid_auth_mode'],
    ['/api-auth/api-key/keyed', { apiKey: 'k'.repeat(1025) }, 400, 'invalid_body'],
    ['/api-auth/basic/basic', { username: 'u'.repeat(1025), password: '' }, 400, 'invalid_body'],
    ['/oauth2/auth/client', { client_secret: 's' }, 400, 'missing_client_id'],
    ['/oauth2/auth/client', { client_id: 'c' }, 400, 'missing_client_secret'],
    ['/auth/tba/keyed', { token_id: 'a', token_secret: 'b' }, 501, 'not_implemented'],
    ['/auth/bill/keyed', {}, 501, 'not_implemented'],
    ['/auth/signature/keyed', {}, 501, 'not_implemented'],
    ['/auth/aws-sigv4/keyed', {}, 501, 'not_implemented'],
    ['/auth/oauth-outbound/keyed', {}, 501, 'not_implemented'],
  ] as const) {
    const answer = await submit(path, body)
    assert.deepEqual([answer.status, answer.json.error.code], [status, code], answer.text)
    assert.equal(typeof answer.json.error.message, 'string')
  }
  const kept = provider.answer
  provider.answer = sendJson(401, { error: 'invalid_client' })
  const refused = await submit('/oauth2/auth/client', { client_id: 'c', client_secret: 's' })
  provider.answer = kept
  assert.deepEqual([refused.status, refused.json.error.code], [400, 'client_credentials_fetch_error'])
  const token = await openSession(fairlead, { end_user: { id: 'u' }, allowed_integrations: ['basic'] })
  const other = await request(`${fairlead.url}/api-auth/api-key/keyed?connect_session_token=${token}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: '{"apiKey":"k"}',
  })
  assert.deepEqual([other.status, other.json.error.code], [400, 'integration_not_allowed'])
})

test('an import: 201 with all of it, the refresh token among it; the list finds it by every filter (§14)', async () => {
  const credentials = {
    ...{ type: 'OAUTH2', access_token: 'A', refresh_token: 'R', expires_at: '2099-01-01T00:00:00Z' },
    config_override: { client_id: 'own', client_secret: 'owned' },
  }
  const made = await call('POST', '/connections', {
    ...{ provider_config_key: 'signin', connection_id: "it's [a] $100%".replace('%', ''), credentials },
    ...{ connection_config: { 'team.id': 'T-9' }, metadata: { a: 1 }, tags: { Plan: 'free' } },
    end_user: { id: 'eve', email: 'eve@acme.com', display_name: 'Eve' },
  })
  assert.equal(made.status, 201, made.text)
  const { connection_id: id, credentials: shown } = made.json
  assert.deepEqual([shown.type, shown.refresh_token, shown.raw], ['OAUTH2', 'R', credentials])
  assert.deepEqual(shown.config_override, credentials.config_override)
  assert.equal(shown.expires_at.slice(0, 19), credentials.expires_at.slice(0, 19))
  assert.match(made.json.last_fetched_at, utc)
  assert.deepEqual(made.json.connection_config, { 'team.id': 'T-9' })
  for (const filter of [
    `connectionId=${encodeURIComponent(id)}`,
    'search=EVE%40ACME',
    'endUserId=eve',
    'integrationId=keyed,signin&endUserId=eve',
    'tags[plan]=free',
    'tags[PLAN]=free&tags[end_user_id]=eve',
  ]) {
    const { connections } = (await call('GET', `/connections?${filter}`)).json
    assert.deepEqual(
      connections.map((found: { connection_id: string }) => found.connection_id),
      [id],
      filter,
    )
  }
  assert.deepEqual((await call('GET', '/connections?tags[plan]=free&tags[end_user_id]=ada')).json.connections, [])
  assert.equal((await call('GET', '/connection?limit=1&page=0')).json.connections[0].connection_id, id)
  const gone = await call('DELETE', `/connection/${encodeURIComponent(id)}?provider_config_key=signin`)
  assert.deepEqual([gone.status, gone.json], [200, { success: true }])
})

test('an import stores nothing that a sign-in would not have: no secret in the clear, no address of somebody else', async () => {
  for (const [name, value] of [
    ['oauth_client_secret_override', 'CLEAR-SECRET'],
    ['oauth_refresh_token_override', 'CLEAR-SECRET'],
    ['instance', 'https://evil.example'],
    ['instance', 'not a url'],
    ['instance', `${provider.url}@evil.example/`],
  ] as const) {
    const credentials = { type: 'OAUTH2', access_token: 'A' }
    const body = {
      provider_config_key: 'hosted',
      connection_id: 'led',
      credentials,
      connection_config: { [name]: value },
    }
    const refused = await call('POST', '/connections', body)
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_body'], value)
    assert.deepEqual(refused.json.error.errors[0].path, ['connection_config', name])
    assert.ok(!refused.text.includes('CLEAR-SECRET'))
  }
  assert.deepEqual((await call('GET', '/connections?integrationId=hosted')).json.connections, [])
})

test('metadata: 201 for what replaces, 200 for what is laid over, and what was sent comes back (§27)', async () => {
  const body = (metadata: object, connection_id: string | string[] = ids.keyed) => ({
    ...{ connection_id, provider_config_key: 'keyed', metadata },
  })
  for (const [method, sent, status, then] of [
    ['POST', body({ a: 1, b: { c: 1 } }), 201, { a: 1, b: { c: 1 } }],
    ['PATCH', body({ b: { d: 2 } }, [ids.keyed]), 200, { a: 1, b: { d: 2 } }],
  ] as const) {
    const answer = await call(method, '/connections/metadata', sent)
    assert.deepEqual([answer.status, answer.json], [status, sent])
    assert.deepEqual((await read('keyed', ids.keyed)).metadata, then)
  }
})

test('without the scope for credentials: none are shown, and asking for more than them is 403 (§14.2)', async () => {
  const minted = await call('POST', '/environment/api-keys', {
    ...{ display_name: 'reader', scopes: ['environment:connections:read', 'environment:integrations:read'] },
  })
  const headers = { Authorization: `Bearer ${minted.json.data.secret}` }
  const path = `/connections/${ids.signin}?provider_config_key=signin`
  const plain = await call('GET', path, undefined, headers)
  assert.deepEqual([plain.status, plain.json.credentials], [200, {}])
  for (const flag of ['refresh_token', 'force_refresh', 'refresh_github_app_jwt_token']) {
    const refused = await call('GET', `${path}&${flag}=true`, undefined, headers)
    assert.deepEqual([refused.status, refused.json.error.code], [403, 'forbidden'], flag)
    assert.match(refused.json.error.message, /environment:connections:read_credentials/)
  }
  const asked = await call('GET', '/integrations/signin?include=credentials', undefined, headers)
  assert.ok(!asked.text.includes('client_secret') || asked.json.data?.credentials === null, asked.text)
  const proxied = await call('GET', '/proxy/x', undefined, { ...headers, ...naming('signin', ids.signin) })
  assert.deepEqual([proxied.status, proxied.json.error.code], [403, 'forbidden'])
})

const naming = (key: string, id: string) => ({ 'Provider-Config-Key': key, 'Connection-Id': id })

test('what the proxy refuses (§17)', async () => {
  const to = naming('keyed', ids.keyed)
  for (const [headers, status, code] of [
    [{}, 400, 'invalid_headers'],
    [naming('nothing', ids.keyed), 404, 'unknown_provider_config'],
    [naming('keyed', 'nobody'), 400, 'unknown_connection'],
    [{ ...to, Retries: 'x' }, 400, 'invalid_headers'],
    [{ ...to, 'Retry-On': '5xx', Retries: '1' }, 400, 'invalid_headers'],
    [{ ...to, Decompress: 'yes' }, 400, 'invalid_headers'],
    [{ ...to, 'Base-Url-Override': 'https://evil.example' }, 400, 'base_url_override_disabled'],
  ] as const) {
    const answer = await call('GET', '/proxy/x', undefined, headers as Record<string, string>)
    assert.deepEqual([answer.status, answer.json.error.code], [status, code], JSON.stringify(headers))
    assert.equal(answer.headers.get('fairlead-error'), code)
  }
  const { errors } = (await call('GET', '/proxy/x')).json.error
  assert.deepEqual(errors[0].path, ['provider-config-key'])
  // Everything the unmodified client sends, most of it empty.
  const sent = await call('GET', '/proxy/x?a=1', undefined, {
    ...to,
    ...{
      Retries: '20',
      'Retry-On': '',
      'Base-Url-Override': '',
      Decompress: '',
      'Forward-Headers-On-Redirect': 'false',
    },
    ...{
      'Nango-Is-Sync': 'false',
      'Nango-Is-Script': 'false',
      'Nango-Is-Dry-Run': 'false',
      'Nango-Activity-Log-Id': '',
    },
    'nango-PROXY-X-Own': 'mine',
  })
  assert.equal(sent.status, 200, sent.text)
  const { url, headers } = provider.otherRequests.at(-1)!
  assert.deepEqual([url, headers['x-key'], headers['x-own']], ['/v1/x?a=1', 'k', 'mine'])
  assert.deepEqual(
    Object.keys(headers).filter(name => /nango|retr|connection-id|config-key|decompress/.test(name)),
    [],
  )
})
