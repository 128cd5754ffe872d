/** Four real servers on one PostgreSQL, two hundred callers at once on one expired connection: one token request, nobody fails. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { walkConsent } from '../../../demo/consent.ts'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { freePort, request } from '../support/fairlead.ts'

const servers = 4
const callers = 200
const key = randomUUID()
const folder = mkdtempSync(join(tmpdir(), 'fairlead-processes-'))
const children: ChildProcess[] = []
const urls: string[] = []
let database: TestDatabase
let simulator: Simulator
let connectionId: string

const call = (url: string, method: string, path: string, body?: unknown) =>
  request(`${url}${path}`, {
    method,
    headers: { Authorization: `Bearer ${key}`, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })

before(async () => {
  database = await testDatabase()
  const ports = await Promise.all(Array.from({ length: servers }, freePort))
  const publicUrl = `http://127.0.0.1:${ports[0]}`
  simulator = await startSimulator({ autoApprove: true, rotation: true, callbacks: [`${publicUrl}/oauth/callback`] })
  const providers = join(folder, 'providers.yaml')
  writeFileSync(providers, sandboxOverlay(simulator.base('test'), ['127.0.0.1']))
  const encryptionKey = randomBytes(32).toString('base64')
  for (const port of ports) {
    urls.push(`http://127.0.0.1:${port}`)
    const child = spawn(process.execPath, [join(import.meta.dirname, '../../src/main.ts')], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        PATH: process.env.PATH,
        PORT: String(port),
        FAIRLEAD_URL: publicUrl,
        FAIRLEAD_DATA_DIR: join(folder, String(port)),
        DATABASE_URL: database.url,
        FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
        FAIRLEAD_SECRET_KEY_DEV: key,
        FAIRLEAD_PROVIDERS: providers,
        FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
        LOG_LEVEL: 'error',
      },
    })
    children.push(child)
  }
  for (const url of urls)
    await until(() =>
      request(`${url}/ready`)
        .then(answer => answer.status === 200)
        .catch(() => false),
    )

  const { clientId, clientSecret } = simulator.app('acme--uat')
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  await call(publicUrl, 'POST', '/integrations', { provider: 'salesforce-sandbox', unique_key: 'sf', credentials })
  const session = await call(publicUrl, 'POST', '/connect/sessions', { end_user: { id: 'ada' } })
  await walkConsent(`${publicUrl}/oauth/connect/sf?connect_session_token=${session.json.data.token}`)
  connectionId = (await call(publicUrl, 'GET', '/connections')).json.connections[0].connection_id
})

after(async () => {
  await Promise.all(
    children.map(child => {
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      return ended
    }),
  )
  await simulator.close()
  rmSync(folder, { recursive: true })
})

for (const providerMs of [50, 1_000, 15_000])
  test(`a token endpoint that takes ${providerMs} ms`, async t => {
    // Nobody has it in a cache that is older than this.
    await database.db.query(sql`
      with aged as (
        update credential set obtained_at = clock_timestamp() - interval '2 hours', expires_at = clock_timestamp() - interval '1 second'
        returning id)
      select pg_notify('fairlead_changed', 'credential ' || id) from aged`)
    // Warm connections, as a caller of long standing has them; this path touches no credential.
    await Promise.all(urls.flatMap(url => Array.from({ length: callers / servers }, () => request(`${url}/health`))))
    simulator.control.clearFaults()
    simulator.control.delay({ endpoint: 'token', ms: providerMs, when: 'before', times: 1_000 })
    const presented = simulator.control.counters().grants.refresh_token ?? 0

    const path = `/connections/${connectionId}?provider_config_key=sf`
    const took: number[] = []
    const answers = await Promise.all(
      Array.from({ length: callers }, async (_, i) => {
        const from = performance.now()
        const answer = await call(urls[i % servers]!, 'GET', path)
        took.push(performance.now() - from)
        return answer
      }),
    )
    assert.deepEqual(
      answers.filter(answer => answer.status !== 200).map(answer => answer.text),
      [],
    )
    assert.equal(new Set(answers.map(answer => answer.json.credentials.access_token)).size, 1)
    const counters = simulator.control.counters()
    assert.equal((counters.grants.refresh_token ?? 0) - presented, 1, 'token requests')
    assert.equal(counters.familyRevocations, 0)
    took.sort((a, b) => a - b)
    const p99 = took[Math.ceil(took.length * 0.99) - 1]!
    t.diagnostic(
      `p50 ${Math.round(took[took.length / 2]!)} ms, p99 ${Math.round(p99)} ms: ${Math.round(p99 - providerMs)} ms beyond the provider`,
    )
  })
