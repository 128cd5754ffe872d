/** What a developer writes on a connection, and the older spellings of it; statuses and traps as in the wire contract. */
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { scope } from '../connect/support/scope.ts'
import { until } from '../db/until.ts'
import type { Answer } from '../support/fairlead.ts'
import { openSite } from './support/site.ts'

const site = await openSite(scope)
const [first, second] = site.servers
const ada = await site.connect('ada')
const grace = await site.connect('grace')
const read = async (id: string, server = first) => (await site.read(server, id)).json

function failsWith(answer: Answer, status: number, code: string) {
  assert.equal(answer.json?.error?.code, code, answer.text)
  assert.equal(answer.status, status)
  assert.equal(typeof answer.json.error.message, 'string')
}
/** At once on the server that wrote it, a moment later on the others. */
const shows = (id: string, member: 'tags' | 'metadata' | 'webhook_url_override', value: unknown) =>
  until(async () => isDeepStrictEqual((await read(id))[member], value))
const patch = (id: string, body: unknown, key = 'sf') =>
  first.call('PATCH', `/connections/${id}?provider_config_key=${key}`, body)
const metadata = (method: string, connection_id: unknown, value: unknown, more = {}) =>
  first.call(method, '/connections/metadata', { connection_id, provider_config_key: 'sf', metadata: value, ...more })

test('PATCH changes what is named and leaves the rest, on every server', async () => {
  const before = await read(ada, second)
  const changed = await patch(ada, { end_user: { id: 'ada', email: 'ada@example.com', display_name: 'Ada' } })
  assert.deepEqual([changed.status, changed.json], [200, { success: true }])
  await until(async () => (await read(ada, second)).end_user.email === 'ada@example.com')
  await until(async () => (await read(ada)).end_user.email === 'ada@example.com')
  const now = await read(ada)
  assert.deepEqual(now.tags, { end_user_id: 'ada', end_user_email: 'ada@example.com', end_user_display_name: 'Ada' })
  assert.equal(now.connection_id, before.connection_id)
  assert.deepEqual(now.credentials, before.credentials)
  assert.equal(now.created_at, before.created_at)

  assert.equal((await patch(ada, { tags: { Plan: 'gold' } })).status, 200)
  await shows(ada, 'tags', { plan: 'gold' })
  assert.equal((await read(ada)).end_user.id, 'ada')
  assert.equal((await patch(ada, { tags: {} })).status, 200)
  await shows(ada, 'tags', {})

  assert.equal((await patch(ada, { webhook_url_override: 'http://127.0.0.1:9/hook' })).status, 200)
  await shows(ada, 'webhook_url_override', 'http://127.0.0.1:9/hook')
  assert.equal((await patch(ada, { webhook_url_override: '' })).status, 200)
  await shows(ada, 'webhook_url_override', null)
  assert.equal((await patch(ada, {})).status, 200)
})

test('PATCH of what is not there, or with what nobody defined, changes nothing', async () => {
  const before = await read(grace)
  failsWith(await patch('nobody', {}), 404, 'not_found')
  failsWith(await patch(grace, {}, 'nothing'), 400, 'unknown_provider_config')
  failsWith(await first.call('PATCH', `/connections/${grace}`, {}), 400, 'invalid_query_params')
  for (const body of [
    { credentials: {} },
    { connection_id: 'mine' },
    { metadata: {} },
    { end_user: { email: 'a@b.c' } },
    { tags: { A: '1', a: '2' } },
    { webhook_url_override: 'ftp://example.com' },
  ])
    failsWith(await patch(grace, body), 400, 'invalid_body')
  failsWith(await patch(grace, { webhook_url_override: 'http://169.254.169.254/' }), 400, 'webhook_url_refused')
  const { last_fetched_at: _, ...now } = await read(grace)
  const { last_fetched_at: __, ...then } = before
  assert.deepEqual(now, then)
})

test('metadata is replaced by POST with 201 and laid over by PATCH with 200', async () => {
  const set = await metadata('POST', ada, { a: 1, deep: { b: 1, c: 2 } })
  assert.deepEqual(
    [set.status, set.json],
    [201, { connection_id: ada, provider_config_key: 'sf', metadata: { a: 1, deep: { b: 1, c: 2 } } }],
  )
  const laid = await metadata('PATCH', ada, { deep: { b: 2 }, d: null })
  assert.deepEqual([laid.status, laid.json.metadata], [200, { deep: { b: 2 }, d: null }])
  await shows(ada, 'metadata', { a: 1, deep: { b: 2 }, d: null })
  await metadata('POST', ada, { only: true })
  await until(async () => 'only' in (await read(ada, second)).metadata)
  await shows(ada, 'metadata', { only: true })
  assert.equal((await metadata('PATCH', [ada, grace, ada], { both: 1 })).status, 200)
  await shows(grace, 'metadata', { both: 1 })
  await shows(ada, 'metadata', { only: true, both: 1 })
})

test('metadata of several is written on all of them or on none', async () => {
  const before = [await read(ada), await read(grace)].map(({ metadata }) => metadata)
  for (const method of ['POST', 'PATCH']) {
    failsWith(await metadata(method, [ada, 'nobody', grace], { lost: 1 }), 404, 'unknown_connection')
    failsWith(await metadata(method, ada, { lost: 1 }, { provider_config_key: 'nothing' }), 404, 'unknown_connection')
    failsWith(await metadata(method, ada, ['no object']), 400, 'invalid_body')
    failsWith(await metadata(method, ada, { lost: 1 }, { more: 1 }), 400, 'invalid_body')
    failsWith(await metadata(method, [], { lost: 1 }), 400, 'invalid_body')
    failsWith(await metadata(method, ada, { lost: 'half \ud800' }), 400, 'invalid_body')
  }
  assert.deepEqual(
    [await read(ada), await read(grace)].map(({ metadata }) => metadata),
    before,
  )
})

test('the older spellings answer the same', async () => {
  const header = { 'Provider-Config-Key': 'sf' }
  assert.equal((await first.call('POST', `/connection/${ada}/metadata`, { old: 1 }, header)).status, 201)
  const laid = await first.call('PATCH', `/connection/${ada}/metadata`, { older: 2 }, header)
  assert.deepEqual([laid.status, laid.json], [200, { older: 2 }])
  await shows(ada, 'metadata', { old: 1, older: 2 })
  failsWith(await first.call('POST', `/connection/${ada}/metadata`, { old: 1 }), 400, 'invalid_headers')
  failsWith(await first.call('POST', '/connection/nobody/metadata', { old: 1 }, header), 404, 'unknown_connection')

  const older = await first.call('GET', '/connection?limit=1&tags[end_user_id]=grace')
  assert.deepEqual(older.json, (await first.call('GET', '/connections?limit=1&tags[end_user_id]=grace')).json)
  assert.equal(older.json.connections[0].connection_id, grace)
  assert.equal((await first.call('GET', `/connection/${grace}?provider_config_key=sf`)).json.connection_id, grace)
  failsWith(await first.call('GET', '/connectionsomething'), 404, 'not_found')
  failsWith(await first.call('GET', '/connection/nobody?provider_config_key=sf'), 404, 'not_found')
  failsWith(await first.call('DELETE', '/connection/nobody?provider_config_key=sf'), 400, 'unknown_connection')
  assert.deepEqual((await first.call('DELETE', `/connection/${grace}?provider_config_key=sf`)).json, { success: true })

  const config = await first.call('GET', '/config/sf')
  assert.deepEqual(config.json, {
    config: { unique_key: 'sf', provider: 'salesforce-sandbox', syncs: [], actions: [] },
  })
  const withSecret = (await first.call('GET', '/config/sf?include_creds=true')).json.config
  assert.ok(withSecret.client_secret.length > 10)
  assert.equal(withSecret.auth_mode, 'OAUTH2')
  failsWith(await first.call('GET', '/config/nothing'), 404, 'not_found')
})

test('what a connect page tells is taken from a session alone, about now alone', async () => {
  const { token } = (await first.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })).json.data
  const tell = (change: object) =>
    first.call(
      'POST',
      '/connect/telemetry',
      { token, event: 'open', timestamp: new Date().toISOString(), ...change },
      { Authorization: '' },
    )
  assert.equal((await tell({ dimensions: { integration: 'sf' } })).status, 204)
  failsWith(await tell({ timestamp: new Date(Date.now() - 3 * 3_600_000).toISOString() }), 400, 'invalid_body')
  failsWith(await tell({ event: 'other' }), 400, 'invalid_body')
  failsWith(await tell({ token: `nango_connect_session_${'0'.repeat(64)}` }), 401, 'unknown_connect_session_token')
})
