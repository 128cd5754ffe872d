import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, connectionId, failing, integrationKey, json, jsonBody } from './fields.ts'

export const receipt = z
  .object({
    connection_id: z.string(),
    provider_config_key: z.string(),
    state: z.enum(['deleted', 'reconnected', 'refused']).openapi({
      description:
        'deleted: the connection is gone. reconnected: its owner signed in again, and these were the tokens before. ' +
        'refused: a sign-in came back as another account, and these are the tokens it brought.',
    }),
    status: z.enum(['pending', 'revoked', 'unverified', 'already_dead', 'not_offered', 'given_up']).openapi({
      description:
        'pending: on its way. revoked: the provider took it. already_dead: the provider did not know the tokens any more. ' +
        'unverified: taken, but whether every token is dead could not be found out, for instance because a renewal was under way. ' +
        'not_offered: the provider has no way to revoke. given_up: not reached for three days.',
    }),
    reason: z.string().nullable(),
    created_at: z.string(),
    verified_at: z
      .string()
      .nullable()
      .openapi({ description: 'When the provider confirmed by introspection that the tokens are dead.' }),
    ended_at: z.string().nullable(),
  })
  .openapi('RevocationReceipt')
export type Receipt = z.infer<typeof receipt>

const receipts = z.object({ revocations: z.array(receipt) })

export const listRevocations = createRoute({
  method: 'get',
  path: '/revocations',
  summary: 'Lists what became of tokens that were ended at their provider, newest first, at most 1000',
  security: anyKeyWith('environment:connections:read', 'environment:connections:read_credentials'),
  request: {
    query: z.strictObject({ connection_id: connectionId.optional(), provider_config_key: integrationKey.optional() }),
  },
  responses: { 200: json(receipts, 'One receipt per connection.'), ...failing },
})

const reason = z.string().max(500).optional()

export const kill = createRoute({
  method: 'post',
  path: '/kill',
  summary: 'Deletes and revokes every connection of one connection id, end user, integration or the whole environment',
  description:
    'Connections that share a grant with a matching one go with it: they hold the same tokens. Every server refuses calls within 5 seconds.',
  security: anyKeyWith('environment:connections:delete'),
  request: {
    body: jsonBody(
      z.union([
        z.strictObject({ connection_id: connectionId, provider_config_key: integrationKey, reason }),
        z.strictObject({ end_user_id: z.string().min(1).max(255), reason }),
        z.strictObject({ provider_config_key: integrationKey, reason }),
        z.strictObject({ environment: z.literal(true), reason }),
      ]),
      { end_user_id: 'ada', reason: 'stolen laptop' },
    ),
  },
  responses: { 200: json(receipts, 'One receipt per connection that was killed.'), ...failing },
})
