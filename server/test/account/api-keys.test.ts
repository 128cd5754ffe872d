/** Making, listing and ending API keys and environments, over HTTP, on two servers. */
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from '../../src/db/sql.ts'
import { scope } from '../connect/support/scope.ts'
import { openSite } from '../connection/support/site.ts'
import { until } from '../db/until.ts'
import type { Answer } from '../support/fairlead.ts'

const site = await openSite(scope)
const [first, second] = site.servers

const uuid4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const as = (key: string) => ({ Authorization: `Bearer ${key}` })
let named = 0
const make = (body: object, key?: string): Promise<Answer> =>
  first.call('POST', '/environment/api-keys', { display_name: `key ${named++}`, ...body }, key ? as(key) : {})
async function secretOf(body: object): Promise<string> {
  const made = await make(body)
  assert.equal(made.status, 200, made.text)
  return made.json.data.secret
}

function failsWith(answer: Answer, status: number, code: string) {
  assert.equal(answer.json?.error?.code, code, answer.text)
  assert.equal(answer.status, status)
}

/** The pepper is sealed, so a key that may act on the account is made from one that may do everything by widening it where it lies. */
async function accountKey(): Promise<string> {
  const secret = await secretOf({})
  await site.db.query(
    sql`update api_key set scopes = '{environment:*,account:*}' where id = (select max(id) from api_key)`,
  )
  return secret
}

test('a key is shown once, lists without itself, works at once on every server, and ends at once on every server', async () => {
  const made = await make({ display_name: 'ci', scopes: ['environment:connections:list'] })
  assert.equal(made.status, 200, made.text)
  const { secret, ...shown } = made.json.data
  assert.match(secret, uuid4)
  assert.deepEqual(shown, {
    id: shown.id,
    display_name: 'ci',
    scopes: ['environment:connections:list'],
    created_at: new Date(shown.created_at).toISOString(),
    expires_at: null,
    last_used_at: null,
    requests_per_minute: null,
  })
  for (const server of site.servers)
    assert.equal((await server.call('GET', '/connections', undefined, as(secret))).status, 200)
  failsWith(await second.call('GET', '/integrations', undefined, as(secret)), 403, 'forbidden')

  const listed = await first.call('GET', '/environment/api-keys')
  assert.ok(!listed.text.includes(secret))
  await until(async () => {
    const { data } = (await first.call('GET', '/environment/api-keys')).json
    return data.find((key: { id: number }) => key.id === shown.id).last_used_at !== null
  })

  const ended = await first.call('DELETE', '/environment/api-keys', { key_id: shown.id })
  assert.deepEqual([ended.status, ended.json], [200, { success: true }])
  for (const server of site.servers)
    await until(async () => (await server.call('GET', '/connections', undefined, as(secret))).status === 401)
  failsWith(await first.call('DELETE', '/environment/api-keys', { key_id: shown.id }), 404, 'not_found')
})

test('a key is limited, and freed again, while it is in use, on every server', async () => {
  const { id, secret } = (await make({ scopes: ['environment:connections:list'] })).json.data
  const call = (server = second) => server.call('GET', '/connections', undefined, as(secret))
  assert.equal((await call()).headers.get('x-ratelimit-limit'), null)
  const limit = (requests_per_minute: number | null, key?: string) =>
    first.call('PATCH', '/environment/api-keys', { key_id: id, requests_per_minute }, key ? as(key) : {})
  failsWith(await limit(1, secret), 403, 'forbidden')
  failsWith(
    await first.call('PATCH', '/environment/api-keys', { key_id: id, requests_per_minute: 0 }),
    400,
    'invalid_body',
  )
  failsWith(
    await first.call('PATCH', '/environment/api-keys', { key_id: 999_999, requests_per_minute: 1 }),
    404,
    'not_found',
  )
  assert.equal((await limit(7)).json.data.requests_per_minute, 7)
  await until(async () => (await call()).headers.get('x-ratelimit-limit') === '7')
  assert.equal((await limit(null)).json.data.requests_per_minute, null)
  await until(async () => (await call()).headers.get('x-ratelimit-limit') === null)
  const { entries } = (await first.call('GET', '/audit?action=api_key.limited')).json
  assert.deepEqual(
    entries.map((entry: { detail: object }) => entry.detail),
    [{ requests_per_minute: null }, { requests_per_minute: 7 }],
  )
})

test('without scopes it gets what the wire contract gives: all of its environment', async () => {
  const { data } = (await make({})).json
  assert.deepEqual(data.scopes, ['environment:*'])
})

test('an expired key is nobody, also where it was just in use', async () => {
  const secret = await secretOf({ expires_at: new Date(Date.now() + 1500).toISOString() })
  assert.equal((await first.call('GET', '/connections', undefined, as(secret))).status, 200)
  await until(async () => (await first.call('GET', '/connections', undefined, as(secret))).status === 401)
  failsWith(await first.call('GET', '/connections', undefined, as(secret)), 401, 'unknown_account')
  failsWith(await make({ expires_at: '2020-01-01T00:00:00Z' }), 400, 'invalid_body')
})

test('a key gives nothing that its maker lacks', async () => {
  const few = await secretOf({ scopes: ['environment:api_keys:write', 'environment:connections:*'] })
  assert.equal((await make({ scopes: ['environment:connections:read'] }, few)).status, 200)
  for (const scopes of [
    undefined,
    ['environment:*'],
    ['environment:proxy'],
    ['environment:connections:read', 'account:*'],
  ])
    failsWith(await make(scopes ? { scopes } : {}, few), 403, 'forbidden')
  failsWith(await make({ scopes: ['account:environments:*'] }), 403, 'forbidden')
  const none = await secretOf({ scopes: ['environment:proxy'] })
  failsWith(await make({ scopes: ['environment:proxy'] }, none), 403, 'forbidden')
  failsWith(await first.call('GET', '/environment/api-keys', undefined, as(none)), 403, 'forbidden')
})

test('bad input is refused and makes nothing', async () => {
  const count = async () => (await first.call('GET', '/environment/api-keys')).json.data.length
  const before = await count()
  for (const body of [
    { display_name: '' },
    { display_name: 'x'.repeat(256) },
    { scopes: [] },
    { scopes: ['environment:everything'] },
    { scopes: ['*'] },
    { scopes: ['environ:*'] },
    { secret: 'mine' },
    { lookup: 'x' },
    { environment_id: '1' },
  ])
    failsWith(await make(body), 400, 'invalid_body')
  failsWith(await make({ display_name: 'default' }), 409, 'conflict')
  assert.equal(await count(), before)
})

test('another environment and its keys are out of reach of an environment key', async () => {
  const [prod] = await site.db.query<{ id: number; key: number }>(
    sql`select e.id, k.id as key from environment e join api_key k on k.environment_id = e.id where e.name = 'prod'`,
  )
  failsWith(await make({ environment_id: prod!.id }), 403, 'forbidden')
  failsWith(
    await first.call('DELETE', '/environment/api-keys', { environment_id: prod!.id, key_id: prod!.key }),
    403,
    'forbidden',
  )
  failsWith(await first.call('DELETE', '/environment/api-keys', { key_id: prod!.key }), 404, 'not_found')
  for (const [method, path, body] of [
    ['GET', '/environments', undefined],
    ['POST', '/environments', { name: 'mine' }],
    ['DELETE', `/environments/${prod!.id}`, undefined],
  ] as const)
    failsWith(await first.call(method, path, body), 403, 'forbidden')
})

test('an account key makes an environment and its first key, and deletes it when it is empty', async () => {
  const admin = as(await accountKey())
  const made = await first.call('POST', '/environments', { name: 'staging' }, admin)
  assert.equal(made.status, 200, made.text)
  const { id } = made.json.data
  assert.deepEqual(made.json.data, { id, name: 'staging' })
  failsWith(await first.call('POST', '/environments', { name: 'staging' }, admin), 409, 'conflict')
  failsWith(await first.call('POST', '/environments', { name: 'No Such' }, admin), 400, 'invalid_body')
  assert.ok(
    (await first.call('GET', '/environments', undefined, admin)).json.data.some((one: { id: number }) => one.id === id),
  )

  const key = await first.call('POST', '/environment/api-keys', { environment_id: id, display_name: 'first' }, admin)
  const secret = as(key.json.data.secret)
  assert.deepEqual((await second.call('GET', '/connections', undefined, secret)).json.connections, [])
  failsWith(
    await first.call('POST', '/environment/api-keys', { environment_id: 999_999, display_name: 'x' }, admin),
    404,
    'not_found',
  )
  assert.equal((await first.call('DELETE', `/environments/${id}`, undefined, admin)).status, 204)
  await until(async () => (await second.call('GET', '/connections', undefined, secret)).status === 401)
  failsWith(await first.call('DELETE', `/environments/${id}`, undefined, admin), 404, 'not_found')
})

test('an environment with a connection stays: its tokens could not be ended any more', async () => {
  await site.connect('ada')
  const admin = as(await accountKey())
  const [dev] = await site.db.query<{ id: number }>(sql`select id from environment where name = 'dev'`)
  failsWith(await first.call('DELETE', `/environments/${dev!.id}`, undefined, admin), 409, 'conflict')
  assert.equal((await first.call('GET', '/connections')).json.connections.length, 1)
})

test('fifty keys are as many as there may be', async () => {
  const [{ left }] = (await site.db.query<{ left: number }>(
    sql`select 50 - count(*)::int as left from api_key k join environment e on e.id = environment_id where e.name = 'dev'`,
  )) as [{ left: number }]
  const made = await Promise.all(Array.from({ length: left + 3 }, () => make({})))
  assert.equal(made.filter(answer => answer.status === 200).length, left)
  for (const answer of made.filter(answer => answer.status !== 200)) failsWith(answer, 400, 'resource_capped')
})
