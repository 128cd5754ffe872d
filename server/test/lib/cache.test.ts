/** What a cache must not do: grow, serve what is too old, or bring back what was taken out. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createCache } from '../../src/lib/cache.ts'
import { until } from '../db/until.ts'

const forever = 3_600_000

test('never more than its bound, and the recently used are among what is kept', () => {
  const cache = createCache<number>({ max: 100, maxAgeMs: forever })
  const kept = () => Array.from({ length: 10_000 }, (_, i) => i).filter(i => cache.get(`${i}`) !== undefined)
  for (let i = 0; i < 10_000; i++) {
    cache.set(`${i}`, i)
    assert.equal(cache.get('0'), 0)
  }
  const found = kept()
  assert.ok(found.length <= 100, `${found.length} are kept`)
  for (let i = 10_000 - 49; i < 10_000; i++) assert.ok(found.includes(i))
})

test('it answers what was last set, or nothing', () => {
  const actions = fc.array(
    fc.record({ act: fc.constantFrom('set', 'get', 'delete', 'clear'), key: fc.nat(30), value: fc.nat(3) }),
    { maxLength: 300 },
  )
  fc.assert(
    fc.property(actions, fc.integer({ min: 2, max: 20 }), (list, max) => {
      const cache = createCache<number>({ max, maxAgeMs: forever })
      const truth = new Map<string, number>()
      for (const { act, key, value } of list) {
        const name = `k${key}`
        if (act === 'set') {
          cache.set(name, value)
          truth.set(name, value)
        } else if (act === 'delete') {
          cache.delete(name)
          truth.delete(name)
        } else if (act === 'clear') {
          cache.clear()
          truth.clear()
        } else assert.ok([undefined, truth.get(name)].includes(cache.get(name)))
      }
    }),
  )
})

test('what was set within the last half of the bound is there', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { minLength: 1 }), keys => {
      const cache = createCache<number>({ max: 20, maxAgeMs: forever })
      for (const key of keys) cache.set(`${key}`, key)
      for (const key of keys.slice(-10)) assert.equal(cache.get(`${key}`), key)
    }),
  )
})

test('too old is gone, however often it is asked for', async () => {
  const cache = createCache<number>({ max: 10, maxAgeMs: 30 })
  cache.set('a', 1)
  assert.equal(cache.get('a'), 1)
  const began = performance.now()
  await until(() => cache.get('a') === undefined, 5_000)
  assert.ok(performance.now() - began >= 20)
})
