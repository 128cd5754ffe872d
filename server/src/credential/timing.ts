/**
 * The timing of a refresh, in milliseconds. Each was found necessary by an executable model; a change that breaks a row of
 * `checkTiming` refuses to start.
 */
import { minutes, seconds } from '../lib/time.ts'

export interface Timing {
  /** Intent statement issued → last byte of the request may be written. */
  sendWindow: number
  /** Request written → whole answer read; then the socket is destroyed. */
  answer: number
  /** A claim saves work for this long. It does not protect the token; the intent does. */
  lease: number
  /** Request written → the provider's decision, at worst. */
  decision: number
  /** Before somebody else's unanswered intent may be settled. */
  quiet: number
  /** Introspection is asked within this. */
  introspection: number
  /** How often unsettled presentations are looked at. */
  sweep: number
}

export const defaultTiming: Timing = {
  sendWindow: seconds(4),
  answer: seconds(25),
  lease: seconds(90),
  decision: seconds(240),
  quiet: seconds(300),
  introspection: seconds(10),
  sweep: seconds(30),
}

export const shutdownGrace = seconds(30)

export function checkTiming(t: Timing): void {
  const rows: [boolean, string][] = [
    [t.sendWindow < seconds(5), 'the send window must be under 5 s, the bound of the kill switch'],
    [t.sendWindow + t.answer + seconds(1) <= shutdownGrace, 'a request must fit into the shutdown grace'],
    [t.lease > t.introspection + t.sendWindow + t.answer + seconds(10), 'the lease must outlast a whole attempt'],
    [t.decision > t.answer, 'the provider may decide after we stopped waiting'],
    [t.quiet > t.sendWindow + t.decision, 'the quiet time must outlast every request still under way'],
  ]
  const broken = rows.filter(([holds]) => !holds).map(([, sentence]) => sentence)
  if (broken.length > 0) throw new Error(`The refresh timing is unsafe: ${broken.join('; ')}.`)
}

/** How long before its end a token is renewed: never more than a quarter of its life, so a short token is not renewed on every call. */
export const margin = (lifeMs: number, t: Timing): number => Math.min(lifeMs / 4, t.quiet + 2 * t.lease)

export const longestBackOff = minutes(15)

/** After n failures in a row: 5 s doubling to 15 minutes. */
export const backOff = (failures: number): number => Math.min(longestBackOff, seconds(5) * 2 ** Math.min(failures, 20))

/** A policy is lifted by people: asked again after 15 minutes, then half an hour, then every hour. */
export const blockedBackOff = (failures: number): number =>
  Math.min(minutes(60), minutes(15) * 2 ** Math.min(failures, 2))
