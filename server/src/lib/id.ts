import { hash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto'

/** UUID v4: an id, never a secret. */
export const newId = (): string => randomUUID()

const process = randomBytes(5).toString('hex')
let requests = 0

/** What a caller quotes and a log line holds: this process and a number. Neither secret nor hard to guess, and 60 ns where a UUID takes 200. */
export const newRequestId = (): string => `${process}-${(++requests).toString(36)}`

/** `bits` random bits as base64url, for states, verifiers and cookies. */
export const randomToken = (bits: number): string => randomBytes(bits / 8).toString('base64url')

export const sha256 = (data: string | Buffer): Buffer => hash('sha256', data, 'buffer')

/** Compares without telling how much of it matched. Unequal lengths are simply unequal. */
export const sameBytes = (a: Buffer, b: Buffer): boolean => a.length === b.length && timingSafeEqual(a, b)
