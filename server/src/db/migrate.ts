/**
 * Brings a database to this version: the numbered files of `migrations/`, each once, in order, in a transaction of its
 * own together with the row that says so. A session-level advisory lock makes servers that start at once take turns,
 * hence the direct connection: behind a pooler in transaction mode such a lock belongs to nobody in particular.
 *
 * The version before works on meanwhile, so none may wait long for a lock: everybody else would wait behind it. What a migration may do is in
 * migrations/README.md, and a test reads them.
 *
 * A database newer than the code is not refused: during a rolling update the old version runs beside the new one. Its
 * migrations are reported as `unknown`, for the log.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { type Address, clientConfig } from './open.ts'

export const migrationsFolder = join(import.meta.dirname, 'migrations')

export interface Migrated {
  /** What was applied now, in order. */
  applied: string[]
  /** What a newer version applied before. */
  unknown: string[]
}

/** Any constant will do; it must never change. */
const LOCK = 7_246_013_771

interface Options {
  /** Migrations somebody else's code brings along, taken in turn under the same lock. */
  also?: () => Promise<void>
  /** Those it is about; all unless said. A backup is restored into the schema it was taken from. */
  only?: (name: string) => boolean
  /** It is the move itself that asks. */
  moving?: boolean
}

/** A database that `db move` has not finished is no copy of anything yet, and whatever a server wrote to it would be lost. */
const unfinishedMove =
  'A move into this database has not been finished. Stop every server of the old one and run "fairlead db move" once more; until then start the server on the old one.'

export async function migrate(
  direct: Address,
  folder = migrationsFolder,
  { also = async () => {}, only = () => true, moving = false }: Options = {},
): Promise<Migrated> {
  const names = await migrationNames(folder)
  const client = new pg.Client(clientConfig(direct))
  // A break shows as the rejection of the statement under way.
  client.on('error', () => {})
  await client.connect()
  try {
    await takeTurn(client)
    await client.query('set client_min_messages to warning')
    const mark = await client.query<{ there: boolean }>(
      `select to_regclass('public.move_under_way') is not null as there`,
    )
    if (mark.rows[0]!.there && !moving) throw new Error(unfinishedMove)
    await client.query(
      'create table if not exists migration (name text primary key, applied_at timestamptz not null default now())',
    )
    const { rows } = await client.query<{ name: string }>('select name from migration order by name')
    const done = new Set(rows.map(row => row.name))
    const applied: string[] = []
    const apply = async () => {
      for (const name of names) {
        if (done.has(name) || !only(name)) continue
        await applyOne(client, folder, name)
        applied.push(name)
      }
    }
    if (done.size > 0) {
      await apply()
      await also()
    } else {
      // An empty database has no version before that a failure would leave with half of it; a first start waits for both.
      const [ours, theirs] = await Promise.allSettled([apply(), also()])
      for (const one of [ours, theirs]) if (one.status === 'rejected') throw one.reason
    }
    return { applied, unknown: rows.map(row => row.name).filter(name => !names.includes(name)) }
  } finally {
    // Ends the session and with it the lock.
    await client.end()
  }
}

/** By asking, not by waiting: a session that waits in a statement has a snapshot, and CREATE INDEX CONCURRENTLY waits for everybody who has one. */
async function takeTurn(client: pg.Client): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ taken: boolean }>('select pg_try_advisory_lock($1) as taken', [LOCK])
    if (rows[0]!.taken) return
    await sleep(50)
  }
}

/** For a lock. Whoever reads or writes the table waits behind us for as long. */
const lockTimeout = '2s'
/** Then somebody holds it who will not let go: a person, or a backup. */
const lockTries = 30
const lockPauseMs = 1_000

async function applyOne(client: pg.Client, folder: string, name: string): Promise<void> {
  const text = await readFile(join(folder, `${name}.sql`), 'utf8')
  const apply = isConcurrent(text) ? applyConcurrently : applyWhole
  for (let tries = 1; ; tries++) {
    try {
      return await apply(client, name, text)
    } catch (error) {
      const isLocked = error instanceof pg.DatabaseError && error.code === '55P03'
      if (!isLocked || tries === lockTries)
        throw new Error(`Migration ${name} failed; nothing of it was kept.`, { cause: error })
      await sleep(lockPauseMs)
    }
  }
}

async function applyWhole(client: pg.Client, name: string, text: string): Promise<void> {
  try {
    await client.query('begin')
    await client.query(`set local lock_timeout to '${lockTimeout}'`)
    await client.query(text)
    await client.query('insert into migration (name) values ($1)', [name])
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => {})
    throw error
  }
}

const concurrently = /^\s*(?:--[^\n]*\n\s*)*create\s+(?:unique\s+)?index\s+concurrently\s+(\w+)\s/i
export const isConcurrent = (text: string): boolean => concurrently.test(text)

/** An index on a table that is large: built beside its writers, outside a transaction. What a failed attempt left behind is invalid, and in the way. */
async function applyConcurrently(client: pg.Client, name: string, text: string): Promise<void> {
  const index = concurrently.exec(text)![1]!
  const drop = () => client.query(`drop index concurrently if exists ${client.escapeIdentifier(index)}`)
  await drop()
  try {
    await client.query(text)
  } catch (error) {
    await drop().catch(() => {})
    throw error
  }
  await client.query('insert into migration (name) values ($1)', [name])
}

export async function migrationNames(folder: string): Promise<string[]> {
  const files = (await readdir(folder)).filter(file => file.endsWith('.sql')).sort()
  const numbers = new Set<string>()
  for (const file of files) {
    const number = /^(\d{4})_[a-z0-9_]+\.sql$/.exec(file)?.[1]
    if (!number) throw new Error(`${join(folder, file)} is not named like 0001_what_it_does.sql.`)
    if (numbers.has(number)) throw new Error(`Two migrations in ${folder} have the number ${number}.`)
    numbers.add(number)
  }
  return files.map(file => file.slice(0, -'.sql'.length))
}
