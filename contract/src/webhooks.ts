/** What Fairlead tells a developer's server by itself, and what became of telling it. */
import { createRoute, z } from '@hono/zod-openapi'
import { explainedCause } from './explained.ts'
import { anyKeyWith, connectionId, failing, json, jsonBody } from './fields.ts'
import { connectionState } from './health.ts'
import type { WebhookSwitch } from './settings.ts'

interface EventRow {
  /** The family it is switched with; null: always told. */
  family: WebhookSwitch | null
  /** `type` of its body. Those of the wire contract are `auth` and `forward`; what is ours alone is called by its own name. */
  type: 'auth' | 'forward' | 'own'
  means: string
}

const row = (family: WebhookSwitch | null, type: EventRow['type'], means: string): EventRow => ({ family, type, means })

export const webhookEvents = {
  'connection.created': row('on_auth_creation', 'auth', 'Somebody connected an account.'),
  'connection.reauthorised': row(null, 'auth', 'The owner of a connection signed in again; it works with new tokens.'),
  'connection.needs_reauth': row(
    'on_auth_refresh_error',
    'auth',
    'The provider no longer accepts the connection, or nothing is left to renew it with. Its owner has to sign in again.',
  ),
  'connection.degraded': row(
    'on_connection_health',
    'own',
    'Renewing is in trouble; the access token serves as long as it lives. Sent again when the cause changes.',
  ),
  'connection.blocked_by_policy': row(
    'on_connection_health',
    'own',
    'A policy at the provider keeps the connection from being renewed.',
  ),
  'connection.recovered': row('on_connection_health', 'own', 'It works again, without anybody having signed in.'),
  'connection.paused': row('on_connection_lifecycle', 'own', 'Somebody paused it.'),
  'connection.resumed': row('on_connection_lifecycle', 'own', 'Somebody resumed it.'),
  'connection.deleted': row('on_connection_lifecycle', 'own', 'It was deleted or killed, or its integration was.'),
  'webhook.forwarded': row(
    null,
    'forward',
    'A provider sent something to an address of the connection; `forward_webhooks` of its integration switches it off.',
  ),
  'webhook.test': row(null, 'own', 'Sent by POST /webhooks/test.'),
} as const satisfies Record<string, EventRow>
export type WebhookEventName = keyof typeof webhookEvents

const eventName = z.enum(Object.keys(webhookEvents) as [WebhookEventName, ...WebhookEventName[]])

/** The wire contract's body; its members stand in this order. */
export const authWebhook = z.strictObject({
  from: z.literal('nango'),
  type: z.literal('auth'),
  connectionId: z.string(),
  providerConfigKey: z.string(),
  authMode: z.string(),
  provider: z.string(),
  environment: z.string(),
  operation: z.enum(['creation', 'override', 'refresh']),
  success: z.boolean(),
  tags: z.record(z.string(), z.string()).optional(),
  endUser: z
    .strictObject({
      endUserId: z.string(),
      endUserEmail: z.string().optional(),
      organizationId: z.string().optional(),
      tags: z.record(z.string(), z.string()),
    })
    .optional(),
  error: z
    .strictObject({
      type: z.string(),
      description: z.string(),
      cause: explainedCause
        .optional()
        .openapi({ description: 'Ours. What the provider’s own words mean, where that is known.' }),
    })
    .optional(),
})
export type AuthWebhook = z.infer<typeof authWebhook>

/** What a provider sent, in the wire contract's wrapping. */
export const forwardWebhook = z.strictObject({
  from: z.string().openapi({ description: 'The provider.' }),
  type: z.literal('forward'),
  providerConfigKey: z.string(),
  connectionId: z.string(),
  payload: z.looseObject({}).nullable(),
})
export type ForwardWebhook = z.infer<typeof forwardWebhook>

/** What is ours alone. */
export const ownWebhook = z.strictObject({
  from: z.literal('fairlead'),
  type: eventName,
  id: z.string(),
  sequence: z.number().openapi({ description: 'Of two events of one connection the later has the higher number.' }),
  timestamp: z.string(),
  environment: z.string(),
  data: z.strictObject({
    connection_id: z.string().optional(),
    provider_config_key: z.string().optional(),
    provider: z.string().optional(),
    state: connectionState.optional(),
    end_user_id: z.string().optional(),
    tags: z.record(z.string(), z.string()).optional(),
  }),
})
export type OwnWebhook = z.infer<typeof ownWebhook>

export const deliveryState = z.enum(['pending', 'delivered', 'failed'])
export type DeliveryState = z.infer<typeof deliveryState>

const attempt = z.object({
  number: z.number(),
  at: z.string(),
  url: z.string().nullable().openapi({ description: 'Where it was sent, without what looks like a secret.' }),
  status: z.number().nullable().openapi({ description: 'Null when there was no answer; `error` says why.' }),
  ms: z.number(),
  error: z.string().nullable(),
  answer: z.string().nullable().openapi({
    description: 'The beginning of an answer that was not 2xx, at most 1 KB, without what looks like a secret.',
  }),
})

export const delivery = z
  .object({
    id: z.string(),
    event: z.object({
      id: z.string().openapi({ description: 'The `webhook-id` of every attempt, and of every replay.' }),
      name: eventName,
      sequence: z.number(),
      connection_id: z.string().nullable(),
      provider_config_key: z.string().nullable(),
      created_at: z.string(),
    }),
    receiver: z
      .string()
      .openapi({ description: '`primary` or `secondary` of the environment, or the URL of the connection alone.' }),
    state: deliveryState,
    attempts: z.number(),
    next_attempt_at: z.string().nullable(),
    ended_at: z.string().nullable(),
  })
  .openapi('WebhookDelivery')
export type Delivery = z.infer<typeof delivery>

const deliveryDetail = delivery
  .extend({
    body: z.string().openapi({
      description:
        'What is sent, byte for byte. For callers without `environment:connections:read_credentials` the payload of a provider’s webhook is null: it is customers’ data.',
    }),
    history: z.array(attempt),
  })
  .openapi('WebhookDeliveryDetail')

const reading = anyKeyWith('environment:webhooks:read')
const writing = anyKeyWith('environment:webhooks:write')
const deliveryId = z.object({ id: z.uuid() })

export const listDeliveries = createRoute({
  method: 'get',
  path: '/webhooks/deliveries',
  summary: 'Lists deliveries, newest event first',
  security: reading,
  request: {
    query: z.strictObject({
      state: deliveryState.optional(),
      event: eventName.optional(),
      connection_id: connectionId.optional(),
      limit: z.coerce.number().int().min(1).max(200).optional(),
      cursor: z.string().max(100).optional().openapi({ description: '`next_cursor` of the page before.' }),
    }),
  },
  responses: {
    200: json(
      z.object({ deliveries: z.array(delivery), next_cursor: z.string().nullable() }),
      'A page, 50 unless said.',
    ),
    ...failing,
  },
})

export const getDelivery = createRoute({
  method: 'get',
  path: '/webhooks/deliveries/{id}',
  summary: 'One delivery with its body and every attempt',
  security: reading,
  request: { params: deliveryId, query: z.strictObject({}) },
  responses: { 200: json(deliveryDetail, 'The delivery.'), ...failing },
})

export const replayDelivery = createRoute({
  method: 'post',
  path: '/webhooks/deliveries/{id}/replay',
  summary: 'Sends a delivery again, with the same id, for three days',
  security: writing,
  request: { params: deliveryId, query: z.strictObject({}) },
  responses: { 202: json(delivery, 'On its way.'), ...failing },
})

export const replayDeliveries = createRoute({
  method: 'post',
  path: '/webhooks/replay',
  summary: 'Sends every failed delivery of events since an instant again',
  security: writing,
  request: {
    query: z.strictObject({}),
    body: jsonBody(z.strictObject({ since: z.iso.datetime({ offset: true }) }), { since: '2026-11-22T08:00:00Z' }),
  },
  responses: { 202: json(z.object({ replayed: z.number() }), 'How many are on their way.'), ...failing },
})

export const testWebhook = createRoute({
  method: 'post',
  path: '/webhooks/test',
  summary: 'Sends the event webhook.test to the webhook URLs of the environment',
  security: writing,
  request: { query: z.strictObject({}) },
  responses: { 202: json(z.object({ deliveries: z.array(delivery) }), 'On their way.'), ...failing },
})
