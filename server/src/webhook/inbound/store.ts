import { sql } from '../../db/sql.ts'
import type { ConnectionConfig } from '../../provider/endpoint.ts'
import type { Db } from '../../seams.ts'

export interface AddressRow {
  id: string
  created_at: Date
  retires_at: Date | null
  received_at: Date | null
}

export const listAddresses = (db: Db, connection: number): Promise<AddressRow[]> =>
  db.query<AddressRow>(sql`
    select id, created_at, retires_at, received_at from webhook_address
    where connection_id = ${connection} and (retires_at is null or retires_at > clock_timestamp())
    order by retires_at desc nulls first`)

/** The new one, while the previous works on for so long. `previousUntil`: null when there was none, or it ends now. Undefined: no connection. */
export const replaceAddress = (
  db: Db,
  connection: number,
  lookup: Buffer,
  overlapHours: number,
  told: (tx: Db) => Promise<void>,
): Promise<{ previousUntil: Date | null } | undefined> =>
  db.transaction(async tx => {
    const found = await tx.query(sql`select id from connection where id = ${connection} for no key update`)
    if (found.length === 0) return undefined
    const [retired] = await tx.query<{ retires_at: Date }>(sql`
      update webhook_address set retires_at = clock_timestamp() + ${overlapHours}::int * interval '1 hour'
      where connection_id = ${connection} and retires_at is null returning retires_at`)
    // An address that leaked ends every older one with it: whoever has this one may have had those.
    await tx.query(sql`
      delete from webhook_address where connection_id = ${connection}
        and (retires_at < clock_timestamp() or (${overlapHours} = 0 and retires_at is not null))`)
    await tx.query(sql`insert into webhook_address (lookup, connection_id) values (${lookup}, ${connection})`)
    await told(tx)
    return { previousUntil: overlapHours > 0 && retired ? retired.retires_at : null }
  })

export const endAddresses = (db: Db, connection: number, told: (tx: Db) => Promise<void>): Promise<void> =>
  db.transaction(async tx => {
    await tx.query(sql`delete from webhook_address where connection_id = ${connection}`)
    await told(tx)
  })

/** What is behind an address, and what has to be known to read what came there. */
export interface Addressee {
  connection: number
  environmentId: number
  provider: string
  config: ConnectionConfig
  /** What its owner wants sent on. */
  forwards: boolean
}

export async function findAddressee(db: Db, lookup: Buffer): Promise<Addressee | undefined> {
  const [row] = await db.query<Addressee>(sql`
    select c.id as connection, c.environment_id as "environmentId", i.provider, k.config, i.forward_webhooks as forwards
    from webhook_address a
      join connection c on c.id = a.connection_id
      join integration i on i.id = c.integration_id
      join credential k on k.id = c.credential_id
    where a.lookup = ${lookup} and (a.retires_at is null or a.retires_at > clock_timestamp())`)
  return row
}

export const markReceived = (db: Db, lookup: Buffer): Promise<object[]> =>
  db.query(sql`
    update webhook_address set received_at = clock_timestamp()
    where lookup = ${lookup} and (received_at is null or received_at < clock_timestamp() - interval '1 minute')`)

/** A message, sealed, with the id of the event it becomes. */
export interface SealedMessage {
  id: string
  source: string
  sealed: Buffer
}

/** In one statement, so all of them or none: committed when it resolves. What was told before is left alone. False: nobody is to be told. */
export async function tellForwarded(db: Db, connection: number, messages: SealedMessage[]): Promise<boolean> {
  const rows = await db.query<{ outcome: 'told' | 'known' | 'unheard' }>(sql`
    select webhook_tell(c, 'webhook.forwarded', m.id, m.source, m.sealed) as outcome
    from connection c, unnest(${messages.map(one => one.id)}::uuid[], ${messages.map(one => one.source)}::text[],
      ${messages.map(one => one.sealed)}::bytea[]) as m (id, source, sealed)
    where c.id = ${connection}`)
  return rows.length > 0 && rows.every(({ outcome }) => outcome !== 'unheard')
}
