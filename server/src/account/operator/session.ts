/**
 * An operator's session: a cookie of 256 random bits whose keyed hash stands in the database. It ends twelve hours after it was last used,
 * after seven days whatever happens, and at once, everywhere, when its row is gone; so each request reads it.
 *
 * The cookie is SameSite=Strict, and what is more, a request counts only when it says that it comes from a page of ours: another site of the
 * same registrable domain is "same site" (OWASP ASVS 3.5, security checklist AK9).
 */
import type { Role } from '@fairlead/contract'
import type { Context } from 'hono'
import { parse } from 'hono/utils/cookie'
import { Failure } from '../../errors.ts'
import { incomingOf } from '../../http/api.ts'
import { randomToken } from '../../lib/id.ts'
import type { AddressOf } from '../../net/caller-address.ts'
import type { Db } from '../../seams.ts'
import type { KeyedHash } from '../pepper.ts'
import type { Environment } from '../store.ts'
import { scopesOf } from './roles.ts'
import { findSession, removeSession, type Session, touchSession } from './store.ts'

/** Of a request, whatever carries it. */
export interface Asked {
  method: string
  header(name: string): string | undefined
}

/** An operator in an environment: may call what the role may. */
export interface OperatorCaller {
  kind: 'operator'
  environment: Environment
  operatorId: number
  name: string
  role: Role
  scopes: readonly string[]
  confirmed: boolean
}

export interface Operators {
  /** The token of the cookie, when there is one. */
  tokenOf(asked: Asked): string | undefined
  /** Throws `not_signed_in`, or `cross_site_request`. */
  signedIn(asked: Asked): Promise<Session>
  /** In the environment the request names. */
  caller(asked: Asked): Promise<OperatorCaller>
  /** A session's new token with its cookie; the row is the caller's to write. */
  newToken(): { token: string; lookup: Buffer; setCookie: string }
  lookup(token: string): Buffer
  end(asked: Asked): Promise<string>
}

const maxAge = 7 * 86_400

export function createOperators({ db, keyedHash, url }: { db: Db; keyedHash: KeyedHash; url: string }): Operators {
  const secure = url.startsWith('https:')
  const name = `${secure ? '__Host-' : ''}fairlead_operator`
  const attributes = `Path=/; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`
  const lookup = (token: string) => keyedHash(`operator session ${token}`)
  const tokenOf = (asked: Asked) => parse(asked.header('cookie') ?? '')[name]

  async function found(asked: Asked, environment: string | null): Promise<Session> {
    const token = tokenOf(asked)
    if (token === undefined) throw new Failure('not_signed_in')
    refuseOtherSites(asked, url)
    const session = await findSession(db, lookup(token), environment)
    if (!session) throw new Failure('not_signed_in')
    if (!session.seen_recently) await touchSession(db, lookup(token))
    return session
  }

  return {
    tokenOf,
    lookup,
    signedIn: asked => found(asked, null),

    async caller(asked) {
      const environment = asked.header('fairlead-environment')
      if (!environment)
        throw new Failure('invalid_headers', {
          message: 'Name the environment with the header Fairlead-Environment.',
          issues: [{ code: 'invalid_type', message: 'Required', path: ['fairlead-environment'] }],
        })
      const session = await found(asked, environment)
      if (session.environment_id === null || session.environment_uuid === null)
        throw new Failure('not_found', { message: `There is no environment "${environment}".` })
      const reveal = asked.header('fairlead-reveal') !== undefined
      if (reveal && !session.confirmed && session.role !== 'viewer') throw new Failure('confirmation_required')
      return {
        kind: 'operator',
        environment: { id: session.environment_id, name: environment, uuid: session.environment_uuid },
        operatorId: session.operator_id,
        name: session.name,
        role: session.role,
        scopes: scopesOf(session.role, reveal && session.confirmed),
        confirmed: session.confirmed,
      }
    },

    newToken() {
      const token = randomToken(256)
      return { token, lookup: lookup(token), setCookie: `${name}=${token}; ${attributes}; Max-Age=${maxAge}` }
    },

    async end(asked) {
      const token = tokenOf(asked)
      if (token !== undefined) await removeSession(db, lookup(token))
      return `${name}=; ${attributes}; Max-Age=0`
    },
  }
}

/**
 * Fetch Metadata where the browser sends it, which it does on https and on loopback; else Origin, which comes with everything but GET. A
 * read without either is harmless: another site cannot see its answer.
 */
export function refuseOtherSites({ method, header }: Asked, url: string): void {
  const site = header('sec-fetch-site')
  const origin = header('origin')
  if (site !== undefined) {
    if (site === 'same-origin') return
    // Typed into the address bar.
    if (site === 'none' && method === 'GET') return
  } else if (origin !== undefined) {
    if (origin === new URL(url).origin || URL.parse(origin)?.host === header('host')) return
  } else if (method === 'GET' || method === 'HEAD') return
  throw new Failure('cross_site_request')
}

export const askedOf = (c: Context): Asked => ({ method: c.req.method, header: name => c.req.header(name) })

/** How it is found is put there by the app; few requests ask. */
export const addressOf = (c: Context): string => (c.get('addressOf') as AddressOf)(incomingOf(c))
