/** Signing in to the dashboard at an identity provider: who comes in, and everything that must not. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { newOwner, newPerson, type Person, password } from '../support/operator.ts'
import {
  asHmac,
  byAnotherKey,
  clientId,
  clientSecret,
  type Lies,
  startIdentityProvider,
  startLiar,
  unsigned,
} from './identity-provider.ts'

type Ends = Parameters<typeof startFairlead>[0]

const envOf = (issuer: string, more: Record<string, string> = {}) => ({
  FAIRLEAD_OIDC_ISSUER: issuer,
  FAIRLEAD_OIDC_CLIENT_ID: clientId,
  FAIRLEAD_OIDC_CLIENT_SECRET: clientSecret,
  FAIRLEAD_OIDC_NAME: 'Acme ID',
  ...more,
})

async function setUp(t: Ends, more: Record<string, string> = {}) {
  const opened = lastFirst(t)
  let redirectUri = ''
  const idp = await startIdentityProvider(opened, () => redirectUri)
  const server = await startFairlead(opened, { env: envOf(idp.issuer, more) })
  redirectUri = `${server.url}/app/oidc`
  const { db, close } = await openDb({ url: server.databaseUrl })
  opened.after(close)
  return { idp, server, db, owner: await newOwner(server) }
}

const begin = (person: Person, body: object = {}) => person.call('POST', '/operator/oidc/begin', body)

/** As the browser goes: there, through the log-in, back to our page with a query. */
async function queryOf(server: Fairlead, person: Person, body: object = {}, there = person.browser): Promise<string> {
  let { location } = (await begin(person, body)).json
  for (let hops = 0; hops < 20 && !location.startsWith(`${server.url}/app/oidc`); hops++)
    location = (await there.open(location)).location
  return new URL(location).search
}

const finish = (person: Person, query: string) => person.call('POST', '/operator/oidc/finish', { query })

const enter = async (server: Fairlead, person = newPerson(server), body: object = {}) =>
  finish(person, await queryOf(server, person, body))

const linkIn = (json: { link: string }) => new URL(json.link).hash.slice(1)

test('an invited address comes in when the identity provider vouches for it, once, as what it was invited', async t => {
  const { idp, server, db, owner } = await setUp(t)
  assert.equal((await newPerson(server).call('GET', '/operator')).json.identity_provider, 'Acme ID')
  idp.user = { sub: 'ada', email: 'Ada@acme.com', email_verified: true, name: 'Ada L' }
  const stranger = await enter(server)
  assert.deepEqual([stranger.status, stranger.json.error.code], [403, 'oidc_stranger'])
  await owner.call('POST', '/operators', { email: 'ada@acme.com', role: 'admin' })
  idp.user.email_verified = false
  assert.equal((await enter(server)).json.error.code, 'oidc_email_unverified')
  idp.user.email_verified = true
  const person = newPerson(server)
  const joined = await enter(server, person)
  assert.equal(joined.status, 200, joined.text)
  assert.deepEqual(
    [joined.json.operator.email, joined.json.operator.role, joined.json.operator.name],
    ['ada@acme.com', 'admin', 'Ada L'],
  )
  assert.deepEqual([joined.json.operator.has_password, joined.json.operator.has_identity], [false, true])
  const [session] = joined.headers.getSetCookie().filter(cookie => cookie.startsWith('fairlead_operator='))
  assert.match(session ?? '', /HttpOnly; SameSite=Strict/)
  assert.equal((await person.call('GET', '/integrations')).status, 200)

  // From now on the subject counts, whatever the address does.
  idp.user = { sub: 'ada', email: 'countess@acme.com', email_verified: false }
  assert.equal((await enter(server)).json.operator.email, 'ada@acme.com')
  // And the address alone is not enough for somebody else.
  idp.user = { sub: 'mallory', email: 'ada@acme.com', email_verified: true }
  assert.equal((await enter(server)).json.error.code, 'oidc_not_linked')
  assert.deepEqual(idp.alarms, [])

  const tried = await db.query<{ action: string; code: string | null }>(sql`
    select action, detail ->> 'code' as code from audit where action like 'sign_in.%' or action = 'operator.joined' order by sequence`)
  assert.deepEqual(
    tried.map(({ action, code }) => code ?? action).filter(what => what !== 'sign_in.succeeded'),
    ['oidc_stranger', 'oidc_email_unverified', 'operator.joined', 'oidc_not_linked'],
  )
  assert.ok(!server.log().includes(clientSecret))
  assert.equal((await db.query(sql`select from operator_handshake`)).length, 0, 'nothing is left behind')
})

test('an address opens no operator that signs in with a password; a link of an owner does, and ends the password', async t => {
  const { idp, server, owner } = await setUp(t)
  idp.user = { sub: 'olive', email: 'owner@acme.com', email_verified: true }
  assert.equal((await enter(server)).json.error.code, 'oidc_not_linked')
  const link = linkIn((await owner.call('POST', '/operators/1/link')).json)
  const person = newPerson(server)
  const linked = await enter(server, person, { link })
  assert.equal(linked.status, 200, linked.text)
  assert.deepEqual([linked.json.operator.id, linked.json.operator.has_password], [1, false])
  assert.equal((await owner.call('GET', '/integrations')).json.error.code, 'not_signed_in', 'other sessions have ended')
  const old = await newPerson(server).call('POST', '/operator/sign-in', { email: 'owner@acme.com', password })
  assert.equal(old.json.error.code, 'sign_in_failed')
  assert.equal((await enter(server, newPerson(server), { link })).json.error.code, 'operator_exists')

  // An invitation needs no address from the provider: the link is what an owner gave. It works once.
  await person.call('POST', '/operators', { email: 'bo@acme.com', role: 'viewer' }).then(async answer => {
    const query = await queryOf(server, person, { confirms: true })
    assert.equal(answer.json.error?.code, 'confirmation_required', 'coming in by single sign-on shows nobody anew')
    assert.equal((await finish(person, query)).json.confirms, true)
  })
  const invitation = linkIn((await person.call('POST', '/operators', { email: 'bo@acme.com', role: 'viewer' })).json)
  idp.user = { sub: 'bo' }
  assert.equal((await enter(server, newPerson(server), { link: invitation })).json.operator.email, 'bo@acme.com')
  idp.user = { sub: 'another' }
  assert.equal((await enter(server, newPerson(server), { link: invitation })).json.error.code, 'link_invalid')
  assert.equal((await enter(server, newPerson(server))).json.error.code, 'oidc_stranger')
})

test('a domain is open to newcomers only when it was said, as what was said, and never before there is an owner', async t => {
  const opened = lastFirst(t)
  let redirectUri = ''
  const idp = await startIdentityProvider(opened, () => redirectUri)
  const server = await startFairlead(opened, {
    env: envOf(idp.issuer, { FAIRLEAD_OIDC_NEWCOMERS: 'acme.com=viewer, Ops.acme.com=admin' }),
  })
  redirectUri = `${server.url}/app/oidc`
  idp.user = { sub: '1', email: 'one@acme.com', email_verified: true }
  assert.equal((await enter(server)).json.error.code, 'oidc_stranger')
  await newOwner(server)
  assert.equal((await enter(server)).json.operator.role, 'viewer')
  idp.user = { sub: '2', email: 'two@ops.acme.com', email_verified: true }
  assert.equal((await enter(server)).json.operator.role, 'admin')
  for (const email of ['three@evilacme.com', 'three@sub.acme.com', 'x@acme.com@evil.com']) {
    idp.user = { sub: email, email, email_verified: true }
    assert.equal((await enter(server)).json.error.code, 'oidc_stranger', email)
  }
  idp.user = { sub: '4', email: 'four@acme.com' }
  assert.equal((await enter(server)).json.error.code, 'oidc_email_unverified')
})

test('a secret is shown after the identity provider has seen its owner anew, and to nobody else', async t => {
  const { idp, server, db, owner } = await setUp(t)
  await owner.call('POST', '/operators', { email: 'ada@acme.com', role: 'admin' })
  idp.user = { sub: 'ada', email: 'ada@acme.com', email_verified: true }
  const person = newPerson(server)
  await enter(server, person)
  const credentials = { type: 'OAUTH2', client_id: 'client', client_secret: 'the-client-secret' }
  await person.call('POST', '/integrations', { provider: 'salesforce', unique_key: 'sf', credentials })
  const read = () =>
    person.call('GET', '/integrations/sf?include=credentials', undefined, { 'Fairlead-Reveal': 'true' })
  assert.equal((await read()).json.error.code, 'confirmation_required')
  const logIns = idp.logIns
  const query = await queryOf(server, person, { confirms: true })
  assert.equal(idp.logIns, logIns + 1, 'a live session there is not enough')
  const before = await db.query<{ lookup: Buffer }>(sql`select lookup from operator_session where operator_id = 2`)
  assert.equal((await finish(person, query)).status, 200)
  const after = await db.query<{ lookup: Buffer }>(sql`select lookup from operator_session where operator_id = 2`)
  assert.notDeepEqual(after, before, 'a confirmation renames the session')
  assert.match((await read()).text, /the-client-secret/)

  // Another identity confirms nothing, and neither does somebody who is not signed in.
  await db.query(sql`update operator_session set confirmed_at = 'epoch'`)
  idp.user = { sub: 'mallory' }
  const theirs = newPerson(server).browser
  const foreign = await finish(person, await queryOf(server, person, { confirms: true }, theirs))
  assert.equal(foreign.json.error.code, 'oidc_stranger')
  assert.equal((await read()).json.error.code, 'confirmation_required')
  assert.equal((await begin(newPerson(server), { confirms: true })).json.error.code, 'not_signed_in')
})

test('a callback counts once, in the browser that began it, for as long as ten minutes', async t => {
  const { idp, server, db, owner } = await setUp(t)
  await owner.call('POST', '/operators', { email: 'ada@acme.com', role: 'viewer' })
  idp.user = { sub: 'ada', email: 'ada@acme.com', email_verified: true }
  const person = newPerson(server)
  const query = await queryOf(server, person)
  for (const [who, sent] of [
    ['another browser', await finish(newPerson(server), query)],
    [
      'another sign-in',
      await (async () => {
        const other = newPerson(server)
        await begin(other)
        return finish(other, query)
      })(),
    ],
    ['no state', await finish(person, '?code=x')],
    ['a made-up state', await finish(person, `?code=x&state=${'A'.repeat(43)}`)],
    ['state twice', await finish(person, `?state=${'A'.repeat(43)}&${query.slice(1)}`)],
  ] as const)
    assert.deepEqual([sent.status, sent.json.error.code], [400, 'oidc_ended'], who)
  const crossSite = await person.call(
    'POST',
    '/operator/oidc/finish',
    { query },
    {
      Origin: 'https://evil.example',
      'Sec-Fetch-Site': 'cross-site',
    },
  )
  assert.equal(crossSite.json.error.code, 'cross_site_request')

  // Two at once: one.
  const twice = await Promise.all([finish(person, query), finish(person, query)])
  assert.deepEqual(twice.map(({ status }) => status).sort(), [200, 400])
  assert.equal((await finish(person, query)).json.error.code, 'oidc_ended')
  assert.deepEqual(idp.alarms, [], 'its code was presented once')

  const late = newPerson(server)
  const lateQuery = await queryOf(server, late)
  await db.query(sql`update operator_handshake set ends_at = clock_timestamp()`)
  assert.equal((await finish(late, lateQuery)).json.error.code, 'oidc_ended')

  // What an identity provider says instead of a code is a code word at most, never markup or a sentence of theirs.
  const refused = newPerson(server)
  const { location } = (await begin(refused)).json
  const state = new URL(location).searchParams.get('state')
  const iss = encodeURIComponent(idp.issuer)
  const denied = await finish(refused, `?error=access_denied&error_description=<b>no</b>&state=${state}&iss=${iss}`)
  assert.equal(denied.json.error.code, 'oidc_refused')
  assert.ok(!denied.text.includes('<b>'))
  const asked = new URL(location).searchParams
  assert.deepEqual([asked.get('code_challenge_method'), asked.get('response_type')], ['S256', 'code'])
  assert.ok(asked.get('nonce') && asked.get('code_challenge'))
})

test('a token that is not for us, not from them, not for this sign-in or not now signs nobody in', async t => {
  const opened = lastFirst(t)
  const liar = await startLiar(opened)
  const server = await startFairlead(opened, {
    env: envOf(liar.issuer, { FAIRLEAD_OIDC_NEWCOMERS: 'acme.com=admin' }),
  })
  await newOwner(server, 'boss@acme.com')
  const attempt = async (lies: Lies, more = '') => {
    const person = newPerson(server)
    const { location } = (await begin(person)).json
    const asked = new URL(location).searchParams
    Object.assign(liar, { nonce: asked.get('nonce'), lies })
    const answer = await finish(person, `?code=any&state=${asked.get('state')}${more}`)
    return { answer, person }
  }
  const now = Math.floor(Date.now() / 1000)
  const lies: [string, Lies, string?][] = [
    ['another nonce', { claims: { nonce: 'of-another-sign-in' } }],
    ['no nonce', { claims: { nonce: undefined } }],
    ['another audience', { claims: { aud: 'another-client' } }],
    ['several audiences, another party', { claims: { aud: [clientId, 'another'], azp: 'another' } }],
    ['another issuer', { claims: { iss: 'https://evil.example' } }],
    ['expired', { claims: { exp: now - 120, iat: now - 600 } }],
    ['not yet', { claims: { nbf: now + 600 } }],
    ['no subject', { claims: { sub: undefined } }],
    ['another key', { token: byAnotherKey }],
    ['no signature', { token: unsigned }],
    ['a public key as a secret', { token: asHmac }],
    ['no token', { token: () => 'nonsense' }],
    ['another issuer in the query', {}, '&iss=https://evil.example'],
  ]
  for (const [what, lie, more] of lies) {
    const { answer, person } = await attempt(lie, more)
    assert.deepEqual([answer.status, answer.json.error.code], [401, 'oidc_failed'], what)
    assert.equal((await person.call('GET', '/operator')).json.state, 'signed_out', what)
  }
  assert.equal((await attempt({})).answer.json.operator.role, 'admin', 'the same without a lie')
  assert.ok(!server.log().includes(clientSecret))
})

test('an identity provider that is another, away or forbidden is said to be, and passwords go on', async t => {
  const opened = lastFirst(t)
  const liar = await startLiar(opened)
  liar.metadata = { issuer: 'https://evil.example' }
  const server = await startFairlead(opened, { env: envOf(liar.issuer) })
  await newOwner(server)
  assert.equal((await begin(newPerson(server))).json.error.code, 'oidc_failed')
  liar.metadata = { authorization_endpoint: 'http://169.254.169.254/auth' }
  assert.equal((await begin(newPerson(server))).json.error.code, 'oidc_unreachable')
  const signedIn = await newPerson(server).call('POST', '/operator/sign-in', { email: 'owner@acme.com', password })
  assert.equal(signedIn.status, 200)

  const away = await startFairlead(opened, { env: envOf('http://127.0.0.1:9') })
  assert.deepEqual(
    [(await begin(newPerson(away))).status, (await begin(newPerson(away))).json.error.code],
    [502, 'oidc_unreachable'],
  )
  const none = await startFairlead(opened)
  assert.equal((await begin(newPerson(none))).json.error.code, 'oidc_off')
  assert.equal((await newPerson(none).call('GET', '/operator')).json.identity_provider, null)
})

test('sign-ins are counted by address', async t => {
  const opened = lastFirst(t)
  const liar = await startLiar(opened)
  const server = await startFairlead(opened, {
    env: envOf(liar.issuer, { FAIRLEAD_TRUSTED_PROXIES: '127.0.0.1' }),
  })
  const from = (address: string) =>
    newPerson(server).call('POST', '/operator/oidc/begin', {}, { 'X-Forwarded-For': address })
  const { servers } = server
  const answers = await Promise.all(Array.from({ length: 64 * servers }, () => from('203.0.113.9')))
  const passed = answers.filter(({ status }) => status === 200).length
  // Of a burst each server lets through what it has not been told of by the others.
  assert.ok(passed >= 60 && passed <= 60 * servers, `${passed} passed`)
  assert.equal(answers.find(({ status }) => status === 429)?.json.error.code, 'too_many_request')
  assert.equal((await from('203.0.113.10')).status, 200, 'nobody else is kept out')
})
