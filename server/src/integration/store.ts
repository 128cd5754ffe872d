import { sql } from '../db/sql.ts'
import { Secret } from '../lib/secret.ts'
import type { Db, Vault } from '../seams.ts'
import type { SealedColumn } from '../vault/rotate.ts'

export interface Settings {
  /** Fields of the provider's `integration_config`, the same for every connection. Some are secret. */
  config: Readonly<Record<string, string>>
  /** `baseUrl`: where the provider's API is for this developer. */
  custom: Readonly<Record<string, string>>
}

export const noSettings: Settings = { config: {}, custom: {} }

/** A provider configured by you; `key` is `provider_config_key` on the wire. */
export interface Integration {
  id: number
  environmentId: number
  key: string
  provider: string
  displayName: string | null
  clientId: string | null
  clientSecret: Secret | null
  /** Comma-separated, as it was given; null means the provider's default. */
  scopes: string | null
  settings: Settings
  forwardWebhooks: boolean
  captureBodies: boolean
  /** Where `Base-Url-Override` may lead: host, and port unless it is the scheme's own. Empty: nowhere. */
  baseUrlHosts: string[]
  createdAt: Date
  updatedAt: Date
}

interface Row {
  id: number
  environment_id: number
  unique_key: string
  provider: string
  display_name: string | null
  client_id: string | null
  client_secret_sealed: Buffer | null
  settings_sealed: Buffer | null
  scopes: string | null
  forward_webhooks: boolean
  capture_bodies: boolean
  base_url_hosts: string[]
  created_at: Date
  updated_at: Date
}

export interface Deps {
  db: Db
  vault: Vault
}

/** Bound to the key the row is found by, not its number: it is sealed before the row exists. */
const placeOf = (column: 'client_secret_sealed' | 'settings_sealed', environmentId: number, key: string) => ({
  table: 'integration',
  column,
  environment: environmentId,
  row: key,
})
const secretPlace = (environmentId: number, key: string) => placeOf('client_secret_sealed', environmentId, key)
const settingsPlace = (environmentId: number, key: string) => placeOf('settings_sealed', environmentId, key)

const isEmpty = ({ config, custom }: Settings): boolean =>
  Object.keys(config).length === 0 && Object.keys(custom).length === 0

const sealSettings = async (vault: Vault, environmentId: number, key: string, settings: Settings) =>
  isEmpty(settings)
    ? null
    : vault.withKeys(() => vault.seal(JSON.stringify(settings), settingsPlace(environmentId, key)))

function fromRow(vault: Vault, row: Row): Integration {
  return {
    id: row.id,
    environmentId: row.environment_id,
    key: row.unique_key,
    provider: row.provider,
    displayName: row.display_name,
    clientId: row.client_id,
    clientSecret:
      row.client_secret_sealed &&
      new Secret(vault.open(row.client_secret_sealed, secretPlace(row.environment_id, row.unique_key))),
    scopes: row.scopes,
    // Written by `sealSettings` alone and authenticated, so its shape is known.
    settings: row.settings_sealed
      ? (JSON.parse(vault.open(row.settings_sealed, settingsPlace(row.environment_id, row.unique_key))) as Settings)
      : noSettings,
    forwardWebhooks: row.forward_webhooks,
    captureBodies: row.capture_bodies,
    baseUrlHosts: row.base_url_hosts,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

export async function listIntegrations({ db, vault }: Deps, environmentId: number): Promise<Integration[]> {
  const rows = await db.query<Row>(sql`select * from integration where environment_id = ${environmentId} order by id`)
  return vault.withKeys(() => rows.map(row => fromRow(vault, row)))
}

export async function findIntegration(
  { db, vault }: Deps,
  environmentId: number,
  key: string,
): Promise<Integration | undefined> {
  const [row] = await db.query<Row>(
    sql`select * from integration where environment_id = ${environmentId} and unique_key = ${key}`,
  )
  return row && vault.withKeys(() => fromRow(vault, row))
}

/** Its columns in a row of several tables: those that others have too go by another name. */
export type JoinedIntegration = Omit<Row, 'id' | 'environment_id' | 'created_at'> & {
  integration_id: number
  environment_id: number
  integration_created_at: Date
}

export const integrationIn = (vault: Vault, row: JoinedIntegration): Promise<Integration> =>
  vault.withKeys(() => fromRow(vault, { ...row, id: row.integration_id, created_at: row.integration_created_at }))

export async function findIntegrationById({ db, vault }: Deps, id: number): Promise<Integration | undefined> {
  const [row] = await db.query<Row>(sql`select * from integration where id = ${id}`)
  return row && vault.withKeys(() => fromRow(vault, row))
}

/** Every integration of these providers, of all environments. */
export const listIntegrationsOf = (db: Db, providers: string[]): Promise<{ id: number; provider: string }[]> =>
  db.query(sql`select id, provider from integration where provider = any (${providers})`)

export interface NewIntegration {
  environmentId: number
  key: string
  provider: string
  displayName: string | null
  clientId: string | null
  clientSecret: string | null
  scopes: string | null
  settings?: Settings
  forwardWebhooks: boolean
  captureBodies: boolean
  baseUrlHosts: string[]
}

/** Undefined when the key is taken. */
export async function addIntegration({ db, vault }: Deps, added: NewIntegration): Promise<Integration | undefined> {
  const { clientSecret } = added
  const place = secretPlace(added.environmentId, added.key)
  const sealed = clientSecret && (await vault.withKeys(() => vault.seal(clientSecret, place)))
  const settings = await sealSettings(vault, added.environmentId, added.key, added.settings ?? noSettings)
  const [row] = await db.query<Row>(sql`
    insert into integration (environment_id, unique_key, provider, display_name, client_id, client_secret_sealed, scopes, settings_sealed,
      forward_webhooks, capture_bodies, base_url_hosts)
    values (${added.environmentId}, ${added.key}, ${added.provider}, ${added.displayName}, ${added.clientId}, ${sealed}, ${added.scopes},
      ${settings}, ${added.forwardWebhooks}, ${added.captureBodies}, ${added.baseUrlHosts})
    on conflict (environment_id, unique_key) do nothing
    returning *`)
  return row && vault.withKeys(() => fromRow(vault, row))
}

export async function saveIntegration({ db, vault }: Deps, integration: Integration): Promise<Integration | undefined> {
  const {
    id,
    environmentId,
    key,
    displayName,
    clientId,
    clientSecret,
    scopes,
    forwardWebhooks,
    captureBodies,
    baseUrlHosts,
  } = integration
  const place = secretPlace(environmentId, key)
  const sealed = clientSecret && (await vault.withKeys(() => vault.seal(clientSecret.reveal(), place)))
  const settings = await sealSettings(vault, environmentId, key, integration.settings)
  const [row] = await db.query<Row>(sql`
    update integration set unique_key = ${key}, display_name = ${displayName}, client_id = ${clientId},
      client_secret_sealed = ${sealed}, scopes = ${scopes}, settings_sealed = ${settings}, forward_webhooks = ${forwardWebhooks},
      capture_bodies = ${captureBodies}, base_url_hosts = ${baseUrlHosts}, updated_at = now()
    where id = ${id} returning *`)
  return row && vault.withKeys(() => fromRow(vault, row))
}

export const removeIntegration = ({ db }: Deps, id: number): Promise<object[]> =>
  db.query(sql`delete from integration where id = ${id}`)

export async function hasConnections({ db }: Deps, id: number): Promise<boolean> {
  const [row] = await db.query<{ used: boolean }>(
    sql`select exists (select from connection where integration_id = ${id}) as used`,
  )
  return row!.used
}

export const sealedIntegrationSettings = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from integration where settings_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ id: number; environment_id: number; unique_key: string; sealed: Buffer }>(sql`
      select id, environment_id, unique_key, settings_sealed as sealed from integration
      where settings_key = ${key} and unique_key > coalesce(${after}, '') order by unique_key limit ${limit}`)
    return rows.map(({ id, environment_id, unique_key, sealed }) => ({
      place: settingsPlace(environment_id, unique_key),
      sealed,
      replace: resealed =>
        db.query(sql`
          update integration set settings_sealed = ${resealed} where id = ${id} and settings_sealed = ${sealed}`),
    }))
  },
})

export const sealedClientSecrets = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from integration where client_secret_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ id: number; environment_id: number; unique_key: string; sealed: Buffer }>(sql`
      select id, environment_id, unique_key, client_secret_sealed as sealed from integration
      where client_secret_key = ${key} and unique_key > coalesce(${after}, '') order by unique_key limit ${limit}`)
    return rows.map(({ id, environment_id, unique_key, sealed }) => ({
      place: secretPlace(environment_id, unique_key),
      sealed,
      // The value of a renamed integration is another one, so the comparison covers its name.
      replace: resealed =>
        db.query(sql`
          update integration set client_secret_sealed = ${resealed} where id = ${id} and client_secret_sealed = ${sealed}`),
    }))
  },
})
