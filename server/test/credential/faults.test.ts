/**
 * A token endpoint in every kind of trouble, over real sockets: nobody is asked to sign in again for it, the old token serves while it
 * lives, what is said has a cause, and an answer that never ends is ended. What the provider's own error codes mean stands in
 * `refresh.test.ts`, what a token answer may look like in `../connect/token-answer.test.ts`, sockets as such in `../net/egress.test.ts`.
 */
import assert from 'node:assert/strict'
import { createSecureServer } from 'node:http2'
import type { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { createServer as createTls } from 'node:tls'
import { defaultTiming } from '../../src/credential/timing.ts'
import { systemClock } from '../../src/lib/time.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import type { DialOptions } from '../../src/net/dial.ts'
import { createEgress } from '../../src/net/egress.ts'
import { certificate, closedPort, expiredCertificate, listen, rawServer } from '../net/support/servers.ts'
import { failureOf, grantOf, lapsed, openRoom, type Room } from './support/room.ts'

/** Deadlines scaled down; the quiet time is not reached. */
const quick = { ...defaultTiming, answer: 400 }
const dialMs = 200

interface Endpoint {
  url: string
  /** Requests read to the end of their head. */
  presented: () => number
  dial?: Partial<DialOptions>
}

/** Reads each request, then lets `answer` do what it likes with the connection. */
async function speaking(t: TestContext, answer: (socket: Socket) => void): Promise<Endpoint> {
  let presented = 0
  const { port } = await rawServer(t, socket => {
    let head = ''
    socket.on('data', chunk => {
      if (head.includes('\r\n\r\n')) return
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      presented++
      answer(socket)
    })
  })
  return { url: `http://127.0.0.1:${port}/token`, presented: () => presented }
}

const headOf = (status: number, headers: Record<string, string>) =>
  [`HTTP/1.1 ${status} X`, ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), '', ''].join('\r\n')

type Serve = (t: TestContext) => Promise<Endpoint>

const answers =
  (status: number, body: string | Buffer = '', headers: Record<string, string> = {}): Serve =>
  t =>
    speaking(t, socket => {
      const length = String(Buffer.byteLength(body))
      socket.write(headOf(status, { 'content-type': 'application/json', 'content-length': length, ...headers }))
      socket.end(body)
    })

/** One byte every few milliseconds, until the other side has had enough. */
const trickles =
  (first: string): Serve =>
  t =>
    speaking(t, socket => {
      socket.write(first)
      const drip = setInterval(() => socket.write('a'), 5)
      socket.on('close', () => clearInterval(drip))
    })

/** A name instead of an address, and a resolver of its own. */
const resolves =
  (lookup: DialOptions['lookup']): Serve =>
  async () => ({ url: 'http://api.example/token', presented: () => 0, dial: { lookup } })

const failing = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }))

async function secure(t: TestContext, { key, cert }: { key: string; cert: string }, trusted: boolean) {
  let presented = 0
  const { port } = await listen(
    t,
    createTls({ key, cert }, socket => socket.on('error', () => {}).on('data', () => presented++)),
  )
  return {
    url: `https://127.0.0.1:${port}/token`,
    presented: () => presented,
    dial: trusted ? { ca: cert } : {},
  }
}

const tokens = (changed: object = {}) => ({
  access_token: '00Dxx!access',
  refresh_token: '5Aep8refresh',
  token_type: 'Bearer',
  scope: 'api refresh_token',
  ...changed,
})
const page = '<!doctype html><title>Scheduled maintenance</title>'
const inAnHour = () => new Date(Date.now() + 3_600_000).toUTCString()

interface Fault {
  /** The token endpoint … */
  what: string
  serve: Serve
  cause: 'token_endpoint_unreachable' | 'refresh_unanswered' | 'refresh_unreadable' | 'provider_busy'
  /** Seconds until the next try, when it is not the usual back-off. */
  wait?: number
}

const unreachable = (what: string, serve: Serve): Fault => ({ what, serve, cause: 'token_endpoint_unreachable' })
const unanswered = (what: string, serve: Serve): Fault => ({ what, serve, cause: 'refresh_unanswered' })
const unreadable = (what: string, serve: Serve, wait?: number): Fault => ({
  what,
  serve,
  cause: 'refresh_unreadable',
  ...(wait && { wait }),
})
const busy = (what: string, serve: Serve, wait?: number): Fault => ({
  what,
  serve,
  cause: 'provider_busy',
  ...(wait && { wait }),
})

const faults: Fault[] = [
  unreachable('has a name that does not exist', resolves(failing('ENOTFOUND'))),
  unreachable('has a name whose servers fail', resolves(failing('EAI_AGAIN'))),
  unreachable(
    'has a name whose servers are silent',
    resolves(() => new Promise(() => {})),
  ),
  unreachable('refuses connections', async () => ({
    url: `http://127.0.0.1:${await closedPort()}/token`,
    presented: () => 0,
  })),
  unreachable('has a certificate that has expired', t => secure(t, expiredCertificate(), true)),
  unreachable('has a certificate from nobody we trust', t => secure(t, certificate(), false)),
  unreachable('stalls in the TLS handshake', async t => {
    const { port } = await rawServer(t, socket => void socket.resume())
    return { url: `https://127.0.0.1:${port}/token`, presented: () => 0 }
  }),
  unreachable('speaks HTTP/2 alone', async t => {
    let presented = 0
    const server = createSecureServer({ ...certificate(), allowHTTP1: false }, () => presented++)
    const { port } = await listen(t, server)
    return { url: `https://127.0.0.1:${port}/token`, presented: () => presented, dial: { ca: certificate().cert } }
  }),

  unanswered('hangs up unread', t => speaking(t, socket => socket.end())),
  unanswered('resets the connection', t => speaking(t, socket => void socket.resetAndDestroy())),
  unanswered('is silent', t => speaking(t, () => {})),
  unanswered('says "continue" and no more', t =>
    speaking(t, socket => void socket.write('HTTP/1.1 100 Continue\r\n\r\n')),
  ),
  unanswered('sends its headers byte by byte', trickles('HTTP/1.1 200 OK\r\nx: ')),
  unanswered('sends its body byte by byte', trickles(headOf(200, { 'content-length': '1000000' }))),
  unanswered('closes its side in the middle of the answer', t =>
    speaking(t, socket => socket.end(`${headOf(200, { 'content-length': '100' })}{"access_token":"00D`)),
  ),
  unanswered('resets the connection in the middle of the answer', t =>
    speaking(t, socket => {
      const text = `${headOf(200, { 'content-length': '100' })}{"access_token":"00D`
      socket.write(text, () => socket.resetAndDestroy())
    }),
  ),
  unanswered('answers with 10 MB', answers(200, Buffer.alloc(10 * 1024 * 1024, 'a'))),
  unanswered('never stops answering', t =>
    speaking(t, socket => {
      const more = Buffer.alloc(64 * 1024, 'a')
      const pour = () => {
        while (socket.writable && socket.write(more));
      }
      socket.on('drain', pour)
      socket.write(headOf(200, {}))
      pour()
    }),
  ),
  unanswered('answers in HTTP/2', t => speaking(t, socket => socket.end(Buffer.from('000000040000000000', 'hex')))),

  unreadable('answers with a maintenance page and 200', answers(200, page, { 'content-type': 'text/html' })),
  unreadable('answers with nothing', answers(200)),
  unreadable('answers with half a JSON text', answers(200, JSON.stringify(tokens()).slice(0, 40))),
  unreadable('answers in UTF-16', answers(200, Buffer.from(`\uFEFF${JSON.stringify(tokens())}`, 'utf16le'))),
  unreadable('answers 401 without a word', answers(401)),
  unreadable('answers 404 with a page', answers(404, page)),
  unreadable('answers 420', answers(420)),
  unreadable('answers 500', answers(500)),
  unreadable('answers 502 with a page', answers(502, page)),
  unreadable('answers 503 with a page', answers(503, page)),
  unreadable('answers 503 and names the seconds', answers(503, '', { 'retry-after': '120' }), 120),
  unreadable('answers 503 and names a date', t => answers(503, '', { 'retry-after': inAnHour() })(t), 900),
  unreadable('redirects', async t => {
    const elsewhere = await speaking(t, () => {})
    const endpoint = await answers(307, '', { location: elsewhere.url })(t)
    return { ...endpoint, presented: () => endpoint.presented() + 10 * elsewhere.presented() }
  }),

  busy('answers 429', answers(429)),
  busy('answers 429 and names the seconds', answers(429, '', { 'retry-after': '120' }), 120),
  busy('answers 429 and names a date', t => answers(429, '', { 'retry-after': inAnHour() })(t), 900),
  busy('answers 429 and names nonsense', answers(429, '', { 'retry-after': 'soon' })),
]

interface Faulty {
  room: Room
  credentials: Room['credentials']
  endpoint: Endpoint
}

async function faulty(t: TestContext, serve: Serve): Promise<Faulty> {
  const endpoint = await serve(t)
  const { rules } = parseEgressAllow('127.0.0.1, api.example')
  const egress = createEgress({ rules, connectTimeoutMs: dialMs, ...endpoint.dial })
  t.after(() => egress.close())
  const provider = { token_url: endpoint.url, allowed_hosts: ['127.0.0.1', 'api.example'] }
  const room = await openRoom(t, { rotation: true, provider })
  return { room, credentials: room.process({ egress, timing: quick }), endpoint }
}

for (const { what, serve, cause, wait } of faults)
  test(`a token endpoint that ${what}: ${cause}, and the connection lives`, { timeout: 60_000 }, async t => {
    const { room, credentials, endpoint } = await faulty(t, serve)
    const old = await room.connect(60_000)
    const failure = await failureOf(credentials.forced(room.holder, old))
    assert.deepEqual([failure.code, failure.status, failure.payload], ['refresh_unavailable', 424, { cause }])

    const doubt = cause === 'refresh_unanswered' || cause === 'refresh_unreadable'
    const failed = await room.load(old.id)
    assert.deepEqual([failed.health, failed.cause, failed.tokenVersion], [doubt ? 'degraded' : 'active', cause, 1])
    assert.equal(failed.refreshToken?.reveal(), old.refreshToken?.reveal())
    const row = await room.row(old.id)
    assert.deepEqual([row.intent_claim !== null, row.claim_id, row.lease_until], [doubt, null, null])
    const waits = (failed.nextTryAt - systemClock.now()) / 1000
    assert.ok(wait ? waits > wait - 30 && waits <= wait : waits <= 5, `${waits} s`)
    const presented = endpoint.presented()
    assert.equal(presented, cause === 'token_endpoint_unreachable' ? 0 : 1)

    // While the old token lives, nobody fails; in the back-off nobody asks, even when it has ended.
    const other = room.process({ egress: room.deps.egress, timing: quick })
    for (const process of [credentials, other]) assert.equal(await process.fresh(room.holder, failed), failed)
    const ended = await room.age(old.id, lapsed)
    for (const process of [credentials, other]) {
      const unavailable = await failureOf(process.fresh(room.holder, ended))
      assert.equal(unavailable.code, 'refresh_unavailable')
      assert.match(unavailable.headers['Retry-After'] ?? '', /^[1-9]\d*$/)
    }
    assert.equal(endpoint.presented(), presented)

    // Afterwards: what may have been used up is not presented again, what was turned away is.
    const again = await failureOf(credentials.fresh(room.holder, await room.letTry(old.id)))
    assert.equal(again.code, 'refresh_unavailable')
    assert.equal(endpoint.presented(), cause === 'provider_busy' ? 2 : presented)
    assert.notEqual((await room.load(old.id)).health, 'needs_reauth')
  })

interface Odd {
  what: string
  serve: Serve
  leftMs?: number
  scopes?: string[]
}

const answersWith = (changed: object): Serve => answers(200, JSON.stringify(tokens(changed)))
const hour = 3_600_000

const odds: Odd[] = [
  { what: 'a byte order mark before it', serve: answers(200, `\uFEFF${JSON.stringify(tokens())}`) },
  {
    what: 'a member twice',
    serve: answers(200, JSON.stringify(tokens()).replace('{', '{"access_token":"another","refresh_token":"another",')),
  },
  { what: 'an interim answer before it', serve: t => speaking(t, socket => socket.end(withInterim())) },
  { what: 'expires_in as text', serve: answersWith({ expires_in: '3600' }), leftMs: hour },
  { what: 'expires_in as a fraction', serve: answersWith({ expires_in: 3600.5 }), leftMs: hour + 500 },
  { what: 'expires_in null', serve: answersWith({ expires_in: null }) },
  { what: 'expires_in below nothing', serve: answersWith({ expires_in: -3600 }) },
  { what: 'expires_in beyond every calendar', serve: answersWith({ expires_in: 1e18 }) },
  { what: 'expires_in as an object', serve: answersWith({ expires_in: { seconds: 3600 } }) },
  { what: 'issued_at in milliseconds, as text', serve: answersWith({ issued_at: String(Date.now()) }) },
  { what: 'fewer scopes than before', serve: answersWith({ scope: 'api' }), scopes: ['api'] },
  { what: 'a scope that no column takes', serve: answersWith({ scope: 'api b\0d' }), scopes: ['api'] },
  {
    what: 'facts that no column takes',
    serve: answersWith({ id: 'https://test.salesforce.com/id/00D\ud800/00\x005' }),
  },
]

function withInterim(): string {
  const body = JSON.stringify(tokens())
  return `HTTP/1.1 100 Continue\r\n\r\n${headOf(200, { 'content-length': String(body.length) })}${body}`
}

for (const { what, serve, leftMs, scopes = ['api', 'refresh_token'] } of odds)
  test(`a token answer with ${what} is installed`, { timeout: 60_000 }, async t => {
    const { room, credentials } = await faulty(t, serve)
    const old = await room.connect(60_000)
    const { config } = grantOf(room)
    const fresh = await credentials.forced(room.holder, old)
    assert.deepEqual([fresh.tokenVersion, fresh.health, fresh.cause], [2, 'active', null])
    assert.deepEqual([fresh.accessToken.reveal(), fresh.refreshToken?.reveal()], ['00Dxx!access', '5Aep8refresh'])
    assert.deepEqual([fresh.scopesGranted, fresh.config], [scopes, config])
    if (leftMs === undefined) assert.equal(fresh.aliveUntil, undefined)
    else {
      const left = fresh.aliveUntil! - systemClock.now()
      assert.ok(left <= leftMs && left > leftMs - 60_000, `${left} ms`)
    }
    assert.equal(await credentials.fresh(room.holder, fresh), fresh)
    assert.deepEqual(room.deps.journal.pending(), [])
  })
