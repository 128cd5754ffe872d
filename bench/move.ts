/**
 * `fairlead db move` of a hundred thousand connections (`--connections N` for others) with sealed tokens, from the embedded database of a
 * server that serves to another PostgreSQL, while a caller reads; then once more with the server stopped, which finishes it. Both sides
 * have the durability they ship with. Beside it: what a backup and a restore of the same database take.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { listEnvironments } from '../server/src/account/store.ts'
import { type Connection, runningIn, startEmbedded } from '../server/src/db/embedded.ts'
import { openDb } from '../server/src/db/open.ts'
import { sql } from '../server/src/db/sql.ts'
import { newId } from '../server/src/lib/id.ts'
import { Secret } from '../server/src/lib/secret.ts'
import { configuredKeys } from '../server/src/vault/provider.ts'
import { openRing } from '../server/src/vault/ring.ts'
import { createKeyStore } from '../server/src/vault/store.ts'
import { createVault } from '../server/src/vault/vault.ts'
import { freePort, start } from './processes.ts'

const { values } = parseArgs({
  options: { connections: { type: 'string', default: '100000' } },
  allowPositionals: true,
})
const connections = Number(values.connections)
const say = (line: string) => void process.stdout.write(`${line}\n`)
const figure = (what: string, value: string) => say(`  ${what.padEnd(58)} ${value}`)
const quiet = { debug() {}, info() {}, warn: console.error, error: console.error }
const closers: (() => Promise<unknown>)[] = []

const urlOf = ({ user, database, host, port }: Connection): string =>
  `postgresql://${user}@localhost/${database}?host=${encodeURIComponent(host)}&port=${port}`

/** The program that does it, as the command line starts it. */
async function maintain(env: Record<string, string>, ...args: string[]): Promise<{ seconds: number; said: string }> {
  const from = performance.now()
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, '../server/src/maintain.ts'), '--json', '--', ...args],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH!, ...env } },
  )
  const [said, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
  if (child.exitCode !== 0) throw new Error(err)
  return { seconds: (performance.now() - from) / 1000, said }
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-bench-'))
  closers.push(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  const dataDir = join(folder, 'server')
  const encryptionKey = randomBytes(32).toString('base64')
  const key = newId()
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const env = { FAIRLEAD_DATA_DIR: dataDir, FAIRLEAD_ENCRYPTION_KEY: encryptionKey }
  const server = await start(process.execPath, [join(import.meta.dirname, '../server/src/main.ts')], port, {
    PATH: process.env.PATH,
    PORT: String(port),
    FAIRLEAD_URL: url,
    FAIRLEAD_SECRET_KEY_DEV: key,
    LOG_LEVEL: 'warn',
    ...env,
  })
  closers.push(() => server.stop())

  const { db, close } = await openDb({ connection: await runningIn(dataDir), queryTimeoutMs: 600_000 })
  const keys = configuredKeys([new Secret(encryptionKey)], () => {
    throw new Error('no key of this bench is in AWS KMS')
  })
  const vault = createVault(await openRing(createKeyStore(db), keys))
  const environment = (await listEnvironments(db)).find(({ name }) => name === 'dev')!.id
  const [integration] = await db.query<{ id: number }>(sql`
    insert into integration (environment_id, unique_key, provider) values (${environment}, 'bench', 'bench') returning id`)
  for (let from = 0; from < connections; from += 5_000) {
    const rows = await vault.withKeys(() =>
      Array.from({ length: Math.min(5_000, connections - from) }, () => {
        const id = newId()
        const tokens = {
          access_token: newId().repeat(3),
          refresh_token: newId().repeat(2),
          token_type: 'Bearer',
          raw: {},
        }
        const place = { table: 'credential', column: 'sealed', environment, row: id }
        return { id, sealed: vault.seal(JSON.stringify(tokens), place).toString('hex') }
      }),
    )
    await db.query(sql`
      with given as (
        select * from unnest(${rows.map(({ id }) => id)}::uuid[], ${rows.map(({ sealed }) => sealed)}::text[]) as g (id, sealed)
      ), added as (
        insert into credential (id, environment_id, integration_id, kind, sealed, expires_at)
        select id, ${environment}, ${integration!.id}, 'oauth2-code', decode(sealed, 'hex'), now() + interval '2 hours' from given
      )
      insert into connection (environment_id, integration_id, credential_id, connection_id, end_user)
      select ${environment}, ${integration!.id}, id, 'bench-' || id, jsonb_build_object('id', id, 'email', id || '@acme.com') from given`)
  }
  await close()

  const target = await startEmbedded({ dataDir: join(folder, 'target'), log: quiet })
  closers.push(() => target.stop())
  const to = urlOf(target.connection)
  say(`move: ${connections.toLocaleString('en')} connections, each with sealed tokens`)

  let reads = 0
  let failed = 0
  let moving = true
  const slowest = { ms: 0 }
  const reader = (async () => {
    for (; moving; reads++) {
      const from = performance.now()
      const answer = await fetch(`${url}/connections?limit=20`, { headers: { Authorization: `Bearer ${key}` } })
      await answer.arrayBuffer()
      if (!answer.ok) failed++
      slowest.ms = Math.max(slowest.ms, performance.now() - from)
    }
  })()
  const first = await maintain(env, 'move', to)
  moving = false
  await reader
  const { rows, secrets } = JSON.parse(first.said) as { rows: number; secrets: number }
  figure('first copy of the serving source, compared, secrets opened', `${first.seconds.toFixed(1)} s`)
  figure('rows, secrets opened', `${rows.toLocaleString('en')}, ${secrets.toLocaleString('en')}`)
  figure('reads of the source meanwhile, failed, slowest', `${reads}, ${failed}, ${slowest.ms.toFixed(0)} ms`)

  await server.stop()
  const last = await maintain(env, 'move', to)
  if (!(JSON.parse(last.said) as { finished: boolean }).finished) throw new Error(last.said)
  figure('the last copy, with the server stopped', `${last.seconds.toFixed(1)} s`)

  const file = join(folder, 'bench.backup')
  const backup = await maintain(env, 'backup', file)
  figure('backup', `${backup.seconds.toFixed(1)} s, ${((await stat(file)).size / 1e6).toFixed(0)} MB`)
  const restored = await maintain({ ...env, FAIRLEAD_DATA_DIR: join(folder, 'restored') }, 'restore', file)
  figure('restore, secrets opened', `${restored.seconds.toFixed(1)} s`)
}

try {
  await main()
} finally {
  for (const close of closers.reverse()) await close().catch(console.error)
}
