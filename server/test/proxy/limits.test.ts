/** What a provider said about its limits, in virtual time; then through a server. */
import assert from 'node:assert/strict'
import { describe, test, after as whenDone } from 'node:test'
import type { Live } from '../../src/connection/live.ts'
import { Failure } from '../../src/errors.ts'
import { createLimits } from '../../src/proxy/limits.ts'
import { lastFirst } from '../support/last-first.ts'
import { naming, send, startWorld } from './world.ts'

const file = lastFirst({ after: whenDone })

const shared = {
  account: 'organization_id',
  usage_header: 'sforce-limit-info',
  usage_pattern: 'api-usage=(?<used>\\d+)/(?<limit>\\d+)',
  reserve_percent: 10,
}
const live = (id: string, organization?: string) =>
  ({
    provider: { name: 'p', ...(organization && { rate_limit: shared }) },
    credential: { id, config: { organization_id: organization } },
  }) as unknown as Live

const timed = () => {
  const at = { now: 1_000, wall: Date.parse('2026-11-22T00:00:00Z') }
  const limits = createLimits({ now: () => at.now, wall: () => at.wall, sleep: async () => {} })
  const pass = (ms: number) => {
    at.now += ms
    at.wall += ms
  }
  return { limits, pass }
}

const refused = (code: string, retryAfter: string) => (error: unknown) => {
  assert.ok(error instanceof Failure)
  assert.deepEqual([error.status, error.code, error.headers['Retry-After']], [429, code, retryAfter])
  return true
}

test('while a provider wants no call none is made, on that path of that connection', () => {
  const { limits, pass } = timed()
  limits.learn(live('a'), '/slow?page=1', 429, { 'retry-after': '30' })
  assert.throws(() => limits.check(live('a'), '/slow?page=2', false), refused('rate_limited', '30'))
  limits.check(live('a'), '/other', false)
  limits.check(live('b'), '/slow', false)
  pass(29_500)
  assert.throws(() => limits.check(live('a'), '/slow', false), refused('rate_limited', '1'))
  pass(500)
  limits.check(live('a'), '/slow', false)
})

test('what is learned is believed for a minute at most', () => {
  const { limits, pass } = timed()
  limits.learn(live('a'), '/x', 429, { 'retry-after': '86400' })
  pass(60_000)
  limits.check(live('a'), '/x', false)
})

describe('an empty window', () => {
  const cases: [Record<string, string>, string | undefined][] = [
    [{ 'ratelimit-remaining': '0', 'ratelimit-reset': '12' }, '12'],
    [{ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(Date.parse('2026-11-22T00:00:09Z') / 1000) }, '9'],
    [{ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(Date.parse('2026-11-22T00:00:09Z')) }, '9'],
    [{ 'ratelimit-remaining': '1', 'ratelimit-reset': '12' }, undefined],
    [{ 'ratelimit-remaining': '0' }, undefined],
    [{ 'ratelimit-remaining': '0', 'ratelimit-reset': 'soon' }, undefined],
    [{ 'ratelimit-remaining': '0', 'ratelimit-reset': '-5' }, undefined],
  ]
  for (const [headers, wait] of cases)
    test(JSON.stringify(headers), () => {
      const { limits } = timed()
      limits.learn(live('a'), '/x', 200, headers)
      if (wait === undefined) limits.check(live('a'), '/x', false)
      else assert.throws(() => limits.check(live('a'), '/x', false), refused('rate_limited', wait))
    })
})

test('connections of one org share its day: its last tenth is kept from calls that can wait', () => {
  const { limits, pass } = timed()
  const used = (n: number) => limits.learn(live('a', '00D1'), '/x', 200, { 'sforce-limit-info': `api-usage=${n}/1000` })
  used(899)
  limits.check(live('b', '00D1'), '/y', true)
  used(900)
  assert.throws(() => limits.check(live('b', '00D1'), '/y', true), refused('rate_limit_reserved', '600'))
  limits.check(live('b', '00D1'), '/y', false)
  limits.check(live('c', '00D2'), '/y', true)
  // A refusal of the org is one of all its connections and paths.
  limits.learn(live('a', '00D1'), '/x', 429, { 'retry-after': '5' })
  assert.throws(() => limits.check(live('b', '00D1'), '/z', false), refused('rate_limited', '5'))
  // The day is over, or nobody knows: it is tried again.
  pass(3_600_000)
})

test('through a server: the second call on it is not made, and says whose refusal it is', async () => {
  const world = await startWorld(file)
  const id = await world.connect()
  world.upstream.answer = (_req, res) => void res.writeHead(429, { 'Retry-After': '20' }).end('slow down')
  const call = (headers: Record<string, string> = {}) =>
    send(world.fairlead.url, { path: '/proxy/x', headers: { ...naming(world, id), ...headers } })
  // Each server learns it for itself.
  const { servers } = world.fairlead
  for (let n = 0; n < servers; n++) {
    const first = await call()
    assert.deepEqual([first.status, first.text, first.ours], [429, 'slow down', undefined])
  }
  for (let n = 0; n < servers; n++) {
    const second = await call()
    assert.deepEqual([second.status, second.ours], [429, 'rate_limited'])
    assert.match(second.headers['retry-after']!, /^(1[5-9]|20)$/)
  }
  assert.equal(world.upstream.arrived.length, servers)
  assert.equal((await call({ 'Fairlead-Priority': 'later' })).ours, 'invalid_headers')
})
