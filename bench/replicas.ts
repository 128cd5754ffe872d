/**
 * Identical servers on one PostgreSQL behind a plain round-robin proxy, while something goes wrong:
 * `node bench/replicas.ts [--scenario rolling|outage] [--servers N] [--rate N] [--answer MS] [--outage SECONDS]`.
 *
 * rolling: each server is restarted in turn. outage: PostgreSQL is stopped and started again, then killed. All the while, per second: `rate`
 * proxied calls (every second one a POST, which no balancer may repeat) and API reads, two forced renewals, one whole sign-in with its
 * webhook. Behind PgBouncer in transaction mode when it is installed, LISTEN and migrations beside it.
 */
import { spawnSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { walkConsent } from '../demo/consent.ts'
import { sandboxOverlay } from '../demo/overlay.ts'
import { startEmbedded } from '../server/src/db/embedded.ts'
import { openDb } from '../server/src/db/open.ts'
import { startBalancer } from './balancer.ts'
import { quantile } from './load.ts'
import { freePort, type Process, start } from './processes.ts'
import { apiOf } from './site.ts'

const { values } = parseArgs({
  options: {
    scenario: { type: 'string', default: 'rolling' },
    servers: { type: 'string', default: '3' },
    rate: { type: 'string', default: '300' },
    /** How long the provider takes at the most. With short answers a stop finds nothing under way, and callers unaware. */
    answer: { type: 'string', default: '5' },
    outage: { type: 'string', default: '30' },
  },
})
const isOutage = values.scenario === 'outage'
const rate = Number(values.rate)
const answerMs = Number(values.answer)
const closers: (() => unknown)[] = []
const warm = 20

try {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  closers.push(() => rmSync(folder, { recursive: true, force: true }))
  const quiet = { debug() {}, info() {}, warn() {}, error() {} }
  let embedded = await startEmbedded({ dataDir: folder, log: quiet })
  closers.push(() => embedded.stop())
  const { host, port: pgPort, user, database } = embedded.connection
  const directUrl = `postgresql://${user}@localhost/${database}?host=${encodeURIComponent(host)}&port=${pgPort}`
  const pooled = await startPooler(folder, `host=${host} port=${pgPort} dbname=${database} user=${user}`)
  if (pooled) closers.push(() => pooled.process.stop())

  const upstream = createServer((req, res) => {
    req.resume()
    setTimeout(() => res.end(`{"path":"${req.url}"}`), Math.random() * answerMs)
  }).listen(0, '127.0.0.1')
  closers.push(() => upstream.close().closeAllConnections())
  await once(upstream, 'listening')
  const upstreamUrl = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`

  /** Connection ids of the webhooks that arrived. */
  const told = new Set<string>()
  const hook = createServer(async (req, res) => {
    let body = ''
    for await (const piece of req.setEncoding('utf8')) body += piece
    told.add(JSON.parse(body).connectionId)
    res.writeHead(204).end()
  }).listen(0, '127.0.0.1')
  closers.push(() => hook.close().closeAllConnections())
  await once(hook, 'listening')

  const balancer = await startBalancer()
  closers.push(balancer.stop)
  const { url } = balancer
  const key = randomUUID()
  const simulator = await startSimulator({
    autoApprove: true,
    callbacks: [`${url}/oauth/callback`],
    settings: { refreshHoldMs: 0, maxApprovals: 1_000_000 },
  })
  closers.push(simulator.close)
  const providers = join(folder, 'providers.yaml')
  writeFileSync(
    providers,
    `${sandboxOverlay(simulator.base('test'), ['127.0.0.1'])}  proxy: { base_url: '${upstreamUrl}' }\n`,
  )
  const encryptionKey = randomBytes(32).toString('base64')
  const started = (port: number): Promise<Process> =>
    start(process.execPath, [join(import.meta.dirname, '../server/src/main.ts')], port, {
      PATH: process.env.PATH,
      PORT: String(port),
      FAIRLEAD_URL: url,
      FAIRLEAD_DATA_DIR: join(folder, String(port)),
      DATABASE_URL: pooled?.url ?? directUrl,
      ...(pooled && { FAIRLEAD_DATABASE_DIRECT_URL: directUrl }),
      FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
      FAIRLEAD_SECRET_KEY_DEV: key,
      FAIRLEAD_PROVIDERS: providers,
      FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
      LOG_LEVEL: isOutage ? 'fatal' : 'error',
    })
  const ports = await Promise.all(Array.from({ length: Number(values.servers) }, freePort))
  const servers: { port: number; process: Process }[] = []
  for (const port of ports) servers.push({ port, process: await started(port) })
  closers.push(() => Promise.all(servers.map(server => server.process.stop())))
  balancer.serve(ports)

  const call = apiOf(url, key)
  const { clientId, clientSecret } = simulator.app('acme--uat')
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  await call('POST', '/integrations', { provider: 'salesforce-sandbox', unique_key: 'sf', credentials })
  await call('PATCH', '/environment/settings', {
    webhook_url: `http://127.0.0.1:${(hook.address() as AddressInfo).port}/`,
  })
  const connect = async (endUser: string): Promise<void> => {
    const session = await call('POST', '/connect/sessions', { end_user: { id: endUser } })
    await walkConsent(`${url}/oauth/connect/sf?connect_session_token=${session.data.token}`)
  }
  for (let n = 0; n < warm; n++) await connect(`warm-${n}`)
  const ids = (await call('GET', '/connections')).connections.map(
    (one: { connection_id: string }) => one.connection_id,
  ) as string[]

  const agent = new Agent({ keepAlive: true, maxSockets: 512 })
  closers.push(() => agent.destroy())
  const ask = (method: string, path: string, id: string): Promise<string> =>
    new Promise(resolve => {
      const headers = { Authorization: `Bearer ${key}`, 'Provider-Config-Key': 'sf', 'Connection-Id': id }
      const sent = { host: '127.0.0.1', port: new URL(url).port, method, path, headers, agent }
      const req = request(sent, res => {
        let text = ''
        res.setEncoding('utf8').on('data', piece => {
          text += piece
        })
        res.on('end', () => resolve(res.statusCode === 200 ? text : `${res.statusCode} ${text}`))
        res.on('error', error => resolve(`cut: ${(error as NodeJS.ErrnoException).code}`))
      })
      req.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
      req.end(method === 'POST' ? '{}' : undefined)
    })
  // Every server has seen every connection: what follows is about warm ones.
  for (let n = 0; n < warm * ports.length * 2; n++) await ask('GET', '/proxy/warm', ids[n % warm]!)

  const failures = new Map<string, number>()
  const counts = {
    calls: 0,
    failed: 0,
    reads: 0,
    readsFailed: 0,
    renewals: 0,
    renewalsFailed: 0,
    connects: 0,
    connectsFailed: 0,
  }
  const fail = (what: string, said: string): void => {
    const line = `${what}: ${said.replace(/"(id|request_id)":"[^"]*"/g, '').slice(0, 110)}`
    failures.set(line, (failures.get(line) ?? 0) + 1)
  }
  const latencies: number[] = []
  const running = new Set<Promise<void>>()
  const run = (work: Promise<void>): void => {
    const ended = work.finally(() => running.delete(ended))
    running.add(ended)
  }

  async function one(nth: number): Promise<void> {
    const id = ids[nth % warm]!
    const isRead = nth % 10 === 0
    const from = performance.now()
    const said = isRead
      ? await ask('GET', `/connections/${id}?provider_config_key=sf`, id)
      : await ask(nth % 2 === 0 ? 'GET' : 'POST', `/proxy/n${nth}`, id)
    const isRight = isRead ? said.includes(id) : said === `{"path":"/n${nth}"}`
    if (isRead) {
      counts.reads++
      if (!isRight) counts.readsFailed++
    } else {
      counts.calls++
      latencies.push(performance.now() - from)
      if (!isRight) counts.failed++
    }
    if (!isRight) fail(isRead ? 'read' : 'call', said)
  }
  async function renew(nth: number): Promise<void> {
    const id = ids[nth % warm]!
    const said = await ask('GET', `/connections/${id}?provider_config_key=sf&force_refresh=true`, id)
    counts.renewals++
    if (said.includes(id)) return
    counts.renewalsFailed++
    fail('renewal', said)
  }
  async function signIn(nth: number): Promise<void> {
    counts.connects++
    try {
      await connect(`new-${nth}`)
    } catch (error) {
      counts.connectsFailed++
      fail('sign-in', String(error))
    }
  }

  const issuedBefore = simulator.control.counters().issued.refresh_token ?? 0
  let isOver = false
  const loading = (async () => {
    const from = performance.now()
    const sent = { calls: 0, renewals: 0, connects: 0 }
    for (; !isOver; await sleep(5)) {
      const seconds = (performance.now() - from) / 1000
      while (sent.calls < seconds * rate) run(one(sent.calls++))
      while (sent.renewals < seconds * 2) run(renew(sent.renewals++))
      while (sent.connects < seconds) run(signIn(sent.connects++))
    }
  })()

  await sleep(3_000)
  const phases: string[] = []
  const phase = async (name: string, work: () => Promise<unknown>) => {
    const from = performance.now()
    await work()
    phases.push(`${name} ${((performance.now() - from) / 1000).toFixed(1)} s`)
  }
  if (isOutage) {
    await phase('stopped for', async () => {
      await embedded.stop()
      await sleep(Number(values.outage) * 1000)
      embedded = await startEmbedded({ dataDir: folder, log: quiet })
    })
    await sleep(10_000)
    await phase('killed, answers again after', async () => {
      const [pid] = readFileSync(join(folder, 'postgres', 'postmaster.pid'), 'utf8').split('\n')
      // Whoever started it starts it again.
      process.kill(Number(pid), 'SIGKILL')
      const { close } = await openDb({ url: directUrl, startTimeoutMs: 60_000 })
      await close()
    })
    await sleep(10_000)
  } else
    for (const server of servers) {
      await phase('restart', async () => {
        await server.process.stop()
        server.process = await started(server.port)
      })
      await sleep(3_000)
    }
  isOver = true
  await loading
  await Promise.all(running)

  // Everything recovers by itself: each connection is active and answers, each sign-in that was told to have succeeded has its webhook.
  const all: string[] = []
  for (let page = 0; ; page++) {
    const { connections } = await call('GET', `/connections?limit=100&page=${page}`)
    all.push(...connections.map(one => one.connection_id))
    if (connections.length < 100) break
  }
  const active = (await call('GET', '/connections?state=active&limit=1000')).connections.length
  const giveUp = performance.now() + 60_000
  const untold = () => all.filter(id => !told.has(id)).length
  while (untold() > 0 && performance.now() < giveUp) await sleep(200)
  let unwell = 0
  for (const id of all) if (!(await ask('GET', '/proxy/last', id)).startsWith('{"path"')) unwell++

  const issued = (simulator.control.counters().issued.refresh_token ?? 0) - issuedBefore
  const sorted = Float64Array.from(latencies).sort()
  const summary = {
    scenario: values.scenario,
    pooler: pooled ? 'PgBouncer, transaction mode' : 'none',
    servers: servers.length,
    'calls of warm connections': counts.calls,
    failed: counts.failed,
    'reads failed': `${counts.readsFailed} of ${counts.reads}`,
    'renewals failed': `${counts.renewalsFailed} of ${counts.renewals}`,
    'token requests beyond those asked for': Math.max(0, issued - counts.renewals),
    'families revoked': simulator.control.counters().familyRevocations,
    'sign-ins failed': `${counts.connectsFailed} of ${counts.connects}`,
    'webhooks lost': untold(),
    'connections that do not answer at the end': unwell,
    'not active at the end': all.length - active,
    phases: phases.join(', '),
    'p50 ms': Number(quantile(sorted, 0.5).toFixed(1)),
    'p99 ms': Number(quantile(sorted, 0.99).toFixed(1)),
  }
  console.table(summary)
  console.log(Object.fromEntries(failures))
  console.log(JSON.stringify({ bench: 'replicas', summary }))
  const budget = isOutage ? counts.calls / 1000 : 0
  const others = isOutage ? 0 : counts.readsFailed + counts.renewalsFailed + counts.connectsFailed
  if (counts.failed > budget || others + untold() + unwell > 0) process.exitCode = 1
} finally {
  for (const close of closers.reverse()) await close()
}

/** PgBouncer, like PostgreSQL, refuses root: it is run in a user namespace in which root is called nobody, as the embedded server is. */
async function startPooler(folder: string, target: string): Promise<{ url: string; process: Process } | undefined> {
  if (spawnSync('pgbouncer', ['--version']).status !== 0) return undefined
  const port = await freePort()
  const file = join(folder, 'pgbouncer.ini')
  writeFileSync(
    file,
    `[databases]
fairlead = ${target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
max_client_conn = 500
server_login_retry = 1
logfile = ${join(folder, 'pgbouncer.log')}
`,
  )
  const asNobody = process.getuid?.() === 0 ? ['unshare', '--user', '--map-user=65534', '--map-group=65534'] : []
  const [command = '', ...args] = [...asNobody, 'pgbouncer', '-q', file]
  return { url: `postgresql://fairlead@127.0.0.1:${port}/fairlead`, process: await start(command, args, port) }
}
