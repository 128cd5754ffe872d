/** An environment's settings and its signing keys. The keys are this room's, because they are an environment's; `webhook/` signs with them. */
import { randomBytes } from 'node:crypto'
import { defaultConnectUi, type Settings, type SettingsChange } from '@fairlead/contract'
import { sql } from '../../db/sql.ts'
import { newId } from '../../lib/id.ts'
import { Secret } from '../../lib/secret.ts'
import type { Db, Vault } from '../../seams.ts'
import type { SealedColumn } from '../../vault/rotate.ts'

export const readSettings = async (db: Db, environmentId: number): Promise<Settings> => {
  const [row] = await db.query<Settings>(sql`
    select webhook_url, webhook_url_secondary, on_auth_creation, on_auth_refresh_error, on_connection_health,
      on_connection_lifecycle, allowed_origins, return_urls, confirm_connections, requests_per_minute, connect_ui
    from environment where id = ${environmentId}`)
  return { ...row!, connect_ui: { ...defaultConnectUi, ...row!.connect_ui } }
}

/** Who may frame a page that does not say yet which environment it is for: anybody, unless every environment has a list of its own. */
export const framingOrigins = async (db: Db): Promise<string[]> => {
  const rows = await db.query<{ allowed_origins: string[] }>(sql`select allowed_origins from environment`)
  const open = rows.some(({ allowed_origins }) => allowed_origins.length === 0)
  return open ? ['*'] : [...new Set(rows.flatMap(({ allowed_origins }) => allowed_origins))]
}

const lockEnvironment = (tx: Db, id: number) =>
  tx.query(sql`select id from environment where id = ${id} for no key update`)

/** `told`: the change is written into the audit trail with it. */
export const writeSettings = (
  db: Db,
  environmentId: number,
  change: SettingsChange,
  told: (tx: Db) => Promise<void> = async () => {},
): Promise<Settings> =>
  db.transaction(async tx => {
    await lockEnvironment(tx, environmentId)
    const before = await readSettings(tx, environmentId)
    // What came as JSON holds no undefined.
    const after = { ...before, ...change, connect_ui: { ...before.connect_ui, ...change.connect_ui } } as Settings
    await tx.query(sql`
      update environment set webhook_url = ${after.webhook_url}, webhook_url_secondary = ${after.webhook_url_secondary},
        on_auth_creation = ${after.on_auth_creation}, on_auth_refresh_error = ${after.on_auth_refresh_error},
        on_connection_health = ${after.on_connection_health}, on_connection_lifecycle = ${after.on_connection_lifecycle},
        allowed_origins = ${after.allowed_origins}, return_urls = ${after.return_urls},
        confirm_connections = ${after.confirm_connections},
        requests_per_minute = ${after.requests_per_minute}, connect_ui = ${JSON.stringify(after.connect_ui)}::jsonb
      where id = ${environmentId}`)
    // Callers are kept in memory with their limits, on every server.
    if (after.requests_per_minute !== before.requests_per_minute)
      await tx.query(sql`select pg_notify('fairlead_changed', 'callers')`)
    await told(tx)
    return after
  })

interface KeyDeps {
  db: Db
  vault: Vault
}

const place = (environmentId: number, id: string) => ({
  table: 'webhook_key',
  column: 'sealed',
  environment: environmentId,
  row: id,
})

/** 256 bits, spelled as Standard Webhooks has it. The wire contract's signatures take the whole text as their key. */
async function sealNew(vault: Vault, environmentId: number): Promise<{ id: string; key: Secret; sealed: Buffer }> {
  const id = newId()
  const key = new Secret(`whsec_${randomBytes(32).toString('base64')}`)
  return { id, key, sealed: await vault.withKeys(() => vault.seal(key.reveal(), place(environmentId, id))) }
}

/** The new key when the environment had none; of several at once one makes it, and only that one may show it. */
export async function addFirstSigningKey({ db, vault }: KeyDeps, environmentId: number): Promise<Secret | undefined> {
  const [existing] = await db.query(sql`select id from webhook_key where environment_id = ${environmentId} limit 1`)
  if (existing) return undefined
  const { id, key, sealed } = await sealNew(vault, environmentId)
  const added = await db.query(sql`
    insert into webhook_key (id, environment_id, sealed) values (${id}, ${environmentId}, ${sealed})
    on conflict (environment_id) where retires_at is null do nothing returning id`)
  return added.length > 0 ? key : undefined
}

/** `previousUntil`: null when there was none, or it ends now. */
export async function replaceSigningKey(
  { db, vault }: KeyDeps,
  environmentId: number,
  overlapHours: number,
  told: (tx: Db) => Promise<void> = async () => {},
): Promise<{ key: Secret; previousUntil: Date | null }> {
  const { id, key, sealed } = await sealNew(vault, environmentId)
  return db.transaction(async tx => {
    await lockEnvironment(tx, environmentId)
    const [retired] = await tx.query<{ retires_at: Date }>(sql`
      update webhook_key set retires_at = clock_timestamp() + ${overlapHours}::int * interval '1 hour'
      where environment_id = ${environmentId} and retires_at is null returning retires_at`)
    // A leaked key ends every older one with it: whoever has this one may have had those.
    await tx.query(sql`
      delete from webhook_key where environment_id = ${environmentId}
        and (retires_at < clock_timestamp() or (${overlapHours} = 0 and retires_at is not null))`)
    await tx.query(
      sql`insert into webhook_key (id, environment_id, sealed) values (${id}, ${environmentId}, ${sealed})`,
    )
    await told(tx)
    return { key, previousUntil: overlapHours > 0 && retired ? retired.retires_at : null }
  })
}

export interface SigningKeyRow {
  id: string
  created_at: Date
  retires_at: Date | null
}

export const listSigningKeys = (db: Db, environmentId: number): Promise<SigningKeyRow[]> =>
  db.query<SigningKeyRow>(sql`
    select id, created_at, retires_at from webhook_key
    where environment_id = ${environmentId} and (retires_at is null or retires_at > clock_timestamp())
    order by retires_at desc nulls first`)

/** The current one first. At most five, so that no number of rotations makes a header a receiver refuses. */
export async function signingKeys({ db, vault }: KeyDeps, environmentId: number): Promise<Secret[]> {
  const rows = await db.query<{ id: string; sealed: Buffer }>(sql`
    select id, sealed from webhook_key
    where environment_id = ${environmentId} and (retires_at is null or retires_at > clock_timestamp())
    order by retires_at desc nulls first limit 5`)
  return Promise.all(
    rows.map(async row => {
      return new Secret(await vault.withKeys(() => vault.open(row.sealed, place(environmentId, row.id))))
    }),
  )
}

export const sealedSigningKeys = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from webhook_key where sealed_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ id: string; environment_id: number; sealed: Buffer }>(sql`
      select id, environment_id, sealed from webhook_key
      where sealed_key = ${key} and id > coalesce(${after}::uuid, '00000000-0000-0000-0000-000000000000')
      order by id limit ${limit}`)
    return rows.map(({ id, environment_id, sealed }) => ({
      place: place(environment_id, id),
      sealed,
      replace: resealed =>
        db.query(sql`update webhook_key set sealed = ${resealed} where id = ${id} and sealed = ${sealed}`),
    }))
  },
})
