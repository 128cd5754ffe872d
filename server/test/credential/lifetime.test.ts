import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FailInput } from '@fairlead/salesforce-simulator'
import { readLifetime } from '../../src/credential/introspect.ts'
import { hours, lapsed, openRoom, type Room } from './support/room.ts'

const asked = (room: Room) => room.simulator.control.counters().requests.introspect ?? 0

test('the provider is asked once per token when it ends, whoever asks and however often', async t => {
  const room = await openRoom(t)
  const first = await room.connect(null)
  assert.equal(first.aliveUntil, undefined)
  const storer = room.process()
  storer.learn(room.holder, first)
  await storer.drain()
  assert.equal(asked(room), 1)
  const learned = await room.load(first.id)
  const left = (learned.aliveUntil ?? 0) - performance.now()
  assert.ok(left > hours(2) - 60_000 && left <= hours(2), String(left))
  assert.equal(learned.tokenVersion, 1)

  // A renewed token is another token: asked once more, by one of the processes that see it.
  const old = await room.age(first.id, lapsed)
  const processes = [room.credentials, room.process(), room.process()]
  const seen = await Promise.all(processes.map(credentials => credentials.fresh(room.holder, old)))
  assert.deepEqual(
    seen.map(({ tokenVersion }) => tokenVersion),
    [2, 2, 2],
  )
  await Promise.all(processes.map(credentials => credentials.drain()))
  assert.equal(asked(room), 2)
  assert.ok((await room.load(first.id)).expiresAt)
})

const useless: [string, (room: Room) => unknown][] = [
  ...(
    [
      ['answers 500', { status: 500, body: { error: 'server_error' } }],
      ['refuses the client', { status: 401, body: { error: 'invalid_client' } }],
      ['answers a page', { status: 200, body: '<h1>Maintenance</h1>' }],
      ['says "inactive" of a token just issued', { status: 200, body: { active: false } }],
      ['names an end in the past', { status: 200, body: { active: true, exp: 1 } }],
      ['names no end', { status: 200, body: { active: true } }],
      ['redirects elsewhere', { status: 302, headers: { location: 'http://127.0.0.1:1/' } }],
    ] as [string, Pick<FailInput, 'status' | 'body' | 'headers'>][]
  ).map(([what, reply]): [string, (room: Room) => unknown] => [
    what,
    ({ simulator }) => simulator.control.fail({ endpoint: 'introspect', ...reply, times: 9 }),
  ]),
  ['is cut off', ({ simulator }) => simulator.control.drop({ endpoint: 'introspect', times: 9 })],
  ['is away', ({ simulator }) => simulator.close()],
]
for (const [what, breakIt] of useless)
  test(`introspection that ${what} is not an end: the token goes on serving and nothing is refreshed`, async t => {
    const room = await openRoom(t)
    const credential = await room.connect(null)
    await breakIt(room)
    room.credentials.learn(room.holder, credential)
    await room.credentials.drain()
    assert.equal(await room.credentials.fresh(room.holder, credential), credential)
    assert.ok(asked(room) <= 1)
    assert.equal(room.presented(), 0)
    const { health, expiresAt, cause } = await room.load(credential.id)
    assert.deepEqual([health, expiresAt, cause], ['active', null, null])
  })

test('a provider without introspection is not asked, and its token serves', async t => {
  const room = await openRoom(t)
  delete room.holder.provider.introspection_url
  const credential = await room.connect(null)
  room.credentials.learn(room.holder, credential)
  await room.credentials.drain()
  assert.equal(await room.credentials.fresh(room.holder, credential), credential)
  assert.equal(asked(room), 0)
  assert.equal(room.presented(), 0)
})

test('the answer about an old token says nothing of the new one', async t => {
  const room = await openRoom(t)
  const old = await room.connect(null)
  room.simulator.control.delay({ endpoint: 'introspect', ms: 400 })
  room.simulator.control.fail({ endpoint: 'introspect', status: 500 })
  room.credentials.learn(room.holder, old)
  delete room.holder.provider.introspection_url
  await room.credentials.forced(room.holder, old)
  await room.credentials.drain()
  assert.deepEqual(await room.load(old.id).then(now => [now.tokenVersion, now.expiresAt]), [2, null])
})

test('reading an introspection answer', () => {
  const at = Date.UTC(2030, 0)
  const rows: [number, string, number | undefined][] = [
    [200, `{"active":true,"exp":${at / 1000 + 60}}`, 60_000],
    [200, `{"active":true,"exp":"${at / 1000 + 60}"}`, 60_000],
    [200, `{"active":"true","exp":${at / 1000 + 60}}`, undefined],
    [200, `{"active":false,"exp":${at / 1000 + 60}}`, undefined],
    [200, `{"active":true,"exp":${at / 1000}}`, undefined],
    [200, '{"active":true,"exp":null}', undefined],
    [200, '{"active":true,"exp":{}}', undefined],
    [201, `{"active":true,"exp":${at / 1000 + 60}}`, undefined],
    [200, 'null', undefined],
    [200, '', undefined],
  ]
  for (const [status, body, left] of rows) assert.equal(readLifetime(status, Buffer.from(body), at), left, body)
})
