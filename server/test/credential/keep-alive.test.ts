/** Connections nobody uses: they outlive the provider's idle limit, at a pace no provider minds, and callers do not notice. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { takeDue } from '../../src/credential/keep-alive/store.ts'
import { createKeepAlive, defaultPace, type Pace, type Watched } from '../../src/credential/keep-alive.ts'
import type { RefreshOutcome } from '../../src/credential/refresh.ts'
import { setPaused } from '../../src/credential/store.ts'
import { sql } from '../../src/db/sql.ts'
import { Failure } from '../../src/errors.ts'
import { addIntegration } from '../../src/integration/store.ts'
import { newId } from '../../src/lib/id.ts'
import { days, minutes } from '../../src/lib/time.ts'
import type { Provider } from '../../src/provider/schema.ts'
import { until } from '../db/until.ts'
import { lapsed, openRoom, type Room } from './support/room.ts'

const never = new AbortController().signal
const silent = { debug() {}, info() {}, warn() {}, error() {} }

/** The scheduler on the real engine. */
const scheduler = (room: Room, credentials = room.credentials, pace: Pace = defaultPace) =>
  createKeepAlive(
    {
      db: room.db,
      clock: room.deps.clock,
      log: silent,
      credentials,
      watched: async () => [{ integrationId: room.integrationId, provider: room.holder.provider }],
    },
    pace,
  )

const makeDue = ({ db }: Room, id: string) =>
  db.query(sql`update credential set keep_alive_at = clock_timestamp() - interval '1 second' where id = ${id}`)

/** Days from now; null when it has no turn. */
const turnOf = async ({ db }: Room, id: string): Promise<number | null> => {
  const [row] = await db.query<{ days: number | null }>(sql`
    select extract(epoch from keep_alive_at - clock_timestamp())::float8 / 86400 as days from credential where id = ${id}`)
  return row!.days
}

const inWindow = (turn: number | null): boolean => turn !== null && turn > 2.99 && turn < 18

test('a new grant gets a turn, each renewal the next one, and none is renewed before its turn', async t => {
  const room = await openRoom(t, { rotation: true })
  const { id } = await room.connect()
  assert.equal(await turnOf(room, id), null)
  const { run } = scheduler(room)
  await run(never)
  assert.ok(inWindow(await turnOf(room, id)))
  await run(never)
  assert.equal(room.presented(), 0)

  await makeDue(room, id)
  await run(never)
  assert.equal(room.presented(), 1)
  assert.equal((await room.load(id)).tokenVersion, 2)
  assert.ok(inWindow(await turnOf(room, id)))

  // A caller's renewal moves the turn as well, in the statement that installs the tokens.
  await makeDue(room, id)
  await room.credentials.forced(room.holder, await room.load(id))
  assert.ok(inWindow(await turnOf(room, id)))
  await run(never)
  assert.equal(room.presented(), 2)
})

test('a grant of a provider without an idle limit has no turn, and loses it when the limit goes', async t => {
  const room = await openRoom(t)
  const { id } = await room.connect()
  await scheduler(room).run(never)
  assert.ok(inWindow(await turnOf(room, id)))
  const { idle_limit_days: _, ...unlimited } = room.holder.provider
  await room.credentials.forced({ ...room.holder, provider: unlimited }, await room.load(id))
  assert.equal(await turnOf(room, id), null)
})

test('a turn counts from the last renewal: what has been idle for long is renewed now', async t => {
  const room = await openRoom(t)
  const { id } = await room.connect()
  await room.db.query(sql`update credential set obtained_at = obtained_at - interval '29 days' where id = ${id}`)
  await scheduler(room).run(never)
  assert.equal((await room.load(id)).tokenVersion, 2)
})

test('over 400 days of a 30-day idle limit an idle connection never dies; without its turns it dies in the first month', async t => {
  const room = await openRoom(t, { rotation: true })
  const { clientId } = room.simulator.app('acme--uat')
  room.simulator.control.setApp({ clientId, refreshPolicy: { kind: 'idle', days: 30 } })
  const kept = await room.connect()
  const left = await room.connect()
  await setPaused(room.db, [left.id], true)
  const { run } = scheduler(room)
  const aliveAtProvider = () => room.simulator.control.state().grants.filter(grant => grant.ended === null).length

  for (let day = 0; day < 400; day += 4) {
    room.simulator.control.skipClock({ ms: days(4) })
    await room.db.query(sql`
      update credential set keep_alive_at = keep_alive_at - interval '4 days', obtained_at = obtained_at - interval '4 days',
        expires_at = expires_at - interval '4 days'
      where integration_id = ${room.integrationId}`)
    await run(never)
    const { health, cause } = await room.load(kept.id)
    assert.deepEqual([health, cause], ['active', null], `day ${day}`)
  }
  assert.equal(aliveAtProvider(), 1)
  // A turn is 3 to 18 days away, and looked for every four.
  assert.ok(room.presented() >= 400 / 20 && room.presented() <= 400 / 4, `${room.presented()} renewals`)
  assert.equal(room.simulator.control.counters().familyRevocations, 0)
  const kin = await room.load(kept.id)
  assert.equal((await room.credentials.forced(room.holder, kin)).tokenVersion, kin.tokenVersion + 1)
})

test('what is over, paused, gone, blocked or used up is not attempted', async t => {
  const room = await openRoom(t)
  const ids: string[] = []
  for (let i = 0; i < 5; i++) {
    const { id } = await room.connect(lapsed)
    await makeDue(room, id)
    ids.push(id)
  }
  const [over, paused, gone, blocked, spent] = ids as [string, string, string, string, string]
  await room.db.query(sql`update credential set health = 'needs_reauth' where id = ${over}`)
  await setPaused(room.db, [paused], true)
  await room.deleteRow(gone)
  await room.db.query(sql`update credential set health = 'blocked_by_policy' where id = ${blocked}`)
  await room.db.query(sql`update credential set health = 'degraded', spent = true where id = ${spent}`)
  const { run } = scheduler(room)
  await run(never)
  assert.equal(room.presented(), 0)

  await setPaused(room.db, [paused], false)
  await run(never)
  assert.equal(room.presented(), 1)
  assert.equal((await room.load(paused)).tokenVersion, 2)
})

test('two servers that run at once renew each grant once', async t => {
  const room = await openRoom(t, { rotation: true })
  const ids: string[] = []
  room.simulator.control.set({ maxApprovals: 1_000 })
  for (let i = 0; i < 30; i++) {
    const { id } = await room.connect()
    await makeDue(room, id)
    ids.push(id)
  }
  await Promise.all([scheduler(room, room.process()).run(never), scheduler(room, room.process()).run(never)])
  assert.equal(room.presented(), 30)
  for (const id of ids) assert.equal((await room.load(id)).tokenVersion, 2)
  assert.equal(room.simulator.control.counters().familyRevocations, 0)
})

test('a process that dies with grants in hand has delayed them and lost none', async t => {
  const room = await openRoom(t)
  const { id } = await room.connect()
  await makeDue(room, id)
  const taken = await takeDue(room.db, [room.integrationId], 10, minutes(60))
  assert.deepEqual(
    taken.map(grant => grant.id),
    [id],
  )
  // Nobody else gets it meanwhile.
  const { run } = scheduler(room)
  await run(never)
  assert.equal(room.presented(), 0)
  const turn = (await turnOf(room, id))! * 24
  assert.ok(turn > 0.99 && turn < 2, `${turn} hours`)
  await room.db.query(sql`update credential set keep_alive_at = keep_alive_at - interval '2 hours' where id = ${id}`)
  await run(never)
  assert.equal(room.presented(), 1)
})

test('callers do not wait while every place of the scheduler is taken by a provider that does not answer', async t => {
  const room = await openRoom(t, { rotation: true })
  const first = await room.connect()
  for (let i = 1; i < 5; i++) await room.connect()
  const caller = await room.connect(lapsed)
  await room.db.query(sql`
    update credential set keep_alive_at = clock_timestamp() - interval '1 second'
    where integration_id = ${room.integrationId} and id <> ${caller.id}`)
  room.simulator.control.delay({ endpoint: 'token', ms: 3_000, times: 4 })
  let ended = false
  const stop = new AbortController()
  const running = scheduler(room)
    .run(stop.signal)
    .finally(() => {
      ended = true
    })
  await until(async () => {
    const [row] = await room.db.query<{ n: number }>(sql`
      select count(*)::int as n from credential where integration_id = ${room.integrationId} and intent_claim is not null`)
    return row!.n === 4
  })
  const renewed = await room.credentials.fresh(room.holder, caller)
  assert.equal(renewed.tokenVersion, 2)
  assert.equal(ended, false)
  assert.equal((await room.load(first.id)).tokenVersion, 1)
  stop.abort()
  await running
})

// ── The pace, with an engine that only answers ──────────────────────────────────────────────────────────────────

interface Site {
  room: Room
  provider: Provider
  /** Adds an integration with so many due grants at each host. */
  integration(hosts: Record<string, number>): Promise<Watched>
  /** Every grant again due at once. */
  allDue(): Promise<unknown>
  clock: { now(): number; wall(): number; sleep(ms: number): Promise<void>; pass(ms: number): void }
}

async function openSite(t: Parameters<typeof openRoom>[0]): Promise<Site> {
  const room = await openRoom(t)
  const provider: Provider = {
    ...room.holder.provider,
    token_url: 'https://${connectionConfig.hostname}/token',
    allowed_hosts: ['*.example.test'],
  }
  let passed = 0
  const integrations: number[] = []
  return {
    room,
    provider,
    async integration(hosts) {
      const added = await addIntegration(room.deps, {
        environmentId: room.environmentId,
        key: newId(),
        provider: 'salesforce-sandbox',
        displayName: null,
        clientId: 'client',
        clientSecret: 'secret',
        scopes: null,
        forwardWebhooks: false,
        captureBodies: false,
        baseUrlHosts: [],
      })
      integrations.push(added!.id)
      for (const [host, grants] of Object.entries(hosts))
        await room.db.query(sql`
          insert into credential (id, environment_id, integration_id, kind, config, token_fp, keep_alive_at)
          select gen_random_uuid(), ${room.environmentId}, ${added!.id}, 'oauth2-code',
            jsonb_build_object('hostname', ${`${host}.example.test`}::text), decode(md5(random()::text), 'hex'),
            clock_timestamp() - interval '1 second'
          from generate_series(1, ${grants})`)
      return { integrationId: added!.id, provider }
    },
    allDue: () =>
      room.db.query(
        sql`update credential set keep_alive_at = clock_timestamp() - interval '1 second' where integration_id = any (${integrations})`,
      ),
    clock: {
      now: () => performance.now() + passed,
      wall: () => Date.now(),
      sleep: async () => {},
      pass: ms => {
        passed += ms
      },
    },
  }
}

/** An engine that answers as told, and writes down what ran at once. */
function engine(site: Site, answer: (host: string, integrationId: number) => Promise<RefreshOutcome>) {
  const running = new Map<string, number>()
  const most = new Map<string, number>()
  const attempts = new Map<string, number>()
  const count = (name: string, by: number) => {
    const now = (running.get(name) ?? 0) + by
    running.set(name, now)
    most.set(name, Math.max(most.get(name) ?? 0, now))
  }
  const order: string[] = []
  return {
    most,
    attempts,
    order,
    async keepAlive(id: string, integrationId: number) {
      const [row] = await site.room.db.query<{ host: string }>(
        sql`select split_part(config ->> 'hostname', '.', 1) as host from credential where id = ${id}`,
      )
      const { host } = row!
      const names = [host, `integration ${integrationId}`, 'all']
      for (const name of names) count(name, 1)
      for (const name of names) attempts.set(name, (attempts.get(name) ?? 0) + 1)
      const outcome = await answer(host, integrationId)
      order.push(host)
      for (const name of names) count(name, -1)
      return outcome
    },
  }
}

const runOf = (site: Site, credentials: ReturnType<typeof engine>, watched: Watched[], pace = defaultPace) =>
  createKeepAlive({ db: site.room.db, clock: site.clock, log: silent, credentials, watched: async () => watched }, pace)
    .run

const renewed: RefreshOutcome = { kind: 'renewed' }
const tick = () => new Promise<void>(resolve => setImmediate(resolve))

test('each host, each integration and the whole keep to their caps, and everything due is done', async t => {
  const site = await openSite(t)
  const watched = [
    await site.integration({ one: 40 }),
    await site.integration({ one: 40 }),
    await site.integration({ a: 20, b: 20, c: 20, d: 20 }),
    ...(await Promise.all(Array.from({ length: 4 }, (_, i) => site.integration({ [`x${i}`]: 20, [`y${i}`]: 20 })))),
  ]
  const credentials = engine(site, async () => {
    for (let i = 0; i < 10; i++) await tick()
    return renewed
  })
  await runOf(site, credentials, watched)(never)
  assert.equal(credentials.attempts.get('all'), 320)
  // Two integrations at one host share its places.
  assert.equal(credentials.most.get('one'), 4)
  for (const [name, most] of credentials.most) {
    const cap = name === 'all' ? 24 : name.startsWith('integration') ? 8 : 4
    assert.ok(most <= cap, `${name}: ${most}`)
  }
})

test('provider data may name another cap', async t => {
  const site = await openSite(t)
  const { integrationId, provider } = await site.integration({ one: 20 })
  const credentials = engine(site, async () => {
    await tick()
    return renewed
  })
  await runOf(site, credentials, [{ integrationId, provider: { ...provider, keep_alive_at_once: 1 } }])(never)
  assert.equal(credentials.attempts.get('one'), 20)
  assert.equal(credentials.most.get('one'), 1)
})

test('a host that does not answer is left alone, and no other host waits for it, of the same integration or another', async t => {
  const site = await openSite(t)
  const mixed = await site.integration({ dead: 500, lively: 30 })
  const other = await site.integration({ well: 30 })
  const silence = Promise.withResolvers<void>()
  const credentials = engine(site, async host => {
    if (host !== 'dead') return renewed
    await silence.promise
    return { kind: 'unavailable', cause: 'refresh_unanswered' }
  })
  const running = runOf(site, credentials, [mixed, other])(never)
  // The other integration is done before the dead host has said a word.
  await until(() => credentials.attempts.get('well') === 30)
  assert.ok(!credentials.order.includes('dead'))
  silence.resolve()
  await running
  assert.equal(credentials.attempts.get('lively'), 30)
  assert.equal(credentials.attempts.get('dead'), 4)
})

test('the next run goes on leaving it alone; then one asks, and its success opens the host again', async t => {
  const site = await openSite(t)
  const watched = [await site.integration({ shaky: 20 })]
  let outcome: RefreshOutcome = { kind: 'unavailable', cause: 'token_endpoint_unreachable' }
  const credentials = engine(site, async () => outcome)
  const run = runOf(site, credentials, watched)
  const attempted = async () => {
    const before = credentials.attempts.get('shaky') ?? 0
    await site.allDue()
    await run(never)
    return credentials.attempts.get('shaky')! - before
  }
  const first = await attempted()
  assert.ok(first >= 3 && first <= 6, `${first}`)
  assert.equal(await attempted(), 0)
  // Each rest is twice as long as the one before.
  site.clock.pass(minutes(1) + 1)
  assert.equal(await attempted(), 1)
  site.clock.pass(minutes(1) + 1)
  assert.equal(await attempted(), 0)
  site.clock.pass(minutes(1))
  assert.equal(await attempted(), 1)

  outcome = renewed
  site.clock.pass(minutes(30))
  assert.equal(await attempted(), 20)
})

test('an integration whose client is wrong asks once, rests as a whole, and no other one at that host rests with it', async t => {
  const site = await openSite(t)
  const wrong = await site.integration({ shared: 300 })
  const right = await site.integration({ shared: 30 })
  const credentials = engine(site, async (_, integrationId) =>
    integrationId === wrong.integrationId ? { kind: 'unavailable', cause: 'invalid_client' } : renewed,
  )
  const run = runOf(site, credentials, [wrong, right])
  await run(never)
  const wrongAttempts = () => credentials.attempts.get(`integration ${wrong.integrationId}`)!
  assert.equal(credentials.attempts.get(`integration ${right.integrationId}`), 30)
  // Those that were under way together when the first was answered.
  assert.ok(wrongAttempts() <= 4, `${wrongAttempts()}`)
  const before = wrongAttempts()
  await run(never)
  assert.equal(wrongAttempts(), before)
  site.clock.pass(minutes(1) + 1)
  await site.allDue()
  await run(never)
  assert.equal(wrongAttempts(), before + 1)
})

test('a refusal is an answer: the host is not left alone for it', async t => {
  const site = await openSite(t)
  const watched = [await site.integration({ strict: 50 })]
  const credentials = engine(site, async () => ({ kind: 'refused', cause: 'invalid_grant' }))
  await runOf(site, credentials, watched)(never)
  assert.equal(credentials.attempts.get('strict'), 50)
})

test('a grant that cannot be opened stops no other; a database that is away stops the run', async t => {
  const site = await openSite(t)
  const watched = [await site.integration({ some: 20 })]
  let failure = new Failure('sealed_value_unreadable')
  let calls = 0
  const credentials = engine(site, async () => {
    if (++calls === 1) throw failure
    return renewed
  })
  const run = runOf(site, credentials, watched)
  await run(never)
  assert.equal(credentials.order.length, 19)

  await site.allDue()
  failure = new Failure('database_unavailable')
  calls = 0
  await assert.rejects(run(never), { code: 'database_unavailable' })
  assert.ok(calls <= 4)
})

test('after the signal, and after its time, a run begins nothing; it ends when what it began has ended', async t => {
  const site = await openSite(t)
  const watched = [await site.integration({ slow: 100 })]
  const answer = Promise.withResolvers<RefreshOutcome>()
  const credentials = engine(site, () => answer.promise)
  const stop = new AbortController()
  let ended = false
  const running = runOf(
    site,
    credentials,
    watched,
  )(stop.signal).finally(() => {
    ended = true
  })
  await until(() => credentials.attempts.get('slow') === 4)
  stop.abort()
  await tick()
  assert.equal(ended, false)
  answer.resolve(renewed)
  await running
  assert.equal(credentials.attempts.get('slow'), 4)

  await site.allDue()
  const timed = engine(site, async () => {
    site.clock.pass(defaultPace.run)
    return renewed
  })
  await runOf(site, timed, watched)(never)
  assert.equal(timed.attempts.get('slow'), 4)
})

test('it holds no more grants in hand than can be worked on', async t => {
  const site = await openSite(t)
  const watched = [await site.integration({ big: 20_000 })]
  const answer = Promise.withResolvers<RefreshOutcome>()
  const credentials = engine(site, () => answer.promise)
  const stop = new AbortController()
  const running = runOf(site, credentials, watched)(stop.signal)
  await until(() => credentials.attempts.get('big') === 4)
  const [row] = await site.room.db.query<{ taken: number }>(sql`
    select count(*)::int as taken from credential where integration_id = ${watched[0]!.integrationId} and keep_alive_at > clock_timestamp()`)
  assert.ok(row!.taken <= 8, `${row!.taken}`)
  stop.abort()
  answer.resolve(renewed)
  await running
})

test('of many integrations, too, and each has its turn', async t => {
  const site = await openSite(t)
  const watched = await Promise.all(Array.from({ length: 60 }, (_, i) => site.integration({ [`h${i}`]: 12 })))
  const ids = watched.map(one => one.integrationId)
  let most = 0
  const credentials = engine(site, async () => {
    const [row] = await site.room.db.query<{ taken: number }>(sql`
      select count(*)::int as taken from credential where integration_id = any (${ids}) and keep_alive_at > clock_timestamp()`)
    most = Math.max(most, row!.taken - credentials.order.length)
    return renewed
  })
  await runOf(site, credentials, watched)(never)
  assert.equal(credentials.order.length, 720)
  assert.ok(most <= 128 + 8 + 24, `${most}`)
  // The last to begin has begun before the first has ended.
  const began = (host: string) => credentials.order.indexOf(host)
  assert.ok(began('h59') < credentials.order.lastIndexOf('h0'))
})

test('grants renewed at the same moment have turns so even that no minute has a tenth more than its share', async t => {
  const { db } = await openRoom(t)
  const [row] = await db.query<{ busiest: number; minutes: number; first: number; last: number }>(sql`
    with turns as (
      select keep_alive_moment(turn, since, interval '3 days') - since as wait
      from generate_series(1, 100000) as turn, (values ('2026-01-01 12:34:56.789Z'::timestamptz)) as renewed (since)
    ), by_minute as (
      select date_trunc('minute', wait) as minute, count(*)::int as n from turns group by 1
    )
    select (select max(n) from by_minute) as busiest, (select count(*)::int from by_minute) as minutes,
      (select extract(epoch from min(wait))::float8 from turns) / 86400 as first,
      (select extract(epoch from max(wait))::float8 from turns) / 86400 as last`)
  assert.ok(row!.first > 0.2999 && row!.last < 1.8001, JSON.stringify(row))
  const mean = 100_000 / (1.5 * 24 * 60)
  assert.ok(row!.busiest / mean < 1.1, JSON.stringify(row))
  assert.ok(row!.minutes >= 1.5 * 24 * 60)
})
