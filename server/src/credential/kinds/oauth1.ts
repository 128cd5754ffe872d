/**
 * OAuth 1.0a (RFC 5849): a token and its secret, with which every call is signed. What is signed, and how, is here, and what the two
 * requests of its sign-in say and how their answers read; they are sent in `connect/`.
 */
import { createHmac, randomBytes, sign } from 'node:crypto'
import { Secret } from '../../lib/secret.ts'
import { type ConnectionConfig, configValues } from '../../provider/endpoint.ts'
import type { Provider } from '../../provider/schema.ts'
import { expand } from '../../provider/template.ts'
import { privateKey } from './jwt.ts'
import type { Kind, Request } from './kind.ts'
import { type Client, clip, parseMembers, type TokenAnswer } from './oauth2-code.ts'

export const oauth1: Kind = {
  name: 'oauth1',
  type: 'OAUTH1',
  fields: {},
  shown: ({ accessToken, given, raw }) => ({
    oauth_token: accessToken.reveal(),
    oauth_token_secret: given.oauth_token_secret ?? '',
    raw,
  }),
  values: ({ accessToken, given }) => ({
    oauth_token: accessToken.reveal(),
    oauth_token_secret: given.oauth_token_secret ?? '',
  }),
  authorization: (held, call, { provider, client }) =>
    signedHeader(provider, {
      ...call,
      consumer: { key: client.id, secret: client.secret?.reveal() ?? '' },
      token: { key: held.accessToken.reveal(), secret: held.given.oauth_token_secret ?? '' },
    }),
  signs: true,
}

export interface Signing {
  method: string
  origin: string
  path: string
  form: string | undefined
  consumer: { key: string; secret: string }
  token?: { key: string; secret: string }
  /** `oauth_callback`, `oauth_verifier`. */
  extra?: Record<string, string>
  /** Given by tests alone. */
  nonce?: string
  timestamp?: string
  /** The examples of the RFC leave `oauth_version` out, which it allows. */
  unversioned?: true
}

/** §3.6: stricter than encodeURIComponent. */
const escaped = (text: string): string =>
  encodeURIComponent(text.toWellFormed()).replace(
    /[!'()*]/g,
    char => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )

/** §3.5.1: the header, with the signature of everything else in it, of the query and of a form (§3.4.1.3). */
export function signedHeader(provider: Pick<Provider, 'signature_method'>, signing: Signing): string {
  const method = provider.signature_method ?? 'HMAC-SHA1'
  const oauth: Record<string, string> = {
    oauth_consumer_key: signing.consumer.key,
    oauth_nonce: signing.nonce ?? randomBytes(16).toString('hex'),
    oauth_signature_method: method,
    oauth_timestamp: signing.timestamp ?? String(Math.floor(Date.now() / 1000)),
    ...(signing.token && { oauth_token: signing.token.key }),
    ...(!signing.unversioned && { oauth_version: '1.0' }),
    ...signing.extra,
  }
  const cut = signing.path.indexOf('?')
  const pairs: [string, string][] = [
    ...Object.entries(oauth),
    ...new URLSearchParams(cut < 0 ? '' : signing.path.slice(cut + 1)),
    ...new URLSearchParams(signing.form ?? ''),
  ]
  // §3.4.1.3.2: sorted by bytes, after encoding.
  const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  const normalized = pairs
    .map(([name, value]): [string, string] => [escaped(name), escaped(value)])
    .sort(([a, x], [b, y]) => order(a, b) || order(x, y))
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
  const address = `${signing.origin.toLowerCase()}${cut < 0 ? signing.path : signing.path.slice(0, cut)}`
  const base = [signing.method.toUpperCase(), address, normalized].map(escaped).join('&')
  const { consumer, token } = signing
  const all = { ...oauth, oauth_signature: signatureOf(method, base, consumer.secret, token?.secret ?? '') }
  return `OAuth ${Object.entries(all)
    .map(([name, value]) => `${escaped(name)}="${escaped(value)}"`)
    .join(', ')}`
}

/** §3.4.2, §3.4.3, §3.4.4; HMAC-SHA256 as its users spell it. */
function signatureOf(method: string, base: string, consumerSecret: string, tokenSecret: string): string {
  const key = `${escaped(consumerSecret)}&${escaped(tokenSecret)}`
  switch (method) {
    case 'PLAINTEXT':
      return key
    case 'RSA-SHA1':
      return sign('sha1', Buffer.from(base), privateKey(consumerSecret)).toString('base64')
    case 'HMAC-SHA256':
      return createHmac('sha256', key).update(base).digest('base64')
    default:
      return createHmac('sha1', key).update(base).digest('base64')
  }
}

/** Token and secret, of a sign-in under way or of an account. */
export interface Pair {
  key: string
  secret: string
}

interface Asking {
  provider: Provider
  client: Client
  config: ConnectionConfig
  url: URL
}

/** §2.1. */
export const temporaryRequest = (asking: Asking, callback: string): Request =>
  signedRequest(asking, asking.provider.request_http_method, asking.provider.request_params, {
    extra: { oauth_callback: callback },
  })

/** §2.3. */
export const tokenRequest = (asking: Asking, temporary: Pair, verifier: string): Request =>
  signedRequest(asking, asking.provider.token_http_method, undefined, {
    token: temporary,
    extra: { oauth_verifier: verifier },
  })

/** POST, with parameters of the provider's as a form; where provider data says GET, in the query. */
function signedRequest(
  { provider, client, config, url }: Asking,
  httpMethod: string | undefined,
  own: Record<string, string> | undefined,
  signing: Pick<Signing, 'token' | 'extra'>,
): Request {
  const method = httpMethod?.toUpperCase() === 'GET' ? 'GET' : 'POST'
  const params = Object.entries(own ?? {}).flatMap(([name, source]): [string, string][] => {
    const value = expand(source, configValues(config))
    return value === undefined ? [] : [[name, value]]
  })
  const form = method === 'POST' && params.length > 0 ? new URLSearchParams(params).toString() : undefined
  const at = new URL(url)
  if (method === 'GET') for (const [name, value] of params) at.searchParams.append(name, value)
  const authorization = signedHeader(provider, {
    ...{ method, origin: at.origin, path: `${at.pathname}${at.search}`, form, ...signing },
    consumer: { key: client.id, secret: client.secret?.reveal() ?? '' },
  })
  return {
    method,
    url: at,
    headers: {
      authorization,
      ...(form !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
    },
    ...(form !== undefined && { body: form }),
  }
}

/** Nothing else in the address may say whose sign-in this is. */
const reserved = new Set(['oauth_token', 'oauth_callback', 'oauth_verifier'])

/** §2.2. `extra`: parameters of the session; the text "undefined" removes one of the provider's. */
export function authorizationPage(
  { provider, config, url }: Omit<Asking, 'client'>,
  temporary: Pair,
  extra: Record<string, string>,
): string {
  const at = new URL(url)
  for (const [name, source] of Object.entries(provider.authorization_params ?? {}))
    at.searchParams.set(name, expand(source, configValues(config)) ?? '')
  for (const [name, value] of Object.entries(extra)) {
    if (value === 'undefined') at.searchParams.delete(name)
    else if (!reserved.has(name)) at.searchParams.set(name, value)
  }
  at.searchParams.set('oauth_token', temporary.key)
  return at.href
}

/** Both answers are forms with a token and its secret (§2.1, §2.3); refusals are whatever the provider likes. */
export function readAnswer(status: number, body: Buffer): TokenAnswer {
  const raw = parseMembers(body)
  const member = (name: string): string => (typeof raw?.[name] === 'string' ? raw[name] : '')
  if (status < 200 || status >= 300) {
    const said = body.toString('utf8').trim()
    // https://wiki.oauth.net/w/page/12238543/ProblemReporting, where a provider knows it.
    const problem = member('oauth_problem') || member('error')
    const description = member('oauth_problem_advice') || (problem || said.startsWith('<') ? '' : said)
    return { kind: 'error', error: clip(problem || `HTTP ${status}`), description: clip(description), status }
  }
  const [token, secret] = [member('oauth_token'), member('oauth_token_secret')]
  if (!raw || !token || !secret) return { kind: 'unreadable', status, reason: 'no token with a secret in it' }
  return {
    kind: 'tokens',
    tokens: {
      ...{ accessToken: new Secret(token), refreshToken: undefined, given: { oauth_token_secret: secret } },
      ...{ tokenType: 'OAuth', lifeMs: undefined, scopes: undefined, raw },
    },
  }
}
