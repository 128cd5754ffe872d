/**
 * A database of its own for whoever asks, copied from a template that has every migration (60–200 ms). All of them live in
 * one cluster with fsync off, which global.ts starts once for the whole run; a test file run by hand starts its own.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import pg from 'pg'
import { startEmbedded } from '../../src/db/embedded.ts'
import { migrate, migrationsFolder } from '../../src/db/migrate.ts'
import { clientConfig, type OpenDb, openDb, openDirectPool } from '../../src/db/open.ts'
import { migrateJobs } from '../../src/job/worker.ts'
import type { Log } from '../../src/lib/log.ts'

export interface TestDatabase extends OpenDb {
  /** Where it is; a server started by a test gets it as DATABASE_URL. */
  url: string
}

export interface TestCluster {
  /** A database of the cluster from which others can be made. */
  url: string
  /** The database with every migration applied; nobody connects to it. */
  template: string
  stop(): Promise<void>
}

/** Gone when the test is over, or without `t` when the file is. `empty` leaves out the migrations. */
export async function testDatabase(
  t?: { after(work: () => Promise<void>): void },
  { empty = false } = {},
): Promise<TestDatabase> {
  const cluster = await sharedCluster()
  const name = freshName('test')
  // Copying files beats the default, which logs every page (110–360 ms).
  await command(
    cluster.url,
    `create database ${name} template ${empty ? 'template0' : cluster.template} strategy file_copy`,
  )
  const url = withDatabase(cluster.url, name)
  const open = await openDb({ url })
  const end = async () => {
    await open.close()
    await command(cluster.url, `drop database if exists ${name} with (force)`)
  }
  if (t) t.after(end)
  else ends.unshift(end)
  return { ...open, url }
}

/** The cluster of DATABASE_URL, or a new one in a temporary folder, with the template made. */
export async function startTestCluster(): Promise<TestCluster> {
  const given = process.env.DATABASE_URL
  const started = given ? { url: given, stop: async () => {} } : await startTemporary()
  const template = freshName('template')
  try {
    await command(started.url, `create database ${template}`)
    await migrateAll(withDatabase(started.url, template), quiet)
  } catch (error) {
    await started.stop()
    throw error
  }
  return {
    url: started.url,
    template,
    async stop() {
      if (given) await command(given, `drop database if exists ${template} with (force)`)
      await started.stop()
    },
  }
}

/** As a server does it: ours, then the queue's. */
export async function migrateAll(url: string, log: Log): Promise<void> {
  const database = await openDb({ url })
  const pool = openDirectPool({ url }, 1)
  await migrate({ url }, migrationsFolder, { also: () => migrateJobs({ db: database.db, pool, log }) })
  await Promise.all([database.close(), pool.end()])
}

const quiet = { debug() {}, info() {}, warn: console.error, error: console.error }

async function startTemporary(): Promise<{ url: string; stop(): Promise<void> }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-test-'))
  const settings = {
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    autovacuum: 'off',
    max_connections: '200',
  }
  const { connection, stop } = await startEmbedded({ dataDir, log: quiet, settings })
  return {
    url: socketUrl(connection),
    async stop() {
      await stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** An embedded server's address as a URL. The host named there is a filler, which every URL parser wants; `host` wins. */
export function socketUrl({
  host,
  port,
  user,
  database,
}: Record<'host' | 'user' | 'database', string> & { port: number }) {
  return `postgresql://${user}@localhost/${database}?host=${encodeURIComponent(host)}&port=${port}`
}

/** Read by the test processes, which inherit the runner's environment. */
export const CLUSTER_URL = 'FAIRLEAD_TEST_CLUSTER_URL'
export const CLUSTER_TEMPLATE = 'FAIRLEAD_TEST_CLUSTER_TEMPLATE'

const ends: (() => Promise<void>)[] = []
let own: Promise<TestCluster> | undefined

after(async () => {
  for (const end of ends) await end()
  await (await own)?.stop()
})

async function sharedCluster(): Promise<Pick<TestCluster, 'url' | 'template'>> {
  const url = process.env[CLUSTER_URL]
  const template = process.env[CLUSTER_TEMPLATE]
  if (url && template) return { url, template }
  own ??= startTestCluster()
  return own
}

async function command(url: string, text: string): Promise<void> {
  const client = new pg.Client(clientConfig({ url }))
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query(text)
  } finally {
    await client.end()
  }
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url)
  changed.pathname = `/${name}`
  return changed.href
}

function freshName(kind: string): string {
  return `fairlead_${kind}_${process.pid}_${crypto.randomUUID().slice(0, 8)}`
}
