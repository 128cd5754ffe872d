/**
 * Connections: one end user's account on one integration. This room owns the table `connection` and GET /connections,
 * GET|DELETE /connections/:connectionId. `live` is what the proxy and the routes work with: a connection with its opened
 * credential, cached, so that a call in the steady state costs no SQL.
 */

import type { Holder } from '../credential/refresh.ts'
import type { Credential, StoreDeps } from '../credential/store.ts'
import { loadCredential } from '../credential/store.ts'
import { Failure } from '../errors.ts'
import { findIntegration, type Integration } from '../integration/store.ts'
import { createCache } from '../lib/cache.ts'
import { minutes } from '../lib/time.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import type { Provider } from '../provider/schema.ts'
import { type Connection, findConnection } from './store.ts'

export interface Live {
  connection: Connection
  integration: Integration
  provider: Provider
  holder: Holder
  credential: Credential
}

export interface Connections {
  /** From memory when it is there. Throws `unknown_provider_config`, or `missing` for an id that does not exist. */
  live(
    environmentId: number,
    integrationKey: string,
    connectionId: string,
    missing: 'not_found' | 'unknown_connection',
  ): Promise<Live>
  /** A credential was renewed here: later calls use it at once. */
  renewed(credential: Credential): void
  forgetCredential(credentialId: string): void
  forgetEnvironment(environmentId: number): void
  forgetAll(): void
}

interface Deps extends StoreDeps {
  catalogue: Catalogue
}

export function createConnections(deps: Deps): Connections {
  const cache = createCache<Live>({ max: 10_000, maxAgeMs: minutes(1) })
  // Counts what was forgotten: a row read before that may be the very one that changed, so it is used once and not kept.
  let forgotten = 0
  const forget = (matches: (live: Live) => boolean) => {
    forgotten++
    cache.deleteWhere(matches)
  }

  return {
    async live(environmentId, integrationKey, connectionId, missing) {
      const key = `${environmentId}\n${integrationKey}\n${connectionId}`
      const cached = cache.get(key)
      if (cached) return cached
      const before = forgotten
      const integration = await findIntegration(deps, environmentId, integrationKey)
      if (!integration) throw new Failure('unknown_provider_config')
      const connection = await findConnection(deps.db, integration.id, connectionId)
      const credential = connection && (await loadCredential(deps, connection.credentialId))
      if (!connection || !credential)
        throw new Failure(missing, { message: 'No connection with this id exists on this integration.' })
      const live = { connection, integration, credential, ...holderOf(deps.catalogue, integration) }
      if (forgotten === before) cache.set(key, live)
      return live
    },

    renewed: credential =>
      forget(live => live.credential.id === credential.id && live.credential.tokenVersion < credential.tokenVersion),
    forgetCredential: credentialId => forget(live => live.credential.id === credentialId),
    forgetEnvironment: environmentId => forget(live => live.connection.environmentId === environmentId),
    forgetAll: () => forget(() => true),
  }
}

/** The provider and OAuth client behind an integration. Throws when its provider is not in the catalogue (any more). */
export function holderOf(catalogue: Catalogue, integration: Integration): { provider: Provider; holder: Holder } {
  const provider = catalogue.get(integration.provider)
  if (!provider)
    throw new Failure('unknown_provider_config', {
      message: `The provider "${integration.provider}" of this integration is not in this server's catalogue.`,
    })
  const client = { id: integration.clientId ?? '', secret: integration.clientSecret }
  return { provider, holder: { provider, client } }
}
