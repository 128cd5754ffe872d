import { sql } from '../db/sql.ts'
import type { Db } from '../seams.ts'

/** What a row says; `hash` covers all of it and the hash before. */
export interface AuditFields {
  sequence: number
  at: Date
  environment: string | null
  actor_kind: string
  actor_id: string
  actor_name: string
  address: string | null
  action: string
  target: string
  detail: Record<string, unknown>
}

export interface AuditRow extends AuditFields {
  hash: Buffer
}

interface Head {
  sequence: number
  hash: Buffer
  at: Date
  environment: string | null
}

/** Locks the end of the chain until the transaction ends. `at` is the database's clock, cut to what a Date can hold. */
export async function lockHead(tx: Db, environmentId: number | null): Promise<Head> {
  const [head] = await tx.query<Head>(sql`
    select sequence, hash, date_trunc('milliseconds', clock_timestamp()) as at,
      (select name from environment where id = ${environmentId}) as environment
    from audit_head for update`)
  return head!
}

export async function addRow(tx: Db, row: AuditRow): Promise<void> {
  await tx.query(sql`
    with head as (update audit_head set sequence = ${row.sequence}, hash = ${row.hash})
    insert into audit (sequence, at, environment, actor_kind, actor_id, actor_name, address, action, target, detail, hash)
    values (${row.sequence}, ${row.at}, ${row.environment}, ${row.actor_kind}, ${row.actor_id}, ${row.actor_name}, ${row.address},
      ${row.action}, ${row.target}, ${JSON.stringify(row.detail)}::jsonb, ${row.hash})`)
}

/** Where the chain begins: at nothing, or behind the last row that was let go. */
export interface Start {
  sequence: number
  hash: Buffer
  mark: Buffer
}

export const readStart = async (db: Db): Promise<Start | undefined> =>
  (await db.query<Start>(sql`select sequence, hash, mark from audit_start`))[0]

/** The last of the oldest rows, `limit` at most and none behind `end`, that are older than so many days. */
export async function lastOld(
  tx: Db,
  { days, end, limit }: { days: number; end: number; limit: number },
): Promise<Pick<Start, 'sequence' | 'hash'> | undefined> {
  const [row] = await tx.query<Pick<Start, 'sequence' | 'hash'>>(sql`
    select sequence, hash from (select sequence, hash, at from audit order by sequence limit ${limit}) as oldest
    where sequence <= ${end} and at < clock_timestamp() - ${days}::int * interval '1 day' order by sequence desc limit 1`)
  return row
}

export async function letGo(tx: Db, { sequence, hash, mark }: Start): Promise<void> {
  await tx.query(sql`select set_config('fairlead.audit_let_go', 'on', true)`)
  await tx.query(sql`delete from audit where sequence <= ${sequence}`)
  await tx.query(sql`select set_config('fairlead.audit_let_go', 'off', true)`)
  await tx.query(sql`delete from audit_start`)
  await tx.query(sql`insert into audit_start (sequence, hash, mark) values (${sequence}, ${hash}, ${mark})`)
}

export interface AuditFilter {
  environment: string
  action?: string | undefined
  actor?: string | undefined
  before?: number | undefined
  limit: number
}

/** Newest first: those of one environment and those of the installation. */
export const listRows = (
  db: Db,
  { environment, action = undefined, actor, before, limit }: AuditFilter,
): Promise<AuditRow[]> =>
  db.query<AuditRow>(sql`
    select * from audit
    where (environment = ${environment} or environment is null)
      and (${action ?? null}::text is null or action like ${action ?? null} || '%')
      and (${actor ?? null}::text is null or actor_name ilike '%' || ${actor ?? null} || '%')
      and (${before ?? null}::bigint is null or sequence < ${before ?? null})
    order by sequence desc limit ${limit}`)

/** In the order of the chain. */
export const rowsAfter = (db: Db, sequence: number, limit: number): Promise<AuditRow[]> =>
  db.query<AuditRow>(sql`select * from audit where sequence > ${sequence} order by sequence limit ${limit}`)

export async function readHead(db: Db): Promise<{ sequence: number; hash: Buffer }> {
  const [head] = await db.query<{ sequence: number; hash: Buffer }>(sql`select sequence, hash from audit_head`)
  return head!
}
