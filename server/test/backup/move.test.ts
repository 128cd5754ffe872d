/** `db move`, by the program as people run it: of a source that serves, killed in the middle, run again, finished; and what it refuses. */
// First, so that its hook runs before the database's.
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { bin, run } from '../../../cli/test/support.ts'
import { everything, openReader } from '../../src/db/copy.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import type { Db } from '../../src/seams.ts'
import { scope } from '../connect/support/scope.ts'
import { openSite } from '../connection/support/site.ts'
import { simulatorOverlay } from '../credential/support/room.ts'
import { until } from '../db/until.ts'
import { testDatabase } from '../support/database.ts'
import { startFairlead } from '../support/fairlead.ts'

const people = 12_000

/** Beside the one that signed in: a credential each, without tokens. What each secret is worth is the drill's to show. */
async function crowd(db: Db): Promise<void> {
  await db.query(sql`
    with added as (
      insert into credential (id, environment_id, integration_id, kind, expires_at)
      select gen_random_uuid(), environment_id, integration_id, kind, expires_at from credential, generate_series(1, ${people}) returning *)
    insert into connection (environment_id, integration_id, credential_id, connection_id, metadata)
    select environment_id, integration_id, id, 'crowd-' || id, jsonb_build_object('note', repeat('n', 200)) from added`)
}

async function digests(url: string): Promise<Record<string, string>> {
  const reader = await openReader({ url })
  const found: Record<string, string> = {}
  for (const table of await reader.tables()) found[table.name] = (await reader.digest(table, everything)).hash
  await reader.close()
  return found
}

const site = await openSite(scope)
const id = await site.connect('ada')
await crowd(site.db)
const [server] = site.servers
const { DATABASE_URL, FAIRLEAD_ENCRYPTION_KEY } = site.env
const env = { DATABASE_URL, FAIRLEAD_ENCRYPTION_KEY }
const target = await testDatabase(scope, { empty: true })
const count = async (db: Db) =>
  (await db.query<{ rows: number }>(sql`select count(*)::int as rows from connection`))[0]!.rows

test('killed in the middle, it goes on; reads of the source go on all the while', async () => {
  let failed = 0
  let reads = 0
  let reading = true
  const reader = (async () => {
    for (; reading; reads++) if ((await site.proxied(server, id)).status !== 200) failed++
  })()
  const child = spawn(process.execPath, [bin, 'db', 'move', '--to', target.url], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: 'ignore',
    detached: true,
  })
  const has = (table: string) =>
    target.db
      .query<{ rows: number }>({ text: `select count(*)::int as rows from ${table}`, values: [] })
      .then(([row]) => row!.rows)
      .catch(() => 0)
  await until(async () => (await has('credential')) >= 5_000, 60_000)
  // The program and the one it started.
  process.kill(-child.pid!, 'SIGKILL')
  await once(child, 'exit')
  const left = await has('credential')
  assert.ok(left >= 5_000)
  await assert.rejects(migrate({ url: target.url }), /has not been finished/, 'no server starts on it')

  const first = await run(['db', 'move', '--to', target.url, '--json'], env)
  assert.equal(first.code, 0, first.err)
  assert.match(first.err, /^100 %/m)
  assert.deepEqual([first.json.finished, first.json.servers], [false, 2])
  assert.equal(first.json.tables.connection, people + 1)
  assert.equal(await count(target.db), people + 1)
  await assert.rejects(migrate({ url: target.url }), /has not been finished/)
  reading = false
  await reader
  assert.ok(reads > 0)
  assert.equal(failed, 0, `of ${reads} calls`)
})

test('run again with the servers stopped, it brings what changed and is finished', async t => {
  // Written after the first copy: a new one, a changed one, one that is gone.
  const late = await site.connect('grace')
  await site.db.query(sql`update connection set metadata = '{"changed": true}' where connection_id = ${id}`)
  await site.db.query(sql`
    delete from connection where id = (select min(id) from connection where connection_id like 'crowd-%')`)
  for (const one of site.servers) await one.app.stop()
  const before = await digests(DATABASE_URL)
  const told = await site.db.query(sql`select id from webhook_event`)

  const last = await run(['db', 'move', '--to', '-', '--json'], env, `${target.url}\n`)
  assert.equal(last.code, 0, last.err)
  assert.deepEqual([last.json.finished, last.json.servers], [true, 0])
  assert.ok(last.json.secrets >= 4)
  assert.deepEqual(await digests(DATABASE_URL), before, 'the source is as it was')
  assert.deepEqual(await digests(target.url), before)
  assert.deepEqual(await target.db.query(sql`select id from webhook_event`), told, 'nothing is told of a move')

  // Finished is finished: it is a database in use from here on.
  const again = await run(['db', 'move', '--to', target.url], env)
  assert.equal(again.code, 1)
  assert.match(again.err, /\(target_not_empty\)/)

  const moved = await startFairlead(t, {
    env: { ...site.env, DATABASE_URL: target.url },
    providers: simulatorOverlay(site.simulator),
  })
  for (const connection of [id, late]) {
    const call = await moved.call('GET', '/proxy/services/data/v66.0/limits', undefined, {
      Authorization: `Bearer ${site.env.FAIRLEAD_SECRET_KEY_DEV}`,
      'Provider-Config-Key': 'sf',
      'Connection-Id': connection,
    })
    assert.equal(call.status, 200, call.text)
  }
})

test('from an embedded database, and without the key it is not called finished', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-move-'))
  t.after(() => rm(folder, { recursive: true }))
  const file = join(folder, 'fairlead.backup')
  assert.equal((await run(['backup', file], env)).code, 0)
  const embedded = { FAIRLEAD_DATA_DIR: join(folder, 'data'), FAIRLEAD_ENCRYPTION_KEY }
  assert.equal((await run(['restore', file], embedded)).code, 0)

  const { url } = await testDatabase(t, { empty: true })
  const other = {
    ...embedded,
    FAIRLEAD_ENCRYPTION_KEY: Buffer.from('another key of thirty-two bytes!').toString('base64'),
  }
  const refused = await run(['db', 'move', '--to', url], other)
  assert.equal(refused.code, 1)
  assert.match(refused.err, /sealed with another encryption key/)
  await assert.rejects(migrate({ url }), /has not been finished/)

  const done = await run(['db', 'move', '--to', url, '--json'], embedded)
  assert.equal(done.code, 0, done.err)
  assert.deepEqual([done.json.finished, done.json.copied], [true, 0], 'all of it was there already')
  const { db, close } = await openDb({ url })
  assert.equal(await count(db), done.json.tables.connection)
  await close()
})
