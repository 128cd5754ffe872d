/** What happened: the calls that went through the proxy. */
import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, connectionId, failing, integrationKey, json } from './fields.ts'

export const callOutcome = z.enum(['answered', 'refused', 'cut', 'aborted']).openapi({
  description:
    "answered: the answer is the provider's, whole. refused: it is Fairlead's, and `error` is its code. " +
    "cut: the provider's answer began and the rest is missing. aborted: the caller went away before its end.",
})
export type CallOutcome = z.infer<typeof callOutcome>

export const activityView = z
  .object({
    id: z.string(),
    request_id: z.string().openapi({ description: 'The header `Fairlead-Request-Id` of its answer.' }),
    at: z.string().openapi({ description: 'When it ended.' }),
    api_key_id: z.number().nullable().openapi({ description: 'Null: an operator, in the dashboard.' }),
    provider_config_key: z.string(),
    connection_id: z.string(),
    method: z.string(),
    host: z.string().nullable().openapi({ description: 'Null when it was refused before that was known.' }),
    path: z
      .string()
      .openapi({ description: 'Without its query, and with {id} where something stood that is no word.' }),
    status: z.number().nullable().openapi({ description: 'Null when nothing was answered.' }),
    outcome: callOutcome,
    error: z.string().nullable(),
    bytes_up: z.number(),
    bytes_down: z.number(),
    sent_ms: z.number().nullable().openapi({
      description: 'From its arrival until it was handed to the provider, for the last time when it was sent again.',
    }),
    first_byte_ms: z.number().nullable().openapi({
      description:
        "From its arrival until the head of the provider's answer; minus `sent_ms` it is the provider's own time.",
    }),
    total_ms: z.number().openapi({ description: 'From its arrival until the end of the answer.' }),
    retries: z.number(),
    refreshed: z.boolean().openapi({ description: 'The token had ended and was renewed on the way.' }),
    repeats_token: z.boolean().openapi({
      description: 'The provider put the access token it was sent into its answer. The answer went down as it came.',
    }),
    has_bodies: z.boolean().openapi({ description: 'Its bodies were kept; they are for a day.' }),
  })
  .openapi('Activity')
export type ActivityView = z.infer<typeof activityView>

const body = z
  .object({
    type: z.string(),
    text: z.string().openapi({ description: 'At most 8 KB, without what is or looks like a secret.' }),
    truncated: z.boolean(),
  })
  .nullable()
  .openapi({ description: 'Null when there was none, or none that is text.' })

const bodies = z.object({ request: body, answer: body }).openapi('ActivityBodies')
export type ActivityBodies = z.infer<typeof bodies>

const reading = anyKeyWith('environment:activity:read')
/** Its parts stay within what a Date and an exact number can hold. */
const activityId = z.string().regex(/^[0-9a-z]{1,9}-[0-9a-z]{1,10}$/, 'The `id` of a call.')
const instant = z.iso.datetime({ offset: true }).optional()

export const listActivity = createRoute({
  method: 'get',
  path: '/activity',
  summary: 'Lists calls that went through the proxy, newest first',
  description:
    'A page may be shorter than asked for, even empty, while `next_cursor` says that there is more: a filter that matches little is tried on so many calls at a time.',
  security: reading,
  request: {
    query: z.strictObject({
      connection_id: connectionId.optional(),
      provider_config_key: integrationKey.optional(),
      status: z
        .string()
        .regex(/^[1-5](\d\d|xx)$/, 'A status such as 404, or a class such as 4xx.')
        .optional(),
      outcome: callOutcome.optional(),
      request_id: z
        .string()
        .max(64)
        .optional()
        .openapi({ description: 'The header `Fairlead-Request-Id` of an answer.' }),
      method: z
        .string()
        .regex(/^[A-Z-]{1,20}$/, 'In capitals.')
        .optional(),
      since: instant,
      until: instant,
      limit: z.coerce.number().int().min(1).max(200).optional(),
      cursor: activityId.optional().openapi({ description: '`next_cursor` of the page before.' }),
    }),
  },
  responses: {
    200: json(
      z.object({
        activity: z.array(activityView),
        next_cursor: z.string().nullable(),
        dropped: z.number().openapi({
          description:
            'Calls between `since` and `until` that were not recorded, because the database was too slow for them.',
        }),
      }),
      'A page, 50 unless said.',
    ),
    ...failing,
  },
})

const latencies = {
  calls: z.number(),
  errors: z.number().openapi({ description: 'Answered with 4xx or 5xx, refused, or cut.' }),
  refreshed: z.number().openapi({ description: 'Calls whose token was renewed on the way.' }),
  p50_ms: z.number().nullable().openapi({ description: 'Percentiles are told within 1 %.' }),
  p95_ms: z.number().nullable(),
  p99_ms: z.number().nullable(),
}
const summary = z
  .object({
    ...latencies,
    since: z.string(),
    until: z.string(),
    buckets: z.array(z.object({ at: z.string().openapi({ description: 'Its beginning.' }), ...latencies })),
  })
  .openapi('ActivitySummary')
export type ActivitySummary = z.infer<typeof summary>

export const summariseActivity = createRoute({
  method: 'get',
  path: '/activity/summary',
  summary: 'Counts, errors and latencies of the calls of a time, in equal parts of it',
  security: reading,
  request: {
    query: z.strictObject({
      connection_id: connectionId.optional(),
      provider_config_key: integrationKey.optional(),
      since: z.iso.datetime({ offset: true }),
      until: instant,
      parts: z.coerce.number().int().min(1).max(200).optional().openapi({ description: '48 unless said.' }),
    }),
  },
  responses: { 200: json(summary, 'The whole, and its parts.'), ...failing },
})

export const getActivity = createRoute({
  method: 'get',
  path: '/activity/{id}',
  summary: 'One call',
  security: reading,
  request: { params: z.object({ id: activityId }), query: z.strictObject({}) },
  responses: { 200: json(activityView, 'The call.'), ...failing },
})

export const getActivityBodies = createRoute({
  method: 'get',
  path: '/activity/{id}/bodies',
  summary: 'What was sent and answered, of a call whose integration has capture_bodies on',
  security: anyKeyWith('environment:connections:read_credentials'),
  request: { params: z.object({ id: activityId }), query: z.strictObject({}) },
  responses: { 200: json(bodies, 'The beginning of both bodies.'), ...failing },
})
