/**
 * People's rights: POST /end-users/export and POST /end-users/erase, about an end user or a whole organization of one environment.
 *
 * An erasure is several transactions, because tokens move to the outbox in batches (POST /kill does the same). Traces go first and once more
 * at the end: the names of the connections are only known while they are there, and their deletion leaves traces of its own. Sent again
 * after a crash it finds what is left.
 */
import { type Erasure, erasePerson, exportPerson, type PersonTarget } from '@fairlead/contract'
import { actorOf, type EnvironmentCaller, environmentCaller, hasScope } from '../account/caller.ts'
import type { KeyedHash } from '../account/pepper.ts'
import type { Audit } from '../audit/audit.ts'
import type { Connections } from '../connection/live.ts'
import { blockMatching, killNext } from '../connection/store.ts'
import type { RetireDeps } from '../credential/revocation/store.ts'
import type { Revocations } from '../credential/revocation.ts'
import { api, type Guard } from '../http/api.ts'
import { findIntegrationById } from '../integration/store.ts'
import { isoZulu } from '../lib/time.ts'
import type { Db } from '../seams.ts'
import {
  auditOf,
  type Counts,
  connectionsOf,
  eraseTraces,
  exportActivity,
  exportConnections,
  exportEvents,
  exportReceipts,
  exportSessions,
  type Rows,
  type Subject,
} from './store.ts'

interface Deps extends RetireDeps {
  db: Db
  keyedHash: KeyedHash
  connections: Pick<Connections, 'forgetEnvironment'>
  revocations: Pick<Revocations, 'kick'>
  /** What a provider's webhook said. The outbox stands beside this room. */
  openPayload(environmentId: number, eventId: string, sealed: Buffer): Promise<object>
  guard: Guard
  audit: Audit
}

const mostCalls = 100_000

const subjectOf = (environmentId: number, target: PersonTarget): Subject => ({
  environmentId,
  endUserId: 'end_user_id' in target ? target.end_user_id : null,
  organizationId: 'organization_id' in target ? target.organization_id : null,
})

export function endUserRoutes(deps: Deps) {
  const { db, keyedHash, connections, revocations, guard, audit } = deps
  const app = api()

  const eventsOf = async (subject: Subject, caller: EnvironmentCaller): Promise<Rows> => {
    const reveals = hasScope(caller, 'environment:connections:read_credentials')
    return Promise.all(
      (await exportEvents(db, subject)).map(async ({ payload_sealed: sealed, ...event }) => ({
        ...event,
        ...(sealed && reveals && { payload: await deps.openPayload(subject.environmentId, event.id, sealed) }),
      })),
    )
  }

  /** Not the whole hash: enough to tell people apart, too little to try names against without the pepper's owner. */
  const pseudonymOf = (subject: Subject): string =>
    `erased-${keyedHash(`erased ${JSON.stringify(subject)}`)
      .toString('hex')
      .slice(0, 24)}`

  app.openapi(guard(exportPerson), async c => {
    const caller = environmentCaller(c.get('caller'))
    const { environment } = caller
    const target = c.req.valid('json')
    const subject = subjectOf(environment.id, target)
    const named = await connectionsOf(db, subject)
    const activity = await exportActivity(db, environment.id, named, mostCalls + 1)
    const answer = {
      subject: target,
      exported_at: isoZulu(new Date()),
      connections: await exportConnections(db, subject),
      connect_sessions: await exportSessions(db, subject),
      activity: activity.slice(0, mostCalls),
      activity_is_complete: activity.length <= mostCalls,
      webhook_events: await eventsOf(subject, caller),
      revocations: await exportReceipts(db, environment.id, named),
      audit: await auditOf(db, subject, named),
    }
    await db.transaction(tx =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'end_user.exported',
        target: pseudonymOf(subject),
      }),
    )
    return c.json(answer, 200)
  })

  app.openapi(guard(erasePerson), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const target = c.req.valid('json')
    const subject = subjectOf(environment.id, target)
    const pseudonym = pseudonymOf(subject)
    const named = await connectionsOf(db, subject)
    const kept = await auditOf(db, subject, named)
    const before = await eraseTraces(db, subject, named, pseudonym)

    const killed = {
      environmentId: environment.id,
      ...('end_user_id' in target ? { endUserId: target.end_user_id } : { organizationId: target.organization_id }),
    }
    await blockMatching(db, killed)
    let ended = 0
    for (;;) {
      const batch = await killNext(deps, killed, null, (tx, id) => findIntegrationById({ ...deps, db: tx }, id))
      if (!batch) break
      ended += batch.length
      revocations.kick()
    }
    connections.forgetEnvironment(environment.id)

    const after = await eraseTraces(db, subject, named, pseudonym)
    const receipt: Erasure = {
      subject: pseudonym,
      erased_at: isoZulu(new Date()),
      deleted: { connection: ended, ...sum(before.deleted, after.deleted) },
      // Those of before carry the pseudonym already and are not met again.
      stripped: { ...after.stripped, revocation: before.stripped.revocation! + after.stripped.revocation! },
      revocations_queued: after.stripped.revocation!,
      audit_entries_kept: kept.length,
    }
    await db.transaction(tx =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'end_user.erased',
        target: pseudonym,
        detail: { deleted: receipt.deleted, stripped: receipt.stripped },
      }),
    )
    return c.json(receipt, 200)
  })

  return app
}

const sum = (one: Counts, other: Counts): Counts =>
  Object.fromEntries(Object.entries(one).map(([name, count]) => [name, count + other[name]!]))
