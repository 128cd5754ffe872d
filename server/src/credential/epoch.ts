import type { Clock } from '../seams.ts'

/** Which history of the database this is. */
export interface Epoch {
  /** `since` when this process has known it. */
  current(): { name: string; since: number }
  /** Looks again. After every claim, because the pool is back on a new primary before a notification says so. */
  look(): Promise<void>
}

export async function followEpoch(read: () => Promise<string>, clock: Clock): Promise<Epoch> {
  let current = { name: await read(), since: clock.now() }
  return {
    current: () => current,
    async look() {
      const name = await read()
      if (name !== current.name) current = { name, since: clock.now() }
    },
  }
}
