/**
 * Attacks on the way back from the provider, on names and on environments, by plain requests; those that need a browser are in
 * `server/test/browser/attacks.test.ts`. After each: no code was sent anywhere, and nothing is stored.
 */
import './support/scope.ts'

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { afterEach, before, test } from 'node:test'
import { Browser, type Fairlead, request, startFairlead } from '../support/fairlead.ts'
import { addIntegration, begin, callbackOf, openSession, startUrl } from './support/journey.ts'
import { type Provider, sendJson, startProvider, tokens } from './support/provider.ts'
import { scope } from './support/scope.ts'

let fairlead: Fairlead
let provider: Provider
const prod = { Authorization: `Bearer ${'p'.repeat(40)}` }

before(async () => {
  provider = await startProvider(scope)
  provider.answer = (res, asked) => sendJson(200, tokens(provider))(res, asked)
  fairlead = await startFairlead(scope, {
    providers: `
mock:
  display_name: Mock
  auth_mode: OAUTH2
  authorization_url: ${provider.url}/authorize
  token_url: ${provider.url}/token
  proxy: { base_url: '${provider.url}' }
`,
    env: { FAIRLEAD_SECRET_KEY_PROD: 'p'.repeat(40) },
  })
  await addIntegration(fairlead, 'mock')
})

afterEach(async () => {
  assert.equal(provider.tokenRequests.length, 0, 'no code was presented')
  assert.deepEqual((await fairlead.call('GET', '/connections')).json.connections, [])
})

const refused = (answer: { status: number; headers: Headers }, code: string) =>
  assert.deepEqual([answer.status >= 400, answer.headers.get('fairlead-error')], [true, code])

test('a state that is said twice, or under two names, is that of nobody else', async () => {
  const [mine, other] = [await begin(fairlead, 'mock'), await begin(fairlead, 'mock')]
  const twice = callbackOf(mine, 'c')
  twice.searchParams.append('state', other.state)
  refused(await mine.browser.open(twice.href), 'callback_malformed')
  refused(await mine.browser.open(callbackOf(mine, 'c').href), 'state_unknown')
  // The other's, by the names that installations use, in a browser that has a sign-in of its own.
  for (const name of ['payload', 'customField']) {
    const own = await begin(fairlead, 'mock')
    const theirs = await begin(fairlead, 'mock')
    const way = callbackOf(own, 'c')
    way.searchParams.delete('state')
    way.searchParams.set(name, theirs.state)
    refused(await own.browser.open(way.href), 'browser_mismatch')
  }
})

test('the way back is one path and one method', async () => {
  const begun = await begin(fairlead, 'mock')
  const { search, origin } = callbackOf(begun, 'c')
  for (const path of [
    '/oauth//callback',
    '/OAUTH/callback',
    '/oauth/callback/',
    '/oauth/callback;x',
    '/oauth%2Fcallback',
  ])
    assert.equal((await begun.browser.open(`${origin}${path}${search}`)).status, 404, path)
  for (const method of ['HEAD', 'POST', 'PUT'])
    assert.ok((await begun.browser.open(`${origin}/oauth/callback${search}`, { method })).status >= 404, method)
})

test('a cookie of another sign-in, of another shape or said twice does not do', async () => {
  const [mine, theirs] = [await begin(fairlead, 'mock'), await begin(fairlead, 'mock')]
  const way = callbackOf(theirs, 'c').href
  refused(await mine.browser.open(way), 'browser_mismatch')
  for (const cookie of ['fairlead_0=x', `fairlead_${'0'.repeat(16)}=${theirs.state}`, ''])
    refused(
      await request(callbackOf(await begin(fairlead, 'mock'), 'c').href, { headers: { cookie } }),
      'browser_mismatch',
    )
})

test('names that JavaScript knows are names like any other', async () => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty'])
    for (const group of ['params', 'authorization_params']) {
      const token = await openSession(fairlead)
      const answer = await new Browser().open(startUrl(fairlead, 'mock', token, `&${group}[${name}]=polluted`))
      assert.equal(answer.status, 302, answer.text)
      assert.equal(({} as Record<string, unknown>).polluted, undefined)
    }
  assert.equal((await fairlead.call('GET', '/providers/__proto__')).status, 404)
  const unknown = await new Browser().open(startUrl(fairlead, 'constructor', await openSession(fairlead)))
  refused(unknown, 'unknown_provider_config')
})

test('a token, an id or a name of one environment is nothing in another', async () => {
  const token = await openSession(fairlead)
  const session = { end_user: { id: 'eve' }, allowed_integrations: ['mock'] }
  const elsewhere = await fairlead.call('POST', '/connect/sessions', session, prod)
  assert.equal(elsewhere.json.error.code, 'invalid_body', 'the integration is of the other environment')
  const theirs = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'eve' } }, prod)
  refused(await new Browser().open(startUrl(fairlead, 'mock', theirs.json.data.token)), 'unknown_provider_config')
  await begin(fairlead, 'mock', { token, query: `&ws_client_id=${randomUUID()}` })
  const { data, under_way } = await resultsOf(theirs.json.data.token)
  assert.deepEqual(under_way, [])
  assert.ok(data.every(({ error }: { error: { code: string } | null }) => error?.code === 'unknown_provider_config'))
})

const resultsOf = async (token: string) =>
  (await request(`${fairlead.url}/connect/session/results`, { headers: { Authorization: `Bearer ${token}` } })).json

test('a session’s token opens nothing but its session', async () => {
  const token = await openSession(fairlead)
  const headers = { Authorization: `Bearer ${token}` }
  for (const [method, path] of [
    ['GET', '/connections'],
    ['GET', '/integrations/mock?include=credentials'],
    ['POST', '/connect/sessions'],
    ['POST', '/connections/x/confirm?provider_config_key=mock'],
    ['GET', '/environment/settings'],
    ['GET', '/proxy/x'],
    ['GET', '/via/mock/x/y'],
  ] as const) {
    const answer = await request(`${fairlead.url}${path}`, { method, headers })
    assert.ok([400, 401, 403].includes(answer.status), `${path}: ${answer.status}`)
    assert.ok(answer.headers.get('fairlead-error'), path)
  }
})

test('an ended session takes its sign-ins along', async () => {
  const token = await openSession(fairlead)
  const begun = await begin(fairlead, 'mock', { token })
  await request(`${fairlead.url}/connect/session`, { method: 'DELETE', headers: { Authorization: `Bearer ${token}` } })
  refused(await begun.browser.open(callbackOf(begun, 'c').href), 'state_unknown')
})
