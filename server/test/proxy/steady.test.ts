/** The steady state, counted: ten thousand calls are ten thousand calls at the provider, and nothing else anywhere. */
import assert from 'node:assert/strict'
import { Agent, request as httpRequest } from 'node:http'
import { test } from 'node:test'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { walkConsent } from '../../../demo/consent.ts'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { startFairlead } from '../support/fairlead.ts'

const calls = 10_000
const atOnce = 32

test(`${calls} proxied calls cost ${calls} API calls, one introspection, no refresh and no SQL`, async t => {
  const simulator = await startSimulator({ autoApprove: true })
  t.after(() => simulator.close())
  const fairlead = await startFairlead(t, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
  const { clientId, clientSecret } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.url}/oauth/callback`] })
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  await fairlead.call('POST', '/integrations', { provider: 'salesforce-sandbox', unique_key: 'sf', credentials })
  const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
  await walkConsent(`${fairlead.url}/oauth/connect/sf?connect_session_token=${session.json.data.token}`)
  const id = (await fairlead.call('GET', '/connections')).json.connections[0].connection_id

  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  t.after(async () => agent.destroy())
  const call = () =>
    new Promise<number>((resolve, reject) => {
      const headers = { Authorization: `Bearer ${fairlead.key}`, 'Provider-Config-Key': 'sf', 'Connection-Id': id }
      httpRequest(`${fairlead.url}/proxy/services/data`, { agent, headers }, answer => {
        answer.resume().on('end', () => resolve(answer.statusCode ?? 0))
      })
        .on('error', reject)
        .end()
    })

  // Warm: the lifetime is learned, caller and connection are known, and what that changed has been heard of.
  await until(async () => {
    assert.equal(await call(), 200)
    const { expires_at: ends } = (await fairlead.call('GET', `/connections/${id}?provider_config_key=sf`)).json
      .credentials
    return ends !== undefined
  })
  assert.equal(await call(), 200)

  const watcher = await openDb({ url: fairlead.databaseUrl })
  t.after(() => watcher.close())
  // What a backend did is counted by the time it answers its next statement, so the watcher's own few are in it.
  const statements = async () => {
    await watcher.db.query(sql`select pg_stat_force_next_flush()`)
    const [row] = await watcher.db.query<{ xact_commit: number }>(
      sql`select xact_commit from pg_stat_database where datname = current_database()`,
    )
    return row!.xact_commit
  }
  simulator.control.clearRequests()
  const { grants, requests } = simulator.control.counters()
  const introspected = requests.introspect ?? 0
  const refreshed = grants.refresh_token ?? 0
  const before = await statements()
  const answered = new Map<number, number>()
  let left = calls
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) {
        const status = await call()
        answered.set(status, (answered.get(status) ?? 0) + 1)
      }
    }),
  )
  const ran = (await statements()) - before
  const after = simulator.control.counters()
  const arrived = Object.values(after.requests).reduce((sum, n) => sum + n, 0)
  const arrivedBefore = Object.values(requests).reduce((sum, n) => sum + n, 0)
  assert.deepEqual([...answered], [[200, calls]])
  assert.equal(arrived - arrivedBefore, calls, 'requests at the provider')
  assert.equal((after.requests.introspect ?? 0) - introspected, 0)
  assert.ok(introspected <= 1, `${introspected} introspections for one token`)
  assert.equal((after.grants.refresh_token ?? 0) - refreshed, 0)
  // Backends report late, so some of what the connect flow ran is in it; sweeps and the job queue look every few seconds, and activity is
  // one transaction per 500 calls and one a second, on each server. Anything per call would be ten thousand.
  assert.ok(ran < calls / 10, `${ran} transactions for ${calls} calls`)
  t.diagnostic(`${ran} transactions`)
})
