import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { kinds, parseRetention } from '../../src/lib/retention.ts'

test('what is not said is the default, what is wrong is said', () => {
  const { retention, faults } = parseRetention(' activity = 30, audit=400,,sessions=1 ')
  assert.deepEqual(faults, [])
  assert.deepEqual(retention, {
    ...{ activity: 30, audit: 400, deliveries: 30, failed_deliveries: 90, sessions: 1, receipts: 365, journal: 7 },
    ...{ bodies: 1, replaced_tokens: 90, retired_keys: 30 },
  })
  assert.equal(parseRetention('').retention.audit, undefined)
  for (const [text, why] of [
    ['activity', /kind=days/],
    ['activity=x', /kind=days/],
    ['activity=-1', /kind=days/],
    ['toString=3', /one of activity/],
    ['activity=0', /from 1 to 400/],
    ['audit=7', /from 30/],
    ['failed_deliveries=1', /from 3/],
    ['bodies=15', /from 1 to 14/],
    ['activity=2,bodies=3', /activity must not be less than bodies \(3 days\)/],
    ['journal=40', /retired_keys must not be less than journal \(40 days\)/],
    ['journal=30,replaced_tokens=20', /replaced_tokens must not be less than journal/],
  ] as const)
    assert.match(parseRetention(text).faults.join(), why, text)
})

test('the page lists every kind with what it is kept for', () => {
  const page = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8')
  for (const [kind, { days, meaning }] of Object.entries(kinds))
    assert.ok(page.includes(`| \`${kind}\` | ${days ?? 'for good'} | ${meaning} |`), kind)
})
