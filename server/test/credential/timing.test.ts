import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { backOff, checkTiming, defaultTiming, margin, type Timing } from '../../src/credential/timing.ts'

test('the defaults keep every rule', () => {
  assert.doesNotThrow(() => checkTiming(defaultTiming))
})

const broken: [Partial<Timing>, RegExp][] = [
  [{ sendWindow: 5_000 }, /send window/],
  [{ answer: 26_000 }, /shutdown grace/],
  [{ answer: 60_000 }, /shutdown grace/],
  [{ lease: 49_000 }, /lease/],
  [{ introspection: 60_000 }, /lease/],
  [{ decision: 25_000 }, /decide/],
  [{ quiet: 244_000 }, /quiet time/],
  [{ decision: 300_000 }, /quiet time/],
]
for (const [change, says] of broken)
  test(`${JSON.stringify(change)} refuses to start`, () => {
    assert.throws(() => checkTiming({ ...defaultTiming, ...change }), says)
  })

test('a token is never renewed in the first three quarters of its life', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e12, noNaN: true }), life => {
      const before = margin(life, defaultTiming)
      return before >= 0 && before <= life / 4 && before <= defaultTiming.quiet + 2 * defaultTiming.lease
    }),
  )
  // Long enough for doubt to be settled before anybody needs the answer, where the life allows it.
  assert.ok(margin(2 * 3_600_000, defaultTiming) > defaultTiming.quiet + defaultTiming.lease)
})

test('the wait between attempts grows, is never nothing and never a day', () => {
  let last = 0
  for (let failures = 0; failures < 100; failures++) {
    const wait = backOff(failures)
    assert.ok(wait >= last && wait >= 5_000 && wait <= 15 * 60_000, String(failures))
    last = wait
  }
})
