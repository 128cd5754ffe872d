/**
 * The table `data_key`. Every sealed column of every table refers to it by a generated column with a foreign key, so the database itself
 * refuses to forget a key that something is sealed with, and refuses a value whose key it does not know.
 */
import { sql } from '../db/sql.ts'
import type { Db } from '../seams.ts'

/** 0 stands for the installation. */
export interface WrappedKey {
  id: Buffer
  environment: number
  wrapped: Buffer
  kekId: string
  createdAt: Date
  /** Seals nothing any more, opens what it sealed. */
  retiredAt: Date | null
}

export type NewKey = Omit<WrappedKey, 'createdAt' | 'retiredAt'>

/** What the ring needs of a database; a test's vault keeps its keys in memory. */
export interface KeyStore {
  /** Oldest first. */
  list(): Promise<WrappedKey[]>
  /** Changes nothing when the environment has a current key. */
  add(key: NewKey): Promise<void>
  /** At one moment the environment's current key retires and this one takes its place. Of two calls at once, one wins. */
  replace(key: NewKey): Promise<void>
  /** Compare-and-set: whoever wrapped it anew first has won. */
  rewrap(from: WrappedKey, wrapped: Buffer, kekId: string): Promise<void>
}

const insert = ({ id, environment, wrapped, kekId }: NewKey) => sql`
  insert into data_key (id, environment_id, wrapped, kek_id) values (${id}, nullif(${environment}::int, 0), ${wrapped}, ${kekId})
  on conflict do nothing`

export const createKeyStore = (db: Db): KeyStore => ({
  async list() {
    const rows = await db.query<{
      id: Buffer
      environment_id: number
      wrapped: Buffer
      kek_id: string
      created_at: Date
      retired_at: Date | null
    }>(sql`
      select id, coalesce(environment_id, 0) as environment_id, wrapped, kek_id, created_at, retired_at
      from data_key order by created_at, id`)
    return rows.map(row => ({
      id: row.id,
      environment: row.environment_id,
      wrapped: row.wrapped,
      kekId: row.kek_id,
      createdAt: row.created_at,
      retiredAt: row.retired_at,
    }))
  },

  async add(key) {
    await db.query(insert(key))
  },

  async replace(key) {
    await db.transaction(async tx => {
      await tx.query(sql`
        update data_key set retired_at = clock_timestamp()
        where coalesce(environment_id, 0) = ${key.environment} and retired_at is null`)
      await tx.query(insert(key))
      await tx.query(sql`select pg_notify('fairlead_changed', 'keys')`)
    })
  },

  async rewrap(from, wrapped, kekId) {
    await db.query(sql`
      update data_key set wrapped = ${wrapped}, kek_id = ${kekId} where id = ${from.id} and wrapped = ${from.wrapped}`)
  },
})

export async function hasDataKeys(db: Db): Promise<boolean> {
  const [row] = await db.query<{ any: boolean }>(sql`select exists (select from data_key) as any`)
  return row!.any
}

/**
 * Keys nothing was sealed with for so long, which is at least what a journal on a machine that was away may be read for. What a row still
 * refers to stays: the foreign keys would refuse.
 */
export async function forgottenKeys(db: Db, keepDays: number): Promise<Buffer[]> {
  const rows = await db.query<{ id: Buffer }>(sql`
    select id from data_key where retired_at < clock_timestamp() - ${keepDays}::int * interval '1 day'`)
  return rows.map(row => row.id)
}

export const destroyKey = (db: Db, id: Buffer): Promise<object[]> =>
  db.query(sql`delete from data_key where id = ${id} and retired_at is not null`)

/** Any constant will do; it must never change. */
const resealing = 7_246_013_772

/**
 * One process at a time, for as long as the work takes; undefined while another has its turn. It saves work and protects nothing: every
 * row is a compare-and-set. Held by a transaction, so that it ends with the process and works behind a pooler.
 */
export const inTurn = <T>(db: Db, work: () => Promise<T>): Promise<T | undefined> =>
  db.transaction(async tx => {
    const [row] = await tx.query<{ ours: boolean }>(sql`select pg_try_advisory_xact_lock(${resealing}::bigint) as ours`)
    return row!.ours ? work() : undefined
  })
