/** Refresh, pause, resume, and what state a connection is said to be in. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { causes, states, warnings } from '@fairlead/contract'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import type { Fairlead } from '../support/fairlead.ts'
import { openSite } from './support/site.ts'

test('a refresh on demand renews the tokens and says how the connection stands', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  const before = await site.read(second, id)
  const path = `/connections/${id}/refresh?provider_config_key=sf`
  const answer = await first.call('POST', path)
  assert.equal(answer.status, 200, answer.text)
  const { expires_at, ...rest } = answer.json
  assert.deepEqual(rest, {
    connection_id: id,
    provider_config_key: 'sf',
    health: 'active',
    cause: null,
    state: { name: 'active', cause: null, message: states.active, since: before.json.state.since },
  })
  assert.ok(expires_at === null || Date.parse(expires_at) > Date.now())
  assert.equal(site.simulator.control.counters().grants.refresh_token, 1)
  assert.doesNotMatch(answer.text, /00D\w+!/)
  // The other server lets go of the old token.
  await until(async () => {
    const now = await site.read(second, id)
    return now.json.credentials.access_token !== before.json.credentials.access_token
  })

  site.simulator.control.fail({ endpoint: 'token', status: 429, body: '' })
  const busy = await second.call('POST', path)
  assert.deepEqual(
    [busy.status, busy.json.error.code, busy.json.error.payload],
    [424, 'refresh_unavailable', { cause: 'provider_busy' }],
  )
  assert.match(busy.headers.get('retry-after') ?? '', /^[1-5]$/)

  // Both attempts are counted, by hour, and those of another environment elsewhere.
  await site.db.query(sql`
    insert into renewal_count select id, date_trunc('hour', clock_timestamp()), 'renewed', 9 from environment where name = 'prod'`)
  const counted = async () => {
    const { renewals, renewed_today } = (await second.call('GET', '/overview')).json
    assert.equal(renewals.length, 24)
    const sum = (of: string) => renewals.reduce((total: number, one: Record<string, number>) => total + one[of]!, 0)
    return [renewed_today, sum('renewed'), sum('unavailable'), sum('refused')].join(' ')
  }
  await until(async () => (await counted()) === '1 1 1 0')

  for (const verb of ['refresh', 'pause', 'resume']) {
    const missing = await first.call('POST', `/connections/none/${verb}?provider_config_key=sf`)
    assert.deepEqual([missing.status, missing.json.error.code], [404, 'not_found'])
    const unknown = await first.call('POST', `/connections/${id}/${verb}?provider_config_key=none`)
    assert.deepEqual([unknown.status, unknown.json.error.code], [400, 'unknown_provider_config'])
    assert.equal((await first.call('POST', `/connections/${id}/${verb}`)).status, 400)
  }
})

test('what an answer said of the limit of calls is told by the server that saw it', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  const usage = async (server: Fairlead) =>
    (await server.call('GET', `/connections/${id}/usage?provider_config_key=sf`)).json
  const asked = site.simulator.control.counters()
  assert.deepEqual(await usage(first), { is_told: true, reserve_percent: 10, usage: null })
  assert.deepEqual(site.simulator.control.counters(), asked, 'nobody is asked')
  const { headers } = await site.proxied(first, id)
  const [, used, limit] = /api-usage=(\d+)\/(\d+)/.exec(headers.get('sforce-limit-info') ?? '') ?? []
  const { at, ...told } = (await usage(first)).usage
  assert.deepEqual(told, { used: Number(used), limit: Number(limit) })
  assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000)
  assert.equal((await usage(second)).usage, null)
})

test('a paused connection refuses everything that uses it, on every server, until it is resumed', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const [id, other] = [await site.connect('ada'), await site.connect('grace')]
  assert.equal((await site.proxied(second, id)).status, 200)
  const operate = (verb: string) => first.call('POST', `/connections/${id}/${verb}?provider_config_key=sf`)

  const running = (await site.read(first, id)).json.state.since
  const since = new Set<string>()
  for (const verb of ['pause', 'pause']) {
    const paused = await operate(verb)
    assert.equal(paused.status, 200, paused.text)
    const { state } = paused.json
    since.add(state.since)
    assert.deepEqual(state, { name: 'paused', cause: null, message: states.paused, since: state.since })
    assert.equal(paused.json.health, 'active')
  }
  // Pausing what is paused begins nothing, and neither does what happens to the health beneath.
  assert.ok(since.size === 1 && [...since][0]! > running, [...since].join())
  await site.db.query(sql`update credential set health = 'degraded' where paused`)
  await site.db.query(sql`update credential set health = 'active', cause = null`)
  const [listedPaused] = (await first.call('GET', '/connections?state=paused')).json.connections
  assert.equal(listedPaused.state.since, [...since][0])
  await until(async () => (await site.proxied(second, id)).status === 423, 5_000)
  for (const refused of [
    await site.proxied(first, id),
    await site.proxied(second, id),
    await site.read(second, id),
    await operate('refresh'),
    await second.call('GET', `/connections/${id}?provider_config_key=sf&force_refresh=true`),
  ])
    assert.deepEqual([refused.status, refused.json.error.code], [423, 'connection_paused'])
  assert.equal(site.simulator.control.counters().grants.refresh_token ?? 0, 0)
  assert.equal((await site.proxied(second, other)).status, 200)

  const listed = async (query: string) =>
    (await second.call('GET', `/connections?${query}`)).json.connections.map(
      (one: { connection_id: string; state: { name: string } }) => [one.connection_id, one.state.name],
    )
  assert.deepEqual(await listed('state=paused'), [[id, 'paused']])
  assert.deepEqual(await listed('state=active'), [[other, 'active']])

  for (const verb of ['resume', 'resume']) {
    const resumed = await operate(verb)
    assert.deepEqual([resumed.status, resumed.json.state.name], [200, 'active'])
  }
  await until(async () => (await site.proxied(second, id)).status === 200, 5_000)
  assert.deepEqual(await listed('state=paused'), [])
})

test('a refresh that was under way when the connection was paused is saved and does not resume it', async t => {
  const site = await openSite(t)
  const [first, second] = site.servers
  const id = await site.connect('ada')
  site.simulator.control.delay({ endpoint: 'token', ms: 500, when: 'after' })
  const refreshing = second.call('POST', `/connections/${id}/refresh?provider_config_key=sf`)
  await until(() => site.simulator.control.counters().grants.refresh_token === 1)
  await first.call('POST', `/connections/${id}/pause?provider_config_key=sf`)
  assert.equal((await refreshing).status, 200)
  assert.deepEqual(await site.db.query(sql`select token_version, paused, intent_claim from credential`), [
    { token_version: 2, paused: true, intent_claim: null },
  ])
  await until(async () => (await site.proxied(second, id)).status === 423, 5_000)
  assert.equal((await first.call('POST', `/connections/${id}/resume?provider_config_key=sf`)).json.state.name, 'active')
  assert.equal((await site.proxied(first, id)).status, 200)
})

test('every state is named with its cause and a sentence, alone and in the list, and can be asked for', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const id = await site.connect('ada')
  const rows: [health: string, cause: string | null, paused: boolean, expected: object][] = [
    ['active', null, false, { name: 'active', cause: null, message: states.active }],
    ['active', 'invalid_client', false, { name: 'active', cause: 'invalid_client', message: causes.invalid_client }],
    ['degraded', 'in_doubt', false, { name: 'degraded', cause: 'in_doubt', message: causes.in_doubt }],
    [
      'degraded',
      'refresh_unanswered',
      false,
      { name: 'degraded', cause: 'refresh_unanswered', message: causes.refresh_unanswered },
    ],
    [
      'needs_reauth',
      'invalid_grant',
      false,
      { name: 'needs_reauth', cause: 'invalid_grant', message: causes.invalid_grant },
    ],
    [
      'needs_reauth',
      'never heard of',
      false,
      { name: 'needs_reauth', cause: 'provider_error', message: causes.provider_error },
    ],
    [
      'needs_reauth',
      'constructor',
      false,
      { name: 'needs_reauth', cause: 'provider_error', message: causes.provider_error },
    ],
    ['blocked_by_policy', 'policy', false, { name: 'blocked_by_policy', cause: 'policy', message: causes.policy }],
    ['needs_reauth', 'invalid_grant', true, { name: 'paused', cause: 'invalid_grant', message: states.paused }],
  ]
  const names = ['active', 'degraded', 'needs_reauth', 'blocked_by_policy', 'paused']
  const begun = new Map<string, Set<string>>()
  for (const [health, cause, paused, expected] of rows) {
    await site.db.query(sql`
      with changed as (update credential set health = ${health}, cause = ${cause}, paused = ${paused} returning id)
      select pg_notify('fairlead_changed', 'credential ' || id) from changed`)
    const [listed] = (await first.call('GET', '/connections')).json.connections
    const { since, ...said } = listed.state
    assert.deepEqual([said, listed.health], [expected, health])
    begun.set(said.name, (begun.get(said.name) ?? new Set()).add(since))
    for (const name of names) {
      const found = (await first.call('GET', `/connections?state=${name}`)).json.connections.length
      assert.equal(found, name === (expected as { name: string }).name ? 1 : 0, `${name} of ${health}`)
    }
    if (paused) continue
    await until(async () => {
      const alone = await site.read(first, id)
      return JSON.stringify(alone.json.state) === JSON.stringify({ ...expected, since })
    })
  }
  // Another cause is not another state.
  assert.deepEqual(
    [...begun].map(([name, times]) => [name, times.size]),
    names.map(name => [name, 1]),
  )
  for (const wrong of ['deleted', 'Active', '']) {
    const refused = await first.call('GET', `/connections?state=${wrong}`)
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_query_params'])
  }
})

test('the documentation has every state, every cause and every warning', async t => {
  const [first] = (await openSite(t)).servers
  const page = await first.call('GET', '/docs/connections')
  assert.equal(page.status, 200)
  for (const code of [...Object.keys(states), ...Object.keys(causes), ...Object.keys(warnings)])
    assert.ok(page.text.includes(`<code>${code}</code>`), code)
})
