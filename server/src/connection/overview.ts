import { singleFlight } from '../lib/single-flight.ts'
import type { Db } from '../seams.ts'
import { type OverviewRow, readOverview } from './store.ts'

/** So long to count is long enough to count less often. */
const slowMs = 250

/** A page asks every ten seconds, for each operator who looks at it. What took a while to count is good for twenty times as long. */
export function createOverview(db: Db): (environmentId: number) => OverviewRow | Promise<OverviewRow> {
  const kept = new Map<number, { row: OverviewRow; until: number }>()
  const oneAtATime = singleFlight<OverviewRow>()
  return environmentId => {
    const found = kept.get(environmentId)
    if (found && found.until > performance.now()) return found.row
    return oneAtATime(String(environmentId), async () => {
      const from = performance.now()
      const row = await readOverview(db, environmentId)
      const now = performance.now()
      if (now - from > slowMs) kept.set(environmentId, { row, until: now + 20 * (now - from) })
      return row
    })
  }
}
