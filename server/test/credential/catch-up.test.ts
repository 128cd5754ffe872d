/** What the simulation breaks too rarely to wait for: the first try at catching up meets a database that stumbles. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatchUp } from '../../src/credential/catch-up.ts'
import { followEpoch } from '../../src/credential/epoch.ts'
import type { Credentials } from '../../src/credential/fresh.ts'
import type { Entry, Journal } from '../../src/credential/journal.ts'
import { systemClock } from '../../src/lib/time.ts'

const decided = [
  { id: 'old', credentialId: 'a', history: '1.0' },
  { id: 'older', credentialId: 'b', history: '1.0' },
]

/** Records what the credentials are told; the database answers what `history` says, or fails. `chained`: nothing was ahead of its row. */
async function started(history: { name: string | Error; chained?: boolean }) {
  const told: string[] = []
  const credentials: Pick<Credentials, 'replay' | 'sweep'> = {
    async replay(id, offered = []) {
      told.push(`replay ${id ?? 'all'} +${offered.map(entry => entry.id).join()}`)
      return history.chained ?? true
    },
    sweep: async () => void told.push('sweep'),
  }
  const journal: Pick<Journal, 'retained'> = { retained: async wanted => decided.filter(wanted) as object[] as Entry[] }
  const epoch = await followEpoch(async () => {
    if (history.name instanceof Error) throw history.name
    return history.name
  }, systemClock)
  return { told, ...createCatchUp({ credentials, journal, epoch }) }
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
  const { told, catchUp, sweep, offer } = await started(history)
  await catchUp()
  history.name = '2.0'
  await catchUp()
  await catchUp()
  await sweep()
  await offer('b')
  assert.deepEqual(told, ['replay all +', 'replay all +old,older', 'replay all +', 'sweep', 'replay b +older'])
})

test('a start in another history offers what was decided in the one before', async () => {
  const { told, catchUp } = await started({ name: '2.0' })
  await catchUp()
  assert.deepEqual(told, ['replay all +old,older'])
})

test('what waits for the journal of another machine is offered again when the database was away', async () => {
  const history = { name: '2.0', chained: false }
  const { told, catchUp } = await started(history)
  await catchUp()
  history.chained = true
  await catchUp()
  await catchUp()
  assert.deepEqual(told, ['replay all +old,older', 'replay all +old,older', 'replay all +'])
})
