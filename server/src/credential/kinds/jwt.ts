/**
 * A token we sign ourselves with a key its owner gave (RFC 7519): nobody is asked for it, and it is made anew shortly before its end.
 * `token` and `signature` of provider data say what is in it.
 */
import { createHmac, createPrivateKey, type KeyObject, randomUUID, sign } from 'node:crypto'
import { Failure } from '../../errors.ts'
import { Secret } from '../../lib/secret.ts'
import { expand } from '../../provider/template.ts'
import { bearer, shownEnd } from './bearer.ts'
import { type Exchange, filled, givenValues, type Kind, missing, type Obtaining } from './kind.ts'

export const jwt: Kind = {
  name: 'jwt',
  type: 'JWT',
  fields: {},
  renewsFrom: 'given',
  obtain,
  shown: held => ({ ...held.given, token: held.accessToken.reveal(), ...shownEnd(held) }),
  ...bearer,
}

// biome-ignore lint/correctness/useYield: nobody has to be asked
function* obtain(from: Obtaining): Exchange {
  const { provider, wallNow } = from
  const { token, signature } = provider
  if (!token) throw missing(provider, 'token')
  const values = givenValues(from)
  const key = expand(token.signing_key, values)
  if (key === undefined) throw missing(provider, 'token.signing_key')
  const lifeMs = token.expires_in_ms ?? 300_000
  const made = signJwt({
    protocol: signature?.protocol ?? 'RSA',
    hmacEncoding: signature?.hmac_secret_encoding,
    key,
    header: filled(token.header ?? {}, values) as Record<string, unknown>,
    payload: filled(token.payload ?? {}, values) as Record<string, unknown>,
    lifeMs,
    wallNow,
  })
  const tokens = {
    accessToken: new Secret(made),
    refreshToken: undefined,
    tokenType: 'Bearer',
    lifeMs,
    scopes: undefined,
    raw: {},
  }
  return { kind: 'tokens', tokens }
}

interface Signing {
  protocol: 'RSA' | 'HMAC' | 'EC'
  hmacEncoding?: string | undefined
  key: string
  header: Record<string, unknown>
  payload: Record<string, unknown>
  lifeMs: number
  wallNow: number
}

const algorithms = { RSA: 'RS256', HMAC: 'HS256', EC: 'ES256' } as const

/** RFC 7515 §3.1. `iat` and `exp` are ours to say; a provider's definition may word them otherwise. */
export function signJwt({ protocol, hmacEncoding, key, header, payload, lifeMs, wallNow }: Signing): string {
  const now = Math.floor(wallNow / 1000)
  const head = { typ: 'JWT', alg: algorithms[protocol], ...header }
  const claims: Record<string, unknown> = { iat: now, exp: now + Math.floor(lifeMs / 1000), ...numbers(payload) }
  if (protocol !== 'HMAC' && claims.jti === undefined) claims.jti = randomUUID()
  const signed = `${encoded(head)}.${encoded(claims)}`
  return `${signed}.${signatureOf(protocol, String(head.alg), key, hmacEncoding, signed).toString('base64url')}`
}

const encoded = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url')

/** NumericDate claims (RFC 7519 §2) that came out of a template as text. */
const numbers = (payload: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(payload).map(([name, value]) =>
      /^(iat|exp|nbf)$/.test(name) && typeof value === 'string' && /^\d+$/.test(value)
        ? [name, Number(value)]
        : [name, value],
    ),
  )

function signatureOf(
  protocol: Signing['protocol'],
  algorithm: string,
  key: string,
  hmacEncoding: string | undefined,
  text: string,
): Buffer {
  const bits = /(256|384|512)$/.exec(algorithm)?.[1] ?? '256'
  if (protocol === 'HMAC') {
    const encoding = hmacEncoding === 'hex' || hmacEncoding === 'base64' ? hmacEncoding : 'utf8'
    return createHmac(`sha${bits}`, Buffer.from(key, encoding)).update(text).digest()
  }
  const given = privateKey(key)
  // RFC 7518 §3.4: the two numbers side by side, not as DER.
  return sign(`sha${bits}`, Buffer.from(text), protocol === 'EC' ? { key: given, dsaEncoding: 'ieee-p1363' } : given)
}

/** PEM as people paste it: with `\n` written out, or the body alone. */
export function privateKey(text: string): KeyObject {
  const lines = text.trim().replaceAll('\\n', '\n')
  const pem = lines.includes('-----BEGIN') ? lines : `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----`
  try {
    return createPrivateKey(pem)
  } catch (error) {
    throw new Failure('credential_malformed', {
      message: 'The private key cannot be read. Paste the whole PEM text, from -----BEGIN to -----END.',
      cause: (error as Error).message,
    })
  }
}
