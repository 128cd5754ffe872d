/**
 * Every operation of the document, called on a live server with valid input, and its answer held to its schema: a member too many or too
 * few is a failure, and so is an operation that nobody calls here or a route that the document does not know.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import * as contract from '@fairlead/contract'
import type { ZodType } from 'zod'
import { codeAt } from '../../src/account/operator/totp.ts'
import type { Document } from '../../src/docs/openapi.ts'
import { clientId, startLiar } from '../account/identity-provider.ts'
import { openSession } from '../connect/support/journey.ts'
import { sendJson, startProvider } from '../connect/support/provider.ts'
import { openSite } from '../connection/support/site.ts'
import { until } from '../db/until.ts'
import { type Answer, request, startFairlead } from '../support/fairlead.ts'
import { newOwner, newPerson, password } from '../support/operator.ts'
import { startReceiver } from '../webhook/support/receiver.ts'

interface Route {
  method: string
  path: string
  request?: { body?: { content: Record<string, { schema: ZodType }> } }
  responses: Record<string, { content?: Record<string, { schema: ZodType }> }>
}

const routes = new Map<string, Route>(
  Object.values(contract).flatMap(value => {
    const route = value as unknown as Route
    const isRoute = typeof value === 'object' && value !== null && 'path' in value && 'responses' in value
    return isRoute ? [[`${route.method.toUpperCase()} ${route.path}`, route]] : []
  }),
)

/** Pages and pictures for people, and the document itself: served, and no part of it. */
const pages = [
  '/',
  '/app',
  '/app/',
  '/app/*',
  '/app/assets/:name',
  '/connect',
  '/connect/',
  '/connect/assets/:name',
  '/docs',
  '/docs/',
  '/docs/*',
  '/docs/assets/:file',
  '/llms.txt',
  '/docs/:name',
  '/docs/api',
  '/docs/providers/:name',
  '/images/template-logos/:file',
  '/oauth/callback',
  '/openapi.json',
]

/** One provider of every kind that asks for credentials. */
const kinds = (url: string): string => `
keyed: { display_name: K, auth_mode: API_KEY, proxy: { base_url: '${url}', headers: { X-Key: '\${apiKey}' } } }
plain: { display_name: P, auth_mode: BASIC, proxy: { base_url: '${url}' } }
client: { display_name: C, auth_mode: OAUTH2_CC, token_url: '${url}/token', proxy: { base_url: '${url}' } }
login:
  display_name: L
  auth_mode: TWO_STEP
  credentials: { user: { type: string, title: User } }
  token_url: ${url}/token
  token_params: { user: '\${credentials.user}' }
  token_response: { token: access_token, token_expiration: expires_in, token_expiration_strategy: expireIn }
  proxy: { base_url: '${url}' }
signed:
  display_name: S
  auth_mode: JWT
  credentials: { id: { type: string, title: Id }, secret: { type: string, title: Secret, secret: true } }
  signature: { protocol: HMAC, hmac_secret_encoding: hex }
  token: { signing_key: '\${credentials.secret}', expires_in_ms: 300000, header: { kid: '\${credentials.id}' }, payload: { aud: a } }
  proxy: { base_url: '${url}' }
open: { display_name: O, auth_mode: NONE, proxy: { base_url: '${url}' } }
`

test('every operation of the document is called, and answers as it says', async t => {
  const site = await openSite(t)
  const [server] = site.servers
  const receiver = await startReceiver(t)
  const { json: document } = (await server.call('GET', '/openapi.json')) as { json: Document }
  const [ada, grace] = [await site.connect('ada'), await site.connect('grace')]
  const called = new Set<string>()

  type Ask = (
    operation: string,
    path?: string,
    sent?: { body?: unknown; headers?: Record<string, string>; by?: Caller },
  ) => Promise<Answer>
  type Caller = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>
  /** Calls it where it says, and holds the answer to what it says. */
  const ask: Ask = async (operation, path, { body, headers = {}, by = server.call } = {}) => {
    const [method = '', template = ''] = operation.split(' ')
    const described = document.paths[template]?.[method.toLowerCase()]
    assert.ok(described, `${operation} is not in the document`)
    const answer = await by(method, path ?? template, body, headers)
    called.add(operation)
    assert.ok(String(answer.status) in described.responses, `${operation} answered ${answer.status}: ${answer.text}`)
    const schema = routes.get(operation)?.responses[answer.status]?.content?.['application/json']?.schema
    // An object of the contract drops what it does not know, so a member nobody described is seen as missing.
    if (schema) assert.deepEqual(schema.parse(answer.json), answer.json, operation)
    return answer
  }
  const bearer =
    (token: string): Caller =>
    (method, path, body, headers) =>
      server.call(method, path, body, { ...headers, Authorization: `Bearer ${token}` })
  const of = (id: string) => `/connections/${id}`
  const key = '?provider_config_key=sf'

  for (const operation of [
    'GET /health',
    'GET /ready',
    'GET /metrics',
    'GET /encryption',
    'GET /egress',
    'GET /environment/settings',
    'GET /integrations',
    'GET /providers',
    'GET /providers.json',
    'GET /audit',
    'POST /audit/verify',
    'GET /revocations',
    'GET /overview',
  ])
    await ask(operation)

  // Connect
  const session = (await ask('POST /connect/sessions', undefined, { body: { end_user: { id: 'lin' } } })).json.data
  await ask('POST /connect/sessions/reconnect', undefined, { body: { connection_id: ada, integration_id: 'sf' } })
  const page = { by: bearer(session.token) }
  await ask('GET /connect/session', undefined, page)
  await ask('GET /connect/session/results', undefined, page)
  const begun = await request(`${server.app.url}/oauth/connect/sf?connect_session_token=${session.token}`, {
    headers: { 'Sec-Fetch-Site': 'same-origin' },
  })
  assert.equal(begun.status, 302)
  called.add('GET /oauth/connect/{providerConfigKey}')
  const seen = { token: session.token, event: 'open', timestamp: new Date().toISOString() }
  await ask('POST /connect/telemetry', undefined, { body: seen })
  await ask('DELETE /connect/session', undefined, page)

  // Credentials that are given instead of signed in for
  const provider = await startProvider(t)
  provider.answer = sendJson(200, { access_token: 'given', token_type: 'Bearer', expires_in: 3600 })
  const identities = await startLiar(t)
  const other = await startFairlead(t, {
    providers: kinds(provider.url),
    env: {
      FAIRLEAD_OIDC_ISSUER: identities.issuer,
      FAIRLEAD_OIDC_CLIENT_ID: clientId,
      FAIRLEAD_OIDC_NEWCOMERS: 'acme.com=viewer',
    },
  })
  const submitted: [path: string, key: string, body?: unknown][] = [
    ['/api-auth/api-key', 'keyed', { apiKey: 'k' }],
    ['/api-auth/basic', 'plain', { username: 'u', password: 'p' }],
    ['/oauth2/auth', 'client', { client_id: 'c', client_secret: 's' }],
    ['/auth/two-step', 'login', { user: 'u' }],
    ['/auth/jwt', 'signed', { id: 'i', secret: '00ff' }],
    ['/auth/unauthenticated', 'open'],
  ]
  for (const [path, key, body] of submitted) {
    await other.call('POST', '/integrations', { provider: key, unique_key: key })
    const token = await openSession(other)
    const taken = await ask(`POST ${path}/{providerConfigKey}`, `${path}/${key}?connect_session_token=${token}`, {
      body,
      by: other.call,
    })
    assert.equal(taken.status, 200, taken.text)
  }

  // Integrations and providers
  const app = { type: 'OAUTH2', client_id: 'a', client_secret: 'b', scopes: 'api' }
  await ask('POST /integrations', undefined, {
    body: { provider: 'salesforce', unique_key: 'other', credentials: app },
  })
  await ask('GET /integrations/{uniqueKey}', '/integrations/other?include=credentials')
  await ask('PATCH /integrations/{uniqueKey}', '/integrations/other', { body: { display_name: 'Other' } })
  await ask('GET /config/{uniqueKey}', '/config/other?include_creds=true')
  await ask('DELETE /integrations/{uniqueKey}', '/integrations/other')
  await ask('GET /providers/{provider}', '/providers/salesforce')
  await ask('GET /providers/{provider}/guide', '/providers/salesforce/guide')
  await ask(
    'GET /providers/{provider}/app-project',
    '/providers/salesforce/app-project?name=Acme&contact=dev%40acme.com',
  )

  // Connections and the proxy
  await ask('GET /connections', '/connections?integrationId=sf&limit=1')
  await ask('GET /connections/{connectionId}', `${of(ada)}${key}`)
  await ask('GET /connections/{connectionId}/timeline', `${of(ada)}/timeline${key}`)
  await ask('GET /connections/{connectionId}/usage', `${of(ada)}/usage${key}`)
  await ask('POST /connections', undefined, {
    body: { provider_config_key: 'sf', credentials: { type: 'OAUTH2', access_token: 'brought along' } },
  })
  await ask('POST /connection', undefined, { body: { provider_config_key: 'sf', access_token: 'brought along' } })
  await ask('PATCH /connections/{connectionId}', `${of(ada)}${key}`, { body: { tags: { plan: 'gold' } } })
  const change = { connection_id: [ada, grace], provider_config_key: 'sf', metadata: { plan: 'gold' } }
  await ask('POST /connections/metadata', undefined, { body: change })
  await ask('PATCH /connections/metadata', undefined, { body: change })
  await ask('POST /connections/{connectionId}/confirm', `/connections/${ada}/confirm?provider_config_key=sf`, {
    body: {},
  })
  const older = { headers: { 'Provider-Config-Key': 'sf' }, body: { plan: 'gold' } }
  await ask('POST /connections/{connectionId}/metadata', `${of(ada)}/metadata`, older)
  await ask('PATCH /connections/{connectionId}/metadata', `${of(ada)}/metadata`, older)
  for (const verb of ['refresh', 'pause', 'resume'])
    await ask(`POST /connections/{connectionId}/${verb}`, `${of(ada)}/${verb}${key}`)
  if (document.paths['/connections/{connectionId}/doctor'])
    await ask('GET /connections/{connectionId}/doctor', `${of(ada)}/doctor${key}`)
  const named = { 'Provider-Config-Key': 'sf', 'Connection-Id': ada }
  const account = '/proxy/services/data/v66.0/sobjects/Account'
  for (const [method, path, body] of [
    ['GET', '/proxy/services/data/v66.0/limits', undefined],
    ['POST', account, { Name: 'Walk' }],
    ['PUT', account, {}],
    ['PATCH', account, {}],
    ['DELETE', account, undefined],
  ] as const) {
    const answer = await server.call(method, path, body, named)
    // Whatever the provider answers is its own.
    assert.equal(answer.headers.has('fairlead-error'), false, answer.text)
    called.add(`${method} /proxy/{path}`)
  }
  await server.call('PATCH', '/integrations/sf', { capture_bodies: true })
  await server.call('GET', '/proxy/services/data/v66.0/limits', undefined, named)
  await until(async () =>
    (await server.call('GET', '/activity')).json.activity.some((one: { has_bodies: boolean }) => one.has_bodies),
  )
  const { activity } = (await ask('GET /activity', '/activity?status=2xx')).json
  await ask('GET /activity/summary', `/activity/summary?since=${new Date(Date.now() - 3_600_000).toISOString()}`)
  const { id } = activity.find((one: { has_bodies: boolean }) => one.has_bodies)
  await ask('GET /activity/{id}', `/activity/${id}`)
  await ask('GET /activity/{id}/bodies', `/activity/${id}/bodies`)

  // Settings, webhooks, keys
  await ask('PATCH /environment/settings', undefined, { body: { webhook_url: receiver.url } })
  await ask('POST /environment/webhook-signing-key/rotate', undefined, { body: { overlap_hours: 1 } })
  await ask('POST /webhooks/test')
  const { deliveries } = (await ask('GET /webhooks/deliveries')).json
  await ask('GET /webhooks/deliveries/{id}', `/webhooks/deliveries/${deliveries[0].id}`)
  await ask('POST /webhooks/deliveries/{id}/replay', `/webhooks/deliveries/${deliveries[0].id}/replay`)
  await ask('POST /webhooks/replay', undefined, { body: { since: new Date().toISOString() } })
  const addresses = '/connections/{connectionId}/webhook-addresses'
  const { url } = (await ask(`POST ${addresses}`, `${of(ada)}/webhook-addresses${key}`)).json
  await ask(`GET ${addresses}`, `${of(ada)}/webhook-addresses${key}`)
  const message = { org: 'acme--uat', url, object: 'Account' }
  assert.equal((await site.simulator.control.sendOutboundMessage(message)).acknowledged, true)
  called.add('POST /webhook/{address}')
  await ask(`DELETE ${addresses}`, `${of(ada)}/webhook-addresses${key}`)
  await ask('POST /encryption/rotate')

  await ask('DELETE /connections/{connectionId}', `${of(grace)}${key}`)
  for (const right of ['POST /end-users/export', 'POST /end-users/erase'])
    await ask(right, undefined, { body: { organization_id: 'acme' } })
  await ask('POST /kill', undefined, { body: { end_user_id: 'ada', reason: 'the walk' } })

  await ask('GET /environment/api-keys')
  const made = await ask('POST /environment/api-keys', undefined, { body: { display_name: 'walk' } })
  const limited = { key_id: made.json.data.id, requests_per_minute: 600 }
  await ask('PATCH /environment/api-keys', undefined, { body: limited })
  await ask('DELETE /environment/api-keys', undefined, { body: { key_id: made.json.data.id } })

  // Operators
  const owner = await newOwner(server)
  const by = { by: owner.call }
  await ask('GET /operator', undefined, by)
  await ask('POST /operator/confirm', undefined, { ...by, body: { password } })
  await ask('GET /operators', undefined, by)
  const reveal = { ...by, headers: { 'Fairlead-Reveal': 'true' } }
  await ask('GET /environments', undefined, reveal)
  const staging = await ask('POST /environments', undefined, { ...reveal, body: { name: 'staging' } })
  await ask('DELETE /environments/{id}', `/environments/${staging.json.data.id}`, reveal)
  const invitation = await ask('POST /operators', undefined, { ...by, body: { email: 'x@acme.com', role: 'viewer' } })
  const link = new URL(invitation.json.link).hash.slice(1)
  const guest = newPerson(server)
  const taken = await ask('POST /operator/link', undefined, { by: guest.call, body: { link, name: 'X', password } })
  const member = `/operators/${taken.json.operator.id}`
  await ask('PATCH /operators/{id}', member, { ...by, body: { role: 'admin' } })
  await ask('POST /operators/{id}/link', `${member}/link`, by)
  await ask('DELETE /operators/{id}', member, by)
  const factor = (await ask('POST /operator/two-factor', undefined, { ...by, body: { password } })).json
  const now = () => codeAt(factor.secret, Math.floor(Date.now() / 30_000))
  await ask('POST /operator/two-factor/enable', undefined, { ...by, body: { code: now() } })
  await ask('POST /operator/two-factor/disable', undefined, {
    ...by,
    body: { password, code: codeAt(factor.secret, Math.floor(Date.now() / 30_000) + 1) },
  })
  await ask('POST /operator/password', undefined, { ...by, body: { current: password, password: `${password} again` } })
  await ask('POST /operator/sign-out', undefined, { ...by, body: {} })
  const again = { email: 'owner@acme.com', password: `${password} again` }
  await ask('POST /operator/sign-in', undefined, { by: newPerson(server).call, body: again })
  called.add('POST /operator/setup')
  await newOwner(other, 'boss@acme.com')
  const newcomer = { by: newPerson(other).call }
  const leaving = await ask('POST /operator/oidc/begin', undefined, { ...newcomer, body: {} })
  const there = new URL(leaving.json.location).searchParams
  identities.nonce = there.get('nonce')!
  const query = `?code=any&state=${there.get('state')}`
  await ask('POST /operator/oidc/finish', undefined, { ...newcomer, body: { query } })

  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`),
  )
  assert.deepEqual(
    operations.filter(operation => !called.has(operation)),
    [],
    'nobody calls these',
  )
  assert.deepEqual(
    operations.filter(operation => !routes.has(operation)),
    [],
    'these are not in the contract',
  )
})

test('a route that the document does not know is a page', () => {
  const source = join(import.meta.dirname, '../../src')
  const documented = new Set([...routes.values()].map(({ path }) => path.replaceAll(/\{\w+\}/g, ':')))
  const unknown = readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts'))
    .flatMap(file => [
      ...readFileSync(join(source, file), 'utf8').matchAll(/\.(?:get|post|put|patch|delete|all|on)\(\s*'(\/[^']*)'/g),
    ])
    .map(([, path = '']) => path)
    .filter(path => !pages.includes(path) && !documented.has(path.replaceAll(/:\w+/g, ':')))
  assert.deepEqual(unknown, [])
})

test('the document is whole: names, callers, answers, and examples that are valid', async t => {
  const [server] = (await openSite(t)).servers
  const { json: document } = (await server.call('GET', '/openapi.json')) as { json: Document }
  const ids = new Set<string>()
  for (const [path, methods] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const what = `${method} ${path}`
      assert.match(operation.operationId, /^[a-zA-Z]+$/, what)
      assert.equal(ids.has(operation.operationId), false, what)
      ids.add(operation.operationId)
      assert.ok(operation.summary && !operation.summary.endsWith('.'), what)
      assert.ok(operation.security, `${what}: who may is not said`)
      for (const scheme of operation.security.flatMap(Object.keys))
        assert.ok(scheme in document.components.securitySchemes, scheme)
      assert.ok(operation.responses.default?.content?.['application/json'], `${what}: how it fails`)
      for (const [status, answer] of Object.entries(operation.responses))
        assert.ok(answer.description, `${what} ${status}`)
      const body = operation.requestBody?.content['application/json']
      if (!body) continue
      const example = body.example ?? body.schema.example
      assert.ok(example !== undefined, `${what}: an example of its body`)
      const schema = routes.get(`${method.toUpperCase()} ${path}`)?.request?.body?.content['application/json']?.schema
      assert.deepEqual(schema?.safeParse(example).error?.issues, undefined, what)
    }

  const page = await request(`${server.url}/docs/api`)
  assert.equal(page.status, 200)
  for (const id of ids) assert.ok(page.text.includes(`id="${id}"`), id)
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'/)
  assert.doesNotMatch(page.text, /(?:src|href)="(?:https?:)?\/\/(?!127\.0\.0\.1)/, 'nothing from elsewhere')
  for (const [, anchor] of page.text.matchAll(/href="#([^"]+)"/g) as Iterable<[string, string]>)
    assert.ok(page.text.includes(`id="${anchor}"`), anchor)
})
