/**
 * A login of the provider's own making: what the owner gave goes to `token_url`, a token comes back, and `additional_steps` may exchange it
 * further. A signed assertion (RFC 7523 §2.1) can be among what is sent: `assertion` of provider data, read as `${assertion}`. Renewed by
 * logging in again.
 */
import { Failure } from '../../errors.ts'
import { Secret } from '../../lib/secret.ts'
import { untilMs } from '../../lib/time.ts'
import { endpointFrom, tokenUrlOf } from '../../provider/endpoint.ts'
import type { LoginStep, Provider } from '../../provider/schema.ts'
import { expand, type Values } from '../../provider/template.ts'
import { loginRefused, shownEnd } from './bearer.ts'
import { signJwt } from './jwt.ts'
import {
  type Exchange,
  filled,
  filledTexts,
  givenValues,
  type Held,
  type Kind,
  missing,
  type Obtaining,
  type Request,
  type Response,
} from './kind.ts'
import { at, clip, parseMembers, scopesOf, type TokenAnswer } from './oauth2-code.ts'

export const twoStep: Kind = {
  name: 'two-step',
  type: 'TWO_STEP',
  fields: {},
  renewsFrom: 'given',
  obtain,
  shown: held => ({ ...held.given, token: held.accessToken.reveal(), ...shownEnd(held), raw: held.raw }),
  values: held => ({
    accessToken: held.accessToken.reveal(),
    token: held.accessToken.reveal(),
    ...(cookiesOf(held) && { 'credentials._cookies': cookiesOf(held)! }),
  }),
  authorization: (held, _call, { provider }) =>
    presentsItself(provider) ? undefined : `Bearer ${held.accessToken.reveal()}`,
}

const cookiesOf = ({ raw }: Held): string | undefined => (typeof raw._cookies === 'string' ? raw._cookies : undefined)

/** Its definition says where the token goes. */
const presentsItself = ({ proxy }: Provider): boolean =>
  [...Object.values(proxy?.headers ?? {}), ...Object.values(proxy?.query ?? {})].some(text =>
    /accessToken|_cookies|\btoken\b/.test(text),
  )

function* obtain(from: Obtaining): Exchange {
  const { provider, wallNow } = from
  const values = givenValues(from)
  if (provider.assertion) values.set('assertion', assertion(from, values))
  const steps: LoginStep[] = [{ ...provider, token_url: tokenUrlOf(provider) }, ...(provider.additional_steps ?? [])]
  let last: Record<string, unknown> = {}
  let cookies = ''
  for (const [i, step] of steps.entries()) {
    const answer: Response = yield request(provider, step, values)
    const read = readStep(answer)
    if ('kind' in read) return read
    last = read.members
    remember(values, `step${i + 1}`, last)
    cookies = [cookies, cookiesFrom(provider, answer)].filter(Boolean).join('; ')
  }

  const said = provider.token_response ?? {}
  const token =
    text(at(last, said.token ?? 'access_token')) ?? (said.token?.includes('${') && expand(said.token, values))
  if (!token && !cookies) return { kind: 'unreadable', status: 200, reason: 'no token in it' }
  return {
    kind: 'tokens',
    tokens: {
      accessToken: new Secret(token || cookies),
      refreshToken: undefined,
      tokenType: 'Bearer',
      lifeMs: lifeOf(provider, last, wallNow),
      scopes: scopesOf(last.scope),
      raw: { ...last, ...(cookies && { _cookies: cookies }) },
    },
  }
}

function assertion(from: Obtaining, values: Values): string {
  const { provider, wallNow } = from
  const { algorithm, signing_key, header, payload, expires_in_ms } = provider.assertion!
  const key = expand(signing_key, values)
  if (key === undefined) throw missing(provider, 'assertion.signing_key')
  return signJwt({
    protocol: algorithm?.startsWith('ES') ? 'EC' : algorithm?.startsWith('HS') ? 'HMAC' : 'RSA',
    key,
    header: { ...(algorithm && { alg: algorithm }), ...(filled(header ?? {}, values) as Record<string, unknown>) },
    payload: filled(payload, values) as Record<string, unknown>,
    lifeMs: expires_in_ms ?? 180_000,
    wallNow,
  })
}

function request(provider: Provider, step: LoginStep, values: Values): Request {
  const url = endpointFrom(provider, step.token_url ?? '', values)
  if (!url) throw missing(provider, 'token_url')
  const method = step.token_request_method?.toUpperCase() === 'GET' ? 'GET' : 'POST'
  const members = filled(step.token_params ?? {}, values) as Record<string, unknown>
  const format = step.body_format ?? 'json'
  const given = filledTexts(step.token_headers ?? {}, values)
  const headers = Object.fromEntries(Object.entries(given).map(([name, value]) => [name.toLowerCase(), value]))
  headers.accept ??= 'application/json'
  if (method === 'GET' || format === 'query') {
    for (const [name, value] of Object.entries(members)) url.searchParams.set(name, String(value))
    return { method, url, headers }
  }
  if (format === 'xml') throw new Failure('provider_unsupported', { cause: `${provider.name}: body_format xml` })
  const json = format === 'json' && headers['content-type'] !== 'application/x-www-form-urlencoded'
  headers['content-type'] ??= json ? 'application/json' : 'application/x-www-form-urlencoded'
  const texts = () => Object.entries(members).map(([name, value]): [string, string] => [name, String(value)])
  return { method, url, headers, body: json ? JSON.stringify(members) : new URLSearchParams(texts()).toString() }
}

function readStep({ status, body }: Response): { members: Record<string, unknown> } | TokenAnswer {
  const members = parseMembers(body)
  if (status >= 200 && status < 300 && (members || body.length === 0)) return { members: members ?? {} }
  const said = members && [members.error_description, members.message, members.error, members.detail].find(text)
  const error = text(members?.error)
  // RFC 6749 §5.2 where it is spoken, also in capitals (OAUTH_APP_BLOCKED); else the status says whether the login was refused.
  if (error && status >= 400 && status < 500 && /^([a-z_]+|[A-Z]+(_[A-Z]+)+)$/.test(error))
    return { kind: 'error', error, description: clip(String(said)), status }
  if (status === 401 || status === 403)
    return { kind: 'error', error: loginRefused, description: clip(text(said) ?? `HTTP ${status}`), status }
  return { kind: 'unreadable', status, reason: clip(text(said) ?? 'not the answer of a login') }
}

/** `${step1.user.id}` in what comes after. */
function remember(values: Map<string, string>, prefix: string, members: unknown, depth = 0): void {
  if (depth > 6) return
  if (typeof members === 'object' && members !== null)
    for (const [name, value] of Object.entries(members)) remember(values, `${prefix}.${name}`, value, depth + 1)
  else if (members !== null && members !== undefined) values.set(prefix, String(members))
}

function cookiesFrom({ token_response_headers: wanted }: Provider, { headers }: Response): string {
  if (!wanted?.some(name => name.toLowerCase() === 'set-cookie')) return ''
  return [headers['set-cookie'] ?? []]
    .flat()
    .map(line => line.split(';')[0]!.trim())
    .join('; ')
}

function lifeOf(provider: Provider, members: Record<string, unknown>, wallNow: number): number | undefined {
  const { token_expiration, token_expiration_strategy: strategy } = provider.token_response ?? {}
  const said = token_expiration ? at(members, token_expiration) : undefined
  if (typeof said === 'string' || typeof said === 'number') {
    const unit = provider.expires_in_unit === 'milliseconds' ? 1 : 1000
    const left = strategy === 'expireAt' ? untilMs(String(said), wallNow) : Number(said) * unit
    if (left !== undefined && left > 0) return left
  }
  // 0: it has no end that anybody knows.
  return provider.token_expires_in_ms || undefined
}

const text = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : typeof value === 'number' ? String(value) : undefined
