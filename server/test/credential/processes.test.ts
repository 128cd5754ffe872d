/** Four real servers on one PostgreSQL, two hundred callers at once on one expired connection: one token request, nobody fails. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
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

const providerTimes = [50, 1_000, 15_000]
const servers = 4
const callers = 200
const key = randomUUID()
const folder = mkdtempSync(join(tmpdir(), 'fairlead-processes-'))
const children: ChildProcess[] = []
const urls: string[] = []
let database: TestDatabase
let simulator: Simulator
/** One that warms the servers up, and for each test one that no server has in memory yet. */
const connectionIds = new Map<string, string>()

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
  simulator = await startSimulator({
    autoApprove: true,
    rotation: true,
    settings: { refreshHoldMs: 0 },
    callbacks: [`${publicUrl}/oauth/callback`],
  })
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
  for (const name of ['warm', ...providerTimes.map(String)]) {
    const session = await call(publicUrl, 'POST', '/connect/sessions', { end_user: { id: name } })
    await walkConsent(`${publicUrl}/oauth/connect/sf?connect_session_token=${session.json.data.token}`)
    const [newest] = (await call(publicUrl, 'GET', '/connections')).json.connections
    connectionIds.set(name, newest.connection_id)
  }
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

/**
 * One caller with an open connection. A socket of its own and bytes made beforehand, because two hundred `fetch`es at once cost the
 * machine, which is the servers' too, some 150 ms.
 */
interface Caller {
  ask(path: string): Promise<{ status: number; body: string; ms: number }>
  close(): void
}

async function openCaller(url: string): Promise<Caller> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname).setNoDelay()
  await once(socket, 'connect')
  let answer = ''
  let answered = Promise.withResolvers<void>()
  socket.setEncoding('utf8').on('data', (text: string) => {
    answer += text
    const [head, body] = answer.split('\r\n\r\n')
    const length = /\r\ncontent-length: *(\d+)/i.exec(head!)?.[1]
    if (body !== undefined && Buffer.byteLength(body) === Number(length)) answered.resolve()
  })
  socket.on('error', error => answered.reject(error))
  socket.on('close', () => answered.reject(new Error('the connection was closed')))
  return {
    async ask(path) {
      answer = ''
      answered = Promise.withResolvers()
      const from = performance.now()
      socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nAuthorization: Bearer ${key}\r\n\r\n`)
      await answered.promise
      return { status: Number(answer.slice(9, 12)), body: answer.split('\r\n\r\n')[1]!, ms: performance.now() - from }
    },
    close: () => void socket.removeAllListeners('close').destroy(),
  }
}

for (const providerMs of providerTimes)
  test(`a token endpoint that takes ${providerMs} ms`, async t => {
    const open = await Promise.all(Array.from({ length: callers }, (_, i) => openCaller(urls[i % servers]!)))
    simulator.control.clearFaults()
    simulator.control.delay({ endpoint: 'token', ms: providerMs, when: 'before', times: 1_000 })
    const presented = simulator.control.counters().grants.refresh_token ?? 0
    const all = (name: string | number) =>
      Promise.all(
        open.map(caller => caller.ask(`/connections/${connectionIds.get(String(name))}?provider_config_key=sf`)),
      )

    // Servers that have been running for a while: what follows measures the renewal, not the compiler.
    for (let round = 0; round < 5; round++) await all('warm')
    await database.db.query(sql`
      update credential set obtained_at = clock_timestamp() - interval '2 hours', expires_at = clock_timestamp() - interval '1 second'
      where id = (select credential_id from connection where connection_id = ${connectionIds.get(String(providerMs))})`)
    const answers = await all(providerMs)
    assert.deepEqual(
      answers.filter(({ status }) => status !== 200).map(({ body }) => body),
      [],
    )
    assert.equal(new Set(answers.map(({ body }) => JSON.parse(body).credentials.access_token)).size, 1)
    const counters = simulator.control.counters()
    assert.equal((counters.grants.refresh_token ?? 0) - presented, 1, 'token requests')
    assert.equal(counters.familyRevocations, 0)

    const alive = await all(providerMs)
    for (const caller of open) caller.close()
    const p99 = (of: { ms: number }[]) => of.map(({ ms }) => ms).sort((a, b) => a - b)[Math.ceil(callers * 0.99) - 1]!
    t.diagnostic(
      `p99 ${Math.round(p99(answers))} ms: ${Math.round(p99(answers) - providerMs)} ms beyond the provider; ` +
        `the same ${callers} calls with a live token: p99 ${Math.round(p99(alive))} ms`,
    )
  })
