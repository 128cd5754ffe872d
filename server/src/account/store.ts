import { sql } from '../db/sql.ts'
import type { Db, SealedPlace } from '../seams.ts'
import type { SealedColumn } from '../vault/rotate.ts'

export interface Environment {
  id: number
  name: string
  uuid: string
}

export interface KeyRow {
  key_id: number
  display_name: string
  scopes: string[]
  environment_id: number
  name: string
  uuid: string
  key_limit: number | null
  environment_limit: number | null
  /** Milliseconds; null: it does not end. */
  left_ms: number | null
}

/** Found once a minute for as long as a key is in use: that is when its use is written down. */
export const findKey = async (db: Db, lookup: Buffer): Promise<KeyRow | undefined> => {
  const [row] = await db.query<KeyRow>(sql`
    select k.id as key_id, k.display_name, k.scopes, e.id as environment_id, e.name, e.uuid,
      k.requests_per_minute as key_limit, e.requests_per_minute as environment_limit,
      (extract(epoch from k.expires_at - clock_timestamp()) * 1000)::float8 as left_ms
    from api_key k join environment e on e.id = k.environment_id
    where k.lookup = ${lookup} and (k.expires_at is null or k.expires_at > clock_timestamp())`)
  return row
}

/** Written once a minute at most, however many servers see it used. */
export const markKeyUsed = (db: Db, id: number): Promise<object[]> =>
  db.query(sql`
    update api_key set last_used_at = now()
    where id = ${id} and (last_used_at is null or last_used_at < now() - interval '1 minute')`)

export const listEnvironments = (db: Db): Promise<Environment[]> =>
  db.query<Environment>(sql`select id, name, uuid from environment order by id`)

/** Harmless when another server does the same at the same moment. */
export const addEnvironment = (db: Db, name: string): Promise<object[]> =>
  db.query(sql`insert into environment (name) values (${name}) on conflict (name) do nothing`)

/**
 * True when this call created the environment's default key: of several servers starting at once, exactly one. An environment whose owner
 * deleted it and kept others does not get it back.
 */
export const addDefaultKey = async (
  db: Db,
  environmentId: number,
  lookup: Buffer,
  scopes: string[],
): Promise<boolean> => {
  const rows = await db.query(sql`
    insert into api_key (environment_id, display_name, lookup, scopes)
    select ${environmentId}::int, 'default', ${lookup}::bytea, ${scopes}::text[]
    where not exists (select from api_key where environment_id = ${environmentId})
    on conflict (environment_id, display_name) do nothing
    returning id`)
  return rows.length > 0
}

/**
 * The same for a key the operator pinned, which replaces the one there is. Servers that start at once take turns by the environment's row:
 * ON CONFLICT arbitrates one index, and two inserts of the same pin would meet in the other, that of `lookup` (PostgreSQL, "INSERT":
 * a violation of any index but the arbiter is an error).
 */
export const setDefaultKey = (db: Db, environmentId: number, lookup: Buffer, scopes: string[]): Promise<object[]> =>
  db.query(sql`
    with turn as materialized (select id from environment where id = ${environmentId} for no key update)
    insert into api_key (environment_id, display_name, lookup, scopes)
    select id, 'default', ${lookup}::bytea, ${scopes}::text[] from turn
    on conflict (environment_id, display_name) do update set lookup = excluded.lookup
    where api_key.lookup <> excluded.lookup`)

/** Every server on this database lets go of what it remembers of this environment. */
export const announceChange = (db: Db, environmentId: number): Promise<object[]> =>
  db.query(sql`select pg_notify('fairlead_changed', ${`environment ${environmentId}`})`)

export const settingPlace = (name: string): SealedPlace => ({
  table: 'setting',
  column: 'sealed',
  environment: 0,
  row: name,
})

export const readSetting = async (db: Db, name: string): Promise<Buffer | undefined> => {
  const [row] = await db.query<{ sealed: Buffer }>(sql`select sealed from setting where name = ${name}`)
  return row?.sealed
}

/** The first writer wins; everybody then reads the same value. */
export const addSetting = (db: Db, name: string, sealed: Buffer): Promise<object[]> =>
  db.query(sql`insert into setting (name, sealed) values (${name}, ${sealed}) on conflict (name) do nothing`)

export const sealedSettings = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from setting where sealed_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ name: string; sealed: Buffer }>(sql`
      select name, sealed from setting
      where sealed_key = ${key} and name > coalesce(${after}, '') order by name limit ${limit}`)
    return rows.map(({ name, sealed }) => ({
      place: settingPlace(name),
      sealed,
      replace: resealed =>
        db.query(sql`update setting set sealed = ${resealed} where name = ${name} and sealed = ${sealed}`),
    }))
  },
})
