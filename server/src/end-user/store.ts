/**
 * Everything that is about one person or one tenant, wherever it stands. Every other room's store knows its own table; this one knows which
 * of them hold something about people, and so has to be read when a table is added.
 */
import { sql } from '../db/sql.ts'
import type { Db } from '../seams.ts'

/** One of the two. */
export interface Subject {
  environmentId: number
  endUserId: string | null
  organizationId: string | null
}

/** A connection as everything that outlives it calls it. */
export interface Named {
  provider_config_key: string
  connection_id: string
}

export type Rows = Record<string, unknown>[]

export const connectionsOf = (db: Db, { environmentId, endUserId, organizationId }: Subject): Promise<Named[]> =>
  db.query<Named>(sql`
    select i.unique_key as provider_config_key, c.connection_id
    from connection c join integration i on i.id = c.integration_id
    where c.environment_id = ${environmentId} and (c.end_user ->> 'id' = ${endUserId} or c.organization ->> 'id' = ${organizationId})
    order by c.id`)

export const exportConnections = (db: Db, { environmentId, endUserId, organizationId }: Subject): Promise<Rows> =>
  db.query(sql`
    select c.connection_id, i.unique_key as provider_config_key, i.provider, c.end_user, c.organization, c.tags, c.metadata,
      c.webhook_url_override, c.created_at, c.updated_at, c.last_fetched_at, k.account, k.config as connection_config,
      k.scopes_requested, k.scopes_granted, k.obtained_at, k.expires_at, k.health, k.cause, k.paused, k.state_since
    from connection c join integration i on i.id = c.integration_id join credential k on k.id = c.credential_id
    where c.environment_id = ${environmentId} and (c.end_user ->> 'id' = ${endUserId} or c.organization ->> 'id' = ${organizationId})
    order by c.id`)

export const exportSessions = (db: Db, { environmentId, endUserId, organizationId }: Subject): Promise<Rows> =>
  db.query(sql`
    select end_user, organization, tags, allowed_integrations, webhook_url_override, created_at, expires_at from connect_session
    where environment_id = ${environmentId} and (end_user ->> 'id' = ${endUserId} or organization ->> 'id' = ${organizationId}) order by id`)

const keysOf = (named: Named[]): string[] => named.map(({ provider_config_key }) => provider_config_key)
const idsOf = (named: Named[]): string[] => named.map(({ connection_id }) => connection_id)

export const exportActivity = (db: Db, environmentId: number, named: Named[], limit: number): Promise<Rows> =>
  db.query(sql`
    select at, provider_config_key, connection_id, method, host, path, status, outcome, error, bytes_up, bytes_down, total_ms, retries
    from activity
    where environment_id = ${environmentId}
      and (provider_config_key, connection_id) in (select * from unnest(${keysOf(named)}::text[], ${idsOf(named)}::text[]))
    order by at desc limit ${limit}`)

interface EventRow extends Record<string, unknown> {
  id: string
  payload_sealed: Buffer | null
}

export const exportEvents = (db: Db, subject: Subject): Promise<EventRow[]> =>
  db.query<EventRow>(sql`
    select id, name, connection_id, provider_config_key, about, payload_sealed, created_at from webhook_event
    where environment_id = ${subject.environmentId}
      and (about -> 'end_user' ->> 'id' = ${subject.endUserId} or about -> 'organization' ->> 'id' = ${subject.organizationId})
    order by sequence`)

export const exportReceipts = (db: Db, environmentId: number, named: Named[]): Promise<Rows> =>
  db.query(sql`
    select provider_config_key, connection_ids, state, reason, result, created_at, verified_at, ended_at from revocation
    where environment_id = ${environmentId} and provider_config_key = any (${keysOf(named)}) and connection_ids && ${idsOf(named)}::text[]
    order by created_at`)

/** The trail is chained and only added to: what it says is shown, and stays. */
export const auditOf = (db: Db, subject: Subject, named: Named[]): Promise<Rows> =>
  db.query(sql`
    select a.sequence, a.at, a.actor_kind, a.actor_id, a.actor_name, a.action, a.target, a.detail
    from audit a join environment e on e.name = a.environment
    where e.id = ${subject.environmentId}
      and ((a.actor_kind = 'end_user' and a.actor_id = ${subject.endUserId}) or a.detail ->> 'end_user_id' = ${subject.endUserId}
        or a.target = any (${[...idsOf(named), ...named.map(one => `${one.provider_config_key}/${one.connection_id}`)]}::text[]))
    order by a.sequence`)

/** How many rows, by table. */
export type Counts = Record<string, number>

/**
 * What is about the person beside the connections themselves. `pseudonym` stands where a receipt named a connection of theirs: receipts
 * of revocations stay, and those still under way must.
 */
export const eraseTraces = (
  db: Db,
  { environmentId, endUserId, organizationId }: Subject,
  named: Named[],
  pseudonym: string,
): Promise<{ deleted: Counts; stripped: Counts }> =>
  db.transaction(async tx => {
    const [keys, ids] = [keysOf(named), idsOf(named)]
    const count = async (rows: Promise<object[]>) => (await rows).length
    const deleted: Counts = {}
    const stripped: Counts = {}
    deleted.connect_session = await count(
      tx.query(sql`
        delete from connect_session where environment_id = ${environmentId}
          and (end_user ->> 'id' = ${endUserId} or organization ->> 'id' = ${organizationId}) returning 1`),
    )
    deleted.activity_body = await count(
      tx.query(sql`
        delete from activity_body where environment_id = ${environmentId} and id in (
          select bodies from activity where environment_id = ${environmentId} and bodies is not null
            and (provider_config_key, connection_id) in (select * from unnest(${keys}::text[], ${ids}::text[]))) returning 1`),
    )
    deleted.activity = await count(
      tx.query(sql`
        delete from activity where environment_id = ${environmentId}
          and (provider_config_key, connection_id) in (select * from unnest(${keys}::text[], ${ids}::text[])) returning 1`),
    )
    const events = await tx.query<{ sequence: number }>(sql`
      select sequence from webhook_event where environment_id = ${environmentId}
        and (about -> 'end_user' ->> 'id' = ${endUserId} or about -> 'organization' ->> 'id' = ${organizationId}
          or (provider_config_key, connection_id) in (select * from unnest(${keys}::text[], ${ids}::text[])))`)
    const sequences = events.map(({ sequence }) => sequence)
    // Attempts, which hold what receivers answered, go with their delivery; so does what a provider sent and is not delivered yet.
    deleted.webhook_delivery = await count(
      tx.query(sql`
        delete from webhook_delivery d using webhook_event v
        where v.sequence = d.event and d.event = any (${sequences}::bigint[])
          and (d.state <> 'pending' or v.payload_sealed is not null) returning 1`),
    )
    deleted.webhook_event = await count(
      tx.query(sql`
        delete from webhook_event where sequence = any (${sequences}::bigint[])
          and not exists (select from webhook_delivery where event = sequence) returning 1`),
    )
    // Not delivered yet: a developer's server has to hear that the connection is gone, and nothing else.
    stripped.webhook_event = await count(
      tx.query(sql`
        update webhook_event set about = about || '{"end_user": null, "organization": null, "tags": {}, "said": null}'
        where sequence = any (${sequences}::bigint[]) and about <> '{}' returning 1`),
    )
    const receipts = await tx.query<{ credential_id: string }>(sql`
      update revocation set reason = null,
        connection_ids = array(select case when id = any (${ids}::text[]) then ${pseudonym} else id end from unnest(connection_ids) id)
      where environment_id = ${environmentId} and provider_config_key = any (${keys}::text[]) and connection_ids && ${ids}::text[]
      returning credential_id`)
    stripped.revocation = receipts.length
    await tx.query(sql`
      update credential set account = null, said = null
      where id = any (${receipts.map(row => row.credential_id)}::uuid[]) and gone_at is not null`)
    return { deleted, stripped }
  })
