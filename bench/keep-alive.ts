/**
 * A million connections nobody uses (`--connections N` for fewer), on the embedded database with the durability it ships with and one
 * real server in a process of its own. Prints: the scan for what is due, how evenly the turns lie, what the server's memory grows by, how fast
 * a backlog drains under the caps, and what callers notice of that. The provider is a token endpoint here on loopback that answers
 * after 100 ms, at four hosts.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { openKeyedHash } from '../server/src/account/pepper.ts'
import { giveTurns, takeDue } from '../server/src/credential/keep-alive/store.ts'
import { defaultPace } from '../server/src/credential/keep-alive.ts'
import { fingerprint } from '../server/src/credential/store.ts'
import { startEmbedded } from '../server/src/db/embedded.ts'
import { openDb } from '../server/src/db/open.ts'
import { type Sql, sql } from '../server/src/db/sql.ts'
import { newId } from '../server/src/lib/id.ts'
import { Secret } from '../server/src/lib/secret.ts'
import type { Db } from '../server/src/seams.ts'
import { vaultOf } from './vault.ts'

const { values } = parseArgs({
  options: { connections: { type: 'string', default: '1000000' }, minutes: { type: 'string', default: '3' } },
  allowPositionals: true,
})
const connections = Number(values.connections)
/** How long the backlog is watched. */
const watchMinutes = Number(values.minutes)
const overdue = Math.min(100_000, Math.floor(connections / 10))
const interactive = Math.min(1_000, Math.floor(connections / 10))
const answerMs = 100
const idleLimitDays = 30

const say = (text: string) => void process.stdout.write(`${text}\n`)
const line = (what: string, figure: string, goal = '') =>
  say(`  ${what.padEnd(58)} ${figure}${goal && `   (goal ${goal})`}`)
const closers: (() => Promise<unknown>)[] = []
const percentile = (sorted: number[], p: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]!
const spread = (durations: number[]) => {
  const sorted = durations.toSorted((a, b) => a - b)
  return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) }
}
const ms = (n: number) => `${n.toFixed(n < 10 ? 1 : 0)} ms`

// ── The provider ────────────────────────────────────────────────────────────────────────────────────────────────

const atProvider = { now: 0, most: 0, answered: 0 }

/** Each host is an origin of its own: 127.0.0.1 to 127.0.0.4, all of it loopback. */
const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4']

async function startProvider(host: string, port = 0): Promise<number> {
  const server = createServer((req, res) => {
    req.resume()
    atProvider.most = Math.max(atProvider.most, ++atProvider.now)
    setTimeout(() => {
      atProvider.now--
      atProvider.answered++
      const tokens = { access_token: newId(), refresh_token: newId(), token_type: 'Bearer', expires_in: 7200 }
      res.setHeader('Content-Type', 'application/json').end(JSON.stringify(tokens))
    }, answerMs)
  })
  server.listen(port, host)
  await once(server, 'listening')
  closers.push(async () => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

// ── The server ──────────────────────────────────────────────────────────────────────────────────────────────────

interface Running {
  child: ChildProcess
  url: string
  rss(): Promise<number>
  stop(): Promise<void>
}

async function startServer(env: Record<string, string>): Promise<Running> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../server/src/main.ts')], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { PATH: process.env.PATH!, LOG_LEVEL: 'warn', ...env },
  })
  const url = env.FAIRLEAD_URL!
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGTERM')
    await exited
  }
  closers.push(stop)
  for (const giveUp = performance.now() + 30_000; ; ) {
    const ready = await fetch(`${url}/ready`).then(
      answer => answer.ok,
      () => false,
    )
    if (ready) break
    if (performance.now() > giveUp) throw new Error('the server did not become ready')
    await sleep(20)
  }
  return {
    child,
    url,
    async rss() {
      const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
      return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024
    },
    stop,
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Calls in turn by a few callers; how long each took. */
async function timed(calls: number, atOnce: number, call: (n: number) => Promise<void>): Promise<number[]> {
  const durations: number[] = []
  let next = 0
  const caller = async () => {
    while (next < calls) {
      const n = next++
      const from = performance.now()
      await call(n)
      durations.push(performance.now() - from)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, caller))
  return durations
}

// ── The bench ───────────────────────────────────────────────────────────────────────────────────────────────────

async function main(): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-bench-'))
  closers.push(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }))
  const quiet = { debug() {}, info() {}, warn: console.error, error: console.error }
  const embedded = await startEmbedded({ dataDir, log: quiet })
  closers.push(() => embedded.stop())
  const { host, port: pgPort, user, database } = embedded.connection
  const databaseUrl = `postgresql://${user}@localhost/${database}?host=${encodeURIComponent(host)}&port=${pgPort}`

  const providerPort = await startProvider(hosts[0]!)
  for (const other of hosts.slice(1)) await startProvider(other, providerPort)
  const providers = join(dataDir, 'bench.yaml')
  await writeFile(
    providers,
    `bench:
  display_name: Bench
  auth_mode: OAUTH2
  authorization_url: http://127.0.0.1:${providerPort}/authorize
  token_url: http://\${connectionConfig.host}:${providerPort}/token
  allowed_hosts: [${hosts.join(', ')}]
  connection_config:
    host: { type: string, title: Host }
  rotates: true
  idle_limit_days: ${idleLimitDays}
  proxy:
    base_url: http://127.0.0.1:${providerPort}
`,
  )
  const key = newId()
  const encryptionKey = randomBytes(32).toString('base64')
  const port = await freePort()
  const env = {
    PORT: String(port),
    FAIRLEAD_URL: `http://127.0.0.1:${port}`,
    FAIRLEAD_DATA_DIR: join(dataDir, 'server'),
    DATABASE_URL: databaseUrl,
    FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
    FAIRLEAD_SECRET_KEY_DEV: key,
    FAIRLEAD_PROVIDERS: providers,
    FAIRLEAD_EGRESS_ALLOW: '127.0.0.0/8',
  }
  let server = await startServer(env)
  const call = async (method: string, path: string, body?: unknown): Promise<Record<string, unknown>> => {
    const answer = await fetch(`${env.FAIRLEAD_URL}${path}`, {
      method,
      headers: { Authorization: `Bearer ${key}`, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
    return JSON.parse(text) as Record<string, unknown>
  }
  const credentials = { type: 'OAUTH2', client_id: 'bench', client_secret: 'bench' }
  await call('POST', '/integrations', { provider: 'bench', unique_key: 'bench', credentials })
  const refresh = (n: number) =>
    call('POST', `/connections/caller-${n % interactive}/refresh?provider_config_key=bench`).then(() => {})

  const open = await openDb({ url: databaseUrl, queryTimeoutMs: 600_000 })
  closers.push(() => open.close())
  const { db } = open
  const [place] = await db.query<{ environment_id: number; id: number }>(
    sql`select environment_id, id from integration where unique_key = 'bench'`,
  )
  const { environment_id: environmentId, id: integrationId } = place!
  const vault = await vaultOf(db, encryptionKey)
  const keyedHash = await openKeyedHash(db, vault)

  /** Grants the engine can open and renew, at the provider's hosts in turn; `name` makes the connection's id. */
  async function addReal(count: number, name: (n: number) => string): Promise<void> {
    for (let from = 0; from < count; from += 5_000) {
      const rows = await vault.withKeys(() =>
        Array.from({ length: Math.min(5_000, count - from) }, (_, i) => {
          const id = newId()
          const refreshToken = newId()
          const tokens = { access_token: newId(), refresh_token: refreshToken, token_type: 'Bearer', raw: {} }
          const place = { table: 'credential', column: 'sealed', environment: environmentId, row: id }
          return {
            id,
            connectionId: name(from + i),
            host: hosts[(from + i) % hosts.length]!,
            print: fingerprint(keyedHash, new Secret(refreshToken))!.toString('hex'),
            sealed: vault.seal(JSON.stringify(tokens), place).toString('hex'),
          }
        }),
      )
      const column = (pick: (row: (typeof rows)[number]) => string) => rows.map(pick)
      await db.query(sql`
        with given as (
          select * from unnest(${column(row => row.id)}::uuid[], ${column(row => row.connectionId)}::text[], ${column(row => row.host)}::text[],
            ${column(row => row.print)}::text[], ${column(row => row.sealed)}::text[]) as g (id, connection_id, host, print, sealed)
        ), added as (
          insert into credential (id, environment_id, integration_id, kind, config, token_fp, sealed, expires_at, db_epoch)
          select id, ${environmentId}, ${integrationId}, 'oauth2-code', jsonb_build_object('host', host), decode(print, 'hex'),
            decode(sealed, 'hex'), now() + interval '2 hours',
            (select (select timeline_id from pg_control_checkpoint()) || '.' || (select restored from history))
          from given
        )
        insert into connection (environment_id, integration_id, credential_id, connection_id)
        select ${environmentId}, ${integrationId}, id, connection_id from given`)
    }
  }

  say(
    `keep-alive: ${connections.toLocaleString('en')} connections, ${overdue.toLocaleString('en')} of them overdue later`,
  )
  await addReal(interactive, n => `caller-${n}`)
  await timed(200, 4, refresh)
  await sleep(10_000)
  const bare = await server.rss()

  const seeded = performance.now()
  await addReal(overdue, n => `overdue-${n}`)
  // The rest are as wide as real ones, and nobody opens them: renewed now, all of them, as an import would leave them.
  const seededAt = new Date()
  const others = connections - overdue - interactive
  for (let from = 1; from <= others; from += 50_000)
    await db.query(sql`
      with template as materialized (select sealed from credential where sealed is not null limit 1), added as (
        insert into credential (id, environment_id, integration_id, kind, config, token_fp, sealed, expires_at, db_epoch, keep_alive_at)
        select gen_random_uuid(), ${environmentId}, ${integrationId}, 'oauth2-code', jsonb_build_object('host', ${hosts[0]}::text),
          decode(md5(n::text) || md5('x' || n), 'hex'), template.sealed, now() + interval '2 hours', '1.0',
          keep_alive_moment(n, ${seededAt}::timestamptz, ${idleLimitDays} * interval '1 day')
        from generate_series(${from}::int, ${Math.min(others, from + 49_999)}::int) as n cross join template
        returning id)
      insert into connection (environment_id, integration_id, credential_id, connection_id)
      select ${environmentId}, ${integrationId}, id, 'idle-' || id from added`)
  // Those that were just connected get theirs from the scheduler's own statement; the server beside us may be giving them as well.
  await db.query(
    sql`update credential set keep_alive_at = null where id in (select credential_id from connection where connection_id like 'overdue-%')`,
  )
  const turns = performance.now()
  let given = 0
  for (let more = 1; more > 0; given += more)
    more = await giveTurns(db, [integrationId], [idleLimitDays * 86_400_000], 5_000)
  const turnsPerSecond = given / ((performance.now() - turns) / 1000)
  await db.query({ text: 'vacuum analyze', values: [] })
  line('seeding', `${((performance.now() - seeded) / 1000).toFixed(0)} s`)
  line('turns given to new connections', `${turnsPerSecond.toFixed(0)}/s`)

  const [even] = await db.query<{ busiest: number; mean: number }>(sql`
    with by_minute as (
      select date_trunc('minute', keep_alive_at) as minute, count(*)::int as n from credential group by 1
    ), whole as (
      select * from by_minute where minute not in ((select min(minute) from by_minute), (select max(minute) from by_minute))
    )
    select max(n) as busiest, sum(n)::float8 / (extract(epoch from max(minute) - min(minute)) / 60 + 1) as mean from whole`)
  line('busiest minute ÷ mean of the schedule', (even!.busiest / even!.mean).toFixed(2), '≤ 1.5')

  await dueScan(db, integrationId)
  await stateFilter(db, environmentId, call)

  // Callers, while the million lies idle beside them.
  const alone = spread(await timed(400, 4, refresh))
  let peak = 0
  for (let second = 0; second < 75; second++) {
    peak = Math.max(peak, await server.rss())
    await timed(5, 1, refresh)
    await sleep(700)
  }
  line(
    'server RSS: without, serving, growth',
    `${bare.toFixed(0)} MB, ${peak.toFixed(0)} MB, ${(peak - bare).toFixed(0)} MB`,
    '≤ 100 MB',
  )

  // Cold start: everything that was to be renewed while no server ran.
  await server.stop()
  await db.query(sql`
    update credential set keep_alive_at = clock_timestamp() - interval '1 day'
    where id in (select credential_id from connection where connection_id like 'overdue-%')`)
  atProvider.most = 0
  server = await startServer(env)
  const began = performance.now()
  const during: number[] = []
  let callers = 0
  peak = 0
  const renewed = async () => {
    const [row] = await db.query<{ n: number }>(sql`
      select count(*)::int as n from credential k join connection c on c.credential_id = k.id
      where c.connection_id like 'overdue-%' and k.token_version > 1`)
    return row!.n
  }
  const renewedBefore = await renewed()
  const idleUntil = performance.now() + 65_000
  while ((await renewed()) === renewedBefore && performance.now() < idleUntil) await sleep(200)
  const draining = performance.now()
  const first = await renewed()
  while (performance.now() - draining < watchMinutes * 60_000) {
    during.push(...(await timed(40, 4, n => refresh(callers + n))))
    callers += 40
    peak = Math.max(peak, await server.rss())
    await sleep(500)
  }
  const seconds = (performance.now() - draining) / 1000
  const drained = (await renewed()) - first
  const perSecond = drained / seconds
  // Four hosts of one integration: its own cap is the one that counts.
  const cap = Math.min(defaultPace.perIntegration, hosts.length * defaultPace.perHost, defaultPace.atOnce)
  const ceiling = cap / (answerMs / 1000)
  line('first renewal after a cold start', `${((draining - began) / 1000).toFixed(0)} s`)
  line(
    'backlog drains at',
    `${perSecond.toFixed(0)}/s, ${((100 * perSecond) / ceiling).toFixed(0)} % of what the caps allow (${ceiling}/s)`,
  )
  line(
    'all of it in',
    drained >= overdue ? 'less than the time watched' : `${(overdue / perSecond / 60).toFixed(0)} min`,
  )
  line('server RSS at most meanwhile', `${peak.toFixed(0)} MB`)
  const beside = spread(during)
  line(
    'callers’ renewals without a backlog, p50 and p99',
    `${ms(alone.p50)}, ${ms(alone.p99)} (provider ${answerMs} ms)`,
  )
  line('callers’ renewals meanwhile, p50 and p99', `${ms(beside.p50)}, ${ms(beside.p99)}`)
  line('ratio', `${(beside.p50 / alone.p50).toFixed(2)}, ${(beside.p99 / alone.p99).toFixed(2)}`)
}

/** The statement of the scheduler itself, with as many rows due as a minute brings. */
async function dueScan(db: Db, integrationId: number): Promise<void> {
  let statement: Sql | undefined
  const listening: Db = {
    ...db,
    query: <Row extends object>(given: Sql) => {
      statement = given
      return db.query<Row>(given)
    },
  }
  const hold = 864_000_000
  const makeDue = () =>
    db.query(sql`
      update credential set keep_alive_at = clock_timestamp() - interval '1 minute' where id in (
        select credential_id from connection where connection_id like 'overdue-%' order by id limit 46)`)
  const takes: number[] = []
  const scans: number[] = []
  for (let n = 0; n < 1_000; n++) {
    if (n % 12 === 0) await makeDue()
    const from = performance.now()
    const { length } = await takeDue(listening, [integrationId], 8, hold)
    const durations = length > 0 ? takes : scans
    durations.push(performance.now() - from)
  }
  const plan = await db.query<{ 'QUERY PLAN': string }>({
    text: `explain (costs off) ${statement!.text}`,
    values: statement!.values,
  })
  const text = plan.map(row => row['QUERY PLAN']).join('\n')
  const indexed = text.includes('credential_keep_alive') && !text.includes('Seq Scan')
  line('the scan for what is due', indexed ? 'uses its index, reads no table whole' : `reads the table:\n${text}`)
  const scan = spread(scans)
  line('p50, p99 of the scan', `${ms(scan.p50)}, ${ms(scan.p99)}`, '≤ 20 ms')
  const take = spread(takes)
  line('p50, p99 with eight grants taken and committed to disk', `${ms(take.p50)}, ${ms(take.p99)}`)
}

async function stateFilter(
  db: Db,
  environmentId: number,
  call: (method: string, path: string) => Promise<Record<string, unknown>>,
): Promise<void> {
  await db.query(sql`
    update credential set health = 'needs_reauth', cause = 'invalid_grant' where id in (
      select credential_id from connection where environment_id = ${environmentId} and connection_id like 'idle-%' order by id limit 50)`)
  await db.query({ text: 'vacuum analyze credential', values: [] })
  for (const query of ['state=needs_reauth', 'state=degraded', 'state=paused', 'state=active&limit=100', 'limit=100']) {
    let rows = 0
    const durations = await timed(20, 1, async () => {
      rows = ((await call('GET', `/connections?${query}`)).connections as unknown[]).length
    })
    const { p50, p99 } = spread(durations)
    line(`GET /connections?${query} (${rows} rows), p50, p99`, `${ms(p50)}, ${ms(p99)}`)
  }
}

try {
  await main()
} finally {
  for (const close of closers.reverse()) await close().catch(error => console.error(error))
}
