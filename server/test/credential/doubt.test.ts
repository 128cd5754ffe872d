/** What becomes of a presentation nobody answered: settled after the quiet time, by asking, and never by presenting the token again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultTiming } from '../../src/credential/timing.ts'
import { until } from '../db/until.ts'
import { failureOf, hours, lapsed, openRoom, type Room } from './support/room.ts'

/** The protocol's windows, scaled down together: the quiet time still outlasts every request. */
const quick = {
  ...defaultTiming,
  sendWindow: 200,
  answer: 400,
  decision: 500,
  quiet: 800,
  lease: 2_000,
  introspection: 500,
}

const counts = (room: Room) => {
  const { familyRevocations, requests } = room.simulator.control.counters()
  return { presented: room.presented(), familyRevocations, asked: requests.introspect ?? 0 }
}

/** Sweeps until `settled`; every sweep may find that the quiet time is not over. */
async function sweepUntil(credentials: Room['credentials'], settled: () => Promise<boolean>): Promise<void> {
  await until(async () => {
    await credentials.sweep()
    return settled()
  })
}

test('a request that never arrived is found out and made again, without a caller', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(hours(1))
  room.simulator.control.drop({ endpoint: 'token', when: 'before' })
  const first = room.process({ timing: quick })
  assert.equal(await first.renewed(room.holder, old), undefined)
  assert.equal((await room.load(old.id)).health, 'degraded')

  // Another process: it has to watch the intent for the whole quiet time before it may ask.
  const other = room.process({ timing: quick })
  await other.sweep()
  assert.equal(counts(room).asked, 0)
  await sweepUntil(other, async () => {
    await room.letTry(old.id)
    return (await room.load(old.id)).tokenVersion === 2
  })
  assert.equal((await room.load(old.id)).health, 'active')
  assert.deepEqual([counts(room).presented, counts(room).familyRevocations], [2, 0])
})

test('a token that was used up is not presented again: the old access token serves, then its owner is asked to sign in', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(hours(1))
  room.simulator.control.drop({ endpoint: 'token', when: 'after' })
  const credentials = room.process({ timing: quick })
  assert.equal(await credentials.renewed(room.holder, old), undefined)
  await sweepUntil(credentials, async () => {
    await room.letTry(old.id)
    return (await room.load(old.id)).cause === 'refresh_response_lost'
  })
  const spent = await room.load(old.id)
  assert.deepEqual([spent.health, spent.spent, spent.intentClaim], ['degraded', true, null])
  assert.equal(await credentials.fresh(room.holder, spent), spent)

  assert.equal(
    (await failureOf(credentials.fresh(room.holder, await room.age(old.id, lapsed)))).code,
    'refresh_unavailable',
  )
  const exhausted = await room.load(old.id)
  assert.deepEqual([exhausted.health, exhausted.cause], ['needs_reauth', 'answer_lost'])
  assert.equal((await failureOf(credentials.fresh(room.holder, exhausted))).code, 'invalid_credentials')
  assert.deepEqual([counts(room).presented, counts(room).familyRevocations], [1, 0])
})

const failures: [what: string, breakIt: (room: Room) => void][] = [
  ...[503, 401, 404].map((status): [string, (room: Room) => void] => [
    `answers ${status}`,
    ({ simulator }) => simulator.control.fail({ endpoint: 'introspect', status, times: 1 }),
  ]),
  [
    'answers a page',
    ({ simulator }) => simulator.control.fail({ endpoint: 'introspect', status: 200, body: '<h1>', times: 1 }),
  ],
  ['hangs up', ({ simulator }) => void simulator.control.drop({ endpoint: 'introspect', when: 'before' })],
  ['is too slow', ({ simulator }) => simulator.control.delay({ endpoint: 'introspect', ms: 2_000, when: 'before' })],
]
for (const [what, breakIt] of failures)
  test(`an introspection that ${what} proves nothing: still in doubt, still asked later`, async t => {
    const room = await openRoom(t, { rotation: true })
    const old = await room.connect(hours(1))
    room.simulator.control.drop({ endpoint: 'token', when: 'before' })
    const credentials = room.process({ timing: quick })
    await credentials.renewed(room.holder, old)
    breakIt(room)
    await sweepUntil(credentials, async () => {
      await room.letTry(old.id)
      return counts(room).asked > 0
    })
    const doubted = await room.load(old.id)
    assert.deepEqual([doubted.cause, doubted.spent, doubted.tokenVersion], ['in_doubt', false, 1])
    await sweepUntil(credentials, async () => {
      await room.letTry(old.id)
      return (await room.load(old.id)).tokenVersion === 2
    })
    assert.equal(counts(room).familyRevocations, 0)
  })

for (const arrived of [false, true])
  test(`where nobody can be asked, the last presentation waits until nothing is left to lose (the first ${arrived ? 'arrived' : 'did not arrive'})`, async t => {
    const room = await openRoom(t, { rotation: true, provider: { introspects: false } })
    const old = await room.connect(hours(1))
    room.simulator.control.drop({ endpoint: 'token', when: arrived ? 'after' : 'before' })
    const credentials = room.process({ timing: quick })
    await credentials.renewed(room.holder, old)
    // Ripe, but the access token still serves: presenting now could cost the grant.
    const ripe = performance.now() + quick.quiet * 1.5
    await sweepUntil(credentials, async () => {
      await room.letTry(old.id)
      return performance.now() > ripe
    })
    assert.equal(counts(room).presented, 1)
    assert.equal((await room.load(old.id)).cause, 'in_doubt')

    await room.letTry(old.id)
    const dead = await room.age(old.id, lapsed)
    if (!arrived) assert.equal((await credentials.fresh(room.holder, dead)).tokenVersion, 2)
    else assert.equal((await failureOf(credentials.fresh(room.holder, dead))).code, 'invalid_credentials')
    assert.equal(counts(room).presented, 2)
  })

test('a row from another history of the database is asked about before its token is presented', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  const since = performance.now()
  const current = () => ({ name: 'after the failover', since })
  const credentials = room.process({ timing: quick, epoch: { current, look: async () => {} } })
  // The quiet time counts from the moment this process learned of the change.
  assert.equal((await failureOf(credentials.fresh(room.holder, old))).code, 'refresh_unavailable')
  assert.deepEqual([counts(room).presented, counts(room).asked], [0, 0])
  await until(() => performance.now() - since > quick.quiet)
  const renewed = await credentials.fresh(room.holder, await room.letTry(old.id))
  assert.deepEqual([renewed.tokenVersion, renewed.epoch], [2, 'after the failover'])
  assert.ok(counts(room).asked > 0)
  assert.equal(counts(room).presented, 1)
})
