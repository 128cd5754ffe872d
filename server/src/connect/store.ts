/**
 * Sessions and handshakes: sign-ins that have not happened yet. Their commits do not wait for the disk (`synchronous_commit`, turned off
 * inside each statement, because `returning` runs in its transaction): three fsyncs of the four a sign-in had. What was acknowledged is
 * still there after a kill -9 of this process: it is in PostgreSQL's memory, and PostgreSQL is told to stop, which writes it. When
 * PostgreSQL itself is killed or the machine loses power, the last 0.6 s of them may be gone, and a sign-in is begun again. The
 * connection's own commit is synchronous, and flushes what was written before it: where a connection is stored, its handshake is used up.
 */
import { randomBytes } from 'node:crypto'
import {
  type ConnectAccount,
  type ConnectError,
  type ConnectSessionView,
  type EndUser,
  errors,
  type IntegrationDefaults,
  type Organization,
} from '@fairlead/contract'
import type { SessionCaller } from '../account/caller.ts'
import type { KeyedHash } from '../account/pepper.ts'
import type { Client } from '../credential/kinds/oauth2-code.ts'
import { inBatches } from '../credential/store.ts'
import { sql } from '../db/sql.ts'
import { type Integration, integrationIn, type JoinedIntegration } from '../integration/store.ts'
import { sha256 } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Db, Vault } from '../seams.ts'
import type { SealedColumn } from '../vault/rotate.ts'

export interface StoreDeps {
  db: Db
  vault: Vault
  keyedHash: KeyedHash
}

/** What the developer's backend asked for when it opened the session. */
export interface Session {
  id: number
  environmentId: number
  endUser: EndUser | null
  organization: Organization | null
  allowedIntegrations: string[]
  integrationDefaults: Record<string, IntegrationDefaults>
  overrides: ConnectSessionView['overrides'] & object
  tags: Record<string, string>
  /** In a session that reconnects, null leaves the connection's as it is and an empty one clears it. */
  webhookUrlOverride: string | null
  /** The one connection this session signs in to again. */
  reconnects: number | null
  /** Its owner wants another account in the place of the one it has. */
  anotherAccount: boolean
  /** What its environment settled for every sign-in. */
  settled: { allowedOrigins: string[]; returnUrls: string[]; confirmsConnections: boolean }
}

export type NewSession = Omit<Session, 'id' | 'settled'>

const sessionMinutes = 30
const handshakeMinutes = 10

export async function addSession(
  { db, keyedHash }: StoreDeps,
  added: NewSession,
): Promise<{ token: Secret; expiresAt: Date }> {
  const token = `nango_connect_session_${randomBytes(32).toString('hex')}`
  const [row] = await db.query<{ expires_at: Date }>(sql`
    insert into connect_session (environment_id, token_lookup, end_user, organization, allowed_integrations, integration_defaults,
      overrides, tags, webhook_url_override, reconnects, another_account, expires_at)
    values (${added.environmentId}, ${keyedHash(token)}, ${added.endUser && JSON.stringify(added.endUser)}::jsonb,
      ${added.organization && JSON.stringify(added.organization)}::jsonb, ${added.allowedIntegrations},
      ${JSON.stringify(added.integrationDefaults)}::jsonb, ${JSON.stringify(added.overrides)}::jsonb,
      ${JSON.stringify(added.tags)}::jsonb, ${added.webhookUrlOverride}, ${added.reconnects},
      ${added.anotherAccount},
      clock_timestamp() + ${sessionMinutes}::int * interval '1 minute')
    returning expires_at, set_config('synchronous_commit', 'off', true)`)
  return { token: new Secret(token), expiresAt: row!.expires_at }
}

export async function findSessionCaller(
  { db, keyedHash }: StoreDeps,
  token: string,
): Promise<SessionCaller | undefined> {
  const [row] = await db.query<{
    id: number
    allowed: string[]
    environment_id: number
    name: string
    uuid: string
  }>(sql`
    select s.id, s.allowed_integrations as allowed, e.id as environment_id, e.name, e.uuid
    from connect_session s join environment e on e.id = s.environment_id
    where s.token_lookup = ${keyedHash(token)} and s.expires_at > clock_timestamp()`)
  if (!row) return undefined
  const environment = { id: row.environment_id, name: row.name, uuid: row.uuid }
  return { kind: 'session', environment, sessionId: row.id, allowedIntegrations: row.allowed }
}

/** Where a sign-in begins: its session, and the integration that is asked for, if there is one of this key. */
export interface Begun {
  session: Session
  integration: Integration | undefined
}

export async function findBegun(
  { db, vault, keyedHash }: StoreDeps,
  token: string,
  key: string,
): Promise<Begun | undefined> {
  const [row] = await db.query<
    SessionRow & { session_id: number } & (JoinedIntegration | { integration_id: null })
  >(sql`
    select s.id as session_id, s.environment_id, s.end_user, s.organization, s.allowed_integrations, s.integration_defaults, s.overrides,
      s.tags, s.webhook_url_override, s.reconnects, s.another_account, e.allowed_origins, e.return_urls, e.confirm_connections,
      i.id as integration_id, i.unique_key, i.provider, i.display_name, i.client_id, i.client_secret_sealed, i.scopes, i.settings_sealed,
      i.forward_webhooks, i.capture_bodies, i.base_url_hosts, i.created_at as integration_created_at, i.updated_at
    from connect_session s join environment e on e.id = s.environment_id
      left join integration i on i.environment_id = s.environment_id and i.unique_key = ${key}
    where s.token_lookup = ${keyedHash(token)} and s.expires_at > clock_timestamp()`)
  if (!row) return undefined
  return {
    session: sessionFromRow(row.session_id, row),
    integration: row.integration_id === null ? undefined : await integrationIn(vault, row),
  }
}

/** The columns of a session, without its id, and of its environment. */
interface SessionRow {
  environment_id: number
  end_user: EndUser | null
  organization: Organization | null
  allowed_integrations: string[]
  integration_defaults: Record<string, IntegrationDefaults>
  overrides: ConnectSessionView['overrides'] & object
  tags: Record<string, string>
  webhook_url_override: string | null
  reconnects: number | null
  another_account: boolean
  allowed_origins: string[]
  return_urls: string[]
  confirm_connections: boolean
}

const sessionFromRow = (id: number, row: SessionRow): Session => ({
  id,
  environmentId: row.environment_id,
  endUser: row.end_user,
  organization: row.organization,
  allowedIntegrations: row.allowed_integrations,
  integrationDefaults: row.integration_defaults,
  overrides: row.overrides,
  tags: row.tags,
  webhookUrlOverride: row.webhook_url_override,
  reconnects: row.reconnects,
  anotherAccount: row.another_account,
  settled: {
    allowedOrigins: row.allowed_origins,
    returnUrls: row.return_urls,
    confirmsConnections: row.confirm_connections,
  },
})

export async function loadSession({ db }: Pick<StoreDeps, 'db'>, id: number): Promise<Session | undefined> {
  const [row] = await db.query<SessionRow>(sql`
    select s.*, e.allowed_origins, e.return_urls, e.confirm_connections
    from connect_session s join environment e on e.id = s.environment_id where s.id = ${id}`)
  return row && sessionFromRow(id, row)
}

export const removeSession = ({ db }: StoreDeps, id: number): Promise<object[]> =>
  db.query(sql`delete from connect_session where id = ${id}`)

/** A sign-in under way at a provider. Its id on the wire is the `state`, of which only the hash is stored. */
export interface Handshake {
  environmentId: number
  integrationId: number
  sessionId: number
  connectionId: string
  /** SHA-256 of the cookie of the browser that began. */
  browserHash: Buffer
  /** RFC 7636 code verifier; of OAuth 1.0a the temporary credentials. */
  verifier: Secret
  /** The one whoever signs in brought along. Null: the integration's. */
  client: Client | null
  /** Brought along, too. Null: the one that comes with the tokens. */
  refreshToken: Secret | null
  /** Sent again, byte for byte, with the code (RFC 6749 §4.1.3). */
  redirectUri: string
  config: ConnectionConfig
  scopesRequested: string[]
  /** The `ws_client_id` it was begun with. */
  attempt: string | null
  /** The origin of the page that opened it, where that is known. */
  opener: string | null
  returnUrl: string | null
}

const verifierPlace = (environmentId: number, stateHash: Buffer) => ({
  table: 'handshake',
  column: 'verifier_sealed',
  environment: environmentId,
  row: stateHash.toString('hex'),
})

/** What a handshake's seal holds. */
interface Sealed {
  verifier: string
  client?: [id: string, secret: string]
  refreshToken?: string
}

export async function addHandshake({ db, vault }: StoreDeps, state: string, handshake: Handshake): Promise<void> {
  const stateHash = sha256(state)
  const { environmentId, integrationId, sessionId, connectionId, browserHash, redirectUri, config } = handshake
  const place = verifierPlace(environmentId, stateHash)
  const { verifier, client, refreshToken } = handshake
  const secrets: Sealed = {
    verifier: verifier.reveal(),
    ...(client && { client: [client.id, client.secret?.reveal() ?? ''] }),
    ...(refreshToken && { refreshToken: refreshToken.reveal() }),
  }
  const sealed = await vault.withKeys(() => vault.seal(JSON.stringify(secrets), place))
  await db.query(sql`
    insert into handshake (state_hash, environment_id, integration_id, connect_session_id, connection_id, browser_hash,
      verifier_sealed, redirect_uri, config, scopes_requested, attempt, opener_origin, return_url, expires_at)
    values (${stateHash}, ${environmentId}, ${integrationId}, ${sessionId}, ${connectionId}, ${browserHash}, ${sealed}, ${redirectUri},
      ${JSON.stringify(config)}::jsonb, ${handshake.scopesRequested}, ${handshake.attempt}, ${handshake.opener}, ${handshake.returnUrl},
      clock_timestamp() + ${handshakeMinutes}::int * interval '1 minute')
    returning set_config('synchronous_commit', 'off', true)`)
}

/** Sessions that ended long ago, with what became of their sign-ins; whoever waits for a result has an hour in any case. */
export const pruneSessions = (db: Db, keepDays: number): Promise<void> =>
  inBatches(limit =>
    db.query(sql`
      delete from connect_session where id in (
        select id from connect_session
        where expires_at < clock_timestamp() - greatest(${keepDays}::int * interval '1 day', interval '1 hour')
        order by expires_at limit ${limit} for update skip locked)
      returning 1`),
  )

export interface TakenHandshake extends Handshake, Begun {
  integrationKey: string
  integration: Integration
}

/** Sign-ins of this session that are at the provider: named by whoever began them, and not back yet. */
export const attemptsUnderWay = async (db: Db, sessionId: number): Promise<string[]> => {
  const rows = await db.query<{ attempt: string }>(sql`
    select attempt from handshake
    where connect_session_id = ${sessionId} and attempt is not null and expires_at > clock_timestamp()`)
  return rows.map(({ attempt }) => attempt)
}

/** One DELETE … RETURNING: of two callbacks with one state, exactly one gets it, and a code is presented once. Its session and integration come along. */
export async function takeHandshake({ db, vault }: StoreDeps, state: string): Promise<TakenHandshake | undefined> {
  const stateHash = sha256(state)
  const [row] = await db.query<
    SessionRow &
      JoinedIntegration & {
        connect_session_id: number
        connection_id: string
        browser_hash: Buffer
        verifier_sealed: Buffer
        redirect_uri: string
        config: ConnectionConfig
        scopes_requested: string[]
        attempt: string | null
        opener_origin: string | null
        return_url: string | null
        live: boolean
      }
  >(sql`
    delete from handshake h using integration i, connect_session s, environment e
    where h.state_hash = ${stateHash} and i.id = h.integration_id and s.id = h.connect_session_id and e.id = h.environment_id
    returning h.*, h.expires_at > clock_timestamp() as live,
      i.unique_key, i.provider, i.display_name, i.client_id, i.client_secret_sealed, i.scopes, i.settings_sealed, i.forward_webhooks,
      i.capture_bodies, i.base_url_hosts, i.created_at as integration_created_at, i.updated_at,
      s.end_user, s.organization, s.allowed_integrations, s.integration_defaults, s.overrides, s.tags, s.webhook_url_override,
      s.reconnects, s.another_account, e.allowed_origins, e.return_urls, e.confirm_connections,
      set_config('synchronous_commit', 'off', true)`)
  if (!row) return undefined
  if (!row.live) {
    await addResult(db, {
      sessionId: row.connect_session_id,
      attempt: row.attempt,
      integrationKey: row.unique_key,
      connectionId: row.connection_id,
      operation: null,
      isPending: false,
      account: null,
      missingScopes: [],
      error: expired,
    })
    return undefined
  }
  const place = verifierPlace(row.environment_id, stateHash)
  // Written by `addHandshake` alone, and its seal is authenticated.
  const opened = JSON.parse(await vault.withKeys(() => vault.open(row.verifier_sealed, place))) as Sealed
  const { verifier, client, refreshToken } = opened
  return {
    environmentId: row.environment_id,
    integrationId: row.integration_id,
    sessionId: row.connect_session_id,
    connectionId: row.connection_id,
    browserHash: row.browser_hash,
    verifier: new Secret(verifier),
    client: client ? { id: client[0], secret: new Secret(client[1]) } : null,
    refreshToken: refreshToken ? new Secret(refreshToken) : null,
    redirectUri: row.redirect_uri,
    config: row.config,
    scopesRequested: row.scopes_requested,
    attempt: row.attempt,
    opener: row.opener_origin,
    returnUrl: row.return_url,
    integrationKey: row.unique_key,
    integration: await integrationIn(vault, row),
    session: sessionFromRow(row.connect_session_id, row),
  }
}

/** Whoever holds the socket of this page writes its origin into the sign-in. */
export const askForOpener = (db: Db, attempt: string): Promise<object[]> =>
  db.query(sql`select pg_notify('fairlead_changed', 'begun ' || ${attempt}::text)`)

export const setOpener = (db: Db, attempt: string, origin: string): Promise<object[]> =>
  db.query(sql`update handshake set opener_origin = ${origin} where attempt = ${attempt} and opener_origin is null`)

const expired: ConnectError = { type: 'state_err', code: 'sign_in_expired', description: errors.sign_in_expired[1] }

/** Sign-ins nobody came back from, of one session or of all, end as results. */
export const expireHandshakes = ({ db }: { db: Db }, sessionId: number | null = null): Promise<object[]> =>
  db.query(sql`
    with ended as (
      delete from handshake where state_hash in (
        select state_hash from handshake
        where expires_at < clock_timestamp() and (${sessionId}::bigint is null or connect_session_id = ${sessionId})
        limit 1000 for update skip locked)
      returning *),
    told as (
      insert into connect_result (connect_session_id, attempt, provider_config_key, connection_id, error, at)
      select ended.connect_session_id, ended.attempt, i.unique_key, ended.connection_id, ${JSON.stringify(expired)}::jsonb, ended.expires_at
      from ended join integration i on i.id = ended.integration_id
      returning attempt)
    select pg_notify('fairlead_changed', 'attempt ' || attempt) from told where attempt is not null`)

/** What became of one sign-in. */
export interface Result {
  sessionId: number
  attempt: string | null
  integrationKey: string
  connectionId: string | null
  operation: 'creation' | 'override' | null
  isPending: boolean
  account: ConnectAccount | null
  /** Asked for and not granted. */
  missingScopes: string[]
  error: ConnectError | null
}

/** Announced with the commit. A session that has ended meanwhile gets none. */
export const addResult = (db: Db, result: Result): Promise<object[]> =>
  db.query(sql`
    with told as (
      insert into connect_result (connect_session_id, attempt, provider_config_key, connection_id, operation, is_pending, account,
        missing_scopes, error)
      select id, ${result.attempt}::uuid, ${result.integrationKey}::text, ${result.connectionId}::text, ${result.operation}::text,
        ${result.isPending}::boolean, ${result.account && JSON.stringify(result.account)}::jsonb,
        ${result.missingScopes}::text[], ${result.error && JSON.stringify(result.error)}::jsonb
      from connect_session where id = ${result.sessionId}
      returning attempt)
    select pg_notify('fairlead_changed', 'attempt ' || attempt) from told where attempt is not null`)

interface ResultRow {
  connect_session_id: number
  attempt: string | null
  provider_config_key: string
  connection_id: string | null
  operation: Result['operation']
  is_pending: boolean
  account: ConnectAccount | null
  missing_scopes: string[]
  error: ConnectError | null
  at: Date
}

const resultFromRow = (row: ResultRow): Result & { at: Date } => ({
  sessionId: row.connect_session_id,
  attempt: row.attempt,
  integrationKey: row.provider_config_key,
  connectionId: row.connection_id,
  operation: row.operation,
  isPending: row.is_pending,
  account: row.account,
  missingScopes: row.missing_scopes,
  error: row.error,
  at: row.at,
})

export const listResults = async (db: Db, sessionId: number): Promise<(Result & { at: Date })[]> => {
  const rows = await db.query<ResultRow>(
    sql`select * from connect_result where connect_session_id = ${sessionId} order by at desc, id desc limit 100`,
  )
  return rows.map(resultFromRow)
}

/** Of each the first: an attempt ends once. */
export const resultsOf = async (db: Db, attempts: string[]): Promise<Result[]> => {
  const rows = await db.query<ResultRow>(sql`
    select distinct on (attempt) * from connect_result where attempt = any (${attempts}::uuid[]) order by attempt, id`)
  return rows.map(resultFromRow)
}

export const sealedVerifiers = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from handshake where verifier_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ state_hash: Buffer; environment_id: number; sealed: Buffer }>(sql`
      select state_hash, environment_id, verifier_sealed as sealed from handshake
      where verifier_key = ${key} and state_hash > coalesce(decode(${after}, 'hex'), '')
      order by state_hash limit ${limit}`)
    return rows.map(({ state_hash, environment_id, sealed }) => ({
      place: verifierPlace(environment_id, state_hash),
      sealed,
      replace: resealed =>
        db.query(sql`
          update handshake set verifier_sealed = ${resealed} where state_hash = ${state_hash} and verifier_sealed = ${sealed}`),
    }))
  },
})
