/**
 * What a million connections (`--connections N` for fewer) cost: looking one up, listing, the sweeps, memory, disk. One real server in a process of
 * its own and the embedded database as it ships (32 MB of shared buffers, durable commits); everything is asked over HTTP, and the sweeps
 * are the store's own statements, one after the other, with nothing else going on.
 *
 * Seeding is by SQL. One grant in fifty is sealed for itself, and only those are opened; the others share the sealed value of one of them, as
 * wide as theirs. 1 % must be signed in to again, 0.5 % are degraded, 0.5 % paused. The provider is a server here on loopback.
 *
 * Seeding takes a quarter of an hour. `--data FOLDER` keeps what was seeded there, and measures what an earlier run left without seeding again.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { openKeyedHash } from '../server/src/account/pepper.ts'
import { findWithCredential, listConnections } from '../server/src/connection/store.ts'
import { giveTurns, takeDue } from '../server/src/credential/keep-alive/store.ts'
import { countInDoubt, countUnwell, createCredentialStore, fingerprint } from '../server/src/credential/store.ts'
import { defaultTiming } from '../server/src/credential/timing.ts'
import { startEmbedded } from '../server/src/db/embedded.ts'
import { openDb } from '../server/src/db/open.ts'
import { type Sql, sql } from '../server/src/db/sql.ts'
import { newId } from '../server/src/lib/id.ts'
import { Secret } from '../server/src/lib/secret.ts'
import { systemClock } from '../server/src/lib/time.ts'
import type { Db } from '../server/src/seams.ts'
import { load, openCaller, quantile, requestBytes } from './load.ts'
import { cpuOf, freePort, start } from './processes.ts'
import { vaultOf } from './vault.ts'

const { values } = parseArgs({
  options: { connections: { type: 'string', default: '1000000' }, data: { type: 'string' } },
  allowPositionals: true,
})
const batch = 20_000
const realIn = 50
const idleLimitDays = 30

const say = (text: string) => void process.stdout.write(`${text}\n`)
const line = (what: string, figure: string, goal = '') =>
  say(`  ${what.padEnd(58)} ${figure}${goal && `   (goal ${goal})`}`)
const ms = (n: number) => `${n.toFixed(n < 10 ? 1 : 0)} ms`
const mb = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`
const closers: (() => Promise<unknown>)[] = []

/**
 * One after the other; says p50 and p99. `beside` is done in turn with it: what the machine does to an answer that asks nothing of a database
 * is in both.
 */
async function measure(
  what: string,
  times: number,
  work: (n: number) => Promise<unknown>,
  goal?: number,
  beside?: { what: string; work: () => Promise<unknown> },
): Promise<void> {
  const took: number[] = []
  const besides: number[] = []
  for (let n = 0; n < times; n++) {
    const from = performance.now()
    await work(n)
    const until = performance.now()
    took.push(until - from)
    if (!beside) continue
    await beside.work()
    besides.push(performance.now() - until)
  }
  const sorted = Float64Array.from(took).sort()
  const p99 = quantile(sorted, 0.99)
  line(`${what}, p50, p99`, `${ms(quantile(sorted, 0.5))}, ${ms(p99)}`, goal ? `≤ ${goal} ms` : '')
  if (goal && p99 > goal) line('', 'MISSED')
  if (!beside) return
  const least = Float64Array.from(besides).sort()
  line(`  in turn with ${beside.what}`, `${ms(quantile(least, 0.5))}, ${ms(quantile(least, 0.99))}`)
}

/** The nodes of the plans of every statement `work` makes: what they read, and by which index. */
async function plans(db: Db, what: string, work: (db: Db) => Promise<unknown>): Promise<void> {
  const seen: Sql[] = []
  await work({
    ...db,
    query: <Row extends object>(given: Sql) => {
      seen.push(given)
      return db.query<Row>(given)
    },
  })
  for (const { text, values } of seen) {
    const rows = await db.query<{ 'QUERY PLAN': string }>({ text: `explain (costs off) ${text}`, values })
    const nodes = rows
      .map(row => row['QUERY PLAN'])
      .filter(row => /Scan|Join|Loop|Sort|Aggregate/.test(row))
      .map(row => row.replace(/^ *(-> +)?/, ''))
    line(`plan: ${what}`, nodes.join(' · '))
  }
}

async function startProvider(): Promise<number> {
  const server = createServer((req, res) => {
    req.resume()
    res.setHeader('Content-Type', 'application/json')
    if (req.url !== '/token') return res.end('{"totalSize":1,"done":true,"records":[{"Name":"Edge Communications"}]}')
    res.end(JSON.stringify({ access_token: newId(), refresh_token: newId(), token_type: 'Bearer', expires_in: 86_400 }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(async () => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  return typeof address === 'object' && address ? address.port : 0
}

/** Of a postmaster and everything it ever started: children that ended are in its own books (proc(5), cutime and cstime). */
function cpuOfPostgres(postmaster: number): number {
  const children = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) === postmaster
      } catch {
        return false // it ended meanwhile
      }
    })
  return [postmaster, ...children.map(Number)].reduce((sum, pid) => sum + cpuOf(pid, { withEnded: true }), 0)
}

/** What a folder that was kept needs to be measured again, beside its database. */
interface Kept {
  connections: number
  reals: number
  bare: number
  key: string
  encryptionKey: string
}

async function main(): Promise<void> {
  const dataDir = values.data ?? (await mkdtemp(join(tmpdir(), 'fairlead-bench-')))
  if (values.data) await mkdir(dataDir, { recursive: true })
  else closers.push(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }))
  const keptFile = join(dataDir, 'kept.json')
  const kept = await readFile(keptFile, 'utf8').then(
    text => JSON.parse(text) as Kept,
    () => undefined,
  )
  const connections = kept?.connections ?? Number(values.connections)
  const quiet = { debug() {}, info() {}, warn: console.error, error: console.error }
  const embedded = await startEmbedded({ dataDir, log: quiet })
  closers.push(() => embedded.stop())
  const { host, port: pgPort, user, database } = embedded.connection
  const databaseUrl = `postgresql://${user}@localhost/${database}?host=${encodeURIComponent(host)}&port=${pgPort}`

  const providerPort = await startProvider()
  const providers = join(dataDir, 'bench.yaml')
  const base = `http://127.0.0.1:${providerPort}`
  await writeFile(
    providers,
    `bench:
  display_name: Bench
  auth_mode: OAUTH2
  authorization_url: ${base}/authorize
  token_url: ${base}/token
  rotates: true
  idle_limit_days: ${idleLimitDays}
  proxy: { base_url: ${base} }
`,
  )
  const key = kept?.key ?? newId()
  const encryptionKey = kept?.encryptionKey ?? randomBytes(32).toString('base64')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const server = await start(process.execPath, [join(import.meta.dirname, '../server/src/main.ts')], port, {
    PATH: process.env.PATH,
    LOG_LEVEL: 'warn',
    PORT: String(port),
    FAIRLEAD_URL: url,
    FAIRLEAD_DATA_DIR: join(dataDir, 'server'),
    DATABASE_URL: databaseUrl,
    FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
    FAIRLEAD_SECRET_KEY_DEV: key,
    FAIRLEAD_PROVIDERS: providers,
    FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
  })
  closers.push(server.stop)
  const headers = { Authorization: `Bearer ${key}` }
  // biome-ignore lint/suspicious/noExplicitAny: a bench reads members of whatever came back
  const call = async (method: string, path: string, body?: unknown): Promise<any> => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { ...headers, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
    return answer.headers.get('content-type')?.startsWith('application/json') ? JSON.parse(text) : text
  }
  const warm = {
    url: new URL(`${url}/proxy/x`),
    headers: { ...headers, 'Provider-Config-Key': 'bench', 'Connection-Id': 'real-1' },
  }
  const credentials = { type: 'OAUTH2', client_id: 'bench', client_secret: 'bench' }
  if (!kept) await call('POST', '/integrations', { provider: 'bench', unique_key: 'bench', credentials })

  const open = await openDb({ url: databaseUrl, queryTimeoutMs: 600_000 })
  closers.push(() => open.close())
  const { db } = open
  const [place] = await db.query<{ environment_id: number; id: number; pid: number }>(
    sql`select environment_id, id, pg_backend_pid() as pid from integration where unique_key = 'bench'`,
  )
  const { environment_id: environmentId, id: integrationId } = place!
  const postmaster = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${place!.pid}/status`, 'utf8'))![1])
  const vault = await vaultOf(db, encryptionKey)
  const keyedHash = await openKeyedHash(db, vault)
  const stores = { db, vault, keyedHash, clock: systemClock, timing: defaultTiming }

  /** What servers do all day, on the first few connections alone. Resident memory afterwards. */
  async function exercise(): Promise<number> {
    for (let n = 0; n < 300; n++) {
      await call('GET', `/connections/real-${n}?provider_config_key=bench`)
      await call('GET', '/connections?limit=1000')
      await call('POST', `/connections/real-${n}/refresh?provider_config_key=bench`)
      await call('GET', '/overview')
    }
    await load(warm, 8, 5_000)
    await sleep(10_000)
    return server.rss()
  }

  // ── Seeding ───────────────────────────────────────────────────────────────────────────────────────────────────

  say(`scale: ${connections.toLocaleString('en')} connections`)
  const seeded = performance.now()
  let bare = kept?.bare ?? 0
  let reals = kept?.reals ?? 0
  const seededAt = new Date()
  const facts = { instance_url: base, identity_url: `${base}/id/00D000000000001EAA/005000000000001AAA` }
  for (let from = kept ? connections : 0; from < connections; from += batch) {
    if (from === batch) bare = await exercise()
    const count = Math.min(batch, connections - from)
    const rows = await vault.withKeys(() =>
      Array.from({ length: Math.ceil(count / realIn) }, () => {
        const id = newId()
        const refreshToken = newId() + newId()
        const raw = { ...facts, access_token: newId() + newId() + newId(), refresh_token: refreshToken }
        const tokens = { access_token: raw.access_token, refresh_token: refreshToken, token_type: 'Bearer', raw }
        const sealed = vault.seal(JSON.stringify(tokens), {
          table: 'credential',
          column: 'sealed',
          environment: environmentId,
          row: id,
        })
        const print = fingerprint(keyedHash, new Secret(refreshToken))!
        return { id, name: `real-${reals++}`, print: print.toString('hex'), sealed: sealed.toString('hex') }
      }),
    )
    const column = (pick: (row: (typeof rows)[number]) => string) => rows.map(pick)
    await db.query(sql`
      with given as (
        select row_number() over () + ${from} as n, g.* from unnest(${column(row => row.id)}::uuid[], ${column(row => row.name)}::text[],
          ${column(row => row.print)}::text[], ${column(row => row.sealed)}::text[]) as g (id, name, print, sealed)
        union all
        select n, gen_random_uuid(), 'shared-' || n, md5(n::text) || md5('x' || n), ${rows[0]!.sealed}
        from generate_series(${from + rows.length + 1}::int, ${from + count}::int) as n
      ), added as (
        insert into credential (id, environment_id, integration_id, kind, config, account, token_fp, sealed, expires_at, db_epoch,
          keep_alive_at, health, cause, paused)
        select id, ${environmentId}, ${integrationId}, 'oauth2-code', ${JSON.stringify(facts)}::jsonb, 'account-' || n, decode(print, 'hex'),
          decode(sealed, 'hex'), now() + interval '1 day',
          (select (select timeline_id from pg_control_checkpoint()) || '.' || (select restored from history)),
          keep_alive_moment(n, ${seededAt}::timestamptz, ${idleLimitDays} * interval '1 day'),
          case when name like 'real-%' then 'active' when n % 100 = 7 then 'needs_reauth' when n % 200 = 8 then 'degraded' else 'active' end,
          case when name like 'real-%' then null when n % 100 = 7 then 'invalid_grant' when n % 200 = 8 then 'provider_unavailable' end,
          name not like 'real-%' and n % 200 = 9
        from given returning id)
      insert into connection (environment_id, integration_id, credential_id, connection_id, end_user, organization, tags)
      select ${environmentId}, ${integrationId}, added.id, name,
        jsonb_build_object('id', 'user-' || n, 'email', 'user-' || n || '@example.com', 'display_name', 'User ' || n),
        jsonb_build_object('id', 'org-' || n / 20, 'display_name', 'Organization ' || n / 20),
        jsonb_build_object('plan', case when n % 3 = 0 then 'pro' else 'free' end, 'region', 'eu-' || n % 500)
      from added join given on given.id = added.id order by n`)
  }
  await db.query({ text: 'vacuum analyze', values: [] })
  if (!kept) {
    line('seeding', `${((performance.now() - seeded) / 1000).toFixed(0)} s, ${reals} of them sealed for themselves`)
    if (values.data) await writeFile(keptFile, JSON.stringify({ connections, reals, bare, key, encryptionKey }))
  }

  // ── Sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  const tables = await db.query<{ name: string; heap: number; indexes: number; rows: number }>(sql`
    select relname as name, pg_table_size(oid)::float8 as heap, pg_indexes_size(oid)::float8 as indexes, reltuples as rows
    from pg_class where relname in ('credential', 'connection') order by relname desc`)
  for (const { name, heap, indexes, rows } of tables)
    line(
      `table ${name}: rows, indexes`,
      `${mb(heap)}, ${mb(indexes)}; ${(heap / rows).toFixed(0)} and ${(indexes / rows).toFixed(0)} bytes a row`,
    )
  const indexes = await db.query<{ name: string; bytes: number }>(sql`
    select indexrelid::regclass::text as name, pg_relation_size(indexrelid)::float8 as bytes from pg_index
    where indrelid in ('credential'::regclass, 'connection'::regclass) order by 2 desc`)
  for (const { name, bytes } of indexes) line(`  index ${name}`, mb(bytes))

  // ── Looking one up ────────────────────────────────────────────────────────────────────────────────────────────

  // Each once, so that none is in the server's cache; a prime steps through all of them in no order.
  let next = 0
  const another = () => `real-${(next++ * 7919) % reals}`
  const lookups = Math.min(4_000, Math.floor(reals / 3))
  await call('GET', `/connections/${another()}?provider_config_key=bench`)
  // Over a socket kept open: a fetch of this process costs as much as what is measured, and its garbage is collected meanwhile.
  const caller = await openCaller(new URL(url))
  const asked = (path: string, more = {}) =>
    caller.roundTrip(requestBytes({ url: new URL(`${url}${path}`), headers: { ...headers, ...more } }), 200)
  const health = { what: 'GET /health', work: () => asked('/health') }
  await measure(
    'GET /connections/:id, never read before',
    lookups,
    () => asked(`/connections/${another()}?provider_config_key=bench`),
    5,
    health,
  )
  await measure(
    'GET /proxy/…, connection never used before',
    lookups,
    () => asked('/proxy/x', { 'Provider-Config-Key': 'bench', 'Connection-Id': another() }),
    5,
    health,
  )
  caller.close()
  await plans(db, 'lookup', listening => findWithCredential({ ...stores, db: listening }, integrationId, 'real-0'))

  // ── Listing ───────────────────────────────────────────────────────────────────────────────────────────────────

  const list = (query: string) => call('GET', `/connections?limit=100${query}`)
  const last = Math.floor(connections / 100) - 1
  await measure('GET /connections?limit=100&page=…, the first far back in a minute', 1, () => list(`&page=${last}`))
  for (const page of [0, Math.floor(last / 100), Math.floor(last / 2), last])
    await measure(`GET /connections?limit=100&page=${page}`, 100, () => list(`&page=${page}`), 50)
  const [{ newest }] = (await db.query<{ newest: number }>(sql`select max(id) as newest from connection`)) as [
    { newest: number },
  ]
  await measure(
    'GET /connections?limit=100&cursor=…, anywhere',
    400,
    n => list(`&cursor=${Math.floor(newest - (n * newest) / 400) + 1}`),
    50,
  )
  await plans(db, 'last page', listening => listConnections(listening, environmentId, { limit: 100, page: last }))
  for (const [filter, times] of [
    ['state=needs_reauth', 60],
    ['state=active', 60],
    ['endUserId=user-777777', 60],
    ['endUserOrganizationId=org-7777', 60],
    ['tags[region]=eu-7', 60],
    ['tags[plan]=pro&tags[region]=eu-333', 60],
    ['search=user-7777@', 5],
    ['search=User', 20],
    ['connectionId=real-77', 60],
  ] as const)
    await measure(`GET /connections?limit=100&${filter}`, times, () => list(`&${filter}`))
  await measure('GET /overview', 10, () => call('GET', '/overview'))
  await measure('GET /metrics', 10, () => call('GET', '/metrics'))
  const walked = performance.now()
  let cursor: string | null | undefined
  let pages = 0
  let rows = 0
  for (; pages < 200 && cursor !== null; pages++) {
    const page = await call('GET', `/connections?limit=1000${cursor ? `&cursor=${cursor}` : ''}`)
    cursor = page.next_cursor
    rows += page.connections.length
  }
  line(
    `walking ${rows} connections by cursor`,
    `${((performance.now() - walked) / pages).toFixed(0)} ms a page of 1,000`,
  )

  // ── Sweeps ────────────────────────────────────────────────────────────────────────────────────────────────────

  const hold = 864_000_000
  const store = createCredentialStore(stores)
  const due = (db: Db) => takeDue(db, [integrationId], 8, hold)
  // The server takes what is due as well, and nothing is: the turns lie days ahead.
  await measure('due-scan, nothing due', 300, () => due(db), 20)
  const dueTook: number[] = []
  for (let n = 0; n < 100; n++) {
    await db.query(sql`
      update credential set keep_alive_at = clock_timestamp() - interval '1 minute'
      where id in (select credential_id from connection where connection_id like 'shared-%' and id % 977 = ${n} order by id limit 8)`)
    const from = performance.now()
    await due(db)
    dueTook.push(performance.now() - from)
  }
  const dueSorted = Float64Array.from(dueTook).sort()
  line(
    'due-scan with what was due taken, p50, p99',
    `${ms(quantile(dueSorted, 0.5))}, ${ms(quantile(dueSorted, 0.99))}`,
  )
  await measure('turns for grants without one, none', 300, () => giveTurns(db, [integrationId], [hold], 5_000), 20)
  await measure('refresh sweep: open intents', 300, () => store.openIntents(), 20)
  await measure('refresh sweep: blocked and due', 300, () => store.blockedDue(), 20)
  await measure('gauges: unwell, in doubt', 50, () => Promise.all([countUnwell(db), countInDoubt(db)]))
  await plans(db, 'due-scan', due)
  await plans(db, 'sweep', async listening => {
    const listeningStore = createCredentialStore({ ...stores, db: listening })
    await listeningStore.openIntents()
    await listeningStore.blockedDue()
  })

  // ── What a call and a renewal cost ────────────────────────────────────────────────────────────────────────────

  const wal = async () => {
    const [row] = await db.query<{ at: number }>(
      sql`select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as at`,
    )
    return row!.at
  }
  /** WAL and CPU by each of `n` things `work` does. */
  async function cost(what: string, work: () => Promise<number>): Promise<void> {
    await db.query({ text: 'checkpoint', values: [] })
    const [wal0, server0, pg0] = [await wal(), server.cpu(), cpuOfPostgres(postmaster)]
    const n = await work()
    // What is written behind (activity) is part of it.
    await sleep(2_500)
    const per = (total: number) => (total / n).toFixed(0)
    line(
      `${what} (${n}): WAL, server, PostgreSQL`,
      `${per((await wal()) - wal0)} bytes, ${per(server.cpu() - server0)} µs, ${per(cpuOfPostgres(postmaster) - pg0)} µs of CPU each`,
    )
  }
  await cost('warm proxied call', async () => {
    return (await load(warm, 8, 8_000)).latencies.length
  })
  await cost('renewal of a token', async () => {
    for (let n = 0; n < 2_000; n += 4)
      await Promise.all(
        [0, 1, 2, 3].map(i =>
          call('POST', `/connections/real-${((n + i) * 3) % reals}/refresh?provider_config_key=bench`),
        ),
      )
    return 2_000
  })
  await cost('first use of a connection', async () => {
    for (let n = 0; n < 1_000; n++) await call('GET', `/connections/${another()}?provider_config_key=bench`)
    return 1_000
  })
  const [activity] = await db.query<{ bytes: number; rows: number }>(sql`
    select sum(pg_total_relation_size(c.oid))::float8 as bytes, (select count(*)::float8 from activity) as rows
    from pg_class c join pg_inherits i on i.inhrelid = c.oid where i.inhparent = 'activity'::regclass`)
  line('table activity with indexes', `${(activity!.bytes / activity!.rows).toFixed(0)} bytes a call`)

  // ── Memory ────────────────────────────────────────────────────────────────────────────────────────────────────

  const full = server.rss()
  line(
    `server RSS: busy with ${batch}, after all of the above, growth`,
    `${bare.toFixed(0)} MB, ${full.toFixed(0)} MB, ${(full - bare).toFixed(0)} MB`,
    '≤ 100 MB',
  )
}

try {
  await main()
} finally {
  for (const close of closers.reverse()) await close().catch(error => console.error(error))
}
