// Identifiers and secrets in the shapes Salesforce gives them: 15-character case-sensitive record ids, their
// 18-character case-safe form, session ids, refresh tokens, authorisation codes, consumer keys and secrets.

import { createHash, randomBytes } from 'node:crypto'

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const SUFFIX = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ012345'
/** Exactly 64 characters, so one random byte masked to six bits picks one without bias. */
const TOKEN = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._'

/**
 * The three characters that make a 15-character id survive case-folding: each block of five contributes the bit
 * pattern of its upper-case letters, least significant first ("Converting 15 character ids", Salesforce help).
 */
function caseSuffix(id15: string): string {
  return [0, 5, 10]
    .map(start => {
      let bits = 0
      for (let i = 0; i < 5; i++) if (/[A-Z]/.test(id15.charAt(start + i))) bits |= 1 << i
      return SUFFIX.charAt(bits)
    })
    .join('')
}

/** The nth id of a kind: `00D` organisation, `005` user, `001` account, `003` contact, `01g` query locator… */
export function salesforceId(prefix: string, serial: number): string {
  let tail = ''
  for (let n = serial; n > 0; n = Math.floor(n / 62)) tail = BASE62.charAt(n % 62) + tail
  const id15 = `${prefix}Hs00000${tail.padStart(5, '0')}`.slice(0, 15)
  return id15 + caseSuffix(id15)
}

/** Accepts either length, as every Salesforce API does; undefined when it is no id at all. */
export function toId18(id: string): string | undefined {
  if (/^[A-Za-z0-9]{15}$/.test(id)) return id + caseSuffix(id)
  if (/^[A-Za-z0-9]{18}$/.test(id) && caseSuffix(id.slice(0, 15)) === id.slice(15)) return id
  return undefined
}

export function randomText(length: number): string {
  return Array.from(randomBytes(length), byte => TOKEN.charAt(byte & 63)).join('')
}

/** `00D` + 12 id characters + `!` + 96: 112 characters, the length of a real opaque access token. */
export const newAccessToken = (orgId: string) => `${orgId.slice(0, 15)}!${randomText(96)}`
export const newRefreshToken = () => `5Aep861${randomText(80)}`
/** Real codes end in `==`; percent-encoded in the redirect, they catch a client that decodes once too often. */
export const newCode = () => `aPrx${randomText(80)}==`
export const newClientSecret = () => randomBytes(32).toString('hex').toUpperCase()
export const newClientId = () => `3MVG9${randomText(80)}`

/** Seeded keys must be the same on every start, so documentation can print them. They open nothing real. */
export function seededClientId(name: string): string {
  const bytes = createHash('shake256', { outputLength: 80 }).update(`client id of ${name}`).digest()
  return `3MVG9${Array.from(bytes, byte => TOKEN.charAt(byte & 63)).join('')}`
}
export const seededClientSecret = (name: string) =>
  createHash('sha256').update(`client secret of ${name}`).digest('hex').toUpperCase()
