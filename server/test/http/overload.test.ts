/** When a server says that it has too much to do: only when it has, and is late because of it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { watchOverload } from '../../src/http/overload.ts'

/** Requests that arrive in one turn of the loop, each of them taking so long. */
function refusedOf(requests: number, eachMs: number, lateBefore = 0): number {
  let now = 0
  const overload = watchOverload(() => now)
  now += lateBefore
  let refused = 0
  for (let n = 0; n < requests; n++) {
    if (overload.isOver()) refused++
    else now += eachMs
  }
  overload.close()
  return refused
}

test('a burst that costs too much at once is cut off, at an eighth of a second', () => {
  assert.equal(refusedOf(2_000, 0.4), 2_000 - 300)
})

test('a burst that is done in time is not', () => {
  assert.equal(refusedOf(2_000, 0.05), 0)
})

test('nor is who was late before there was anything to do', () => {
  assert.equal(refusedOf(200, 0.1, 5_000), 0)
})
