/**
 * The outbox of revocations. A grant leaves the table `credential` for here in one transaction: its row stays as a tombstone without
 * tokens, so that whatever still refers to it (an intent, a late answer, a replay) finds it gone.
 */
import type { Receipt } from '@fairlead/contract'
import { sql } from '../../db/sql.ts'
import { Failure } from '../../errors.ts'
import type { Integration } from '../../integration/store.ts'
import { newId } from '../../lib/id.ts'
import { Secret } from '../../lib/secret.ts'
import { isoZulu, minutes } from '../../lib/time.ts'
import type { ConnectionConfig } from '../../provider/endpoint.ts'
import type { Provider } from '../../provider/schema.ts'
import type { Db, Vault } from '../../seams.ts'
import type { SealedColumn } from '../../vault/rotate.ts'
import { clientOf } from '../exchange.ts'
import type { Given, KindName } from '../kinds/kind.ts'
import { kindNamed } from '../kinds/kinds.ts'
import type { Client, TokenSet } from '../kinds/oauth2-code.ts'
import type { Holder } from '../refresh-deps.ts'
import { countGrants, inBatches, openSealed, type Successor } from '../store.ts'
import type { Timing } from '../timing.ts'

export interface RetireDeps {
  vault: Vault
  timing: Pick<Timing, 'quiet'>
}

export interface Retired {
  credentialId: string
  /** Every connection that stood on it. */
  connectionIds: string[]
}

/** The integration's client goes along, sealed: the integration may be deleted before the provider has been reached. */
interface Sealed {
  access_token?: string
  refresh_token?: string
  client_id: string
  client_secret?: string
}

const place = (environmentId: number, id: string) => ({
  table: 'revocation',
  column: 'sealed',
  environment: environmentId,
  row: id,
})

interface Tokens {
  access: string | undefined
  refresh: string | undefined
}

function seal(vault: Vault, environmentId: number, id: string, tokens: Tokens, client: Client): Promise<Buffer> {
  const sealed: Sealed = {
    ...(tokens.access !== undefined && { access_token: tokens.access }),
    ...(tokens.refresh !== undefined && { refresh_token: tokens.refresh }),
    client_id: client.id,
    ...(client.secret && { client_secret: client.secret.reveal() }),
  }
  return vault.withKeys(() => vault.seal(JSON.stringify(sealed), place(environmentId, id)))
}

/**
 * DELETE and KILL: the credentials are gone, their tokens in the outbox, in the caller's transaction. The caller has locked the rows and
 * removed their connections. What cannot be opened any more cannot be revoked either, and must not keep anybody from deleting it.
 */
export async function retire(
  { vault, timing }: RetireDeps,
  tx: Db,
  integration: Integration,
  retired: Retired[],
  reason: string | null,
): Promise<void> {
  const rows = await tx.query<{ id: string; environment_id: number; kind: KindName; sealed: Buffer }>(sql`
    select id, environment_id, kind, sealed from credential
    where id = any (${retired.map(one => one.credentialId)}::uuid[]) and gone_at is null for update`)
  const client = { id: integration.clientId ?? '', secret: integration.clientSecret }
  const moved = await Promise.all(
    rows.map(async row => {
      const id = newId()
      const tokens = await opened(vault, row)
      const held = tokens && issued(row.kind, tokens)
      const owner = tokens && clientOf(client, tokens.given)
      return { id, credentialId: row.id, sealed: held && (await seal(vault, row.environment_id, id, held, owner!)) }
    }),
  )
  const connectionsOf = new Map(retired.map(one => [one.credentialId, one.connectionIds]))
  await tx.query(sql`
    with moved as (
      select * from unnest(${moved.map(one => one.id)}::uuid[], ${moved.map(one => one.credentialId)}::uuid[],
        ${moved.map(one => one.sealed ?? null)}::bytea[],
        ${moved.map(one => JSON.stringify(connectionsOf.get(one.credentialId) ?? []))}::jsonb[])
        as moved (id, credential_id, sealed, connection_ids)),
    queued as (
      insert into revocation (id, environment_id, integration_id, provider_config_key, provider, credential_id, connection_ids, reason,
        sealed, config, quiet_until, result, ended_at)
      select moved.id, k.environment_id, ${integration.id}, ${integration.key}, ${integration.provider}, k.id,
        array(select jsonb_array_elements_text(moved.connection_ids)), ${reason}, moved.sealed, k.config,
        case when k.intent_claim is not null then clock_timestamp() + ${timing.quiet}::float8 * interval '1 millisecond' end,
        case when moved.sealed is null then 'given_up' end, case when moved.sealed is null then clock_timestamp() end
      from moved join credential k on k.id = moved.credential_id),
    gone as (
      update credential set gone_at = clock_timestamp(), sealed = null, config = '{}', claim_id = null, lease_until = null
      from moved where credential.id = moved.credential_id
      returning credential.id)
    select pg_notify('fairlead_changed', 'credential ' || id) from gone`)
}

/** What the provider issued to us. A key or a password is its owner's to withdraw. */
const issued = (kind: KindName, { access, refresh }: Tokens): Tokens =>
  kindNamed(kind).renewsFrom ? { access, refresh } : { access: undefined, refresh: undefined }

async function opened(
  vault: Vault,
  row: { id: string; environment_id: number; sealed: Buffer },
): Promise<(Tokens & { given: Given }) | undefined> {
  try {
    const { access_token, refresh_token, given = {} } = await openSealed(vault, row)
    return { access: access_token, refresh: refresh_token, given }
  } catch (error) {
    if (error instanceof Failure && error.code === 'sealed_value_unreadable') return undefined
    throw error
  }
}

/**
 * Whether tokens that nobody holds any more may be revoked while their account has another grant here: not where the provider would end that
 * one too.
 */
const endsItsOwnAlone = (provider: Provider): boolean => provider.revokes === 'grant'

/**
 * What remains of a grant whose owner signed in again, to the outbox, in the caller's transaction; the caller has locked the row and
 * overwrites its tokens. The refresh token goes alone: providers give the same access token to two grants of one account, and revoking it
 * would end the new grant's. Returns the access token that was held, when the old grant will be revoked.
 */
export async function retireReplaced(
  { vault, timing }: RetireDeps,
  tx: Db,
  { provider, client }: Holder,
  integration: Integration,
  credentialId: string,
): Promise<Secret | undefined> {
  if (!endsItsOwnAlone(provider)) return undefined
  const [row] = await tx.query<{ id: string; environment_id: number; sealed: Buffer }>(
    sql`select id, environment_id, sealed from credential where id = ${credentialId}`,
  )
  const tokens = row && (await opened(vault, row))
  if (!row || tokens?.refresh === undefined) return undefined
  const id = newId()
  const owner = clientOf(client, tokens.given)
  const sealed = await seal(vault, row.environment_id, id, { access: undefined, refresh: tokens.refresh }, owner)
  await tx.query(sql`
    insert into revocation (id, environment_id, integration_id, provider_config_key, provider, credential_id, connection_ids, state,
      sealed, config, quiet_until)
    select ${id}::uuid, environment_id, ${integration.id}::bigint, ${integration.key}::text, ${provider.name}::text, id,
      array(select connection_id from connection where credential_id = ${credentialId}), 'reconnected', ${sealed}::bytea, config,
      case when intent_claim is not null then clock_timestamp() + ${timing.quiet}::float8 * interval '1 millisecond' end
    from credential where id = ${credentialId}`)
  return tokens.access === undefined ? undefined : new Secret(tokens.access)
}

/** The row has given its connections to another one, and its tokens to the outbox or to nobody. */
export const buryCredential = (tx: Db, id: string): Promise<object[]> =>
  tx.query(sql`
    with gone as (
      update credential set gone_at = clock_timestamp(), sealed = null, config = '{}', claim_id = null, lease_until = null
      where id = ${id} returning id)
    select pg_notify('fairlead_changed', 'credential ' || id) from gone`)

/** Tokens of a sign-in that was refused and of which nothing is stored. False: left to end by themselves, for the sake of another grant. */
export async function retireRefused(
  db: Db,
  { vault }: RetireDeps,
  { provider, client }: Holder,
  integration: Integration,
  refused: { connectionId: string; account: string | null; tokens: TokenSet; config: ConnectionConfig },
): Promise<boolean> {
  const { connectionId, account, tokens, config } = refused
  const shared = !endsItsOwnAlone(provider) && (!account || (await countGrants(db, integration.id, account)) > 0)
  if (shared) return false
  const id = newId()
  const refresh = tokens.refreshToken?.reveal()
  const held = { access: refresh === undefined ? tokens.accessToken.reveal() : undefined, refresh }
  const owner = clientOf(client, tokens.given ?? {})
  const sealed = await seal(vault, integration.environmentId, id, held, owner)
  await db.query(sql`
    insert into revocation (id, environment_id, integration_id, provider_config_key, provider, credential_id, connection_ids, state,
      sealed, config)
    values (${id}, ${integration.environmentId}, ${integration.id}, ${integration.key}, ${provider.name}, ${newId()},
      array[${connectionId}::text], 'refused', ${sealed}, ${JSON.stringify(config)}::jsonb)`)
  return true
}

/**
 * A late answer of a grant that is gone, or that its owner has replaced: its tokens are ended as well, with a receipt of their own. Those of
 * a replaced grant are left alone where the provider would end the new grant with them.
 */
export async function retireLate(
  db: Db,
  { vault }: RetireDeps,
  { provider, client }: Holder,
  { credentialId, environmentId, integrationId, config, facts, tokens }: Successor,
): Promise<void> {
  const [row] = await db.query(sql`select id from credential where id = ${credentialId} and gone_at is null`)
  const replaced = row !== undefined
  if (replaced && !endsItsOwnAlone(provider)) return
  const id = newId()
  const refresh = tokens.refreshToken?.reveal()
  const held = { access: replaced && refresh !== undefined ? undefined : tokens.accessToken.reveal(), refresh }
  const sealed = await seal(vault, environmentId, id, held, clientOf(client, tokens.given ?? {}))
  await db.query(sql`
    with before as (
      select provider_config_key, connection_ids, reason from revocation
      where credential_id = ${credentialId} and state = 'deleted' order by created_at limit 1)
    insert into revocation (id, environment_id, integration_id, provider_config_key, provider, credential_id, connection_ids, state,
      reason, sealed, config)
    values (${id}, ${environmentId}, ${integrationId},
      coalesce((select provider_config_key from before), (select unique_key from integration where id = ${integrationId}), ''),
      ${provider.name}, ${credentialId},
      coalesce((select connection_ids from before), array(select connection_id from connection where credential_id = ${credentialId})),
      ${replaced ? 'reconnected' : 'deleted'},
      (select reason from before), ${sealed}, ${JSON.stringify({ ...config, ...facts })}::jsonb)`)
}

export type Result = 'revoked' | 'unverified' | 'already_dead' | 'not_offered' | 'given_up'

export interface Job {
  id: string
  integrationId: number
  provider: string
  connectionIds: string[]
  /** Left out where it may be somebody else's as well, and ends with the refresh token. */
  accessToken: Secret | undefined
  refreshToken: Secret | undefined
  client: Client
  config: ConnectionConfig
  /** A refresh was under way when it began: what became of it nobody can say for certain. */
  intentOpen: boolean
  /** How long its answer may still turn up; 0 when it cannot any more. */
  quietMs: number
  tries: number
  /** What the provider said in an earlier try. */
  result: Result | null
  /** It has been tried for long enough. */
  overdue: boolean
}

interface Row {
  id: string
  environment_id: number
  integration_id: number
  provider: string
  connection_ids: string[]
  sealed: Buffer
  config: ConnectionConfig
  intent_open: boolean
  quiet_ms: number
  tries: number
  result: Result | null
  overdue: boolean
}

/** Longer than one try takes, so that a process that died with jobs in hand leaves them to the next. */
const leaseSeconds = 120
/** Of wanting to reach the provider. */
const patienceDays = 3

/** Takes what is due, for this process alone. A job whose seal does not open any more is ended at once. */
export async function claimRevocations(db: Db, vault: Vault, limit: number): Promise<Job[]> {
  const rows = await db.query<Row>(sql`
    update revocation set lease_until = clock_timestamp() + ${leaseSeconds}::int * interval '1 second', tries = tries + 1
    where id in (
      select id from revocation
      where ended_at is null and next_try_at <= clock_timestamp() and (lease_until is null or lease_until < clock_timestamp())
      order by next_try_at limit ${limit} for update skip locked)
    returning id, environment_id, integration_id, provider, connection_ids, sealed, config, tries, result,
      quiet_until is not null as intent_open,
      greatest(0, coalesce(extract(epoch from quiet_until - clock_timestamp()) * 1000, 0))::float8 as quiet_ms,
      created_at < clock_timestamp() - ${patienceDays}::int * interval '1 day' as overdue`)
  const jobs = await Promise.all(rows.map(row => jobOf(vault, row)))
  // What does not open here may open on a server with a newer key ring: given up only when the job's time is over.
  for (const [i, row] of rows.entries())
    if (!jobs[i])
      await (row.overdue
        ? endRevocation(db, row.id, 'given_up', false)
        : postponeRevocation(db, row.id, row.result, minutes(15)))
  return jobs.filter(job => job !== undefined)
}

async function jobOf(vault: Vault, row: Row): Promise<Job | undefined> {
  let sealed: Sealed
  try {
    const text = await vault.withKeys(() => vault.open(row.sealed, place(row.environment_id, row.id)))
    sealed = JSON.parse(text) as Sealed
  } catch (error) {
    if (error instanceof Failure && error.code === 'sealed_value_unreadable') return undefined
    throw error
  }
  return {
    id: row.id,
    integrationId: row.integration_id,
    provider: row.provider,
    connectionIds: row.connection_ids,
    accessToken: sealed.access_token === undefined ? undefined : new Secret(sealed.access_token),
    refreshToken: sealed.refresh_token === undefined ? undefined : new Secret(sealed.refresh_token),
    client: {
      id: sealed.client_id,
      secret: sealed.client_secret === undefined ? null : new Secret(sealed.client_secret),
    },
    config: row.config,
    intentOpen: row.intent_open,
    quietMs: row.quiet_ms,
    tries: row.tries,
    result: row.result,
    overdue: row.overdue,
  }
}

/** Again later. `result`: what the provider has said so far. */
export const postponeRevocation = (db: Db, id: string, result: Result | null, waitMs: number): Promise<object[]> =>
  db.query(sql`
    update revocation set result = ${result}, lease_until = null,
      next_try_at = clock_timestamp() + ${waitMs}::float8 * interval '1 millisecond'
    where id = ${id} and ended_at is null`)

/** The receipt stays; the tokens and the facts of the account go. */
export const endRevocation = (db: Db, id: string, result: Result, verified: boolean): Promise<object[]> =>
  db.query(sql`
    update revocation set result = ${result}, ended_at = clock_timestamp(),
      verified_at = case when ${verified} then clock_timestamp() end, sealed = null, config = '{}', lease_until = null
    where id = ${id} and ended_at is null`)

/** A job that ended meanwhile holds nothing any more, and the comparison keeps it so. */
export const sealedJobs = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from revocation where sealed_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ id: string; environment_id: number; sealed: Buffer }>(sql`
      select id, environment_id, sealed from revocation
      where sealed_key = ${key} and id > coalesce(${after}::uuid, '00000000-0000-0000-0000-000000000000')
      order by id limit ${limit}`)
    return rows.map(({ id, environment_id, sealed }) => ({
      place: place(environment_id, id),
      sealed,
      replace: resealed =>
        db.query(sql`update revocation set sealed = ${resealed} where id = ${id} and sealed = ${sealed}`),
    }))
  },
})

export interface ReceiptFilter {
  connection_id?: string | undefined
  provider_config_key?: string | undefined
}

/** One per connection, newest first. */
export async function listReceipts(db: Db, environmentId: number, filter: ReceiptFilter): Promise<Receipt[]> {
  const named = filter.connection_id ?? null
  const rows = await db.query<ReceiptRow>(sql`
    select unnest(case when ${named}::text is null then connection_ids else array[${named}::text] end) as connection_id,
      provider_config_key, state, reason, result, created_at, verified_at, ended_at
    from revocation
    where environment_id = ${environmentId}
      and (${named}::text is null or connection_ids @> array[${named}::text])
      and (${filter.provider_config_key ?? null}::text is null or provider_config_key = ${filter.provider_config_key ?? null})
    order by created_at desc, id limit 1000`)
  return rows.map(receiptOf)
}

interface ReceiptRow {
  connection_id: string
  provider_config_key: string
  state: Receipt['state']
  reason: string | null
  result: Result | null
  created_at: Date
  verified_at: Date | null
  ended_at: Date | null
}

const receiptOf = (row: ReceiptRow): Receipt => ({
  connection_id: row.connection_id,
  provider_config_key: row.provider_config_key,
  state: row.state,
  status: row.ended_at && row.result ? row.result : 'pending',
  reason: row.reason,
  created_at: isoZulu(row.created_at),
  verified_at: row.verified_at && isoZulu(row.verified_at),
  ended_at: row.ended_at && isoZulu(row.ended_at),
})

/** Receipts go after a year. */
export const pruneReceipts = (db: Db, keepDays: number): Promise<void> =>
  inBatches(limit =>
    db.query(sql`
      delete from revocation where id in (
        select id from revocation where ended_at < clock_timestamp() - ${keepDays}::int * interval '1 day'
        order by ended_at limit ${limit})
      returning 1`),
  )
