/**
 * What the database writes down by itself: every change of a connection's state is one event, in the transaction of the change, and
 * nothing else is an event. The engine and the statements are the real ones.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Settings, type WebhookSwitch, webhookEvents, webhookSwitches } from '@fairlead/contract'
import { writeSettings } from '../../src/account/settings/store.ts'
import { addEnvironment } from '../../src/account/store.ts'
import { addConnection, findConnection, removeConnection } from '../../src/connection/store.ts'
import { type Attempt, addCredential, blockUntold, type Credential, setPaused } from '../../src/credential/store.ts'
import { sql } from '../../src/db/sql.ts'
import { findIntegrationById } from '../../src/integration/store.ts'
import { newId } from '../../src/lib/id.ts'
import { grantOf, openRoom, type Room } from '../credential/support/room.ts'

type Test = Parameters<typeof openRoom>[0]

interface Told {
  sequence: number
  name: string
  connection_id: string
  cause: string | null
  health: string
  receivers: string[]
}

interface Listener {
  room: Room
  credential: Credential
  connectionId: string
  /** Another connection on the same grant. */
  connect(webhookUrlOverride?: string | null): Promise<string>
  /** What was written since the last call, as `name cause`. */
  told(): Promise<string[]>
  rows(): Promise<Told[]>
}

async function listening(t: Test, settings: Partial<Settings> = {}): Promise<Listener> {
  const room = await openRoom(t, { rotation: true })
  const { db, environmentId, integrationId } = room
  await writeSettings(db, environmentId, {
    webhook_url: 'https://hooks.example.com/',
    webhook_url_secondary: null,
    on_auth_creation: true,
    on_auth_refresh_error: true,
    on_connection_health: true,
    on_connection_lifecycle: true,
    ...settings,
  })
  const credential = await room.connect()
  let seen = 0
  const listener: Listener = {
    room,
    credential,
    connectionId: '',
    async connect(webhookUrlOverride = null) {
      const connectionId = newId()
      const nobody = { endUser: { id: 'ada' }, organization: null, tags: { plan: 'gold' } }
      await addConnection(db, {
        environmentId,
        integrationId,
        credentialId: credential.id,
        connectionId,
        webhookUrlOverride,
        ...nobody,
      })
      return connectionId
    },
    async rows() {
      const rows = await db.query<Told>(sql`
        select v.sequence, v.name, v.connection_id, v.about ->> 'cause' as cause, v.about ->> 'health' as health,
          array(select receiver from webhook_delivery d where d.event = v.sequence order by receiver) as receivers
        from webhook_event v join integration i on i.unique_key = v.provider_config_key
        where i.id = ${integrationId} and sequence > ${seen} order by sequence`)
      seen = Number(rows.at(-1)?.sequence ?? seen)
      return rows
    },
    told: async () => (await listener.rows()).map(row => (row.cause === null ? row.name : `${row.name} ${row.cause}`)),
  }
  listener.connectionId = await listener.connect()
  return listener
}

async function claimed({ room, credential }: Listener): Promise<Attempt> {
  const claim = newId()
  const now = await room.letTry(credential.id)
  const taken = await room.deps.store.claim(now, claim, { forced: true, rotates: false, ripe: [] })
  assert.ok(taken)
  return { credential: taken, claim }
}

test('every way a state changes is one event; what changes nothing is none', async t => {
  const listener = await listening(t)
  const { room, credential, told } = listener
  const { store } = room.deps
  assert.deepEqual(await told(), ['connection.created'])

  await room.credentials.forced(room.holder, await room.load(credential.id))
  assert.deepEqual(await told(), [], 'a renewal that succeeds is nobody’s news')
  await store.withdraw(await claimed(listener), 'active', 'provider_busy', 0)
  assert.deepEqual(await told(), [], 'nor is a provider that was busy')

  await store.leaveInDoubt(await claimed(listener), 'refresh_unanswered', 0)
  assert.deepEqual(await told(), ['connection.degraded refresh_unanswered'])
  await store.leaveInDoubt(await claimed(listener), 'refresh_unanswered', 0)
  assert.deepEqual(await told(), [], 'the same once more')
  await store.leaveInDoubt(await claimed(listener), 'in_doubt', 0)
  assert.deepEqual(await told(), ['connection.degraded in_doubt'])
  await room.credentials.forced(room.holder, await room.letTry(credential.id))
  assert.deepEqual(await told(), ['connection.recovered'])

  await store.withdraw(await claimed(listener), 'blocked_by_policy', 'policy', 0)
  assert.deepEqual(await told(), ['connection.blocked_by_policy policy'])

  await setPaused(room.db, [credential.id], true)
  await setPaused(room.db, [credential.id], true)
  assert.deepEqual(await told(), ['connection.paused policy'])
  await setPaused(room.db, [credential.id], false)
  assert.deepEqual(await told(), ['connection.resumed policy'])
  // A kill blocks first, and tells of the deletion alone; the silence ends with its transaction.
  await blockUntold(room.db, [credential.id])
  assert.deepEqual(await told(), [])
  await setPaused(room.db, [credential.id], false)
  assert.deepEqual(await told(), ['connection.resumed policy'])

  await store.markSpent(await claimed(listener))
  assert.deepEqual(await told(), ['connection.degraded refresh_response_lost'])
  await store.exhaust(await room.load(credential.id), true)
  await store.exhaust(await room.load(credential.id), true)
  assert.deepEqual(await told(), ['connection.needs_reauth answer_lost'])
})

test('a verdict is one event, and signing in again on the same grant another', async t => {
  const listener = await listening(t)
  const { room, credential, told } = listener
  await told()
  const attempt = await claimed(listener)
  await room.deps.store.refuse(attempt, 'invalid_grant', true)
  await room.deps.store.refuse(attempt, 'invalid_grant', true)
  assert.deepEqual(await told(), ['connection.needs_reauth invalid_grant'])

  const { environmentId, integrationId } = room
  const held = await room.load(credential.id)
  const { id: joined } = await addCredential(room.deps, {
    environmentId,
    integrationId,
    ...grantOf(room),
    tokens: { ...grantOf(room).tokens, refreshToken: held.refreshToken },
    scopesRequested: [],
    scopesGranted: [],
    epoch: 'test',
  })
  assert.equal(joined, credential.id)
  assert.deepEqual(await told(), ['connection.reauthorised'], 'and not a recovery beside it')

  // A connection that is moved to a grant of its own was signed in again as well.
  const other = await room.connect()
  await room.db.query(
    sql`update connection set credential_id = ${other.id} where connection_id = ${listener.connectionId}`,
  )
  assert.deepEqual(await told(), ['connection.reauthorised'])
})

test('every connection of the grant is told of, each to its own receivers', async t => {
  const listener = await listening(t, { webhook_url_secondary: 'https://second.example.com/' })
  const { room, credential, rows } = listener
  const own = await listener.connect('https://own.example.com/hook')
  await rows()
  await setPaused(room.db, [credential.id], true)
  const told = await rows()
  assert.deepEqual(
    told.map(row => [row.connection_id, row.receivers]).sort(),
    [
      [listener.connectionId, ['primary', 'secondary']],
      [own, ['https://own.example.com/hook']],
    ].sort(),
  )

  const connection = await findConnection(room.db, room.integrationId, own)
  const integration = await findIntegrationById(room.deps, room.integrationId)
  await removeConnection(room.deps, integration!, connection!, async () => {})
  const [gone] = await rows()
  assert.deepEqual(
    [gone?.name, gone?.connection_id, gone?.receivers],
    ['connection.deleted', own, ['https://own.example.com/hook']],
  )
})

test('what is undone was never told', async t => {
  const listener = await listening(t)
  const { room, credential, told } = listener
  await told()
  await assert.rejects(
    room.db.transaction(async tx => {
      await setPaused(tx, [credential.id], true)
      throw new Error('undone')
    }),
  )
  assert.deepEqual(await told(), [])
})

for (const switched of Object.keys(webhookSwitches) as WebhookSwitch[])
  test(`${switched} switches off its family and nothing else`, async t => {
    const listener = await listening(t, { [switched]: false })
    const { room, credential, told } = listener
    const { store } = room.deps
    await store.leaveInDoubt(await claimed(listener), 'in_doubt', 0)
    await room.credentials.forced(room.holder, await room.letTry(credential.id))
    await store.withdraw(await claimed(listener), 'blocked_by_policy', 'policy', 0)
    await setPaused(room.db, [credential.id], true)
    await setPaused(room.db, [credential.id], false)
    await store.refuse(await claimed(listener), 'invalid_grant', true)
    await room.db.query(sql`update credential set grant_number = grant_number + 1 where id = ${credential.id}`)
    await room.db.query(sql`delete from connection where credential_id = ${credential.id}`)
    const expected = Object.entries(webhookEvents)
      .filter(([name, { family }]) => name.startsWith('connection.') && family !== switched)
      .map(([name]) => name)
    assert.deepEqual((await told()).map(one => one.split(' ')[0]).sort(), expected.sort())
  })

test('nothing is written where nobody listens', async t => {
  const listener = await listening(t, { webhook_url: null })
  const { room, credential, told } = listener
  await setPaused(room.db, [credential.id], true)
  assert.deepEqual(await told(), [])
  await listener.connect('https://own.example.com/hook')
  assert.deepEqual(await told(), ['connection.created'], 'but a connection may have a receiver alone')
  // Longer than the contract lets in: it must not keep a connection from being stored.
  await listener.connect(`https://own.example.com/${'x'.repeat(4000)}`)
  assert.deepEqual(await told(), [])
})

test('an environment and an integration can be deleted with everything in them', async t => {
  const listener = await listening(t)
  const { room } = listener
  await addEnvironment(room.db, 'passing')
  await room.db.query(sql`update environment set webhook_url = 'https://hooks.example.com/' where name = 'passing'`)
  await room.db.query(sql`
    with made as (
      insert into integration (environment_id, unique_key, provider)
      select id, 'passing', 'acme' from environment where name = 'passing' returning id, environment_id),
    grant_ as (
      insert into credential (id, environment_id, integration_id, kind)
      select gen_random_uuid(), environment_id, id, 'oauth2-code' from made returning id, environment_id, integration_id)
    insert into connection (environment_id, integration_id, credential_id, connection_id)
    select environment_id, integration_id, id, 'passing' from grant_`)
  const left = () =>
    room.db.query(sql`
      select from webhook_event v join environment e on e.id = v.environment_id where e.name = 'passing'`)
  assert.equal((await left()).length, 1)
  await room.db.query(sql`delete from environment where name = 'passing'`)
  assert.equal((await left()).length, 0)
  await room.db.query(sql`delete from integration where id = ${room.integrationId}`)
})
