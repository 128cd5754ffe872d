/**
 * Two servers on one PostgreSQL, each restarted in turn under load: `node bench/restart.ts [--rate N] [--restarts N] [--answer MS]`. The client is a
 * load balancer: it asks /ready every half second, keeps its connections, moves on when a connection is refused, and repeats nothing.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
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
import { quantile } from './load.ts'
import { freePort, type Process, start } from './processes.ts'
import { apiOf } from './site.ts'

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '200' },
    restarts: { type: 'string', default: '4' },
    /** How long the provider takes at the most. With short answers a stop finds nothing under way, and callers unaware. */
    answer: { type: 'string', default: '5' },
  },
})
const rate = Number(values.rate)
const restarts = Number(values.restarts)
const answerMs = Number(values.answer)
const closers: (() => Promise<unknown>)[] = []

interface Server {
  port: number
  process: Process
  isReady: boolean
  agent: Agent
}

try {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  closers.push(async () => rmSync(folder, { recursive: true, force: true }))
  const quiet = { debug() {}, info() {}, warn: console.error, error: console.error }
  const embedded = await startEmbedded({ dataDir: folder, log: quiet })
  closers.push(embedded.stop)
  const { host, port: pgPort, user, database } = embedded.connection
  const databaseUrl = `postgresql://${user}@localhost/${database}?host=${encodeURIComponent(host)}&port=${pgPort}`

  const upstream = createServer((req, res) => {
    req.resume()
    setTimeout(() => res.end(`{"path":"${req.url}"}`), Math.random() * answerMs)
  }).listen(0, '127.0.0.1')
  closers.push(async () => upstream.close().closeAllConnections())
  await once(upstream, 'listening')
  const upstreamUrl = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`

  const key = randomUUID()
  const ports = [await freePort(), await freePort()]
  const url = `http://127.0.0.1:${ports[0]}`
  const simulator = await startSimulator({ autoApprove: true, callbacks: [`${url}/oauth/callback`] })
  closers.push(simulator.close)
  const providers = join(folder, 'providers.yaml')
  writeFileSync(
    providers,
    `${sandboxOverlay(simulator.base('test'), ['127.0.0.1'])}  proxy: { base_url: '${upstreamUrl}' }\n`,
  )
  const encryptionKey = randomBytes(32).toString('base64')
  const started = (port: number) =>
    start(process.execPath, [join(import.meta.dirname, '../server/src/main.ts')], port, {
      PATH: process.env.PATH,
      PORT: String(port),
      FAIRLEAD_URL: url,
      FAIRLEAD_DATA_DIR: join(folder, String(port)),
      DATABASE_URL: databaseUrl,
      FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
      FAIRLEAD_SECRET_KEY_DEV: key,
      FAIRLEAD_PROVIDERS: providers,
      FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
      LOG_LEVEL: 'error',
    })
  const servers: Server[] = []
  for (const port of ports) {
    const agent = new Agent({ keepAlive: true, maxSockets: 256 })
    servers.push({ port, process: await started(port), isReady: true, agent })
  }
  closers.push(() => Promise.all(servers.map(server => server.process.stop())))

  const call = apiOf(url, key)
  const { clientId, clientSecret } = simulator.app('acme--uat')
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  await call('POST', '/integrations', { provider: 'salesforce-sandbox', unique_key: 'sf', credentials })
  const session = await call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
  await walkConsent(`${url}/oauth/connect/sf?connect_session_token=${session.data.token}`)
  const connectionId = (await call('GET', '/connections')).connections[0]!.connection_id

  const headers = { Authorization: `Bearer ${key}`, 'Provider-Config-Key': 'sf', 'Connection-Id': connectionId }
  const answers = new Map<string, number>()
  const count = (what: string): void => void answers.set(what, (answers.get(what) ?? 0) + 1)
  const latencies: number[] = []
  let serial = 0

  const ask = ({ port, agent }: Server, method: string, path: string): Promise<string> =>
    new Promise(resolve => {
      const sent = { hostname: '127.0.0.1', port, method, path, headers, agent }
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

  /** Every second one is a POST, which no balancer may repeat; every tenth asks the API, not the proxy. */
  async function one(): Promise<void> {
    const nth = serial++
    const method = nth % 2 === 0 ? 'GET' : 'POST'
    const isApi = nth % 10 === 0
    const path = isApi ? `/connections/${connectionId}?provider_config_key=sf` : `/proxy/n${nth}`
    const from = performance.now()
    const ready = servers.filter(server => server.isReady)
    const order = ready.length === 2 && nth % 4 > 1 ? ready.reverse() : ready
    for (const server of order) {
      const said = await ask(server, method, path)
      if (said === 'ECONNREFUSED') {
        server.isReady = false
        count('moved on')
        continue
      }
      latencies.push(performance.now() - from)
      const isRight = isApi ? said.includes(connectionId) : said === `{"path":"/n${nth}"}`
      return count(isRight ? 'ok' : `failed: ${said.slice(0, 120)}`)
    }
    count('failed: nobody is ready')
  }

  let isOver = false
  const watching = (async () => {
    while (!isOver) {
      for (const server of servers) server.isReady = (await ask(server, 'GET', '/ready')).startsWith('{')
      await sleep(500)
    }
  })()
  const running = new Set<Promise<void>>()
  const loading = (async () => {
    const from = performance.now()
    for (let sent = 0; !isOver; await sleep(5))
      for (; sent < ((performance.now() - from) / 1000) * rate; sent++) {
        const call = one().finally(() => running.delete(call))
        running.add(call)
      }
  })()

  const stops: number[] = []
  await sleep(3_000)
  for (let n = 0; n < restarts; n++) {
    const server = servers[n % 2]!
    const from = performance.now()
    await server.process.stop()
    stops.push(performance.now() - from)
    server.process = await started(server.port)
    await sleep(3_000)
  }
  isOver = true
  await Promise.all([watching, loading])
  await Promise.all(running)
  const sorted = Float64Array.from(latencies).sort()
  const summary = {
    requests: serial,
    failed: [...answers].reduce((sum, [what, times]) => sum + (what.startsWith('failed') ? times : 0), 0),
    'moved on': answers.get('moved on') ?? 0,
    restarts,
    'stop took ms': stops.map(ms => Math.round(ms)).join(' '),
    'p50 ms': Number(quantile(sorted, 0.5).toFixed(1)),
    'p99 ms': Number(quantile(sorted, 0.99).toFixed(1)),
  }
  console.table(summary)
  console.log(Object.fromEntries(answers))
  console.log(JSON.stringify({ bench: 'restart', summary }))
  if (summary.failed > 0) process.exitCode = 1
} finally {
  for (const close of closers.reverse()) await close()
}
