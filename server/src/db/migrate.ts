/**
 * Brings a database to this version: the numbered files of `migrations/`, each once, in order, in a transaction of its
 * own together with the row that says so. A session-level advisory lock makes servers that start at once take turns,
 * hence the direct connection: behind a pooler in transaction mode such a lock belongs to nobody in particular.
 *
 * A database newer than the code is not refused: during a rolling update the old version runs beside the new one. Its
 * migrations are reported as `unknown`, for the log.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
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
    await client.query('select pg_advisory_lock($1)', [LOCK])
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
    for (const name of names) {
      if (done.has(name) || !only(name)) continue
      await applyOne(client, folder, name)
      applied.push(name)
    }
    await also()
    return { applied, unknown: rows.map(row => row.name).filter(name => !names.includes(name)) }
  } finally {
    // Ends the session and with it the lock.
    await client.end()
  }
}

async function applyOne(client: pg.Client, folder: string, name: string): Promise<void> {
  const text = await readFile(join(folder, `${name}.sql`), 'utf8')
  try {
    await client.query('begin')
    await client.query(text)
    await client.query('insert into migration (name) values ($1)', [name])
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => {})
    throw new Error(`Migration ${name} failed; nothing of it was kept.`, { cause: error })
  }
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
