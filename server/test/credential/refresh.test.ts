import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TokenSet } from '../../src/credential/kinds/oauth2-code.ts'
import { successorOf } from '../../src/credential/refresh.ts'
import { addCredential, type Credential } from '../../src/credential/store.ts'
import { sql } from '../../src/db/sql.ts'
import { newId } from '../../src/lib/id.ts'
import { Secret } from '../../src/lib/secret.ts'
import { failureOf, grantOf, hours, lapsed, openRoom, sandbox } from './support/room.ts'

test('without rotation a refresh brings a new access token and keeps the refresh token', async t => {
  const room = await openRoom(t)
  const old = await room.connect(lapsed)
  const fresh = await room.credentials.fresh(room.holder, old)
  assert.notEqual(fresh.accessToken.reveal(), old.accessToken.reveal())
  assert.equal(fresh.refreshToken?.reveal(), old.refreshToken?.reveal())
  assert.deepEqual([fresh.tokenVersion, fresh.rotates, fresh.health, fresh.cause], [2, false, 'active', null])
  assert.deepEqual(await room.row(old.id).then(row => [row.intent_claim, row.claim_id, row.lease_until]), [
    null,
    null,
    null,
  ])
  assert.equal(room.presented(), 1)
})

test('with rotation the new refresh token is stored before anybody is handed the new access token', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  const first = await room.credentials.fresh(room.holder, old)
  const stored = await room.load(old.id)
  assert.equal(stored.refreshToken?.reveal(), first.refreshToken?.reveal())
  assert.notEqual(first.refreshToken?.reveal(), old.refreshToken?.reveal())
  assert.equal(first.rotates, true)

  // Another process starts from the row, not from memory; a spent token presented again would revoke the family.
  const second = await room.process().forced(room.holder, stored)
  assert.equal(second.tokenVersion, 3)
  const { rotations, familyRevocations } = room.simulator.control.counters()
  assert.deepEqual([rotations, familyRevocations], [2, 0])
})

test('a renamed My Domain is followed', async t => {
  const room = await openRoom(t)
  const old = await room.connect(lapsed)
  room.simulator.control.moveOrg({ org: sandbox, domain: 'apex--uat' })
  const fresh = await room.credentials.fresh(room.holder, old)
  assert.equal(fresh.config.instance_url, room.simulator.base(sandbox))
  assert.match(String(fresh.config.instance_url), /\/apex--uat$/)
  // A fact the answer does not repeat is kept.
  assert.equal(fresh.config.user_id, old.config.user_id)
})

for (const instance_url of [
  'https://acme.my.salesforce.com.evil.example',
  'https://127.0.0.1.evil.example/acme--uat',
  'http://localhost:1/',
  'http://user@127.0.0.1/',
  'javascript:alert(1)',
])
  test(`an instance_url of ${instance_url} is not followed, and the tokens that came with it are kept`, async t => {
    const room = await openRoom(t)
    const old = await room.connect(lapsed)
    const body = { access_token: 'new-access', refresh_token: 'new-refresh', token_type: 'Bearer', instance_url }
    room.simulator.control.fail({ endpoint: 'token', status: 200, body })
    const fresh = await room.credentials.fresh(room.holder, old)
    assert.equal(fresh.config.instance_url, old.config.instance_url)
    assert.deepEqual([fresh.accessToken.reveal(), fresh.refreshToken?.reveal()], ['new-access', 'new-refresh'])
  })

test('a token near its end is served while its renewal runs in the background, once', async t => {
  const room = await openRoom(t)
  const old = await room.connect(60_000)
  room.simulator.control.delay({ endpoint: 'token', ms: 300, when: 'before' })
  for (let call = 0; call < 20; call++) assert.equal(await room.credentials.fresh(room.holder, old), old)
  assert.equal(room.renewed.length, 0)
  await room.credentials.drain()
  assert.equal(room.presented(), 1)
  assert.deepEqual(
    room.renewed.map(credential => credential.tokenVersion),
    [2],
  )
})

test('a token with plenty of life costs nothing: no question, no statement', async t => {
  const room = await openRoom(t)
  const old = await room.connect(hours(1))
  const db = { ...room.db, query: (statement: { text: string }) => assert.fail(statement.text) }
  assert.equal(await room.process({ db }).fresh(room.holder, old), old)
  assert.equal(room.presented(), 0)
})

test('an outage that cost nothing is over when it is over', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  room.simulator.control.fail({ endpoint: 'token', status: 429, body: '' })
  await failureOf(room.credentials.fresh(room.holder, old))
  const fresh = await room.credentials.fresh(room.holder, await room.letTry(old.id))
  assert.deepEqual([fresh.tokenVersion, fresh.health, fresh.failures], [2, 'active', 0])
})

interface Verdict {
  says: [error: string, description?: string]
  status?: number
  health: 'active' | 'degraded' | 'needs_reauth' | 'blocked_by_policy'
  cause: string
  /** Whether the intent stays: nobody may present this token again. */
  doubt?: true
}
const verdicts: Verdict[] = [
  { says: ['invalid_grant', 'expired access/refresh token'], health: 'needs_reauth', cause: 'invalid_grant' },
  { says: ['invalid_grant', 'inactive user'], health: 'needs_reauth', cause: 'invalid_grant' },
  { says: ['invalid_grant', "user hasn't approved this consumer"], health: 'needs_reauth', cause: 'invalid_grant' },
  {
    says: ['invalid_grant', 'user is not admin approved to access this app'],
    health: 'needs_reauth',
    cause: 'invalid_grant',
  },
  { says: ['invalid_grant', 'token validity expired'], health: 'needs_reauth', cause: 'invalid_grant' },
  {
    says: ['invalid_grant', 'token request is already being processed'],
    health: 'degraded',
    cause: 'in_doubt',
    doubt: true,
  },
  { says: ['invalid_grant', 'a sentence nobody has seen before'], health: 'degraded', cause: 'in_doubt', doubt: true },
  { says: ['server_error'], status: 500, health: 'degraded', cause: 'in_doubt', doubt: true },
  { says: ['unknown_error'], health: 'degraded', cause: 'in_doubt', doubt: true },
  { says: ['invalid_grant', 'ip restricted'], health: 'blocked_by_policy', cause: 'policy' },
  { says: ['invalid_grant', 'IP restricted or invalid login hours'], health: 'blocked_by_policy', cause: 'policy' },
  { says: ['invalid_client', 'invalid client credentials'], status: 401, health: 'active', cause: 'invalid_client' },
  { says: ['invalid_client_id', 'client identifier invalid'], health: 'active', cause: 'invalid_client_id' },
  { says: ['rate_limit_exceeded', 'login rate'], health: 'active', cause: 'rate_limit_exceeded' },
  { says: ['slow_down'], status: 429, health: 'active', cause: 'slow_down' },
]
for (const { says, status = 400, health, cause, doubt = false } of verdicts)
  test(`${status} ${says.join(': ')} means ${health}${doubt ? ', in doubt' : ''}`, async t => {
    const room = await openRoom(t)
    const old = await room.connect(lapsed)
    const [error, error_description] = says
    room.simulator.control.fail({ endpoint: 'token', status, body: { error, error_description } })
    const failure = await failureOf(room.credentials.fresh(room.holder, old))
    const dead = health === 'needs_reauth'
    assert.deepEqual([failure.code, failure.status], dead ? ['invalid_credentials', 400] : ['refresh_unavailable', 424])
    assert.deepEqual(failure.payload, { cause })
    const now = await room.letTry(old.id)
    assert.deepEqual([now.health, now.cause, now.tokenVersion], [health, cause, 1])
    // The tokens stay: a late answer may still heal it.
    assert.equal(now.refreshToken?.reveal(), old.refreshToken?.reveal())
    const row = await room.row(old.id)
    assert.deepEqual([row.intent_claim !== null, row.claim_id, row.lease_until], [doubt, null, null])

    // What is over or in doubt is not presented again by anybody; what was merely turned away heals by itself.
    const next = room.process().fresh(room.holder, now)
    if (!dead && !doubt) assert.equal((await next).health, 'active')
    else assert.equal((await failureOf(next)).code, failure.code)
    assert.equal(room.presented(), dead || doubt ? 1 : 2)
  })

test('an answer lost after the provider rotated is doubt: the spent token is never presented again', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(60_000)
  room.simulator.control.drop({ endpoint: 'token', when: 'after' })
  const other = room.process()
  assert.equal(await room.credentials.fresh(room.holder, old), old)
  await room.credentials.drain()
  const doubted = await room.letTry(old.id)
  assert.deepEqual([doubted.health, doubted.cause], ['degraded', 'refresh_unanswered'])
  for (const credentials of [room.credentials, other]) {
    assert.equal(await credentials.fresh(room.holder, doubted), doubted)
    await credentials.drain()
    assert.equal(await credentials.renewed(room.holder, doubted), undefined)
    assert.equal((await failureOf(credentials.forced(room.holder, doubted))).code, 'refresh_unavailable')
    // A copy cached before the accident knows nothing of the intent; the row does.
    assert.equal((await failureOf(credentials.forced(room.holder, old))).code, 'refresh_unavailable')
  }
  assert.equal((await failureOf(other.fresh(room.holder, await room.age(old.id, lapsed)))).code, 'refresh_unavailable')
  const { rotations, familyRevocations } = room.simulator.control.counters()
  assert.deepEqual([room.presented(), rotations, familyRevocations], [1, 1, 0])
})

test('a provider known not to rotate is simply asked again, even by a process whose copy is old', async t => {
  const room = await openRoom(t, { provider: { rotates: false } })
  const first = await room.credentials.fresh(room.holder, await room.connect(lapsed))
  const cachedElsewhere = await room.age(first.id, lapsed)
  room.simulator.control.drop({ endpoint: 'token', when: 'after' })
  await failureOf(room.credentials.fresh(room.holder, cachedElsewhere))
  await room.letTry(first.id)
  const fresh = await room.process().fresh(room.holder, cachedElsewhere)
  assert.deepEqual([fresh.tokenVersion, fresh.health], [3, 'active'])
  assert.equal((await room.row(first.id)).intent_claim, null)
})

test('callers of two processes share one request', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  room.simulator.control.delay({ endpoint: 'token', ms: 300, when: 'before', times: 40 })
  const other = room.process()
  const all = await Promise.all(
    Array.from({ length: 40 }, (_, i) => (i % 2 ? other : room.credentials).fresh(room.holder, old)),
  )
  assert.equal(new Set(all.map(credential => credential.accessToken.reveal())).size, 1)
  assert.ok(all.every(credential => credential.tokenVersion === 2))
  assert.equal(room.presented(), 1)
})

test('a copy cached while another process held the lease does not keep this one from trying', async t => {
  const room = await openRoom(t)
  const { id } = await room.connect(lapsed)
  await room.db.query(sql`update credential set lease_until = clock_timestamp() + interval '1 minute' where id = ${id}`)
  const cached = await room.load(id)
  assert.equal(cached.leaseHeld, true)
  await room.db.query(sql`update credential set lease_until = null where id = ${id}`)
  assert.equal((await room.credentials.fresh(room.holder, cached)).tokenVersion, 2)
})

test('stopping waits for a renewal whose caller has gone', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  room.simulator.control.delay({ endpoint: 'token', ms: 200, when: 'before' })
  void room.credentials.fresh(room.holder, old)
  await room.credentials.drain()
  assert.equal((await room.load(old.id)).tokenVersion, 2)
})

/** The answer to presenting `credential`'s refresh token. */
const after = (credential: Credential, tokens: TokenSet) => successorOf(credential, tokens, {}, 'test')

test('a paused connection is neither served nor renewed, and a save does not resume it', async t => {
  const room = await openRoom(t)
  const old = await room.connect(lapsed)
  await room.db.query(sql`update credential set paused = true where id = ${old.id}`)
  const paused = await room.load(old.id)
  for (const call of ['fresh', 'forced'] as const)
    assert.equal((await failureOf(room.credentials[call](room.holder, paused))).code, 'connection_paused')
  // A copy from before the pause gets as far as the claim.
  await failureOf(room.credentials.fresh(room.holder, old))
  assert.equal(room.presented(), 0)
  assert.equal(await room.deps.store.install(after(paused, grantOf(room).tokens)), 'installed')
  assert.equal((await room.load(old.id)).paused, true)
})

test('a connection that ended is not revived by asking again', async t => {
  const room = await openRoom(t)
  const old = await room.connect(lapsed)
  room.simulator.control.revokeRefreshTokens()
  const failure = await failureOf(room.credentials.fresh(room.holder, old))
  assert.equal(failure.code, 'invalid_credentials')
  const ended = await room.letTry(old.id)
  for (const seen of [old, ended]) {
    assert.equal((await failureOf(room.credentials.fresh(room.holder, seen))).code, 'invalid_credentials')
    assert.equal((await failureOf(room.credentials.forced(room.holder, seen))).code, 'invalid_credentials')
    assert.equal(await room.credentials.renewed(room.holder, seen), undefined)
  }
  assert.equal(room.presented(), 1)
})

test('after a 401 on a renewed token the renewal is not repeated for it', async t => {
  const room = await openRoom(t)
  const old = await room.connect()
  const newer = await room.credentials.renewed(room.holder, old)
  assert.equal(newer?.tokenVersion, 2)
  room.credentials.distrust(newer!)
  assert.equal(await room.credentials.renewed(room.holder, newer!), undefined)
  // A late 401 on the old token finds the newer one without asking.
  assert.equal((await room.credentials.renewed(room.holder, old))?.tokenVersion, 2)
  assert.equal(room.presented(), 1)
})

test('an answer is installed whenever the row holds the token it was obtained with, lease or no lease', async t => {
  const room = await openRoom(t)
  const seen = await room.connect(lapsed)
  const { store } = room.deps
  const claim = newId()
  const claimed = await store.claim(seen, claim, { forced: false, rotates: true, ripe: [] })
  assert.ok(claimed)
  const intent = { node: 'me', settled: null, lastTry: false }
  assert.equal(await store.intend({ credential: claimed, claim }, intent), true)
  // My lease lapses and somebody else takes over.
  await room.db.query(sql`update credential set lease_until = null, claim_id = ${newId()} where id = ${seen.id}`)
  const { tokens } = grantOf(room)
  assert.equal(await room.deps.store.install(after(seen, tokens)), 'installed')
  // The acknowledgement was lost: saying it twice changes nothing.
  assert.equal(await room.deps.store.install(after(seen, tokens)), 'already_installed')
  const stored = await room.load(seen.id)
  assert.deepEqual([stored.tokenVersion, stored.accessToken.reveal()], [2, tokens.accessToken.reveal()])
  assert.equal((await room.row(seen.id)).claim_id, null)
})

test('an answer that comes after a reconnect is superseded, and one after the end finds nothing', async t => {
  const room = await openRoom(t)
  const seen = await room.connect(lapsed)
  const { tokens: reconnected } = grantOf(room)
  assert.equal(await room.deps.store.install(after(seen, reconnected)), 'installed')
  const late = grantOf(room).tokens
  assert.equal(await room.deps.store.install(after(seen, late)), 'superseded')
  // Even a token that comes back to what was presented does not match another version.
  const back = { ...late, refreshToken: seen.refreshToken }
  assert.equal(await room.deps.store.install(after(await room.load(seen.id), back)), 'installed')
  assert.equal(await room.deps.store.install(after(seen, late)), 'superseded')
  const before = await room.load(seen.id)
  await room.db.query(sql`update credential set gone_at = clock_timestamp() where id = ${seen.id}`)
  assert.equal(await room.deps.store.install(after(before, late)), 'gone')
})

test('a claim is for one: not while leased, backed off, moved on, in doubt or over', async t => {
  const room = await openRoom(t)
  const rows: [string, ReturnType<typeof sql>, boolean][] = [
    ['lapsed', sql`update credential set health = health`, true],
    ['leased', sql`update credential set lease_until = clock_timestamp() + interval '1 minute'`, false],
    ['lease over', sql`update credential set lease_until = clock_timestamp() - interval '1 second'`, true],
    ['backed off', sql`update credential set next_try_at = clock_timestamp() + interval '1 minute'`, false],
    ['moved on', sql`update credential set token_version = token_version + 1`, false],
    ['in doubt', sql`update credential set intent_claim = ${newId()}`, false],
    ['in doubt, no rotation', sql`update credential set intent_claim = ${newId()}, rotates = false`, true],
    ['spent', sql`update credential set spent = true`, false],
    ['paused', sql`update credential set paused = true`, false],
    ['over', sql`update credential set health = 'needs_reauth'`, false],
    ['gone', sql`update credential set gone_at = clock_timestamp()`, false],
    ['not due', sql`update credential set expires_at = clock_timestamp() + interval '1 hour'`, false],
  ]
  for (const [what, statement, claimable] of rows) {
    const credential = await room.connect(lapsed)
    await room.db.query({ ...statement, text: `${statement.text} where id = '${credential.id}'` })
    const { store } = room.deps
    const rotates = !what.includes('no rotation')
    const claimed = await store.claim(credential, newId(), { forced: false, rotates, ripe: [] })
    assert.equal(claimed !== undefined, claimable, what)
    const again = claimed && (await store.claim(credential, newId(), { forced: true, rotates, ripe: [] }))
    assert.equal(again, undefined, what)
  }
})

test('one grant is one row, however often and however simultaneously it is stored', async t => {
  const room = await openRoom(t)
  const grant = grantOf(room)
  const add = (integrationId = room.integrationId) =>
    room.db.transaction(tx =>
      addCredential(
        { ...room.deps, db: tx },
        {
          environmentId: room.environmentId,
          integrationId,
          ...grant,
          scopesRequested: [],
          scopesGranted: [],
          epoch: 'test',
        },
      ),
    )
  const ids = (await Promise.all([add(), add(), add(), add()])).map(({ id }) => id)
  assert.equal(new Set(ids).size, 1)
  const credential = await room.load(ids[0]!)
  assert.equal(credential.tokenVersion, 4)
  const [{ count } = { count: 0 }] = await room.db.query<{ count: number }>(
    sql`select count(*)::int from credential where integration_id = ${room.integrationId}`,
  )
  assert.equal(count, 1)

  // Joining heals what had ended, and every cache hears of it.
  await room.db.query(
    sql`update credential set health = 'needs_reauth', next_try_at = clock_timestamp() + interval '1 hour' where id = ${ids[0]}`,
  )
  await add()
  assert.deepEqual(await room.load(ids[0]!).then(({ health, tokenVersion }) => [health, tokenVersion]), ['active', 5])
  // Without a refresh token there is nothing to share.
  const lone = { ...grant, tokens: { ...grant.tokens, refreshToken: undefined } }
  const stored = {
    environmentId: room.environmentId,
    integrationId: room.integrationId,
    scopesRequested: [],
    scopesGranted: [],
    epoch: 'test',
  }
  const [one, other] = [
    await addCredential(room.deps, { ...stored, ...lone }),
    await addCredential(room.deps, { ...stored, ...lone }),
  ]
  assert.notEqual(one.id, other.id)
})

test('tokens are nowhere in plain columns', async t => {
  const room = await openRoom(t)
  const { id, accessToken, refreshToken } = await room.connect()
  const [row] = await room.db.query<{ text: string; sealed: Buffer }>(
    sql`select to_jsonb(credential)::text as text, sealed from credential where id = ${id}`,
  )
  for (const secret of [accessToken, refreshToken ?? new Secret('')]) {
    assert.ok(!row!.text.includes(secret.reveal()))
    assert.ok(!row!.text.includes(Buffer.from(secret.reveal()).toString('hex')))
  }
})
