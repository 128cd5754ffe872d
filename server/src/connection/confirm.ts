/**
 * POST /connections/:connectionId/confirm, and the end of what nobody confirmed. An environment may ask for it (security checklist LK3): somebody can
 * begin a sign-in and have another person finish it, and only the developer's backend knows who is signed in to the product.
 */
import { confirmConnection } from '@fairlead/contract'
import { actorOf, environmentCaller } from '../account/caller.ts'
import type { Audit } from '../audit/audit.ts'
import type { RetireDeps } from '../credential/revocation/store.ts'
import type { Revocations } from '../credential/revocation.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { findIntegrationById } from '../integration/store.ts'
import type { Log } from '../lib/log.ts'
import type { Db, Vault } from '../seams.ts'
import type { Connections } from './live.ts'
import { confirmWaiting, removeConnection, unconfirmed } from './store.ts'

interface Deps {
  db: Db
  connections: Connections
  guard: Guard
  audit: Audit
}

export function confirmRoutes({ db, connections, guard, audit }: Deps) {
  const app = api()
  app.openapi(guard(confirmConnection), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const { connection } = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    const entry = { environmentId: environment.id, target: `${key}/${connection.connectionId}` }
    const confirmer = c.req.valid('json')?.end_user_id
    if (confirmer !== undefined && confirmer !== connection.endUser?.id) {
      await db.transaction(tx =>
        audit(tx, actorOf(c), { ...entry, action: 'linking.mismatch', detail: { end_user_id: confirmer } }),
      )
      throw new Failure('conflict', {
        message:
          'The sign-in was begun for another user. The connection stays unusable, and its tokens are revoked unless that user is confirmed in time.',
      })
    }
    if (!connection.confirmBy) return c.json({ success: true as const }, 200)
    const confirmed = await confirmWaiting(db, connection, tx =>
      audit(tx, actorOf(c), { ...entry, action: 'connection.confirmed' }),
    )
    connections.forgetCredential(connection.credentialId)
    if (!confirmed) throw new Failure('not_found', { message: 'Nobody confirmed this connection in time.' })
    return c.json({ success: true as const }, 200)
  })
  return app
}

interface SweepDeps extends RetireDeps {
  db: Db
  vault: Vault
  connections: Pick<Connections, 'forgetCredential'>
  revocations: Pick<Revocations, 'kick'>
  audit: Audit
  log: Log
}

/** Ends them as a deletion does: tokens go to the outbox of revocations. Two servers may do it at once; one of them does. */
export async function endUnconfirmed(deps: SweepDeps): Promise<void> {
  for (const connection of await unconfirmed(deps.db)) {
    const integration = await findIntegrationById(deps, connection.integrationId)
    if (!integration) continue
    const { environmentId, connectionId, credentialId } = connection
    const server = { kind: 'server', id: '', name: 'Fairlead', address: null } as const
    const target = `${integration.key}/${connectionId}`
    await removeConnection(deps, integration, connection, tx =>
      deps.audit(tx, server, { environmentId, action: 'connection.unconfirmed', target }),
    )
    deps.connections.forgetCredential(credentialId)
    deps.revocations.kick()
    deps.log.warn({ integration: integration.key, connection: connectionId }, 'a connection nobody confirmed was ended')
  }
}
