/** Every rule taken out breaks something: a simulation that cannot fail proves nothing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { breakIt, variants } from './variants.ts'

for (const variant of variants)
  test(variant.name, async () => {
    const { schedules, invariants } = await breakIt(variant, 3_000, so =>
      variant.breaks.some(each => so.invariants.has(each)),
    )
    const broken = [...invariants.keys()]
    assert.ok(
      variant.breaks.some(each => broken.includes(each)),
      `${schedules} schedules broke ${broken.join(', ') || 'nothing'}, not ${variant.breaks.join(' or ')}`,
    )
  })
