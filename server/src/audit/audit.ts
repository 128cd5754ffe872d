/**
 * Who changed what. This room owns the tables `audit` and `audit_head`, and GET /audit and POST /audit/verify. Rooms that change something
 * call `audit` within the transaction of the change, last: the end of the chain is locked until that transaction ends.
 *
 * Each row's hash is an HMAC over the row and the hash before it, keyed with the installation's pepper, which is sealed: whoever can write to
 * the database alone cannot make a chain that verifies. Nothing secret is ever handed over; `detail` names what changed, not its value.
 */
import type { Db } from '../seams.ts'
import {
  type AuditFields,
  addRow,
  lastOld,
  letGo,
  lockHead,
  readHead,
  readStart,
  rowsAfter,
  type Start,
} from './store.ts'

/** Who acted. */
export interface Actor {
  kind: 'key' | 'operator' | 'end_user' | 'server'
  id: string
  name: string
  /** Where the request came from; null when nobody asked. */
  address: string | null
}

export interface Entry {
  /** Null: the installation. */
  environmentId: number | null
  /** `noun.verb`, e.g. `integration.updated`. */
  action: string
  /** What was acted on, as people call it. */
  target: string
  detail?: Record<string, unknown>
}

export type Chain = (text: string) => Buffer

/** Appends within the transaction `tx`. */
export type Audit = (tx: Db, actor: Actor, entry: Entry) => Promise<void>

export function createAudit(chain: Chain): Audit {
  return async (tx, actor, { environmentId, action, target, detail = {} }) => {
    const head = await lockHead(tx, environmentId)
    const fields: AuditFields = {
      sequence: head.sequence + 1,
      at: head.at,
      environment: head.environment,
      actor_kind: actor.kind,
      actor_id: actor.id,
      actor_name: actor.name,
      address: actor.address,
      action,
      target,
      detail,
    }
    await addRow(tx, { ...fields, hash: hashOf(chain, head.hash, fields) })
  }
}

export type Verdict = { intact: true; rows: number; head: string } | { intact: false; rows: number; broken_at: number }

const batch = 2_000

/** Walks the whole chain. `broken_at`: the first row that does not follow from the one before it. */
export async function verify(db: Db, chain: Chain): Promise<Verdict> {
  for (;;) {
    const begun = await readStart(db)
    const verdict = await walk(db, chain, begun)
    // What was let go while we walked was not taken out.
    if (verdict.intact || (await readStart(db))?.sequence === begun?.sequence) return verdict
  }
}

async function walk(db: Db, chain: Chain, begun: Start | undefined): Promise<Verdict> {
  // Rows written while we walk are beyond this end and are not asked for.
  const end = await readHead(db)
  let hash: Buffer = begun?.hash ?? Buffer.alloc(0)
  let sequence = begun?.sequence ?? 0
  if (begun && !markOf(chain, begun).equals(begun.mark)) return { intact: false, rows: 0, broken_at: sequence + 1 }
  const before = sequence
  while (sequence < end.sequence) {
    const rows = await rowsAfter(db, sequence, batch)
    const at = sequence
    for (const row of rows) {
      if (row.sequence > end.sequence) break
      if (row.sequence !== sequence + 1 || !hashOf(chain, hash, row).equals(row.hash))
        return { intact: false, rows: sequence - before, broken_at: sequence + 1 }
      hash = row.hash
      sequence = row.sequence
    }
    // None left before the end, though there may be newer ones behind it.
    if (sequence === at) return { intact: false, rows: sequence - before, broken_at: sequence + 1 }
  }
  if (!hash.equals(end.hash)) return { intact: false, rows: sequence - before, broken_at: sequence }
  return { intact: true, rows: sequence - before, head: hash.toString('hex') }
}

/** Of the place where the chain begins. The words keep it from being the hash of any row. */
const markOf = (chain: Chain, { sequence, hash }: Pick<Start, 'sequence' | 'hash'>): Buffer =>
  chain(`the chain begins behind ${sequence} ${hash.toString('hex')}`)

/**
 * Lets go of what is older than so many days. The chain stays whole: it begins behind the last row that went, whose hash is kept with a keyed
 * mark; whoever can write to the database alone can take rows out, and cannot say so. That it was done is the newest entry.
 */
export async function pruneAudit(db: Db, chain: Chain, keepDays: number): Promise<void> {
  const audit = createAudit(chain)
  const { sequence: end } = await readHead(db)
  for (;;) {
    const isMore = await db.transaction(async tx => {
      const last = await lastOld(tx, { days: keepDays, end, limit: batch })
      if (!last) return false
      await letGo(tx, { ...last, mark: markOf(chain, last) })
      const server: Actor = { kind: 'server', id: 'retention', name: 'retention', address: null }
      const entry = { environmentId: null, action: 'audit.pruned', target: 'audit' }
      await audit(tx, server, { ...entry, detail: { up_to: last.sequence, older_than_days: keepDays } })
      return true
    })
    if (!isMore) return
  }
}

/** JSON of an array is unambiguous; `detail` is written with its keys in order, because jsonb keeps none. */
const hashOf = (chain: Chain, before: Buffer, row: AuditFields): Buffer =>
  chain(
    JSON.stringify([
      before.toString('hex'),
      row.sequence,
      row.at.toISOString(),
      row.environment,
      row.actor_kind,
      row.actor_id,
      row.actor_name,
      row.address,
      row.action,
      row.target,
      ordered(row.detail),
    ]),
  )

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, member]) => [name, ordered(member)]),
  )
}
