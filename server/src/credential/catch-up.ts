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

export function createCatchUp(deps: {
  credentials: Pick<Credentials, 'replay' | 'sweep'>
  journal: Pick<Journal, 'retained'>
  epoch: Epoch
}): CatchUp {
  const { credentials, journal, epoch } = deps
  let behind = true
  /** The history to which the journal offered what was decided in another one: a failover may have lost that. None yet, on start. */
  let offeredTo: string | undefined

  async function catchUp(): Promise<void> {
    behind = true
    await epoch.look()
    const { name } = epoch.current()
    const elsewhere = offeredTo === name ? [] : await journal.retained(({ history }) => history !== name)
    if (await credentials.replay(undefined, elsewhere)) offeredTo = name
    behind = false
  }

  return {
    catchUp,
    async offer(credentialId) {
      await credentials.replay(credentialId, await journal.retained(entry => entry.credentialId === credentialId))
    },
    async sweep() {
      if (behind) await catchUp()
      await credentials.sweep()
    },
  }
}
