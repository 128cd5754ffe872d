/** The drill: a server with connections, a backup of it while it serves, and the same server elsewhere; then everything that must be refused. */
// First, so that its hook runs before the database's.
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Ran, run } from '../../../cli/test/support.ts'
import { checkBackup } from '../../src/backup/backup.ts'
import type { Keys } from '../../src/backup/envelope.ts'
import { readEpoch } from '../../src/credential/store.ts'
import { everything, openReader } from '../../src/db/copy.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { Secret } from '../../src/lib/secret.ts'
import { scope } from '../connect/support/scope.ts'
import { openSite, type Site } from '../connection/support/site.ts'
import { sandbox, simulatorOverlay } from '../credential/support/room.ts'
import { testDatabase } from '../support/database.ts'
import { startFairlead } from '../support/fairlead.ts'
import { newEncryptionKey, noKms } from '../support/vault.ts'

const folderFor = async (t: TestContext): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-backup-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

async function digests(url: string) {
  const reader = await openReader({ url })
  try {
    const found: Record<string, { rows: number; hash: string }> = {}
    for (const table of await reader.tables()) found[table.name] = await reader.digest(table, everything)
    return found
  } finally {
    await reader.close()
  }
}

async function isUntouched(url: string): Promise<void> {
  const { db, close } = await openDb({ url })
  const tables = await db.query(sql`select relname from pg_class where relnamespace = 'public'::regnamespace`)
  await close()
  assert.deepEqual(tables, [])
}

const refused = (ran: Ran, code: string): void => {
  assert.equal(ran.code, 1, ran.err)
  assert.match(ran.err, new RegExp(`\\(${code}\\)`))
  assert.equal(ran.out, '')
  assert.doesNotMatch(ran.err, /^\s+at /m, 'no stack')
}

/** One for the file: what is taken from it, and how, is what differs. */
const site = await seeded(scope)
const { DATABASE_URL, FAIRLEAD_ENCRYPTION_KEY } = site.env
const env = { DATABASE_URL, FAIRLEAD_ENCRYPTION_KEY }

/** A site with one person connected, rows enough for several chunks, and values that COPY has to escape. */
async function seeded(t: { after(work: () => Promise<void>): void }): Promise<Site & { id: string; person: string }> {
  const site = await openSite(t)
  const person = `person-${randomBytes(8).toString('hex')}`
  const id = await site.connect(person)
  await site.db.query(sql`
    update connection set metadata = ${JSON.stringify({ odd: '\t\\N\n\\.\u2028"', nothing: null })}::jsonb`)
  await site.db.query(sql`
    insert into webhook_event (environment_id, name, about)
    select (select min(id) from environment), 'webhook.test', jsonb_build_object('n', n, 'text', repeat('x', 900)) from generate_series(1, 400) n`)
  return { ...site, id, person }
}

test('a backup of a serving server, restored elsewhere: every row, every secret, and calls go on', async t => {
  const file = join(await folderFor(t), 'fairlead.backup')
  const read = await site.read(site.servers[0], site.id)
  const taken = await run(['backup', file, '--json'], env)
  assert.equal(taken.code, 0, taken.err)
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.equal(taken.json.bytes, (await stat(file)).size)
  assert.equal(taken.json.tables.connection, 1)
  assert.ok(taken.json.bytes > 3 * 64 * 1024)
  refused(await run(['backup', file], env), 'backup_file_unusable')
  assert.equal((await stat(file)).size, taken.json.bytes, 'a backup never takes the place of another')

  const { clientSecret } = site.simulator.app(sandbox)
  const raw = await readFile(file)
  const canaries = [
    clientSecret,
    read.json.credentials.access_token,
    site.person,
    site.id,
    site.env.FAIRLEAD_SECRET_KEY_DEV,
  ]
  for (const canary of canaries)
    for (const spelling of [canary, Buffer.from(canary).toString('hex'), Buffer.from(canary).toString('base64')])
      assert.ok(!raw.includes(spelling), `the file holds ${spelling}`)

  const before = await digests(DATABASE_URL)
  const elsewhere = await testDatabase(t, { empty: true })
  const there = { DATABASE_URL: elsewhere.url, FAIRLEAD_ENCRYPTION_KEY }
  const restored = await run(['restore', file, '--json'], there)
  assert.equal(restored.code, 0, restored.err)
  assert.deepEqual(restored.json.tables, taken.json.tables)
  assert.deepEqual(restored.json.secrets.unreadable, [])
  // The client secret, the tokens and the pepper, at least.
  assert.ok(restored.json.secrets.opened >= 3)
  const after = await digests(elsewhere.url)
  // What the servers write all the time, and what a restore itself changes.
  for (const name of Object.keys(before).filter(
    name => !/^(history|activity|api_key|webhook_turn|connection$|credential$|request_count)/.test(name),
  ))
    assert.deepEqual(after[name], before[name], name)
  assert.equal(after.webhook_event!.rows, before.webhook_event!.rows, 'a restored connection is nobody’s news')

  // The source may give its grants their turns meanwhile; what is sealed stands as it was.
  const held = sql`select id, token_version, token_fp, sealed from credential order by id`
  assert.deepEqual(await elsewhere.db.query(held), await site.db.query(held))

  assert.notEqual(await readEpoch(elsewhere.db), await readEpoch(site.db))
  const [credential] = await elsewhere.db.query<{ db_epoch: string }>(sql`select db_epoch from credential`)
  assert.notEqual(credential!.db_epoch, await readEpoch(elsewhere.db), 'its token is doubtful in the new history')
  refused(await run(['restore', file], there), 'target_not_empty')
  assert.deepEqual(await digests(elsewhere.url), after)

  const server = await startFairlead(t, {
    env: { ...site.env, DATABASE_URL: elsewhere.url },
    providers: simulatorOverlay(site.simulator),
  })
  const key = site.env.FAIRLEAD_SECRET_KEY_DEV
  const call = await server.call('GET', '/proxy/services/data/v66.0/limits', undefined, {
    Authorization: `Bearer ${key}`,
    'Provider-Config-Key': 'sf',
    'Connection-Id': site.id,
  })
  assert.equal(call.status, 200, call.text)
  const listed = await server.call('GET', '/connections', undefined, { Authorization: `Bearer ${key}` })
  assert.deepEqual(listed.json.connections[0].metadata, { odd: '\t\\N\n\\.\u2028"', nothing: null })
  // Numbers go on where they were.
  const made = await server.call(
    'POST',
    '/connect/sessions',
    { end_user: { id: 'grace' } },
    { Authorization: `Bearer ${key}` },
  )
  assert.equal(made.status, 201, made.text)
})

test('whatever was altered is refused, and nothing is written', async t => {
  const folder = await folderFor(t)
  const file = join(folder, 'fairlead.backup')
  const taken = await run(['backup', file], env)
  assert.equal(taken.code, 0, taken.err)
  const whole = await readFile(file)
  const keys: Keys = { configured: [new Secret(FAIRLEAD_ENCRYPTION_KEY)], kms: noKms }
  await checkBackup(file, keys)

  const header = whole.indexOf('\n', whole.indexOf('\n') + 1) + 1
  const chunk = 64 * 1024 + 16
  const flipped = (at: number) => {
    const copy = Buffer.from(whole)
    copy[at]! ^= 1
    return copy
  }
  const somewhere = Array.from({ length: 40 }, () => Math.floor(Math.random() * whole.length))
  const positions = [
    ...Array(header).keys(),
    header,
    header + chunk - 1,
    header + chunk,
    whole.length - 1,
    ...somewhere,
  ]
  const first = whole.subarray(header, header + chunk)
  const second = whole.subarray(header + chunk, header + 2 * chunk)
  const rest = whole.subarray(header + 2 * chunk)
  const altered: [what: string, bytes: Buffer][] = [
    ...positions.map((at): [string, Buffer] => [`byte ${at}`, flipped(at)]),
    ['two chunks in another order', Buffer.concat([whole.subarray(0, header), second, first, rest])],
    ['a chunk left out', Buffer.concat([whole.subarray(0, header), first, rest])],
    ['a chunk twice', Buffer.concat([whole.subarray(0, header), first, first, second, rest])],
    ['one byte more', Buffer.concat([whole, Buffer.from('x')])],
    ['one byte less', whole.subarray(0, -1)],
    ['cut between chunks', whole.subarray(0, header + chunk)],
    ['cut after the header', whole.subarray(0, header)],
    ['cut in the header', whole.subarray(0, 20)],
    ['nothing at all', Buffer.alloc(0)],
    ['something else', randomBytes(200_000)],
  ]
  const broken = join(folder, 'altered.backup')
  for (const [what, bytes] of altered) {
    await writeFile(broken, bytes)
    await assert.rejects(
      checkBackup(broken, keys),
      (error: { code?: string }) => /^backup_(altered|key_missing)$/.test(error.code ?? ''),
      what,
    )
  }

  const { url } = await testDatabase(t, { empty: true })
  const there = { DATABASE_URL: url, FAIRLEAD_ENCRYPTION_KEY }
  // The very last byte: everything before it is as it was.
  await writeFile(broken, flipped(whole.length - 1))
  refused(await run(['restore', broken], there), 'backup_altered')
  await isUntouched(url)
  refused(await run(['restore', file], { ...there, FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey() }), 'backup_key_missing')
  await isUntouched(url)
  refused(await run(['restore', join(folder, 'absent')], there), 'backup_file_unusable')
  await isUntouched(url)
  // Somebody else's database.
  const { db } = await openDb({ url })
  await db.query(sql`create table theirs (id int)`)
  refused(await run(['restore', file], there), 'target_not_empty')
  assert.deepEqual(await db.query(sql`select relname from pg_class where relnamespace = 'public'::regnamespace`), [
    { relname: 'theirs' },
  ])
})

test('an embedded database: backed up beside a stopped server, restored with the key file alone', async t => {
  const folder = await folderFor(t)
  const [from, to, file] = [join(folder, 'from'), join(folder, 'to'), join(folder, 'fairlead.backup')]
  const nothing = await run(['backup', file], { FAIRLEAD_DATA_DIR: from })
  assert.equal(nothing.code, 3)
  assert.match(nothing.err, /There is no database in .*from/)
  assert.ok(!existsSync(from) && !existsSync(file))

  assert.equal((await run(['backup', file], env)).code, 0)
  refused(await run(['restore', file], { FAIRLEAD_DATA_DIR: from }), 'backup_key_missing')
  const there = await run(['restore', file, '--json'], { FAIRLEAD_DATA_DIR: from, FAIRLEAD_ENCRYPTION_KEY })
  assert.equal(there.code, 0, there.err)

  await writeFile(join(from, 'encryption.key'), `${FAIRLEAD_ENCRYPTION_KEY}\n`)
  const again = join(folder, 'again.backup')
  const taken = await run(['backup', again, '--json'], { FAIRLEAD_DATA_DIR: from })
  assert.equal(taken.code, 0, taken.err)
  assert.deepEqual(taken.json.tables, there.json.tables)
  const keys: Keys = { configured: [new Secret(FAIRLEAD_ENCRYPTION_KEY)], kms: noKms }
  assert.equal((await checkBackup(again, keys)).counted.rows, taken.json.rows)

  await mkdir(to)
  await writeFile(join(to, 'encryption.key'), `${FAIRLEAD_ENCRYPTION_KEY}\n`)
  const restored = await run(['restore', again, '--json'], { FAIRLEAD_DATA_DIR: to })
  assert.equal(restored.code, 0, restored.err)
  assert.deepEqual(restored.json.secrets, there.json.secrets)
})
