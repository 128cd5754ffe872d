import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { migrate } from '../../src/db/migrate.ts'
import { describeSchema, schemaFile } from '../../src/db/schema.ts'
import { sql } from '../../src/db/sql.ts'
import { testDatabase } from '../support/database.ts'

async function folder(t: TestContext, files: Record<string, string>): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fairlead-migrations-'))
  t.after(() => rm(path, { recursive: true }))
  for (const [name, content] of Object.entries(files)) await writeFile(join(path, name), content)
  return path
}

test('migrations are applied once, in order, and newer ones are reported', async t => {
  const { db, url } = await testDatabase(t, { empty: true })
  const path = await folder(t, {
    '0002_second.sql': 'alter table first add column more text; create index on first (more)',
    '0001_first.sql': '-- a comment\ncreate table first (id int);',
  })
  assert.deepEqual(await migrate({ url }, path), { applied: ['0001_first', '0002_second'], unknown: [] })
  assert.deepEqual(await migrate({ url }, path), { applied: [], unknown: [] })
  await rm(join(path, '0002_second.sql'))
  assert.deepEqual(await migrate({ url }, path), { applied: [], unknown: ['0002_second'] })
  await db.query(sql`select id, more from first`)
})

test('a migration that fails leaves nothing of itself, and what came before', async t => {
  const { db, url } = await testDatabase(t, { empty: true })
  const path = await folder(t, { '0001_a.sql': 'create table a ()', '0002_b.sql': 'create table b (); select 1 / 0' })
  await assert.rejects(migrate({ url }, path), /Migration 0002_b failed/)
  const tables = await db.query(sql`select relname from pg_class where relname in ('a', 'b')`)
  assert.deepEqual(tables, [{ relname: 'a' }])
  await writeFile(join(path, '0002_b.sql'), 'create table b ()')
  assert.deepEqual((await migrate({ url }, path)).applied, ['0002_b'])
})

test('badly named files are refused', async t => {
  const { url } = await testDatabase(t, { empty: true })
  await assert.rejects(migrate({ url }, await folder(t, { '1_a.sql': '' })), /not named like/)
  await assert.rejects(migrate({ url }, await folder(t, { '0001_a.sql': '', '0001_b.sql': '' })), /the number 0001/)
})

test('servers that migrate at once take turns', async t => {
  const { url } = await testDatabase(t, { empty: true })
  const files = Array.from({ length: 8 }, (_, i) => [
    `000${i + 1}_t.sql`,
    `create table t${i} (); select pg_sleep(0.02)`,
  ])
  const path = await folder(t, Object.fromEntries(files))
  const hold = join(import.meta.dirname, 'hold.ts')
  const said = await Promise.all(
    [1, 2, 3].map(() =>
      text(spawn(process.execPath, [hold, 'migrate', url, path], { stdio: ['ignore', 'pipe', 'inherit'] }).stdout),
    ),
  )
  assert.deepEqual(said.sort(), ['applied 0\nready\n', 'applied 0\nready\n', 'applied 8\nready\n'])
})

test('schema.txt is the schema', async t => {
  const { db } = await testDatabase(t)
  const committed = await readFile(schemaFile, 'utf8').catch(() => '')
  const actual = await describeSchema(db)
  assert.equal(actual, committed, 'The migrations make another schema than schema.txt shows: run `npm run schema`.')
})

test('the description shows what matters and is stable', async t => {
  const { db } = await testDatabase(t, { empty: true })
  await db.query(sql`
    create table parent (id int8 generated always as identity primary key, name text not null default 'x' unique)`)
  await db.query(
    sql`create table child (parent int8 references parent on delete cascade, at timestamptz check (at > 'epoch'))`,
  )
  await db.query(sql`create index child_at on child (at) where parent is null`)
  assert.equal(
    await describeSchema(db),
    `child
  parent bigint
  at timestamp with time zone
  constraint child_at_check CHECK ((at > '1970-01-01 00:00:00+00'::timestamp with time zone))
  constraint child_parent_fkey FOREIGN KEY (parent) REFERENCES parent(id) ON DELETE CASCADE
  CREATE INDEX child_at ON public.child USING btree (at) WHERE (parent IS NULL)

parent
  id bigint not null generated always as identity
  name text not null default 'x'::text
  constraint parent_name_key UNIQUE (name)
  constraint parent_pkey PRIMARY KEY (id)
`,
  )
})
