/**
 * Who is calling. This room owns environments, API keys and operators; it turns a presented key, or an operator's cookie, into a caller and
 * refuses what lacks a scope. Called by every room with routes (through `secured`) and by the proxy.
 */
import { hash } from 'node:crypto'
import type { Context, MiddlewareHandler } from 'hono'
import type { Actor } from '../audit/audit.ts'
import { type Outage, outageMs } from '../db/outage.ts'
import { Failure } from '../errors.ts'
import { incomingOf } from '../http/api.ts'
import { createCache, type Lookups } from '../lib/cache.ts'
import { minutes } from '../lib/time.ts'
import { type Limits, type Standing, standingHeaders } from '../limit/limits.ts'
import { type AddressOf, isLoopback, networkOf } from '../net/caller-address.ts'
import type { Db } from '../seams.ts'
import { scopesOf } from './operator/roles.ts'
import { addressOf, askedOf, type OperatorCaller, type Operators } from './operator/session.ts'
import type { KeyedHash } from './pepper.ts'
import { type Environment, findKey, markKeyUsed } from './store.ts'

export interface KeyCaller {
  kind: 'key'
  environment: Environment
  keyId: number
  keyName: string
  scopes: readonly string[]
  /** Requests a minute; null: as many as it likes. */
  limits: { key: number | null; environment: number | null }
}

/** An end user in Connect UI: may list the integrations the session allows and sign in, nothing else. */
export interface SessionCaller {
  kind: 'session'
  environment: Environment
  sessionId: number
  /** Empty: all. */
  allowedIntegrations: readonly string[]
}

/** Whoever works in an environment: the product's server by its key, a person by the dashboard. */
export type EnvironmentCaller = KeyCaller | OperatorCaller
export type Caller = EnvironmentCaller | SessionCaller

export interface Callers {
  /** Without a promise when it is in memory: on the proxy's path each promise made and awaited costs three turns of the microtask queue. */
  byKey(presented: string, from: From): KeyCaller | Promise<KeyCaller>
  bySessionToken(presented: string): Promise<SessionCaller>
  operators: Operators
  /** What is left of the caller's minute; undefined when nobody set a limit. Throws `too_many_request`. */
  count(caller: KeyCaller): Standing | undefined
  /** Throws `too_many_request` when this address has sent too many of these. */
  countAddress(what: 'start' | 'callback' | 'sign_in', from: From): void
  /** Throws `too_many_request`. */
  countSession(caller: EnvironmentCaller): void
  forget(): void
  /** Something may have changed unheard: all is read anew, as soon as the database answers. */
  doubt(): void
  /** Of keys. */
  lookups: Lookups
}

/** Where a request came from. */
type From = Parameters<AddressOf>[0]

/**
 * Requests a minute that nobody has to ask for. Far above what an office full of people does by hand, and what one backend that makes a link
 * for each of its customers; far below what guessing or flooding needs.
 */
const perMinute = { stranger: 60, start: 600, callback: 600, sign_in: 60, session: 12_000 }

const sessionTokenPrefix = 'nango_connect_session_'
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

interface Deps {
  db: Db
  keyedHash: KeyedHash
  /** Handed in because sessions belong to the connect flow, which stands above this room. */
  findSession: (token: string) => Promise<SessionCaller | undefined>
  operators: Operators
  limits: Limits
  addressOf: AddressOf
  outage: Outage
}

interface Known {
  caller: KeyCaller
  /** When the key ends. */
  until: number
  readAt: number
}

/** The backstop for a notification that never arrived. */
const maxAgeMs = minutes(1)

export function createCallers({ db, keyedHash, findSession, operators, limits, addressOf, outage }: Deps): Callers {
  // Keyed by SHA-256 (0.7 µs as text, 2.3 by way of a Buffer) so that neither the key nor the 33 µs keyed hash is on the path of a known
  // caller.
  const known = createCache<Known>({ max: 10_000, maxAgeMs: outageMs })
  const lookups = { hits: 0, misses: 0 }
  let doubted = Number.NEGATIVE_INFINITY
  let forgotten = Number.NEGATIVE_INFINITY
  /** This machine is not counted: everybody is at this address when a proxy stands here that FAIRLEAD_TRUSTED_PROXIES does not name. */
  function countAddress(what: keyof typeof perMinute, from: From): void {
    const address = addressOf(from)
    if (!isLoopback(address)) limits.take(`${what} ${networkOf(address)}`, perMinute[what])
  }

  async function find(presented: string, digest: string, from: From): Promise<KeyCaller> {
    const readAt = performance.now()
    const row = await findKey(db, keyedHash(presented))
    // Only a key nobody has is counted, so that whoever shares an address with a guesser works on.
    if (!row) countAddress('stranger', from)
    if (!row) throw new Failure(uuid.test(presented) ? 'unknown_account' : 'invalid_secret_key_format')
    const environment = { id: row.environment_id, name: row.name, uuid: row.uuid }
    const caller: KeyCaller = {
      kind: 'key',
      environment,
      keyId: row.key_id,
      keyName: row.display_name,
      scopes: row.scopes,
      limits: { key: row.key_limit, environment: row.environment_limit },
    }
    // What was being read when keys changed may be what changed.
    if (readAt > forgotten)
      known.set(digest, { caller, until: readAt + (row.left_ms ?? Number.POSITIVE_INFINITY), readAt })
    // Off the path: no call waits for it or fails with it.
    void markKeyUsed(db, row.key_id).catch(() => {})
    return caller
  }

  return {
    byKey(presented, from) {
      const digest = hash('sha256', presented, 'base64')
      const now = performance.now()
      const found = known.get(digest)
      const kept = found && found.until > now ? found : undefined
      if (kept && kept.readAt > doubted && now - kept.readAt < maxAgeMs) {
        lookups.hits++
        return kept.caller
      }
      lookups.misses++
      return outage.bridged(kept?.caller, () => find(presented, digest, from))
    },

    async bySessionToken(presented) {
      requireSessionToken(presented)
      const session = await findSession(presented)
      if (!session) throw new Failure('unknown_connect_session_token')
      return session
    },

    operators,
    count({ keyId, environment, limits: { key, environment: all } }) {
      const own = key === null ? undefined : limits.take(`key ${keyId}`, key)
      const shared = all === null ? undefined : limits.take(`environment ${environment.id}`, all)
      return own && shared && shared.remaining < own.remaining ? shared : (own ?? shared)
    },
    countAddress,
    countSession({ environment }) {
      limits.take(`session ${environment.id}`, perMinute.session)
    },
    forget: () => {
      known.clear()
      forgotten = performance.now()
    },
    doubt: () => {
      doubted = performance.now()
    },
    lookups,
  }
}

/** `environment:connections:*` on a key covers every scope that begins with `environment:connections:`. */
export const hasScope = (caller: Pick<EnvironmentCaller, 'scopes'>, scope: string): boolean =>
  caller.scopes.includes(scope) ||
  caller.scopes.some(held => held.endsWith(':*') && scope.startsWith(held.slice(0, -1)))

/** RFC 6750 §2.1. The scheme is case-insensitive (RFC 9110 §11.1). */
export function bearerToken(header: string | undefined): string {
  if (header === undefined || header === '') throw new Failure('missing_auth_header')
  const token = /^bearer +([^\s]+) *$/i.exec(header)?.[1]
  if (!token) throw new Failure('malformed_auth_header')
  return token
}

/** By its looks alone. */
export function requireSessionToken(presented: string): void {
  if (!/^nango_connect_session_[0-9a-f]{64}$/.test(presented)) throw new Failure('invalid_connect_session_token_format')
}

type Security = Record<string, string[]>[]

/**
 * The route with a check in front that enforces what the contract says about it: any one of its `security` entries suffices.
 * The caller is then `c.var.caller`.
 */
export function secured<Route extends { security?: Security }>(
  route: Route,
  callers: Callers,
): Route & { middleware: MiddlewareHandler<{ Variables: { caller: Caller } }> } {
  const security = route.security ?? []
  const scopes = security.flatMap(entry => entry.apiKey ?? [])
  const takesKeys = security.some(entry => entry.apiKey)
  const takesSessions = security.some(entry => entry.connectSession)
  return {
    ...route,
    middleware: async (c, next) => {
      const authorization = c.req.header('authorization')
      const asked = askedOf(c)
      if (authorization === undefined && takesKeys && callers.operators.tokenOf(asked) !== undefined) {
        const caller = await callers.operators.caller(asked)
        requireScope(caller, scopes)
        c.set('caller', caller)
        return next()
      }
      const token = bearerToken(authorization)
      const isSession = token.startsWith(sessionTokenPrefix)
      if (isSession && !takesSessions)
        throw new Failure('forbidden', { message: 'A connect session token cannot make this call; an API key can.' })
      if (!isSession && !takesKeys) throw new Failure('invalid_connect_session_token_format')
      const caller = isSession ? await callers.bySessionToken(token) : await callers.byKey(token, incomingOf(c))
      if (caller.kind === 'key') {
        const standing = callers.count(caller)
        if (standing) for (const [name, value] of Object.entries(standingHeaders(standing))) c.header(name, value)
        requireScope(caller, scopes)
      }
      c.set('caller', caller)
      await next()
    },
  }
}

/** Any one of them suffices. */
export function requireScope(caller: EnvironmentCaller, scopes: string[]): void {
  if (scopes.length === 0 || scopes.some(scope => hasScope(caller, scope))) return
  if (caller.kind === 'key')
    throw new Failure('forbidden', { message: `This API key needs one of these scopes: ${scopes.join(', ')}.` })
  const revealing = { scopes: scopesOf(caller.role, true) }
  if (scopes.some(scope => hasScope(revealing, scope))) throw new Failure('confirmation_required')
  throw new Failure('forbidden', { message: `The role ${caller.role} may not do this.` })
}

/** For routes of an environment: `secured` let nothing else through. */
export function environmentCaller(caller: Caller): EnvironmentCaller {
  if (caller.kind === 'session') throw new Failure('forbidden')
  return caller
}

/** For the audit trail. */
export function actorOf(c: Context<{ Variables: { caller: Caller } }>): Actor {
  const caller = environmentCaller(c.get('caller'))
  const address = addressOf(c)
  return caller.kind === 'key'
    ? { kind: 'key', id: String(caller.keyId), name: caller.keyName, address }
    : { kind: 'operator', id: String(caller.operatorId), name: caller.name, address }
}

export function sessionCaller(caller: Caller): SessionCaller {
  if (caller.kind !== 'session') throw new Failure('forbidden')
  return caller
}
