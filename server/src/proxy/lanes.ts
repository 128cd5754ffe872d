/**
 * One lane per host, so that a host that hangs or fails takes nothing from the others: how many calls may be under way at once (a
 * bulkhead), when it is left alone for a while (a circuit breaker), and how much of its load may be repetition (a retry budget).
 */
import { Failure } from '../errors.ts'
import { createCache } from '../lib/cache.ts'
import { minutes, seconds } from '../lib/time.ts'
import type { Clock } from '../seams.ts'

export interface Lanes {
  /** Throws `provider_busy` when the host has all the calls it may have, `provider_failing` while it is left alone. */
  enter(origin: string): Lane
}

/** A call that waits holds some 30 KB: this many hold 60 MB. Undici opens half as many connections; the rest waits for one. */
const mostAtOnce = 2_048

/** Opened when at least this many of the last calls failed and they were at least half of them. */
const fewestFailures = 10
const windowMs = seconds(10)
const firstRest = seconds(5)
const longestRest = minutes(1)

/** Each call pays this much into the budget, a repetition takes 1: never more than a fifth of the load on top. */
const deposit = 0.2
const fullBudget = 10

interface State {
  underWay: number
  /** Since when, and how, calls of this window ended. */
  since: number
  answered: number
  failed: number
  /** 0: closed. Until then nobody is let through; afterwards one at a time, until one is answered. */
  restsUntil: number
  rest: number
  probing: boolean
  budget: number
}

export function createLanes(clock: Clock): Lanes {
  // Bounded: a customer's host is remembered while it is used. A forgotten one begins anew, and its old calls end on the old state.
  const states = createCache<State>({ max: 10_000, maxAgeMs: minutes(10) })

  const stateOf = (origin: string, now: number): State => {
    const known = states.get(origin)
    if (known) return known
    const state: State = {
      underWay: 0,
      since: now,
      answered: 0,
      failed: 0,
      restsUntil: 0,
      rest: firstRest,
      probing: false,
      budget: fullBudget,
    }
    states.set(origin, state)
    return state
  }

  return {
    enter(origin) {
      const now = clock.now()
      const state = stateOf(origin, now)
      if (state.underWay >= mostAtOnce) throw new Failure('provider_busy', { headers: { 'Retry-After': '1' } })
      const probes = state.restsUntil !== 0
      if (probes && (now < state.restsUntil || state.probing))
        throw new Failure('provider_failing', {
          headers: { 'Retry-After': String(Math.max(1, Math.ceil((state.restsUntil - now) / 1000))) },
        })
      if (probes) state.probing = true
      state.underWay++
      state.budget = Math.min(fullBudget, state.budget + deposit)
      if (now - state.since > windowMs) {
        state.since = now
        state.answered = 0
        state.failed = 0
      }
      return new Lane(clock, state, probes)
    },
  }
}

/** One call's place in it. */
export class Lane {
  readonly #clock: Clock
  readonly #state: State
  /** It was let through to see whether the host is well again. */
  readonly #probes: boolean

  constructor(clock: Clock, state: State, probes: boolean) {
    this.#clock = clock
    this.#state = state
    this.#probes = probes
  }

  /** The host answered, whatever it answered. */
  answered(): void {
    const state = this.#state
    state.answered++
    if (state.restsUntil === 0) return
    state.restsUntil = 0
    state.rest = firstRest
    state.failed = 0
  }

  /** No connection, or no answer. */
  failed(): void {
    const state = this.#state
    state.failed++
    const opens = state.failed >= fewestFailures && state.failed >= state.answered
    // Those that were under way when it opened fail too; they say nothing new.
    if (!this.#probes && (!opens || state.restsUntil !== 0)) return
    state.restsUntil = this.#clock.now() + state.rest
    state.rest = Math.min(longestRest, state.rest * 2)
  }

  /** Whether the budget allows one repetition, which it then costs. */
  mayRepeat(): boolean {
    const state = this.#state
    if (state.budget < 1) return false
    state.budget--
    return true
  }

  leave(): void {
    this.#state.underWay--
    if (this.#probes) this.#state.probing = false
  }
}
