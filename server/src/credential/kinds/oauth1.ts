/**
 * OAuth 1.0a (RFC 5849): a token and its secret, with which every call is signed. The three requests of its sign-in are in
 * `connect/`; what is signed, and how, is here.
 */
import { createHmac, randomBytes, sign } from 'node:crypto'
import type { Provider } from '../../provider/schema.ts'
import { privateKey } from './jwt.ts'
import type { Kind } from './kind.ts'

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
    oauth_version: '1.0',
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
