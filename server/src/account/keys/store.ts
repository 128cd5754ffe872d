import { sql } from '../../db/sql.ts'
import type { Db } from '../../seams.ts'

export interface ApiKey {
  id: number
  display_name: string
  scopes: string[]
  created_at: Date
  expires_at: Date | null
  last_used_at: Date | null
  requests_per_minute: number | null
}

export const listKeys = (db: Db, environmentId: number): Promise<ApiKey[]> =>
  db.query<ApiKey>(sql`
    select id, display_name, scopes, created_at, expires_at, last_used_at, requests_per_minute from api_key
    where environment_id = ${environmentId} order by id`)

/** The wire contract's. */
const maxKeys = 50

export interface NewKey {
  environmentId: number
  displayName: string
  lookup: Buffer
  scopes: string[]
  expiresAt: Date | null
  requestsPerMinute: number | null
  /** Last in the transaction: the audit trail is locked from there on. */
  audited(tx: Db): Promise<void>
}

export type Added = { kind: 'added'; key: ApiKey } | { kind: 'taken' | 'full' | 'no_environment' }

export const addKey = (db: Db, added: NewKey): Promise<Added> =>
  db.transaction(async tx => {
    const [environment] = await tx.query(
      sql`select id from environment where id = ${added.environmentId} for no key update`,
    )
    if (!environment) return { kind: 'no_environment' }
    const keys = await listKeys(tx, added.environmentId)
    if (keys.some(key => key.display_name === added.displayName)) return { kind: 'taken' }
    if (keys.length >= maxKeys) return { kind: 'full' }
    const [key] = await tx.query<ApiKey>(sql`
      insert into api_key (environment_id, display_name, lookup, scopes, expires_at, requests_per_minute)
      values (${added.environmentId}, ${added.displayName}, ${added.lookup}, ${added.scopes}, ${added.expiresAt}, ${added.requestsPerMinute})
      returning id, display_name, scopes, created_at, expires_at, last_used_at, requests_per_minute`)
    await added.audited(tx)
    return { kind: 'added', key: key! }
  })

/** Every server reads it anew; undefined when there is none. */
export const limitKey = (
  db: Db,
  environmentId: number,
  id: number,
  requestsPerMinute: number | null,
  audited: (tx: Db, name: string) => Promise<void>,
): Promise<ApiKey | undefined> =>
  db.transaction(async tx => {
    const [key] = await tx.query<ApiKey>(sql`
      update api_key set requests_per_minute = ${requestsPerMinute} where environment_id = ${environmentId} and id = ${id}
      returning id, display_name, scopes, created_at, expires_at, last_used_at, requests_per_minute`)
    if (!key) return undefined
    await tx.query(sql`select pg_notify('fairlead_changed', 'callers')`)
    await audited(tx, key.display_name)
    return key
  })

/** Every server lets go of it; true when there was one. */
export const removeKey = (
  db: Db,
  environmentId: number,
  id: number,
  audited: (tx: Db, name: string) => Promise<void>,
): Promise<boolean> =>
  db.transaction(async tx => {
    const [gone] = await tx.query<{ display_name: string }>(
      sql`delete from api_key where environment_id = ${environmentId} and id = ${id} returning display_name`,
    )
    if (!gone) return false
    await tx.query(sql`select pg_notify('fairlead_changed', 'callers')`)
    await audited(tx, gone.display_name)
    return true
  })

export interface EnvironmentRow {
  id: number
  name: string
}

/** Undefined when the name is taken. */
export const addNamedEnvironment = (
  db: Db,
  name: string,
  audited: (tx: Db) => Promise<void>,
): Promise<EnvironmentRow | undefined> =>
  db.transaction(async tx => {
    const [row] = await tx.query<EnvironmentRow>(
      sql`insert into environment (name) values (${name}) on conflict (name) do nothing returning id, name`,
    )
    if (row) await audited(tx)
    return row
  })

/**
 * Refused while a grant lives in it, or one is still on its way to being ended: what they are revoked with would go along. Locked first, so
 * that a sign-in which is just being stored is seen.
 */
export const removeEnvironment = (
  db: Db,
  id: number,
  audited: (tx: Db, name: string) => Promise<void>,
): Promise<'removed' | 'in_use' | 'unknown'> =>
  db.transaction(async tx => {
    const [environment] = await tx.query<{ name: string }>(
      sql`select name from environment where id = ${id} for update`,
    )
    if (!environment) return 'unknown'
    const [used] = await tx.query<{ used: boolean }>(sql`
      select exists (select from connection where environment_id = ${id})
        or exists (select from revocation where environment_id = ${id} and ended_at is null) as used`)
    if (used!.used) return 'in_use'
    await tx.query(sql`delete from environment where id = ${id}`)
    await tx.query(sql`select pg_notify('fairlead_changed', 'callers')`)
    await audited(tx, environment.name)
    return 'removed'
  })
