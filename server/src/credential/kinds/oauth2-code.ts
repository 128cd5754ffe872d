/**
 * OAuth 2.0 authorization code, pure: what to send and how to read what comes back. Asking and judging are apart, so every
 * judgement is tested with a literal. Lenient where real providers are odd and harmless, strict where a mistake costs a token.
 */
import { createHash } from 'node:crypto'
import { Secret } from '../../lib/secret.ts'
import { type ConnectionConfig, configValues } from '../../provider/endpoint.ts'
import type { Provider } from '../../provider/schema.ts'
import { expand } from '../../provider/template.ts'

export interface Client {
  id: string
  secret: Secret | null
}

/** RFC 7636 §4.2. `plain` does not exist here. */
export const s256 = (verifier: string): string => createHash('sha256').update(verifier, 'ascii').digest('base64url')

/** Secrets that one sign-in may bring, as the wire contract calls them. Never among the facts of an account: those are kept in the clear. */
export const secretNames = ['oauth_client_secret_override', 'oauth_refresh_token_override'] as const

/** Parameters that carry the security of the flow; neither provider data nor a session may replace them. */
export const reservedParams = new Set([
  // RFC 9101 §6.3: what stands in a request object counts instead of all that is said here, state and challenge included.
  'request',
  'request_uri',
  'registration',
  // Another than the query, and the code comes back where nobody looks for it.
  'response_mode',
  'response_type',
  'client_id',
  'redirect_uri',
  'scope',
  'state',
  'code_challenge',
  'code_challenge_method',
])

interface Authorization {
  provider: Provider
  /** `authorization_url`, expanded and checked. */
  url: URL
  clientId: string
  redirectUri: string
  scopes: readonly string[]
  state: string
  verifier: string
  config: ConnectionConfig
  /** Extra parameters of the session; the text "undefined" removes one. */
  extra: Record<string, string>
}

/** RFC 6749 §4.1.1 with RFC 7636 §4.3. */
export function authorizationUrl(request: Authorization): string {
  const { provider, url, config } = request
  const params = new URLSearchParams(url.search)
  const set = (name: string, value: string) => {
    if (value === 'undefined') params.delete(name)
    else if (value !== '' || !provider.authorization_url_skip_empty) params.set(name, value)
  }
  for (const [name, source] of Object.entries(provider.authorization_params ?? {}))
    set(name, expand(source, configValues(config)) ?? '')
  for (const [name, value] of Object.entries(request.extra)) if (!reservedParams.has(name)) set(name, value)
  params.set('response_type', 'code')
  params.set('client_id', request.clientId)
  params.set('redirect_uri', request.redirectUri)
  params.set('state', request.state)
  if (!provider.disable_pkce) {
    params.set('code_challenge', s256(request.verifier))
    params.set('code_challenge_method', 'S256')
  }
  const scope = request.scopes.join(provider.scope_separator ?? ' ')
  const scopeAsIs = provider.authorization_url_skip_encode?.includes('scopes')
  if (scope && !scopeAsIs) params.set('scope', scope)
  const query = params.toString() + (scope && scopeAsIs ? `&scope=${scope}` : '')
  const fragment = provider.authorization_url_fragment
  let text = `${url.origin}${url.pathname}${fragment ? `#${fragment}` : ''}?${query}`
  for (const [from, to] of Object.entries(provider.authorization_url_replacements ?? {}))
    text = text.replaceAll(from, to)
  return text
}

export interface TokenRequest {
  headers: Record<string, string>
  body: string
}

export const codeGrant = (provider: Provider, code: string, redirectUri: string, verifier: string) => ({
  grant_type: 'authorization_code',
  code,
  redirect_uri: redirectUri,
  ...(!provider.disable_pkce && { code_verifier: verifier }),
})

/** RFC 6749 §6. No `scope`: asking for the granted scopes again breaks some providers and narrows nothing. */
export const refreshGrant = (refreshToken: Secret) => ({
  grant_type: 'refresh_token',
  refresh_token: refreshToken.reveal(),
})

/**
 * RFC 6749 §2.3.1: the client authenticates one way per request, in the body unless provider data moves it to the header,
 * where id and secret are form-encoded before they are joined.
 */
export function tokenRequest(
  provider: Provider,
  client: Client,
  params: Record<string, string>,
  config: ConnectionConfig,
): TokenRequest {
  const header = provider.authorization_method === 'header' || provider.token_request_auth_method === 'basic'
  const extra = Object.entries(
    (params.grant_type === 'refresh_token' ? provider.refresh_params : undefined) ?? provider.token_params ?? {},
  ).flatMap(([name, source]): [string, string][] => {
    const value = typeof source === 'string' ? expand(source, configValues(config)) : undefined
    return value === undefined ? [] : [[name, value]]
  })
  const members = {
    ...Object.fromEntries(extra),
    ...params,
    ...(!header && { client_id: client.id, ...(client.secret && { client_secret: client.secret.reveal() }) }),
  }
  const json = provider.body_format === 'json'
  return {
    headers: {
      accept: 'application/json',
      'content-type': json ? 'application/json' : 'application/x-www-form-urlencoded',
      ...(header && { authorization: basic(client) }),
    },
    body: json ? JSON.stringify(members) : new URLSearchParams(members).toString(),
  }
}

const formEncode = (text: string): string => new URLSearchParams({ '': text }).toString().slice(1)

const basic = (client: Client): string =>
  `Basic ${Buffer.from(`${formEncode(client.id)}:${formEncode(client.secret?.reveal() ?? '')}`).toString('base64')}`

export interface TokenSet {
  accessToken: Secret
  refreshToken: Secret | undefined
  tokenType: string
  /** From now on, in milliseconds; undefined when the provider does not say (Salesforce). */
  lifeMs: number | undefined
  /** Undefined: as requested (RFC 6749 §5.1). */
  scopes: string[] | undefined
  /** The whole response. Sealed with the tokens, never logged. */
  raw: Record<string, unknown>
  /** What the owner of the account gave, where it was not a sign-in alone. Sealed with the tokens, too. */
  given?: Readonly<Record<string, string>>
}

export type TokenAnswer =
  | { kind: 'tokens'; tokens: TokenSet }
  /** RFC 6749 §5.2, also when it comes with status 200. */
  | { kind: 'error'; error: string; description: string; status: number }
  | { kind: 'unreadable'; status: number; reason: string }
  | { kind: 'unsupported_type'; tokenType: string }

/** Types that need a proof Fairlead does not make yet; every other type, however odd, is presented as a bearer token. */
const unsupportedTypes = new Set(['mac', 'dpop', 'pop'])

/** Reads a token response: JSON whatever its label, else form-encoded (RFC 6749 never, real providers sometimes). */
export function readTokenAnswer(provider: Provider, status: number, body: Buffer, wallNow: number): TokenAnswer {
  const raw = parseMembers(body)
  if (!raw)
    return {
      kind: 'unreadable',
      status,
      reason: status >= 200 && status < 300 ? 'not a token response' : 'not an error response',
    }
  const error = text(raw.error)
  if (error || status < 200 || status >= 300)
    return error
      ? { kind: 'error', error: clip(error), description: clip(text(raw.error_description) ?? ''), status }
      : { kind: 'unreadable', status, reason: 'an error without a code' }

  const found = provider.alternate_access_token_response_path
    ? at(raw, provider.alternate_access_token_response_path)
    : undefined
  const holder = text(raw.access_token) ? raw : isObject(found) ? found : { ...raw, access_token: found }
  const accessToken = text(holder.access_token)
  if (!accessToken) return { kind: 'unreadable', status, reason: 'no access token in it' }
  const tokenType = text(holder.token_type) ?? text(raw.token_type) ?? 'Bearer'
  if (unsupportedTypes.has(tokenType.toLowerCase())) return { kind: 'unsupported_type', tokenType: clip(tokenType) }
  const refreshToken = text(holder.refresh_token)
  return {
    kind: 'tokens',
    tokens: {
      accessToken: new Secret(accessToken),
      refreshToken: refreshToken ? new Secret(refreshToken) : undefined,
      tokenType,
      lifeMs: lifeOf(provider, holder, accessToken, wallNow),
      scopes: scopesOf(holder.scope ?? raw.scope),
      raw,
    },
  }
}

/** JSON whatever its label, else form-encoded. */
export function parseMembers(body: Buffer): Record<string, unknown> | undefined {
  const source = body
    .toString('utf8')
    .replace(/^\uFEFF/, '')
    .trim()
  try {
    const parsed: unknown = JSON.parse(source)
    return isObject(parsed) ? parsed : undefined
  } catch {
    if (!/^[A-Za-z0-9_.-]+=[^<>\s]*$/.test(source)) return undefined
    return Object.fromEntries(new URLSearchParams(source))
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A non-empty string; `null`, an empty string and every other type count as absent. */
const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)

/** What a provider wrote is shown as text and not at length. */
export const clip = (value: string): string => value.replace(/\p{Cc}+/gu, ' ').slice(0, 512)

/** A member of a response by its dotted path; own members only. */
export function at(value: unknown, path: string): unknown {
  let here = value
  for (const name of path.split('.')) {
    if (!isObject(here) || !Object.hasOwn(here, name)) return undefined
    here = here[name]
  }
  return here
}

const longestLifeMs = 10 * 365 * 24 * 3600 * 1000

function lifeOf(
  provider: Provider,
  holder: Record<string, unknown>,
  accessToken: string,
  wallNow: number,
): number | undefined {
  const unit = provider.expires_in_unit === 'milliseconds' ? 1 : 1000
  const given = holder.expires_in === null || holder.expires_in === '' ? Number.NaN : Number(holder.expires_in) * unit
  const claimed = given > 0 ? given : jwtLife(accessToken, wallNow)
  return claimed !== undefined && claimed > 0 && claimed <= longestLifeMs ? Math.floor(claimed) : undefined
}

/** A JWT says itself when it ends (RFC 7519 §4.1.4). Read, not verified: it is ours only to know when to renew. */
function jwtLife(token: string, wallNow: number): number | undefined {
  const payload = token.split('.')[1]
  if (token.split('.').length !== 3 || !payload) return undefined
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString())
    const exp = isObject(claims) ? Number(claims.exp) : Number.NaN
    return Number.isFinite(exp) ? exp * 1000 - wallNow : undefined
  } catch {
    return undefined
  }
}

/** RFC 6749 §3.3, and the ways it is not kept. */
export function scopesOf(scope: unknown): string[] | undefined {
  if (Array.isArray(scope)) return scope.filter(item => typeof item === 'string' && item !== '')
  return text(scope)
    ?.split(/[\s,]+/)
    .filter(item => item !== '')
}

/** What the response says about the account, each under its path: `token_response_metadata` and `token_response_captures` of provider data. */
export function factsOf(provider: Provider, raw: Record<string, unknown>): Record<string, string | boolean> {
  const facts: Record<string, string | boolean> = {}
  for (const path of provider.token_response_metadata ?? []) {
    const value = at(raw, path)
    if ((typeof value === 'string' && value !== '') || typeof value === 'boolean') facts[path] = value
  }
  for (const [path, pattern] of Object.entries(provider.token_response_captures ?? {})) {
    const value = at(raw, path)
    if (typeof value === 'string') Object.assign(facts, new RegExp(pattern).exec(value.slice(0, 2048))?.groups)
  }
  return facts
}

/** Names only the provider may fill: marked automated, or read from its token response or its callback without being asked for. */
export function automatedFacts(provider: Provider): Set<string> {
  const captured = Object.values(provider.token_response_captures ?? {}).flatMap(pattern =>
    [...pattern.matchAll(/\(\?<([A-Za-z_]\w*)>/g)].map(match => match[1]!),
  )
  const marked = Object.entries(provider.connection_config ?? {}).flatMap(([name, field]) =>
    field.automated ? [name] : [],
  )
  return new Set([
    ...marked,
    ...captured,
    ...(provider.token_response_metadata ?? []),
    ...(provider.redirect_uri_metadata ?? []).filter(name => provider.connection_config?.[name] === undefined),
  ])
}
