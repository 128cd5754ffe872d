/** The same over HTTP: what a caller sees of a renewal, and two whole servers on one database. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { sql } from '../../src/db/sql.ts'
import type { Db } from '../../src/seams.ts'
import { until } from '../db/until.ts'
import { testDatabase } from '../support/database.ts'
import { Browser, type Fairlead, startFairlead } from '../support/fairlead.ts'
import { sandbox, simulatorOverlay } from './support/room.ts'

type Test = { after(work: () => Promise<void>): void }

interface Site {
  simulator: Simulator
  db: Db
  servers: Fairlead[]
  connectionId: string
  read(server: Fairlead, query?: string): ReturnType<Fairlead['call']>
  proxied(server: Fairlead): ReturnType<Fairlead['call']>
  presented(): number
  /** The access token ends, here and at the provider. No server has it in memory yet, so none need hear of it. */
  expire(): Promise<void>
}

/** Servers on one database and one connection made through the real flow. */
async function openSite(t: Test, { servers = 1, rotation = false } = {}): Promise<Site> {
  const simulator = await startSimulator({ autoApprove: true })
  t.after(() => simulator.close())
  const { db, url } = await testDatabase()
  const env = {
    DATABASE_URL: url,
    FAIRLEAD_ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    FAIRLEAD_SECRET_KEY_DEV: '0f0e0d0c-0b0a-4908-8706-050403020100',
  }
  const started: Fairlead[] = []
  for (let n = 0; n < servers; n++) {
    const server = await startFairlead(t, { env, providers: simulatorOverlay(simulator) })
    const key = env.FAIRLEAD_SECRET_KEY_DEV
    const call: Fairlead['call'] = (method, path, body, headers) =>
      server.call(method, path, body, { Authorization: `Bearer ${key}`, ...headers })
    started.push({ ...server, key, call })
  }
  const [first] = started as [Fairlead]
  const { clientId, clientSecret } = simulator.app(sandbox)
  simulator.control.setApp({ clientId, rotation, callbacks: [`${first.app.url}/oauth/callback`] })
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  const made = await first.call('POST', '/integrations', {
    provider: 'salesforce-sandbox',
    unique_key: 'sf',
    credentials,
  })
  assert.equal(made.status, 200, made.text)
  const session = await first.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
  const page = await new Browser().follow(
    `${first.app.url}/oauth/connect/sf?connect_session_token=${session.json.data.token}`,
  )
  assert.equal(page.status, 200, page.text)
  const listed = await first.call('GET', '/connections')
  const connectionId: string = listed.json.connections[0].connection_id
  await until(async () => {
    const [row] = await db.query<{ expires_at: Date | null }>(sql`select expires_at from credential`)
    return row?.expires_at != null
  })
  const read = (server: Fairlead, query = '') =>
    server.call('GET', `/connections/${connectionId}?provider_config_key=sf${query}`)
  return {
    simulator,
    db,
    servers: started,
    connectionId,
    read,
    proxied: server =>
      server.call('GET', '/proxy/services/data/v66.0/limits', undefined, {
        'Provider-Config-Key': 'sf',
        'Connection-Id': connectionId,
      }),
    presented: () => simulator.control.counters().grants.refresh_token ?? 0,
    async expire() {
      simulator.control.expireAccessTokens()
      await db.query(sql`
        update credential set obtained_at = clock_timestamp() - interval '2 hours',
          expires_at = clock_timestamp() - interval '1 second'`)
    },
  }
}

test('twenty callers on each of two servers, one ended token, a slow provider: one token request, one new token', async t => {
  const site = await openSite(t, { servers: 2, rotation: true })
  const old = site.simulator.control.state().sessions[0]?.token
  await site.expire()
  site.simulator.control.delay({ endpoint: 'token', ms: 700, when: 'before', times: 99 })
  const answers = await Promise.all(
    site.servers.flatMap(server =>
      Array.from({ length: 20 }, (_, i) => (i % 2 ? site.read(server) : site.proxied(server))),
    ),
  )
  assert.deepEqual(new Set(answers.map(answer => answer.status)), new Set([200]))
  const tokens = new Set(answers.flatMap(answer => answer.json.credentials?.access_token ?? []))
  assert.equal(tokens.size, 1)
  assert.ok(old && !tokens.has(old))
  assert.equal(site.presented(), 1)
  const { alreadyProcessing, familyRevocations } = site.simulator.control.counters()
  assert.deepEqual([alreadyProcessing, familyRevocations], [0, 0])
  for (const server of site.servers) assert.ok(![...tokens].some(token => server.log().includes(token)))
})

test('a token that ended while the provider is away answers 424 with Retry-After, and the connection is kept', async t => {
  const site = await openSite(t)
  const [server] = site.servers as [Fairlead]
  await site.expire()
  site.simulator.control.fail({ endpoint: 'token', status: 429, body: '' })
  for (const answer of [await site.read(server), await site.proxied(server)]) {
    assert.equal(answer.status, 424, answer.text)
    assert.equal(answer.json.error.code, 'refresh_unavailable')
    assert.equal(answer.headers.get('fairlead-error'), 'refresh_unavailable')
    assert.match(answer.headers.get('retry-after') ?? '', /^[1-5]$/)
  }
  const listed = await server.call('GET', '/connections')
  assert.equal(listed.json.connections[0].health, 'active')
  assert.equal(site.presented(), 1)
})

test('an approval withdrawn at the provider answers 400 invalid_credentials, on every server, asked once', async t => {
  const site = await openSite(t, { servers: 2 })
  await site.expire()
  site.simulator.control.revokeRefreshTokens()
  for (const server of [...site.servers, ...site.servers]) {
    for (const answer of [await site.read(server), await site.proxied(server)]) {
      assert.equal(answer.status, 400, answer.text)
      assert.deepEqual(
        [answer.json.error.code, answer.json.error.payload],
        ['invalid_credentials', { cause: 'invalid_grant' }],
      )
    }
    assert.equal((await server.call('GET', '/connections')).json.connections[0].health, 'needs_reauth')
  }
  assert.equal(site.presented(), 1)
})

test('doubt shows in the health of the connection at once, and the token goes on serving', async t => {
  const site = await openSite(t, { rotation: true })
  const [server] = site.servers as [Fairlead]
  site.simulator.control.drop({ endpoint: 'token', when: 'after' })
  const forced = await site.read(server, '&force_refresh=true')
  assert.deepEqual([forced.status, forced.json.error?.code], [424, 'refresh_unavailable'])
  await until(async () => (await site.read(server)).json.health === 'degraded')
  assert.equal((await site.proxied(server)).status, 200)
  assert.equal(site.presented(), 1)
  assert.equal(site.simulator.control.counters().familyRevocations, 0)
})
