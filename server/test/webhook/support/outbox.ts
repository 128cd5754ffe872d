/** The webhook room by itself: a real database, a real egress, a receiver on the loopback. `process()` is one more server on the same database. */
import { randomUUID } from 'node:crypto'
import { addFirstSigningKey, writeSettings } from '../../../src/account/settings/store.ts'
import { addEnvironment } from '../../../src/account/store.ts'
import { sql } from '../../../src/db/sql.ts'
import { systemClock } from '../../../src/lib/time.ts'
import { parseEgressAllow } from '../../../src/net/allow.ts'
import { createEgress } from '../../../src/net/egress.ts'
import type { Db } from '../../../src/seams.ts'
import { createDeliveries, type DeliverDeps, type Deliveries } from '../../../src/webhook/deliver.ts'
import { addTestEvent } from '../../../src/webhook/store.ts'
import { testDatabase } from '../../support/database.ts'
import { newEncryptionKey, vaultOn } from '../../support/vault.ts'
import { type ReceiverServer, startReceiver } from './receiver.ts'

type Test = { after(work: () => Promise<void>): void }

export interface Row {
  id: string
  sequence: number
  event_id: string
  receiver: string
  state: string
  tries: number
  /** From now, in seconds. */
  next_in: number
  ended: boolean
}

export interface AttemptRow {
  url: string | null
  status: number | null
  error: string | null
  answer: string | null
}

export interface Environment {
  id: number
  key: string
  receiver: ReceiverServer
}

export interface Outbox {
  db: Db
  deps: DeliverDeps
  deliveries: Deliveries
  process(): Deliveries
  /** With a receiver and a signing key of its own. */
  environment(): Promise<Environment>
  /** Puts in `count` events. */
  put(environment: Environment, count?: number): Promise<void>
  rows(environment: Environment): Promise<Row[]>
  attempts(environment: Environment): Promise<AttemptRow[]>
  /** So many hours go by. */
  pass(hours: number): Promise<void>
  log(): string
}

export async function openOutbox(t: Test): Promise<Outbox> {
  const { db } = await testDatabase()
  const egress = createEgress({ rules: parseEgressAllow('127.0.0.1').rules })
  t.after(() => egress.close())
  let logged = ''
  const note = (fields: object, message: string) => {
    logged += `${JSON.stringify({ ...fields, message })}\n`
  }
  const deps: DeliverDeps = {
    db,
    vault: await vaultOn(db, newEncryptionKey()),
    egress,
    clock: systemClock,
    catalogue: { get: () => undefined, hooks: () => ({}) },
    log: { debug: note, info: note, warn: note, error: note },
  }
  const process = () => {
    const made = createDeliveries(deps)
    t.after(() => made.drain())
    return made
  }
  return {
    db,
    deps,
    deliveries: process(),
    process,
    async environment() {
      const receiver = await startReceiver(t)
      const name = `e-${randomUUID()}`
      await addEnvironment(db, name)
      const [row] = await db.query<{ id: number }>(sql`select id from environment where name = ${name}`)
      await writeSettings(db, row!.id, { webhook_url: receiver.url })
      const key = await addFirstSigningKey(deps, row!.id)
      return { id: row!.id, key: key!.reveal(), receiver }
    },
    async put(environment, count = 1) {
      for (let n = 0; n < count; n++) await addTestEvent(db, environment.id)
    },
    rows: ({ id }) =>
      db.query<Row>(sql`
        select d.id, d.event as sequence, v.id as event_id, d.receiver, d.state, d.tries, d.ended_at is not null as ended,
          extract(epoch from d.next_try_at - clock_timestamp())::float8 as next_in
        from webhook_delivery d join webhook_event v on v.sequence = d.event
        where d.environment_id = ${id} order by d.event, d.receiver`),
    attempts: ({ id }) =>
      db.query<AttemptRow>(sql`
        select a.url, a.status, a.error, a.answer from webhook_attempt a join webhook_delivery d on d.id = a.delivery
        where d.environment_id = ${id} order by d.event, d.receiver, a.number`),
    async pass(hours) {
      await db.query(sql`
        update webhook_delivery set since = since - ${hours}::float8 * interval '1 hour',
          next_try_at = next_try_at - ${hours}::float8 * interval '1 hour',
          ended_at = ended_at - ${hours}::float8 * interval '1 hour'`)
    },
    log: () => logged,
  }
}
