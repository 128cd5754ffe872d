/**
 * The outbox of webhooks. Events and deliveries about connections are written by triggers, in the transaction of the change itself
 * (db/migrations); here they are taken, recorded, listed, sent again and swept away.
 */
import type { Delivery, DeliveryState, WebhookEventName } from '@fairlead/contract'
import { sql } from '../db/sql.ts'
import { isoZulu } from '../lib/time.ts'
import type { Db, SealedPlace, Vault } from '../seams.ts'
import type { SealedColumn } from '../vault/rotate.ts'
import type { WebhookEvent } from './body.ts'

/** Who is told: `primary` or `secondary` of the environment, or the URL of a connection alone. */
export interface Receiver {
  environmentId: number
  name: string
}

/** Of wanting to reach a receiver. */
const patienceHours = 72
/** Longer than one delivery takes, so that a process that died leaves its receivers to the next. */
const turnSeconds = 60

/** Receivers something is due for, the longest waiting first. One index probe per receiver that has anything pending, however much that is. */
export async function waitingReceivers(db: Db, limit: number): Promise<Receiver[]> {
  const rows = await db.query<{ environment_id: number; receiver: string }>(sql`
    with recursive waiting as (
      (select environment_id, receiver, next_try_at from webhook_delivery
        where state = 'pending' order by environment_id, receiver, next_try_at limit 1)
      union all
      select next.* from waiting cross join lateral (
        select environment_id, receiver, next_try_at from webhook_delivery
        where state = 'pending' and (environment_id, receiver) > (waiting.environment_id, waiting.receiver)
        order by environment_id, receiver, next_try_at limit 1) next)
    select environment_id, receiver from waiting
    where next_try_at <= clock_timestamp() and not exists (
      select from webhook_turn t
      where (t.environment_id, t.receiver) = (waiting.environment_id, waiting.receiver) and t.until > clock_timestamp())
    order by next_try_at limit ${limit}`)
  return rows.map(row => ({ environmentId: row.environment_id, name: row.receiver }))
}

/** What is not delivered yet, and for how many seconds the oldest of it has been due. */
export async function readBacklog(db: Db): Promise<{ pending: number; lagSeconds: number }> {
  const [row] = await db.query<{ pending: number; lag: number | null }>(sql`
    select count(*)::int as pending, extract(epoch from clock_timestamp() - min(next_try_at))::float8 as lag
    from webhook_delivery where state = 'pending'`)
  return { pending: row!.pending, lagSeconds: Math.max(0, row!.lag ?? 0) }
}

/** True when this process serves the receiver now. Also prolongs its own turn. */
export async function takeTurn(db: Db, { environmentId, name }: Receiver, holder: string): Promise<boolean> {
  const taken = await db.query(sql`
    insert into webhook_turn (environment_id, receiver, holder, until)
    values (${environmentId}, ${name}, ${holder}, clock_timestamp() + ${turnSeconds}::int * interval '1 second')
    on conflict (environment_id, receiver) do update set holder = excluded.holder, until = excluded.until
    where webhook_turn.until < clock_timestamp() or webhook_turn.holder = excluded.holder
    returning holder`)
  return taken.length > 0
}

export const endTurn = (db: Db, { environmentId, name }: Receiver, holder: string): Promise<object[]> =>
  db.query(sql`
    delete from webhook_turn where environment_id = ${environmentId} and receiver = ${name} and holder = ${holder}`)

/** A delivery to be tried now. */
export interface Due {
  id: string
  event: StoredEvent
  /** Where it goes as things stand; null when the environment has taken that URL away. */
  url: string | null
}

/** An event whose payload, if it has one, was not opened yet. */
export type StoredEvent = Omit<WebhookEvent, 'payload'> & { environmentId: number; payloadSealed: Buffer | null }

interface EventRow {
  event_id: string
  sequence: number
  environment_id: number
  environment: string
  name: WebhookEventName
  connection_id: string | null
  provider_config_key: string | null
  about: WebhookEvent['about']
  payload_sealed: Buffer | null
  created_at: Date
}

const eventOf = (row: EventRow): StoredEvent => ({
  id: row.event_id,
  sequence: row.sequence,
  environmentId: row.environment_id,
  environment: row.environment,
  name: row.name,
  connectionId: row.connection_id,
  providerConfigKey: row.provider_config_key,
  about: row.about,
  payloadSealed: row.payload_sealed,
  createdAt: row.created_at,
})

export const payloadPlace = (environmentId: number, eventId: string): SealedPlace => ({
  table: 'webhook_event',
  column: 'payload_sealed',
  environment: environmentId,
  row: eventId,
})

/** Written by us alone and authenticated, so it is JSON. */
export const openPayload = async (
  vault: Vault,
  environmentId: number,
  eventId: string,
  sealed: Buffer,
): Promise<Record<string, unknown>> =>
  JSON.parse(await vault.withKeys(() => vault.open(sealed, payloadPlace(environmentId, eventId))))

export const openEvent = async (
  vault: Vault,
  { environmentId, payloadSealed: sealed, ...event }: StoredEvent,
): Promise<WebhookEvent> => ({
  ...event,
  payload: sealed && (await openPayload(vault, environmentId, event.id, sealed)),
})

export async function dueDeliveries(db: Db, { environmentId, name }: Receiver, limit: number): Promise<Due[]> {
  const rows = await db.query<EventRow & { id: string; url: string | null }>(sql`
    select d.id, v.id as event_id, v.sequence, v.environment_id, e.name as environment, v.name, v.connection_id,
      v.provider_config_key, v.about, v.payload_sealed, v.created_at,
      case d.receiver when 'primary' then e.webhook_url when 'secondary' then e.webhook_url_secondary else d.receiver end as url
    from webhook_delivery d join webhook_event v on v.sequence = d.event join environment e on e.id = d.environment_id
    where d.environment_id = ${environmentId} and d.receiver = ${name} and d.state = 'pending'
      and d.next_try_at <= clock_timestamp()
    order by d.next_try_at, d.event limit ${limit}`)
  return rows.map(row => ({ id: row.id, event: eventOf(row), url: row.url }))
}

export interface Attempt {
  url: string | null
  status: number | null
  ms: number
  error: string | null
  answer: string | null
}

export type Verdict =
  | { kind: 'delivered' }
  | { kind: 'failed' }
  /** `waitMs`: at least so long, because the receiver asked for it. */
  | { kind: 'again'; waitMs: number }

/**
 * Writes down what came of one attempt. A delivery that is tried again waits as long as it has been tried already, between five seconds
 * and an hour, give or take a quarter; the last try falls on the end of the three days.
 */
export const recordAttempt = (db: Db, id: string, attempt: Attempt, verdict: Verdict): Promise<object[]> =>
  db.query(sql`
    with tried as (
      update webhook_delivery set tries = tries + 1,
        state = case
          when ${verdict.kind} <> 'again' then ${verdict.kind}
          when clock_timestamp() >= since + ${patienceHours}::int * interval '1 hour' then 'failed'
          else 'pending' end,
        ended_at = case
          when ${verdict.kind} <> 'again' or clock_timestamp() >= since + ${patienceHours}::int * interval '1 hour'
          then clock_timestamp() end,
        next_try_at = least(since + ${patienceHours}::int * interval '1 hour', clock_timestamp() + greatest(
          ${verdict.kind === 'again' ? verdict.waitMs : 0}::float8 * interval '1 millisecond',
          least(interval '1 hour', greatest(interval '5 seconds', clock_timestamp() - since)) * (0.75 + random() / 2)))
      where id = ${id} and state = 'pending'
      returning id, tries)
    insert into webhook_attempt (delivery, number, at, url, status, ms, error, answer)
    select id, tries, clock_timestamp(), ${attempt.url}, ${attempt.status}, ${Math.round(attempt.ms)}, ${attempt.error}, ${attempt.answer}
    from tried`)

interface DeliveryRow extends EventRow {
  id: string
  receiver: string
  state: DeliveryState
  tries: number
  next_try_at: Date
  ended_at: Date | null
}

const viewOf = (row: DeliveryRow): Delivery => ({
  id: row.id,
  event: {
    id: row.event_id,
    name: row.name,
    sequence: row.sequence,
    connection_id: row.connection_id,
    provider_config_key: row.provider_config_key,
    created_at: isoZulu(row.created_at),
  },
  receiver: row.receiver,
  state: row.state,
  attempts: row.tries,
  next_attempt_at: row.state === 'pending' ? isoZulu(row.next_try_at) : null,
  ended_at: row.ended_at && isoZulu(row.ended_at),
})

export interface DeliveryFilter {
  state?: DeliveryState | undefined
  event?: WebhookEventName | undefined
  connectionId?: string | undefined
  /** The last of the page before. */
  after?: { sequence: number; id: string } | undefined
  limit: number
}

/** Newest event first. */
export async function listDeliveries(db: Db, environmentId: number, filter: DeliveryFilter): Promise<Delivery[]> {
  const rows = await db.query<DeliveryRow>(sql`
    select d.*, v.id as event_id, v.sequence, v.name, v.connection_id, v.provider_config_key, v.created_at
    from webhook_delivery d join webhook_event v on v.sequence = d.event
    where d.environment_id = ${environmentId}
      and (${filter.state ?? null}::text is null or d.state = ${filter.state ?? null})
      and (${filter.event ?? null}::text is null or v.name = ${filter.event ?? null})
      and (${filter.connectionId ?? null}::text is null or v.connection_id = ${filter.connectionId ?? null})
      and (${filter.after?.id ?? null}::uuid is null
        or (d.event, d.id) < (${filter.after?.sequence ?? null}::bigint, ${filter.after?.id ?? null}::uuid))
    order by d.event desc, d.id desc limit ${filter.limit}`)
  return rows.map(viewOf)
}

export interface AttemptRow extends Attempt {
  number: number
  at: Date
}

export async function findDelivery(
  db: Db,
  environmentId: number,
  id: string,
): Promise<{ delivery: Delivery; event: StoredEvent; attempts: AttemptRow[] } | undefined> {
  const [row] = await db.query<DeliveryRow>(sql`
    select d.*, v.id as event_id, v.sequence, v.name, v.connection_id, v.provider_config_key, v.about, v.payload_sealed,
      v.created_at, e.name as environment
    from webhook_delivery d join webhook_event v on v.sequence = d.event join environment e on e.id = d.environment_id
    where d.environment_id = ${environmentId} and d.id = ${id}`)
  if (!row) return undefined
  const attempts = await db.query<AttemptRow>(sql`
    select number, at, url, status, ms, error, answer from webhook_attempt where delivery = ${id} order by number`)
  return { delivery: viewOf(row), event: eventOf(row), attempts }
}

/** At once, and for three days from now. One that is pending is only tried sooner. */
export async function replay(db: Db, environmentId: number, id: string): Promise<boolean> {
  const rows = await db.query(sql`
    update webhook_delivery set state = 'pending', ended_at = null, since = clock_timestamp(), next_try_at = clock_timestamp()
    where environment_id = ${environmentId} and id = ${id} returning id`)
  return rows.length > 0
}

export async function replayFailed(db: Db, environmentId: number, since: Date): Promise<number> {
  const rows = await db.query(sql`
    update webhook_delivery d
    set state = 'pending', ended_at = null, since = clock_timestamp(), next_try_at = clock_timestamp()
    from webhook_event v
    where v.sequence = d.event and d.environment_id = ${environmentId} and d.state = 'failed' and v.created_at >= ${since}
    returning d.id`)
  return rows.length
}

/** Ids of the new deliveries; none when the environment has no webhook URL. */
export async function addTestEvent(db: Db, environmentId: number): Promise<string[]> {
  const rows = await db.query<{ id: string }>(sql`
    with told as (
      select environment.id, receiver
      from environment, lateral (values ('primary', webhook_url), ('secondary', webhook_url_secondary)) as one (receiver, url)
      where environment.id = ${environmentId} and url is not null),
    event as (
      insert into webhook_event (environment_id, name)
      select distinct id, 'webhook.test' from told returning sequence)
    insert into webhook_delivery (event, environment_id, receiver) select sequence, id, receiver from event, told returning id`)
  return rows.map(row => row.id)
}

/** One batch of what has been kept for long enough, with the events nobody refers to any more; true when there may be more. */
export const pruneDeliveries = (
  db: Db,
  keepDays: { deliveries: number; failed_deliveries: number },
  batch = 2000,
): Promise<boolean> =>
  db.transaction(async tx => {
    const deleted = await tx.query<{ event: number }>(sql`
      delete from webhook_delivery where id in (
        select id from webhook_delivery
        where (state = 'delivered' and ended_at < clock_timestamp() - ${keepDays.deliveries}::int * interval '1 day')
          or (state = 'failed' and ended_at < clock_timestamp() - ${keepDays.failed_deliveries}::int * interval '1 day')
        limit ${batch} for update skip locked)
      returning event`)
    // Left behind by processes that died, for receivers nobody has written to since.
    await tx.query(sql`delete from webhook_turn where until < clock_timestamp() - interval '1 day'`)
    const events = [...new Set(deleted.map(row => row.event))]
    await tx.query(sql`
      delete from webhook_event where sequence = any (${events}::bigint[])
        and not exists (select from webhook_delivery where event = sequence)`)
    return deleted.length > 0
  })

export const sealedPayloads = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from webhook_event where payload_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ id: string; environment_id: number; sealed: Buffer }>(sql`
      select id, environment_id, payload_sealed as sealed from webhook_event
      where payload_key = ${key} and id > coalesce(${after}::uuid, '00000000-0000-0000-0000-000000000000')
      order by id limit ${limit}`)
    return rows.map(({ id, environment_id, sealed }) => ({
      place: payloadPlace(environment_id, id),
      sealed,
      replace: resealed =>
        db.query(
          sql`update webhook_event set payload_sealed = ${resealed} where id = ${id} and payload_sealed = ${sealed}`,
        ),
    }))
  },
})
