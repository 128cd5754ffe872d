import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { parse } from 'hono/utils/cookie'
import type { KeyedHash } from '../account/pepper.ts'
import { randomToken, sameBytes, sha256 } from '../lib/id.ts'
import { minutes } from '../lib/time.ts'
import type { AddressOf } from '../net/caller-address.ts'

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

/** What one browser's requests have in common, without a cookie: a page of another site must not set one. */
export const browserOf = (addressOf: AddressOf, req: Pick<IncomingMessage, 'headers' | 'socket'>): string =>
  `${addressOf(req)}\n${req.headers['user-agent'] ?? ''}`

/** Between the WebSocket's handshake and the popup's first request. */
const channelAgeMs = minutes(10)

/** Where a WebSocket ends: two people behind one address may have the same browser, but not the same page open. */
export interface Page {
  /** `browserOf` it. */
  browser: string
  /** RFC 6454, as the browser tells it; null when it tells none. */
  origin: string | null
}

/**
 * The id of a page's WebSocket: a UUID that says, to every process, when it was made and for which page in which browser. So that an id
 * made for one and sent to another in a link is seen for what it is, without a row for each socket that anybody opens.
 */
export function channelId(keyedHash: KeyedHash, page: Page, now = Date.now()): string {
  const made = Buffer.alloc(8)
  made.writeUInt32BE(Math.floor(now / 1000))
  randomBytes(4).copy(made, 4)
  made[6] = (made[6]! & 0x0f) | 0x40
  const seal = channelSeal(keyedHash, made, page)
  const hex = Buffer.concat([made, seal]).toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

export function isChannelOf(keyedHash: KeyedHash, id: string, page: Page, now = Date.now()): boolean {
  const bytes = Buffer.from(id.replaceAll('-', ''), 'hex')
  if (bytes.length !== 16) return false
  const made = bytes.subarray(0, 8)
  const ageMs = now - made.readUInt32BE() * 1000
  return ageMs < channelAgeMs && sameBytes(bytes.subarray(8), channelSeal(keyedHash, made, page))
}

/** 62 bits, which nobody can try out: each guess is a request. */
function channelSeal(keyedHash: KeyedHash, made: Buffer, { browser, origin }: Page): Buffer {
  const seal = keyedHash(`ws_client_id ${made.toString('hex')} ${origin} ${browser}`).subarray(0, 8)
  seal[0] = (seal[0]! & 0x3f) | 0x80
  return seal
}
