/**
 * Who is calling. This room owns environments and API keys; it turns a presented key into a caller and refuses what lacks a scope.
 * No URLs of its own yet. Called by every room with routes (through `secured`) and by the proxy (through `callerByKey`).
 */
import { hash } from 'node:crypto'
import type { MiddlewareHandler } from 'hono'
import { Failure } from '../errors.ts'
import { createCache } from '../lib/cache.ts'
import { minutes } from '../lib/time.ts'
import type { Db } from '../seams.ts'
import type { KeyedHash } from './pepper.ts'
import { type Environment, findKey } from './store.ts'

export interface KeyCaller {
  kind: 'key'
  environment: Environment
  keyId: number
  scopes: readonly string[]
}

/** An end user in Connect UI: may list the integrations the session allows and sign in, nothing else. */
export interface SessionCaller {
  kind: 'session'
  environment: Environment
  sessionId: number
  /** Empty: all. */
  allowedIntegrations: readonly string[]
}

export type Caller = KeyCaller | SessionCaller

export interface Callers {
  /** Without a promise when it is in memory: on the proxy's path each promise made and awaited costs three turns of the microtask queue. */
  byKey(presented: string): KeyCaller | Promise<KeyCaller>
  bySessionToken(presented: string): Promise<SessionCaller>
  forget(): void
}

const sessionTokenPrefix = 'nango_connect_session_'
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

interface Deps {
  db: Db
  keyedHash: KeyedHash
  /** Handed in because sessions belong to the connect flow, which stands above this room. */
  findSession: (token: string) => Promise<SessionCaller | undefined>
}

export function createCallers({ db, keyedHash, findSession }: Deps): Callers {
  // Keyed by SHA-256 (0.7 µs as text, 2.3 by way of a Buffer) so that neither the key nor the 33 µs keyed hash is on the path of a known
  // caller.
  const known = createCache<KeyCaller>({ max: 10_000, maxAgeMs: minutes(1) })
  async function find(presented: string, digest: string): Promise<KeyCaller> {
    const row = await findKey(db, keyedHash(presented))
    if (!row) throw new Failure(uuid.test(presented) ? 'unknown_account' : 'invalid_secret_key_format')
    const environment = { id: row.environment_id, name: row.name, uuid: row.uuid }
    const caller: KeyCaller = { kind: 'key', environment, keyId: row.key_id, scopes: row.scopes }
    known.set(digest, caller)
    return caller
  }

  return {
    byKey(presented) {
      const digest = hash('sha256', presented, 'base64')
      return known.get(digest) ?? find(presented, digest)
    },

    async bySessionToken(presented) {
      if (!/^nango_connect_session_[0-9a-f]{64}$/.test(presented))
        throw new Failure('invalid_connect_session_token_format')
      const session = await findSession(presented)
      if (!session) throw new Failure('unknown_connect_session_token')
      return session
    },

    forget: () => known.clear(),
  }
}

/** `environment:connections:*` on a key covers every scope that begins with `environment:connections:`. */
export const hasScope = (caller: KeyCaller, scope: string): boolean =>
  caller.scopes.some(held => held === scope || (held.endsWith(':*') && scope.startsWith(held.slice(0, -1))))

/** RFC 6750 §2.1. The scheme is case-insensitive (RFC 9110 §11.1). */
export function bearerToken(header: string | undefined): string {
  if (header === undefined || header === '') throw new Failure('missing_auth_header')
  const token = /^bearer +([^\s]+) *$/i.exec(header)?.[1]
  if (!token) throw new Failure('malformed_auth_header')
  return token
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
      const token = bearerToken(c.req.header('authorization'))
      const isSession = token.startsWith(sessionTokenPrefix)
      if (isSession && !takesSessions)
        throw new Failure('forbidden', { message: 'A connect session token cannot make this call; an API key can.' })
      if (!isSession && !takesKeys) throw new Failure('invalid_connect_session_token_format')
      const caller = isSession ? await callers.bySessionToken(token) : await callers.byKey(token)
      if (caller.kind === 'key' && scopes.length > 0 && !scopes.some(scope => hasScope(caller, scope)))
        throw new Failure('forbidden', { message: `This API key needs one of these scopes: ${scopes.join(', ')}.` })
      c.set('caller', caller)
      await next()
    },
  }
}

/** For routes only a key may call: `secured` let nothing else through. */
export function keyCaller(caller: Caller): KeyCaller {
  if (caller.kind !== 'key') throw new Failure('forbidden')
  return caller
}

export function sessionCaller(caller: Caller): SessionCaller {
  if (caller.kind !== 'session') throw new Failure('forbidden')
  return caller
}
