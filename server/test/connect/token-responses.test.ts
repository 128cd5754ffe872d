/**
 * Thirteen answers of real token endpoints through the whole flow: start, callback, connection, a call through the proxy. Twelve are odd
 * and honest and must end in a connection that works; one is an error with status 200 and must leave nothing behind. How each is read is
 * tested with literals in token-answer.test.ts.
 */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { startFairlead } from '../support/fairlead.ts'
import { addIntegration, begin, callbackOf, counts, openSession } from './support/journey.ts'
import { type Answer, send, sendJson, startProvider } from './support/provider.ts'
import { scope } from './support/scope.ts'

const provider = await startProvider(scope)
const plain = (name: string, own = '') => `${name}:
  display_name: ${name}
  auth_mode: OAUTH2
  authorization_url: ${provider.url}/authorize
  token_url: ${provider.url}/token
  default_scopes: [x, y]
  proxy: { base_url: '${provider.url}/api' }
  allowed_hosts: [127.0.0.1]
${own}`
const fairlead = await startFairlead(scope, {
  providers: plain('odd') + plain('nested', '  alternate_access_token_response_path: authed_user\n'),
})
const { db, close } = await openDb({ url: fairlead.databaseUrl })
scope.after(close)
for (const key of ['odd', 'nested']) await addIntegration(fairlead, key)

let issued = 0
const members = (changed: Record<string, unknown> = {}) => ({
  access_token: `access-${++issued}`,
  refresh_token: `refresh-${issued}`,
  token_type: 'Bearer',
  expires_in: 3600,
  scope: 'x y',
  ...changed,
})

interface Row {
  name: string
  answer: () => Answer
  integration?: string
  /** What of the stored connection is not as after a normal answer. */
  odd?: 'no end' | 'no refresh token'
}

const rows: Row[] = [
  { name: '1 normal', answer: () => sendJson(200, members()) },
  { name: '2 no expires_in', answer: () => sendJson(200, members({ expires_in: undefined })), odd: 'no end' },
  { name: '3 expires_in as a string', answer: () => sendJson(200, members({ expires_in: '3600' })) },
  { name: '4 JSON labelled text/html', answer: () => send(200, 'text/html', JSON.stringify(members())) },
  { name: '5 no token_type', answer: () => sendJson(200, members({ token_type: undefined })) },
  { name: '6 an odd token_type', answer: () => sendJson(200, members({ token_type: 'BearerToken' })) },
  { name: '7 HTTP 201', answer: () => sendJson(201, members()) },
  { name: '8 scope as an array', answer: () => sendJson(200, members({ scope: ['x', 'y'] })) },
  {
    name: '9 refresh_token null',
    answer: () => sendJson(200, members({ refresh_token: null })),
    odd: 'no refresh token',
  },
  { name: '10 a malformed id_token', answer: () => sendJson(200, members({ id_token: 'not.a.jwt!' })) },
  {
    name: '11 form-encoded',
    answer: () => {
      const form = new URLSearchParams(Object.entries(members()).map(([name, value]) => [name, String(value)]))
      return send(200, 'application/x-www-form-urlencoded', form.toString())
    },
  },
  {
    name: '12 nested',
    answer: () => sendJson(200, { ok: true, authed_user: members({ token_type: undefined }) }),
    integration: 'nested',
  },
]

for (const { name, answer, integration = 'odd', odd } of rows)
  test(`${name}: connected, read and called`, async () => {
    provider.answer = answer()
    const token = await openSession(fairlead, { end_user: { id: name } })
    const begun = await begin(fairlead, integration, { token })
    const ended = await begun.browser.open(callbackOf(begun, 'the-code').href)
    assert.equal(ended.status, 200, ended.text)

    const listed = (await fairlead.call('GET', `/connections?endUserId=${encodeURIComponent(name)}`)).json.connections
    assert.equal(listed.length, 1)
    const id = listed[0].connection_id
    const path = `/connections/${id}?provider_config_key=${integration}&refresh_token=true`
    const { credentials, scopes } = (await fairlead.call('GET', path)).json
    assert.equal(credentials.type, 'OAUTH2')
    assert.equal(credentials.access_token, `access-${issued}`)
    assert.equal(credentials.refresh_token, odd === 'no refresh token' ? undefined : `refresh-${issued}`)
    assert.equal(credentials.expires_at === undefined, odd === 'no end')
    assert.deepEqual(scopes.granted, ['x', 'y'])

    const called = await fairlead.call('GET', '/proxy/things', undefined, {
      'Provider-Config-Key': integration,
      'Connection-Id': id,
    })
    assert.deepEqual([called.status, called.json], [200, { hello: 'world' }])
    const arrived = provider.otherRequests.at(-1)!
    assert.deepEqual([arrived.url, arrived.headers.authorization], ['/api/things', `Bearer access-${issued}`])
    const presented = provider.tokenRequests.filter(({ form }) => form.get('code_verifier'))
    assert.equal(new Set(presented.map(({ form }) => form.get('code_verifier'))).size, presented.length, 'once each')
  })

test('13 HTTP 200 with an error: recognised, said to whoever waits, and nothing is stored', async () => {
  const before = await counts(db)
  provider.answer = sendJson(200, { error: 'bad_verification_code', error_description: 'The code is <b>old</b>.' })
  const token = await openSession(fairlead, { end_user: { id: 'thirteen' } })
  const begun = await begin(fairlead, 'odd', { token })
  const ended = await begun.browser.open(callbackOf(begun, 'the-code').href)
  assert.deepEqual([ended.status, ended.headers.get('fairlead-error')], [400, 'token_exchange_refused'])
  assert.match(ended.text, /bad_verification_code: The code is &lt;b&gt;old&lt;\/b&gt;\./)
  assert.deepEqual(await counts(db), before)
  assert.deepEqual((await fairlead.call('GET', '/connections?endUserId=thirteen')).json.connections, [])
  const results = await fairlead.call('GET', '/connect/session/results', undefined, {
    Authorization: `Bearer ${token}`,
  })
  assert.deepEqual(
    results.json.data.map((one: { success: boolean; error: { code: string } }) => [one.success, one.error.code]),
    [[false, 'token_exchange_refused']],
  )
})
