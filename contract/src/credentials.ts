/** Connecting without a sign-in: one endpoint per kind of credential, called from the end user's browser with its connect session. */
import { createRoute, z } from '@hono/zod-openapi'
import { failing, json, jsonBody } from './fields.ts'

const submitted = z
  .object({
    connectionId: z.string(),
    providerConfigKey: z.string(),
    missing_scopes: z
      .array(z.string())
      .optional()
      .openapi({ description: 'Ours. Asked for and not granted; left out when everything was.' }),
  })
  .openapi('Submitted')

/** The session's token stands in the query. `params[hostname]=…` and its siblings are facts of the account. */
const query = z.looseObject({ connect_session_token: z.string().optional() })

const request = {
  params: z.object({ providerConfigKey: z.string() }),
  query,
}

/** The members of each body are those of the provider's form; the server checks them against it. */
const submitting = <Body extends z.ZodType>(path: `/${string}`, summary: string, body: Body, example: z.input<Body>) =>
  createRoute({
    method: 'post',
    path: `${path}/{providerConfigKey}`,
    summary,
    security: [],
    request: { ...request, body: jsonBody(body, example) },
    responses: { 200: json(submitted, 'Connected.'), ...failing },
  })

export const submitApiKey = submitting(
  '/api-auth/api-key',
  'Connects an account with an API key',
  z.looseObject({ apiKey: z.string().max(1024).optional() }),
  { apiKey: 'key-of-the-account' },
)

export const submitBasic = submitting(
  '/api-auth/basic',
  'Connects an account with a user name and a password',
  z.looseObject({ username: z.string().max(1024).optional(), password: z.string().max(1024).optional() }),
  { username: 'ada', password: 'correct horse battery' },
)

export const submitClientCredentials = submitting(
  '/oauth2/auth',
  'Connects an account with an OAuth client of its own',
  z.looseObject({ client_id: z.string().optional(), client_secret: z.string().optional() }),
  { client_id: 'client-of-the-account', client_secret: 'secret-of-the-account' },
)

export const submitTwoStep = submitting(
  '/auth/two-step',
  'Connects an account with what its provider asks for at log-in',
  z.looseObject({}),
  { username: 'ada', password: 'correct horse battery' },
)

export const submitJwt = submitting('/auth/jwt', 'Connects an account with a signing key', z.looseObject({}), {
  id: 'id-of-the-key',
  secret: '00ff',
})

export const submitNothing = createRoute({
  method: 'post',
  path: '/auth/unauthenticated/{providerConfigKey}',
  summary: 'Connects to an API that asks nobody who they are',
  security: [],
  request,
  responses: { 200: json(submitted, 'Connected.'), ...failing },
})
