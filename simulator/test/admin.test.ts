import assert from 'node:assert/strict'
import { connect as connectSocket } from 'node:net'
import { test } from 'node:test'
import { toId18 } from '../src/ids.ts'
import { type Control, startSimulator } from '../src/index.ts'
import { byName, connect, type Json, refresh, rest, simulate, text } from './support.ts'

test('drop after: the rotation is committed and its answer lost; drop before: nothing happened', async t => {
  const simulator = await simulate(t, { rotation: true })
  const tokens = await connect(simulator)
  simulator.control.drop({ endpoint: 'token', grantType: 'refresh_token', when: 'before' })
  await assert.rejects(refresh(simulator, text(tokens, 'refresh_token')))
  assert.equal(simulator.control.counters().rotations, 0)
  const two = (await refresh(simulator, text(tokens, 'refresh_token'))).json

  simulator.control.drop({ endpoint: 'token', grantType: 'refresh_token' })
  await assert.rejects(refresh(simulator, text(two, 'refresh_token')))
  assert.equal(simulator.control.counters().rotations, 2)
  assert.equal((await refresh(simulator, text(two, 'refresh_token'))).status, 400, 'resending it is reuse')
  assert.equal(simulator.control.counters().familyRevocations, 1)
  assert.deepEqual(
    simulator.control.requests().map(r => [r.endpoint, r.status]),
    [
      ['authorize', 302],
      ['token', 200],
      ['token', 0],
      ['token', 200],
      ['token', 0],
      ['token', 400],
    ],
  )
})

test('drop midway, fail, delay: as many times as asked, where asked', async t => {
  const simulator = await simulate(t)
  const { control } = simulator
  const tokens = await connect(simulator)
  control.drop({ endpoint: 'rest', midway: true })
  await assert.rejects(rest(tokens, '/v60.0/sobjects'))

  control.fail({ endpoint: 'rest', path: '/query', status: 503, body: '<h1>down</h1>', times: 2 })
  control.fail({
    endpoint: 'rest',
    path: '/limits',
    status: 403,
    body: [{ errorCode: 'X', message: 'y' }],
    headers: { 'retry-after': '7' },
  })
  const statuses = []
  for (const path of ['query?q=SELECT+Id+FROM+Account', 'recent', 'query', 'query?q=SELECT+Id+FROM+Account']) {
    const response = await fetch(`${tokens.instance_url}/services/data/v60.0/${path}`, {
      headers: { authorization: `Bearer ${tokens.access_token}` },
    })
    statuses.push(response.status)
    await response.text()
  }
  assert.deepEqual(statuses, [503, 200, 503, 200])
  const limited = await rest(tokens, '/v60.0/limits')
  assert.deepEqual([limited.status, limited.headers.get('retry-after')], [403, '7'])

  control.fail({ endpoint: 'token', grantType: 'refresh_token', status: 500, when: 'after' })
  const issued = control.counters().issued.refresh_token ?? 0
  await refresh(simulator, text(tokens, 'refresh_token')).catch(() => undefined)
  assert.equal(control.counters().issued.refresh_token, issued + 1, 'processed, then failed')

  control.delay({ endpoint: 'rest', ms: 150 })
  const started = performance.now()
  await rest(tokens, '/v60.0/limits')
  assert.ok(performance.now() - started >= 140)
  assert.deepEqual(control.state().faults, [])

  control.fail({ status: 500, org: 'acme' })
  assert.equal((await rest(tokens, '/v60.0/limits')).status, 200, 'another org’s fault')
  control.clearFaults()
  assert.equal((await fetch(`${simulator.base('acme')}/services/data`)).status, 200)
})

test('tokens on demand, expiry and revocation by filter', async t => {
  const simulator = await simulate(t)
  const { control } = simulator
  const ada: Json = control.issueTokens({ username: 'ada@acme.com' })
  const ben: Json = control.issueTokens({ username: 'ben@acme.com' })
  assert.equal(ada.instance_url, simulator.base('acme'))
  assert.deepEqual(control.expireAccessTokens({ username: 'ada@acme.com' }), { count: 1 })
  assert.equal((await rest(ada, '/v60.0/limits')).status, 401)
  assert.equal((await rest(ben, '/v60.0/limits')).status, 200)
  assert.deepEqual(control.revokeRefreshTokens({ token: text(ben, 'refresh_token') }), { count: 1 })
  assert.equal((await rest(ben, '/v60.0/limits')).status, 401)
  assert.equal(control.state().grants.filter(g => g.ended === null).length, 1)
})

test('the same over HTTP', async t => {
  const simulator = await simulate(t)
  const call = async (name: keyof Control | 'nope', body?: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${simulator.url}/__admin/${name}`, {
      method: 'POST',
      headers,
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    return { status: response.status, json: (await response.json()) as Json }
  }
  assert.equal((await call('set', { autoApprove: true })).json.autoApprove, true)
  assert.equal(
    (await call('addApp', { org: 'acme', clientId: 'mine', callbacks: ['https://x.example/cb'] })).json.clientId,
    'mine',
  )
  assert.ok((await call('issueTokens', { username: 'ada@acme.com' })).json.access_token)
  assert.ok((await call('skipClock', { ms: 1000 })).json.now)
  assert.equal(
    ((await (await fetch(`${simulator.url}/__admin/requests`)).json()) as unknown[]).length,
    0,
    'admin calls are not logged',
  )

  const refused: [keyof Control | 'nope', unknown, number, RegExp][] = [
    ['nope', {}, 404, /no command/],
    ['set', 'nonsense', 400, /not JSON/],
    ['set', [], 400, /object/],
    ['set', { autoAprove: true }, 400, /cannot set autoAprove/],
    ['set', { autoApprove: 'yes' }, 400, /wrong type/],
    ['setApp', { clientId: 'unknown' }, 400, /unknown app/],
    ['setUser', {}, 400, /setUser/],
    ['addOrg', { key: 'login' }, 400, /taken/],
    ['addApp', { org: 'acme', callbacks: ['not a url'] }, 400, /not a URL/],
    ['fail', { endpoint: 'nope', status: 500 }, 400, /endpoint must be/],
    ['fail', { status: 99 }, 400, /status must be/],
    ['moveOrg', { org: 'acme', domain: 'test' }, 400, /taken/],
    ['refreshSandbox', { org: 'acme' }, 400, /not a sandbox/],
  ]
  for (const [name, body, status, error] of refused) {
    const answer = await call(name, body)
    assert.equal(answer.status, status, name)
    assert.match(text(answer.json, 'error'), error, name)
  }
  assert.equal((await call('reset', {}, { origin: 'https://evil.example' })).status, 403)
  assert.equal((await byName(simulator, 'evil.example', '/__admin/state')).status, 403)
  assert.equal((await fetch(`${simulator.url}/__admin/reset`)).status, 405)

  await call('reset')
  const { apps, sessions, settings } = simulator.control.state()
  assert.deepEqual([apps.length, sessions.length, settings.autoApprove], [2, 0, false])
})

test('the request log shows headers and query without tokens', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  simulator.control.clearRequests()
  await rest(tokens, '/v60.0/limits?x=1', { headers: { 'sforce-call-options': 'client=me', cookie: 'a=b' } })
  await fetch(`${tokens.id}?oauth_token=${encodeURIComponent(text(tokens, 'access_token'))}`)
  const [first, second] = simulator.control.requests()
  assert.equal(first?.path, '/services/data/v60.0/limits')
  assert.equal(first?.search, '?x=1')
  assert.equal(first?.headers['sforce-call-options'], 'client=me')
  assert.equal(first?.headers.cookie, '***')
  assert.equal(first?.status, 200)
  assert.equal(second?.endpoint, 'identity')
  assert.ok(!JSON.stringify([first, second]).includes(text(tokens, 'access_token')))
})

test('orgs, users and apps of your own, from the start', async t => {
  const simulator = await simulate(t, {
    orgs: [{ key: 'globex', kind: 'developer' }],
    users: [{ org: 'globex', username: 'hank@globex.example' }],
    apps: [{ org: 'globex', clientId: 'globex-app', callbacks: ['https://x.example/cb'] }],
  })
  assert.equal(simulator.base('globex', 'name'), `http://globex.develop.my.salesforce.localhost:${simulator.port}`)
  const tokens: Json = simulator.control.issueTokens({ username: 'hank@globex.example' })
  const org = await rest(tokens, '/v60.0/query?q=SELECT+IsSandbox,OrganizationType+FROM+Organization')
  const { records } = org.json as { records: Json[] }
  assert.deepEqual([records[0]?.IsSandbox, records[0]?.OrganizationType], [false, 'Developer Edition'])
  assert.equal(
    new URL(text(tokens, 'id')).pathname.startsWith('/login/'),
    true,
    'a Developer Edition logs in at login.',
  )
})

test('ids carry the right checksum', () => {
  // Known pairs: every letter upper-case, none, and a mixture.
  assert.equal(toId18('AAAAAAAAAAAAAAA'), 'AAAAAAAAAAAAAAA555')
  assert.equal(toId18('aaaaaaaaaaaaaaa'), 'aaaaaaaaaaaaaaaAAA')
  assert.equal(toId18('001A0000006Vm9u'), '001A0000006Vm9uIAC')
  assert.equal(toId18('001A0000006Vm9uIAD'), undefined)
  assert.equal(toId18('short'), undefined)
})

test('rubbish is answered politely and the simulator goes on', async t => {
  const simulator = await simulate(t)
  const rubbish = (bytes: string) =>
    new Promise<string>(resolve => {
      let heard = ''
      const socket = connectSocket(simulator.port, '127.0.0.1', () => socket.write(bytes))
      socket.on('data', data => {
        heard += data
      })
      socket.on('error', () => undefined)
      socket.on('close', () => resolve(heard))
      socket.setTimeout(2000, () => socket.destroy())
    })
  const host = 'Host: 127.0.0.1\r\nConnection: close\r\n'
  assert.match(await rubbish('nonsense\r\n\r\n'), /^HTTP\/1\.1 400/)
  assert.match(await rubbish(`GET http://x/ HTTP/1.1\r\n${host}\r\n`), /^HTTP\/1\.1 4/)
  assert.match(await rubbish(`GET /%00%ff/..%2f HTTP/1.1\r\n${host}\r\n`), /^HTTP\/1\.1 404/)
  assert.match(await rubbish(`GET /acme/${'x'.repeat(20_000)} HTTP/1.1\r\n${host}\r\n`), /^HTTP\/1\.1 414/)
  assert.match(
    await rubbish(
      `POST /acme/services/oauth2/token HTTP/1.1\r\n${host}Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc`,
    ),
    /400/,
  )
  const token = `${simulator.base('acme')}/services/oauth2/token`
  const big = await fetch(token, { method: 'POST', body: 'x'.repeat(7 * 1024 * 1024) })
  assert.equal(big.status, 413)
  const json = await fetch(token, {
    method: 'POST',
    body: '{"grant_type":"refresh_token"}',
    headers: { 'content-type': 'application/json' },
  })
  assert.equal(((await json.json()) as Json).error, 'unsupported_grant_type')
  assert.equal((await fetch(simulator.url)).status, 200)
})

test('a busy port means the next one, and close lets go of it', async t => {
  const one = await simulate(t)
  const two = await startSimulator({ port: one.port, morePorts: 20, contacts: 0 })
  assert.ok(two.port > one.port)
  await assert.rejects(startSimulator({ port: one.port, contacts: 0 }), /EADDRINUSE/)
  await two.close()
  const three = await startSimulator({ port: two.port, contacts: 0 })
  assert.equal(three.port, two.port)
  await three.close()
})
