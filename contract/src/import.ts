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

export const importConnection = createRoute({
  method: 'post',
  path: '/connections',
  summary: 'Imports a connection with credentials obtained elsewhere',
  security: anyKeyWith('environment:connections:create'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(
      z.strictObject({
        provider_config_key: integrationKey,
        credentials: importedCredentials,
        connection_id: connectionId.optional(),
        connection_config: z.looseObject({ oauth_scopes_override: z.array(z.string()).optional() }).optional(),
        metadata: z.record(z.string(), z.unknown()).optional(),
        webhook_url_override: webhookUrlOverride.optional(),
        end_user: endUser.optional(),
        tags: tags.optional(),
      }),
      { provider_config_key: 'acme', credentials: { type: 'API_KEY', apiKey: 'key_123' } },
    ),
  },
  responses: { 201: json(connectionView, 'The connection, with its credentials.'), ...failing },
})
