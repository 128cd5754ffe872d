/** People who sign in to the dashboard. Their session is a cookie; with it they may call whatever their role may, naming the environment in the header Fairlead-Environment. */
import { createRoute, z } from '@hono/zod-openapi'
import { failing, json, jsonBody } from './fields.ts'

export const role = z.enum(['owner', 'admin', 'viewer'])
export type Role = z.infer<typeof role>

const email = z.email().max(255).toLowerCase()
const name = z.string().trim().min(1).max(255)
const password = z.string().min(12, 'At least 12 characters.').max(256)
const given = z.string().max(256)
const code = z
  .string()
  .regex(/^\d{6}$/, 'Six digits.')
  .optional()
const link = z.string().regex(/^[\w-]{43}$/, 'The whole link, as it was printed or sent.')

const operator = z
  .object({
    id: z.number(),
    email: z.string(),
    name: z.string(),
    role,
    has_password: z.boolean(),
    has_identity: z.boolean().openapi({ description: 'Signs in at the identity provider.' }),
    two_factor: z.boolean(),
    signed_in_at: z.string().nullable(),
  })
  .openapi('Operator')
export type OperatorView = z.infer<typeof operator>

const standing = z
  .object({
    state: z.enum(['setup', 'signed_out', 'signed_in']),
    /** Of `setup`: whether this browser may set up without the link, because it is on the same machine. */
    setup_here: z.boolean(),
    operator: operator.nullable(),
    /** What the identity provider is called that one may sign in at. */
    identity_provider: z.string().nullable(),
    environments: z.array(z.string()),
    /** Secrets may be shown and made until then without asking again. */
    confirmed_until: z.string().nullable(),
  })
  .openapi('OperatorStanding')
export type OperatorStanding = z.infer<typeof standing>

const signedIn: Record<string, string[]>[] = [{ operator: [] }]
const owners: Record<string, string[]>[] = [{ operator: ['owner'] }]

const exampleOf = <Body extends z.ZodObject>({ shape }: Body): z.input<Body> => {
  const examples: Record<string, string | boolean> = {
    email: 'ada@acme.com',
    name: 'Ada',
    password: 'correct horse battery',
    current: 'battery horse correct',
    code: '123456',
    link: 'E6Tz1QnJqUe3kPZ5xw0yVb8mGd2rHcA7sLfNoKi4tWB',
    role: 'viewer',
    confirms: false,
    query: '?code=SplxlOBeZQQYbYS6WxSbIA&state=af0ifjsldkj',
  }
  // Named as they are here, and a test parses each.
  return Object.fromEntries(Object.keys(shape).map(name => [name, examples[name]])) as z.input<Body>
}

const bodyOf = <Body extends z.ZodObject>(body: Body) => jsonBody(body, exampleOf(body))

const post = <Path extends string, Body extends z.ZodObject>(
  path: Path,
  summary: string,
  body: Body,
  security: Record<string, string[]>[] = [],
) => ({
  method: 'post' as const,
  path,
  summary,
  security,
  request: { body: bodyOf(body) },
  responses: { 200: json(standing, 'How this browser stands now.'), ...failing },
})

export const getStanding = createRoute({
  method: 'get',
  path: '/operator',
  summary: 'Who is signed in with this browser',
  security: [],
  responses: { 200: json(standing, 'The standing.'), ...failing },
})

export const setUp = createRoute(
  post(
    '/operator/setup',
    'Makes the first operator; works while there is none',
    z.strictObject({ link: link.optional(), email, name, password }),
  ),
)

export const signIn = createRoute(
  post('/operator/sign-in', 'Signs in with a password', z.strictObject({ email, password: given, code })),
)

export const acceptLink = createRoute(
  post(
    '/operator/link',
    'Takes an invitation, or a link for a new password',
    z.strictObject({ link, name: name.optional(), password }),
  ),
)

export const beginOidc = createRoute({
  method: 'post',
  path: '/operator/oidc/begin',
  summary: 'Where the browser goes to sign in at the identity provider',
  security: [],
  request: {
    body: bodyOf(
      z.strictObject({
        link: link.optional(),
        confirms: z.boolean().optional().openapi({ description: 'Whoever is signed in shows again who they are.' }),
      }),
    ),
  },
  responses: { 200: json(z.object({ location: z.string() }), 'The page of the identity provider.'), ...failing },
})

const finished = standing.extend({ confirms: z.boolean() })
export type FinishedOidc = z.infer<typeof finished>

export const finishOidc = createRoute({
  method: 'post',
  path: '/operator/oidc/finish',
  summary: 'Signs in with what the identity provider came back with',
  security: [],
  request: { body: bodyOf(z.strictObject({ query: z.string().max(16_384) })) },
  responses: { 200: json(finished, 'How this browser stands now.'), ...failing },
})

export const signOut = createRoute(post('/operator/sign-out', 'Ends the session on the server', z.strictObject({})))

export const confirm = createRoute(
  post(
    '/operator/confirm',
    'Shows again who is there, before secrets are shown or made',
    z.strictObject({ password: given, code }),
    signedIn,
  ),
)

export const changePassword = createRoute(
  post(
    '/operator/password',
    'Changes the password; every other session ends',
    z.strictObject({ current: given, password }),
    signedIn,
  ),
)

export const beginTwoFactor = createRoute({
  method: 'post',
  path: '/operator/two-factor',
  summary: 'A new key for an authenticator app (RFC 6238); it counts once a code of it was sent',
  security: signedIn,
  request: { body: bodyOf(z.strictObject({ password: given })) },
  responses: { 200: json(z.object({ secret: z.string(), uri: z.string() }), 'Shown now and never again.'), ...failing },
})

export const enableTwoFactor = createRoute(
  post('/operator/two-factor/enable', 'Turns it on', z.strictObject({ code: code.unwrap() }), signedIn),
)

export const disableTwoFactor = createRoute(
  post('/operator/two-factor/disable', 'Turns it off', z.strictObject({ password: given, code }), signedIn),
)

export const listOperators = createRoute({
  method: 'get',
  path: '/operators',
  summary: 'Lists the operators',
  security: signedIn,
  responses: { 200: json(z.object({ operators: z.array(operator) }), 'The operators.'), ...failing },
})

const madeLink = json(z.object({ link: z.string(), ends_at: z.string() }), 'Shown now and never again.')

export const inviteOperator = createRoute({
  method: 'post',
  path: '/operators',
  summary: 'Makes an invitation link',
  security: owners,
  request: { body: bodyOf(z.strictObject({ email, role })) },
  responses: { 200: madeLink, ...failing },
})

const operatorId = z.object({ id: z.coerce.number().int() })

export const changeOperator = createRoute({
  method: 'patch',
  path: '/operators/{id}',
  summary: 'Gives an operator another role',
  security: owners,
  request: { params: operatorId, body: bodyOf(z.strictObject({ role })) },
  responses: { 200: json(operator, 'The operator.'), ...failing },
})

export const removeOperator = createRoute({
  method: 'delete',
  path: '/operators/{id}',
  summary: 'Removes an operator; their sessions end',
  security: owners,
  request: { params: operatorId },
  responses: { 200: json(z.object({ success: z.literal(true) }), 'Removed.'), ...failing },
})

export const resetOperator = createRoute({
  method: 'post',
  path: '/operators/{id}/link',
  summary: 'Makes a link with which an operator chooses a new password; two-factor is turned off with it',
  security: owners,
  request: { params: operatorId },
  responses: { 200: madeLink, ...failing },
})
