import {
  type ConnectionFilter,
  deleteConnection,
  type EndUser,
  type endUserView,
  getConnection,
  listConnections as listRoute,
  type Organization,
} from '@fairlead/contract'
import type { z } from '@hono/zod-openapi'
import { hasScope, keyCaller } from '../account/caller.ts'
import type { Credentials } from '../credential/fresh.ts'
import type { Credential } from '../credential/store.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { isoOffset } from '../lib/time.ts'
import type { Db } from '../seams.ts'
import type { Connections } from './live.ts'
import { type Connection, listConnections, removeConnection } from './store.ts'

interface Deps {
  db: Db
  connections: Connections
  credentials: Credentials
  guard: Guard
}

export function connectionRoutes({ db, connections, credentials, guard }: Deps) {
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
    await removeConnection(db, live.connection)
    connections.forgetCredential(live.credential.id)
    return c.json({ success: true as const }, 200)
  })

  return app
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
