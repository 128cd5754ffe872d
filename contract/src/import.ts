/** Connections brought along: credentials that somebody else obtained. */
import { createRoute, z } from '@hono/zod-openapi'
import { connectionView } from './connections.ts'
import {
  anyKeyWith,
  connectionId,
  endUser,
  failing,
  integrationKey,
  json,
  jsonBody,
  organization,
  tags,
  webhookUrlOverride,
} from './fields.ts'

const short = z.string().max(1024)
const token = z.string().min(1).max(16_384)
const expiresAt = z.union([z.iso.datetime({ offset: true }), z.number()]).optional()

export const importedCredentials = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('OAUTH2'),
    access_token: token,
    refresh_token: token.optional(),
    expires_at: expiresAt,
    config_override: z.strictObject({ client_id: short.min(1), client_secret: short.min(1) }).optional(),
  }),
  z.strictObject({
    type: z.literal('OAUTH2_CC'),
    token: z.string().min(1).max(4096),
    client_id: short.min(1),
    client_secret: short,
    client_certificate: token.optional(),
    client_private_key: token.optional(),
    expires_at: expiresAt,
  }),
  z.strictObject({
    type: z.literal('OAUTH1'),
    oauth_token: z.string().min(1).max(2048),
    oauth_token_secret: z.string().min(1).max(2048),
  }),
  z.strictObject({ type: z.literal('BASIC'), username: short, password: short }),
  z.strictObject({ type: z.literal('API_KEY'), apiKey: short.min(1) }),
  z.strictObject({ type: z.literal('NONE') }),
])
export type ImportedCredentials = z.infer<typeof importedCredentials>

const importRequest = z.strictObject({
  provider_config_key: integrationKey,
  credentials: importedCredentials,
  connection_id: connectionId.optional(),
  connection_config: z.looseObject({ oauth_scopes_override: z.array(z.string()).optional() }).optional(),
  metadata: z.record(z.string(), z.unknown()).optional(),
  webhook_url_override: webhookUrlOverride.optional(),
  end_user: endUser.optional(),
  organization: organization.optional().openapi({ description: 'Ours.' }),
  tags: tags.optional(),
  paused: z.boolean().optional().openapi({
    description: 'Ours. True: it is stored paused, so that nothing here renews tokens that another server still owns.',
  }),
})
export type ImportRequest = z.infer<typeof importRequest>

export const importConnection = createRoute({
  method: 'post',
  path: '/connections',
  summary: 'Imports a connection with credentials obtained elsewhere',
  description:
    'A connection of this id that is here already gets them in the place of those it has, with every connection that shares its grant; what' +
    ' else is left out stays as it is, and a paused one stays paused. Nothing is revoked at the provider.',
  security: anyKeyWith('environment:connections:create'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(importRequest, {
      provider_config_key: 'acme',
      credentials: { type: 'API_KEY', apiKey: 'key_123' },
    }),
  },
  responses: { 201: json(connectionView, 'The connection, with its credentials.'), ...failing },
})

const flatConnection = z.looseObject({
  provider_config_key: integrationKey,
  connection_id: connectionId.optional(),
  connection_config: importRequest.shape.connection_config,
  metadata: importRequest.shape.metadata,
  access_token: z.string().optional(),
  refresh_token: z.string().optional(),
  expires_at: expiresAt,
  no_expiration: z.boolean().optional(),
  token: z.string().optional(),
  client_id: z.string().optional(),
  client_secret: z.string().optional(),
  oauth_token: z.string().optional(),
  oauth_token_secret: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  api_key: z.string().optional(),
})
export type FlatConnection = z.infer<typeof flatConnection>

export const importFlatConnection = createRoute({
  method: 'post',
  path: '/connection',
  summary: 'Imports a connection, in the older spelling: credentials beside everything else',
  security: anyKeyWith('environment:connections:create'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(flatConnection, { provider_config_key: 'acme', connection_id: 'ada', api_key: 'key_123' }),
  },
  responses: { 201: json(flatConnection, 'What was sent.'), ...failing },
})
