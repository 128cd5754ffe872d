/** What a provider sends into this server: an org of the simulator, whole servers, and a developer's receiver. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OutboundInput } from '@fairlead/salesforce-simulator'
import { sql } from '../../src/db/sql.ts'
import { openSite, type Site } from '../connection/support/site.ts'
import { until } from '../db/until.ts'
import { type Answer, type Fairlead, request } from '../support/fairlead.ts'
import { answering, type ReceiverServer, startReceiver } from './support/receiver.ts'

const org = 'acme--uat'
const addressesOf = (id: string, key = 'sf') => `/connections/${id}/webhook-addresses?provider_config_key=${key}`

async function newAddress(server: Fairlead, id: string, body?: object): Promise<string> {
  const made = await server.call('POST', addressesOf(id), body)
  assert.equal(made.status, 200, made.text)
  return made.json.url
}

async function listen(server: Fairlead, receiver: ReceiverServer): Promise<void> {
  const settings = { webhook_url: receiver.url, on_auth_creation: false, on_connection_lifecycle: false }
  const changed = await server.call('PATCH', '/environment/settings', settings)
  assert.equal(changed.status, 200, changed.text)
}

const send = ({ simulator }: Site, url: string, more: Partial<OutboundInput> = {}) =>
  simulator.control.sendOutboundMessage({ org, url, object: 'Account', fields: ['Name'], ...more })

const events = ({ db }: Site) => db.query(sql`select id from webhook_event where name = 'webhook.forwarded'`)

const post = (url: string, body: string | Uint8Array<ArrayBuffer>, type = 'text/xml; charset=UTF-8'): Promise<Answer> =>
  request(url, { method: 'POST', headers: { 'content-type': type }, body })

test('an Outbound Message becomes one webhook, however often it is sent, and its session id goes nowhere', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const receiver = await startReceiver(t)
  await listen(first, receiver)
  const id = await site.connect('ada')
  const url = await newAddress(second, id)
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/webhook\/[A-Za-z0-9_-]{43}$/)

  const sent = await send(site, url, { withSession: true })
  assert.deepEqual([sent.status, sent.acknowledged], [200, true])
  // Stored before it was acknowledged.
  assert.equal((await events(site)).length, 1)
  await until(() => receiver.taken.length === 1)
  const [{ json, headers } = assert.fail()] = receiver.taken
  const { payload, ...about } = json
  assert.deepEqual(about, {
    from: 'salesforce-sandbox',
    type: 'forward',
    providerConfigKey: 'sf',
    connectionId: id,
  })
  assert.equal(headers['fairlead-event'], 'webhook.forwarded')
  assert.equal(payload.notification_id, sent.notificationIds[0])
  assert.equal(payload.record.attributes.type, 'Account')
  assert.deepEqual(Object.keys(payload), ['organization_id', 'action_id', 'notification_id', 'record'])
  assert.deepEqual(Object.keys(payload.record), ['Id', 'Name', 'attributes'])

  // The acknowledgement was lost: it is sent again, to either server, at once and later.
  const again = { notificationIds: sent.notificationIds, withSession: true }
  const other = url.replace(second.app.url, first.app.url)
  for (const one of await Promise.all([url, other, url, other].map(to => send(site, to, again))))
    assert.equal(one.acknowledged, true)
  assert.equal((await events(site)).length, 1)
  // Some of a message may be known already.
  const query = '/proxy/services/data/v66.0/query?q=SELECT+Id+FROM+Account+LIMIT+2'
  const { json: found } = await first.call('GET', query, undefined, {
    'Provider-Config-Key': 'sf',
    'Connection-Id': id,
  })
  const recordIds = found.records.map((record: { Id: string }) => record.Id)
  const mixed = { recordIds, notificationIds: [...sent.notificationIds, '04lHs0000099999AAA'] }
  assert.equal((await send(site, url, mixed)).acknowledged, true)
  await until(() => receiver.taken.length === 2)
  assert.equal(receiver.taken[1]!.json.payload.record.Id, recordIds[1])

  const sessions = site.simulator.control.state().sessions.map(({ token }) => token)
  const stored = await site.db.query(sql`select v::text as row from webhook_event v`)
  const everything = JSON.stringify([stored, receiver.taken, first.log(), second.log()])
  assert.ok(sessions.length > 0)
  for (const token of sessions) assert.equal(everything.includes(token), false)
  assert.equal(everything.includes(url.slice(-43)), false, 'the address is in no log and no row')
  assert.equal(JSON.stringify(stored).includes('Edge Communications'), false, 'what it said is sealed')
})

test('what is not stored is not acknowledged', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  const url = await newAddress(first, id)

  const nobody = await send(site, url)
  assert.deepEqual([nobody.status, nobody.acknowledged], [503, false])
  assert.equal((await events(site)).length, 0)

  const receiver = await startReceiver(t)
  await listen(first, receiver)
  await site.db.query(sql`alter table webhook_delivery add constraint full_disk check (false) not valid`)
  const failed = await send(site, url, { notificationIds: nobody.notificationIds })
  assert.deepEqual([failed.status >= 500, failed.acknowledged], [true, false])
  assert.equal((await events(site)).length, 0, 'and nothing half-stored')
  await site.db.query(sql`alter table webhook_delivery drop constraint full_disk`)

  // A receiver that is down is another matter: it is stored, and waits.
  await receiver.down()
  const taken = await send(site, url, { notificationIds: nobody.notificationIds })
  assert.equal(taken.acknowledged, true)
  await receiver.up()
  await site.db.query(sql`update webhook_delivery set next_try_at = clock_timestamp()`)
  await until(() => receiver.taken.length === 1)

  const off = await second.call('PATCH', '/integrations/sf', { forward_webhooks: false })
  assert.equal(off.status, 200)
  assert.equal((await send(site, url)).acknowledged, true, 'its owner does not want it, so the org need not try again')
  assert.equal((await events(site)).length, 1)
})

test('an address is of one connection: nothing of another org, nothing at another address', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const receiver = await startReceiver(t)
  await listen(first, receiver)
  const id = await site.connect('ada')
  const url = await newAddress(first, id)

  for (const [what, to, code] of [
    ['no address', `${first.app.url}/webhook/`, 'invalid_content_type'],
    ['an address nobody made', url.replace(/.$/, last => (last === 'A' ? 'B' : 'A')), 'webhook_address_unknown'],
    ['half of it', url.slice(0, -1), 'webhook_address_unknown'],
    [
      'another spelling',
      url.toUpperCase().replace(/^[^:]+:\/\/[^/]+\/WEBHOOK/, `${first.app.url}/webhook`),
      'webhook_address_unknown',
    ],
    ['with more behind it', `${url}/x`, 'invalid_content_type'],
  ] as const) {
    const sent = await post(to, '<x/>')
    assert.equal(sent.json.error.code, code, what)
    assert.doesNotMatch(sent.text, /Ack/)
  }

  const foreign = await send(site, url, { org: 'acme' })
  assert.deepEqual([foreign.status, foreign.acknowledged], [403, false], 'another org')
  const [{ id: credential } = assert.fail()] = await site.db.query<{ id: string }>(sql`select id from credential`)
  await site.db.query(sql`update credential set config = config - 'organization_id' where id = ${credential}`)
  assert.equal((await send(site, url)).status, 403, 'an org nobody knows')
  assert.equal((await events(site)).length, 0)
  assert.equal(receiver.taken.length, 0)
})

test('what is no message is refused before anything is kept, and nothing is fetched for it', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const receiver = await startReceiver(t)
  await listen(first, receiver)
  const url = await newAddress(first, await site.connect('ada'))
  const bait = await startReceiver(t)
  const laughs = Array.from({ length: 20 }, (_, n) => `<!ENTITY l${n + 1} "${`&l${n};`.repeat(10)}">`).join('')
  for (const [what, body, status, code] of [
    ['nothing', '', 400, 'webhook_unreadable'],
    ['JSON', '{}', 400, 'webhook_unreadable'],
    ['an external entity', `<!DOCTYPE x [<!ENTITY e SYSTEM "${bait.url}">]><x>&e;</x>`, 400, 'webhook_unreadable'],
    ['an external subset', `<!DOCTYPE x SYSTEM "${bait.url}"><x/>`, 400, 'webhook_unreadable'],
    ['a billion laughs', `<!DOCTYPE x [<!ENTITY l0 "lol">${laughs}]><x>&l20;</x>`, 400, 'webhook_unreadable'],
    ['bytes that are no text', new Uint8Array([0xff, 0xfe, 0x3c, 0x00]), 400, 'webhook_unreadable'],
    ['five million bytes and more', `<x>${'a'.repeat(5 * 1024 * 1024)}</x>`, 413, 'body_too_large'],
  ] as const) {
    const answer = await post(url, body)
    assert.deepEqual([answer.status, answer.json.error.code], [status, code], what)
  }
  assert.equal(bait.taken.length, 0)
  assert.equal((await events(site)).length, 0)
  // The type of the body decides nothing.
  assert.equal((await post(url, '<x/>', 'application/x-www-form-urlencoded')).json.error.code, 'webhook_unreadable')
})

test('addresses are made, replaced and ended, by who may', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const receiver = await startReceiver(t)
  await listen(first, receiver)
  const id = await site.connect('ada')
  const list = async () => (await second.call('GET', addressesOf(id))).json.addresses
  assert.equal((await second.call('GET', addressesOf(id))).json.is_offered, true)
  assert.deepEqual(await list(), [])

  const one = await newAddress(first, id)
  assert.deepEqual(await list().then(rows => rows.map(stateOf)), [['current', false]])
  await send(site, one)
  await until(async () => (await list())[0].received_at !== null)
  const two = await newAddress(first, id)
  assert.deepEqual(await list().then(rows => rows.map(stateOf)), [
    ['current', false],
    ['retiring', true],
  ])
  for (const url of [one, two]) assert.equal((await send(site, url)).acknowledged, true, 'both work for a while')

  // After a leak.
  const three = await newAddress(first, id, { overlap_hours: 0 })
  assert.equal((await list()).length, 1)
  for (const url of [one, two]) assert.equal((await send(site, url)).status, 404)
  assert.equal((await send(site, three)).acknowledged, true)
  assert.doesNotMatch(JSON.stringify(await list()), new RegExp(three.slice(-43)))

  const bad = await first.call('POST', addressesOf(id), { overlap_hours: -1 })
  assert.equal(bad.json.error.code, 'invalid_body')
  assert.equal((await first.call('POST', addressesOf('nobody'))).json.error.code, 'not_found')
  const plain = await first.call('POST', '/integrations', { provider: 'open-meteo', unique_key: 'open' })
  assert.equal(plain.status, 200, plain.text)

  const limited = await first.call('POST', '/environment/api-keys', {
    display_name: 'reader',
    scopes: ['environment:connections:read', 'environment:webhooks:read'],
  })
  const as = { Authorization: `Bearer ${limited.json.data.secret}` }
  assert.equal((await first.call('GET', addressesOf(id), undefined, as)).status, 200)
  for (const method of ['POST', 'DELETE'])
    assert.equal((await first.call(method, addressesOf(id), undefined, as)).json.error.code, 'forbidden')
  // What a customer's org said is for who may read credentials.
  const { deliveries } = (await first.call('GET', '/webhooks/deliveries?event=webhook.forwarded')).json
  const path = `/webhooks/deliveries/${deliveries[0].id}`
  assert.equal(JSON.parse((await first.call('GET', path)).json.body).payload.record.attributes.type, 'Account')
  assert.equal(JSON.parse((await first.call('GET', path, undefined, as)).json.body).payload, null)

  const trail = (await first.call('GET', '/audit?action=webhook_address.made')).json.entries
  assert.deepEqual(
    trail.map((entry: { target: string }) => entry.target),
    [id, id, id],
  )

  assert.deepEqual((await first.call('DELETE', addressesOf(id))).json, { success: true })
  assert.equal((await send(site, three)).status, 404)
  const last = await newAddress(first, id)
  await first.call('DELETE', `/connections/${id}?provider_config_key=sf`)
  assert.equal((await send(site, last)).status, 404, 'it ends with its connection')
})

const stateOf = ({ state, retires_at }: { state: string; retires_at: string | null }) => [state, retires_at !== null]

test('what is kept of it is sealed anew with every rotation, and erased with the person', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const receiver = await startReceiver(t)
  await listen(first, receiver)
  const id = await site.connect('ada')
  const url = await newAddress(first, id)
  await receiver.down()
  await send(site, url)
  const keys = () => site.db.query(sql`select payload_key from webhook_event where payload_key is not null`)
  const before = await keys()
  await first.call('POST', '/encryption/rotate')
  await until(async () => (await first.call('GET', '/encryption')).json.rows_left === 0)
  assert.equal(before.length, 1)
  assert.notDeepEqual(await keys(), before)
  await receiver.up()
  receiver.answer = answering(500)
  await site.db.query(sql`update webhook_delivery set next_try_at = clock_timestamp()`)
  await until(() => receiver.taken.length > 0)
  assert.equal(receiver.taken[0]!.json.payload.record.attributes.type, 'Account')

  const exported = await first.call('POST', '/end-users/export', { end_user_id: 'ada' })
  const forwarded = exported.json.webhook_events.find((one: { name: string }) => one.name === 'webhook.forwarded')
  assert.equal(forwarded.payload.record.attributes.type, 'Account')
  assert.equal((await first.call('POST', '/end-users/erase', { end_user_id: 'ada' })).status, 200)
  assert.deepEqual(await keys(), [], 'although it was not delivered')
})
