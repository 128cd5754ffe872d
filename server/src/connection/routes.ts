import {
  type ConnectionFilter,
  type ConnectionState,
  type ConnectionWarning,
  causeOf,
  deleteConnection,
  type EndUser,
  type ExplainedCause,
  type endUserView,
  errors,
  getConnection,
  getOverview,
  getTimeline,
  type Health,
  kill,
  listRevocations,
  listConnections as listRoute,
  type Organization,
  pauseConnection,
  type Receipt,
  refreshConnection,
  resumeConnection,
  stateOf,
  warnings,
} from '@fairlead/contract'
import type { z } from '@hono/zod-openapi'
import { actorOf, type Caller, environmentCaller, hasScope, requireScope } from '../account/caller.ts'
import type { Actor, Audit } from '../audit/audit.ts'
import type { Credentials } from '../credential/fresh.ts'
import { kindNamed } from '../credential/kinds/kinds.ts'
import { listReceipts, type RetireDeps } from '../credential/revocation/store.ts'
import type { Revocations } from '../credential/revocation.ts'
import { type Credential, liftBlock, type ProviderSaid, setPaused } from '../credential/store.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { findIntegration, findIntegrationById } from '../integration/store.ts'
import { createCache } from '../lib/cache.ts'
import type { Log } from '../lib/log.ts'
import { days, isoOffset, isoZulu, minutes } from '../lib/time.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Explain } from '../provider/explain.ts'
import type { Provider } from '../provider/schema.ts'
import type { Db } from '../seams.ts'
import { createDeep } from './deep.ts'
import { type Connections, entryOf, type Live, requireConfirmed } from './live.ts'
import { createOverview } from './overview.ts'
import {
  blockMatching,
  type Connection,
  type KillTarget,
  killNext,
  type ListedConnection,
  listConnections,
  readTimeline,
  removeConnection,
} from './store.ts'

interface Deps extends RetireDeps {
  db: Db
  connections: Connections
  credentials: Credentials
  catalogue: Pick<Catalogue, 'get'>
  explain: Explain
  revocations: Pick<Revocations, 'kick'>
  guard: Guard
  audit: Audit
  log: Log
}

export function connectionRoutes(deps: Deps) {
  const { db, connections, credentials, revocations, guard, audit, log } = deps
  const app = api()
  const overviewOf = createOverview(db)
  const farBack = createDeep(db)
  const explained = async (one: ListedConnection): Promise<ListedExplained> => {
    const provider = deps.catalogue.get(one.provider)
    return { ...one, explained: provider && (await explainState(deps.explain, provider, one)) }
  }

  app.openapi(guard(listRoute), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const filter = c.req.valid('query') as ConnectionFilter
    const { page: number = 0, limit = 10_000, ...narrower } = filter
    const isWhole = Object.keys(narrower).length === 0
    const mark = isWhole ? await farBack(environment.id, number * limit) : undefined
    const page = await listConnections(db, environment.id, filter, mark)
    const connections = (await Promise.all(page.connections.map(explained))).map(listedView)
    return c.json({ connections, next_cursor: page.nextCursor }, 200)
  })

  app.openapi(guard(getOverview), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const [{ states, soonest, failing, renewals }, { connections: attention }] = await Promise.all([
      overviewOf(environment.id),
      listConnections(db, environment.id, { troubled: true, limit: 20 }),
    ])
    return c.json(
      {
        failing,
        renewals: renewals.map(({ at, ...outcomes }) => ({ at: isoZulu(new Date(at)), ...outcomes })),
        renewed_today: renewals.reduce((sum, { renewed }) => sum + renewed, 0),
        states: { active: 0, degraded: 0, needs_reauth: 0, blocked_by_policy: 0, paused: 0, ...states },
        soonest: soonest && { ...soonest, expires_at: isoZulu(new Date(soonest.expires_at)) },
        attention: (await Promise.all(attention.map(explained))).map(listedView),
      },
      200,
    )
  })

  /**
   * Every look of an operator, before it is granted; of a key the first on each integration in an hour: backends fetch tokens all day, and the
   * end of the chain is one lock.
   */
  const readByKeys = createCache<true>({ max: 10_000, maxAgeMs: minutes(60) })
  async function read(c: Parameters<typeof actorOf>[0], live: Live): Promise<void> {
    const actor = actorOf(c)
    if (actor.kind === 'operator')
      return db.transaction(tx => audit(tx, actor, entryOf('connection.secret_read', live)))
    const name = `${actor.id} ${live.integration.id}`
    if (readByKeys.get(name)) return
    readByKeys.set(name, true)
    const entry = { ...entryOf('connection.secrets_read', live), target: live.integration.key, detail: {} }
    db.transaction(tx => audit(tx, actor, entry)).catch(() => readByKeys.delete(name))
  }

  app.openapi(guard(getConnection), async c => {
    const caller = environmentCaller(c.get('caller'))
    const { connectionId } = c.req.valid('param')
    const query = c.req.valid('query')
    const reveals = query.credentials !== 'false' && hasScope(caller, 'environment:connections:read_credentials')
    if (query.refresh_token || query.force_refresh || query.refresh_github_app_jwt_token)
      requireScope(caller, ['environment:connections:read_credentials'])

    const live = await connections.live(caller.environment.id, query.provider_config_key, connectionId, 'not_found')
    let { credential } = live
    if (reveals) {
      requireConfirmed(live)
      await read(c, live)
      const renew = query.force_refresh ? credentials.forced : credentials.fresh
      credential = await renew(live.holder, credential)
    }
    const lastFetchedAt = reveals ? connections.fetched(live) : live.connection.lastFetchedAt
    const known = await explainState(deps.explain, live.provider, credential)
    const shown = { credential, explained: known, lastFetchedAt, reveals, withRefreshToken: query.refresh_token }
    return c.json(fullView(live, shown), 200)
  })

  app.openapi(guard(getTimeline), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const { connection, credential, provider } = await connections.live(
      environment.id,
      key,
      c.req.valid('param').connectionId,
      'not_found',
    )
    const row = await readTimeline(db, credential.id)
    if (!row) throw new Failure('not_found')
    const idle = provider.idle_limit_days
    return c.json(
      {
        connected_at: isoZulu(connection.createdAt),
        renewals: row.renewals,
        obtained_at: isoZulu(row.obtained_at),
        expires_at: row.expires_at && isoZulu(row.expires_at),
        renewed_unasked_at: row.keep_alive_at && isoZulu(row.keep_alive_at),
        idle_ends_at: idle === undefined ? null : isoZulu(new Date(row.obtained_at.getTime() + days(idle))),
        next_try_at: row.next_try_at && isoZulu(row.next_try_at),
        shared_with: row.shared_with,
      },
      200,
    )
  })

  app.openapi(guard(deleteConnection), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const { connectionId } = c.req.valid('param')
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, connectionId, 'unknown_connection')
    await removeConnection(deps, live.integration, live.connection, tx =>
      audit(tx, actorOf(c), entryOf('connection.deleted', live)),
    )
    connections.forgetCredential(live.credential.id)
    revocations.kick()
    return c.json({ success: true as const }, 200)
  })

  const standing = async ({ connection, integration, provider }: Live, credential: Credential) => ({
    connection_id: connection.connectionId,
    provider_config_key: integration.key,
    health: credential.health,
    cause: credential.cause === null ? null : causeOf(credential.cause),
    state: stateOf(
      { ...credential, since: isoZulu(credential.stateSince) },
      await explainState(deps.explain, provider, credential),
    ),
    expires_at: credential.expiresAt && isoZulu(credential.expiresAt),
  })

  app.openapi(guard(refreshConnection), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    requireConfirmed(live)
    await db.transaction(async tx => {
      await liftBlock(tx, live.credential.id)
      await audit(tx, actorOf(c), entryOf('connection.refreshed', live))
    })
    return c.json(await standing(live, await credentials.forced(live.holder, live.credential)), 200)
  })

  const pausing = async (caller: Caller, actor: Actor, key: string, connectionId: string, paused: boolean) => {
    const { environment } = environmentCaller(caller)
    const live = await connections.live(environment.id, key, connectionId, 'not_found')
    await db.transaction(async tx => {
      await setPaused(tx, [live.credential.id], paused)
      await audit(tx, actor, entryOf(paused ? 'connection.paused' : 'connection.resumed', live))
    })
    connections.forgetCredential(live.credential.id)
    const now = await connections.live(environment.id, key, connectionId, 'not_found')
    return standing(now, now.credential)
  }

  app.openapi(guard(pauseConnection), async c => {
    const { provider_config_key } = c.req.valid('query')
    return c.json(
      await pausing(c.get('caller'), actorOf(c), provider_config_key, c.req.valid('param').connectionId, true),
      200,
    )
  })

  app.openapi(guard(resumeConnection), async c => {
    const { provider_config_key } = c.req.valid('query')
    return c.json(
      await pausing(c.get('caller'), actorOf(c), provider_config_key, c.req.valid('param').connectionId, false),
      200,
    )
  })

  app.openapi(guard(listRevocations), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    return c.json({ revocations: await listReceipts(db, environment.id, c.req.valid('query')) }, 200)
  })

  app.openapi(guard(kill), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const body = c.req.valid('json')
    const named =
      'provider_config_key' in body ? await findIntegration(deps, environment.id, body.provider_config_key) : null
    if (named === undefined) throw new Failure('unknown_provider_config')
    const target: KillTarget = {
      environmentId: environment.id,
      ...(named && { integrationId: named.id }),
      ...('connection_id' in body && { connectionId: body.connection_id }),
      ...('end_user_id' in body && { endUserId: body.end_user_id }),
    }
    const reason = body.reason ?? null
    await db.transaction(tx =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'connections.killed',
        target: named?.key ?? ('end_user_id' in body ? body.end_user_id : environment.name),
        detail: { ...body },
      }),
    )
    await blockMatching(db, target)
    const killed: Receipt[] = []
    for (;;) {
      const ended = await killNext(deps, target, reason, (tx, id) => findIntegrationById({ ...deps, db: tx }, id))
      if (!ended) break
      revocations.kick()
      const created_at = isoZulu(new Date())
      for (const { connectionId, integration } of ended)
        killed.push({
          connection_id: connectionId,
          provider_config_key: integration.key,
          state: 'deleted',
          status: 'pending',
          reason,
          created_at,
          verified_at: null,
          ended_at: null,
        })
    }
    connections.forgetEnvironment(environment.id)
    if ('connection_id' in body && killed.length === 0) throw new Failure('unknown_connection')
    log.warn({ environment: environment.name, killed: killed.length, reason }, 'connections were killed')
    return c.json({ revocations: killed }, 200)
  })

  return app
}

/** The last grant but one that the provider keeps is the moment to act: with the last one gone, each sign-in ends another connection. */
export function warningsOf({ provider, grants }: Pick<Live, 'provider' | 'grants'>): ConnectionWarning[] {
  const limit = provider.grants_per_user
  if (limit === undefined || grants < limit - 1) return []
  return [{ code: 'grants_near_limit', message: warnings.grants_near_limit, payload: { live: grants, limit } }]
}

/** What the provider said with the cause of a state, where its hooks know what that means. */
async function explainState(
  explain: Explain,
  provider: Provider,
  { said, config }: { said: ProviderSaid | null; config: ConnectionConfig },
): Promise<ExplainedCause | undefined> {
  if (!said) return undefined
  const [error, description] = said
  return explain(provider, { where: 'refresh', error, description }, config)
}

type ListedExplained = ListedConnection & { explained: ExplainedCause | undefined }

interface Shown {
  credential: Credential
  explained?: ExplainedCause | undefined
  lastFetchedAt: Date | null
  reveals: boolean
  withRefreshToken: boolean
}

/** One connection, whole. */
export const fullView = (live: Live, { credential, explained, lastFetchedAt, reveals, withRefreshToken }: Shown) => ({
  ...commonView(live.connection, credential.health),
  provider_config_key: live.integration.key,
  provider: live.integration.provider,
  connection_config: withoutRefreshTokens(credential.config, withRefreshToken) as Record<string, unknown>,
  webhook_url_override: live.connection.webhookUrlOverride,
  created_at: isoOffset(live.connection.createdAt),
  updated_at: isoOffset(live.connection.updatedAt),
  last_fetched_at: lastFetchedAt && isoOffset(lastFetchedAt),
  confirm_by: live.connection.confirmBy && isoOffset(live.connection.confirmBy),
  health: credential.health,
  state: waiting(live.connection, stateOf({ ...credential, since: isoZulu(credential.stateSince) }, explained)),
  warnings: warningsOf(live),
  scopes: { requested: credential.scopesRequested, granted: credential.scopesGranted },
  credentials: reveals ? credentialView(credential, withRefreshToken) : {},
})

const listedView = (connection: ListedExplained) => ({
  ...commonView(connection, connection.health),
  provider_config_key: connection.integrationKey,
  provider: connection.provider,
  created: isoOffset(connection.createdAt),
  health: connection.health,
  state: waiting(connection, stateOf({ ...connection, since: isoZulu(connection.stateSince) }, connection.explained)),
})

/** Its grant works, and nobody may use it yet. */
const waiting = ({ confirmBy }: Connection, state: ConnectionState): ConnectionState =>
  confirmBy ? { ...state, message: errors.connection_unconfirmed[1] } : state

const commonView = (connection: Connection, health: Health) => ({
  id: connection.id,
  connection_id: connection.connectionId,
  // By this, clients of the wire contract know that somebody has to sign in again; the id is what GET /activity takes.
  errors: health === 'needs_reauth' ? [{ type: 'auth' as const, log_id: connection.connectionId }] : [],
  end_user: endUserOf(connection.endUser, connection.organization),
  tags: connection.tags,
  metadata: connection.metadata,
})

export function endUserOf(
  endUser: EndUser | null,
  organization: Organization | null,
): z.infer<typeof endUserView> | null {
  return (
    endUser && {
      id: endUser.id,
      display_name: endUser.display_name ?? null,
      email: endUser.email ?? null,
      tags: endUser.tags ?? null,
      organization: organization && { id: organization.id, display_name: organization.display_name ?? null },
    }
  )
}

/** The `type` is load-bearing: clients decide by it what a token is. */
const credentialView = (credential: Credential, withRefreshToken: boolean): Record<string, unknown> => {
  const kind = kindNamed(credential.kind)
  const shown = { type: kind.type, ...kind.shown(credential) }
  return withoutRefreshTokens(shown, withRefreshToken) as Record<string, unknown>
}

/** Drops every member whose letters spell "refreshtoken", however deep, unless the caller asked for it. */
function withoutRefreshTokens(value: unknown, keep: boolean): unknown {
  if (keep || typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(item => withoutRefreshTokens(item, keep))
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, member]): [string, unknown][] =>
      name.replace(/[_-]/g, '').toLowerCase() === 'refreshtoken' ? [] : [[name, withoutRefreshTokens(member, keep)]],
    ),
  )
}
