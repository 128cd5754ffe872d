import type { ConnectionFilter, EndUser, Health, Organization } from '@fairlead/contract'
import { type RetireDeps, type Retired, retire } from '../credential/revocation/store.ts'
import {
  blockUntold,
  type Credential,
  type CredentialRow,
  openCredential,
  type ProviderSaid,
  type StoreDeps,
} from '../credential/store.ts'
import { sql } from '../db/sql.ts'
import type { Integration } from '../integration/store.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Db } from '../seams.ts'

export interface Connection {
  id: number
  environmentId: number
  integrationId: number
  credentialId: string
  connectionId: string
  endUser: EndUser | null
  organization: Organization | null
  tags: Record<string, string>
  metadata: Record<string, unknown> | null
  webhookUrlOverride: string | null
  createdAt: Date
  updatedAt: Date
  lastFetchedAt: Date | null
  /** Not null: it waits to be confirmed. */
  confirmBy: Date | null
}

interface Row {
  id: number
  environment_id: number
  integration_id: number
  credential_id: string
  connection_id: string
  end_user: EndUser | null
  organization: Organization | null
  tags: Record<string, string>
  metadata: Record<string, unknown> | null
  webhook_url_override: string | null
  created_at: Date
  updated_at: Date
  last_fetched_at: Date | null
  confirm_by: Date | null
}

const fromRow = (row: Row): Connection => ({
  id: row.id,
  environmentId: row.environment_id,
  integrationId: row.integration_id,
  credentialId: row.credential_id,
  connectionId: row.connection_id,
  endUser: row.end_user,
  organization: row.organization,
  tags: row.tags,
  metadata: row.metadata,
  webhookUrlOverride: row.webhook_url_override,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  lastFetchedAt: row.last_fetched_at,
  confirmBy: row.confirm_by,
})

export interface ListedConnection extends Connection {
  integrationKey: string
  provider: string
  health: Health
  cause: string | null
  /** What the provider said with the cause, and then also of which account. */
  said: ProviderSaid | null
  config: ConnectionConfig
  paused: boolean
  stateSince: Date
}

export interface ListedPage {
  connections: ListedConnection[]
  /** Where the next page begins; null: there is none. */
  nextCursor: string | null
}

/** A place in the order of all connections: so many behind this one. */
export interface Mark {
  id: number
  skip: number
}

/**
 * A page, newest first. Which ones is found first, and only those are joined, because a page far back reads every row it skips. What no filter
 * asks for is a left join, which PostgreSQL leaves out. `mark` is where a page that is not filtered begins, when somebody knows (deep.ts).
 */
export async function listConnections(
  db: Db,
  environmentId: number,
  filter: ConnectionFilter & { troubled?: boolean },
  mark?: Mark,
): Promise<ListedPage> {
  const limit = filter.limit ?? 10_000
  const state = filter.state ?? null
  const troubled = filter.troubled ?? false
  const search = filter.search === undefined ? null : `%${filter.search.replace(/[\\%_]/g, '\\$&')}%`
  const tags = filter.tags === undefined ? null : JSON.stringify(filter.tags)
  const rows = await db.query<
    Row & {
      unique_key: string
      provider: string
      health: Health
      cause: string | null
      said: ProviderSaid | null
      config: ConnectionConfig | null
      paused: boolean
      state_since: Date
    }
  >(sql`
    with page as materialized (
      select c.id
      from connection c left join integration i on i.id = c.integration_id left join credential k on k.id = c.credential_id
      where c.environment_id = ${environmentId}
        and (${filter.cursor ?? null}::bigint is null or c.id < ${filter.cursor ?? null})
        and (${mark?.id ?? null}::bigint is null or c.id <= ${mark?.id ?? null})
        and (${filter.connectionId ?? null}::text is null or c.connection_id = ${filter.connectionId ?? null})
        and (${filter.endUserId ?? null}::text is null or c.end_user ->> 'id' = ${filter.endUserId ?? null})
        and (${filter.endUserOrganizationId ?? null}::text is null or c.organization ->> 'id' = ${filter.endUserOrganizationId ?? null})
        and (${filter.integrationId ?? null}::text is null
          or i.unique_key = any (string_to_array(${filter.integrationId ?? null}, ',')))
        and (${search}::text is null or c.connection_id ilike ${search} or c.end_user ->> 'display_name' ilike ${search}
          or c.end_user ->> 'email' ilike ${search})
        -- written so that each kind of state is estimated by what it is: the many active ones by their columns, the few others by their index
        and (${state}::text is null or ${state} <> 'active' or (not k.paused and k.health = 'active'))
        and (${state}::text is null or ${state} = 'active'
          or (case when k.paused then 'paused' else k.health end = ${state} and (k.paused or k.health <> 'active')))
        and (not ${troubled}::boolean or k.paused or k.health <> 'active')
        and (${tags}::jsonb is null or c.tags @> ${tags}::jsonb)
      order by c.id desc limit ${limit + 1} offset ${mark?.skip ?? (filter.page ?? 0) * limit}
    )
    select c.*, i.unique_key, i.provider, k.health, k.cause, k.said, k.paused, k.state_since,
      case when k.said is not null then k.config end as config
    from page join connection c on c.id = page.id
      join integration i on i.id = c.integration_id join credential k on k.id = c.credential_id
    order by c.id desc`)
  const connections = rows.slice(0, limit).map(row => ({
    ...fromRow(row),
    integrationKey: row.unique_key,
    provider: row.provider,
    health: row.health,
    cause: row.cause,
    said: row.said,
    config: row.config ?? {},
    paused: row.paused,
    stateSince: row.state_since,
  }))
  return { connections, nextCursor: rows.length > limit ? String(connections.at(-1)!.id) : null }
}

/** Every thousandth connection, from the newest on: 0.3 s of a million. */
export async function readMarks(db: Db, environmentId: number, every: number): Promise<number[]> {
  const rows = await db.query<{ id: number }>(sql`
    select id from (
      select id, row_number() over (order by id desc) as n from connection where environment_id = ${environmentId}) as numbered
    where n % ${every}::int = 1 order by id desc`)
  return rows.map(row => row.id)
}

export async function countNewer(db: Db, environmentId: number, id: number): Promise<number> {
  const [row] = await db.query<{ n: number }>(
    sql`select count(*)::int as n from connection where environment_id = ${environmentId} and id > ${id}`,
  )
  return row!.n
}

export interface TimelineRow {
  renewals: number
  obtained_at: Date
  expires_at: Date | null
  keep_alive_at: Date | null
  next_try_at: Date | null
  shared_with: number
}

export async function readTimeline(db: Db, credentialId: string): Promise<TimelineRow | undefined> {
  const [row] = await db.query<TimelineRow>(sql`
    select token_version - 1 as renewals, obtained_at, expires_at, keep_alive_at,
      case when failures > 0 then next_try_at end as next_try_at,
      (select count(*)::int - 1 from connection where credential_id = ${credentialId}) as shared_with
    from credential where id = ${credentialId}`)
  return row
}

export interface OverviewRow {
  states: Record<string, number>
  renewals: { at: string; renewed: number; refused: number; unavailable: number }[]
  failing: number
  soonest: { connection_id: string; provider_config_key: string; expires_at: string } | null
}

/**
 * Only the few that are not simply active are looked at; the others are what is left of all, which are counted in an index: 0.55 s of a
 * million. The states are written as their index has them.
 */
export async function readOverview(db: Db, environmentId: number): Promise<OverviewRow> {
  const [row] = await db.query<
    Omit<OverviewRow, 'states'> & { states: Record<string, number>; connections: number }
  >(sql`
    with unwell as materialized (
      select c.connection_id, c.integration_id, k.expires_at, case when k.paused then 'paused' else k.health end as state
      from credential k join connection c on c.credential_id = k.id
      where c.environment_id = ${environmentId} and (k.paused or k.health <> 'active')),
    states as (select state, count(*)::int as n from unwell group by 1)
    select (select coalesce(jsonb_object_agg(state, n), '{}') from states) as states,
      (select count(*)::int from connection where environment_id = ${environmentId}) as connections,
      (select jsonb_agg(jsonb_build_object('at', h.hour, 'renewed', h.renewed, 'refused', h.refused, 'unavailable', h.unavailable) order by h.hour)
        from (
          select hour, coalesce(sum(n) filter (where outcome = 'renewed'), 0) as renewed,
            coalesce(sum(n) filter (where outcome = 'refused'), 0) as refused,
            coalesce(sum(n) filter (where outcome = 'unavailable'), 0) as unavailable
          from generate_series(date_trunc('hour', clock_timestamp()) - interval '23 hours', clock_timestamp(), interval '1 hour') as hour
            left join (select * from renewal_count where environment_id = ${environmentId}) as r using (hour)
          group by hour) as h) as renewals,
      (select count(*)::int from unwell where state = 'degraded') as failing,
      (select jsonb_build_object('connection_id', u.connection_id, 'provider_config_key', i.unique_key, 'expires_at', u.expires_at)
        from unwell u join integration i on i.id = u.integration_id
        where u.state = 'degraded' and u.expires_at is not null
        order by u.expires_at limit 1) as soonest`)
  const { connections, states, ...rest } = row!
  const unwell = Object.values(states).reduce((sum, n) => sum + n, 0)
  return { ...rest, states: { ...states, active: Math.max(0, connections - unwell) } }
}

export async function findConnection(
  db: Db,
  integrationId: number,
  connectionId: string,
): Promise<Connection | undefined> {
  const [row] = await db.query<Row>(
    sql`select * from connection where integration_id = ${integrationId} and connection_id = ${connectionId}`,
  )
  return row && fromRow(row)
}

/** With its credential, in one statement: what a call on it costs the first time. Undefined when either is gone. */
export async function findWithCredential(
  deps: StoreDeps,
  integrationId: number,
  connectionId: string,
): Promise<{ connection: Connection; credential: Credential } | undefined> {
  // The credential's columns, and of the connection's those it does not have.
  const [row] = await deps.db.query<CredentialRow & Omit<Row, 'id'> & { number: number }>(sql`
    select k.*,
      extract(epoch from k.expires_at - k.obtained_at)::float8 * 1000 as life_ms,
      extract(epoch from k.expires_at - clock_timestamp())::float8 * 1000 as left_ms,
      k.lease_until > clock_timestamp() as lease_held,
      extract(epoch from k.next_try_at - clock_timestamp())::float8 * 1000 as back_off_ms,
      c.id as number, c.credential_id, c.connection_id, c.end_user, c.organization, c.tags, c.metadata, c.webhook_url_override,
      c.created_at, c.updated_at, c.last_fetched_at, c.confirm_by
    from connection c join credential k on k.id = c.credential_id
    where c.integration_id = ${integrationId} and c.connection_id = ${connectionId} and k.gone_at is null`)
  return row && { connection: fromRow({ ...row, id: row.number }), credential: await openCredential(deps, row) }
}

export async function findConnectionById(db: Db, id: number): Promise<Connection | undefined> {
  const [row] = await db.query<Row>(sql`select * from connection where id = ${id}`)
  return row && fromRow(row)
}

/** Credentials of an end user's connections to one account on one integration, newest first. */
export async function grantsOf(
  db: Db,
  { id, environmentId }: Pick<Integration, 'id' | 'environmentId'>,
  endUserId: string,
  account: string,
): Promise<{ credentialId: string }[]> {
  // By its environment the index of end users is found: an account that thousands share has thousands of grants.
  return db.query(sql`
    select k.id as "credentialId" from connection c join credential k on k.id = c.credential_id
    where c.environment_id = ${environmentId} and c.integration_id = ${id} and c.end_user ->> 'id' = ${endUserId}
      and k.account = ${account} and k.gone_at is null
    group by k.id order by max(c.id) desc`)
}

/** What a sign-in to an existing connection says of its owner; null leaves what is there, an empty `webhookUrlOverride` clears it. */
export interface OwnerChanges {
  endUser: EndUser | null
  organization: Organization | null
  /** Empty: as they are. */
  tags: Record<string, string>
  webhookUrlOverride: string | null
}

export const saveOwner = (db: Db, id: number, changes: OwnerChanges): Promise<object[]> =>
  db.query(sql`
    update connection set updated_at = now(),
      end_user = coalesce(${changes.endUser && JSON.stringify(changes.endUser)}::jsonb, end_user),
      organization = coalesce(${changes.organization && JSON.stringify(changes.organization)}::jsonb, organization),
      tags = coalesce(nullif(${JSON.stringify(changes.tags)}::jsonb, '{}'), tags),
      webhook_url_override = nullif(coalesce(${changes.webhookUrlOverride}, webhook_url_override), '')
    where id = ${id}`)

/** Undefined: as it is. */
export interface Edit {
  endUser: EndUser | undefined
  tags: Record<string, string> | undefined
  /** Null takes it away. */
  webhookUrlOverride: string | null | undefined
}

/** Every server reads it again. */
const announceEdits = (db: Db, credentialIds: string[]): Promise<object[]> =>
  db.query(sql`select pg_notify('fairlead_changed', 'credential ' || id) from unnest(${credentialIds}::text[]) id`)

export const editConnection = (
  db: Db,
  { id, credentialId }: Connection,
  edit: Edit,
  audited: (tx: Db) => Promise<void>,
): Promise<unknown> =>
  db.transaction(async tx => {
    const { endUser, tags, webhookUrlOverride } = edit
    await tx.query(sql`
      update connection set updated_at = now(),
        end_user = coalesce(${endUser && JSON.stringify(endUser)}::jsonb, end_user),
        tags = coalesce(${tags && JSON.stringify(tags)}::jsonb, tags),
        webhook_url_override = case when ${webhookUrlOverride !== undefined} then ${webhookUrlOverride ?? null} else webhook_url_override end
      where id = ${id}`)
    await announceEdits(tx, [credentialId])
    await audited(tx)
  })

/** Of all the connections or of none; undefined when one of them does not exist, else the credentials they stand on. */
export const writeMetadata = (
  db: Db,
  integrationId: number,
  connectionIds: string[],
  metadata: Record<string, unknown>,
  mode: 'replace' | 'merge',
): Promise<string[] | undefined> =>
  db.transaction(async tx => {
    // In one order, so that two that name the same connections do not wait for each other.
    const rows = await tx.query<{ id: number; credential_id: string }>(sql`
      select id, credential_id from connection
      where integration_id = ${integrationId} and connection_id = any (${connectionIds}) order by id for update`)
    if (rows.length < connectionIds.length) return undefined
    const ids = rows.map(row => row.id)
    await tx.query(sql`
      update connection set updated_at = now(),
        metadata = case when ${mode === 'merge'} then coalesce(metadata, '{}') else '{}' end || ${JSON.stringify(metadata)}::jsonb
      where id = any (${ids}::bigint[])`)
    const credentials = [...new Set(rows.map(row => row.credential_id))]
    await announceEdits(tx, credentials)
    return credentials
  })

export async function connectionsOn(db: Db, credentialId: string): Promise<number> {
  const [row] = await db.query<{ count: number }>(
    sql`select count(*)::int as count from connection where credential_id = ${credentialId}`,
  )
  return row!.count
}

/** Every connection on one grant goes to another: it turned out to be the same. */
export const moveConnections = (db: Db, from: string, to: string): Promise<object[]> =>
  db.query(sql`update connection set credential_id = ${to} where credential_id = ${from}`)

export interface NewConnection {
  environmentId: number
  integrationId: number
  credentialId: string
  connectionId: string
  endUser: EndUser | null
  organization: Organization | null
  tags: Record<string, string>
  webhookUrlOverride: string | null
  waitsForConfirmation?: boolean
}

const confirmMinutes = 10

export const addConnection = (db: Db, added: NewConnection): Promise<object[]> =>
  db.query(sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id, end_user, organization, tags, webhook_url_override,
      confirm_by)
    values (${added.environmentId}, ${added.integrationId}, ${added.credentialId}, ${added.connectionId},
      ${added.endUser && JSON.stringify(added.endUser)}::jsonb, ${added.organization && JSON.stringify(added.organization)}::jsonb,
      ${JSON.stringify(added.tags)}::jsonb, ${added.webhookUrlOverride},
      case when ${added.waitsForConfirmation ?? false}::boolean then clock_timestamp() + ${confirmMinutes}::int * interval '1 minute' end)`)

/** Of every connection on this grant: what it holds now may be somebody else's. */
export async function askToConfirm(tx: Db, credentialId: string): Promise<void> {
  await tx.query(sql`
    update connection set confirm_by = clock_timestamp() + ${confirmMinutes}::int * interval '1 minute' where credential_id = ${credentialId}`)
  await announceEdits(tx, [credentialId])
}

/** False when it is too late. */
export const confirmWaiting = (
  db: Db,
  { id, credentialId }: Connection,
  audited: (tx: Db) => Promise<void>,
): Promise<boolean> =>
  db.transaction(async tx => {
    const rows = await tx.query(sql`
      update connection set confirm_by = null, updated_at = now() where id = ${id} and confirm_by > clock_timestamp() returning id`)
    if (rows.length === 0) return false
    await announceEdits(tx, [credentialId])
    await audited(tx)
    return true
  })

/** Nobody confirmed them in time. */
export const unconfirmed = async (db: Db): Promise<Connection[]> => {
  const rows = await db.query<Row>(sql`select * from connection where confirm_by < clock_timestamp() limit 100`)
  return rows.map(fromRow)
}

/** What another server is marking at this moment is left to it. The commit does not wait for the disk. */
export const markFetched = (db: Db, ids: number[]): Promise<object[]> =>
  db.query(sql`
    update connection set last_fetched_at = now()
    where id in (select id from connection where id = any (${ids}::bigint[]) for no key update skip locked)
    returning set_config('synchronous_commit', 'off', true)`)

interface EndDeps extends RetireDeps {
  db: Db
}

/** Deletes the connection and, when it was the last one on it, ends the grant: its tokens go to the outbox of revocations. */
export const removeConnection = (
  deps: EndDeps,
  integration: Integration,
  connection: Connection,
  told: (tx: Db) => Promise<void>,
): Promise<void> =>
  deps.db.transaction(async tx => {
    const { credentialId, connectionId } = connection
    // Locked first, so that two connections of one grant, deleted at once, do not each leave it to the other.
    await tx.query(sql`select id from credential where id = ${credentialId} for update`)
    const gone = await tx.query(sql`delete from connection where id = ${connection.id} returning id`)
    if (gone.length === 0) return
    const shared = await tx.query(sql`select id from connection where credential_id = ${credentialId} limit 1`)
    if (shared.length === 0)
      await retire(deps, tx, integration, [{ credentialId, connectionIds: [connectionId] }], null)
    else await tx.query(sql`select pg_notify('fairlead_changed', 'credential ' || ${credentialId})`)
    await told(tx)
  })

/** Which connections a kill means: the members that are given must all hold. */
export interface KillTarget {
  environmentId: number
  integrationId?: number
  connectionId?: string
  endUserId?: string
  organizationId?: string
}

/** Bounds what one transaction of a kill holds in memory and locks. */
const killBatch = 200
const blockBatch = 5_000

/** Before anything else every match is paused, which is fast: calls and renewals are refused while the tokens are still being moved. */
export async function blockMatching(db: Db, target: KillTarget): Promise<void> {
  for (let after = '00000000-0000-0000-0000-000000000000'; ; ) {
    const rows = await db.query<{ id: string }>(sql`
      select distinct credential_id as id from connection
      where environment_id = ${target.environmentId} and credential_id > ${after}
        and (${target.integrationId ?? null}::bigint is null or integration_id = ${target.integrationId ?? null})
        and (${target.connectionId ?? null}::text is null or connection_id = ${target.connectionId ?? null})
        and (${target.endUserId ?? null}::text is null or end_user ->> 'id' = ${target.endUserId ?? null})
        and (${target.organizationId ?? null}::text is null or organization ->> 'id' = ${target.organizationId ?? null})
      order by credential_id limit ${blockBatch}`)
    const last = rows.at(-1)
    if (!last) return
    await blockUntold(
      db,
      rows.map(row => row.id),
    )
    after = last.id
  }
}

/**
 * Ends the next grants with a matching connection, with every connection on them: they hold the same tokens. Undefined when none is left.
 * `integrationOf` is asked for the integration of each batch.
 */
export const killNext = (
  deps: EndDeps,
  target: KillTarget,
  reason: string | null,
  integrationOf: (tx: Db, id: number) => Promise<Integration | undefined>,
): Promise<{ connectionId: string; integration: Integration }[] | undefined> =>
  deps.db.transaction(async tx => {
    const found = await tx.query<{ credential_id: string; integration_id: number }>(sql`
      select integration_id, credential_id from connection
      where environment_id = ${target.environmentId}
        and (${target.integrationId ?? null}::bigint is null or integration_id = ${target.integrationId ?? null})
        and (${target.connectionId ?? null}::text is null or connection_id = ${target.connectionId ?? null})
        and (${target.endUserId ?? null}::text is null or end_user ->> 'id' = ${target.endUserId ?? null})
        and (${target.organizationId ?? null}::text is null or organization ->> 'id' = ${target.organizationId ?? null})
      order by id desc limit ${killBatch}`)
    const integration = found[0] && (await integrationOf(tx, found[0].integration_id))
    if (!integration) return undefined
    const ids = [...new Set(found.filter(row => row.integration_id === integration.id).map(row => row.credential_id))]
    const ended = await endGrants(deps, tx, integration, ids, reason)
    return ended.flatMap(one => one.connectionIds.map(connectionId => ({ connectionId, integration })))
  })

/** Ends every grant of an integration, in the transaction that deletes it. */
export async function endIntegration(deps: RetireDeps, tx: Db, integration: Integration): Promise<void> {
  // A sign-in that is just being stored finishes first; later ones find no integration.
  await tx.query(sql`select id from integration where id = ${integration.id} for update`)
  for (;;) {
    const found = await tx.query<{ id: string }>(sql`
      select credential_id as id from connection where integration_id = ${integration.id} limit ${killBatch}`)
    if (found.length === 0) return
    await endGrants(deps, tx, integration, [...new Set(found.map(row => row.id))], null)
  }
}

async function endGrants(
  deps: RetireDeps,
  tx: Db,
  integration: Integration,
  credentialIds: string[],
  reason: string | null,
): Promise<Retired[]> {
  // Locked in one order, so that two kills at once do not wait for each other.
  await tx.query(sql`select id from credential where id = any (${credentialIds}::uuid[]) order by id for update`)
  const rows = await tx.query<{ credential_id: string; connection_ids: string[] }>(sql`
    with deleted as (delete from connection where credential_id = any (${credentialIds}::uuid[]) returning credential_id, connection_id)
    select credential_id, array_agg(connection_id) as connection_ids from deleted group by credential_id`)
  const ended = rows.map(row => ({ credentialId: row.credential_id, connectionIds: row.connection_ids }))
  await retire(deps, tx, integration, ended, reason)
  return ended
}
