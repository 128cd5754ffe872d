/** One-time codes of an authenticator app (RFC 6238 over RFC 4226): SHA-1, six digits, thirty seconds, which is what every app knows. */
import { createHmac, randomBytes } from 'node:crypto'
import { sameBytes } from '../../lib/id.ts'

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
const stepMs = 30_000

/** 160 bits, as RFC 4226 §4 recommends, in base32 (RFC 4648 §6). */
export function newTotpSecret(): string {
  let text = ''
  for (const byte of randomBytes(32)) text += alphabet[byte & 31]
  return text
}

function bytesOf(secret: string): Buffer {
  let bits = ''
  for (const char of secret) bits += alphabet.indexOf(char).toString(2).padStart(5, '0')
  return Buffer.from((bits.match(/.{8}/g) ?? []).map(octet => Number.parseInt(octet, 2)))
}

/** RFC 4226 §5.3. */
export function codeAt(secret: string, step: number): string {
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(step))
  const mac = createHmac('sha1', bytesOf(secret)).update(counter).digest()
  const offset = mac[19]! & 15
  return String((mac.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, '0')
}

/** The step a code belongs to, one to either side for clocks that differ (§5.2); undefined when it is none of them. */
export function stepOf(secret: string, code: string, wallNow: number): number | undefined {
  const now = Math.floor(wallNow / stepMs)
  return [now - 1, now, now + 1].find(step => sameBytes(Buffer.from(codeAt(secret, step)), Buffer.from(code)))
}

export const totpUri = (secret: string, email: string): string =>
  `otpauth://totp/Fairlead:${encodeURIComponent(email)}?secret=${secret}&issuer=Fairlead`
