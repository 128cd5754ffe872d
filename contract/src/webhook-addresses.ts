/** Webhooks of providers into this server: each connection has an address of its own, and what comes there is sent on as `webhook.forwarded`. */
import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, connectionId, failing, integrationKey, json } from './fields.ts'

const named = {
  params: z.object({ connectionId }),
  query: z.strictObject({ provider_config_key: integrationKey }),
}
const path = '/connections/{connectionId}/webhook-addresses'
const writing = anyKeyWith('environment:webhook_addresses:write')

const webhookAddress = z
  .object({
    id: z.string(),
    created_at: z.string(),
    state: z.enum(['current', 'retiring']),
    retires_at: z.string().nullable().openapi({ description: 'Until then it works beside the current one.' }),
    received_at: z.string().nullable().openapi({
      description: 'When something of the connection’s account last came there, to the minute; null: nothing has.',
    }),
  })
  .openapi('WebhookAddress')

const webhookAddresses = z.object({
  addresses: z.array(webhookAddress),
  is_offered: z.boolean().openapi({ description: 'Whether this server reads webhooks of this provider.' }),
})
export type WebhookAddresses = z.infer<typeof webhookAddresses>

export const newWebhookAddress = z.object({
  url: z.string().openapi({
    description: 'Give it to the provider and to nobody else: who knows it can send. Shown by this answer alone.',
  }),
  previous_until: z.string().nullable(),
})
export type NewWebhookAddress = z.infer<typeof newWebhookAddress>

export const listWebhookAddresses = createRoute({
  method: 'get',
  path,
  summary: 'The addresses a provider sends webhooks of this connection to',
  description: 'Which they are is not shown again: POST makes another.',
  security: anyKeyWith('environment:connections:read', 'environment:webhook_addresses:write'),
  request: named,
  responses: { 200: json(webhookAddresses, 'The current one first.'), ...failing },
})

export const makeWebhookAddress = createRoute({
  method: 'post',
  path,
  summary: 'Makes a new address for webhooks of this connection; the previous one works beside it for a while',
  security: writing,
  request: {
    ...named,
    body: {
      required: false,
      content: {
        'application/json': {
          example: { overlap_hours: 24 },
          schema: z.strictObject({
            overlap_hours: z.number().int().min(0).max(168).optional().openapi({
              description: 'How long the previous address works on. 24 unless said; 0 for one that leaked.',
            }),
          }),
        },
      },
    },
  },
  responses: {
    200: json(newWebhookAddress, 'The new address.'),
    ...failing,
  },
})

export const endWebhookAddresses = createRoute({
  method: 'delete',
  path,
  summary: 'Ends every address for webhooks of this connection',
  security: writing,
  request: named,
  responses: { 200: json(z.object({ success: z.literal(true) }), 'Ended.'), ...failing },
})

/** Called by providers. Public: the address is the secret. */
export const receiveWebhook = createRoute({
  method: 'post',
  path: '/webhook/{address}',
  summary: 'Takes what a provider sends',
  description:
    'The body is the provider’s, at most 5 MB, and so is the answer. It is given when everything the body told of is stored; anything else asks the provider to send it again.',
  security: [],
  request: { params: z.object({ address: z.string() }) },
  responses: { 200: { description: 'What tells the provider that it was taken.' }, ...failing },
})
