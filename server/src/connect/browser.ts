import { parse } from 'hono/utils/cookie'
import { randomToken, sameBytes, sha256 } from '../lib/id.ts'

/**
 * Binds a sign-in to the browser that began it (security checklist LK2): a random cookie whose hash stands in the handshake.
 * One cookie per sign-in, named after its state, so that several tabs do not overwrite one another's.
 */
const cookieName = (state: string, secure: boolean): string =>
  `${secure ? '__Host-' : ''}fairlead_${sha256(state).toString('hex').slice(0, 16)}`

// Lax: the callback is a top-level navigation, so the cookie comes along and no other request carries it.
const attributes = (secure: boolean, maxAge: number): string =>
  `Path=/; HttpOnly; SameSite=Lax; Max-Age=${maxAge}${secure ? '; Secure' : ''}`

export function bindBrowser(state: string, secure: boolean): { browserHash: Buffer; setCookie: string } {
  const value = randomToken(256)
  return { browserHash: sha256(value), setCookie: `${cookieName(state, secure)}=${value}; ${attributes(secure, 600)}` }
}

export function isSameBrowser(
  cookieHeader: string | undefined,
  state: string,
  secure: boolean,
  browserHash: Buffer,
): boolean {
  const value = parse(cookieHeader ?? '')[cookieName(state, secure)]
  return value !== undefined && sameBytes(sha256(value), browserHash)
}

export const forgetBrowser = (state: string, secure: boolean): string =>
  `${cookieName(state, secure)}=; ${attributes(secure, 0)}`
