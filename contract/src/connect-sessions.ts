import { createRoute, z } from '@hono/zod-openapi'
import { connectUISettings } from './connect-ui.ts'
import { explainedCause } from './explained.ts'
import {
  anyKeyWith,
  connectionId,
  connectSessionToken,
  endUser,
  failing,
  integrationKey,
  json,
  jsonBody,
  organization,
  tags,
  webhookUrlOverride,
} from './fields.ts'

const integrationDefaults = z.strictObject({
  user_scopes: z.string().optional(),
  authorization_params: z.record(z.string(), z.string()).optional(),
  connection_config: z.looseObject({ oauth_scopes_override: z.string().optional() }).optional(),
})

export type IntegrationDefaults = z.infer<typeof integrationDefaults>

/** A link that end users press, so an address and no script. */
const overrides = z.record(
  z.string(),
  z.strictObject({
    docs_connect: z
      .url({ protocol: /^https?$/ })
      .max(2048)
      .optional(),
  }),
)

export const connectSessionRequest = z
  .strictObject({
    end_user: endUser.optional(),
    organization: organization.optional(),
    allowed_integrations: z.array(integrationKey).optional(),
    integrations_config_defaults: z.record(z.string(), integrationDefaults).optional(),
    overrides: overrides.optional(),
    webhook_url_override: webhookUrlOverride.optional(),
    tags: tags.optional(),
  })
  .refine(body => body.end_user !== undefined || body.tags !== undefined, {
    path: ['end_user'],
    message: 'end_user is required unless tags are given.',
  })
export type ConnectSessionRequest = z.infer<typeof connectSessionRequest>

export const reconnectSessionRequest = z.strictObject({
  connection_id: connectionId,
  integration_id: integrationKey,
  end_user: endUser.optional(),
  organization: organization.optional(),
  integrations_config_defaults: z.record(z.string(), integrationDefaults).optional(),
  overrides: overrides.optional(),
  webhook_url_override: webhookUrlOverride.optional(),
  tags: tags.optional(),
  another_account: z.boolean().optional().openapi({
    description:
      'Ours. True: the owner wants another account in the place of this one, so a sign-in as somebody else is stored, too. Off unless said.',
  }),
})
export type ReconnectSessionRequest = z.infer<typeof reconnectSessionRequest>

export const sessionOpened = z.object({ token: z.string(), connect_link: z.string(), expires_at: z.string() })
export type SessionOpened = z.infer<typeof sessionOpened>

const opened = json(z.object({ data: sessionOpened }), 'The token lives for 30 minutes.')

export const createConnectSession = createRoute({
  method: 'post',
  path: '/connect/sessions',
  summary: 'Opens a connect session for one end user',
  security: anyKeyWith('environment:connect_sessions:write'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(connectSessionRequest, {
      end_user: { id: 'ada', email: 'ada@acme.com', display_name: 'Ada of Acme' },
      organization: { id: 'acme', display_name: 'Acme' },
      allowed_integrations: ['crm'],
    }),
  },
  responses: { 201: opened, ...failing },
})

export const createReconnectSession = createRoute({
  method: 'post',
  path: '/connect/sessions/reconnect',
  summary: 'Opens a connect session in which the owner of one connection signs in to it again',
  description:
    'The connection keeps its id, and every connection that shares its grant gets the new one. A sign-in as another account is refused, unless `another_account` is true.' +
    ' `end_user`, `organization`, `tags` and `webhook_url_override` replace those of the connection when the sign-in succeeds;' +
    ' what is left out stays.',
  security: anyKeyWith('environment:connect_sessions:write'),
  request: {
    query: z.strictObject({}),
    body: jsonBody(reconnectSessionRequest, {
      connection_id: 'b4a2d4a0-6a5c-4c8e-9d63-0f8f3c1b9a11',
      integration_id: 'crm',
    }),
  },
  responses: { 201: opened, ...failing },
})

const nullableString = z.string().nullable()

export const endUserView = z.object({
  id: z.string(),
  display_name: nullableString,
  email: nullableString,
  tags: z.record(z.string(), z.string()).nullable(),
  organization: z.object({ id: z.string(), display_name: nullableString }).nullable(),
})

const sessionView = z.object({
  endUser: endUserView.nullable(),
  connectUISettings,
  allowed_integrations: z.array(z.string()).optional(),
  integrations_config_defaults: z
    .record(
      z.string(),
      z.object({
        connection_config: z.record(z.string(), z.unknown()),
        authorization_params: z.record(z.string(), z.string()),
      }),
    )
    .optional(),
  isReconnecting: z.literal(true).optional(),
  overrides: overrides.optional(),
  websocketsPath: z.string(),
  // Ours.
  allowed_origins: z.array(z.string()).openapi({ description: 'Who may frame the page; empty: anybody.' }),
  return_urls: z
    .array(z.string())
    .openapi({ description: 'Where the page may send the browser in the end, to the letter.' }),
  callback_url: z.string(),
  scopes: z.record(z.string(), z.array(z.string())).openapi({
    description: 'By integration: what a sign-in will ask for.',
  }),
  reconnect: z
    .object({
      connection_id: z.string(),
      account: z
        .object({ label: z.string(), details: z.array(z.object({ label: z.string(), value: z.string() })) })
        .nullable(),
      known: z
        .array(z.string())
        .openapi({ description: 'Members of connection config that nobody is asked for again.' }),
    })
    .optional(),
})
export type ConnectSessionView = z.infer<typeof sessionView>

export const getConnectSession = createRoute({
  method: 'get',
  path: '/connect/session',
  summary: 'Reads the session behind a connect session token',
  security: [connectSessionToken],
  request: { query: z.strictObject({}) },
  responses: {
    200: json(z.object({ data: sessionView }), 'The session.'),
    ...failing,
  },
})

export const deleteConnectSession = createRoute({
  method: 'delete',
  path: '/connect/session',
  summary: 'Ends the session',
  security: [connectSessionToken],
  responses: { 204: { description: 'Ended.' }, ...failing },
})

/** What went wrong, in the words of the wire's result channel and in ours. */
export const connectError = z
  .object({
    type: z.string().openapi({ description: "The wire contract's `error_type`." }),
    code: z.string().openapi({ description: 'Ours, stable: see the page of errors.' }),
    description: z.string(),
    provider_said: z.string().optional(),
    expected: z
      .record(z.string(), z.string())
      .optional()
      .openapi({ description: 'The account of the connection, when the sign-in was another.' }),
    got: z.record(z.string(), z.string()).optional(),
    cause: explainedCause.optional().openapi({ description: 'Why, where that is known better.' }),
  })
  .openapi('ConnectError')
export type ConnectError = z.infer<typeof connectError>

const connectAccount = z
  .object({
    label: z.string(),
    details: z.array(z.object({ label: z.string(), value: z.string() })),
  })
  .openapi('ConnectAccount')
export type ConnectAccount = z.infer<typeof connectAccount>

export const connectResult = z
  .object({
    attempt: z.string().nullable().openapi({ description: 'The `ws_client_id` the sign-in was begun with.' }),
    provider_config_key: z.string(),
    connection_id: z.string().nullable(),
    success: z.boolean(),
    is_pending: z.boolean(),
    operation: z.enum(['creation', 'override']).nullable(),
    account: connectAccount.nullable(),
    missing_scopes: z.array(z.string()).openapi({
      description: 'Asked for and not granted, by what the provider said. It is connected all the same.',
    }),
    error: connectError.nullable(),
    at: z.string(),
  })
  .openapi('ConnectResult')
export type ConnectResult = z.infer<typeof connectResult>

export const listConnectResults = createRoute({
  method: 'get',
  path: '/connect/session/results',
  summary: 'What became of the sign-ins of this session, newest first',
  description:
    'The same news as on the WebSocket, kept for as long as the session lives, so that a lost socket loses nothing. A sign-in that is still' +
    ' under way is not listed. Name yours with a UUID of your own as `ws_client_id` when you begin it.',
  security: [connectSessionToken],
  request: { query: z.strictObject({}) },
  responses: {
    200: json(
      z.object({
        data: z.array(connectResult),
        under_way: z.array(z.string()).openapi({ description: 'Attempts that are at the provider and not back yet.' }),
      }),
      'At most the last hundred.',
    ),
    ...failing,
  },
})

export const connectTelemetry = createRoute({
  method: 'post',
  path: '/connect/telemetry',
  summary: 'What happened on a connect page, for the log of this server and nobody else',
  security: [],
  request: {
    body: jsonBody(
      z.strictObject({
        token: z.string(),
        event: z.enum([
          'open',
          'view:list',
          'view:integration',
          'view:unknown_error',
          'view:credentials_error',
          'view:success',
          'click:integration',
          'click:doc',
          'click:doc_section',
          'click:connect',
          'click:close',
          'click:finish',
          'click:outside',
          'popup:blocked_by_browser',
          'popup:closed_early',
        ]),
        timestamp: z.coerce.date(),
        dimensions: z.strictObject({ integration: z.string().max(255).optional() }).optional(),
      }),
      { token: `nango_connect_session_${'0'.repeat(64)}`, event: 'open', timestamp: '2026-11-22T08:00:00Z' },
    ),
  },
  responses: { 204: { description: 'Noted.' }, ...failing },
})
