/** What is sent again, and above all what is not. */
import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { Failure } from '../../src/errors.ts'
import type { Provider } from '../../src/provider/schema.ts'
import { headOf } from '../../src/proxy/headers.ts'
import { retryRules, waitBefore } from '../../src/proxy/retry.ts'
import { lastFirst } from '../support/last-first.ts'
import { listening, naming, send, startUpstream, startWorld, type Upstream, type World } from './world.ts'

let world: World
/** One for each test: the budget for repetitions is a host's. */
let upstream: Upstream
let id: string
const file = lastFirst({ after: whenDone })

before(async () => {
  world = await startWorld(file)
})

/** What the upstream answers, one after the other; the last one stays. */
let answers: { status: number; headers?: Record<string, string>; body?: string }[]

beforeEach(async () => {
  upstream = await startUpstream(file)
  id = await world.connect('own', upstream.url)
  upstream.answer = (_req, res) => {
    const {
      status,
      headers = {},
      body = `answer ${upstream.arrived.length}`,
    } = answers.length > 1 ? answers.shift()! : answers[0]!
    res.writeHead(status, { 'Retry-After': '0', ...headers }).end(body)
  }
})

const call = (method: string, headers: Record<string, string>, body?: Buffer | string) =>
  send(world.fairlead.url, {
    method,
    path: '/proxy/x',
    headers: { ...naming(world, id), ...headers },
    ...(body !== undefined && { body }),
  })

describe('as often as asked for', () => {
  const cases: [what: string, method: string, headers: Record<string, string>, status: number, asked: number][] = [
    ['nothing asked for', 'GET', {}, 503, 1],
    ['a GET', 'GET', { Retries: '2' }, 503, 3],
    ['a PUT', 'PUT', { Retries: '1' }, 500, 2],
    ['an answer that is none to repeat', 'GET', { Retries: '2' }, 400, 1],
    ['not implemented stays so', 'GET', { Retries: '2' }, 501, 1],
    ['a status the caller names', 'GET', { Retries: '2', 'Retry-On': '409,425' }, 425, 3],
    ['a POST that may have been carried out', 'POST', { Retries: '2' }, 503, 1],
    ['a POST that was not', 'POST', { Retries: '2' }, 429, 3],
    ['a POST its caller calls harmless twice', 'POST', { Retries: '2', 'Idempotency-Key': 'k' }, 503, 3],
    ['a POST whose caller names the status', 'POST', { Retries: '2', 'Retry-On': '503' }, 503, 3],
  ]
  for (const [what, method, headers, status, asked] of cases)
    test(what, async () => {
      answers = [{ status }]
      const got = await call(method, headers, method === 'GET' ? undefined : 'body')
      // The last answer is the provider's own, whole.
      assert.deepEqual([got.status, got.ours, got.text], [status, undefined, `answer ${asked}`])
      assert.equal(upstream.arrived.length, asked)
      for (const { body } of upstream.arrived) assert.equal(body.toString(), method === 'GET' ? '' : 'body')
    })

  test('a success ends it', async () => {
    answers = [{ status: 503 }, { status: 502 }, { status: 200 }]
    assert.equal((await call('GET', { Retries: '900' })).text, 'answer 3')
  })

  test('a body that streams through cannot be sent again', async () => {
    answers = [{ status: 503 }]
    const got = await call('PUT', { Retries: '2' }, Buffer.alloc(64 * 1024 + 1))
    assert.deepEqual([got.status, upstream.arrived.length], [503, 1])
  })

  test('a wait of more than a minute is the caller’s', async () => {
    answers = [{ status: 503, headers: { 'Retry-After': '61' } }]
    const got = await call('GET', { Retries: '2' })
    assert.deepEqual([got.status, got.headers['retry-after'], upstream.arrived.length], [503, '61', 1])
  })

  test('an ended token is renewed within an attempt and does not use one up', async () => {
    answers = [{ status: 401 }, { status: 503 }, { status: 200 }]
    assert.equal((await call('GET', { Retries: '1' })).text, 'answer 3')
  })

  for (const headers of [
    { Retries: 'two' },
    { Retries: '-1' },
    { Retries: '1.5' },
    { Retries: '1', 'Retry-On': '5xx' },
  ] as Record<string, string>[])
    test(`what cannot be read is refused: ${JSON.stringify(headers)}`, async () => {
      answers = [{ status: 200 }]
      const got = await call('GET', headers)
      assert.deepEqual([got.status, got.ours, upstream.arrived.length], [400, 'invalid_headers', 0])
    })
})

test('a provider that only fails gets at most a fifth more calls than were made', async () => {
  answers = [{ status: 503 }]
  const calls = 200
  for (let n = 0; n < calls; n++) assert.equal((await call('GET', { Retries: '5' })).status, 503)
  const { length } = upstream.arrived
  // Ten beyond the fifth are what an integration of few calls begins with, on each server.
  assert.ok(length <= calls * 1.2 + 10 * world.fairlead.servers, `${length} calls arrived`)
})

describe('a connection that its other end closed as it was used again', () => {
  /** Serves the first request of each connection and hangs up on the second. */
  const closing = async () => {
    const asked: string[] = []
    const sockets = new Set<Socket>()
    const server = createServer(socket => {
      sockets.add(socket.on('error', () => {}))
      let served = 0
      socket.on('data', bytes => {
        asked.push(bytes.toString().split(' ', 1)[0]!)
        if (served++) return void socket.destroy()
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      })
    })
    const port = await listening(server)
    file.after(async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    })
    id = await world.connect('own', `http://127.0.0.1:${port}`)
    return asked
  }

  test('is nobody’s failure', async () => {
    const asked = await closing()
    const calls = 5
    for (let n = 0; n < calls; n++) assert.equal((await call('GET', {})).text, 'ok')
    // All but the first of each server find its connection closed.
    assert.equal(asked.length, 2 * calls - world.fairlead.servers)
  })

  test('but a POST, which may have been carried out, is not sent twice', async () => {
    const asked = await closing()
    const { servers } = world.fairlead
    for (let n = 0; n < servers; n++) assert.equal((await call('POST', {}, 'x')).text, 'ok')
    for (let n = 1; n <= servers; n++) {
      const got = await call('POST', {}, 'x')
      assert.deepEqual([got.status, got.ours, asked], [502, 'upstream_failed', Array(servers + n).fill('POST')])
    }
  })
})

describe('when to come back, as the provider says it', () => {
  const now = Date.parse('2026-11-22T00:00:00Z')
  const held = (headers: Record<string, string>, body = '') => ({
    status: 429,
    statusText: '',
    headers,
    body: Buffer.from(body),
    decompress: false,
    repeatsToken: false,
  })
  const provider = (retry: NonNullable<Provider['proxy']>['retry']) => ({ proxy: { retry } }) as Provider
  const cases: [NonNullable<Provider['proxy']>['retry'], Record<string, string>, string, number | undefined][] = [
    [undefined, { 'retry-after': '7' }, '', 7_000],
    [undefined, { 'retry-after': 'Sun, 22 Nov 2026 00:00:09 GMT' }, '', 9_000],
    [undefined, { 'retry-after': 'Sat, 21 Nov 2026 00:00:09 GMT' }, '', 0],
    [{ after: 'X-Wait' }, { 'x-wait': '3', 'retry-after': '7' }, '', 3_000],
    [{ at: 'X-Reset' }, { 'x-reset': String(now / 1000 + 5) }, '', 5_000],
    [{ at: 'X-Reset' }, { 'x-reset': String(now + 5) }, '', 5],
    [
      { in_body: { path: 'error.detail', value: 'in (\\d+) s', strategy: 'after' } },
      {},
      '{"error":{"detail":"back in 4 s"}}',
      4_000,
    ],
    [{ in_body: { path: 'constructor.name', value: '.*', strategy: 'after' } }, { 'retry-after': '2' }, '{}', 2_000],
    [undefined, { 'retry-after': '3600' }, '', undefined],
  ]
  for (const [rules, headers, body, wait] of cases)
    test(`${JSON.stringify(rules ?? {})} ${JSON.stringify(headers)} ${body}`, () => {
      assert.equal(waitBefore(1, provider(rules), held(headers, body), now), wait)
    })

  test('where nothing is said: doubling from a second, half of it chance, a minute at most', () => {
    for (let n = 1; n < 12; n++) {
      const wait = waitBefore(n, provider(undefined), new Failure('upstream_failed'), now)!
      const most = Math.min(60_000, 1_000 * 2 ** (n - 1))
      assert.ok(wait >= most / 2 && wait <= most, `${n}: ${wait}`)
    }
  })

  test('a provider’s own list takes the place of ours', () => {
    const rules = retryRules(provider({ error_code: ['420', '5xx', '700-799'] }), 'GET', headOf(['Retries', '1']))
    assert.equal(retryRules(provider({}), 'GET', headOf(['Retries', '900'])).max, 10)
    assert.deepEqual(
      [420, 429, 500, 599, 750].map(status => rules.status(status)),
      [true, false, true, true, true],
    )
  })
})
