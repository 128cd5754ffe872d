import { createRoute, z } from '@hono/zod-openapi'
import { endUserView } from './connect-sessions.ts'
import {
  anyKeyWith,
  connectionId,
  endUser,
  failing,
  integrationKey,
  json,
  jsonBody,
  tags,
  webhookUrlOverride,
} from './fields.ts'
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

export const listedConnection = z
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
      z
        .strictObject({
          connectionId: z.string().optional(),
          search: z.string().max(255).optional(),
          endUserId: z.string().optional(),
          endUserOrganizationId: z.string().optional(),
          integrationId: z.string().optional(),
          state: stateName.optional(),
          tags: z.record(z.string(), z.string()).optional(),
          limit: z.coerce.number().int().min(1).max(2000).optional(),
          page: z.coerce
            .number()
            .int()
            .min(0)
            .max(100_000)
            .optional()
            .openapi({ description: 'Counted from 0. What it skips is read; `cursor` costs the same anywhere.' }),
          cursor: z
            .string()
            .regex(/^\d{1,15}$/, 'Send `next_cursor` of the page before as it came.')
            .optional()
            .openapi({ description: '`next_cursor` of the page before, instead of `page`.' }),
        })
        .refine(({ page, cursor }) => page === undefined || cursor === undefined, {
          path: ['cursor'],
          message: 'Send either `page` or `cursor`.',
        }),
    ) as unknown as z.ZodObject,
  },
  responses: {
    200: json(
      z.object({
        connections: z.array(listedConnection),
        next_cursor: z.string().nullable().openapi({ description: 'Ours. Null on the last page.' }),
      }),
      'A page, 10,000 connections unless said.',
    ),
    ...failing,
  },
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
  cursor?: string
}

const timeline = z
  .object({
    connected_at: z.string(),
    renewals: z.number().openapi({ description: 'How often its tokens were renewed since its owner signed in.' }),
    obtained_at: z.string().openapi({ description: 'When the tokens it has now were issued.' }),
    expires_at: z.string().nullable().openapi({ description: 'When the access token ends; null: nobody said.' }),
    renewed_unasked_at: z.string().nullable().openapi({
      description: 'When it is renewed although nobody calls, so that an idle limit of the provider does not end it.',
    }),
    idle_ends_at: z.string().nullable().openapi({ description: 'When the provider would end it if nothing happened.' }),
    next_try_at: z.string().nullable().openapi({ description: 'After a failure: when it is tried again.' }),
    shared_with: z.number().openapi({ description: 'Other connections that stand on the same grant.' }),
  })
  .openapi('TokenTimeline')
export type TokenTimeline = z.infer<typeof timeline>

export const getTimeline = createRoute({
  method: 'get',
  path: '/connections/{connectionId}/timeline',
  summary: 'When the tokens of a connection were issued, when they end, and what happens before that',
  security: anyKeyWith(scope('read'), scope('read_credentials')),
  request: { params: z.object({ connectionId }), query: z.strictObject({ provider_config_key: integrationKey }) },
  responses: { 200: json(timeline, 'Instants only; never a token.'), ...failing },
})

const overview = z
  .object({
    states: z.record(stateName, z.number()).openapi({ description: 'Connections by state.' }),
    attention: z
      .array(listedConnection)
      .openapi({ description: 'Those that are not simply active, the latest first.' }),
    renewed_today: z
      .number()
      .openapi({ description: 'How often tokens were renewed in the last 24 hours, to the hour.' }),
    renewals: z
      .array(
        z.object({
          at: z.string().openapi({ description: 'The beginning of the hour.' }),
          renewed: z.number(),
          refused: z.number().openapi({ description: 'By the provider, for good: somebody has to sign in again.' }),
          unavailable: z.number().openapi({ description: 'No answer, or none that decides; tried again.' }),
        }),
      )
      .openapi({ description: 'What came of attempts at renewing tokens, hour by hour for a day.' }),
    failing: z.number().openapi({ description: 'Grants whose last renewal failed.' }),
    soonest: z
      .object({ connection_id: z.string(), provider_config_key: z.string(), expires_at: z.string() })
      .nullable()
      .openapi({ description: 'Of those whose renewal is failing, the access token that ends first.' }),
  })
  .openapi('Overview')
export type Overview = z.infer<typeof overview>

export const getOverview = createRoute({
  method: 'get',
  path: '/overview',
  summary: 'How the connections of the environment are',
  security: anyKeyWith(scope('list'), scope('list_credentials')),
  request: { query: z.strictObject({}) },
  responses: { 200: json(overview, 'Counts, and what needs somebody.'), ...failing },
})

const flag = z
  .enum(['true', 'false'])
  .optional()
  .transform(value => value === 'true')

export const connectionView = z
  .object({
    ...identity,
    connection_config: z.record(z.string(), z.unknown()),
    webhook_url_override: z.string().nullable(),
    created_at: z.string(),
    updated_at: z.string(),
    last_fetched_at: z.string().nullable(),
    confirm_by: z
      .string()
      .nullable()
      .openapi({ description: 'Ours. Until then it waits to be confirmed, and cannot be used; null: it need not be.' }),
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
      credentials: z.enum(['true', 'false']).optional().openapi({
        description:
          'Ours. `false`: without credentials, so that nothing is renewed for it; also of one that is paused.',
      }),
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

export const connectionStanding = z
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

const success = json(z.object({ success: z.literal(true) }), 'Changed.')

export const patchConnection = createRoute({
  method: 'patch',
  path: '/connections/{connectionId}',
  summary: 'Changes whose a connection is, its tags, or where its webhooks go; what is left out stays',
  description: '`tags` replaces all of them. An empty `webhook_url_override` takes it away.',
  security: anyKeyWith(scope('update')),
  request: {
    ...named,
    body: jsonBody(
      z.strictObject({
        end_user: endUser.optional(),
        tags: tags.optional(),
        webhook_url_override: webhookUrlOverride.optional(),
      }),
      { tags: { plan: 'gold' } },
    ),
  },
  responses: { 200: success, ...failing },
})

const metadata = z.record(z.string(), z.unknown())
const metadataChange = z.strictObject({
  connection_id: z.union([connectionId, z.array(connectionId).min(1).max(1000)]),
  provider_config_key: integrationKey,
  metadata,
})
const metadataExample = {
  connection_id: 'b4a2d4a0-6a5c-4c8e-9d63-0f8f3c1b9a11',
  provider_config_key: 'crm',
  metadata: { plan: 'gold' },
}
const metadataEcho = json(metadataChange, 'What was sent.')

export const setMetadata = createRoute({
  method: 'post',
  path: '/connections/metadata',
  summary: 'Replaces the metadata of one connection or of several: of all of them, or of none',
  security: anyKeyWith(scope('update')),
  request: { query: z.strictObject({}), body: jsonBody(metadataChange, metadataExample) },
  responses: { 201: metadataEcho, ...failing },
})

export const updateMetadata = createRoute({
  method: 'patch',
  path: '/connections/metadata',
  summary: 'Lays members over the metadata of one connection or of several: of all of them, or of none',
  security: anyKeyWith(scope('update')),
  request: { query: z.strictObject({}), body: jsonBody(metadataChange, metadataExample) },
  responses: { 200: metadataEcho, ...failing },
})

/** The older spelling: the connection in the path, the integration in a header, the metadata as the whole body. */
const olderMetadata = {
  path: '/connections/{connectionId}/metadata' as const,
  security: anyKeyWith(scope('update')),
  request: {
    params: z.object({ connectionId }),
    headers: z.object({ 'provider-config-key': integrationKey }),
    body: jsonBody(metadata, metadataExample.metadata),
  },
}

export const setMetadataOf = createRoute({
  ...olderMetadata,
  method: 'post',
  summary: 'Replaces the metadata of a connection',
  responses: { 201: json(metadata, 'What was sent.'), ...failing },
})

export const updateMetadataOf = createRoute({
  ...olderMetadata,
  method: 'patch',
  summary: 'Lays members over the metadata of a connection',
  responses: { 200: json(metadata, 'What was sent.'), ...failing },
})

export const confirmConnection = createRoute({
  method: 'post',
  path: '/connections/{connectionId}/confirm',
  summary: 'Says that the user who began a sign-in is the one who finished it, so that the connection can be used',
  description:
    'For environments with `confirm_connections`. Call it with the id of the user who is signed in to your product when the sign-in has ended;' +
    ' another `end_user_id` than the session was opened for is refused. Confirming twice is harmless.',
  security: anyKeyWith(scope('update')),
  request: {
    ...named,
    body: {
      required: false,
      content: {
        'application/json': {
          schema: z.strictObject({ end_user_id: z.string().max(255).optional() }),
          example: { end_user_id: 'ada' },
        },
      },
    },
  },
  responses: { 200: success, ...failing },
})
