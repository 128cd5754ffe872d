/** The doctor of the system: a healthy one, what it says of each thing that is wrong, and that looking changes nothing. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Finding } from '@fairlead/contract'
import { run } from '../../../cli/test/support.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import {
  examineClock,
  examineSystem,
  examineUrl,
  judgeDatabase,
  judgeMigrations,
  judgeSpace,
} from '../../src/doctor/system.ts'
import { testDatabase } from '../support/database.ts'
import { startFairlead } from '../support/fairlead.ts'
import { newEncryptionKey } from '../support/vault.ts'

const codes = (findings: Finding[], ...severities: string[]): string[] =>
  findings.filter(({ severity }) => severities.includes(severity)).map(({ code }) => code)

const facts = {
  version: '18.1',
  version_number: 180_001,
  now: 0,
  may_create: true,
  may_read_timeline: true,
  read_only: false,
  has_migrations: true,
  move_under_way: false,
}

test('what it says of each thing', () => {
  const url = (url: string, host = '127.0.0.1', trustedProxies: string[] = []) =>
    codes(examineUrl({ url, host, trustedProxies }), 'error', 'warning', 'info')
  assert.deepEqual(url('https://connect.acme.com', '127.0.0.1', ['10.0.0.0/8']), [])
  assert.deepEqual(url('https://connect.acme.com'), ['proxy_not_trusted'])
  assert.deepEqual(url('http://connect.acme.com'), ['url_not_https'])
  assert.deepEqual(url('http://connect.acme.com', '0.0.0.0'), ['url_not_https', 'listens_in_the_open'])
  assert.deepEqual(url('http://localhost:3003'), ['url_local'])
  for (const [apart, severity] of [
    [0, 'ok'],
    [-4_000, 'ok'],
    [6_000, 'warning'],
    [-61_000, 'error'],
  ] as const)
    assert.equal(examineClock('clock_database', 'the database', apart).severity, severity)
  for (const [change, code] of [
    [{ version_number: 140_009 }, 'database_too_old'],
    [{ read_only: true }, 'database_read_only'],
    [{ may_create: false }, 'database_permissions'],
    [{ may_read_timeline: false }, 'database_timeline'],
    [{ move_under_way: true }, 'move_unfinished'],
  ] as const)
    assert.deepEqual(codes(judgeDatabase({ ...facts, ...change }), 'error'), [code])
  assert.deepEqual(codes(judgeDatabase(facts), 'error', 'warning', 'info'), [])
  assert.deepEqual(codes(judgeMigrations(['1', '2'], ['1']), 'warning'), ['migrations_pending'])
  assert.deepEqual(codes(judgeMigrations(['1'], ['1', '2']), 'info'), ['migrations_newer'])
  assert.deepEqual([judgeSpace('/data', 5_000).severity, judgeSpace('/data', 50).severity], ['ok', 'error'])
})

test('a serving installation, by the program: nothing is wrong; with another key it says so, and changes nothing', async t => {
  const key = newEncryptionKey()
  const server = await startFairlead(t, { env: { FAIRLEAD_ENCRYPTION_KEY: key } })
  const env = { DATABASE_URL: server.databaseUrl, FAIRLEAD_URL: server.url, FAIRLEAD_ENCRYPTION_KEY: key }
  const { db, close } = await openDb({ url: server.databaseUrl })
  t.after(close)
  const before = await db.query(sql`select * from data_key order by id`)

  const well = await run(['doctor', 'system', '--json'], env)
  assert.equal(well.code, 0, well.out + well.err)
  assert.deepEqual(codes(well.json, 'error'), [])
  for (const code of [
    'database_listen',
    'encryption_key',
    'migrations_done',
    'clock_database',
    'clock_public',
    'public_url_answers',
  ])
    assert.ok(codes(well.json, 'ok').includes(code), `${code}: ${well.out}`)

  const other = { ...env, FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey() }
  const wrong = await run(['doctor', 'system'], other)
  assert.equal(wrong.code, 1)
  assert.match(wrong.out, /^error {2}The encryption key does not open this database \(encryption_key_wrong\)/)
  assert.ok(!wrong.out.includes(key) && !wrong.out.includes(other.FAIRLEAD_ENCRYPTION_KEY))
  assert.deepEqual(await db.query(sql`select * from data_key order by id`), before)

  const away = await run(['doctor', 'system', '--json'], { ...env, DATABASE_URL: 'postgres://x:hunter2@127.0.0.1:1/x' })
  assert.equal(away.code, 1)
  assert.deepEqual(codes(away.json, 'error'), ['database_unreachable'])
  assert.ok(!away.out.includes('hunter2') && !away.err.includes('hunter2'))
})

test('a deaf connection, a foreign server and a proxy that forbids frames', async t => {
  const database = await testDatabase(t)
  const foreign = createServer((req, res) => {
    res.setHeader('X-Frame-Options', 'DENY').end(req.url === '/health' && healthy ? '{"result":"ok"}' : 'hello')
  }).listen(0, '127.0.0.1')
  t.after(() => new Promise<void>(resolve => foreign.close(() => resolve())))
  let healthy = false
  await new Promise(resolve => foreign.once('listening', resolve))
  const url = `http://127.0.0.1:${(foreign.address() as AddressInfo).port}`
  const examine = () =>
    examineSystem({
      config: {
        url,
        host: '127.0.0.1',
        dataDir: '/nowhere',
        databaseUrl: undefined,
        databaseDirectUrl: undefined,
        trustedProxies: [],
      },
      egress: {
        async request({ url }) {
          const answer = await fetch(url)
          return {
            status: answer.status,
            headers: Object.fromEntries(answer.headers),
            body: Buffer.from(await answer.arrayBuffer()),
          }
        },
      },
      // What a pooler in transaction mode does with LISTEN: nothing.
      database: { ...database, listen: async () => async () => {} },
      unreachable: '',
      openKeys: async () => ({ keys: 0 }),
      now: Date.now,
    })
  assert.deepEqual(codes(await examine(), 'error').toSorted(), ['database_deaf', 'public_url_foreign'])
  healthy = true
  const findings = await examine()
  assert.deepEqual(codes(findings, 'warning').toSorted(), ['data_folder_missing', 'framing_blocked'])
  const ranks = findings.map(({ severity }) => ['error', 'warning', 'info', 'ok'].indexOf(severity))
  assert.deepEqual(ranks, ranks.toSorted(), 'worst first')
})

test('the page explains every code there is, and no other', async () => {
  const root = join(import.meta.dirname, '../../..')
  const source = await readFile(join(root, 'server/src/doctor/system.ts'), 'utf8')
  const page = await readFile(join(root, 'docs/doctor.md'), 'utf8')
  const said = [...source.matchAll(/found\(\s*(?:'|[a-z<]).*?'([a-z]+(?:_[a-z]+)+)'/gs)].map(([, code]) => code!)
  const clocks = ['clock_database', 'clock_public']
  const told = [...page.matchAll(/^\| `([a-z_]+)` \|/gm)].map(([, code]) => code!)
  assert.deepEqual(told.toSorted(), [...new Set([...said, ...clocks])].toSorted())
})
