import type { ConnectionFilter, EndUser, Health, Organization } from '@fairlead/contract'
import { sql } from '../db/sql.ts'
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
})

export interface ListedConnection extends Connection {
  integrationKey: string
  provider: string
  health: Health
}

export async function listConnections(
  db: Db,
  environmentId: number,
  filter: ConnectionFilter,
): Promise<ListedConnection[]> {
  const limit = filter.limit ?? 10_000
  const search = filter.search === undefined ? null : `%${filter.search.replace(/[\\%_]/g, '\\$&')}%`
  const rows = await db.query<Row & { unique_key: string; provider: string; health: Health }>(sql`
    select c.*, i.unique_key, i.provider, k.health
    from connection c join integration i on i.id = c.integration_id join credential k on k.id = c.credential_id
    where c.environment_id = ${environmentId}
      and (${filter.connectionId ?? null}::text is null or c.connection_id = ${filter.connectionId ?? null})
      and (${filter.endUserId ?? null}::text is null or c.end_user ->> 'id' = ${filter.endUserId ?? null})
      and (${filter.endUserOrganizationId ?? null}::text is null or c.organization ->> 'id' = ${filter.endUserOrganizationId ?? null})
      and (${filter.integrationId ?? null}::text is null
        or i.unique_key = any (string_to_array(${filter.integrationId ?? null}, ',')))
      and (${search}::text is null or c.connection_id ilike ${search} or c.end_user ->> 'display_name' ilike ${search}
        or c.end_user ->> 'email' ilike ${search})
      and c.tags @> ${JSON.stringify(filter.tags ?? {})}::jsonb
    order by c.id desc limit ${limit} offset ${(filter.page ?? 0) * limit}`)
  return rows.map(row => ({
    ...fromRow(row),
    integrationKey: row.unique_key,
    provider: row.provider,
    health: row.health,
  }))
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

export interface NewConnection {
  environmentId: number
  integrationId: number
  credentialId: string
  connectionId: string
  endUser: EndUser | null
  organization: Organization | null
  tags: Record<string, string>
  webhookUrlOverride: string | null
}

export const addConnection = (db: Db, added: NewConnection): Promise<object[]> =>
  db.query(sql`
    insert into connection (environment_id, integration_id, credential_id, connection_id, end_user, organization, tags, webhook_url_override)
    values (${added.environmentId}, ${added.integrationId}, ${added.credentialId}, ${added.connectionId},
      ${added.endUser && JSON.stringify(added.endUser)}::jsonb, ${added.organization && JSON.stringify(added.organization)}::jsonb,
      ${JSON.stringify(added.tags)}::jsonb, ${added.webhookUrlOverride})`)

export const markFetched = (db: Db, id: number): Promise<object[]> =>
  db.query(sql`update connection set last_fetched_at = now() where id = ${id}`)

/** Deletes the connection and, when it was the last one on it, the grant with its sealed tokens. */
export const removeConnection = (db: Db, connection: Connection): Promise<object[]> =>
  db.transaction(async tx => {
    // Locked first, so that two connections of one grant, deleted at once, do not each leave it to the other.
    await tx.query(sql`select id from credential where id = ${connection.credentialId} for update`)
    await tx.query(sql`delete from connection where id = ${connection.id}`)
    return tx.query(sql`
      with gone as (
        delete from credential where id = ${connection.credentialId}
          and not exists (select from connection where credential_id = ${connection.credentialId})
        returning id)
      select pg_notify('fairlead_changed', 'credential ' || ${connection.credentialId})`)
  })
