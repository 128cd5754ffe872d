/** What the simulation breaks too rarely to wait for: the first try at catching up meets a database that stumbles. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatchUp } from '../../src/credential/catch-up.ts'
import { followEpoch } from '../../src/credential/epoch.ts'
import type { Credentials } from '../../src/credential/fresh.ts'
import type { Entry, Journal } from '../../src/credential/journal.ts'
import { systemClock } from '../../src/lib/time.ts'

const retained = [
  { id: 'old', credentialId: 'a' },
  { id: 'older', credentialId: 'b' },
] as Entry[]

/** Records what the credentials are told; the database answers what `history` says, or fails. */
async function started(history: { name: string | Error }) {
  const told: string[] = []
  const credentials = {
    replay: async (id?: string, offered: Entry[] = []) =>
      void told.push(`replay ${id ?? 'all'} +${offered.map(entry => entry.id).join()}`),
    sweep: async () => void told.push('sweep'),
  } as Credentials
  const journal = { retained: async () => retained } as Journal
  const epoch = await followEpoch(async () => {
    if (history.name instanceof Error) throw history.name
    return history.name
  }, systemClock)
  return { told, epoch, ...createCatchUp({ credentials, journal, epoch }) }
}

test('a start whose first try fails catches up at the next sweep, once', async () => {
  const history: { name: string | Error } = { name: '1.0' }
  const { told, catchUp, sweep } = await started(history)
  history.name = new Error('away')
  await assert.rejects(catchUp())
  await assert.rejects(sweep())
  assert.deepEqual(told, [])
  history.name = '1.0'
  await sweep()
  await sweep()
  assert.deepEqual(told, ['replay all +', 'sweep', 'sweep'])
})

test('another history gets everything that was decided in the one before, until it has been offered', async () => {
  const history: { name: string | Error } = { name: '1.0' }
  const { told, epoch, catchUp, sweep, offer } = await started(history)
  await catchUp()
  history.name = '2.0'
  await catchUp()
  assert.equal(epoch.current().changed, true)
  await sweep()
  await offer('b')
  assert.deepEqual(told, ['replay all +', 'replay all +old,older', 'sweep', 'replay b +older'])
})
