/** Environments and their API keys. */
import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, failing, json, jsonBody } from './fields.ts'
import { requestsPerMinute } from './settings.ts'

/** Every scope a key may hold; `a:b:*` stands for all that begin with `a:b:`. */
export const scopes = [
  'environment:integrations:list',
  'environment:integrations:list_credentials',
  'environment:integrations:list_functions',
  'environment:integrations:read',
  'environment:integrations:read_credentials',
  'environment:integrations:create',
  'environment:integrations:update',
  'environment:integrations:delete',
  'environment:connections:list',
  'environment:connections:list_credentials',
  'environment:connections:read',
  'environment:connections:read_credentials',
  'environment:connections:create',
  'environment:connections:update',
  'environment:connections:delete',
  'environment:connect_sessions:write',
  'environment:proxy',
  'environment:settings:read',
  'environment:settings:update',
  'environment:webhook_signing_key:rotate',
  'environment:webhooks:read',
  'environment:webhooks:write',
  'environment:webhook_addresses:write',
  'environment:activity:read',
  'environment:audit:read',
  'environment:encryption:read',
  'environment:encryption:rotate',
  'environment:api_keys:read',
  'environment:api_keys:write',
  'account:environments:list',
  'account:environments:create',
  'account:environments:delete',
  'account:environments:api_keys:create',
  'account:environments:api_keys:delete',
] as const

const scope = z
  .string()
  .refine(
    text => scopes.some(known => known === text || (text.endsWith(':*') && known.startsWith(text.slice(0, -1)))),
    {
      message:
        'No such scope. The page about API keys lists them; "environment:connections:*" stands for all that begin so.',
    },
  )

const displayName = z.string().trim().min(1).max(255)
const environmentName = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[a-z0-9_-]+$/, 'Lower-case letters, digits, _ and - only.')

const environment = z.object({ id: z.number(), name: z.string() })

export const listEnvironments = createRoute({
  method: 'get',
  path: '/environments',
  summary: 'Lists the environments of this server',
  security: anyKeyWith('account:environments:list'),
  request: { query: z.strictObject({}) },
  responses: { 200: json(z.object({ data: z.array(environment) }), 'The environments, oldest first.'), ...failing },
})

export const createEnvironment = createRoute({
  method: 'post',
  path: '/environments',
  summary: 'Makes an environment; it has no API key yet',
  security: anyKeyWith('account:environments:create'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(z.strictObject({ name: environmentName }), { name: 'staging' }),
  },
  responses: { 200: json(z.object({ data: environment }), 'The environment.'), ...failing },
})

export const deleteEnvironment = createRoute({
  method: 'delete',
  path: '/environments/{id}',
  summary: 'Deletes an environment that has no connections any more',
  description:
    'With its integrations, keys and records. Connections first, so that their tokens are ended at their providers.',
  security: anyKeyWith('account:environments:delete'),
  request: { params: z.object({ id: z.coerce.number().int().min(1).max(2_147_483_647) }), query: z.strictObject({}) },
  responses: { 204: { description: 'Deleted.' }, ...failing },
})

export const apiKey = z
  .object({
    id: z.number(),
    display_name: z.string(),
    scopes: z.array(z.string()),
    created_at: z.string(),
    expires_at: z.string().nullable(),
    last_used_at: z.string().nullable().openapi({ description: 'To the minute.' }),
    requests_per_minute: requestsPerMinute.nullable(),
  })
  .openapi('ApiKey')
export type ApiKeyView = z.infer<typeof apiKey>

export const listApiKeys = createRoute({
  method: 'get',
  path: '/environment/api-keys',
  summary: 'Lists the API keys of the environment; of each what it may and when it was used, never the key',
  security: anyKeyWith('environment:api_keys:read'),
  request: { query: z.strictObject({}) },
  responses: { 200: json(z.object({ data: z.array(apiKey) }), 'The keys, oldest first.'), ...failing },
})

export const createApiKey = createRoute({
  method: 'post',
  path: '/environment/api-keys',
  summary: 'Makes an API key, which this answer alone shows',
  description:
    'Of the environment of the caller, or of `environment_id` with `account:environments:api_keys:create`. A key gives no scope that its maker lacks.',
  security: anyKeyWith('environment:api_keys:write', 'account:environments:api_keys:create'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(
      z.strictObject({
        environment_id: z.number().int().min(1).max(2_147_483_647).optional(),
        display_name: displayName,
        scopes: z.array(scope).min(1).max(50).optional().openapi({ description: 'Ours. `environment:*` unless said.' }),
        expires_at: z.iso.datetime({ offset: true }).optional().openapi({ description: 'Ours. Never, unless said.' }),
        requests_per_minute: requestsPerMinute.optional(),
      }),
      { display_name: 'nightly export', scopes: ['environment:connections:list', 'environment:proxy'] },
    ),
  },
  responses: { 200: json(z.object({ data: apiKey.extend({ secret: z.string() }) }), 'The key.'), ...failing },
})

export const changeApiKey = createRoute({
  method: 'patch',
  path: '/environment/api-keys',
  summary: 'Changes how many requests a key may send, on every server within a second',
  security: anyKeyWith('environment:api_keys:write'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(
      z.strictObject({ key_id: z.number().int().min(1), requests_per_minute: requestsPerMinute.nullable() }),
      { key_id: 7, requests_per_minute: 600 },
    ),
  },
  responses: { 200: json(z.object({ data: apiKey }), 'The key as it is now.'), ...failing },
})

export const deleteApiKey = createRoute({
  method: 'delete',
  path: '/environment/api-keys',
  summary: 'Ends an API key, on every server within a second',
  security: anyKeyWith('environment:api_keys:write', 'account:environments:api_keys:delete'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(
      z.strictObject({
        environment_id: z.number().int().min(1).max(2_147_483_647).optional(),
        key_id: z.number().int().min(1),
      }),
      { key_id: 7 },
    ),
  },
  responses: { 200: json(z.object({ success: z.literal(true) }), 'Ended.'), ...failing },
})
