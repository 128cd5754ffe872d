import type { Health } from '@fairlead/contract'
import type { KeyedHash } from '../account/pepper.ts'
import { type Sql, sql } from '../db/sql.ts'
import { newId } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Clock, Db, Vault } from '../seams.ts'
import type { SealedColumn } from '../vault/rotate.ts'
import type { Given, KindName } from './kinds/kind.ts'
import { kindNamed } from './kinds/kinds.ts'
import type { TokenSet } from './kinds/oauth2-code.ts'
import { margin, type Timing } from './timing.ts'

/** The sealed secret of one grant, opened, with what is known of its life. Instants are on this process's monotonic clock. */
export interface Credential {
  id: string
  environmentId: number
  integrationId: number
  kind: KindName
  config: ConnectionConfig
  accessToken: Secret
  refreshToken: Secret | undefined
  tokenType: string
  /** What its owner gave; empty for a sign-in. */
  given: Given
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
  /** Counts sign-ins: an answer of an earlier one is not a successor. */
  grantNumber: number
  /** Keyed hash of what the next renewal presents; undefined when there is none. */
  fingerprint: Buffer | undefined
  /** Its refresh token is known to be used up and nobody has the successor. */
  spent: boolean
  /** Its past is unsure (imported): ask before presenting it. */
  suspect: boolean
  /** Which history of the database its tokens were obtained in; a failover or a restored backup begins another. */
  epoch: string | undefined
  health: Health
  cause: string | null
  /** What the provider said with the cause. */
  said: ProviderSaid | null
  paused: boolean
  /** When the state people see began. */
  stateSince: Date
  /** A presentation whose outcome nobody has written down yet. */
  intentClaim: string | null
  /** The last presentation of a token nobody can ask about has been made. */
  lastTried: boolean
  leaseHeld: boolean
  /** From here on another attempt is allowed. */
  nextTryAt: number
  failures: number
}

/** RFC 6749 §5.2, redacted. */
export type ProviderSaid = [error: string, description: string]

export interface CredentialRow {
  id: string
  environment_id: number
  integration_id: number
  kind: KindName
  config: ConnectionConfig
  sealed: Buffer
  token_version: number
  expires_at: Date | null
  life_ms: number | null
  left_ms: number | null
  scopes_requested: string[]
  scopes_granted: string[]
  rotates: boolean | null
  grant_number: number
  token_fp: Buffer | null
  spent: boolean
  suspect: boolean
  db_epoch: string | null
  last_tried: boolean
  health: Health
  cause: string | null
  said: ProviderSaid | null
  paused: boolean
  state_since: Date
  intent_claim: string | null
  lease_held: boolean | null
  back_off_ms: number | null
  failures: number
}

export interface StoreDeps {
  db: Db
  vault: Vault
  keyedHash: KeyedHash
  clock: Clock
  timing: Timing
}

/** Tokens as they are sealed: one JSON text per grant. */
interface Sealed {
  access_token: string
  refresh_token?: string
  token_type: string
  given?: Given
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
): Promise<Buffer> => {
  const sealed: Sealed = {
    access_token: tokens.accessToken.reveal(),
    ...(refreshToken && { refresh_token: refreshToken.reveal() }),
    token_type: tokens.tokenType,
    ...(tokens.given && { given: tokens.given }),
    raw: tokens.raw,
  }
  return vault.withKeys(() => vault.seal(JSON.stringify(sealed), place(environmentId, id)))
}

export const fingerprint = (keyedHash: KeyedHash, refreshToken: Secret | undefined): Buffer | null =>
  refreshToken ? keyedHash(`refresh token ${refreshToken.reveal()}`) : null

/**
 * Of what the next renewal presents. A refresh token may be known on another row; what an owner gave is this row's alone, because two
 * accounts may be reached with the same client.
 */
export const fingerprintOf = (
  keyedHash: KeyedHash,
  id: string,
  { kind = 'oauth2-code', tokens }: Presented,
): Buffer | null =>
  kindNamed(kind).renewsFrom === 'given'
    ? keyedHash(`given ${id} ${JSON.stringify(tokens.given)}`)
    : fingerprint(keyedHash, tokens.refreshToken)

type Presented = Pick<NewCredential, 'kind' | 'tokens'>

/** The row was written by `sealTokens` alone and its seal is authenticated, so its shape is known. */
export const openSealed = async (
  vault: Vault,
  row: Pick<CredentialRow, 'id' | 'environment_id' | 'sealed'>,
): Promise<Sealed> =>
  JSON.parse(await vault.withKeys(() => vault.open(row.sealed, place(row.environment_id, row.id)))) as Sealed

export async function openCredential({ vault, clock, timing }: StoreDeps, row: CredentialRow): Promise<Credential> {
  const tokens = await openSealed(vault, row)
  const aliveUntil = row.left_ms === null ? undefined : clock.now() + row.left_ms
  return {
    id: row.id,
    environmentId: row.environment_id,
    integrationId: row.integration_id,
    kind: row.kind,
    config: row.config,
    accessToken: new Secret(tokens.access_token),
    refreshToken: tokens.refresh_token === undefined ? undefined : new Secret(tokens.refresh_token),
    tokenType: tokens.token_type,
    given: tokens.given ?? {},
    raw: tokens.raw,
    tokenVersion: row.token_version,
    aliveUntil,
    freshUntil: aliveUntil === undefined ? undefined : aliveUntil - margin(row.life_ms ?? 0, timing),
    expiresAt: row.expires_at,
    scopesRequested: row.scopes_requested,
    scopesGranted: row.scopes_granted,
    rotates: row.rotates ?? undefined,
    grantNumber: row.grant_number,
    fingerprint: row.token_fp ?? undefined,
    spent: row.spent,
    suspect: row.suspect,
    epoch: row.db_epoch ?? undefined,
    lastTried: row.last_tried,
    health: row.health,
    cause: row.cause,
    said: row.said,
    paused: row.paused,
    stateSince: row.state_since,
    intentClaim: row.intent_claim,
    leaseHeld: row.lease_held === true,
    nextTryAt: clock.now() + (row.back_off_ms ?? 0),
    failures: row.failures,
  }
}

/** Undefined when it is gone. */
export async function loadCredential(deps: StoreDeps, id: string): Promise<Credential | undefined> {
  const [row] = await deps.db.query<CredentialRow>(sql`
    select *,
      extract(epoch from expires_at - obtained_at)::float8 * 1000 as life_ms,
      extract(epoch from expires_at - clock_timestamp())::float8 * 1000 as left_ms,
      lease_until > clock_timestamp() as lease_held,
      extract(epoch from next_try_at - clock_timestamp())::float8 * 1000 as back_off_ms
    from credential where id = ${id} and gone_at is null`)
  return row && openCredential(deps, row)
}

/**
 * The name of the database's history: its timeline, which a failover moves, and a number the operator bumps after restoring a backup.
 * Rows written in another history may have lost what came after them.
 */
export async function readEpoch(db: Db): Promise<string> {
  const [row] = await db.query<{ timeline: number; restored: number }>(sql`
    select (select timeline_id from pg_control_checkpoint()) as timeline, (select restored from history) as restored`)
  return `${row!.timeline}.${row!.restored}`
}

export const tellTrust = (db: Db, payload: string): Promise<object[]> =>
  db.query(sql`select pg_notify('fairlead_changed', ${`trust ${payload}`})`)

export interface NewCredential {
  environmentId: number
  integrationId: number
  /** By sign-in, unless said. */
  kind?: KindName
  tokens: TokenSet
  config: ConnectionConfig
  /** Whose it is, as the provider tells it; null where it does not. */
  account?: string | null
  scopesRequested: string[]
  scopesGranted: string[]
  epoch: string
  /** Somebody else may have presented its refresh token: asked about before it is presented here. */
  suspect?: boolean
  /** Whoever stores it asks the provider when its access token ends, once it is stored; nobody else does. */
  asksLifetime?: boolean
}

/** Where the tokens that were given are now. */
export interface StoredGrant {
  id: string
  /** Undefined: the row keeps its own, which are newer. */
  tokenVersion: number | undefined
}

/**
 * Stores a grant. A refresh token that is already known joins the row that owns it, because two rows on one grant would each
 * present the token and the provider would revoke both. One that was replaced is not stored: the row that holds its successor answers.
 */
export async function addCredential(deps: StoreDeps, added: NewCredential): Promise<StoredGrant> {
  const { db, vault, keyedHash } = deps
  const {
    environmentId,
    integrationId,
    kind = 'oauth2-code',
    tokens,
    config,
    account = null,
    scopesRequested,
    scopesGranted,
    epoch,
    suspect = false,
    asksLifetime = false,
  } = added
  for (;;) {
    const id = newId()
    const print = fingerprintOf(keyedHash, id, added)
    const sealed = await sealTokens(vault, environmentId, id, tokens, tokens.refreshToken)
    const fresh = await db.query(sql`
      insert into credential (id, environment_id, integration_id, kind, config, account, scopes_requested, scopes_granted, token_fp, sealed,
        obtained_at, expires_at, db_epoch, suspect, lifetime_asked)
      values (${id}, ${environmentId}, ${integrationId}, ${kind}, ${JSON.stringify(config)}::jsonb, ${account}, ${scopesRequested},
        ${scopesGranted}, ${print}, ${sealed}, clock_timestamp(),
        clock_timestamp() + ${tokens.lifeMs ?? null}::float8 * interval '1 millisecond', ${epoch}, ${suspect},
        case when ${asksLifetime}::boolean then 1 else 0 end)
      on conflict (integration_id, token_fp) where gone_at is null and token_fp is not null do nothing
      returning id`)
    if (fresh.length > 0) {
      // Asked only now: whoever replaced it a moment ago made the insert wait, and has committed.
      const successor = await holderOfSuccessor(db, integrationId, print)
      if (!successor) return { id, tokenVersion: 1 }
      await db.query(sql`delete from credential where id = ${id}`)
      return { id: successor, tokenVersion: undefined }
    }
    const [known] = await db.query<{ id: string }>(sql`
      select id from credential where integration_id = ${integrationId} and token_fp = ${print} and gone_at is null for update`)
    // Ended or renewed between the two statements: then the token is not known any more.
    if (!known) continue
    return { id: known.id, tokenVersion: await replaceGrant(deps, known.id, added) }
  }
}

/**
 * The row that holds the successor of a refresh token, locked. A provider that was seen not to rotate issues a token again as it likes, and
 * then an old one proves nothing.
 */
export async function holderOfSuccessor(
  db: Db,
  integrationId: number,
  print: Buffer | null,
): Promise<string | undefined> {
  const [row] = await db.query<{ id: string }>(sql`
    select k.id from credential_past p join credential k on k.id = p.credential_id
    where p.integration_id = ${integrationId} and p.token_fp = ${print} and k.gone_at is null and k.rotates is distinct from false
    for update of k`)
  return row?.id
}

/**
 * RECONNECT: another sign-in on the same row, which the caller has locked. Whatever was under way with the grant before misses from here on;
 * its tokens are overwritten, and are the caller's to end. Returns the version the new ones have.
 */
export async function replaceGrant(deps: StoreDeps, id: string, added: NewCredential): Promise<number | undefined> {
  const { db, vault, keyedHash } = deps
  const {
    environmentId,
    tokens,
    config,
    account = null,
    scopesRequested,
    scopesGranted,
    epoch,
    suspect = false,
    asksLifetime = false,
  } = added
  const print = fingerprintOf(keyedHash, id, added)
  const sealed = await sealTokens(vault, environmentId, id, tokens, tokens.refreshToken)
  const [row] = await db.query<{ token_version: number }>(sql`
    with before as (select integration_id, id, token_fp from credential where id = ${id}),
    past as (
      insert into credential_past (integration_id, token_fp, credential_id)
      select integration_id, token_fp, id from before where token_fp is not null and token_fp is distinct from ${print}::bytea
      on conflict (integration_id, token_fp) do update set credential_id = excluded.credential_id, replaced_at = clock_timestamp()),
    replaced as (
      update credential set sealed = ${sealed}, token_fp = ${print},
        token_version = token_version + 1, obtained_at = clock_timestamp(),
        expires_at = clock_timestamp() + ${tokens.lifeMs ?? null}::float8 * interval '1 millisecond',
        lifetime_asked = case when ${asksLifetime}::boolean then token_version + 1 else lifetime_asked end,
        config = config || ${JSON.stringify(config)}::jsonb, account = coalesce(${account}, account),
        scopes_requested = ${scopesRequested}, scopes_granted = ${scopesGranted},
        grant_number = grant_number + 1, db_epoch = ${epoch}, last_tried = false, keep_alive_at = null,
        spent = false, suspect = ${suspect}, health = 'active', cause = null, said = null, next_try_at = null, failures = 0,
        claim_id = null, lease_until = null, intent_claim = null, intent_at = null, intent_node = null
      where id = ${id} and gone_at is null returning id, token_version)
    select pg_notify('fairlead_changed', 'credential ' || id), token_version from replaced`)
  return row?.token_version
}

/** A row as somebody who is about to replace its grant finds it. Its seal is not opened: signing in again also heals one that does not open. */
export interface HeldGrant {
  id: string
  tokenFp: Buffer | null
  config: ConnectionConfig
  paused: boolean
  scopesGranted: string[]
}

/** What is known of the account, without opening the tokens. Undefined when it is gone. */
export async function readConfig(db: Db, id: string): Promise<ConnectionConfig | undefined> {
  const [row] = await db.query<{ config: ConnectionConfig }>(
    sql`select config from credential where id = ${id} and gone_at is null`,
  )
  return row?.config
}

/** The row, and the one that owns this refresh token already, if any; both locked, in one order. */
export async function lockGrants(
  db: Db,
  integrationId: number,
  id: string,
  print: Buffer | null,
): Promise<{ held: HeldGrant | undefined; owner: string | undefined }> {
  const rows = await db.query<Pick<CredentialRow, 'id' | 'token_fp' | 'config' | 'paused' | 'scopes_granted'>>(sql`
    select id, token_fp, config, paused, scopes_granted from credential
    where integration_id = ${integrationId} and gone_at is null and (id = ${id} or token_fp = ${print})
    order by id for update`)
  const row = rows.find(one => one.id === id)
  return {
    held: row && {
      id: row.id,
      tokenFp: row.token_fp,
      config: row.config,
      paused: row.paused,
      scopesGranted: row.scopes_granted,
    },
    owner: print ? rows.find(one => one.token_fp?.equals(print))?.id : undefined,
  }
}

/** An access token that ends with the grant before it: renewed at its next use. */
export const endAccess = (db: Db, id: string): Promise<object[]> =>
  db.query(sql`update credential set expires_at = clock_timestamp() where id = ${id}`)

/** No provider allows nearly so many; who shares one account among thousands pays for no more. */
const countedGrants = 100

/**
 * Grants of one account that are alive at the provider, as far as this environment knows them: of one OAuth client, whatever the integration.
 * Counted up to a hundred.
 */
export async function countGrants(db: Db, integrationId: number, account: string): Promise<number> {
  const [row] = await db.query<{ live: number }>(sql`
    select count(*)::int as live from (
      select from credential k join integration i on i.id = k.integration_id
        join integration this on this.id = ${integrationId}
      where k.account = ${account} and k.gone_at is null and k.health <> 'needs_reauth'
        and i.environment_id = this.environment_id and i.provider = this.provider and i.client_id is not distinct from this.client_id
      limit ${countedGrants}) live`)
  return row!.live
}

/** Grants that are not simply active. Reads an index that holds nothing else. */
export const countUnwell = (db: Db): Promise<{ state: string; grants: number }[]> =>
  db.query(sql`
    select case when paused then 'paused' else health end as state, count(*)::int as grants from credential
    where (paused or health <> 'active') and gone_at is null group by 1 order by 1`)

export async function countInDoubt(db: Db): Promise<number> {
  const [row] = await db.query<{ grants: number }>(
    sql`select count(*)::int as grants from credential where intent_claim is not null and gone_at is null and not paused`,
  )
  return row!.grants
}

export interface RenewalCount {
  environmentId: number
  outcome: 'renewed' | 'refused' | 'unavailable'
  n: number
}

/** Adds what this process has tried. In one order, so that two processes wait for each other and do not deadlock. */
export const countRenewals = (db: Db, counts: RenewalCount[]): Promise<object[]> => {
  const sorted = counts.toSorted((a, b) => a.environmentId - b.environmentId || (a.outcome < b.outcome ? -1 : 1))
  return db.query(sql`
    insert into renewal_count (environment_id, hour, outcome, n)
    select e.id, date_trunc('hour', clock_timestamp()), given.outcome, given.n
    from unnest(${sorted.map(one => one.environmentId)}::int[], ${sorted.map(one => one.outcome)}::text[],
      ${sorted.map(one => one.n)}::bigint[]) as given (id, outcome, n) join environment e on e.id = given.id
    on conflict (environment_id, hour, outcome) do update set n = renewal_count.n + excluded.n`)
}

/**
 * Forgets what has served its time: refresh tokens that were replaced, and tombstones. The journal keeps an answer for less, so nothing
 * refers to a tombstone of that age; an answer to a row that is not there finds it gone all the same.
 */
export async function pruneCredentials(db: Db, keepDays: number): Promise<void> {
  await inBatches(limit =>
    db.query(sql`
      delete from credential_past where (integration_id, token_fp) in (
        select integration_id, token_fp from credential_past
        where replaced_at < clock_timestamp() - ${keepDays}::int * interval '1 day' order by replaced_at limit ${limit})
      returning 1`),
  )
  await db.query(sql`delete from renewal_count where hour < clock_timestamp() - interval '2 days'`)
  await inBatches(limit =>
    db.query(sql`
      delete from credential where id in (
        select id from credential where gone_at < clock_timestamp() - ${keepDays}::int * interval '1 day' order by gone_at limit ${limit})
      returning 1`),
  )
}

/** Small transactions, so that nobody waits long for a row of theirs. */
export async function inBatches(remove: (limit: number) => Promise<object[]>): Promise<void> {
  const limit = 1000
  while ((await remove(limit)).length === limit);
}

/** An answer of the provider, with everything its installation needs: nothing of it is read from a row that may have moved on. */
export interface Successor {
  credentialId: string
  environmentId: number
  integrationId: number
  /** What is known of the account: decides where these tokens are revoked, should nobody hold them. */
  config: ConnectionConfig
  grantNumber: number
  /** The token that was presented: its version and its fingerprint. */
  tokenVersion: number
  presented: Buffer
  /** The history in which that one was obtained. Where a refresh token is kept, rows of two histories look the same without it. */
  presentedEpoch: string | undefined
  /** The history this answer was obtained in. Installed in another one, it may have been installed and used before. */
  epoch: string
  /** Its refresh token is the one to present next: the new one, or the old one when none came back. */
  tokens: TokenSet
  rotated: boolean
  facts: ConnectionConfig
}

export interface Installing {
  /** For how long the provider lets the grant lie idle; null: for ever; left out: not known here, its turn stays. */
  idleLimitMs?: number | null
}

export type Installed =
  | 'installed'
  /** By our own earlier statement, whose acknowledgement was lost. */
  | 'already_installed'
  /** Another answer to the same token was first. */
  | 'superseded'
  /** The commit of its predecessor was lost; that one may be in another journal. */
  | 'ahead'
  /** The owner has signed in again since: these tokens belong to a grant nobody holds any more. */
  | 'orphaned'
  /** Deleted, or killed. */
  | 'gone'

/** One attempt at a refresh: the row as it was claimed. */
export interface Attempt {
  credential: Credential
  claim: string
}

/**
 * The statements of the refresh protocol. Each is one autocommit statement, idempotent or fenced by lineage; `token_version` moves only
 * when tokens are installed; instants are the database's clock_timestamp(). The simulation runs the engine on a twin of this in memory,
 * and one table of cases holds both to the same answers.
 */
export interface CredentialStore {
  /** Undefined when it is gone. */
  load(id: string): Promise<Credential | undefined>
  /**
   * CLAIM. Takes the lease for one attempt and answers with the row as it is now; undefined when somebody else holds the lease, the token
   * moved on, or an unsettled intent forbids presenting it. `ripe`: intents this process has watched for the quiet time.
   */
  claim(
    seen: Credential,
    claim: string,
    options: { forced: boolean; rotates: boolean; ripe: string[] },
  ): Promise<Credential | undefined>
  /** INTENT, before the first byte. `settled`: the intent that was just settled. False: stop, send nothing. */
  intend(attempt: Attempt, options: { node: string; settled: string | null; lastTry: boolean }): Promise<boolean>
  /** INSTALL. Whenever the row still holds what was presented, by whoever, lease or no lease. */
  install(successor: Successor, options?: Installing): Promise<Installed>
  /**
   * VERDICT: refused for good. By lineage, not by ownership; the tokens stay, a replay may still heal it. `accessDead`: the provider has
   * refused the access token as well.
   */
  refuse(attempt: Attempt, cause: string, accessDead: boolean, said?: ProviderSaid): Promise<void>
  /** INACTIVE: the token was used and its answer lost. */
  markSpent(attempt: Attempt): Promise<void>
  /** STILL IN DOUBT: the intent stays, the old access token keeps serving. */
  leaveInDoubt(attempt: Attempt, cause: string, backOffMs: number, said?: ProviderSaid): Promise<void>
  /** WITHDRAW: nothing was written, or a refusal that precedes processing came back. Also gives back a claim without an intent. */
  withdraw(attempt: Attempt, health: Health, cause: string, backOffMs: number, said?: ProviderSaid): Promise<void>
  /** EXHAUSTED: the access token is dead and nothing is left to try. */
  exhaust(credential: Credential, introspects: boolean): Promise<void>
  /** Presentations nobody has settled, to be watched. */
  openIntents(): Promise<{ id: string; integrationId: number; intentClaim: string }[]>
  /** Blocked by a policy, and their wait is over. The longest waiting first, a few at a time. */
  blockedDue(): Promise<{ id: string; integrationId: number }[]>
  /** True for exactly one caller per installed token: the one that may ask the provider when it ends. */
  askLifetimeOnce(credential: Pick<Credential, 'id' | 'tokenVersion'>): Promise<boolean>
  saveLifetime(credential: Pick<Credential, 'id' | 'tokenVersion'>, leftMs: number): Promise<void>
}

const marginOf = ({ aliveUntil, freshUntil }: Credential): number =>
  aliveUntil === undefined || freshUntil === undefined ? 0 : aliveUntil - freshUntil

export function createCredentialStore(deps: StoreDeps): CredentialStore {
  const { db, vault, keyedHash, timing } = deps
  const run = async (statement: Sql): Promise<boolean> => (await db.query(statement)).length > 0

  return {
    load: id => loadCredential(deps, id),

    async claim(seen, claim, { forced, rotates, ripe }) {
      const [row] = await db.query<CredentialRow>(sql`
        with claimed as (
          update credential set claim_id = ${claim}, lease_until = clock_timestamp() + ${timing.lease}::float8 * interval '1 millisecond'
          where id = ${seen.id} and token_version = ${seen.tokenVersion}
            and gone_at is null and not paused and not spent and health <> 'needs_reauth'
            and (lease_until is null or lease_until < clock_timestamp())
            and (next_try_at is null or next_try_at < clock_timestamp())
            and (${forced} or expires_at is null
              or expires_at < clock_timestamp() + ${marginOf(seen)}::float8 * interval '1 millisecond')
            and (intent_claim is null or not ${rotates} or (intent_claim = any (${ripe}::uuid[])
              and intent_at < clock_timestamp() - ${timing.quiet}::float8 * interval '1 millisecond'))
          returning *)
        select *,
          extract(epoch from expires_at - obtained_at)::float8 * 1000 as life_ms,
          extract(epoch from expires_at - clock_timestamp())::float8 * 1000 as left_ms,
          lease_until > clock_timestamp() as lease_held,
          extract(epoch from next_try_at - clock_timestamp())::float8 * 1000 as back_off_ms
        from claimed`)
      return row && openCredential(deps, row)
    },

    intend: ({ credential, claim }, { node, settled, lastTry }) =>
      run(sql`
        update credential set intent_claim = ${claim}, intent_at = clock_timestamp(), intent_node = ${node}, last_tried = ${lastTry}
        where id = ${credential.id} and claim_id = ${claim} and token_version = ${credential.tokenVersion}
          and gone_at is null and not paused
          and lease_until > clock_timestamp() + ${timing.sendWindow + timing.answer}::float8 * interval '1 millisecond'
          and intent_claim is not distinct from ${settled}
        returning id`),

    async install(successor, { idleLimitMs } = {}) {
      const { credentialId, environmentId, grantNumber, tokenVersion, presented, tokens, rotated, facts } = successor
      const print = fingerprint(keyedHash, tokens.refreshToken) ?? (tokens.given ? presented : null)
      const sealed = await sealTokens(vault, environmentId, credentialId, tokens, tokens.refreshToken)
      const installed = await run(sql`
        with installed as (
          update credential set sealed = ${sealed}, token_fp = ${print}, token_version = token_version + 1,
            obtained_at = clock_timestamp(),
            expires_at = clock_timestamp() + ${tokens.lifeMs ?? null}::float8 * interval '1 millisecond',
            config = config || ${JSON.stringify(facts)}::jsonb, rotates = ${rotated}, db_epoch = ${successor.epoch},
            scopes_granted = coalesce(${tokens.scopes ?? null}::text[], scopes_granted),
            spent = false, suspect = false, health = 'active', cause = null, said = null, next_try_at = null, failures = 0, last_tried = false,
            keep_alive_at = case when ${idleLimitMs === undefined} then keep_alive_at
              else keep_alive_moment(keep_alive_turn, clock_timestamp(), ${idleLimitMs ?? null}::float8 * interval '1 millisecond') end,
            claim_id = null, lease_until = null, intent_claim = null, intent_at = null, intent_node = null
          where id = ${credentialId} and token_version = ${tokenVersion} and token_fp = ${presented} and gone_at is null
            and (${rotated} or db_epoch is not distinct from ${successor.presentedEpoch ?? null})
          returning id, integration_id),
        past as (
          insert into credential_past (integration_id, token_fp, credential_id)
          select integration_id, ${presented}::bytea, id from installed where ${print}::bytea is distinct from ${presented}::bytea
          on conflict (integration_id, token_fp) do update set credential_id = excluded.credential_id, replaced_at = clock_timestamp())
        select pg_notify('fairlead_changed', 'renewed ' || id) from installed`)
      if (installed) return 'installed'
      const [row] = await db.query<{
        token_fp: Buffer | null
        gone: boolean
        token_version: number
        grant_number: number
      }>(sql`
        select token_fp, token_version, grant_number, gone_at is not null as gone from credential where id = ${credentialId}`)
      if (!row || row.gone) return 'gone'
      if (row.grant_number !== grantNumber) return 'orphaned'
      if (row.token_version < tokenVersion) return 'ahead'
      const ours = row.token_version === tokenVersion + 1 && print !== null && row.token_fp?.equals(print)
      return ours ? 'already_installed' : 'superseded'
    },

    async refuse({ credential }, cause, accessDead, said) {
      await run(sql`
        with refused as (
          update credential set health = 'needs_reauth', cause = ${cause}, said = ${said ?? null}::text[],
            expires_at = case when ${accessDead} then least(expires_at, clock_timestamp()) else expires_at end,
            claim_id = null, lease_until = null, intent_claim = null, intent_at = null, intent_node = null
          where id = ${credential.id} and token_version = ${credential.tokenVersion} and token_fp = ${credential.fingerprint}
            and gone_at is null
          returning id)
        select pg_notify('fairlead_changed', 'credential ' || id) from refused`)
    },

    async markSpent({ credential }) {
      await run(sql`
        with spent as (
          update credential set spent = true, health = 'degraded', cause = 'refresh_response_lost', said = null,
            claim_id = null, lease_until = null, intent_claim = null, intent_at = null, intent_node = null
          where id = ${credential.id} and token_version = ${credential.tokenVersion} and token_fp = ${credential.fingerprint}
            and gone_at is null
          returning id)
        select pg_notify('fairlead_changed', 'credential ' || id), pg_notify('fairlead_changed', 'pull ' || id) from spent`)
    },

    async leaveInDoubt({ credential, claim }, cause, backOffMs, said) {
      await run(sql`
        with doubted as (
          update credential set health = 'degraded', cause = ${cause}, said = ${said ?? null}::text[], lease_until = null,
            claim_id = null, failures = failures + 1, next_try_at = clock_timestamp() + ${backOffMs}::float8 * interval '1 millisecond'
          where id = ${credential.id} and claim_id = ${claim} and token_version = ${credential.tokenVersion}
          returning id)
        select pg_notify('fairlead_changed', 'credential ' || id) from doubted`)
    },

    async withdraw({ credential, claim }, health, cause, backOffMs, said) {
      await run(sql`
        with withdrawn as (
          update credential set health = ${health}, cause = ${cause}, said = ${said ?? null}::text[], failures = failures + 1,
            next_try_at = clock_timestamp() + ${backOffMs}::float8 * interval '1 millisecond',
            intent_at = case when intent_claim = ${claim} then null else intent_at end,
            intent_node = case when intent_claim = ${claim} then null else intent_node end,
            last_tried = last_tried and intent_claim is distinct from ${claim},
            intent_claim = nullif(intent_claim, ${claim}::uuid),
            lease_until = case when claim_id = ${claim} then null else lease_until end, claim_id = nullif(claim_id, ${claim}::uuid)
          where id = ${credential.id} and token_version = ${credential.tokenVersion} and (claim_id = ${claim} or intent_claim = ${claim})
          returning id)
        select pg_notify('fairlead_changed', 'credential ' || id) from withdrawn`)
    },

    async exhaust(credential, introspects) {
      await run(sql`
        with exhausted as (
          update credential set health = 'needs_reauth', cause = 'answer_lost', said = null
          where id = ${credential.id} and token_version = ${credential.tokenVersion} and health = 'degraded' and gone_at is null
            and (spent or (intent_claim is not null and not ${introspects} and last_tried
              and intent_at < clock_timestamp() - ${timing.quiet}::float8 * interval '1 millisecond'))
          returning id)
        select pg_notify('fairlead_changed', 'credential ' || id) from exhausted`)
    },

    async openIntents() {
      const rows = await db.query<{ id: string; integration_id: number; intent_claim: string }>(sql`
        select id, integration_id, intent_claim from credential
        where intent_claim is not null and gone_at is null and not paused order by intent_at limit 10000`)
      return rows.map(row => ({ id: row.id, integrationId: row.integration_id, intentClaim: row.intent_claim }))
    },

    async blockedDue() {
      const rows = await db.query<{ id: string; integration_id: number }>(sql`
        select id, integration_id from credential
        where health = 'blocked_by_policy' and gone_at is null and not paused and next_try_at < clock_timestamp()
        order by next_try_at limit 20`)
      return rows.map(row => ({ id: row.id, integrationId: row.integration_id }))
    },

    askLifetimeOnce: credential =>
      run(sql`
        update credential set lifetime_asked = token_version
        where id = ${credential.id} and token_version = ${credential.tokenVersion} and lifetime_asked <> token_version
          and expires_at is null and gone_at is null
        returning id`),

    async saveLifetime(credential, leftMs) {
      await run(sql`
        with learned as (
          update credential set expires_at = clock_timestamp() + ${leftMs}::float8 * interval '1 millisecond'
          where id = ${credential.id} and token_version = ${credential.tokenVersion} and expires_at is null
          returning id)
        select pg_notify('fairlead_changed', 'renewed ' || id), set_config('synchronous_commit', 'off', true) from learned`)
    },
  }
}

/**
 * What people decide: `paused` is a column of its own, so that no save, verdict or reconnect undoes it. Every cache hears of it. Locked in
 * the order in which the end of grants locks them: an update locks in the order it happens to find rows in, and two kills at once met.
 */
export const setPaused = (db: Db, ids: string[], paused: boolean): Promise<object[]> =>
  db.query(sql`
    with locked as materialized (
      select id from credential where id = any (${ids}::uuid[]) and paused <> ${paused} and gone_at is null order by id for update),
    changed as (update credential set paused = ${paused} from locked where credential.id = locked.id returning credential.id)
    select pg_notify('fairlead_changed', 'credential ' || id) from changed`)

/**
 * The first step of a kill: paused at once, and nobody is told, because each is told of as deleted in a moment. Telling of it here as well
 * made 5,000 rows take seconds, in which they still served calls.
 */
export const blockUntold = (db: Db, ids: string[]): Promise<object[]> =>
  db.transaction(async tx => {
    await tx.query(sql`select set_config('fairlead.untold', 'on', true)`)
    return setPaused(tx, ids, true)
  })

/** Somebody says that the policy was lifted: the slow wait of a blocked credential is over. */
export const liftBlock = (db: Db, id: string): Promise<object[]> =>
  db.query(sql`update credential set next_try_at = clock_timestamp() where id = ${id} and health = 'blocked_by_policy'`)

/** RE-SEAL. Not an installation: `token_version` stays, and is part of the condition, so that an answer installed meanwhile is not undone. */
export const sealedTokens = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from credential where sealed_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ id: string; environment_id: number; token_version: number; sealed: Buffer }>(sql`
      select id, environment_id, token_version, sealed from credential
      where sealed_key = ${key} and id > coalesce(${after}::uuid, '00000000-0000-0000-0000-000000000000')
      order by id limit ${limit}`)
    return rows.map(({ id, environment_id, token_version, sealed }) => ({
      place: place(environment_id, id),
      sealed,
      replace: resealed =>
        db.query(sql`
          update credential set sealed = ${resealed}
          where id = ${id} and token_version = ${token_version} and sealed = ${sealed}`),
    }))
  },
})
