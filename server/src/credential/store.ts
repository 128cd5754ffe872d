import type { Health } from '@fairlead/contract'
import type { KeyedHash } from '../account/pepper.ts'
import { sql } from '../db/sql.ts'
import { newId } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Db, Now, Vault } from '../seams.ts'
import type { TokenSet } from './kinds/oauth2-code.ts'
import { margin, type Timing } from './timing.ts'

/** The sealed secret of one grant, opened, with what is known of its life. Instants are on this process's monotonic clock. */
export interface Credential {
  id: string
  environmentId: number
  integrationId: number
  config: ConnectionConfig
  accessToken: Secret
  refreshToken: Secret | undefined
  tokenType: string
  /** The provider's whole token response. */
  raw: Record<string, unknown>
  /** Counts token installations and nothing else. */
  tokenVersion: number
  /** When the access token ends; undefined when nobody said. */
  aliveUntil: number | undefined
  /** From here on it should be renewed. */
  freshUntil: number | undefined
  /** The same end by the database's clock, for the wire. */
  expiresAt: Date | null
  scopesRequested: string[]
  scopesGranted: string[]
  /** Undefined until a refresh has shown it. */
  rotates: boolean | undefined
  health: Health
  cause: string | null
  paused: boolean
  intentClaim: string | null
  leaseHeld: boolean
  /** From here on another attempt is allowed. */
  nextTryAt: number
  failures: number
}

interface Row {
  id: string
  environment_id: number
  integration_id: number
  config: ConnectionConfig
  sealed: Buffer
  token_version: number
  expires_at: Date | null
  life_ms: number | null
  left_ms: number | null
  scopes_requested: string[]
  scopes_granted: string[]
  rotates: boolean | null
  health: Health
  cause: string | null
  paused: boolean
  intent_claim: string | null
  lease_held: boolean | null
  back_off_ms: number | null
  failures: number
}

export interface StoreDeps {
  db: Db
  vault: Vault
  keyedHash: KeyedHash
  now: Now
  timing: Timing
}

/** Tokens as they are sealed: one JSON text per grant. */
interface Sealed {
  access_token: string
  refresh_token?: string
  token_type: string
  raw: Record<string, unknown>
}

const place = (environmentId: number, id: string) => ({
  table: 'credential',
  column: 'sealed',
  environment: environmentId,
  row: id,
})

const sealTokens = (
  vault: Vault,
  environmentId: number,
  id: string,
  tokens: TokenSet,
  refreshToken: Secret | undefined,
): Buffer => {
  const sealed: Sealed = {
    access_token: tokens.accessToken.reveal(),
    ...(refreshToken && { refresh_token: refreshToken.reveal() }),
    token_type: tokens.tokenType,
    raw: tokens.raw,
  }
  return vault.seal(JSON.stringify(sealed), place(environmentId, id))
}

export const fingerprint = (keyedHash: KeyedHash, refreshToken: Secret | undefined): Buffer | null =>
  refreshToken ? keyedHash(`refresh token ${refreshToken.reveal()}`) : null

function fromRow({ vault, now, timing }: StoreDeps, row: Row): Credential {
  // The row was written by `sealTokens` alone and its seal is authenticated, so its shape is known.
  const tokens = JSON.parse(vault.open(row.sealed, place(row.environment_id, row.id))) as Sealed
  const aliveUntil = row.left_ms === null ? undefined : now() + row.left_ms
  return {
    id: row.id,
    environmentId: row.environment_id,
    integrationId: row.integration_id,
    config: row.config,
    accessToken: new Secret(tokens.access_token),
    refreshToken: tokens.refresh_token === undefined ? undefined : new Secret(tokens.refresh_token),
    tokenType: tokens.token_type,
    raw: tokens.raw,
    tokenVersion: row.token_version,
    aliveUntil,
    freshUntil: aliveUntil === undefined ? undefined : aliveUntil - margin(row.life_ms ?? 0, timing),
    expiresAt: row.expires_at,
    scopesRequested: row.scopes_requested,
    scopesGranted: row.scopes_granted,
    rotates: row.rotates ?? undefined,
    health: row.health,
    cause: row.cause,
    paused: row.paused,
    intentClaim: row.intent_claim,
    leaseHeld: row.lease_held === true,
    nextTryAt: now() + (row.back_off_ms ?? 0),
    failures: row.failures,
  }
}

/** Undefined when it is gone. */
export async function loadCredential(deps: StoreDeps, id: string): Promise<Credential | undefined> {
  const [row] = await deps.db.query<Row>(sql`
    select *,
      extract(epoch from expires_at - obtained_at)::float8 * 1000 as life_ms,
      extract(epoch from expires_at - clock_timestamp())::float8 * 1000 as left_ms,
      lease_until > clock_timestamp() as lease_held,
      extract(epoch from next_try_at - clock_timestamp())::float8 * 1000 as back_off_ms
    from credential where id = ${id} and gone_at is null`)
  return row && fromRow(deps, row)
}

export interface NewCredential {
  environmentId: number
  integrationId: number
  tokens: TokenSet
  config: ConnectionConfig
  scopesRequested: string[]
  scopesGranted: string[]
}

/**
 * Stores a grant. A refresh token that is already known joins the row that owns it, because two rows on one grant would each
 * present the token and the provider would revoke both. Returns the credential's id.
 */
export async function addCredential(deps: StoreDeps, added: NewCredential): Promise<string> {
  const { db, vault, keyedHash } = deps
  const { environmentId, integrationId, tokens, config, scopesRequested, scopesGranted } = added
  const print = fingerprint(keyedHash, tokens.refreshToken)
  for (;;) {
    const id = newId()
    const fresh = await db.query(sql`
      insert into credential (id, environment_id, integration_id, kind, config, scopes_requested, scopes_granted, token_fp, sealed,
        obtained_at, expires_at)
      values (${id}, ${environmentId}, ${integrationId}, 'oauth2-code', ${JSON.stringify(config)}::jsonb, ${scopesRequested},
        ${scopesGranted}, ${print}, ${sealTokens(vault, environmentId, id, tokens, tokens.refreshToken)}, clock_timestamp(),
        clock_timestamp() + ${tokens.lifeMs ?? null}::float8 * interval '1 millisecond')
      on conflict (integration_id, token_fp) where gone_at is null and token_fp is not null do nothing
      returning id`)
    if (fresh.length > 0) return id
    const [known] = await db.query<{ id: string }>(sql`
      select id from credential where integration_id = ${integrationId} and token_fp = ${print} and gone_at is null for update`)
    // Ended or renewed between the two statements: then the token is not known any more.
    if (!known) continue
    await db.query(sql`
      with joined as (
        update credential set sealed = ${sealTokens(vault, environmentId, known.id, tokens, tokens.refreshToken)},
          token_version = token_version + 1, obtained_at = clock_timestamp(),
          expires_at = clock_timestamp() + ${tokens.lifeMs ?? null}::float8 * interval '1 millisecond',
          config = config || ${JSON.stringify(config)}::jsonb, scopes_requested = ${scopesRequested}, scopes_granted = ${scopesGranted},
          spent = false, suspect = false, health = 'active', cause = null, next_try_at = null, failures = 0,
          claim_id = null, lease_until = null, intent_claim = null, intent_at = null, intent_node = null
        where id = ${known.id} returning id)
      select pg_notify('fairlead_changed', 'credential ' || id) from joined`)
    return known.id
  }
}

// Every statement below is one of the refresh protocol's: autocommit, and idempotent or fenced by lineage.
// `token_version` moves only when tokens are installed; times are the database's clock_timestamp().

interface Attempt {
  credential: Credential
  claim: string
}

/**
 * CLAIM. Takes the lease for one attempt. The answer is the row as it is now, because the caller's copy may be a cached one;
 * undefined when somebody else holds the lease, the token moved on, or an open question about a rotating token forbids presenting it.
 */
export async function claim(
  deps: StoreDeps,
  { credential, claim }: Attempt,
  forced: boolean,
): Promise<Credential | undefined> {
  const [row] = await deps.db.query<Row>(sql`
    with claimed as (
      update credential set claim_id = ${claim},
        lease_until = clock_timestamp() + ${deps.timing.lease}::float8 * interval '1 millisecond'
      where id = ${credential.id} and token_version = ${credential.tokenVersion}
        and gone_at is null and not paused and not spent and health <> 'needs_reauth'
        and (lease_until is null or lease_until < clock_timestamp())
        and (next_try_at is null or next_try_at < clock_timestamp())
        and (${forced} or expires_at is null or expires_at < clock_timestamp() + ${marginOf(credential)}::float8 * interval '1 millisecond')
        and (intent_claim is null or rotates is false)
      returning *)
    select *,
      extract(epoch from expires_at - obtained_at)::float8 * 1000 as life_ms,
      extract(epoch from expires_at - clock_timestamp())::float8 * 1000 as left_ms,
      lease_until > clock_timestamp() as lease_held,
      extract(epoch from next_try_at - clock_timestamp())::float8 * 1000 as back_off_ms
    from claimed`)
  return row && fromRow(deps, row)
}

const marginOf = ({ aliveUntil, freshUntil }: Credential): number =>
  aliveUntil === undefined || freshUntil === undefined ? 0 : aliveUntil - freshUntil

/** INTENT: written before the first byte of the request. False: stop, send nothing. */
export async function intend(
  { db, timing }: StoreDeps,
  { credential, claim }: Attempt,
  node: string,
): Promise<boolean> {
  const rows = await db.query(sql`
    update credential set intent_claim = ${claim}, intent_at = clock_timestamp(), intent_node = ${node}
    where id = ${credential.id} and claim_id = ${claim} and token_version = ${credential.tokenVersion}
      and gone_at is null and not paused
      and lease_until > clock_timestamp() + ${timing.sendWindow + timing.answer}::float8 * interval '1 millisecond'
      and intent_claim is not distinct from ${credential.intentClaim}
    returning id`)
  return rows.length > 0
}

export type Installed = 'installed' | 'already_installed' | 'superseded' | 'gone'

/**
 * INSTALL. Whenever the row still holds the token that was presented, by whoever, lease or no lease: the answer to token n is its
 * only possible successor. A provider that sends no new refresh token keeps the old one. Facts are merged, never overwritten by absence.
 */
export async function install(
  deps: StoreDeps,
  { credential }: Pick<Attempt, 'credential'>,
  tokens: TokenSet,
  facts: ConnectionConfig,
): Promise<Installed> {
  const { db, vault, keyedHash } = deps
  const { id, environmentId, tokenVersion } = credential
  const kept = tokens.refreshToken ?? credential.refreshToken
  const rotated = kept !== undefined && kept.reveal() !== credential.refreshToken?.reveal()
  const presented = fingerprint(keyedHash, credential.refreshToken)
  const successor = fingerprint(keyedHash, kept)
  const sealed = sealTokens(vault, environmentId, id, tokens, kept)
  const rows = await db.query(sql`
    with installed as (
      update credential set sealed = ${sealed}, token_fp = ${successor}, token_version = token_version + 1,
        obtained_at = clock_timestamp(),
        expires_at = clock_timestamp() + ${tokens.lifeMs ?? null}::float8 * interval '1 millisecond',
        config = config || ${JSON.stringify(facts)}::jsonb, rotates = ${rotated},
        scopes_granted = coalesce(${tokens.scopes ?? null}::text[], scopes_granted),
        spent = false, suspect = false, health = 'active', cause = null, next_try_at = null, failures = 0,
        claim_id = null, lease_until = null, intent_claim = null, intent_at = null, intent_node = null
      where id = ${id} and token_version = ${tokenVersion} and token_fp = ${presented} and gone_at is null
      returning id)
    select pg_notify('fairlead_changed', 'credential ' || id) from installed`)
  if (rows.length > 0) return 'installed'
  const [row] = await db.query<{ token_fp: Buffer; gone: boolean; token_version: number }>(
    sql`select token_fp, token_version, gone_at is not null as gone from credential where id = ${id}`,
  )
  if (!row || row.gone) return 'gone'
  // Our own earlier statement, whose acknowledgement was lost.
  return successor?.equals(row.token_fp) && row.token_version === tokenVersion + 1 ? 'already_installed' : 'superseded'
}

/** VERDICT: the provider refused the presented token for good. By lineage, not by ownership; the tokens stay. */
export const refuse = ({ db, keyedHash }: StoreDeps, { credential }: Attempt, cause: string): Promise<object[]> =>
  db.query(sql`
    with refused as (
      update credential set health = 'needs_reauth', cause = ${cause},
        claim_id = null, lease_until = null, intent_claim = null, intent_at = null, intent_node = null
      where id = ${credential.id} and token_version = ${credential.tokenVersion}
        and token_fp = ${fingerprint(keyedHash, credential.refreshToken)} and gone_at is null
      returning id)
    select pg_notify('fairlead_changed', 'credential ' || id) from refused`)

/** STILL IN DOUBT: nobody knows whether the token was used. The intent stays, the old access token keeps serving. */
export const leaveInDoubt = (
  { db }: StoreDeps,
  { credential, claim }: Attempt,
  cause: string,
  backOffMs: number,
): Promise<object[]> =>
  db.query(sql`
    with doubted as (
      update credential set health = 'degraded', cause = ${cause}, lease_until = null, claim_id = null, failures = failures + 1,
        next_try_at = clock_timestamp() + ${backOffMs}::float8 * interval '1 millisecond'
      where id = ${credential.id} and claim_id = ${claim} and token_version = ${credential.tokenVersion}
      returning id)
    select pg_notify('fairlead_changed', 'credential ' || id) from doubted`)

/** WITHDRAW: not a byte was written, or a refusal that precedes processing came back. */
export const withdraw = (
  { db }: StoreDeps,
  { credential, claim }: Attempt,
  health: Health,
  cause: string | null,
  backOffMs: number,
): Promise<object[]> =>
  db.query(sql`
    with withdrawn as (
      update credential set health = ${health}, cause = ${cause}, failures = failures + 1,
        intent_claim = case when intent_claim = ${claim} then null else intent_claim end,
        intent_at = case when intent_claim = ${claim} then null else intent_at end,
        intent_node = case when intent_claim = ${claim} then null else intent_node end,
        next_try_at = clock_timestamp() + ${backOffMs}::float8 * interval '1 millisecond', lease_until = null, claim_id = null
      where id = ${credential.id} and claim_id = ${claim} and token_version = ${credential.tokenVersion}
      returning id)
    select pg_notify('fairlead_changed', 'credential ' || id) from withdrawn`)

/** True for exactly one caller per installed token: the one that may ask the provider when it ends. */
export async function askLifetimeOnce({ db }: StoreDeps, credential: Credential): Promise<boolean> {
  const rows = await db.query(sql`
    update credential set lifetime_asked = token_version
    where id = ${credential.id} and token_version = ${credential.tokenVersion} and lifetime_asked <> token_version
      and expires_at is null and gone_at is null
    returning id`)
  return rows.length > 0
}

export const saveLifetime = ({ db }: StoreDeps, credential: Credential, leftMs: number): Promise<object[]> =>
  db.query(sql`
    with learned as (
      update credential set expires_at = clock_timestamp() + ${leftMs}::float8 * interval '1 millisecond'
      where id = ${credential.id} and token_version = ${credential.tokenVersion} and expires_at is null
      returning id)
    select pg_notify('fairlead_changed', 'credential ' || id) from learned`)
