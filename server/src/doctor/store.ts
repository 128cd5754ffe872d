/** What the examination of the system asks the database. Reads alone. */
import { sql } from '../db/sql.ts'
import type { Db } from '../seams.ts'

export interface DatabaseFacts {
  version: string
  version_number: number
  /** Milliseconds since the epoch, by its clock. */
  now: number
  may_create: boolean
  may_read_timeline: boolean
  read_only: boolean
  has_migrations: boolean
  move_under_way: boolean
}

export async function readDatabase(db: Db): Promise<DatabaseFacts> {
  const [facts] = await db.query<DatabaseFacts>(sql`
    select current_setting('server_version') as version, current_setting('server_version_num')::int as version_number,
      extract(epoch from clock_timestamp())::float8 * 1000 as now,
      has_schema_privilege(current_user, 'public', 'create') and has_database_privilege(current_database(), 'create') as may_create,
      has_function_privilege(current_user, 'pg_control_checkpoint()', 'execute') as may_read_timeline,
      pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean as read_only,
      to_regclass('public.migration') is not null as has_migrations,
      to_regclass('public.move_under_way') is not null as move_under_way`)
  return facts!
}

export const appliedMigrations = async (db: Db): Promise<string[]> =>
  (await db.query<{ name: string }>(sql`select name from migration order by name`)).map(({ name }) => name)

export const notify = (db: Db, channel: string, payload: string): Promise<object[]> =>
  db.query(sql`select pg_notify(${channel}, ${payload})`)
