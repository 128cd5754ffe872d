/** The outbox at work against receivers on the loopback: what arrives, what is tried again, what is given up. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { replaceSigningKey, writeSettings } from '../../src/account/settings/store.ts'
import { sql } from '../../src/db/sql.ts'
import { pruneDeliveries, takeTurn } from '../../src/webhook/store.ts'
import { until } from '../db/until.ts'
import { openOutbox } from './support/outbox.ts'
import { answering, type ReceiverServer } from './support/receiver.ts'
import { verifiesStandard, verifiesWire } from './support/verify.ts'

const minutes = 60

test('an event arrives once, signed by both schemes, and is not sent again', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  await outbox.put(at)
  await outbox.deliveries.sweep()
  await outbox.deliveries.sweep()
  const [row] = await outbox.rows(at)
  assert.deepEqual([row?.state, row?.tries, row?.ended], ['delivered', 1, true])
  const [taken, ...more] = at.receiver.taken
  assert.ok(taken && more.length === 0)
  assert.ok(verifiesStandard(taken, at.key) && verifiesWire(taken, at.key))
  assert.equal(taken.headers['webhook-id'], row?.event_id)
  assert.equal(taken.headers['fairlead-event'], 'webhook.test')
  assert.equal(taken.headers['fairlead-sequence'], String(row?.sequence))
  assert.match(taken.headers['content-type'] ?? '', /^application\/json$/)
  assert.match(taken.headers['user-agent'] ?? '', /^fairlead\//)
  assert.deepEqual([taken.json.id, taken.json.sequence], [row?.event_id, row?.sequence])
  assert.deepEqual(await outbox.attempts(at), [{ url: at.receiver.url, status: 204, error: null, answer: null }])
})

const retried: [
  what: string,
  answer: ReceiverServer['answer'],
  status: number | null,
  waitSeconds: [number, number],
][] = [
  ['500', answering(500), 500, [3, 7]],
  ['404', answering(404), 404, [3, 7]],
  ['429 with Retry-After in seconds', answering(429, { 'retry-after': '120' }), 429, [115, 121]],
  [
    '503 with Retry-After as a date',
    res => answering(503, { 'retry-after': new Date(Date.now() + 600_000).toUTCString() })(res, undefined as never),
    503,
    [590, 601],
  ],
  ['a Retry-After beyond a day', answering(503, { 'retry-after': '9999999999' }), 503, [86_000, 86_401]],
  ['a Retry-After that says nothing', answering(503, { 'retry-after': '-5, soon' }), 503, [3, 7]],
  ['a redirect', answering(302, { location: 'http://127.0.0.1:1/' }), 302, [3, 7]],
  ['a connection that breaks', res => void res.destroy(), null, [3, 7]],
  ['an answer without end', answering(200, {}, 'x'.repeat(300 * 1024)), null, [3, 7]],
]
for (const [what, answer, status, [least, most]] of retried)
  test(`${what} is tried again later`, async t => {
    const outbox = await openOutbox(t)
    const at = await outbox.environment()
    at.receiver.answer = answer
    await outbox.put(at)
    await outbox.deliveries.sweep()
    await outbox.deliveries.sweep()
    assert.equal(at.receiver.taken.length, 1, 'not at once, and a redirect is not followed')
    const [row] = await outbox.rows(at)
    assert.deepEqual([row?.state, row?.tries], ['pending', 1])
    assert.ok(row && row.next_in > least && row.next_in < most, `in ${row?.next_in} s`)
    assert.equal((await outbox.attempts(at))[0]?.status, status)

    at.receiver.answer = answering(200)
    await outbox.pass(48)
    await outbox.deliveries.sweep()
    assert.equal((await outbox.rows(at))[0]?.state, 'delivered')
    const [first, second] = at.receiver.taken
    assert.equal(first?.headers['webhook-id'], second?.headers['webhook-id'])
    assert.equal(first?.body, second?.body, 'the same message to the byte')
    assert.ok(verifiesStandard(second!, at.key), 'signed for the moment it was sent')
  })

test('410 is the end of a delivery, and of nothing else', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  at.receiver.answer = answering(410)
  await outbox.put(at)
  await outbox.deliveries.sweep()
  assert.deepEqual(
    (await outbox.rows(at)).map(row => [row.state, row.tries, row.ended]),
    [['failed', 1, true]],
  )
  at.receiver.answer = answering(200)
  await outbox.put(at)
  await outbox.pass(48)
  await outbox.deliveries.sweep()
  assert.deepEqual(
    (await outbox.rows(at)).map(row => row.state),
    ['failed', 'delivered'],
  )
  assert.equal(at.receiver.taken.length, 2)
})

test('waits double up to an hour, and three days after the event the last try has been made', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  at.receiver.answer = answering(500)
  await outbox.put(at)
  const waits: number[] = []
  for (let tries = 1; ; tries++) {
    await outbox.deliveries.sweep()
    const [row] = await outbox.rows(at)
    assert.equal(row?.tries, tries)
    if (row?.state === 'failed') break
    waits.push(row!.next_in)
    await outbox.pass(row!.next_in / 3600)
  }
  const sum = waits.reduce((total, wait) => total + wait, 0)
  assert.ok(Math.abs(sum - 72 * 60 * minutes) < 60, `${sum / 3600} hours`)
  assert.ok(waits.length >= 10 && waits.length < 130, `${waits.length} tries`)
  for (const wait of waits) assert.ok(wait > 0 && wait <= 75 * minutes, `${wait} s`)
  for (const [n, wait] of waits.slice(2, 8).entries()) {
    const before = waits.slice(0, n + 2).reduce((total, one) => total + one, 0)
    assert.ok(wait > before * 0.7 && wait < before * 1.3 + 8, `${wait} s after ${before} s`)
  }
  assert.ok(waits.slice(15, -1).every(wait => wait > 44 * minutes))
})

test('a receiver that was dead for a day gets everything, in an order it can see, and repeats carry the same id', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  await at.receiver.down()
  for (let hour = 0; hour < 24; hour++) {
    await outbox.put(at, 3)
    await outbox.deliveries.sweep()
    await outbox.pass(1)
  }
  assert.equal(at.receiver.taken.length, 0)
  await at.receiver.up()
  // It takes every message, and of every third it breaks the line before it has answered.
  let nth = 0
  at.receiver.answer = res => (nth++ % 3 === 0 ? res.destroy() : answering(200)(res, undefined as never))
  for (let hour = 0; hour < 12; hour++) {
    await outbox.deliveries.sweep()
    await outbox.pass(1.5)
  }
  const rows = await outbox.rows(at)
  assert.deepEqual([rows.length, rows.filter(row => row.state === 'delivered').length], [72, 72])
  const ids = at.receiver.taken.map(one => one.headers['webhook-id'])
  assert.deepEqual([...new Set(ids)].sort(), rows.map(row => row.event_id).sort())
  assert.ok(ids.length > 72, 'some came twice')
  const sequenceOf = new Map(rows.map(row => [row.event_id, row.sequence]))
  for (const { headers, json } of at.receiver.taken) {
    assert.equal(json.sequence, sequenceOf.get(json.id))
    assert.equal(headers['webhook-id'], json.id)
    assert.equal(headers['fairlead-sequence'], String(json.sequence))
  }
})

test('a receiver that never answers delays nobody else, and is asked with four at a time', async t => {
  const outbox = await openOutbox(t)
  const dead = await outbox.environment()
  const live = await outbox.environment()
  dead.receiver.answer = () => {}
  await outbox.put(dead, 30)
  void outbox.deliveries.sweep()
  await until(() => dead.receiver.taken.length === 4)
  for (let n = 1; n <= 20; n++) {
    await outbox.put(live)
    outbox.deliveries.kick()
    await until(async () => (await outbox.rows(live)).filter(row => row.state === 'delivered').length === n)
  }
  assert.equal(dead.receiver.taken.length, 4)
  assert.ok((await outbox.rows(dead)).every(row => row.state === 'pending'))
  // The other receiver of the same environment is not held up either.
  await writeSettings(outbox.db, dead.id, { webhook_url_secondary: live.receiver.url })
  await outbox.put(dead)
  outbox.deliveries.kick()
  await until(async () =>
    (await outbox.rows(dead)).some(row => row.receiver === 'secondary' && row.state === 'delivered'),
  )
  assert.equal(dead.receiver.taken.length, 4)
  await dead.receiver.down()
})

test('of several processes one serves a receiver at a time, and none sends what another sends', async t => {
  const outbox = await openOutbox(t)
  const environments = await Promise.all(Array.from({ length: 6 }, () => outbox.environment()))
  const processes = [outbox.deliveries, outbox.process(), outbox.process()]
  const atOnce = new Map<ReceiverServer, number>()
  let most = 0
  for (const { receiver } of environments)
    receiver.answer = (res, taken) => {
      atOnce.set(receiver, (atOnce.get(receiver) ?? 0) + 1)
      most = Math.max(most, atOnce.get(receiver)!)
      setTimeout(() => {
        atOnce.set(receiver, atOnce.get(receiver)! - 1)
        answering(200)(res, taken)
      }, 5)
    }
  await Promise.all(environments.map(at => outbox.put(at, 40)))
  await Promise.all(processes.map(one => one.sweep()))
  // A process that found every turn taken goes home; those that have them end the work.
  await until(async () => {
    const rows = await Promise.all(environments.map(at => outbox.rows(at)))
    return rows.flat().every(row => row.state === 'delivered')
  })
  for (const { receiver } of environments) {
    const ids = receiver.taken.map(one => one.headers['webhook-id'])
    assert.deepEqual([ids.length, new Set(ids).size], [40, 40])
  }
  assert.ok(most <= 4, `${most} at once`)
})

test('what a dead process was serving waits for the end of its turn, and no longer', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  await outbox.put(at)
  assert.ok(await takeTurn(outbox.db, { environmentId: at.id, name: 'primary' }, randomUUID()))
  await outbox.deliveries.sweep()
  assert.equal(at.receiver.taken.length, 0)
  await outbox.db.query(sql`update webhook_turn set until = clock_timestamp() where environment_id = ${at.id}`)
  await outbox.deliveries.sweep()
  assert.equal(at.receiver.taken.length, 1)
  assert.deepEqual(await outbox.db.query(sql`select from webhook_turn where environment_id = ${at.id}`), [])
})

test('what is pending follows a URL that is corrected, and ends with one that is taken away', async t => {
  const outbox = await openOutbox(t)
  const [at, other] = [await outbox.environment(), await outbox.environment()]
  at.receiver.answer = answering(404)
  await outbox.put(at)
  await outbox.deliveries.sweep()
  await writeSettings(outbox.db, at.id, { webhook_url: other.receiver.url })
  await outbox.pass(1)
  await outbox.deliveries.sweep()
  assert.deepEqual(
    (await outbox.attempts(at)).map(one => [one.url, one.status]),
    [
      [at.receiver.url, 404],
      [other.receiver.url, 204],
    ],
  )
  await outbox.put(at)
  await writeSettings(outbox.db, at.id, { webhook_url: null })
  await outbox.deliveries.sweep()
  assert.deepEqual([at.receiver.taken.length, other.receiver.taken.length], [1, 1])
  const last = (await outbox.rows(at)).at(-1)
  assert.deepEqual([last?.state, last?.tries], ['failed', 1])
})

test('what the egress policy forbids is never asked, whatever stands in the row', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  for (const url of ['http://127.0.0.2:9/', 'http://169.254.169.254/latest', 'https://[::1]/', 'not a url']) {
    await outbox.db.query(sql`update environment set webhook_url = ${url} where id = ${at.id}`)
    await outbox.put(at)
    await outbox.deliveries.sweep()
  }
  const attempts = await outbox.attempts(at)
  assert.equal(attempts.length, 4)
  for (const { status, error } of attempts) assert.ok(status === null && error, JSON.stringify(attempts))
  assert.equal(at.receiver.taken.length, 0)
})

test('while one key replaces another both verify; the old one ends with its time', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  const { key } = await replaceSigningKey(outbox.deps, at.id, 24)
  const deliver = async () => {
    await outbox.put(at)
    await outbox.deliveries.sweep()
    return at.receiver.taken.at(-1)!
  }
  const during = await deliver()
  assert.deepEqual([verifiesStandard(during, at.key), verifiesStandard(during, key.reveal())], [true, true])
  assert.ok(verifiesWire(during, key.reveal()))
  await outbox.db.query(sql`update webhook_key set retires_at = clock_timestamp() where retires_at is not null`)
  const after = await deliver()
  assert.deepEqual([verifiesStandard(after, at.key), verifiesStandard(after, key.reveal())], [false, true])

  // Rotated again and again: the header stays one that any server reads.
  for (let n = 0; n < 20; n++) await replaceSigningKey(outbox.deps, at.id, 24)
  const many = await deliver()
  assert.equal(String(many.headers['webhook-signature']).split(' ').length, 5)
})

test('a connection’s own receiver in an environment that has none is signed for all the same', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  await outbox.db.query(sql`delete from webhook_key where environment_id = ${at.id}`)
  await outbox.put(at)
  await outbox.db.query(
    sql`update webhook_delivery set receiver = ${`${at.receiver.url}/own`} where environment_id = ${at.id}`,
  )
  await outbox.deliveries.sweep()
  assert.equal(at.receiver.taken[0]?.path, '/hook/own')
  assert.match(String(at.receiver.taken[0]?.headers['webhook-signature']), /^v1,[A-Za-z0-9+/]{43}=$/)
})

test('of a receiver’s answer at most a kilobyte is kept, without what looks like a secret', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  const jwt = `eyJhbGciOiJIUzI1NiJ9.${'x'.repeat(40)}.${'y'.repeat(40)}`
  at.receiver.answer = answering(
    500,
    {},
    `\0\u{1b}[31m Bearer ${'z'.repeat(40)} ${at.key} access_token=${'q'.repeat(30)} ${'ü'.repeat(2000)} ${jwt}`,
  )
  await writeSettings(outbox.db, at.id, { webhook_url: `${at.receiver.url}?token=${'k'.repeat(30)}` })
  await outbox.put(at)
  await outbox.deliveries.sweep()
  const [attempt] = await outbox.attempts(at)
  assert.ok(attempt?.answer && Buffer.byteLength(attempt.answer) <= 1024)
  assert.ok(attempt.answer.endsWith('ü'), 'cut between characters')
  assert.match(attempt.answer, /^\u{fffd}\u{fffd}\[31m Bearer \[redacted\] \[redacted\] access_token=\[redacted\] ü/u)
  assert.equal(attempt.url, `${at.receiver.url}?token=[redacted]`)
  for (const secret of ['z'.repeat(40), at.key, 'q'.repeat(30), 'k'.repeat(30)])
    assert.ok(!outbox.log().includes(secret))
})

test('what was delivered is kept for a month, what failed for three, and what is pending is never swept', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  await outbox.put(at)
  await outbox.deliveries.sweep()
  at.receiver.answer = answering(410)
  await outbox.put(at)
  await outbox.deliveries.sweep()
  await writeSettings(outbox.db, at.id, { webhook_url_secondary: at.receiver.url })
  at.receiver.answer = (res, taken) => answering(at.receiver.taken.length % 2 ? 200 : 410)(res, taken)
  await outbox.put(at)
  await outbox.deliveries.sweep()
  await outbox.put(at)
  const kept = async () => {
    while (await pruneDeliveries(outbox.db, { deliveries: 30, failed_deliveries: 90 }, 1)) {}
    const events = await outbox.db.query(sql`select from webhook_event where environment_id = ${at.id}`)
    return [
      (await outbox.rows(at))
        .map(row => row.state)
        .sort()
        .join(),
      events.length,
    ]
  }
  assert.deepEqual(await kept(), ['delivered,delivered,failed,failed,pending,pending', 4])
  await outbox.pass(29 * 24)
  assert.deepEqual(await kept(), ['delivered,delivered,failed,failed,pending,pending', 4])
  await outbox.pass(2 * 24)
  assert.deepEqual(await kept(), ['failed,failed,pending,pending', 3])
  await outbox.pass(60 * 24)
  assert.deepEqual(await kept(), ['pending,pending', 1])
  assert.deepEqual(
    await outbox.db.query(sql`
    select from webhook_attempt a where not exists (select from webhook_delivery where id = a.delivery)`),
    [],
  )
})

test('a process that is told to stop does not wait for a slow receiver', async t => {
  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  at.receiver.answer = () => {}
  await outbox.put(at, 10)
  const deliveries = outbox.process()
  void deliveries.sweep()
  await until(() => at.receiver.taken.length === 4)
  const began = performance.now()
  await deliveries.drain()
  assert.ok(performance.now() - began < 10_000, 'well below the twenty seconds it would wait for an answer')
  await at.receiver.down()
})
