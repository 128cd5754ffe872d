import { sql } from '../../db/sql.ts'
import type { ConnectionConfig } from '../../provider/endpoint.ts'
import type { Db } from '../../seams.ts'

/** A grant whose turn it is. Held by whoever got it: nobody else gets it for the next hour or two. */
export interface DueGrant {
  id: string
  integrationId: number
  tokenVersion: number
  config: ConnectionConfig
}

/**
 * Takes the grants whose turn came first, `each` of every integration at most. Their turn moves between one and two holds into the future at
 * once, so a process that dies or puts one off has delayed it and nothing more. Which rows are kept alive is said once more by the index `credential_keep_alive`. The instant is a subquery because an index is not
 * searched for a volatile function.
 */
export async function takeDue(db: Db, integrationIds: number[], each: number, holdMs: number): Promise<DueGrant[]> {
  const rows = await db.query<{
    id: string
    integration_id: number
    token_version: number
    config: ConnectionConfig
  }>(sql`
    with due as materialized (
      select k.id from unnest(${integrationIds}::bigint[]) as wanted (integration_id)
      cross join lateral (
        select id from credential
        where integration_id = wanted.integration_id and keep_alive_at < (select clock_timestamp())
          and token_fp is not null and gone_at is null and not paused and not spent and health in ('active', 'degraded')
        order by keep_alive_at limit ${each} for update skip locked) k
    )
    update credential set keep_alive_at = clock_timestamp() + (1 + random()) * ${holdMs}::float8 * interval '1 millisecond'
    from due where credential.id = due.id
    returning credential.id, integration_id, token_version, config`)
  return rows.map(row => ({
    id: row.id,
    integrationId: row.integration_id,
    tokenVersion: row.token_version,
    config: row.config,
  }))
}

/**
 * Gives a turn to grants that have none: just connected, imported, or of a provider whose data named no limit before. Counted from the
 * last time their tokens were renewed. Returns how many; call again until none.
 */
export async function giveTurns(
  db: Db,
  integrationIds: number[],
  idleLimitsMs: number[],
  each: number,
): Promise<number> {
  const given = await db.query(sql`
    with turnless as materialized (
      select k.id, wanted.idle_limit
      from unnest(${integrationIds}::bigint[], ${idleLimitsMs}::float8[]) as wanted (integration_id, idle_limit)
      cross join lateral (
        select id from credential
        where integration_id = wanted.integration_id and keep_alive_at is null
          and token_fp is not null and gone_at is null and not paused and not spent and health in ('active', 'degraded')
        limit ${each} for update skip locked) k
    )
    update credential
    set keep_alive_at = keep_alive_moment(keep_alive_turn, obtained_at, idle_limit * interval '1 millisecond')
    from turnless where credential.id = turnless.id
    returning 1`)
  return given.length
}
