/** The end of an access token, seen from a proxied call: one refresh, one replay, and no loop. */
import assert from 'node:assert/strict'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { gzipSync } from 'node:zlib'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { connectThrough, type Got, naming, open, send, startUpstream, startWorld, type World } from './world.ts'

let world: World
let id: string
const file = lastFirst({ after: whenDone })

before(async () => {
  world = await startWorld(file)
})

/** Tokens the upstream takes; every other is answered by `ended`. */
let accepts: (authorization: string | undefined) => boolean
let ended: { status: number; body: string | Buffer; headers?: Record<string, string> }

beforeEach(async () => {
  const { issuer, upstream } = world
  issuer.refuse = undefined
  issuer.wait = undefined
  issuer.refreshes = 0
  id = await world.connect()
  upstream.arrived.length = 0
  // Tokens are named after the number of refreshes before them: the one from the sign-in has ended.
  accepts = authorization => authorization !== 'Bearer token-0'
  ended = { status: 401, body: '[{"errorCode":"INVALID_SESSION_ID"}]' }
  upstream.early = undefined
  upstream.answer = (req, res, { body }) => {
    if (accepts(req.headers.authorization)) res.end(`got ${body.length}`)
    else res.writeHead(ended.status, { 'X-Upstream': '1', ...ended.headers }).end(ended.body)
  }
})

const call = (method = 'GET', body?: Buffer | string, more: Record<string, string> = {}): Promise<Got> =>
  send(world.fairlead.url, {
    method,
    path: '/proxy/x?y=1',
    headers: { ...naming(world, id), ...more },
    ...(body !== undefined && { body }),
  })

/** Waits for what goes on behind an answer. */
async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 5_000; !(await what()); ) {
    assert.ok(Date.now() < end, 'it never came about')
    await new Promise(resolve => setImmediate(resolve))
  }
}

test('an ended token costs one refresh and one replay, which nobody sees', async () => {
  const body = Buffer.from(Array.from({ length: 64 * 1024 }, (_, i) => i % 256))
  const got = await call('POST', body, { 'Content-Type': 'a/b', 'X-Mine': '1' })
  assert.deepEqual([got.status, got.text], [200, `got ${body.length}`])
  assert.equal(world.issuer.refreshes, 1)
  const [first, second, ...more] = world.upstream.arrived
  assert.deepEqual(more, [])
  assert.equal(first!.headers.authorization, 'Bearer token-0')
  assert.equal(second!.headers.authorization, 'Bearer token-1')
  const rest = (pairs: string[]) => pairs.filter((_, i) => pairs[i - (i % 2)]!.toLowerCase() !== 'authorization')
  assert.deepEqual(rest(second!.rawHeaders), rest(first!.rawHeaders))
  assert.deepEqual([second!.method, second!.url], [first!.method, first!.url])
  assert.equal(second!.body.compare(body), 0)
  await call()
  assert.equal(world.upstream.arrived.length, 3)
  assert.equal(world.issuer.refreshes, 1)
})

describe('what provider data says is no end of a token is passed on without a refresh', () => {
  const plain = '[{"message":"this is not about the token"}]'
  const rows: [string, typeof ended][] = [
    ['a text that looks alike', { status: 401, body: plain }],
    ['the same, compressed', { status: 401, body: gzipSync(plain), headers: { 'Content-Encoding': 'gzip' } }],
    ['a 403 with another body', { status: 403, body: 'Bad_OAuth_Token, or so' }],
    ['a 403 without a body', { status: 403, body: '' }],
    ['a 400', { status: 400, body: 'INVALID_SESSION_ID' }],
    ['a 500', { status: 500, body: 'Bad_OAuth_Token' }],
  ]
  for (const [name, answer] of rows)
    test(name, async () => {
      ended = answer
      const got = await call()
      assert.deepEqual([got.status, got.ours, got.headers['x-upstream']], [answer.status, undefined, '1'])
      assert.equal(got.body.compare(Buffer.from(answer.body)), 0)
      assert.equal(world.issuer.refreshes, 0)
      assert.equal(world.upstream.arrived.length, 1)
    })
})

describe('other ways to say that a token has ended', () => {
  const rows: [string, typeof ended][] = [
    ['a 403 that says Bad_OAuth_Token', { status: 403, body: 'Bad_OAuth_Token' }],
    ['a 401 without a body', { status: 401, body: '' }],
    ['a 401 compressed', { status: 401, body: gzipSync('expired'), headers: { 'Content-Encoding': 'gzip' } }],
    ['a 401 in a broken encoding', { status: 401, body: 'x', headers: { 'Content-Encoding': 'gzip' } }],
  ]
  for (const [name, answer] of rows)
    test(name, async () => {
      ended = answer
      assert.equal((await call()).status, 200)
      assert.equal(world.issuer.refreshes, 1)
    })
})

test('fifty calls that meet the end at once share one refresh', async () => {
  const got = await Promise.all(Array.from({ length: 50 }, (_, i) => call('POST', `body ${i}`)))
  assert.deepEqual(new Set(got.map(one => one.status)), new Set([200]))
  assert.equal(world.issuer.refreshes, 1)
  assert.ok(world.upstream.arrived.length <= 100)
})

for (const [what, framing] of [
  ['longer than 64 KB', {}],
  ['of unknown length', { 'Transfer-Encoding': 'chunked' }],
] as const)
  test(`a body ${what} is not sent again, but the next call works`, async () => {
    const size = 'Transfer-Encoding' in framing ? 10 : 64 * 1024 + 1
    const got = await call('POST', Buffer.alloc(size), framing)
    assert.deepEqual([got.status, got.ours, got.text], [401, undefined, ended.body])
    await until(() => world.issuer.refreshes === 1)
    assert.equal(world.upstream.arrived.length, 1)
    await until(async () => (await call('POST', Buffer.alloc(size), framing)).status === 200)
    assert.equal(world.issuer.refreshes, 1)
  })

test('a token that is refused although it is new is passed on, and renewing stops', async () => {
  accepts = () => false
  const passedOn = async () => {
    const got = await call('POST', 'x')
    assert.deepEqual([got.status, got.text, got.ours], [401, ended.body, undefined])
  }
  const { servers } = world.fairlead
  await passedOn()
  // Another server may be asked before it has heard of it, and then renews once more; but they do not go on in turns.
  for (let i = 0; i < 3 * servers; i++) await passedOn()
  const { refreshes } = world.issuer
  assert.ok(refreshes <= servers, `${refreshes} refreshes`)
  world.upstream.arrived.length = 0
  for (let i = 0; i < 5; i++) await passedOn()
  assert.equal(world.issuer.refreshes, refreshes)
  assert.equal(world.upstream.arrived.length, 5)
})

test('renewing stops, too, when no call could be sent again', async () => {
  accepts = () => false
  for (let i = 0; i < 8; i++) {
    assert.equal((await call('POST', 'x', { 'Transfer-Encoding': 'chunked' })).status, 401)
    await until(() => world.issuer.refreshes >= 1)
    // The answer of the refresh is stored: the next call presents it.
    await until(async () => (await token()) === 'token-1')
  }
  assert.equal(world.issuer.refreshes, 1)
})

test('a refresh that is refused or fails passes the original answer on', async () => {
  world.issuer.refuse = { status: 503, body: {} }
  const unsure = await call()
  assert.deepEqual([unsure.status, unsure.text, unsure.ours], [401, ended.body, undefined])
  assert.equal(world.issuer.refreshes, 1)

  world.issuer.refuse = undefined
  world.issuer.refreshes = 0
  id = await world.connect()
  world.issuer.refuse = { status: 400, body: { error: 'invalid_grant' } }
  accepts = () => false
  const refused = await call()
  assert.deepEqual([refused.status, refused.text, refused.ours], [401, ended.body, undefined])
  assert.equal(world.issuer.refreshes, 1)
  // From now on it is known here, so nothing is asked any more.
  const arrived = world.upstream.arrived.length
  await until(async () => (await call()).ours === 'invalid_credentials')
  assert.equal(world.issuer.refreshes, 1)
  assert.ok(world.upstream.arrived.length - arrived <= 2)
})

test('a refresh that moves the account moves the call', async () => {
  const elsewhere = await startUpstream(file)
  world.issuer.instanceUrl = `${elsewhere.url}/moved`
  const got = await call('POST', 'abc')
  assert.equal(got.status, 200)
  assert.deepEqual(
    elsewhere.arrived.map(({ url, headers, body }) => [url, headers.authorization, body.toString()]),
    [['/moved/x?y=1', 'Bearer token-1', 'abc']],
  )
  // A host that is not allowed is not followed, and nothing of ours goes there.
  world.issuer.instanceUrl = 'https://evil.example'
  elsewhere.answer = (req, res) =>
    void res.writeHead(req.headers.authorization === 'Bearer token-1' ? 401 : 200).end('here')
  const stays = await call()
  assert.deepEqual([stays.status, stays.text], [200, 'here'])
})

test('a long answer with that status is no error message: it streams', async () => {
  ended.body = Buffer.alloc(200_000, 'x')
  const got = await call()
  assert.deepEqual([got.status, got.body.length], [401, 200_000])
  assert.equal(world.issuer.refreshes, 0)
})

test('a caller that hangs up during the refresh is not called for again', async () => {
  const release = Promise.withResolvers<void>()
  world.issuer.wait = release.promise
  const req = open(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) }).on('error', () => {})
  await until(() => world.issuer.refreshes === 1)
  req.destroy()
  release.resolve()
  await until(async () => (await token()) === 'token-1')
  assert.equal((await call()).status, 200)
  assert.deepEqual(
    world.upstream.arrived.map(one => one.headers.authorization),
    ['Bearer token-0', 'Bearer token-1'],
  )
})

const token = async () =>
  (await world.fairlead.call('GET', `/connections/${id}?provider_config_key=own`)).json.credentials.access_token

test('Salesforce: its own texts, against the simulator', async () => {
  const simulator = await startSimulator({ autoApprove: true })
  file.after(() => simulator.close())
  const fairlead = await startFairlead(file, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
  const { clientId, clientSecret } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
  await fairlead.call('POST', '/integrations', {
    provider: 'salesforce-sandbox',
    unique_key: 'sf',
    credentials: { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret },
  })
  const connection = await connectThrough(fairlead, 'sf')
  const ask = () =>
    send(fairlead.url, {
      path: `/via/sf/${connection}/services/data/v60.0/limits`,
      headers: { Authorization: `Bearer ${fairlead.key}`, 'Accept-Encoding': 'gzip' },
    })
  const refreshes = () => simulator.control.counters().grants.refresh_token ?? 0

  const fine = await ask()
  assert.equal(fine.status, 200)
  assert.match(String(fine.headers['sforce-limit-info']), /^api-usage=\d+\/\d+/)
  simulator.control.expireAccessTokens()
  assert.equal((await ask()).status, 200)
  assert.equal(refreshes(), 1)

  for (const message of [
    'This session is not valid for use with the REST API',
    'Connected app is not attached to Agent',
  ]) {
    const body = JSON.stringify([{ message, errorCode: 'INVALID_SESSION_ID' }])
    simulator.control.fail({ endpoint: 'rest', status: 401, body, contentType: 'application/json' })
    const got = await ask()
    assert.deepEqual([got.status, got.ours], [401, undefined])
  }
  assert.equal(refreshes(), 1)
  simulator.control.fail({ endpoint: 'rest', status: 403, body: 'Bad_OAuth_Token', contentType: 'text/plain' })
  assert.equal((await ask()).status, 200)
  assert.equal(refreshes(), 2)
})
