/** Webhooks as a developer lives with them: whole servers, the real sign-in, a receiver of theirs, and the routes to look and send again. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { authWebhook, ownWebhook } from '@fairlead/contract'
import { openKeyedHash } from '../../src/account/pepper.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { openSite, type Site } from '../connection/support/site.ts'
import { until } from '../db/until.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { newEncryptionKey, vaultOn } from '../support/vault.ts'
import { answering, type ReceiverServer, startReceiver } from './support/receiver.ts'
import { verifiesStandard, verifiesWire } from './support/verify.ts'

async function listen(server: Fairlead, receiver: ReceiverServer): Promise<string> {
  const changed = await server.call('PATCH', '/environment/settings', { webhook_url: receiver.url })
  assert.equal(changed.status, 200, changed.text)
  return changed.json.webhook_signing_key
}

/** Signs somebody in with what the session says of them. */
async function connectWith(site: Site, receiver: ReceiverServer, session: object): Promise<void> {
  const { call } = site.servers[0]
  site.servers[0].call = (method, path, body, headers) =>
    call(method, path, path === '/connect/sessions' ? { ...(body as object), ...session } : body, headers)
  await site.connect('ada')
  site.servers[0].call = call
  await until(() => receiver.taken.length > 0)
}

test('a life of a connection, told in order, signed, and once for two servers', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const receiver = await startReceiver(t)
  const key = await listen(first, receiver)
  await connectWith(site, receiver, {
    end_user: { id: 'ada', email: 'ada@example.com', tags: { plan: 'gold' } },
    organization: { id: 'acme' },
  })
  const [created] = receiver.taken
  const id = created!.json.connectionId
  authWebhook.parse(created!.json)
  assert.equal(
    created!.body,
    `{"from":"nango","type":"auth","connectionId":"${id}","providerConfigKey":"sf","authMode":"OAUTH2","provider":"salesforce-sandbox","environment":"dev","operation":"creation","success":true,"tags":{"plan":"gold","end_user_id":"ada","end_user_email":"ada@example.com","organization_id":"acme"},"endUser":{"endUserId":"ada","endUserEmail":"ada@example.com","organizationId":"acme","tags":{"plan":"gold"}}}`,
  )

  const operate = (server: Fairlead, verb: string) =>
    server.call('POST', `/connections/${id}/${verb}?provider_config_key=sf`)
  const told = async (count: number) => until(() => receiver.taken.length === count)
  await operate(second, 'pause')
  await told(2)
  await operate(first, 'resume')
  await told(3)
  await operate(second, 'refresh')
  site.simulator.control.fail({
    endpoint: 'token',
    status: 400,
    body: { error: 'invalid_grant', error_description: 'expired access/refresh token' },
  })
  const refused = await operate(first, 'refresh')
  assert.equal(refused.json.error.code, 'invalid_credentials')
  await told(4)
  const gone = await first.call('DELETE', `/connections/${id}?provider_config_key=sf`)
  assert.equal(gone.status, 200)
  await told(5)

  assert.deepEqual(
    receiver.taken.map(({ json }) => [json.type, json.operation ?? json.data.state.name, json.success]),
    [
      ['auth', 'creation', true],
      ['connection.paused', 'paused', undefined],
      ['connection.resumed', 'active', undefined],
      ['auth', 'refresh', false],
      ['connection.deleted', 'needs_reauth', undefined],
    ],
  )
  const { error } = receiver.taken[3]!.json
  assert.equal(error.type, 'invalid_grant')
  // What Salesforce means by it, as the API says it, and not the sentence that fits every provider.
  assert.match(error.cause.code, /^[a-z_]+$/)
  const [likeliest] = error.cause.explanations
  assert.equal(error.description, `${error.cause.title}. ${likeliest.fix}`)
  assert.doesNotMatch(receiver.taken[3]!.body, /127\.0\.0\.1/, 'no address of ours')
  const sequences = receiver.taken.map(({ headers }) => Number(headers['fairlead-sequence']))
  assert.deepEqual(
    sequences,
    [...sequences].sort((a, b) => a - b),
  )
  for (const taken of receiver.taken) {
    assert.ok(verifiesStandard(taken, key) && verifiesWire(taken, key))
    if (taken.json.type !== 'auth') ownWebhook.parse(taken.json)
  }

  // Nothing more comes: neither server sends what the other has sent.
  const { json } = await second.call('GET', '/webhooks/deliveries')
  await until(async () => (await site.db.query(sql`select from webhook_delivery where state = 'pending'`)).length === 0)
  assert.deepEqual([json.deliveries.length, receiver.taken.length], [5, 5])
})

test('a kill tells of every connection, and a connection’s own receiver is told alone', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const [receiver, own] = [await startReceiver(t), await startReceiver(t)]
  await listen(first, receiver)
  await connectWith(site, own, { webhook_url_override: own.url })
  const id = await site.connect('grace')
  await until(() => receiver.taken.length === 1)
  const killed = await first.call('POST', '/kill', { environment: true })
  assert.equal(killed.json.revocations.length, 2)
  await until(() => receiver.taken.length === 2 && own.taken.length === 2)
  for (const { taken } of [receiver, own])
    assert.deepEqual(taken.map(({ headers }) => headers['fairlead-event']).sort(), [
      'connection.created',
      'connection.deleted',
    ])
  assert.ok(receiver.taken.every(({ body }) => body.includes(id)))
  assert.ok(own.taken.every(({ body }) => !body.includes(id)))
})

test('deliveries are listed, filtered, paged, looked into and sent again', async t => {
  const prod = 'p'.repeat(40)
  const server = await startFairlead(t, { env: { FAIRLEAD_SECRET_KEY_PROD: prod } })
  const { call } = server
  const empty = await call('POST', '/webhooks/test')
  assert.deepEqual([empty.status, empty.json.error.code], [400, 'webhook_url_missing'])

  const receiver = await startReceiver(t)
  await listen(server, receiver)
  receiver.answer = (res, taken) => answering(receiver.taken.length === 3 ? 410 : 200, {}, 'no "more"')(res, taken)
  for (let n = 1; n <= 5; n++) {
    const sent = await call('POST', '/webhooks/test')
    assert.deepEqual([sent.status, sent.json.deliveries.length], [202, 1], sent.text)
    await until(async () => (await call('GET', '/webhooks/deliveries?state=pending')).json.deliveries.length === 0)
  }

  const ids: string[] = []
  let pages = 0
  for (let cursor = ''; ; pages++) {
    const page = await call('GET', `/webhooks/deliveries?limit=2${cursor && `&cursor=${cursor}`}`)
    assert.equal(page.status, 200, page.text)
    ids.push(...page.json.deliveries.map((one: { event: { sequence: number } }) => one.event.sequence))
    if (page.json.next_cursor === null) break
    cursor = page.json.next_cursor
  }
  assert.deepEqual([ids.length, pages, new Set(ids).size], [5, 2, 5])
  assert.deepEqual(
    ids,
    [...ids].sort((a, b) => Number(b) - Number(a)),
    'newest first',
  )

  const failed = await call('GET', '/webhooks/deliveries?state=failed&event=webhook.test')
  assert.equal(failed.json.deliveries.length, 1)
  const [delivery] = failed.json.deliveries
  assert.equal((await call('GET', '/webhooks/deliveries?event=connection.paused')).json.deliveries.length, 0)
  assert.equal((await call('GET', '/webhooks/deliveries?connection_id=none')).json.deliveries.length, 0)
  const path = `/webhooks/deliveries/${delivery.id}`
  const one = await call('GET', path)
  assert.equal(one.json.body, receiver.taken[2]?.body)
  const { at, ms, ...attempt } = one.json.history[0]
  assert.deepEqual(attempt, { number: 1, url: receiver.url, status: 410, error: null, answer: 'no "more"' })
  assert.ok(Date.parse(at) <= Date.now() && ms >= 0)

  const again = await call('POST', `${path}/replay`)
  assert.deepEqual([again.status, again.json.state], [202, 'pending'], again.text)
  await until(async () => (await call('GET', path)).json.state === 'delivered')
  assert.equal(receiver.taken.length, 6)
  assert.equal(receiver.taken[5]?.headers['webhook-id'], delivery.event.id)
  assert.equal((await call('GET', path)).json.history.length, 2)

  receiver.answer = answering(410)
  for (let n = 0; n < 2; n++) await call('POST', '/webhooks/test')
  await until(async () => (await call('GET', '/webhooks/deliveries?state=failed')).json.deliveries.length === 2)
  receiver.answer = answering(200)
  const none = await call('POST', '/webhooks/replay', { since: new Date(Date.now() + 60_000).toISOString() })
  assert.deepEqual([none.status, none.json], [202, { replayed: 0 }])
  const all = await call('POST', '/webhooks/replay', { since: new Date(Date.now() - 60_000).toISOString() })
  assert.deepEqual(all.json, { replayed: 2 })
  await until(async () => (await call('GET', '/webhooks/deliveries?state=delivered')).json.deliveries.length === 7)

  // What belongs to another environment is answered like what does not exist.
  const asProd = { Authorization: `Bearer ${prod}` }
  const absent = '/webhooks/deliveries/6b1d7c1e-5a0e-4c57-9a44-3f8f4f1f4f10'
  for (const [method, suffix] of [
    ['GET', ''],
    ['POST', '/replay'],
  ] as const) {
    const foreign = await call(method, `${path}${suffix}`, undefined, asProd)
    const nothing = await call(method, `${absent}${suffix}`, undefined, asProd)
    assert.deepEqual([foreign.status, foreign.text], [404, nothing.text])
  }
  assert.deepEqual((await call('GET', '/webhooks/deliveries', undefined, asProd)).json.deliveries, [])
  const foreign = await call('POST', '/webhooks/replay', { since: '2000-01-01T00:00:00Z' }, asProd)
  assert.deepEqual(foreign.json, { replayed: 0 })

  for (const query of [
    'state=gone',
    'limit=0',
    'limit=201',
    'cursor=x',
    `cursor=${Buffer.from('1 x').toString('base64url')}`,
    'unknown=1',
  ])
    assert.equal((await call('GET', `/webhooks/deliveries?${query}`)).json.error.code, 'invalid_query_params', query)
  assert.equal((await call('GET', '/webhooks/deliveries/none')).json.error.code, 'invalid_uri_params')
  assert.equal((await call('POST', '/webhooks/replay', { since: 'yesterday' })).json.error.code, 'invalid_body')
})

test('new data keys seal the signing keys anew, and receivers notice nothing', async t => {
  const server = await startFairlead(t)
  const { db, close } = await openDb({ url: server.databaseUrl })
  t.after(close)
  const receiver = await startReceiver(t)
  const key = await listen(server, receiver)
  await server.call('POST', '/environment/webhook-signing-key/rotate')
  const sealedWith = async () =>
    (await db.query<{ key: string }>(sql`select encode(sealed_key, 'hex') as key from webhook_key order by id`)).map(
      row => row.key,
    )
  const before = await sealedWith()
  assert.equal((await server.call('POST', '/encryption/rotate')).status, 202)
  await until(async () => (await server.call('GET', '/encryption')).json.rows_left === 0)
  const after = await sealedWith()
  assert.equal(after.length, 2)
  for (const [n, one] of after.entries()) assert.notEqual(one, before[n])
  await server.call('POST', '/webhooks/test')
  await until(() => receiver.taken.length === 1)
  assert.ok(verifiesStandard(receiver.taken[0]!, key))
})

test('a key needs the scope of what it asks for', async t => {
  const encryptionKey = newEncryptionKey()
  const server = await startFairlead(t, { env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey } })
  const { db, close } = await openDb({ url: server.databaseUrl })
  t.after(close)
  const keyedHash = await openKeyedHash(db, await vaultOn(db, encryptionKey))
  const keyWith = async (scope: string) => {
    const key = randomUUID()
    await db.query(sql`
      insert into api_key (environment_id, display_name, lookup, scopes)
      select id, ${key}, ${keyedHash(key)}, ${[scope]} from environment where name = 'dev'`)
    return { Authorization: `Bearer ${key}` }
  }
  const scopes = [
    'environment:*',
    'environment:webhook_signing_key:rotate',
    'environment:webhooks:read',
    'environment:webhooks:write',
  ]
  const keys = await Promise.all(scopes.map(keyWith))
  const since = { since: '2000-01-01T00:00:00Z' }
  for (const [method, path, scope, body] of [
    ['GET', '/environment/settings', 'environment:*'],
    ['PATCH', '/environment/settings', 'environment:*', {}],
    ['POST', '/environment/webhook-signing-key/rotate', 'environment:webhook_signing_key:rotate'],
    ['GET', '/webhooks/deliveries', 'environment:webhooks:read'],
    ['GET', `/webhooks/deliveries/${randomUUID()}`, 'environment:webhooks:read'],
    ['POST', `/webhooks/deliveries/${randomUUID()}/replay`, 'environment:webhooks:write'],
    ['POST', '/webhooks/test', 'environment:webhooks:write'],
    ['POST', '/webhooks/replay', 'environment:webhooks:write', since],
  ] as const)
    for (const [n, headers] of keys.entries()) {
      const { status } = await server.call(method, path, body, headers)
      assert.equal(status === 403, n > 0 && scopes[n] !== scope, `${method} ${path} with ${scopes[n]}`)
    }
})
