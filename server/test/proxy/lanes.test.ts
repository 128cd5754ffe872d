/** Hosts that hang or fail, in virtual time. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../src/errors.ts'
import { createLanes } from '../../src/proxy/lanes.ts'

const timed = () => {
  let now = 1_000
  const lanes = createLanes({ now: () => now, wall: () => now, sleep: async () => {} })
  return {
    lanes,
    pass: (ms: number) => {
      now += ms
    },
    fail(origin: string, times: number) {
      for (let n = 0; n < times; n++) {
        const lane = lanes.enter(origin)
        lane.failed()
        lane.leave()
      }
    },
  }
}

const refused = (code: string) => (error: unknown) => error instanceof Failure && error.code === code

test('a host that hangs has so many calls and no more, and another host notices nothing', () => {
  const { lanes } = timed()
  const hung = Array.from({ length: 2_048 }, () => lanes.enter('https://hangs'))
  assert.throws(() => lanes.enter('https://hangs'), refused('provider_busy'))
  lanes.enter('https://works').leave()
  hung[0]!.leave()
  hung[0] = lanes.enter('https://hangs')
  assert.throws(() => lanes.enter('https://hangs'), refused('provider_busy'))
})

test('a host that fails is left alone, then asked by one call at a time, and served again when it answers', () => {
  const { lanes, pass, fail } = timed()
  fail('https://a', 9)
  lanes.enter('https://a').leave()
  fail('https://a', 1)
  assert.throws(() => lanes.enter('https://a'), refused('provider_failing'))
  lanes.enter('https://b').leave()

  pass(5_000)
  const probe = lanes.enter('https://a')
  assert.throws(() => lanes.enter('https://a'), refused('provider_failing'))
  probe.failed()
  probe.leave()
  // Twice as long as before.
  pass(9_999)
  assert.throws(() => lanes.enter('https://a'), refused('provider_failing'))
  pass(1)
  const second = lanes.enter('https://a')
  second.answered()
  second.leave()
  lanes.enter('https://a').leave()
})

test('a probe whose caller went away lets the next one try', () => {
  const { lanes, pass, fail } = timed()
  fail('https://a', 10)
  pass(5_000)
  lanes.enter('https://a').leave()
  lanes.enter('https://a').leave()
})

test('failures among as many answers, or spread over time, open nothing', () => {
  const { lanes, pass, fail } = timed()
  for (let n = 0; n < 100; n++) {
    const lane = lanes.enter('https://a')
    lane.answered()
    lane.leave()
    fail('https://a', n % 2)
  }
  for (let n = 0; n < 50; n++) {
    fail('https://b', 9)
    pass(10_001)
  }
  lanes.enter('https://a').leave()
  lanes.enter('https://b').leave()
})

test('calls that were under way when the host was given up do not make it worse', () => {
  const { lanes, pass, fail } = timed()
  const late = Array.from({ length: 50 }, () => lanes.enter('https://a'))
  fail('https://a', 10)
  for (const lane of late) {
    lane.failed()
    lane.leave()
  }
  pass(5_000)
  lanes.enter('https://a').leave()
})
