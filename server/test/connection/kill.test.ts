/** Deleting and killing over HTTP: who is refused, how soon, on which server, and what is left. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setPaused } from '../../src/credential/store.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { openSite, type Site } from './support/site.ts'

/** Whether a token of the simulator is alive. */
const alive = ({ simulator }: Site) => simulator.control.state().grants.filter(grant => grant.ended === null).length

const settled = async (site: Site, query = '') => {
  const receipts = await site.servers[0].call('GET', `/revocations${query}`)
  assert.equal(receipts.status, 200, receipts.text)
  return receipts.json.revocations
}

test('a killed connection is refused on every server within 5 seconds, and its tokens die', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const [victim, bystander] = [await site.connect('mallory'), await site.connect('ada')]
  // Both servers have both in memory.
  for (const server of site.servers)
    for (const id of [victim, bystander]) assert.equal((await site.proxied(server, id)).status, 200)

  const began = performance.now()
  const killed = await first.call('POST', '/kill', {
    connection_id: victim,
    provider_config_key: 'sf',
    reason: 'stolen laptop',
  })
  assert.equal(killed.status, 200, killed.text)
  await until(async () => (await site.proxied(second, victim)).status === 400, 5_000)
  const took = performance.now() - began
  assert.ok(took < 5_000, `${took} ms`)
  t.diagnostic(`refused on the second server ${Math.round(took)} ms after the kill began`)
  for (const server of site.servers) {
    const refused = await site.proxied(server, victim)
    assert.deepEqual([refused.status, refused.headers.get('fairlead-error')], [400, 'unknown_connection'])
    assert.equal((await site.read(server, victim)).status, 404)
    assert.equal((await site.proxied(server, bystander)).status, 200)
  }
  assert.deepEqual(
    killed.json.revocations.map(
      ({ connection_id, provider_config_key, state, status, reason }: Record<string, string>) => [
        connection_id,
        provider_config_key,
        state,
        status,
        reason,
      ],
    ),
    [[victim, 'sf', 'deleted', 'pending', 'stolen laptop']],
  )
  await until(async () => (await settled(site, `?connection_id=${victim}`))[0]?.status === 'revoked')
  const [receipt] = await settled(site, `?connection_id=${victim}`)
  assert.ok(receipt.verified_at && receipt.ended_at)
  assert.equal(receipt.reason, 'stolen laptop')
  assert.deepEqual(await settled(site, `?connection_id=${bystander}`), [])
  assert.equal(alive(site), 1)
  // Killing what is dead is a mistake in the name, and says so.
  const again = await first.call('POST', '/kill', { connection_id: victim, provider_config_key: 'sf' })
  assert.deepEqual([again.status, again.json.error.code], [400, 'unknown_connection'])
})

test('each scope of a kill takes what it names and nothing beside it', async t => {
  const site = await openSite(t, ['sf', 'other'])
  const [first] = site.servers
  const left = async () =>
    (await first.call('GET', '/connections')).json.connections.map(
      (one: { end_user: { id: string }; provider_config_key: string }) =>
        `${one.end_user.id}@${one.provider_config_key}`,
    )
  for (const who of ['ada', 'grace']) for (const key of ['sf', 'other']) await site.connect(who, key)
  for (const [what, body, killed, then] of [
    ['nobody', { end_user_id: 'nobody' }, 0, ['grace@other', 'grace@sf', 'ada@other', 'ada@sf']],
    ['an end user', { end_user_id: 'ada' }, 2, ['grace@other', 'grace@sf']],
    ['an integration', { provider_config_key: 'other' }, 1, ['grace@sf']],
    ['the environment', { environment: true }, 1, []],
    ['an empty environment', { environment: true }, 0, []],
  ] as const) {
    const answer = await first.call('POST', '/kill', body)
    assert.equal(answer.status, 200, answer.text)
    assert.equal(answer.json.revocations.length, killed, what)
    assert.deepEqual(await left(), then, what)
  }
  await until(async () => (await settled(site)).every((one: { ended_at: string | null }) => one.ended_at))
  assert.equal(alive(site), 0)
  assert.equal((await settled(site)).length, 4)
  assert.equal((await settled(site, '?provider_config_key=other')).length, 2)

  for (const body of [
    {},
    { environment: false },
    { environment: true, end_user_id: 'ada' },
    { connection_id: 'x' },
    { end_user_id: 'ada', provider_config_key: 'sf' },
    { end_user_id: '' },
    { environment: true, reason: 'x'.repeat(501) },
    { environment: true, sure: true },
  ]) {
    const refused = await first.call('POST', '/kill', body)
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_body'], JSON.stringify(body))
  }
  const unknown = await first.call('POST', '/kill', { provider_config_key: 'none' })
  assert.deepEqual([unknown.status, unknown.json.error.code], [400, 'unknown_provider_config'])
})

test('connections that share a grant: a delete leaves it to the others, a kill takes them along', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  const twin = async (connectionId: string) =>
    site.db.query(sql`
      insert into connection (environment_id, integration_id, credential_id, connection_id, end_user)
      select environment_id, integration_id, credential_id, ${connectionId}, '{"id": "twin"}' from connection where connection_id = ${id}`)
  await twin('twin-1')
  await twin('twin-2')
  assert.equal((await first.call('DELETE', '/connections/twin-1?provider_config_key=sf')).status, 200)
  assert.deepEqual(await settled(site), [])
  assert.equal((await site.proxied(first, id)).status, 200)
  assert.equal((await site.proxied(first, 'twin-1')).status, 400)

  const killed = await first.call('POST', '/kill', { end_user_id: 'twin' })
  const ids = killed.json.revocations.map((one: { connection_id: string }) => one.connection_id)
  assert.deepEqual(ids.toSorted(), [id, 'twin-2'].toSorted())
  assert.equal((await site.proxied(first, id)).status, 400)
  await until(async () => (await settled(site, `?connection_id=${id}`))[0]?.status === 'revoked')
  assert.equal((await settled(site)).length, 2)
  assert.equal(alive(site), 0)
})

test('a kill of many goes in batches and misses none', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  // 450 grants of one user; their seals do not open in the place they were copied to, which must not stop the kill.
  await site.db.query(sql`
    with source as (select k.*, c.connection_id from credential k join connection c on c.credential_id = k.id),
    copied as (
      insert into credential (id, environment_id, integration_id, kind, sealed)
      select gen_random_uuid(), environment_id, integration_id, kind, sealed from source, generate_series(1, 450)
      returning id, environment_id, integration_id)
    insert into connection (environment_id, integration_id, credential_id, connection_id, end_user)
    select environment_id, integration_id, id, 'copy-' || id, '{"id": "ada"}' from copied`)
  const [killed, other] = await Promise.all([
    first.call('POST', '/kill', { end_user_id: 'ada' }),
    second.call('POST', '/kill', { environment: true }),
  ])
  const complaints = site.servers.map(server => server.log().match(/^.*"level":50.*$/gm))
  assert.deepEqual([killed.status, other.status], [200, 200], JSON.stringify(complaints))
  // Between two kills at once each connection has one receipt.
  const ids = [...killed.json.revocations, ...other.json.revocations].map(one => one.connection_id)
  assert.deepEqual([ids.length, new Set(ids).size, ids.includes(id)], [451, 451, true])
  assert.deepEqual((await first.call('GET', '/connections')).json.connections, [])
  assert.deepEqual(await site.db.query(sql`select id from credential where gone_at is null or sealed is not null`), [])
  await until(async () => alive(site) === 0)
})

test('pausing many and ending many at once do not wait for each other', async t => {
  const site = await openSite(t)
  await site.connect('ada')
  // In the table against the order of their ids, which is the order the end of a grant locks them in.
  await site.db.query(sql`
    insert into credential (id, environment_id, integration_id, kind, sealed)
    select ('00000000-0000-4000-8000-' || lpad((1000 - n)::text, 12, '0'))::uuid, environment_id, integration_id, kind, sealed
    from (select * from credential limit 1) one, generate_series(1, 900) n`)
  await site.db.query(sql`analyze credential`)
  const rows = await site.db.query<{ id: string }>(sql`select id from credential order by random()`)
  const ids = rows.map(({ id }) => id)
  const lock = () =>
    site.db.transaction(tx =>
      tx.query(sql`select id from credential where id = any (${ids}::uuid[]) order by id for update`),
    )
  for (let round = 0; round < 20; round++)
    await Promise.all([setPaused(site.db, ids, round % 2 === 0), lock(), lock(), lock()])
})

test('deleting an integration revokes its grants with the client it had', async t => {
  const site = await openSite(t, ['sf', 'other'])
  const [first, second] = site.servers
  const [gone, kept] = [await site.connect('ada'), await site.connect('ada', 'other')]
  assert.equal((await site.proxied(second, gone)).status, 200)
  // The provider is away while it happens.
  site.simulator.control.fail({ endpoint: 'revoke', status: 503 })
  assert.equal((await first.call('DELETE', '/integrations/sf')).status, 200)
  await until(async () => (await site.proxied(second, gone)).status === 404, 5_000)
  assert.deepEqual(await site.db.query(sql`select id from connection where connection_id = ${gone}`), [])
  await until(async () => {
    await site.db.query(sql`update revocation set next_try_at = clock_timestamp() where ended_at is null`)
    return (await settled(site, `?connection_id=${gone}`))[0]?.status === 'revoked'
  })
  assert.equal(alive(site), 1)
  assert.equal((await site.proxied(first, kept, 'other')).status, 200)
  assert.deepEqual(await site.db.query(sql`select id from revocation where sealed is not null`), [])
})

test('deleted on one server, refused on the other: nobody waits for a cache to grow old', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  assert.equal((await site.proxied(second, id)).status, 200)
  assert.equal((await first.call('DELETE', `/connections/${id}?provider_config_key=sf`)).status, 200)
  await until(
    async () => (await site.proxied(second, id)).headers.get('fairlead-error') === 'unknown_connection',
    5_000,
  )
  assert.equal((await site.read(second, id)).status, 404)
})

test('deleted on one server while another refreshes: the late answer is dead too', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  assert.equal((await site.proxied(second, id)).status, 200)
  site.simulator.control.delay({ endpoint: 'token', ms: 600, when: 'after' })
  const refreshing = second.call('POST', `/connections/${id}/refresh?provider_config_key=sf`)
  await until(() => site.simulator.control.counters().grants.refresh_token === 1)
  assert.equal((await first.call('DELETE', `/connections/${id}?provider_config_key=sf`)).status, 200)
  const late = await refreshing
  assert.deepEqual([late.status, late.json.error.code], [400, 'unknown_connection'])
  await until(() => alive(site) === 0)
  const receipts = await settled(site, `?connection_id=${id}`)
  assert.equal(receipts.length, 2)
  assert.equal(receipts.filter((one: { status: string }) => one.status === 'pending').length >= 1, true)
  const logs = site.servers.map(server => server.log()).join()
  for (const grant of site.simulator.control.state().grants) assert.ok(!logs.includes(grant.refreshToken))
})

test('a rotation of the data keys takes along what waits for its provider, and it is revoked afterwards', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  const job = async () => {
    const [row] = await site.db.query<{ tries: number; held: boolean; key: string | null }>(sql`
      select tries, lease_until is not null as held, encode(sealed_key, 'hex') as key from revocation
      where connection_ids @> array[${id}::text]`)
    return row!
  }
  const keysIn = async (state: string): Promise<string[]> =>
    (await first.call('GET', '/encryption')).json.data_keys
      .filter((key: { state: string }) => key.state === state)
      .map((key: { id: string }) => key.id)

  site.simulator.control.fail({ endpoint: 'revoke', status: 503, headers: { 'retry-after': '1800' } })
  // The integration goes as well: the client that the provider asks for is in the sealed job alone.
  assert.equal((await first.call('DELETE', '/integrations/sf')).status, 200)
  await until(async () => {
    const { tries, held } = await job()
    return tries === 1 && !held
  })
  const before = (await job()).key!
  assert.ok((await keysIn('current')).includes(before))

  const begun = await first.call('POST', '/encryption/rotate')
  assert.equal(begun.status, 202, begun.text)
  await until(async () => (await first.call('GET', '/encryption')).json.rows_left === 0)
  const { key: after, tries } = await job()
  assert.notEqual(after, before)
  assert.ok((await keysIn('retired')).includes(before))
  assert.ok((await keysIn('current')).includes(after!))
  assert.equal(tries, 1)
  assert.equal(alive(site), 1)

  await site.db.query(sql`update revocation set next_try_at = clock_timestamp()`)
  await until(async () => (await settled(site, `?connection_id=${id}`))[0].status === 'revoked')
  assert.ok((await settled(site, `?connection_id=${id}`))[0].verified_at)
  assert.equal(alive(site), 0)
  assert.equal((await job()).key, null)
})
