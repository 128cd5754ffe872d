/** The real engine through a few hundred schedules of each kind. `npm run prove` runs as many as one likes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { kinds } from './provider.ts'
import { type Circumstances, simulate } from './schedule.ts'

async function survives(schedules: number, circumstances: Partial<Circumstances>): Promise<number> {
  let tokenRequests = 0
  for (let seed = 1; seed <= schedules; seed++) {
    const report = await simulate(seed, { circumstances })
    tokenRequests += report.tokenRequests
    assert.deepEqual(report.breaches, [], `seed ${seed}, ${JSON.stringify(circumstances)}`)
  }
  return tokenRequests
}

for (const kind of kinds)
  for (const introspects of [true, false])
    test(`${kind}, ${introspects ? 'can' : 'cannot'} be asked: nothing breaks`, async () => {
      assert.ok((await survives(100, { kind, introspects })) > 350)
    })

test('a token that somebody else still refreshes is asked about before it is presented', async () => {
  await survives(60, { kind: 'penalty', introspects: true, imported: true })
})

test('a failover that loses commits', async () => {
  await survives(100, { kind: 'penalty', failover: true })
})

test('a restored backup, minutes old', async () => {
  await survives(100, { restore: true })
})

test('one seed is one schedule', async () => {
  const play = async () => (await simulate(7, { trace: true })).trace
  assert.deepEqual(await play(), await play())
})
