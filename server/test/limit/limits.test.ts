/** More requests than somebody may send: never on one server, and for a second at the most on several. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from '../../src/db/sql.ts'
import { Failure } from '../../src/errors.ts'
import { createLimits } from '../../src/limit/limits.ts'
import type { Db } from '../../src/seams.ts'
import { until } from '../db/until.ts'
import { testDatabase } from '../support/database.ts'
import { request, startFairlead } from '../support/fairlead.ts'

/** How many of `times` were let through. */
function through(take: () => unknown, times: number): number {
  let taken = 0
  for (let n = 0; n < times; n++)
    try {
      take()
      taken++
    } catch (error) {
      assert.ok(error instanceof Failure && error.code === 'too_many_request', String(error))
    }
  return taken
}

/** The first second of a minute. */
const noon = Date.UTC(2026, 0, 1, 12)

test('two servers count together, and the minute slides', async t => {
  const { db } = await testDatabase(t)
  let now = noon
  const [one, other] = [createLimits({ db, now: () => now }), createLimits({ db, now: () => now })]
  assert.equal(
    through(() => one.take('key 1', 100), 60),
    60,
  )
  await one.flush()
  other.take('key 1', 100)
  await other.flush()
  assert.equal(
    through(() => other.take('key 1', 100), 100),
    39,
    'what the first server counted is gone',
  )
  await other.flush()
  await one.flush()
  one.take('key 2', 1)
  await one.flush()
  // 30 s into the next minute, half of the last one still counts.
  now = noon + 90_000
  assert.equal(
    through(() => other.take('key 1', 100), 100),
    50,
  )
  now = noon + 240_000
  assert.equal(
    through(() => other.take('key 1', 100), 200),
    100,
    'nothing of four minutes ago counts',
  )
  await other.flush()
  const left = await db.query<{ minute: number }>(sql`select distinct minute from request_count`)
  assert.deepEqual(
    left.map(({ minute }) => minute),
    [now / 60_000],
    'old counts are not kept',
  )
})

test('a database that is away leaves what each server counts itself, and nothing counted is lost', async t => {
  const { db } = await testDatabase(t)
  let away = true
  const flaky: Pick<Db, 'query'> = {
    query: statement => (away ? Promise.reject(new Failure('database_unavailable')) : db.query(statement)),
  }
  const limits = createLimits({ db: flaky as Db, now: () => noon })
  limits.take('a', 10)
  await assert.rejects(limits.flush(), { code: 'database_unavailable' })
  assert.equal(
    through(() => limits.take('a', 10), 20),
    9,
  )
  await assert.rejects(limits.flush(), { code: 'database_unavailable' })
  away = false
  await limits.flush()
  const [row] = await db.query<{ n: string }>(sql`select n from request_count where name = 'a'`)
  assert.equal(Number(row?.n), 10)
})

test('a key and an environment with a limit say what is left, and are refused beyond it', async t => {
  const fairlead = await startFairlead(t)
  const made = await fairlead.call('POST', '/environment/api-keys', { display_name: 'few', requests_per_minute: 3 })
  assert.equal(made.json.data.requests_per_minute, 3)
  const with_ = { Authorization: `Bearer ${made.json.data.secret}` }
  const unlimited = await fairlead.call('GET', '/integrations')
  assert.equal(unlimited.headers.get('x-ratelimit-limit'), null)
  // A minute that ends within the test gives back a part of it: two minutes' worth is then the most.
  // In a burst each server counts for itself.
  const answers = []
  const calls = 8 * fairlead.servers
  for (let n = 0; n < calls; n++) answers.push(await fairlead.call('GET', '/integrations', undefined, with_))
  const first = answers[0]!
  assert.deepEqual([first.status, first.headers.get('x-ratelimit-limit')], [200, '3'])
  assert.equal(first.headers.get('x-ratelimit-remaining'), '2')
  const refused = answers.find(({ status }) => status === 429) ?? assert.fail()
  assert.equal(refused.json.error.code, 'too_many_request')
  assert.equal(refused.headers.get('x-ratelimit-remaining'), '0')
  const reset = Number(refused.headers.get('x-ratelimit-reset'))
  assert.ok(reset > Date.now() / 1000 - 60 && reset <= Date.now() / 1000 + 60, 'epoch seconds')
  assert.match(refused.headers.get('retry-after') ?? '', /^([1-9]|[1-5]\d|60)$/)
  const proxied = await fairlead.call('GET', '/proxy/x', undefined, {
    ...with_,
    'Provider-Config-Key': 'sf',
    'Connection-Id': 'x',
  })
  assert.deepEqual([proxied.status, proxied.json.error.code], [429, 'too_many_request'])

  const changed = await fairlead.call('PATCH', '/environment/settings', { requests_per_minute: 5 })
  assert.equal(changed.json.requests_per_minute, 5)
  await until(async () => (await fairlead.call('GET', '/integrations')).status === 429)
})

test('a stranger is counted by address, whoever has a key at that address is not, and no header moves the address', async t => {
  const fairlead = await startFairlead(t, { env: { FAIRLEAD_TRUSTED_PROXIES: '127.0.0.1' } })
  const from = (address: string, key = 'nosuchkey') =>
    request(`${fairlead.url}/integrations`, {
      headers: { Authorization: `Bearer ${key}`, 'X-Forwarded-For': address },
    })
  const statuses = new Set<number>()
  // Twice the limit and a bit, for a minute that ends meanwhile; what a caller wrote into the header itself stands before what the proxy wrote.
  for (let n = 0; n < 130; n++) statuses.add((await from(`10.9.9.${n}, 198.51.100.7`)).status)
  assert.deepEqual([...statuses], [401, 429])
  assert.equal((await from('198.51.100.7', fairlead.key)).status, 200)
  assert.equal((await from('198.51.100.8')).status, 401)
})
