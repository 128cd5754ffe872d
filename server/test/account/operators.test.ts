/** Signing in to the dashboard, and what an operator may do with it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { codeAt, newTotpSecret, stepOf } from '../../src/account/operator/totp.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { invited, newOwner, newPerson, password } from '../support/operator.ts'

async function dbOf(t: { after(work: () => Promise<void>): void }, server: Fairlead) {
  const { db, close } = await openDb({ url: server.databaseUrl })
  t.after(close)
  return db
}

test('codes are those of RFC 6238, appendix B', () => {
  // "12345678901234567890" in base32; the RFC's values cut to six digits.
  const secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ'
  for (const [seconds, code] of [
    [59, '287082'],
    [1_111_111_109, '081804'],
    [1_111_111_111, '050471'],
    [1_234_567_890, '005924'],
    [2_000_000_000, '279037'],
    [20_000_000_000, '353130'],
  ] as const) {
    assert.equal(codeAt(secret, Math.floor(seconds / 30)), code)
    assert.equal(stepOf(secret, code, seconds * 1000 + 30_000), Math.floor(seconds / 30))
    assert.equal(stepOf(secret, code, seconds * 1000 + 90_000), undefined)
  }
  assert.match(newTotpSecret(), /^[A-Z2-7]{32}$/)
})

test('the first operator is made once: on this machine without the link, from elsewhere only with it', async t => {
  const server = await startFairlead(t)
  const link = new URL(server.app.setupLink!.reveal()).hash.slice(1)
  const given = { email: 'Olive@Acme.com', name: 'Olive', password }
  const stranger = newPerson(server)
  assert.equal((await stranger.call('GET', '/operator')).json.state, 'setup')
  for (const elsewhere of [{ 'X-Forwarded-For': '203.0.113.9' }, { Forwarded: 'for=203.0.113.9' }]) {
    const refused = await stranger.call('POST', '/operator/setup', given, elsewhere)
    assert.deepEqual([refused.status, refused.json.error.code], [403, 'setup_link_required'])
    assert.equal((await stranger.call('GET', '/operator', undefined, elsewhere)).json.setup_here, false)
  }
  const wrong = await stranger.call('POST', '/operator/setup', { ...given, link: 'x'.repeat(43) })
  assert.equal(wrong.json.error.code, 'setup_link_required', 'a wrong link is not made up for by being here')
  const crossSite = await stranger.call('POST', '/operator/setup', given, {
    Origin: 'https://evil.example',
    'Sec-Fetch-Site': 'cross-site',
  })
  assert.equal(crossSite.json.error.code, 'cross_site_request')
  assert.equal((await stranger.call('POST', '/operator/setup', { ...given, password: 'short' })).status, 400)

  const [first, second] = await Promise.all([
    newPerson(server).call('POST', '/operator/setup', { ...given, link }, { 'X-Forwarded-For': '203.0.113.9' }),
    newPerson(server).call('POST', '/operator/setup', { ...given, email: 'eve@acme.com' }),
  ])
  assert.deepEqual([first.status, second.status].sort(), [200, 409])
  const again = await newPerson(server).call('POST', '/operator/setup', { ...given, email: 'mallory@acme.com' })
  assert.equal(again.json.error.code, 'setup_done')
  assert.ok(!server.log().includes(link) && !server.log().includes(password))
})

test('a session is a cookie pages cannot read, is new after every sign-in, and ends on the server', async t => {
  const server = await startFairlead(t)
  const setup = await newPerson(server).call('POST', '/operator/setup', { email: 'o@acme.com', name: 'O', password })
  const [cookie = ''] = setup.headers.getSetCookie()
  assert.match(cookie, /^fairlead_operator=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=604800$/)
  const value = cookie.split(';')[0]!
  const asked = (headers: Record<string, string>) =>
    server.call('GET', '/integrations', undefined, { Authorization: '', 'Fairlead-Environment': 'dev', ...headers })
  const withCookie = (headers: Record<string, string>) =>
    fetch(`${server.url}/integrations`, { headers: { cookie: value, 'Fairlead-Environment': 'dev', ...headers } })
  assert.equal((await withCookie({})).status, 200)
  assert.equal((await asked({})).status, 401)
  // Another site of the same domain, a page of elsewhere, a frame: none of them is ours.
  for (const site of ['same-site', 'cross-site']) {
    const refused = await withCookie({ 'Sec-Fetch-Site': site })
    assert.equal(refused.headers.get('fairlead-error'), 'cross_site_request')
  }
  const noEnvironment = await fetch(`${server.url}/integrations`, { headers: { cookie: value } })
  assert.equal(noEnvironment.headers.get('fairlead-error'), 'invalid_headers', 'never some environment by default')
  assert.equal((await withCookie({ 'Fairlead-Environment': 'nowhere' })).status, 404)

  const person = newPerson(server)
  await person.call('POST', '/operator/sign-in', { email: 'O@acme.com', password })
  const first = person.browser
  const tokens = async () =>
    (await dbOf(t, server)).query<{ n: number }>(sql`select count(*)::int as n from operator_session`)
  assert.equal((await tokens())[0]!.n, 2)
  await person.call('POST', '/operator/sign-in', { email: 'o@acme.com', password })
  assert.equal((await tokens())[0]!.n, 2, 'the session this browser had before has ended')
  const confirmed = await person.call('POST', '/operator/confirm', { password })
  assert.equal(confirmed.status, 200, confirmed.text)
  assert.equal(confirmed.headers.getSetCookie().length, 1, 'and a confirmation renames it')
  assert.equal((await person.call('POST', '/operator/sign-out', {})).json.state, 'signed_out')
  assert.equal((await first.open(`${server.url}/operator`)).json.state, 'signed_out')

  // Idle for half a day, or a week old: over.
  const db = await dbOf(t, server)
  for (const age of [
    sql`update operator_session set seen_at = seen_at - interval '13 hours'`,
    sql`update operator_session set seen_at = clock_timestamp(), ends_at = clock_timestamp()`,
  ]) {
    await db.query(age)
    assert.equal((await withCookie({})).headers.get('fairlead-error'), 'not_signed_in')
  }
  const [row] = await db.query<{ row: string }>(
    sql`select to_jsonb(operator_session)::text as row from operator_session`,
  )
  assert.ok(!row!.row.includes(value.split('=')[1]!))
})

test('guessing is slow: sign-ins that failed are counted in the database, also all at once', async t => {
  const server = await startFairlead(t)
  await newOwner(server)
  const guess = (n: number) =>
    newPerson(server).call('POST', '/operator/sign-in', { email: 'owner@acme.com', password: `wrong password ${n}` })
  const answers = await Promise.all(Array.from({ length: 16 }, (_, n) => guess(n)))
  const codes = answers.map(({ json }) => json.error.code as string)
  assert.equal(codes.filter(code => code === 'sign_in_failed').length, 10)
  assert.equal(codes.filter(code => code === 'sign_in_rate_limited').length, 6)
  assert.ok(answers.find(({ status }) => status === 429)?.headers.get('retry-after'))
  // The right one does not help now; nobody else is kept out.
  const right = await newPerson(server).call('POST', '/operator/sign-in', { email: 'owner@acme.com', password })
  assert.equal(right.status, 429)
  const other = await newPerson(server).call('POST', '/operator/sign-in', { email: 'nobody@acme.com', password })
  assert.equal(other.json.error.code, 'sign_in_failed', 'an address nobody has is answered like any other')
  const db = await dbOf(t, server)
  await db.query(sql`update sign_in_failure set at = at - interval '16 minutes'`)
  assert.equal(
    (await newPerson(server).call('POST', '/operator/sign-in', { email: 'owner@acme.com', password })).status,
    200,
  )
})

test('two-factor: on with a code, asked for from then on, each code once, off again by a link', async t => {
  const server = await startFairlead(t)
  const owner = await newOwner(server)
  const email = 'owner@acme.com'
  assert.equal((await owner.call('POST', '/operator/two-factor', { password: 'something else' })).status, 401)
  const { secret, uri } = (await owner.call('POST', '/operator/two-factor', { password })).json
  assert.match(uri, /^otpauth:\/\/totp\/Fairlead:owner%40acme\.com\?secret=[A-Z2-7]{32}&issuer=Fairlead$/)
  const code = (steps: number) => codeAt(secret, Math.floor(Date.now() / 30_000) + steps)
  const plain = await newPerson(server).call('POST', '/operator/sign-in', { email, password })
  assert.equal(plain.status, 200, 'it does not count before it was shown to work')
  assert.equal(
    (await owner.call('POST', '/operator/two-factor/enable', { code: code(-1) })).json.operator.two_factor,
    true,
  )

  const enter = (body: object) => newPerson(server).call('POST', '/operator/sign-in', { email, password, ...body })
  assert.equal((await enter({})).json.error.code, 'code_required')
  assert.equal((await enter({ code: code(-1) })).json.error.code, 'sign_in_failed', 'used')
  assert.equal((await enter({ code: code(0) })).status, 200)
  assert.equal((await enter({ code: code(0) })).json.error.code, 'sign_in_failed', 'used')
  assert.equal((await enter({ code: '000000' })).json.error.code, 'sign_in_failed')
  const db = await dbOf(t, server)
  const [row] = await db.query<{ row: string }>(sql`select to_jsonb(operator)::text as row from operator`)
  assert.ok(!row!.row.includes(secret) && !row!.row.includes(password))

  const link = async () => (await owner.call('POST', '/operators/1/link')).json.link.split('#')[1]
  const older = await link()
  const newer = await link()
  const use = (value: string) =>
    newPerson(server).call('POST', '/operator/link', { link: value, password: 'another password' })
  assert.equal((await use(older)).json.error.code, 'link_invalid')
  assert.equal((await use(newer)).status, 200)
  assert.equal((await use(newer)).json.error.code, 'link_invalid')
  assert.equal((await owner.call('GET', '/operators')).json.error.code, 'not_signed_in', 'every session has ended')
  assert.equal((await enter({ password: 'another password' })).status, 200)
})

test('roles: owners decide who comes in, and there is always one', async t => {
  const server = await startFairlead(t)
  const owner = await newOwner(server)
  const admin = await invited(server, owner, 'admin')
  const viewer = await invited(server, owner, 'viewer')
  for (const person of [admin, viewer]) {
    assert.equal((await person.call('POST', '/operators', { email: 'x@acme.com', role: 'owner' })).status, 403)
    assert.equal((await person.call('PATCH', '/operators/1', { role: 'viewer' })).status, 403)
    assert.equal((await person.call('DELETE', '/operators/1')).status, 403)
  }
  assert.equal((await owner.call('DELETE', '/operators/1')).json.error.code, 'last_owner')
  assert.equal((await owner.call('PATCH', '/operators/1', { role: 'admin' })).json.error.code, 'last_owner')
  assert.equal((await owner.call('PATCH', '/operators/2', { role: 'viewer' })).json.role, 'viewer')
  // At once, not at the next sign-in.
  assert.equal((await admin.call('POST', '/connect/sessions', { end_user: { id: 'a' } })).json.error.code, 'forbidden')
  assert.equal((await owner.call('DELETE', '/operators/3')).status, 200)
  assert.equal((await viewer.call('GET', '/integrations')).json.error.code, 'not_signed_in')
})

test('nobody is handed a secret who did not ask for it and show who they are; a viewer never is', async t => {
  const server = await startFairlead(t)
  const owner = await newOwner(server)
  const viewer = await invited(server, owner, 'viewer')
  const secret = 'the-client-secret-nobody-sees'
  const credentials = { type: 'OAUTH2', client_id: 'client', client_secret: secret }
  const body = { provider: 'salesforce', unique_key: 'sf', credentials }
  assert.equal((await viewer.call('POST', '/integrations', body)).json.error.code, 'forbidden')
  assert.equal((await owner.call('POST', '/integrations', body)).status, 200)

  const read = '/integrations/sf?include=credentials'
  const reveal = { 'Fairlead-Reveal': 'true' }
  assert.equal((await owner.call('GET', read)).json.error.code, 'confirmation_required')
  assert.match((await owner.call('GET', read, undefined, reveal)).text, new RegExp(secret), 'signed in just now')
  const db = await dbOf(t, server)
  await db.query(sql`update operator_session set confirmed_at = confirmed_at - interval '6 minutes'`)
  assert.equal((await owner.call('GET', read, undefined, reveal)).json.error.code, 'confirmation_required')
  assert.equal((await owner.call('POST', '/operator/confirm', { password: 'a wrong password' })).status, 401)
  await owner.call('POST', '/operator/confirm', { password })
  assert.match((await owner.call('GET', read, undefined, reveal)).text, new RegExp(secret))

  await viewer.call('POST', '/operator/confirm', { password })
  for (const [method, path, sent] of [
    ['GET', read],
    ['POST', '/environment/webhook-signing-key/rotate', {}],
    ['PATCH', '/environment/settings', { on_auth_creation: false }],
    ['POST', '/encryption/rotate'],
    ['POST', '/connect/sessions', { end_user: { id: 'a' } }],
    ['POST', '/kill', { all: true }],
    ['DELETE', '/integrations/sf'],
    ['GET', '/activity/mor2zw0a-3mv/bodies'],
    ['GET', '/proxy/x', undefined, { 'Provider-Config-Key': 'sf', 'Connection-Id': 'a' }],
  ] as const) {
    const refused = await viewer.call(method, path, sent, { ...reveal })
    assert.ok([400, 403].includes(refused.status), `${method} ${path}: ${refused.text}`)
    assert.ok(!refused.text.includes(secret))
  }
  for (const path of [
    '/integrations',
    '/integrations/sf',
    '/connections',
    '/environment/settings',
    '/encryption',
    '/activity',
    '/audit',
    '/webhooks/deliveries',
    '/operators',
    '/operator',
  ]) {
    const seen = await viewer.call('GET', path, undefined, reveal)
    assert.equal(seen.status, 200, `${path}: ${seen.text}`)
    assert.ok(!seen.text.includes(secret), path)
  }
  assert.ok(!server.log().includes(secret))
})

test('the audit trail names who did what, in the transaction of the change, and what was altered is found', async t => {
  const server = await startFairlead(t)
  const owner = await newOwner(server)
  const credentials = { type: 'OAUTH2', client_id: 'client', client_secret: 'a-secret-of-the-client' }
  await owner.call('POST', '/integrations', { provider: 'salesforce', unique_key: 'sf', credentials })
  await server.call('PATCH', '/integrations/sf', { credentials })
  await owner.call('PATCH', '/environment/settings', { on_auth_creation: false })
  await owner.call('GET', '/integrations/sf?include=credentials', undefined, { 'Fairlead-Reveal': 'true' })
  // What fails is not there, and changes nothing.
  await owner.call('PATCH', '/integrations/nothing', { display_name: 'x' })
  const { entries } = (await owner.call('GET', '/audit')).json
  assert.deepEqual(
    entries.map((entry: { action: string; actor: { kind: string; name: string }; target: string }) => [
      entry.action,
      entry.actor.kind,
      entry.actor.name,
      entry.target,
    ]),
    [
      ['integration.secret_read', 'operator', 'Olive Owner', 'sf'],
      ['settings.changed', 'operator', 'Olive Owner', 'dev'],
      ['integration.updated', 'key', 'default', 'sf'],
      ['integration.created', 'operator', 'Olive Owner', 'sf'],
      ['sign_in.succeeded', 'operator', 'Olive Owner', 'owner@acme.com'],
      ['operator.set_up', 'operator', 'Olive Owner', 'owner@acme.com'],
    ],
  )
  assert.ok(!JSON.stringify(entries).includes('a-secret-of-the-client'))
  const onlyIntegrations = (await owner.call('GET', '/audit?action=integration.&limit=2')).json
  assert.equal(onlyIntegrations.entries.length, 2)
  assert.equal(onlyIntegrations.next_before, onlyIntegrations.entries[1].sequence)

  const verdict = async () => (await owner.call('POST', '/audit/verify')).json
  assert.deepEqual(await verdict(), { intact: true, rows: 6, head: entries[0].hash })
  // Many at once stand in one order.
  await Promise.all(
    Array.from({ length: 12 }, (_, n) => owner.call('PATCH', '/integrations/sf', { display_name: `n${n}` })),
  )
  assert.equal((await verdict()).rows, 18)

  const db = await dbOf(t, server)
  for (const statement of [
    sql`update audit set actor_name = 'somebody else' where sequence = 3`,
    sql`delete from audit where sequence = 3`,
    sql`truncate audit`,
  ])
    await assert.rejects(db.query(statement), /only added to/)
  // Whoever owns the database can take the trigger away; the chain still tells.
  await db.query(sql`alter table audit disable trigger audit_stays`)
  await db.query(sql`update audit set actor_name = 'somebody else' where sequence = 3`)
  assert.deepEqual(await verdict(), { intact: false, rows: 2, broken_at: 3 })
  await db.query(sql`update audit set actor_name = 'Olive Owner' where sequence = 3`)
  await db.query(sql`update audit set actor_name = 'default' where sequence = 4 and actor_kind = 'key'`)
  await db.query(sql`delete from audit where sequence = 18`)
  assert.equal((await verdict()).intact, false)
})
