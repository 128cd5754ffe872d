import { createRoute, z } from '@hono/zod-openapi'
import {
  anyKeyWith,
  connectSessionToken,
  failing,
  integrationKey,
  json,
  jsonBody,
  oauthScopes,
  providerName,
} from './fields.ts'

export const oauthClient = z.strictObject({
  type: z.enum(['OAUTH1', 'OAUTH2']),
  client_id: z.string().trim().min(1).max(255),
  client_secret: z.string().trim().min(1).max(4096),
  scopes: oauthScopes.optional(),
  webhook_secret: z.string().max(255).optional(),
})

/** Fields of the provider's form of the same name. */
const integrationConfig = z.record(z.string(), z.string().max(8192))

const custom = z.record(z.string(), z.string().max(8192)).openapi({
  description: '`baseUrl`: where the API of the provider is for you, where its definition leaves that to you.',
})

const captureBodies = z.boolean().openapi({
  description:
    'Ours. Keeps up to 8 KB of both bodies of every call on this integration for a day, when they are text: redacted, sealed, and read with `GET /activity/{id}/bodies`.',
})

export const integration = z
  .object({
    unique_key: z.string(),
    provider: z.string(),
    display_name: z.string(),
    logo: z.string(),
    forward_webhooks: z.boolean(),
    capture_bodies: captureBodies,
    base_url_hosts: z.array(z.string()),
    created_at: z.string(),
    updated_at: z.string(),
    preconfigured_credentials: z.array(z.string()).optional(),
  })
  .openapi('Integration')
export type IntegrationView = z.infer<typeof integration>

export const integrationWithSecrets = integration.extend({
  webhook_url: z.string().nullable().optional(),
  credentials: z
    .object({
      type: z.enum(['OAUTH1', 'OAUTH2']),
      client_id: z.string().nullable(),
      client_secret: z.string().nullable(),
      scopes: z.string().nullable(),
    })
    .nullable()
    .optional(),
})
export type IntegrationWithSecrets = z.infer<typeof integrationWithSecrets>

const uniqueKeyParam = z.object({ uniqueKey: integrationKey })
const scope = (verb: string) => `environment:integrations:${verb}`
const displayName = z.string().min(1).max(255)

/** Where `Base-Url-Override` may lead, and the credential with it: exact hosts, the port with them unless it is the scheme's own. */
const baseUrlHosts = z
  .array(
    z
      .string()
      .max(262)
      .regex(
        /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(?::\d{1,5})?$/,
        'A host in lower case, with its port unless that is 443. No patterns.',
      ),
  )
  .max(50)

export const listIntegrations = createRoute({
  method: 'get',
  path: '/integrations',
  summary: 'Lists the integrations of the environment; a connect session sees those it allows',
  security: [...anyKeyWith(scope('list'), scope('list_credentials')), connectSessionToken],
  responses: { 200: json(z.object({ data: z.array(integration) }), 'The integrations.'), ...failing },
})

const decided = {
  display_name: displayName.optional(),
  credentials: oauthClient.optional(),
  integration_config: integrationConfig.optional(),
  custom: custom.optional(),
  forward_webhooks: z.boolean().optional(),
  capture_bodies: captureBodies.optional(),
  base_url_hosts: baseUrlHosts.optional(),
}

export const newIntegration = z.strictObject({ provider: providerName, unique_key: integrationKey, ...decided })
export type NewIntegration = z.infer<typeof newIntegration>

export const integrationChange = z.strictObject({ unique_key: integrationKey.optional(), ...decided })
export type IntegrationChange = z.infer<typeof integrationChange>

export const createIntegration = createRoute({
  method: 'post',
  path: '/integrations',
  summary: 'Registers a provider with your OAuth client',
  security: anyKeyWith(scope('create')),
  request: {
    body: jsonBody(newIntegration, {
      provider: 'some-crm',
      unique_key: 'crm',
      credentials: { type: 'OAUTH2', client_id: 'your-client-id', client_secret: 'your-client-secret', scopes: 'api' },
    }),
  },
  responses: { 200: json(z.object({ data: integration }), 'The integration.'), ...failing },
})

export const getIntegration = createRoute({
  method: 'get',
  path: '/integrations/{uniqueKey}',
  summary: 'Reads one integration',
  security: anyKeyWith(scope('read'), scope('read_credentials')),
  request: {
    params: uniqueKeyParam,
    query: z.strictObject({
      include: z.union([z.enum(['webhook', 'credentials']), z.array(z.enum(['webhook', 'credentials']))]).optional(),
    }),
  },
  responses: { 200: json(z.object({ data: integrationWithSecrets }), 'The integration.'), ...failing },
})

export const updateIntegration = createRoute({
  method: 'patch',
  path: '/integrations/{uniqueKey}',
  summary: 'Changes an integration; only the members sent are changed',
  security: anyKeyWith(scope('update')),
  request: {
    params: uniqueKeyParam,
    body: jsonBody(integrationChange, { display_name: 'CRM' }),
  },
  responses: { 200: json(z.object({ data: integration }), 'The integration.'), ...failing },
})

export const deleteIntegration = createRoute({
  method: 'delete',
  path: '/integrations/{uniqueKey}',
  summary: 'Deletes an integration and its connections',
  security: anyKeyWith(scope('delete')),
  request: { params: uniqueKeyParam },
  responses: { 200: json(z.object({ success: z.literal(true) }), 'Deleted.'), ...failing },
})

/** The older spelling of reading an integration. */
export const getConfig = createRoute({
  method: 'get',
  path: '/config/{uniqueKey}',
  summary: 'Reads one integration, as older clients ask for it',
  security: anyKeyWith(scope('read'), scope('read_credentials')),
  request: { params: uniqueKeyParam, query: z.strictObject({ include_creds: z.enum(['true', 'false']).optional() }) },
  responses: {
    200: json(
      z.object({
        config: z.object({
          unique_key: z.string(),
          provider: z.string(),
          syncs: z.array(z.unknown()),
          actions: z.array(z.unknown()),
          auth_mode: z.string().optional(),
          client_id: z.string().nullable().optional(),
          client_secret: z.string().nullable().optional(),
          scopes: z.string().nullable().optional(),
        }),
      }),
      'The integration.',
    ),
    ...failing,
  },
})
