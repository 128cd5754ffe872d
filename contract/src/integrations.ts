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

export const oauth2Client = z.strictObject({
  type: z.literal('OAUTH2'),
  client_id: z.string().trim().min(1).max(255),
  client_secret: z.string().trim().min(1).max(4096),
  scopes: oauthScopes.optional(),
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
  })
  .openapi('Integration')
export type IntegrationView = z.infer<typeof integration>

const integrationWithSecrets = integration.extend({
  webhook_url: z.string().nullable().optional(),
  credentials: z
    .object({
      type: z.literal('OAUTH2'),
      client_id: z.string().nullable(),
      client_secret: z.string().nullable(),
      scopes: z.string().nullable(),
    })
    .nullable()
    .optional(),
})

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

export const createIntegration = createRoute({
  method: 'post',
  path: '/integrations',
  summary: 'Registers a provider with your OAuth client',
  security: anyKeyWith(scope('create')),
  request: {
    body: jsonBody(
      z.strictObject({
        provider: providerName,
        unique_key: integrationKey,
        display_name: displayName.optional(),
        credentials: oauth2Client.optional(),
        forward_webhooks: z.boolean().optional(),
        capture_bodies: captureBodies.optional(),
        base_url_hosts: baseUrlHosts.optional(),
      }),
    ),
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
    body: jsonBody(
      z.strictObject({
        unique_key: integrationKey.optional(),
        display_name: displayName.optional(),
        credentials: oauth2Client.optional(),
        forward_webhooks: z.boolean().optional(),
        capture_bodies: captureBodies.optional(),
        base_url_hosts: baseUrlHosts.optional(),
      }),
    ),
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
