import { createCache } from '../lib/cache.ts'
import { singleFlight } from '../lib/single-flight.ts'
import { minutes } from '../lib/time.ts'
import type { Db } from '../seams.ts'
import { countNewer, type Mark, readMarks } from './store.ts'

/** Skipping fewer rows costs nobody anything: 1 µs each. */
const farBack = 20_000
const every = 1_000

/**
 * Where a page begins that lies far back in the list of all connections, for clients that count pages. Every thousandth connection is
 * remembered for a minute; connections made meanwhile are counted, and one deleted meanwhile moves a page by one, as it does anyway for
 * whoever walks through pages by number.
 */
export function createDeep(db: Db): (environmentId: number, offset: number) => Promise<Mark | undefined> {
  const kept = createCache<number[]>({ max: 100, maxAgeMs: minutes(1) })
  const oneAtATime = singleFlight<number[]>()
  return async (environmentId, offset) => {
    if (offset < farBack) return undefined
    const name = String(environmentId)
    const read = async () => {
      const marks = await readMarks(db, environmentId, every)
      kept.set(name, marks)
      return marks
    }
    const marks = kept.get(name) ?? (await oneAtATime(name, read))
    const [newest] = marks
    const behind = offset - (newest === undefined ? 0 : await countNewer(db, environmentId, newest))
    const id = marks[Math.floor(behind / every)]
    // Behind the last mark there is nothing, or what was made while we looked.
    return behind < 0 || id === undefined ? undefined : { id, skip: behind % every }
  }
}
