/**
 * The family of credentials. One handler serves every kind at each phase of its life (connect/submit, connection/import, refresh, the
 * proxy); a kind is one small object that says what is its own. All of it is pure: a kind writes down requests and reads answers, and
 * others send them.
 */
import { Failure } from '../../errors.ts'
import type { Secret } from '../../lib/secret.ts'
import { type ConnectionConfig, configValues } from '../../provider/endpoint.ts'
import type { FormField, Provider } from '../../provider/schema.ts'
import { expand, type Values } from '../../provider/template.ts'
import type { Client, TokenAnswer } from './oauth2-code.ts'

/** As the column `credential.kind` has it. */
export type KindName = 'oauth2-code' | 'oauth2-client' | 'oauth1' | 'api-key' | 'basic' | 'jwt' | 'two-step' | 'none'

/** What its owner gave, by the names of the form: sealed with the tokens, and all that a kind without a sign-in is renewed from. */
export type Given = Readonly<Record<string, string>>

/** A credential as a kind sees it. */
export interface Held {
  config: ConnectionConfig
  accessToken: Secret
  refreshToken: Secret | undefined
  given: Given
  raw: Record<string, unknown>
  expiresAt: Date | null
}

export interface Request {
  method: 'GET' | 'POST'
  url: URL
  headers: Record<string, string>
  body?: string
}

export interface Response {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}

/** Requests one after the other, each answered before the next is written, and at last what they came to. */
export type Exchange = Generator<Request, TokenAnswer, Response>

/** What an exchange may use. */
export interface Obtaining {
  provider: Provider
  /** The integration's own. */
  client: Client
  /** What the developer set once for all connections: fields of `integration_config`. */
  settings: Given
  config: ConnectionConfig
  given: Given
  scopes: readonly string[]
  wallNow: number
}

/** What of a proxied call a signature covers. */
export interface Signed {
  method: string
  /** Scheme, host and port. */
  origin: string
  /** Path and query, as they are sent. */
  path: string
  /** The body, where it is a form that is here whole. */
  form: string | undefined
}

export interface Kind {
  name: KindName
  /** `auth_mode` of provider data, and `type` on the wire. */
  type: Provider['auth_mode']
  /** What its owner is asked for; provider data adds to it and words it better. */
  fields: Readonly<Record<string, FormField>>
  /** From what was given to what is presented. Undefined: a sign-in brings it. */
  obtain?: (from: Obtaining) => Exchange
  /** What the next renewal presents. Undefined: it is never renewed. */
  renewsFrom?: 'refresh_token' | 'given'
  /** As the wire shows it, without `type`. */
  shown(held: Held): Record<string, unknown>
  /** Names by which templates of provider data read it, beside `credentials.x`. */
  values(held: Held): Record<string, string>
  /** The `Authorization` of a call; undefined where provider data alone says how it is presented. */
  authorization?: (held: Held, call: Signed, by: { provider: Provider; client: Client }) => string | undefined
  /** `authorization` covers the call and is made anew for each. */
  signs?: true
}

/** What templates of an exchange read: facts of the account, what the owner and the developer gave, and the client. */
export const givenValues = ({ config, given, settings, client }: Obtaining): Map<string, string> =>
  new Map([
    ...configValues(config),
    ...both(settings, 'credentials.'),
    ...both(settings, 'integrationConfig.'),
    ...both(given, 'credentials.'),
    ...(client.id ? [['clientId', client.id] as const] : []),
    ...(client.secret ? [['clientSecret', client.secret.reveal()] as const] : []),
  ])

const both = (members: Given, prefix: string): [string, string][] =>
  Object.entries(members).flatMap(([name, value]): [string, string][] => [
    [`${prefix}${name}`, value],
    [name, value],
  ])

/** A document of provider data with its templates filled in; members that do not resolve are left out. */
export function filled(source: unknown, values: Values): unknown {
  if (typeof source === 'string') return expand(source, values)
  if (Array.isArray(source)) return source.map(one => filled(one, values)).filter(one => one !== undefined)
  if (typeof source !== 'object' || source === null) return source
  return Object.fromEntries(
    Object.entries(source).flatMap(([name, one]): [string, unknown][] => {
      const value = filled(one, values)
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

/** `filled`, of a flat one. */
export const filledTexts = (source: Readonly<Record<string, unknown>>, values: Values): Record<string, string> =>
  Object.fromEntries(
    Object.entries(filled(source, values) as Record<string, unknown>).map(([name, value]) => [name, String(value)]),
  )

/** A fact without which no request can be written. */
export const missing = (provider: Provider, what: string): Failure =>
  new Failure('connection_config_missing', { cause: `${provider.name}: ${what} does not resolve` })
