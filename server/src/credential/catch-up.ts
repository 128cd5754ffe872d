/**
 * What a process owes its database after one of them was away: the answers in its journal. Put together the same way in the server and in
 * the simulation, whose broken schedules taught each of these sentences.
 */
import type { Epoch } from './epoch.ts'
import type { Credentials } from './fresh.ts'
import type { Journal } from './journal.ts'

export interface CatchUp {
  /** On start, and whenever the database was away. May fail; then the next sweep tries again. */
  catchUp(): Promise<void>
  /** Another process asks whether anybody has a successor of this credential's token: answers of a chain may lie on several machines. */
  offer(credentialId: string): Promise<void>
  /** Every half minute. */
  sweep(): Promise<void>
}

export function createCatchUp(deps: { credentials: Credentials; journal: Journal; epoch: Epoch }): CatchUp {
  const { credentials, journal, epoch } = deps
  let behind = true
  /** The history that everything in the journal has been offered to: a failover may have lost what was decided before. */
  let offeredTo = epoch.current().name

  async function catchUp(): Promise<void> {
    behind = true
    await epoch.look()
    const { name } = epoch.current()
    await credentials.replay(undefined, offeredTo === name ? [] : await journal.retained())
    offeredTo = name
    behind = false
  }

  return {
    catchUp,
    async offer(credentialId) {
      const retained = (await journal.retained()).filter(entry => entry.credentialId === credentialId)
      await credentials.replay(credentialId, retained)
    },
    async sweep() {
      if (behind) await catchUp()
      await credentials.sweep()
    },
  }
}
