/**
 * What a provider said about how often it may be called. A call that would only be told "too many" is refused here, at once and without
 * spending another one; and calls that can wait leave the last of a day's budget to those that cannot.
 */
import type { Live } from '../connection/live.ts'
import { Failure } from '../errors.ts'
import { createCache } from '../lib/cache.ts'
import { minutes, retryAfterMs, seconds, untilMs } from '../lib/time.ts'
import type { Clock } from '../seams.ts'

type Headers = Record<string, string | string[] | undefined>

const first = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value)

export interface Limits {
  /** Throws `rate_limited` while the provider wants no call, `rate_limit_reserved` when only `background` is refused. */
  check(live: Live, path: string, background: boolean): void
  learn(live: Live, path: string, status: number, headers: Headers): void
  /** What an answer of the last hour said of the account's calls. */
  usageOf(live: Live): Usage | undefined
}

/** What was learned may be wrong or about something narrower than we think: after this long it is tried again. */
const longestRefusal = minutes(1)

export interface Usage {
  used: number
  limit: number
  /** When an answer said so, by the wall clock. */
  at: number
}

export function createLimits(clock: Clock): Limits {
  /** By account and, where nothing says that an account's calls share one limit, by path: the instant calls are welcome again. */
  const closed = createCache<number>({ max: 10_000, maxAgeMs: longestRefusal })
  const usage = createCache<Usage>({ max: 10_000, maxAgeMs: minutes(60) })
  let anyClosed = 0

  const placeOf = (live: Live, path: string): string =>
    live.provider.rate_limit ? accountOf(live) : `${live.credential.id} ${path.split('?', 1)[0]}`

  return {
    check(live, path, background) {
      const now = clock.now()
      const until = now < anyClosed ? closed.get(placeOf(live, path)) : undefined
      if (until !== undefined && now < until)
        throw new Failure('rate_limited', { headers: { 'Retry-After': String(Math.ceil((until - now) / 1000)) } })
      if (!background || !live.provider.rate_limit) return
      const known = usage.get(accountOf(live))
      const { reserve_percent } = live.provider.rate_limit
      if (known && known.used >= known.limit * (1 - reserve_percent / 100))
        throw new Failure('rate_limit_reserved', {
          message: `${known.used} of the ${known.limit} calls of this account are used; the last ${reserve_percent} % are kept for calls that cannot wait.`,
          headers: { 'Retry-After': '600' },
        })
    },

    usageOf: live => usage.get(accountOf(live)),

    learn(live, path, status, headers) {
      const rule = live.provider.rate_limit
      const told = rule && first(headers[rule.usage_header])
      const { used, limit } = (told && patternOf(rule).exec(told)?.groups) || {}
      if (used !== undefined && limit !== undefined)
        usage.set(accountOf(live), { used: Number(used), limit: Number(limit), at: clock.wall() })

      const wait = refusedFor(status, headers, clock.wall())
      if (wait === undefined || wait <= 0) return
      const until = clock.now() + Math.min(wait, longestRefusal)
      closed.set(placeOf(live, path), until)
      anyClosed = Math.max(anyClosed, until)
    },
  }
}

type Rule = NonNullable<Live['provider']['rate_limit']>
const patterns = new WeakMap<Rule, RegExp>()

/** Compiled once: it is asked of every answer. */
function patternOf(rule: Rule): RegExp {
  const pattern = patterns.get(rule) ?? new RegExp(rule.usage_pattern)
  patterns.set(rule, pattern)
  return pattern
}

/** Connections of one account at the provider share its limits. */
function accountOf({ provider, credential }: Live): string {
  const account = credential.config[provider.rate_limit?.account ?? '']
  return typeof account === 'string' ? `${provider.name} ${account}` : credential.id
}

/** Milliseconds for which the provider wants no more: `Retry-After` of a 429, or nothing remaining of a window that says when it ends. */
function refusedFor(status: number, headers: Headers, now: number): number | undefined {
  if (status === 429) {
    const after = first(headers['retry-after'])
    if (after !== undefined) return retryAfterMs(after, now)
  }
  const remaining = first(headers['ratelimit-remaining'] ?? headers['x-ratelimit-remaining'])
  if (remaining === undefined || Number(remaining) > 0) return undefined
  const reset = first(headers['ratelimit-reset'] ?? headers['x-ratelimit-reset'])
  if (reset === undefined) return undefined
  // Seconds to go, or an instant: nobody's window is three years long.
  return Number(reset) < 1e8 ? seconds(Number(reset)) : untilMs(reset, now)
}
