import {
  type ConnectionFilter,
  type ConnectionWarning,
  causeOf,
  deleteConnection,
  type EndUser,
  type endUserView,
  getConnection,
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
import { type Caller, hasScope, keyCaller } from '../account/caller.ts'
import type { Credentials } from '../credential/fresh.ts'
import { listReceipts, type RetireDeps } from '../credential/revocation/store.ts'
import type { Revocations } from '../credential/revocation.ts'
import { type Credential, liftBlock, setPaused } from '../credential/store.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { findIntegration, findIntegrationById } from '../integration/store.ts'
import type { Log } from '../lib/log.ts'
import { isoOffset, isoZulu } from '../lib/time.ts'
import type { Db } from '../seams.ts'
import type { Connections, Live } from './live.ts'
import {
  blockMatching,
  type Connection,
  type KillTarget,
  killNext,
  listConnections,
  removeConnection,
} from './store.ts'

interface Deps extends RetireDeps {
  db: Db
  connections: Connections
  credentials: Credentials
  revocations: Pick<Revocations, 'kick'>
  guard: Guard
  log: Log
}

export function connectionRoutes(deps: Deps) {
  const { db, connections, credentials, revocations, guard, log } = deps
  const app = api()

  app.openapi(guard(listRoute), async c => {
    const { environment } = keyCaller(c.get('caller'))
    const listed = await listConnections(db, environment.id, c.req.valid('query') as ConnectionFilter)
    return c.json(
      {
        connections: listed.map(connection => ({
          ...commonView(connection),
          provider_config_key: connection.integrationKey,
          provider: connection.provider,
          created: isoOffset(connection.createdAt),
          health: connection.health,
          state: stateOf({ ...connection, since: isoZulu(connection.stateSince) }),
        })),
      },
      200,
    )
  })

  app.openapi(guard(getConnection), async c => {
    const caller = keyCaller(c.get('caller'))
    const { connectionId } = c.req.valid('param')
    const query = c.req.valid('query')
    const reveals = hasScope(caller, 'environment:connections:read_credentials')
    if (!reveals && (query.refresh_token || query.force_refresh || query.refresh_github_app_jwt_token))
      throw new Failure('forbidden', { message: 'This needs the scope environment:connections:read_credentials.' })

    const live = await connections.live(caller.environment.id, query.provider_config_key, connectionId, 'not_found')
    let { credential } = live
    if (reveals) {
      const renew = query.force_refresh ? credentials.forced : credentials.fresh
      credential = await renew(live.holder, credential)
    }
    const lastFetchedAt = reveals ? connections.fetched(live) : live.connection.lastFetchedAt
    return c.json(
      {
        ...commonView(live.connection),
        provider_config_key: live.integration.key,
        provider: live.integration.provider,
        connection_config: withoutRefreshTokens(credential.config, query.refresh_token) as Record<string, unknown>,
        webhook_url_override: live.connection.webhookUrlOverride,
        created_at: isoOffset(live.connection.createdAt),
        updated_at: isoOffset(live.connection.updatedAt),
        last_fetched_at: lastFetchedAt && isoOffset(lastFetchedAt),
        health: credential.health,
        state: stateOf({ ...credential, since: isoZulu(credential.stateSince) }),
        warnings: warningsOf(live),
        scopes: { requested: credential.scopesRequested, granted: credential.scopesGranted },
        credentials: reveals ? credentialView(credential, query.refresh_token) : {},
      },
      200,
    )
  })

  app.openapi(guard(deleteConnection), async c => {
    const { environment } = keyCaller(c.get('caller'))
    const { connectionId } = c.req.valid('param')
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, connectionId, 'unknown_connection')
    await removeConnection(deps, live.integration, live.connection)
    connections.forgetCredential(live.credential.id)
    revocations.kick()
    return c.json({ success: true as const }, 200)
  })

  const standing = ({ connection, integration }: Live, credential: Credential) => ({
    connection_id: connection.connectionId,
    provider_config_key: integration.key,
    health: credential.health,
    cause: credential.cause === null ? null : causeOf(credential.cause),
    state: stateOf({ ...credential, since: isoZulu(credential.stateSince) }),
    expires_at: credential.expiresAt && isoZulu(credential.expiresAt),
  })

  app.openapi(guard(refreshConnection), async c => {
    const { environment } = keyCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    await liftBlock(db, live.credential.id)
    return c.json(standing(live, await credentials.forced(live.holder, live.credential)), 200)
  })

  const pausing = async (caller: Caller, key: string, connectionId: string, paused: boolean) => {
    const { environment } = keyCaller(caller)
    const live = await connections.live(environment.id, key, connectionId, 'not_found')
    await setPaused(db, [live.credential.id], paused)
    connections.forgetCredential(live.credential.id)
    const now = await connections.live(environment.id, key, connectionId, 'not_found')
    return standing(now, now.credential)
  }

  app.openapi(guard(pauseConnection), async c => {
    const { provider_config_key } = c.req.valid('query')
    return c.json(await pausing(c.get('caller'), provider_config_key, c.req.valid('param').connectionId, true), 200)
  })

  app.openapi(guard(resumeConnection), async c => {
    const { provider_config_key } = c.req.valid('query')
    return c.json(await pausing(c.get('caller'), provider_config_key, c.req.valid('param').connectionId, false), 200)
  })

  app.openapi(guard(listRevocations), async c => {
    const { environment } = keyCaller(c.get('caller'))
    return c.json({ revocations: await listReceipts(db, environment.id, c.req.valid('query')) }, 200)
  })

  app.openapi(guard(kill), async c => {
    const { environment } = keyCaller(c.get('caller'))
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

const commonView = (connection: Connection) => ({
  id: connection.id,
  connection_id: connection.connectionId,
  errors: [] as { type: 'auth' | 'sync'; log_id: string }[],
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
const credentialView = (credential: Credential, withRefreshToken: boolean): Record<string, unknown> =>
  withoutRefreshTokens(
    {
      type: 'OAUTH2',
      access_token: credential.accessToken.reveal(),
      ...(credential.refreshToken && { refresh_token: credential.refreshToken.reveal() }),
      ...(credential.expiresAt && { expires_at: credential.expiresAt.toISOString() }),
      raw: credential.raw,
    },
    withRefreshToken,
  ) as Record<string, unknown>

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
