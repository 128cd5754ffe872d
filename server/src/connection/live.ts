/**
 * Connections: one end user's account on one integration. This room owns the table `connection` and GET /connections,
 * GET|DELETE /connections/:connectionId, POST /connections/:connectionId/refresh|pause|resume, GET /revocations and POST /kill. `live` is what the proxy and the routes work with: a connection with its opened
 * credential, cached, so that a call in the steady state costs no SQL.
 */

import type { Entry } from '../audit/audit.ts'
import { clientOf } from '../credential/exchange.ts'
import { accountOf } from '../credential/facts.ts'
import type { Holder } from '../credential/refresh-deps.ts'
import type { Credential, StoreDeps } from '../credential/store.ts'
import { countGrants } from '../credential/store.ts'
import { type Outage, outageMs } from '../db/outage.ts'
import { Failure } from '../errors.ts'
import { findIntegration, type Integration } from '../integration/store.ts'
import { createCache, type Lookups } from '../lib/cache.ts'
import { singleFlight } from '../lib/single-flight.ts'
import { minutes, seconds } from '../lib/time.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import type { Provider } from '../provider/schema.ts'
import { type Connection, findWithCredential, markFetched } from './store.ts'

export interface Live {
  connection: Connection
  integration: Integration
  provider: Provider
  holder: Holder
  credential: Credential
  /** How many grants of this account are alive; 0 where the provider does not limit them. */
  grants: number
}

export interface Connections {
  /** Without a promise when it is in memory. Throws `unknown_provider_config`, or `missing` for an id that does not exist. */
  live(
    environmentId: number,
    integrationKey: string,
    connectionId: string,
    missing: 'not_found' | 'unknown_connection',
    /** The wire contract's status of an integration that does not exist: 400 where connections are read, 404 where they are used. */
    unknownIntegration?: 400 | 404,
  ): Live | Promise<Live>
  /** Its credentials were handed out: when, for the wire's `last_fetched_at`. */
  fetched(live: Live): Date
  forgetCredential(credentialId: string): void
  /** It has new tokens; the old ones are good for as long as the database, which has the new ones, is away. */
  credentialRenewed(credentialId: string): void
  forgetEnvironment(environmentId: number): void
  /** Something may have changed unheard: all is read anew, as soon as the database answers. */
  doubtAll(): void
  lookups: Lookups
}

interface Kept {
  live: Live
  /** Whatever is told of one of these may be news about it. */
  names: { changed: readonly string[]; renewed: string }
  /** How much had been forgotten when it began to be read. */
  turn: number
  readAt: number
}

/** The backstop for a notification that never arrived. */
const maxAgeMs = minutes(1)
/** Shorter, because what is read with it is kept for as long again. */
const integrationMaxAgeMs = seconds(10)
/** So long what was fetched waits to be written down with what is fetched next. */
const markAfterMs = 200

interface Deps extends StoreDeps {
  catalogue: Catalogue
  outage: Outage
}

export function createConnections(deps: Deps): Connections {
  const cache = createCache<Kept>({ max: 20_000, maxAgeMs: outageMs })
  // Forgetting writes down when, instead of looking through all that is kept: a large installation renews hundreds of tokens a second, and
  // every process hears of each. What was read before that may be the very thing that changed, so it is used once and not again.
  const lookups = { hits: 0, misses: 0 }
  let turn = 0
  let doubted = 0
  let recently = new Map<string, number>()
  let earlier = new Map<string, number>()
  let since = performance.now()
  const forget = (what: string) => {
    if (performance.now() - since > 2 * outageMs) {
      // What is kept, and what is just being read, is younger than the notes thrown away here.
      earlier = recently
      recently = new Map()
      since = performance.now()
    }
    recently.set(what, ++turn)
  }
  const forgotten = (what: string): number => recently.get(what) ?? earlier.get(what) ?? 0
  // Most often nothing at all was told since.
  const isUnchanged = ({ names, turn: read }: Kept): boolean =>
    read === turn || names.changed.every(name => read >= forgotten(name))
  const isCurrent = ({ names, turn: read, readAt }: Kept): boolean =>
    (read === turn || (read >= doubted && read >= forgotten(names.renewed))) && performance.now() - readAt < maxAgeMs

  /** Off the path and many at once: a page of each is written, and whoever reads next would wait for the disk with it. */
  let toMark: number[] = []
  const mark = (id: number) => {
    if (toMark.push(id) > 1) return
    setTimeout(() => {
      const ids = toMark
      toMark = []
      markFetched(deps.db, ids).catch(() => ids.forEach(one => void markedRecently.delete(String(one))))
    }, markAfterMs).unref()
  }

  const oneAtATime = singleFlight<Live | 'no integration' | 'no connection'>()
  const markedRecently = createCache<true>({ max: 10_000, maxAgeMs: minutes(1) })

  /** An integration's connections come one after the other, and each is one statement less when it is known. */
  const integrations = createCache<{ integration: Integration; turn: number }>({
    max: 1_000,
    maxAgeMs: integrationMaxAgeMs,
  })

  async function readIntegration(environmentId: number, key: string): Promise<Integration | undefined> {
    const before = turn
    const integration = await findIntegration(deps, environmentId, key)
    if (integration) integrations.set(`${environmentId}\n${key}`, { integration, turn: before })
    return integration
  }

  function knownIntegration(environmentId: number, key: string): Integration | undefined {
    const kept = integrations.get(`${environmentId}\n${key}`)
    const since = Math.max(doubted, forgotten(environmentName(environmentId)))
    return kept && kept.turn >= since ? kept.integration : undefined
  }

  async function read(environmentId: number, integrationKey: string, connectionId: string) {
    const before = turn
    const readAt = performance.now()
    const known = knownIntegration(environmentId, integrationKey)
    let integration = known ?? (await readIntegration(environmentId, integrationKey))
    let found = integration && (await findWithCredential(deps, integration.id, connectionId))
    // It may have been deleted, and made again, so lately that nobody has heard: "there is none" is said of what stands in the database.
    if (known && !found) {
      integration = await readIntegration(environmentId, integrationKey)
      found = integration && (await findWithCredential(deps, integration.id, connectionId))
    }
    if (!integration) return 'no integration'
    if (!found) return 'no connection'
    const { connection, credential } = found
    const { provider, holder } = holderOf(deps.catalogue, integration)
    const account = provider.grants_per_user === undefined ? null : accountOf(provider, credential.config)
    const grants = account === null ? 0 : await countGrants(deps.db, integration.id, account)
    const live = { connection, integration, provider, holder, credential, grants }
    const names = { changed: [credential.id, environmentName(environmentId)], renewed: renewedName(credential.id) }
    cache.set(nameOf(environmentId, integrationKey, connectionId), { live, names, turn: before, readAt })
    return live
  }

  async function find(
    environmentId: number,
    integrationKey: string,
    connectionId: string,
    missing: 'not_found' | 'unknown_connection',
    status: 400 | 404,
  ): Promise<Live> {
    // Two hundred callers of a connection that was just forgotten read it once. Those who come after a change read again.
    const name = `${turn}\n${nameOf(environmentId, integrationKey, connectionId)}`
    const live = await oneAtATime(name, () => read(environmentId, integrationKey, connectionId))
    if (live === 'no integration') throw new Failure('unknown_provider_config', { status })
    if (live === 'no connection')
      throw new Failure(missing, { message: 'No connection with this id exists on this integration.' })
    return live
  }

  return {
    live(environmentId, integrationKey, connectionId, missing, unknownIntegration = 400) {
      const found = cache.get(nameOf(environmentId, integrationKey, connectionId))
      const kept = found && isUnchanged(found) ? found : undefined
      if (kept && isCurrent(kept)) {
        lookups.hits++
        return kept.live
      }
      lookups.misses++
      return deps.outage.bridged(kept?.live, () =>
        find(environmentId, integrationKey, connectionId, missing, unknownIntegration),
      )
    },

    fetched({ connection }) {
      connection.lastFetchedAt = new Date()
      // Once a minute: every reader of a busy connection would wait for the same row.
      if (!markedRecently.get(String(connection.id))) {
        markedRecently.set(String(connection.id), true)
        mark(connection.id)
      }
      return connection.lastFetchedAt
    },

    forgetCredential: forget,
    credentialRenewed: credentialId => forget(renewedName(credentialId)),
    forgetEnvironment: environmentId => forget(environmentName(environmentId)),
    doubtAll: () => {
      doubted = ++turn
    },
    lookups,
  }
}

/** What a connection that waits to be confirmed is not. */
export function requireConfirmed({ connection }: Live): void {
  if (connection.confirmBy) throw new Failure('connection_unconfirmed')
}

/** What is done to a connection, for the audit trail. */
export const entryOf = (action: string, { connection, integration }: Live): Entry => ({
  environmentId: connection.environmentId,
  action,
  target: connection.connectionId,
  detail: { integration: integration.key },
})

const renewedName = (credentialId: string): string => `renewed ${credentialId}`
const environmentName = (id: number): string => `environment ${id}`
const nameOf = (environmentId: number, integrationKey: string, connectionId: string): string =>
  `${environmentId}\n${integrationKey}\n${connectionId}`

/** The provider and OAuth client behind an integration. Throws when its provider is not in the catalogue (any more). */
export function holderOf(catalogue: Catalogue, integration: Integration): { provider: Provider; holder: Holder } {
  const provider = catalogue.get(integration.provider)
  if (!provider)
    throw new Failure('unknown_provider_config', {
      message: `The provider "${integration.provider}" of this integration is not in this server's catalogue.`,
    })
  const { config: settings, custom } = integration.settings
  const client = clientOf({ id: integration.clientId ?? '', secret: integration.clientSecret }, settings)
  const baseUrl = provider.integration_config && custom.baseUrl
  return { provider, holder: { provider, client, settings, ...(baseUrl && { baseUrl }) } }
}
