/** What is not about one noun: how the server is, and the calls that are passed on or answered with a page. */
import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, connectionId, failing, integrationKey, json } from './fields.ts'

const well = json(z.object({ result: z.literal('ok') }), 'It is.')

export const getHealth = createRoute({
  method: 'get',
  path: '/health',
  summary: 'Whether the process lives',
  security: [],
  responses: { 200: well, ...failing },
})

export const getReady = createRoute({
  method: 'get',
  path: '/ready',
  summary: 'Whether it can work: database, keys, and not shutting down',
  description:
    'While the database is away, for two minutes at the most, it works on with what it knows: connections whose tokens are warm are served.',
  security: [],
  responses: {
    200: json(z.object({ result: z.literal('ok'), database: z.literal('away').optional() }), 'It can.'),
    ...failing,
  },
})

export const getMetrics = createRoute({
  method: 'get',
  path: '/metrics',
  summary: 'Figures for Prometheus',
  security: [],
  responses: {
    200: { description: 'Text format 0.0.4.', content: { 'text/plain': { schema: z.string() } } },
    ...failing,
  },
})

export const beginSignIn = createRoute({
  method: 'get',
  path: '/oauth/connect/{providerConfigKey}',
  summary: 'Sends a browser to the sign-in of an integration',
  description:
    'Opened in a window, not called. `params[name]` are facts about the account, `authorization_params[name]` go to the authorization page. ' +
    'What became of it is told by `GET /connect/session/results` under `ws_client_id`.',
  security: [],
  request: {
    params: z.object({ providerConfigKey: integrationKey }),
    query: z.object({
      connect_session_token: z.string(),
      ws_client_id: z.uuid().optional(),
      user_scope: z.string().optional(),
    }),
  },
  responses: {
    302: { description: 'To the provider.' },
    400: { description: 'A page that says why not.', content: { 'text/html': { schema: z.string() } } },
    ...failing,
  },
})

const proxied = <Method extends 'get' | 'post' | 'put' | 'patch' | 'delete'>(method: Method) =>
  createRoute({
    method,
    path: '/proxy/{path}',
    summary: 'Your customer’s API, with their token added',
    description:
      'Everything after `/proxy` goes to the provider as it is, query and body included; so does its answer. An answer with the header ' +
      '`Fairlead-Error` is ours. The same under `/via/{provider_config_key}/{connection_id}/{path}`, where a vendor’s own SDK takes a base ' +
      'URL and nothing else.',
    security: anyKeyWith('environment:proxy'),
    request: {
      params: z.object({ path: z.string() }),
      headers: z.object({
        'Provider-Config-Key': integrationKey,
        'Connection-Id': connectionId,
        Retries: z.string().optional().openapi({ description: 'More than 10 are 10.' }),
        'Retry-On': z.string().optional().openapi({ description: 'Statuses, separated by commas.' }),
        'Base-Url-Override': z.string().optional(),
        Decompress: z.enum(['true', 'false']).optional(),
        'Forward-Headers-On-Redirect': z.enum(['true', 'false']).optional(),
        'Fairlead-Priority': z.enum(['background']).optional(),
      }),
    },
    responses: { 200: { description: 'The provider’s answer, with its own status.' }, ...failing },
  })

/** What the proxy takes. It stands before the API's router, so these describe it and do not serve it. */
export const proxyGet = proxied('get')
export const proxyPost = proxied('post')
export const proxyPut = proxied('put')
export const proxyPatch = proxied('patch')
export const proxyDelete = proxied('delete')
