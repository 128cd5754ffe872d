import { createRoute, z } from '@hono/zod-openapi'
import { endUserView } from './connect-sessions.ts'
import { anyKeyWith, connectionId, failing, integrationKey, json } from './fields.ts'
import { connectionState, connectionWarning, health, type StateName, stateName } from './health.ts'

/** `tags[a]=b` arrives as the flat key `tags[a]`; this folds such keys into an object before validation. */
function foldTags(query: unknown): unknown {
  if (typeof query !== 'object' || query === null) return query
  const folded: Record<string, unknown> = {}
  const tags: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(query)) {
    const tag = /^tags\[([^\]]+)\]$/.exec(key)?.[1]
    if (tag === undefined) folded[key] = value
    else tags[tag.toLowerCase()] = value
  }
  return Object.keys(tags).length > 0 ? { ...folded, tags } : folded
}

const scope = (verb: string) => `environment:connections:${verb}`

const connectionError = z.object({ type: z.enum(['auth', 'sync']), log_id: z.string() })

/** Whose account it is: the same members in a list and alone. */
const identity = {
  id: z.number(),
  connection_id: z.string(),
  provider_config_key: z.string(),
  provider: z.string(),
  errors: z.array(connectionError),
  end_user: endUserView.nullable(),
  tags: z.record(z.string(), z.string()),
  metadata: z.record(z.string(), z.unknown()).nullable(),
}

const listedConnection = z
  .object({
    ...identity,
    created: z.string(),
    health,
    state: connectionState,
  })
  .openapi('ListedConnection')
export type ListedConnection = z.infer<typeof listedConnection>

export const listConnections = createRoute({
  method: 'get',
  path: '/connections',
  summary: 'Lists connections, newest first',
  security: anyKeyWith(scope('list'), scope('list_credentials')),
  request: {
    query: z.preprocess(
      foldTags,
      z.strictObject({
        connectionId: z.string().optional(),
        search: z.string().max(255).optional(),
        endUserId: z.string().optional(),
        endUserOrganizationId: z.string().optional(),
        integrationId: z.string().optional(),
        state: stateName.optional(),
        tags: z.record(z.string(), z.string()).optional(),
        limit: z.coerce.number().int().min(1).max(2000).optional(),
        page: z.coerce.number().int().min(0).max(100_000).optional(),
      }),
    ) as unknown as z.ZodObject,
  },
  responses: { 200: json(z.object({ connections: z.array(listedConnection) }), 'The connections.'), ...failing },
})

export interface ConnectionFilter {
  connectionId?: string
  search?: string
  endUserId?: string
  endUserOrganizationId?: string
  integrationId?: string
  state?: StateName
  tags?: Record<string, string>
  limit?: number
  page?: number
}

const flag = z
  .enum(['true', 'false'])
  .optional()
  .transform(value => value === 'true')

const connectionView = z
  .object({
    ...identity,
    connection_config: z.record(z.string(), z.unknown()),
    webhook_url_override: z.string().nullable(),
    created_at: z.string(),
    updated_at: z.string(),
    last_fetched_at: z.string().nullable(),
    health,
    state: connectionState,
    warnings: z.array(connectionWarning),
    scopes: z.object({ requested: z.array(z.string()), granted: z.array(z.string()) }),
    credentials: z.record(z.string(), z.unknown()),
  })
  .openapi('Connection')
export type ConnectionView = z.infer<typeof connectionView>

export const getConnection = createRoute({
  method: 'get',
  path: '/connections/{connectionId}',
  summary: 'Reads one connection with fresh credentials',
  security: anyKeyWith(scope('read'), scope('read_credentials')),
  request: {
    params: z.object({ connectionId }),
    query: z.strictObject({
      provider_config_key: integrationKey,
      refresh_token: flag,
      force_refresh: flag,
      refresh_github_app_jwt_token: flag,
    }),
  },
  responses: {
    200: json(connectionView, 'The connection. `credentials` is empty without the scope to read them.'),
    ...failing,
  },
})

export const deleteConnection = createRoute({
  method: 'delete',
  path: '/connections/{connectionId}',
  summary: 'Deletes a connection; the last one on a grant has its tokens revoked at the provider',
  security: anyKeyWith(scope('delete')),
  request: { params: z.object({ connectionId }), query: z.strictObject({ provider_config_key: integrationKey }) },
  responses: { 200: json(z.object({ success: z.literal(true) }), 'Deleted.'), ...failing },
})

const named = {
  params: z.object({ connectionId }),
  query: z.strictObject({ provider_config_key: integrationKey }),
}

const connectionStanding = z
  .object({
    connection_id: z.string(),
    provider_config_key: z.string(),
    health,
    cause: connectionState.shape.cause,
    state: connectionState,
    expires_at: z.string().nullable(),
  })
  .openapi('ConnectionStanding')
export type Standing = z.infer<typeof connectionStanding>

const standing = json(connectionStanding, 'How the connection stands now.')

export const refreshConnection = createRoute({
  method: 'post',
  path: '/connections/{connectionId}/refresh',
  summary: 'Renews the tokens now, whether that is due or not',
  security: anyKeyWith(scope('update')),
  request: named,
  responses: { 200: standing, ...failing },
})

export const pauseConnection = createRoute({
  method: 'post',
  path: '/connections/{connectionId}/pause',
  summary: 'Stops a connection from being used and renewed, with every connection that shares its grant',
  security: anyKeyWith(scope('update')),
  request: named,
  responses: { 200: standing, ...failing },
})

export const resumeConnection = createRoute({
  method: 'post',
  path: '/connections/{connectionId}/resume',
  summary: 'Lets a paused connection be used again',
  security: anyKeyWith(scope('update')),
  request: named,
  responses: { 200: standing, ...failing },
})
