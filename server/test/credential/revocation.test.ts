/** The outbox of revocations: what it does at the provider, what it leaves behind, and what it says about it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listReceipts, retire, sealedJobs } from '../../src/credential/revocation/store.ts'
import { createRevocations } from '../../src/credential/revocation.ts'
import type { Credential } from '../../src/credential/store.ts'
import { sql } from '../../src/db/sql.ts'
import type { Failure } from '../../src/errors.ts'
import { findIntegrationById, removeIntegration } from '../../src/integration/store.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Provider } from '../../src/provider/schema.ts'
import { lapsed, openRoom, type Room } from './support/room.ts'

const receiptsOf = (room: Room, { id }: Pick<Credential, 'id'>) =>
  listReceipts(room.db, room.environmentId, { connection_id: `of-${id}` })
const statusesOf = async (room: Room, credential: Credential) =>
  (await receiptsOf(room, credential)).map(({ status, verified_at, ended_at }) => [
    status,
    verified_at !== null,
    ended_at !== null,
  ])
const asked = ({ simulator }: Room) => {
  const { revoke = 0, introspect = 0 } = simulator.control.counters().requests
  return { revoke, introspect }
}
const sealedLeft = async (room: Room, { id }: Credential) => {
  const [row] = await room.db.query<{ sealed: number; facts: number }>(sql`
    select count(sealed)::int as sealed, count(*) filter (where config <> '{}')::int as facts
    from revocation where credential_id = ${id}`)
  return row
}
/** The wait of every job of this room is over. */
const letTry = (room: Room) =>
  room.db.query(sql`update revocation set next_try_at = clock_timestamp() where integration_id = ${room.integrationId}`)
const waitOf = async (room: Room, { id }: Credential): Promise<number> => {
  const [row] = await room.db.query<{ wait: number }>(sql`
    select extract(epoch from next_try_at - clock_timestamp())::float8 as wait from revocation where credential_id = ${id}`)
  return row!.wait
}
const isDead = (room: Room, { accessToken, refreshToken }: Credential): boolean => {
  const { grants, sessions } = room.simulator.control.state()
  return (
    grants.every(grant => grant.refreshToken !== refreshToken?.reveal() || grant.ended !== null) &&
    sessions.every(session => session.token !== accessToken.reveal())
  )
}

test('a grant that is ended dies at its provider, refresh token first, and is seen to be dead', async t => {
  const room = await openRoom(t, { rotation: true })
  const credential = await room.connect()
  await room.deleteRow(credential.id)
  assert.deepEqual(await statusesOf(room, credential), [['pending', false, false]])
  // In the same moment nothing of the secret is left where it was; it waits, sealed for its new place, in the outbox.
  const [row] = await room.db.query(
    sql`select sealed, config, claim_id, lease_until from credential where id = ${credential.id}`,
  )
  assert.deepEqual(row, { sealed: null, config: {}, claim_id: null, lease_until: null })
  const [outbox] = await room.db.query<{ text: string }>(sql`
    select to_jsonb(revocation)::text as text from revocation where credential_id = ${credential.id}`)
  for (const secret of [credential.accessToken, credential.refreshToken!, room.holder.client.secret!]) {
    assert.ok(!outbox!.text.includes(secret.reveal()))
    assert.ok(!outbox!.text.includes(Buffer.from(secret.reveal()).toString('hex')))
  }

  await room.revocations.sweep()
  assert.ok(isDead(room, credential))
  const first = room.simulator.control.requests().find(request => request.endpoint === 'revoke')
  assert.equal(first?.method, 'POST')
  assert.deepEqual(asked(room), { revoke: 2, introspect: 2 })
  assert.deepEqual(await statusesOf(room, credential), [['revoked', true, true]])
  assert.deepEqual(await sealedLeft(room, credential), { sealed: 0, facts: 0 })
  // It is over: nobody asks again.
  await room.revocations.sweep()
  assert.deepEqual(asked(room), { revoke: 2, introspect: 2 })
})

const already = { error: 'invalid_token' }
const unsupported = { error: 'unsupported_token_type' }
interface Answer {
  what: string
  revoke?: { status: number; body?: object }[]
  introspect?: { status: number; body?: object; times: number }
  provider?: Partial<Provider>
  status: string
  verified: boolean
  /** Whether the job is over after the first try. */
  ended?: false
}
const answers: Answer[] = [
  {
    what: '400 invalid_token',
    revoke: [
      { status: 400, body: already },
      { status: 400, body: already },
    ],
    introspect: { status: 200, body: { active: false }, times: 2 },
    status: 'already_dead',
    verified: true,
  },
  {
    what: '400 unsupported_token_type for one of the two',
    revoke: [{ status: 200 }, { status: 400, body: unsupported }],
    introspect: { status: 200, body: { active: false }, times: 2 },
    status: 'revoked',
    verified: true,
  },
  {
    what: '400 unsupported_token_type for both, and still active',
    revoke: [
      { status: 400, body: unsupported },
      { status: 400, body: unsupported },
    ],
    status: 'not_offered',
    verified: false,
  },
  {
    what: '400 unsupported_token_type for both, and dead',
    revoke: [
      { status: 400, body: unsupported },
      { status: 400, body: unsupported },
    ],
    introspect: { status: 200, body: { active: false }, times: 2 },
    status: 'already_dead',
    verified: true,
  },
  {
    what: 'nothing: it has no endpoint',
    provider: { revocation_url: undefined } as never,
    status: 'not_offered',
    verified: false,
  },
  { what: '200, and cannot be asked', provider: { introspects: false }, status: 'revoked', verified: false },
  {
    what: '200, and says it is still active',
    introspect: { status: 200, body: { active: true }, times: 2 },
    status: 'pending',
    verified: false,
    ended: false,
  },
  {
    what: '200, and introspection fails',
    introspect: { status: 503, times: 2 },
    status: 'pending',
    verified: false,
    ended: false,
  },
  {
    what: '401 invalid_client',
    revoke: [{ status: 401, body: { error: 'invalid_client' } }],
    status: 'pending',
    verified: false,
    ended: false,
  },
  { what: '400 with a page', revoke: [{ status: 400 }], status: 'pending', verified: false, ended: false },
]
for (const { what, revoke = [], introspect, provider = {}, status, verified, ended = true } of answers)
  test(`a provider that answers ${what}: ${status}`, async t => {
    const room = await openRoom(t, { provider })
    for (const answer of revoke) room.simulator.control.fail({ endpoint: 'revoke', ...answer })
    if (introspect) room.simulator.control.fail({ endpoint: 'introspect', ...introspect })
    const credential = await room.connect()
    await room.deleteRow(credential.id)
    await room.revocations.sweep()
    assert.deepEqual(await statusesOf(room, credential), [[status, verified, ended]])
    assert.equal((await sealedLeft(room, credential))?.sealed, ended ? 0 : 1)
    // What may pass does pass.
    if (ended) return
    await letTry(room)
    await room.revocations.sweep()
    assert.match((await statusesOf(room, credential))[0]!.join(), /^(revoked|already_dead),true,true$/)
    assert.ok(isDead(room, credential))
  })

const outages: [what: string, breakIt: (room: Room) => void, atLeast: number][] = [
  ['answers 503', ({ simulator }) => simulator.control.fail({ endpoint: 'revoke', status: 503, times: 3 }), 4],
  [
    'answers 503 and says when to come back',
    ({ simulator }) => simulator.control.fail({ endpoint: 'revoke', status: 503, headers: { 'retry-after': '1800' } }),
    1790,
  ],
  [
    'names a date to come back',
    ({ simulator }) =>
      simulator.control.fail({
        endpoint: 'revoke',
        status: 429,
        headers: { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() },
      }),
    3500,
  ],
  ['hangs up', ({ simulator }) => void simulator.control.drop({ endpoint: 'revoke', when: 'after' }), 4],
]
for (const [what, breakIt, atLeast] of outages)
  test(`a revocation outlasts a provider that ${what}`, async t => {
    const room = await openRoom(t)
    breakIt(room)
    const credential = await room.connect()
    await room.deleteRow(credential.id)
    await room.revocations.sweep()
    assert.equal(asked(room).revoke, 1)
    assert.deepEqual(await statusesOf(room, credential), [['pending', false, false]])
    const wait = await waitOf(room, credential)
    assert.ok(wait > atLeast && wait < atLeast + 120, `${wait} s`)
    // Before that nobody asks.
    await room.revocations.sweep()
    assert.equal(asked(room).revoke, 1)
    room.simulator.control.clearFaults()
    await letTry(room)
    await room.revocations.sweep()
    assert.ok(isDead(room, credential))
    assert.match((await statusesOf(room, credential))[0]!.join(), /^(revoked|already_dead),true,true$/)
  })

test('a provider that is away for a day is asked again; after three it is given up, and the secret goes with the job', async t => {
  const room = await openRoom(t)
  room.simulator.control.fail({ endpoint: 'revoke', status: 503, times: 9 })
  const credential = await room.connect()
  await room.deleteRow(credential.id)
  const age = (hours: number) =>
    room.db.query(sql`
      update revocation set created_at = clock_timestamp() - ${hours}::int * interval '1 hour', next_try_at = clock_timestamp()
      where credential_id = ${credential.id}`)
  for (const hours of [0, 25, 71]) {
    await age(hours)
    await room.revocations.sweep()
    assert.deepEqual(await statusesOf(room, credential), [['pending', false, false]], `after ${hours} h`)
  }
  assert.equal(asked(room).revoke, 3)
  await age(73)
  await room.revocations.sweep()
  assert.deepEqual(await statusesOf(room, credential), [['given_up', false, true]])
  assert.equal((await sealedLeft(room, credential))?.sealed, 0)
})

test('two processes share the work: no token is revoked by both, and one that died leaves its jobs to the other', async t => {
  const room = await openRoom(t)
  const other = createRevocations({
    ...room.deps,
    providerOf: () => room.holder.provider,
    clientOf: async () => undefined,
  })
  const credentials = await Promise.all(Array.from({ length: 5 }, () => room.connect()))
  for (const { id } of credentials) await room.deleteRow(id)
  await Promise.all([room.revocations.sweep(), other.sweep()])
  assert.equal(asked(room).revoke, 10)

  const orphan = await room.connect()
  await room.deleteRow(orphan.id)
  await room.db.query(sql`
    update revocation set lease_until = clock_timestamp() + interval '1 minute' where credential_id = ${orphan.id}`)
  await other.sweep()
  assert.deepEqual(await statusesOf(room, orphan), [['pending', false, false]])
  await room.db.query(sql`
    update revocation set lease_until = clock_timestamp() - interval '1 second' where credential_id = ${orphan.id}`)
  await other.sweep()
  assert.deepEqual(await statusesOf(room, orphan), [['revoked', true, true]])
})

test('a client secret that was corrected is used; a client that was replaced is not the one of these tokens', async t => {
  const room = await openRoom(t, { provider: { authorization_method: 'header' } })
  const clients = [
    { id: room.holder.client.id, expected: 'corrected' },
    { id: 'somebody-else', expected: room.holder.client.secret!.reveal() },
  ]
  for (const { id, expected } of clients) {
    const sent: string[] = []
    const egress: Room['deps']['egress'] = {
      ...room.deps.egress,
      request: async request => {
        sent.push(String(request.headers?.authorization))
        return { status: 200, headers: {}, body: Buffer.from('{"active":false}') }
      },
    }
    const revocations = createRevocations({
      ...room.deps,
      egress,
      providerOf: () => room.holder.provider,
      clientOf: async () => ({ id, secret: new Secret('corrected') }),
    })
    const credential = await room.connect()
    await room.deleteRow(credential.id)
    await revocations.sweep()
    const basic = new Set(sent.map(header => Buffer.from(header.slice(6), 'base64').toString()))
    assert.deepEqual([...basic], [`${encodeURIComponent(room.holder.client.id)}:${encodeURIComponent(expected)}`])
  }
})

test('it outlives its integration', async t => {
  const room = await openRoom(t)
  const credential = await room.connect()
  await room.deleteRow(credential.id)
  await removeIntegration(room.deps, room.integrationId)
  assert.equal(await findIntegrationById(room.deps, room.integrationId), undefined)
  await room.revocations.sweep()
  assert.ok(isDead(room, credential))
  assert.deepEqual(await statusesOf(room, credential), [['revoked', true, true]])
})

test('what does not open any more can still be deleted, and says that it was not revoked', async t => {
  const room = await openRoom(t)
  const credential = await room.connect()
  await room.db.query(
    sql`update credential set sealed = set_byte(sealed, 50, 255 - get_byte(sealed, 50)) where id = ${credential.id}`,
  )
  await room.deleteRow(credential.id)
  assert.deepEqual(await statusesOf(room, credential), [['given_up', false, true]])
  await room.revocations.sweep()
  assert.equal(asked(room).revoke, 0)

  // Nor does a job that was altered, or moved to another row, hold up the others.
  const [altered, sound] = [await room.connect(), await room.connect()]
  for (const { id } of [altered, sound]) await room.deleteRow(id)
  await room.db.query(sql`
    update revocation set sealed = (select sealed from revocation where credential_id = ${sound.id})
    where credential_id = ${altered.id}`)
  await room.revocations.sweep()
  assert.deepEqual(await statusesOf(room, sound), [['revoked', true, true]])
  // A server with a newer key ring might open it, so it is kept until its time is over.
  assert.deepEqual(await statusesOf(room, altered), [['pending', false, false]])
  await room.db.query(sql`
    update revocation set created_at = created_at - interval '4 days', next_try_at = clock_timestamp()
    where credential_id = ${altered.id}`)
  await room.revocations.sweep()
  assert.deepEqual(await statusesOf(room, altered), [['given_up', false, true]])
})

test('a job that ends while a rotation holds it stays empty', async t => {
  const room = await openRoom(t)
  const credential = await room.connect()
  await room.deleteRow(credential.id)
  const [job] = await room.db.query<{ id: string; key: Buffer }>(
    sql`select id, sealed_key as key from revocation where credential_id = ${credential.id}`,
  )
  const column = sealedJobs(room.db)
  const held = (await column.sealedWith(job!.key, null, 100)).find(row => row.place.row === job!.id)
  assert.ok(held)
  await room.revocations.sweep()
  await held.replace(held.sealed)
  assert.deepEqual(await sealedLeft(room, credential), { sealed: 0, facts: 0 })
  assert.deepEqual(await statusesOf(room, credential), [['revoked', true, true]])
})

test('a deletion that is rolled back changed nothing', async t => {
  const room = await openRoom(t)
  const credential = await room.connect()
  const integration = await findIntegrationById(room.deps, room.integrationId)
  const undone = room.db.transaction(async tx => {
    await retire(room.deps, tx, integration!, [{ credentialId: credential.id, connectionIds: ['x'] }], null)
    throw new Error('undone')
  })
  await assert.rejects(undone, /undone/)
  assert.deepEqual(await receiptsOf(room, credential), [])
  assert.equal((await room.load(credential.id)).accessToken.reveal(), credential.accessToken.reveal())
})

test('deleted while a refresh is under way: the late answer is revoked as well, and the receipt does not claim certainty', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  room.simulator.control.delay({ endpoint: 'token', ms: 400, when: 'after' })
  const call = room.process().fresh(room.holder, old)
  call.catch(() => {})
  await t.waitFor(() => assert.equal(room.presented(), 1))
  await room.deleteRow(old.id)
  await room.revocations.sweep()
  // The old token is spent or dead; whether it has a successor is not known yet, so the job waits.
  assert.deepEqual(await statusesOf(room, old), [['pending', false, false]])
  const wait = await waitOf(room, old)
  assert.ok(wait > 290 && wait <= 300, `${wait} s`)

  await assert.rejects(call, (error: Failure) => error.code === 'unknown_connection')
  assert.ok(room.simulator.control.state().grants.every(grant => grant.ended !== null))
  assert.deepEqual(room.simulator.control.state().sessions, [])
  const [late] = await statusesOf(room, old)
  assert.deepEqual(late, ['revoked', true, true])
  assert.equal((await room.row(old.id)).claim_id, null)

  await room.db.query(sql`
    update revocation set quiet_until = clock_timestamp(), next_try_at = clock_timestamp() where credential_id = ${old.id}`)
  await room.revocations.sweep()
  assert.deepEqual((await statusesOf(room, old)).at(-1), ['unverified', false, true])
  assert.deepEqual(await sealedLeft(room, old), { sealed: 0, facts: 0 })
})

test('an intent is refused once the row is gone: nothing is presented after the end', async t => {
  const room = await openRoom(t, { rotation: true })
  const old = await room.connect(lapsed)
  const { store } = room.deps
  // Deleted between the claim and the intent.
  const slow = room.process({
    store: {
      ...store,
      async claim(...args) {
        const claimed = await store.claim(...args)
        await room.deleteRow(old.id)
        return claimed
      },
    },
  })
  await assert.rejects(slow.fresh(room.holder, old), (error: Failure) => error.code === 'unknown_connection')
  assert.equal(room.presented(), 0)
})
