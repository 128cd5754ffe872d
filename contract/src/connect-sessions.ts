import { createRoute, z } from '@hono/zod-openapi'
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

const overrides = z.record(z.string(), z.strictObject({ docs_connect: z.string().optional() }))

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

export const reconnectSessionRequest = z.strictObject({
  connection_id: connectionId,
  integration_id: integrationKey,
  end_user: endUser.optional(),
  organization: organization.optional(),
  integrations_config_defaults: z.record(z.string(), integrationDefaults).optional(),
  overrides: overrides.optional(),
  webhook_url_override: webhookUrlOverride.optional(),
  tags: tags.optional(),
})

const sessionOpened = z.object({ token: z.string(), connect_link: z.string(), expires_at: z.string() })
export type SessionOpened = z.infer<typeof sessionOpened>

const opened = json(z.object({ data: sessionOpened }), 'The token lives for 30 minutes.')

export const createConnectSession = createRoute({
  method: 'post',
  path: '/connect/sessions',
  summary: 'Opens a connect session for one end user',
  security: anyKeyWith('environment:connect_sessions:write'),
  request: { query: z.strictObject({}), body: jsonBody(connectSessionRequest) },
  responses: { 201: opened, ...failing },
})

export const createReconnectSession = createRoute({
  method: 'post',
  path: '/connect/sessions/reconnect',
  summary: 'Opens a connect session in which the owner of one connection signs in to it again',
  description:
    'The connection keeps its id, and every connection that shares its grant gets the new one. A sign-in as another account is refused.' +
    ' `end_user`, `organization`, `tags` and `webhook_url_override` replace those of the connection when the sign-in succeeds;' +
    ' what is left out stays.',
  security: anyKeyWith('environment:connect_sessions:write'),
  request: { query: z.strictObject({}), body: jsonBody(reconnectSessionRequest) },
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

const themeColours = z.object({ primary: z.string() })

export const getConnectSession = createRoute({
  method: 'get',
  path: '/connect/session',
  summary: 'Reads the session behind a connect session token',
  security: [connectSessionToken],
  request: { query: z.strictObject({}) },
  responses: {
    200: json(
      z.object({
        data: z.object({
          endUser: endUserView.nullable(),
          connectUISettings: z.object({
            theme: z.object({ light: themeColours, dark: themeColours }),
            defaultTheme: z.enum(['light', 'dark', 'system']),
            showWatermark: z.boolean(),
          }),
          allowed_integrations: z.array(z.string()).optional(),
          integrations_config_defaults: z.record(z.string(), z.unknown()).optional(),
          isReconnecting: z.literal(true).optional(),
          overrides: z.record(z.string(), z.unknown()).optional(),
          websocketsPath: z.string(),
        }),
      }),
      'The session.',
    ),
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
