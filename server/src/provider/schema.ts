/**
 * What a provider definition may say. Field names are those teams' existing definition files use, plus our own
 * (marked below); a name that is not here is a misspelling and is reported with its file and line.
 */
import { z } from 'zod'

const authModes = [
  'OAUTH1',
  'OAUTH2',
  'OAUTH2_CC',
  'API_KEY',
  'BASIC',
  'JWT',
  'TWO_STEP',
  'NONE',
  'APP',
  'CUSTOM',
  'TBA',
  'BILL',
  'SIGNATURE',
  'AWS_SIGV4',
  'INSTALL_PLUGIN',
  'MCP_OAUTH2',
  'MCP_OAUTH2_GENERIC',
] as const

/** How connections are made here. */
export const supportedModes: ReadonlySet<string> = new Set<(typeof authModes)[number]>([
  'OAUTH1',
  'OAUTH2',
  'OAUTH2_CC',
  'API_KEY',
  'BASIC',
  'JWT',
  'TWO_STEP',
  'NONE',
])

const text = z.string().min(1)
const texts = z.array(text)
const scalar = z.union([z.string(), z.number(), z.boolean()]).transform(String)
const scalarMap = z.record(z.string(), scalar)
/** What is sent as JSON may be nested. */
const members = z.record(z.string(), z.union([scalar, z.array(z.unknown()), z.record(z.string(), z.unknown())]))

/** One thing asked of a person, or learned from the provider when `automated`. */
const formField = z.strictObject({
  type: z.string().optional(),
  title: z.string().optional(),
  description: z.string().optional(),
  example: scalar.optional(),
  pattern: z.string().optional(),
  optional: z.boolean().optional(),
  format: z.enum(['hostname', 'uri', 'uuid', 'email']).optional(),
  order: z.number().optional(),
  default_value: scalar.optional(),
  hidden: z.boolean().optional(),
  prefix: z.string().optional(),
  suffix: z.string().optional(),
  doc_section: z.string().optional(),
  secret: z.boolean().optional(),
  automated: z.boolean().optional(),
  enum: z.array(z.string()).optional(),
  warnings: z.unknown().optional(),
  /** Names of other fields with the value, or the values, they must have for this one to be asked. */
  visible_when: z.record(z.string(), z.union([z.string(), texts])).optional(),
  /** Ours. Another fact, an address: a host that is that address's own goes along when a renewal brings another one. */
  follows: text.optional(),
  /** Ours. A form of its own in the connect page, by name; one it does not know is a text field. */
  widget: text.optional(),
})
export type FormField = z.infer<typeof formField>

const form = z.record(z.string(), formField)

/** Ours. How to recognise the answer that says "this access token has ended". */
const expiredToken = z.strictObject({
  status: z.number().int().min(300).max(599),
  body_equals: text.optional(),
  body_excludes: texts.optional(),
})
export type ExpiredToken = z.infer<typeof expiredToken>

/**
 * Ours. What an error of the token endpoint means for a credential that is being refreshed; the first row that matches counts.
 * `refused` ends it, `doubt` proves nothing, `blocked` is a policy that may be lifted, `later` was not processed at all.
 */
const tokenError = z.strictObject({
  error: text,
  description: text.optional(),
  means: z.enum(['refused', 'doubt', 'blocked', 'later']),
})
export type TokenErrorMeaning = z.infer<typeof tokenError>['means']

/** Which answers are worth another attempt, and where they say when: header names, or a regular expression on a member of the body. */
const retry = z.strictObject({
  /** An instant: epoch seconds, epoch milliseconds, or a date. */
  at: text.optional(),
  /** Seconds, or a date. */
  after: text.optional(),
  remaining: text.optional(),
  error_code: z.array(z.union([z.number().transform(String), z.string().regex(/^\d(\d\d|xx)(-\d{3})?$/)])).optional(),
  in_body: z.strictObject({ path: text, value: text, strategy: z.enum(['at', 'after']) }).optional(),
})

/** Ours. What an account's calls share, and the answer's header that says how much of it is used. */
const rateLimit = z.strictObject({
  /** The member of connection config that names the account. */
  account: text,
  usage_header: text.toLowerCase(),
  /** With the groups `used` and `limit`. */
  usage_pattern: text,
  /** Kept for calls that cannot wait: those that say `Fairlead-Priority: background` are refused beyond it. */
  reserve_percent: z.number().min(0).max(100).default(10),
})

/** A call that shows at connect time whether what was given works; the first endpoint that takes it suffices. */
const verification = z.strictObject({
  method: z.enum(['GET', 'POST']).default('GET'),
  endpoints: z.array(text).min(1),
  base_url_override: text.optional(),
  headers: scalarMap.optional(),
  data: z.unknown().optional(),
})

const paged = {
  /** Where the items stand in the answer, a dotted path; without it the answer is the list. */
  response_path: text.optional(),
  limit_name_in_request: text.optional(),
  limit: z.union([z.number(), text]).optional(),
}

/** How one page of a list leads to the next. The server only hands it out: whoever pages reads it, the SDK among them (node/src/pages.ts). */
const paginate = z.discriminatedUnion('type', [
  z
    .strictObject({
      type: z.literal('link'),
      /** A relation of the `Link` header (RFC 8288), or a dotted path; an address without host is one at the provider. */
      link_rel_in_response_header: text.optional(),
      link_path_in_response_body: text.optional(),
      ...paged,
    })
    .refine(
      ({ link_rel_in_response_header: rel, link_path_in_response_body: path }) =>
        (rel === undefined) !== (path === undefined),
      'Give link_rel_in_response_header or link_path_in_response_body, one of them.',
    ),
  z.strictObject({ type: z.literal('cursor'), cursor_path_in_response: text, cursor_name_in_request: text, ...paged }),
  z.strictObject({
    type: z.literal('offset'),
    offset_name_in_request: text,
    offset_start_value: z.union([z.number(), z.string().regex(/^\d+$/)]).optional(),
    /** `per-page` counts pages, `by-response-size` counts items. */
    offset_calculation_method: z.enum(['per-page', 'by-response-size']).optional(),
    ...paged,
  }),
])

const proxy = z.strictObject({
  base_url: text.optional(),
  headers: scalarMap.optional(),
  query: scalarMap.optional(),
  body: z.record(z.string(), z.unknown()).optional(),
  connection_config: z.unknown().optional(),
  decompress: z.boolean().optional(),
  forward_headers_on_redirect: z.boolean().optional(),
  retry: retry.optional(),
  paginate: paginate.optional(),
  verification: verification.optional(),
})

/** One request of a login: `token_url` and its siblings, or one of `additional_steps`. */
const loginStep = z.object({
  token_url: text.optional(),
  token_params: members.optional(),
  token_headers: scalarMap.optional(),
  token_request_method: z.string().optional(),
  body_format: z.enum(['form', 'json', 'query', 'xml']).optional(),
})
export interface LoginStep {
  token_url?: string | undefined
  token_params?: Record<string, unknown> | undefined
  token_headers?: Record<string, string> | undefined
  token_request_method?: string | undefined
  body_format?: 'form' | 'json' | 'query' | 'xml' | undefined
}

/** Ours in its members. A signed assertion (RFC 7523) that the login's templates read as `${assertion}`. */
const assertion = z.strictObject({
  type: z.literal('jwt'),
  algorithm: z.enum(['RS256', 'RS384', 'RS512', 'ES256', 'HS256']).optional(),
  signing_key: text,
  header: z.record(z.string(), z.unknown()).optional(),
  payload: z.record(z.string(), z.unknown()),
  expires_in_ms: z.number().positive().optional(),
})

export const providerDefinition = z.strictObject({
  // identity
  display_name: text,
  categories: texts.optional(),
  /** Any: what is not among `supportedModes` is read and not used. */
  auth_mode: z.union([z.enum(authModes), text]).transform(mode => mode as (typeof authModes)[number]),
  docs: z.string().optional(),
  docs_connect: z.string().optional(),
  setup_guide_url: z.string().optional(),

  // OAuth 2.0, the way out
  authorization_url: text.optional(),
  authorization_params: scalarMap.optional(),
  default_scopes: texts.optional(),
  available_scopes: z.unknown().optional(),
  scope_separator: z.string().optional(),
  authorization_url_skip_encode: texts.optional(),
  authorization_url_skip_empty: z.boolean().optional(),
  authorization_url_fragment: z.string().optional(),
  authorization_url_replacements: scalarMap.optional(),
  authorization_code_param_in_callback: text.optional(),
  authorization_code_param_in_webhook: text.optional(),
  disable_pkce: z.boolean().optional(),
  installation: z.string().optional(),

  // OAuth 2.0, tokens
  token_url: z.union([text, z.record(z.string(), text)]).optional(),
  token_url_skip_encode: texts.optional(),
  token_params: members.optional(),
  token_request_auth_method: z.enum(['basic', 'custom', 'private_key_jwt']).optional(),
  authorization_method: z.enum(['body', 'header']).optional(),
  body_format: z.enum(['form', 'json', 'query', 'xml']).optional(),
  alternate_access_token_response_path: text.optional(),
  expires_in_unit: z.literal('milliseconds').optional(),
  require_client_certificate: z.boolean().optional(),
  refresh_params: scalarMap.optional(),
  refresh_url: text.optional(),
  token_expiration_buffer: z.number().optional(),

  // what is learned about the account
  token_response_metadata: texts.optional(),
  redirect_uri_metadata: texts.optional(),
  webhook_response_metadata: texts.optional(),
  connection_configuration: texts.optional(),
  refresh_token_response_metadata: texts.optional(),
  decode_url: z.unknown().optional(),

  // forms and proxy
  connection_config: form.optional(),
  credentials: form.optional(),
  integration_config: form.optional(),
  assertion_option: z.unknown().optional(),
  proxy: proxy.optional(),

  // kinds that are not here yet keep their fields, so that one file can serve every version
  request_url: z.string().optional(),
  request_params: scalarMap.optional(),
  request_http_method: z.string().optional(),
  token_http_method: z.string().optional(),
  signature_method: z.string().optional(),
  signature: z
    .object({ protocol: z.enum(['RSA', 'HMAC', 'EC']).optional(), hmac_secret_encoding: z.string().optional() })
    .optional(),
  token: z
    .object({
      signing_key: text,
      expires_in_ms: z.number().positive().optional(),
      header: z.record(z.string(), z.unknown()).optional(),
      payload: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
  token_headers: scalarMap.optional(),
  token_request_method: z.string().optional(),
  token_response: z
    .object({
      token: z.string().optional(),
      token_expiration: z.string().optional(),
      token_expiration_strategy: z.enum(['expireAt', 'expireIn']).optional(),
      refresh_token: z.string().optional(),
    })
    .optional(),
  token_response_headers: texts.optional(),
  additional_steps: z.array(loginStep).optional(),
  refresh_token_params: z.unknown().optional(),
  refresh_token_headers: z.unknown().optional(),
  assertion: assertion.optional(),
  token_expires_in_ms: z.number().optional(),
  client_registration: z.string().optional(),
  registration_url: z.string().optional(),
  registration_params: z.unknown().optional(),
  webhook_routing_script: z.string().optional(),
  webhook_user_defined_secret: z.unknown().optional(),
  webhook_allowed_query_params: texts.optional(),
  post_connection_script: z.string().optional(),
  pre_connection_deletion_script: z.string().optional(),
  credentials_verification_script: z.string().optional(),

  // ours
  /** Whose logo it has (providers/logos), when there is none of its own name. */
  logo: text.optional(),
  /** Where credentials may be sent beside the hosts the URLs above name: an exact host or `*.suffix`, without port. */
  allowed_hosts: z
    .array(
      z
        .string()
        .regex(/^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$|^\[[0-9a-f:.]+\]$/, 'A host or *.suffix, lower case, no port.'),
    )
    .optional(),
  introspection_url: text.optional(),
  revocation_url: text.optional(),
  /** Member of the token response → regular expression whose named groups become connection config. */
  token_response_captures: z.record(z.string(), text).optional(),
  /** A member of the token response with HMAC-SHA256, in base64 and by the client secret, over these members one after the other. */
  token_response_signature: z.strictObject({ member: text, over: texts }).optional(),
  /** How refresh tokens behave here. `rotates`: a refresh may bring a new one; unknown counts as yes, with reuse penalty. */
  rotates: z.boolean().optional(),
  /** For how long a used refresh token may be presented again; only the process that got no answer ever does. */
  grace_seconds: z.number().positive().optional(),
  /** Presenting a used refresh token ends every token of the grant. For people; the refresh assumes it anyway. */
  reuse_revokes: z.boolean().optional(),
  /** False: an introspection endpoint is there but knows nothing of refresh tokens. */
  introspects: z.boolean().optional(),
  /** What revoking a refresh token ends: its own grant, or everything the user gave this app. Unknown counts as everything. */
  revokes: z.enum(['grant', 'user_and_app']).optional(),
  /** The facts of an account that together say whose it is. Only facts the provider itself tells. */
  identity: texts.optional(),
  /** What a scope allows, in plain words that finish "The product will be able to: …"; one text, or one by language. */
  scope_descriptions: z.record(z.string(), z.union([text, z.record(z.string(), text)])).optional(),
  /** Said when a reconnect finds another account at the same address. */
  account_replaced: text.optional(),
  /** So many grants of one account one OAuth client may have; one more silently ends the oldest. */
  grants_per_user: z.number().int().positive().optional(),
  /** A grant unused for this long ends. */
  idle_limit_days: z.number().positive().optional(),
  /** Renewals of idle grants at a time at one host of its token endpoint; 4 unless said. Callers' renewals are not counted. */
  keep_alive_at_once: z.number().int().positive().optional(),
  expired_token: z.array(expiredToken).optional(),
  token_errors: z.array(tokenError).optional(),
  rate_limit: rateLimit.optional(),
  /** How somebody comes to use it: pages of `providers/guides/`, in order, and the path of a first call worth making. */
  guide: z
    .strictObject({
      pages: z
        .array(z.string().regex(/^[a-z0-9-]+$/, 'The name of a page in providers/guides/, without .md.'))
        .optional(),
      example: z.string().startsWith('/').optional(),
      /** Shown as `{{troubleshooting}}`, each explained by the hook. */
      errors: z
        .array(
          z.strictObject({
            where: z.enum(['authorize', 'token', 'refresh', 'api', 'silence']),
            error: z.string(),
            description: z.string(),
          }),
        )
        .optional(),
    })
    .optional(),
})

export type ProviderDefinition = z.infer<typeof providerDefinition>

/** A definition by its name. */
export interface Provider extends ProviderDefinition {
  name: string
  /** What of its definition this version cannot do; connections of it are not made here. */
  unsupported?: string[]
}
