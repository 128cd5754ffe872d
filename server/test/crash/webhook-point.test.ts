/**
 * P10: kill -9 between the commit of a change and its delivery. The event was written by the same commit, so it is there and is delivered by
 * whoever comes next; a receiver that had already been asked may hear it twice, with one id.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { writeSettings } from '../../src/account/settings/store.ts'
import { addConnection } from '../../src/connection/store.ts'
import { defaultTiming } from '../../src/credential/timing.ts'
import { sql } from '../../src/db/sql.ts'
import { createDeliveries } from '../../src/webhook/deliver.ts'
import { encryptionKey, hours, openRoom, type Room } from '../credential/support/room.ts'
import { until } from '../db/until.ts'
import { testDatabase } from '../support/database.ts'
import { freePort, request } from '../support/fairlead.ts'
import { newEncryptionKey } from '../support/vault.ts'
import { answering, startReceiver } from '../webhook/support/receiver.ts'
import type { Instructions, Point } from './refresher.ts'

interface Case {
  event: string
  point: Point
  /** Before the process begins. */
  prepare: (room: Room, id: string) => Promise<unknown>
}

const cases: Case[] = [
  {
    event: 'connection.needs_reauth',
    point: 'refused',
    prepare: async ({ simulator }) =>
      simulator.control.fail({
        endpoint: 'token',
        status: 400,
        body: { error: 'invalid_grant', error_description: 'expired access/refresh token' },
      }),
  },
  {
    event: 'connection.recovered',
    point: 'installed',
    prepare: ({ db }, id) => db.query(sql`update credential set health = 'blocked_by_policy' where id = ${id}`),
  },
]

for (const { event, point, prepare } of cases)
  test(`P10 ${event}: committed, the process is dead, and the receiver hears of it once`, async t => {
    const room = await openRoom(t, { rotation: true })
    const { db, holder, environmentId, integrationId } = room
    const receiver = await startReceiver(t)
    const credential = await room.connect(hours(1))
    await addConnection(db, {
      environmentId,
      integrationId,
      credentialId: credential.id,
      connectionId: credential.id,
      endUser: null,
      organization: null,
      tags: {},
      webhookUrlOverride: null,
    })
    await prepare(room, credential.id)
    await writeSettings(db, environmentId, { webhook_url: receiver.url })

    const dataDir = mkdtempSync(join(tmpdir(), 'fairlead-p10-'))
    t.after(async () => rmSync(dataDir, { recursive: true, force: true }))
    const instructions: Instructions = {
      databaseUrl: room.databaseUrl,
      encryptionKey,
      dataDir,
      provider: holder.provider,
      clientId: holder.client.id,
      clientSecret: holder.client.secret!.reveal(),
      credentialId: credential.id,
      epoch: credential.epoch!,
      timing: defaultTiming,
      point,
      sentMs: 0,
      signal: 'SIGKILL',
    }
    const child = spawn(process.execPath, [join(import.meta.dirname, 'refresher.ts'), JSON.stringify(instructions)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [, signal] = await once(child, 'exit')
    assert.equal(signal, 'SIGKILL')
    assert.equal(receiver.taken.length, 0)

    const deliveries = createDeliveries({ ...room.deps, catalogue: { get: () => holder.provider, hooks: () => ({}) } })
    await deliveries.sweep()
    await room.process().replay()
    await deliveries.sweep()
    assert.deepEqual(
      receiver.taken.map(({ headers, body }) => [headers['fairlead-event'], body.includes(credential.id)]),
      [[event, true]],
    )
    await writeSettings(db, environmentId, { webhook_url: null })
  })

test('P10 while the receiver is being told: the server that starts next tells it again, with the same id', async t => {
  const database = await testDatabase()
  const receiver = await startReceiver(t)
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-p10-'))
  const port = await freePort()
  const key = 'k'.repeat(40)
  const env = {
    PATH: process.env.PATH,
    PORT: String(port),
    FAIRLEAD_DATA_DIR: dataDir,
    DATABASE_URL: database.url,
    FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey(),
    FAIRLEAD_SECRET_KEY_DEV: key,
    FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
    LOG_LEVEL: 'warn',
  }
  let server: ChildProcess | undefined
  const start = async () => {
    server = spawn(process.execPath, [join(import.meta.dirname, '../../src/main.ts')], { stdio: 'ignore', env })
    await until(async () => (await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined))?.status === 200)
  }
  const kill = async () => {
    const ended = once(server!, 'exit')
    server!.kill('SIGKILL')
    await ended
  }
  t.after(async () => {
    if (server?.exitCode === null && server.signalCode === null) await kill()
    await rm(dataDir, { recursive: true, force: true })
  })
  const call = (method: string, path: string, body?: object) =>
    request(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })

  await start()
  assert.equal((await call('PATCH', '/environment/settings', { webhook_url: receiver.url })).status, 200)
  // It takes the first ones and answers none.
  receiver.answer = () => {}
  for (let n = 0; n < 3; n++) assert.equal((await call('POST', '/webhooks/test')).status, 202)
  await until(() => receiver.taken.length > 0)
  await kill()
  const heard = receiver.taken.map(({ headers }) => headers['webhook-id'])

  receiver.answer = answering(200)
  await start()
  // The dead server's turn runs out by itself after a minute.
  await database.db.query(sql`update webhook_turn set until = clock_timestamp()`)
  await until(async () => (await call('GET', '/webhooks/deliveries?state=delivered')).json.deliveries.length === 3)
  const after = receiver.taken.slice(heard.length).map(({ headers }) => headers['webhook-id'])
  assert.deepEqual([after.length, new Set(after).size], [3, 3], 'all of them, each once more at most')
  assert.ok(heard.every(id => after.includes(id)))
})
