/**
 * Activity in PostgreSQL. `activity` and `activity_body` are rings of partitions: rows go to the slot in use, and when that is old or big
 * enough the oldest slot is emptied and becomes the next. TRUNCATE takes milliseconds where DELETE took 4.6 s for 100,000 rows and left
 * the space to vacuum.
 */
import type { CallOutcome } from '@fairlead/contract'
import { Column } from '../db/columns.ts'
import { type Sql, sql } from '../db/sql.ts'
import { days } from '../lib/time.ts'
import type { Db, Vault } from '../seams.ts'
import type { ShownBodies } from './bodies.ts'

export interface NewActivity {
  request_id: string
  environment_id: number
  api_key_id: number | null
  provider_config_key: string
  connection_id: string
  method: string
  host: string | null
  path: string
  status: number | null
  outcome: CallOutcome
  error: string | null
  bytes_up: number
  bytes_down: number
  sent_ms: number | null
  first_byte_ms: number | null
  total_ms: number
  retries: number
  refreshed: boolean
  repeats_token: boolean
  /** Of its bodies, when they are kept. */
  bodies: string | null
}

export interface NewBodies {
  id: string
  environmentId: number
  bodies: ShownBodies
}

interface SealedBodies {
  id: string
  environmentId: number
  sealed: Buffer
}

const bodiesPlace = (environmentId: number, id: string) => ({
  table: 'activity_body',
  column: 'sealed',
  environment: environmentId,
  row: id,
})

export async function sealBodies(vault: Vault, bodies: NewBodies[]): Promise<SealedBodies[]> {
  if (bodies.length === 0) return []
  return vault.withKeys(() =>
    bodies.map(({ id, environmentId, bodies: both }) => {
      return { id, environmentId, sealed: vault.seal(JSON.stringify(both), bodiesPlace(environmentId, id)) }
    }),
  )
}

/** Rows that will be one statement, and are then forgotten to make room for the next. */
export class Batch {
  rows = 0
  /** Whose they are, each row's. */
  readonly environments: number[] = []
  readonly bodies: NewBodies[] = []
  readonly #columns = {
    endedAt: new Column('number'),
    requestId: new Column('text'),
    environmentId: new Column('number'),
    apiKeyId: new Column('number'),
    integration: new Column('text'),
    connection: new Column('text'),
    method: new Column('text'),
    host: new Column('text'),
    path: new Column('text'),
    status: new Column('number'),
    outcome: new Column('text'),
    error: new Column('text'),
    bytesUp: new Column('number'),
    bytesDown: new Column('number'),
    sent: new Column('number'),
    firstByte: new Column('number'),
    total: new Column('number'),
    retries: new Column('number'),
    refreshed: new Column('number'),
    repeatsToken: new Column('number'),
    bodies: new Column('text'),
  }

  /** `endedAt` on the clock whose time `insert` is told. */
  add(row: NewActivity, endedAt: number): void {
    this.rows++
    this.environments.push(row.environment_id)
    const to = this.#columns
    to.endedAt.number(endedAt)
    to.requestId.text(row.request_id)
    to.environmentId.number(row.environment_id)
    to.apiKeyId.number(row.api_key_id)
    to.integration.text(row.provider_config_key)
    to.connection.text(row.connection_id)
    to.method.text(row.method)
    to.host.text(row.host)
    to.path.text(row.path)
    to.status.number(row.status)
    to.outcome.text(row.outcome)
    to.error.text(row.error)
    to.bytesUp.number(row.bytes_up)
    to.bytesDown.number(row.bytes_down)
    to.sent.number(row.sent_ms)
    to.firstByte.number(row.first_byte_ms)
    to.total.number(row.total_ms)
    to.retries.number(row.retries)
    to.refreshed.number(row.refreshed ? 1 : 0)
    to.repeatsToken.number(row.repeats_token ? 1 : 0)
    to.bodies.text(row.bodies)
  }

  clear(): void {
    this.rows = 0
    this.environments.length = 0
    this.bodies.length = 0
    for (const column of Object.values(this.#columns)) column.clear()
  }

  insert(now: number): Sql {
    const from = this.#columns
    return sql`
      insert into activity (slot, at, environment_id, api_key_id, provider_config_key, connection_id, method, host, path, status, outcome,
        error, bytes_up, bytes_down, sent_ms, first_byte_ms, total_ms, retries, refreshed,
        repeats_token, bodies, request_id)
      select r.slot, date_trunc('milliseconds', clock_timestamp() - (${now}::float8 - e.ended_at) * interval '1 millisecond'),
        e.environment_id, e.api_key_id, e.provider_config_key, e.connection_id, e.method, e.host, e.path, e.status, e.outcome, e.error,
        e.bytes_up, e.bytes_down, e.sent_ms, e.first_byte_ms, e.total_ms, e.retries, e.refreshed <> 0, e.repeats_token <> 0,
        e.bodies::uuid, e.request_id
      from activity_ring r, unnest(${from.endedAt.array()}::float8[], ${from.environmentId.array()}::float8[],
        ${from.apiKeyId.array()}::float8[], ${from.integration.array()}::text[], ${from.connection.array()}::text[],
        ${from.method.array()}::text[], ${from.host.array()}::text[], ${from.path.array()}::text[],
        ${from.status.array()}::float8[], ${from.outcome.array()}::text[], ${from.error.array()}::text[],
        ${from.bytesUp.array()}::float8[], ${from.bytesDown.array()}::float8[], ${from.sent.array()}::float8[],
        ${from.firstByte.array()}::float8[], ${from.total.array()}::float8[], ${from.retries.array()}::float8[],
        ${from.refreshed.array()}::float8[], ${from.repeatsToken.array()}::float8[], ${from.bodies.array()}::text[],
        ${from.requestId.array()}::text[])
        as e (ended_at, environment_id, api_key_id, provider_config_key, connection_id, method, host, path, status, outcome, error,
          bytes_up, bytes_down, sent_ms, first_byte_ms, total_ms, retries, refreshed, repeats_token, bodies, request_id)
      where r.name = 'activity'`
  }
}

/**
 * One statement for all rows. In a transaction, because only then is a batch whose answer was lost known not to be there; its commit does
 * not wait for the disk. `now` on the clock of the rows.
 */
export async function addActivity(
  db: Db,
  batch: Batch,
  bodies: SealedBodies[],
  dropped: [environmentId: number, calls: number][],
  now: number,
): Promise<void> {
  await db.transaction(async tx => {
    await tx.query(sql`set local synchronous_commit to off`)
    if (batch.rows > 0) await tx.query(batch.insert(now))
    if (bodies.length > 0)
      await tx.query(sql`
        insert into activity_body (slot, id, environment_id, sealed)
        select r.slot, b.id, b.environment_id, b.sealed from activity_ring r, unnest(${bodies.map(one => one.id)}::uuid[],
          ${bodies.map(one => one.environmentId)}::integer[], ${bodies.map(one => one.sealed)}::bytea[]) as b (id, environment_id, sealed)
        where r.name = 'activity_body'`)
    for (const [environmentId, calls] of dropped)
      await tx.query(sql`insert into activity_dropped (environment_id, calls) values (${environmentId}, ${calls})`)
  })
}

const keptDays = 14
const gigabyte = 1024 ** 3

/** `slots` as the migration made them: one is being filled, the others are whole. */
export interface Ring {
  name: string
  slots: number
  /** A slot is left when it has been in use for so long, or is so big. */
  ms: number
  bytes: number
}

/** 14 days unless said, and 5 GB: some ten million calls. */
const callsFor = (keepDays: number): Ring => ({
  ...{ name: 'activity', slots: 15, bytes: (5 * gigabyte) / 15 },
  ms: days(keepDays) / 14,
})
/** A day unless said, and 1 GB. */
const bodiesFor = (keepDays: number): Ring => ({
  ...{ name: 'activity_body', slots: 13, bytes: gigabyte / 13 },
  ms: days(keepDays) / 12,
})

export async function retainActivity(
  db: Db,
  keep: { activity: number; bodies: number },
  rings = [callsFor(keep.activity), bodiesFor(keep.bodies)],
): Promise<void> {
  for (const ring of rings) for (let turns = 0; turns < ring.slots && (await turned(db, ring)); turns++) {}
  await db.query(sql`
    delete from activity_dropped where at < clock_timestamp() - ${keep.activity}::int * interval '1 day'`)
}

/** Moves the ring on by one slot when it is time. A server that was away for a week has several turns to catch up with. */
const turned = (db: Db, { name, slots, ms, bytes }: Ring): Promise<boolean> =>
  db.transaction(async tx => {
    // Whoever reads a page holds the slot for milliseconds; whoever holds it for longer must not hold up every flush behind us.
    await tx.query(sql`set local lock_timeout to '2s'`)
    const [ring] = await tx.query<{ slot: number; old: boolean; big: boolean }>(sql`
      select slot, since < clock_timestamp() - ${ms}::float8 * interval '1 millisecond' as old,
        pg_total_relation_size(format('%I', name || '_' || slot)::regclass) >= ${bytes}::float8 as big
      from activity_ring where name = ${name} for update`)
    if (!ring?.old && !ring?.big) return false
    const next = (ring.slot + 1) % slots
    await tx.query({ text: `truncate ${name}_${next}`, values: [] })
    await tx.query(sql`
      update activity_ring set slot = ${next}, since = case
        when ${ring.old} then greatest(since + ${ms}::float8 * interval '1 millisecond',
          clock_timestamp() - ${ms * slots}::float8 * interval '1 millisecond')
        else clock_timestamp() end
      where name = ${name}`)
    return true
  })

export interface ActivityRow extends NewActivity {
  id: number
  at: Date
}

/** A place in the order of rows, and what a row is found by: an index on ids alone would be one more for every call. */
export interface Place {
  at: Date
  id: number
}

export interface ActivityFilter {
  connection?: string | undefined
  integration?: string | undefined
  method?: string | undefined
  outcome?: CallOutcome | undefined
  /** Statuses from and to, both included. */
  status?: { from: number; to: number } | undefined
  requestId?: string | undefined
  since?: Date | undefined
  until?: Date | undefined
  /** The last one of the page before. */
  after?: Place | undefined
  limit: number
  keepDays?: number | undefined
}

/**
 * Rows one page looks at. Conditions that have an index (the environment with nothing, a connection, an integration, or failures) bring the
 * rows in order; the others are tried on these, so that a filter nothing matches costs 40 ms and the place to go on from, not the table.
 */
const mostLookedAt = 10_000

/** Newest first. `end`: where the next page begins, when there may be one. */
export async function listActivity(
  db: Db,
  environmentId: number,
  filter: ActivityFilter,
): Promise<{ rows: ActivityRow[]; end: Place | undefined }> {
  const { connection = null, method = null, outcome = null, status, since = null, until = null, after, limit } = filter
  const { integration = null, requestId = null, keepDays = keptDays } = filter
  const failed = (status !== undefined && status.from >= 400) || (outcome !== null && outcome !== 'answered')
  const looked = sql`
    select id, at, api_key_id, environment_id, provider_config_key, connection_id, method, host, path, status, outcome, error, bytes_up,
      bytes_down, sent_ms, first_byte_ms, total_ms, retries, refreshed, repeats_token, bodies, request_id
    from activity
    where environment_id = ${environmentId} and at > (select clock_timestamp() - ${keepDays}::int * interval '1 day')
      and (${connection}::text is null or connection_id = ${connection})
      and (${connection}::text is not null or ${integration}::text is null or provider_config_key = ${integration})
      and (not ${failed}::boolean or outcome <> 'answered' or status >= 400)
      and (${since}::timestamptz is null or at >= ${since})
      and (${until}::timestamptz is null or at < ${until})
      and (${after?.id ?? null}::bigint is null
        or (at, id) < (${after?.at ?? null}::timestamptz, ${after?.id ?? null}::bigint))
    order by at desc, id desc`
  const rows = await db.query<ActivityRow>(
    around(
      looked,
      `select * from (`,
      sql` limit ${mostLookedAt}) as looked
      where (${integration}::text is null or provider_config_key = ${integration})
        and (${method}::text is null or method = ${method})
        and (${outcome}::text is null or outcome = ${outcome})
        and (${requestId}::text is null or request_id = ${requestId})
        and (${status?.from ?? null}::int is null or status between ${status?.from ?? null} and ${status?.to ?? null})
      order by at desc, id desc limit ${limit + 1}`,
    ),
  )
  if (rows.length > limit) return { rows: rows.slice(0, limit), end: rows[limit - 1] }
  const [end] = await db.query<Place>(
    around(looked, 'select at, id from (', sql` offset ${mostLookedAt - 1} limit 1) as last`),
  )
  return { rows, end }
}

/** One statement from two, the second one's parameters counted on. */
const around = (inner: Sql, before: string, after: Sql): Sql => ({
  text: `${before}${inner.text}${after.text.replace(/\$(\d+)/g, (_, n: string) => `$${Number(n) + inner.values.length}`)}`,
  values: [...inner.values, ...after.values],
})

export interface Latencies {
  calls: number
  errors: number
  refreshed: number
  p50_ms: number | null
  p95_ms: number | null
  p99_ms: number | null
}

/** Latencies are counted in steps of 2 %, so a percentile is told within 1 %. */
const stepsPerE = 50

/**
 * `part` is null for the whole. One scan, and a count of each latency's step in each part: sorting the latencies themselves, part by part and
 * once more for the whole, took 210 ms of 100,000 calls where this takes 125 and reading them alone 25, on the same busy machine. Parts are
 * found among their beginnings: computing them from the instant is `numeric` arithmetic.
 */
export const summarise = (
  db: Db,
  environmentId: number,
  filter: { connection: string | null; integration: string | null; since: Date; until: Date; parts: number },
): Promise<(Latencies & { part: number | null })[]> => {
  const { connection, integration, since, until, parts } = filter
  const step = (until.getTime() - since.getTime()) / parts
  const beginnings = Array.from({ length: parts }, (_, part) => new Date(since.getTime() + part * step))
  return db.query(sql`
    with counted as (
      select width_bucket(at, ${beginnings}::timestamptz[]) - 1 as part,
        round(${stepsPerE}::float8 * ln(greatest(total_ms, 0.01)::float8))::int as step, count(*) as calls,
        count(*) filter (where outcome <> 'answered' or status >= 400) as errors, count(*) filter (where refreshed) as refreshed
      from activity
      where environment_id = ${environmentId} and at >= ${since} and at < ${until}
        and (${connection}::text is null or connection_id = ${connection})
        and (${integration}::text is null or provider_config_key = ${integration})
      group by 1, 2),
    both_sizes as (
      select * from counted
      union all select null, step, sum(calls), sum(errors), sum(refreshed) from counted group by step),
    ranked as (
      select *, sum(calls) over (partition by part order by step) as upto, sum(calls) over (partition by part) as whole from both_sizes)
    select part, sum(calls)::int as calls, sum(errors)::int as errors, sum(refreshed)::int as refreshed,
      exp(min(step) filter (where upto >= 0.5 * whole) / ${stepsPerE}::float8) as p50_ms,
      exp(min(step) filter (where upto >= 0.95 * whole) / ${stepsPerE}::float8) as p95_ms,
      exp(min(step) filter (where upto >= 0.99 * whole) / ${stepsPerE}::float8) as p99_ms
    from ranked group by part`)
}

/** Calls of an environment that were not recorded, of the time a filter names. */
export async function countDropped(
  db: Db,
  environmentId: number,
  { since = null, until = null }: { since?: Date | null | undefined; until?: Date | null | undefined },
): Promise<number> {
  const [row] = await db.query<{ calls: number }>(sql`
    select coalesce(sum(calls), 0)::int as calls from activity_dropped
    where environment_id = ${environmentId} and (${since}::timestamptz is null or at >= ${since})
      and (${until}::timestamptz is null or at < ${until})`)
  return row!.calls
}

export async function findActivity(
  db: Db,
  environmentId: number,
  { at, id }: Place,
  keepDays: number,
): Promise<ActivityRow | undefined> {
  const [row] = await db.query<ActivityRow>(sql`
    select * from activity where environment_id = ${environmentId} and at = ${at} and id = ${id}
      and at > clock_timestamp() - ${keepDays}::int * interval '1 day'`)
  return row
}

/** Undefined when none were kept, or no longer. */
export async function findBodies(
  { db, vault }: { db: Db; vault: Vault },
  environmentId: number,
  id: string,
): Promise<ShownBodies | undefined> {
  const [row] = await db.query<{ sealed: Buffer }>(sql`
    select sealed from activity_body where id = ${id} and environment_id = ${environmentId}
      and at > clock_timestamp() - interval '1 day'`)
  // Written by `sealBodies` of this file.
  return row && vault.withKeys(() => JSON.parse(vault.open(row.sealed, bodiesPlace(environmentId, id))) as ShownBodies)
}
