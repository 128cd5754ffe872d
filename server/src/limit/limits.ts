/**
 * How many requests somebody may send in a minute. This room owns the table `request_count`; `account` and `connect` ask it: for strangers
 * by address (a wrong key, a callback, a start, a sign-in), for keys and environments that were given a limit.
 *
 * It decides from memory and tells the database afterwards, once a second, so that no request waits for a count: what the other servers
 * have counted arrives with the answer. A second's worth of requests on each server may therefore be too many, and a database that is
 * away leaves each server with what it counts itself (security checklist RL1), which is never nothing.
 *
 * A minute that slides, made of two that do not: the part of the last one that is still within sixty seconds, and this one.
 */
import { Failure } from '../errors.ts'
import { createCache } from '../lib/cache.ts'
import type { Db } from '../seams.ts'
import { addCounts, type CountRow, forgetCounts } from './store.ts'

export interface Limits {
  /** Counts one request and says where that leaves; throws `too_many_request` when there is none left, which counts nothing. */
  take(name: string, perMinute: number): Standing
  /** Tells the database what was counted since, and learns what others counted. */
  flush(): Promise<void>
}

/** What is left of a minute, as the wire contract's three headers say it (nango-wire §3). */
export interface Standing {
  limit: number
  remaining: number
  /** Epoch seconds. */
  reset: number
}

export const standingHeaders = ({ limit, remaining, reset }: Standing): Record<string, string> => ({
  'X-RateLimit-Limit': String(limit),
  'X-RateLimit-Remaining': String(remaining),
  'X-RateLimit-Reset': String(reset),
})

interface Count {
  minute: number
  /** By every server, as far as the database said. */
  told: number
  /** Here, and not told yet. */
  untold: number
  /** In the minute before. */
  before: number
}

interface Deps {
  db: Db
  /** Milliseconds of the wall: servers have to agree on what a minute is. */
  now: () => number
}

/** More names than this, and the least used are forgotten: an attacker's addresses must not be a way into memory. */
const maxNames = 20_000

export function createLimits({ db, now }: Deps): Limits {
  const counts = createCache<Count>({ max: maxNames, maxAgeMs: 150_000 })
  let changed = new Map<string, Count>()
  let forgotten = 0

  function countOf(name: string, minute: number): Count {
    const known = counts.get(name)
    if (known?.minute === minute) return known
    // What was not told of the minute before stays untold: it no longer decides anything.
    const before = known?.minute === minute - 1 ? known.told + known.untold : 0
    const count = { minute, told: 0, untold: 0, before }
    counts.set(name, count)
    return count
  }

  return {
    take(name, perMinute) {
      const seconds = now() / 1000
      const minute = Math.floor(seconds / 60)
      const count = countOf(name, minute)
      const stillCounts = count.before * (1 - (seconds / 60 - minute))
      const left = perMinute - count.told - count.untold - Math.floor(stillCounts)
      const reset = (minute + 1) * 60
      if (left < 1) {
        const wait = Math.max(1, Math.ceil(reset - seconds))
        throw new Failure('too_many_request', {
          headers: { ...standingHeaders({ limit: perMinute, remaining: 0, reset }), 'Retry-After': String(wait) },
        })
      }
      count.untold++
      changed.set(name, count)
      return { limit: perMinute, remaining: left - 1, reset }
    },

    async flush() {
      const minute = Math.floor(now() / 60_000)
      const telling = changed
      changed = new Map()
      const sent = new Map([...telling].map(([name, { untold }]) => [name, untold]))
      const rows: CountRow[] = [...telling].map(([name, count]) => ({ name, minute: count.minute, n: count.untold }))
      if (rows.length > 0)
        try {
          for (const { name, minute: of, n } of await addCounts(db, rows)) {
            const count = telling.get(name)
            if (count?.minute !== of) continue
            count.told = n
            count.untold -= sent.get(name)!
          }
        } catch (error) {
          for (const [name, count] of telling) if (!changed.has(name)) changed.set(name, count)
          throw error
        }
      if (forgotten === minute) return
      await forgetCounts(db, minute - 2)
      forgotten = minute
    },
  }
}
