/**
 * While the database is away (a failover, a restart), what was read from it before is used again: nothing in there can change meanwhile
 * by any server that has lost it too. For two minutes at the most, because a server may be cut off from a database that others reach, and
 * then does not hear of a kill.
 *
 * Who asks says what they have; without anything, they get the database's own answer or its failure.
 */
import { Failure } from '../errors.ts'
import { minutes, seconds } from '../lib/time.ts'

/** How old something may be and still be used while the database is away. Failovers of managed PostgreSQL take 30 to 120 s. */
export const outageMs = minutes(2)

/** A read that takes longer is not waited for by somebody who has something. A pooler keeps callers waiting instead of refusing them. */
const patienceMs = 250
/** So long after a failure nobody asks who has something. */
const restMs = seconds(1)

/** `work`, or `database_unavailable` when it takes longer. It goes on, and whoever comes later has what it finds. */
export async function within<Result>(ms: number, work: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Failure('database_unavailable')), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

export interface Outage {
  /** What `read` finds, or `kept` while the database is away. `kept` must not be something that is known to have changed. */
  bridged<Result>(kept: Result | undefined, read: () => Promise<Result>): Result | Promise<Result>
}

export function createOutage(now: () => number = () => performance.now()): Outage {
  let awayUntil = Number.NEGATIVE_INFINITY
  const isAway = (error: unknown) => error instanceof Failure && error.code === 'database_unavailable'

  async function attempted<Result>(kept: Result, read: () => Promise<Result>): Promise<Result> {
    try {
      const found = await within(patienceMs, read())
      awayUntil = Number.NEGATIVE_INFINITY
      return found
    } catch (error) {
      if (!isAway(error)) throw error
      awayUntil = now() + restMs
      return kept
    }
  }

  return {
    bridged(kept, read) {
      if (kept === undefined) return read()
      return now() < awayUntil ? kept : attempted(kept, read)
    },
  }
}
