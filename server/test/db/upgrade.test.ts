/**
 * Two versions on one database. There is one released schema so far, so the next version is a made-up second migration, and the version before
 * it is the server of this repository.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { migrate, migrationNames, migrationsFolder } from '../../src/db/migrate.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { naming, send, startWorld } from '../proxy/world.ts'
import { testDatabase } from '../support/database.ts'
import { startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { faultsOf } from './rules.ts'
import { until } from './until.ts'

const version: string = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')).version
const isOut = (release: string): boolean => release.localeCompare(version, undefined, { numeric: true }) < 0

test('every migration after the first leaves the version before working', async () => {
  for (const name of (await migrationNames(migrationsFolder)).slice(1)) {
    const text = await readFile(join(migrationsFolder, `${name}.sql`), 'utf8')
    assert.deepEqual(faultsOf(name, text, isOut), [], name)
  }
})

test('what does not is found', () => {
  const refused: [text: string, why: RegExp][] = [
    ['alter table connection drop column tags', /Drops/],
    ['drop table connection', /Drops/],
    ['DROP INDEX connection_newest;', /Drops/],
    ['alter table connection drop constraint x', /Drops/],
    ['alter table connection rename column tags to labels', /Renames/],
    ['alter table connection rename to link', /Renames/],
    ['alter table connection alter column id type text', /type/],
    ['alter table connection add column region text not null', /Demands/],
    ['alter table connection alter column metadata set not null', /Demands/],
    ['alter table connection add column a text, add column b uuid default gen_random_uuid()', /Rewrites/],
    ['alter table connection add column c text unique', /index/],
    ['alter table connection add constraint c check (id > 0)', /Checks every row/],
    ['alter table connection add foreign key (id) references other', /Checks every row/],
    ['alter table connection add constraint u unique (connection_id)', /index/],
    ['create index i on connection (created_at)', /writers wait/],
    ['create index concurrently i on connection (created_at); select 1', /file of its own/],
    ['update connection set metadata = null', /Rewrites every row/],
    ['truncate activity', /Empties/],
    ['commit; begin', /transaction/],
    ['-- drop\n/* */ alter table connection add column x text not null', /Demands/],
  ]
  for (const [text, why] of refused) assert.match(faultsOf('0002_x', text, isOut).join('\n'), why, text)
  const contraction = '-- Unused since 0.0.9\nalter table connection drop column tags'
  assert.deepEqual(faultsOf('0003_contract_tags', contraction, isOut), [])
  assert.match(faultsOf('0003_contract_tags', 'drop table x', isOut).join(), /begins with/)
  assert.match(faultsOf('0003_contract_tags', '-- Unused since 99.0.0\ndrop table x', isOut).join(), /not out/)
})

/** An expansion such as a real one might be: a column that must stay in step with an old one, a new table, a constraint, a function replaced. */
const expansion = `
create table region (name text primary key, created_at timestamptz not null default now());
create index region_newest on region (created_at);
alter table connection add column region text, add column pinned boolean not null default false;
alter table connection add constraint connection_region_name check (region <> '') not valid;
create function connection_in_region() returns trigger language plpgsql as $$
begin
  new.region := coalesce(new.region, new.tags ->> 'region');
  return new; -- drop table connection;
end $$;
create trigger connection_in_region before insert or update on connection for each row execute function connection_in_region();
insert into region (name) values ('eu');`
const index = 'create index concurrently connection_by_region on connection (region) where region is not null'

async function nextVersion(t: TestContext, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-next-'))
  t.after(() => rm(folder, { recursive: true }))
  await cp(migrationsFolder, folder, { recursive: true })
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, `${name}.sql`), text)
  return folder
}

test('the version before works while a migration is applied, after it, and when it is started again on it', async t => {
  for (const [name, text] of [
    ['0002_region', expansion],
    ['0003_region_index', index],
  ] as const)
    assert.deepEqual(faultsOf(name, text, isOut), [])
  const folder = await nextVersion(t, { '0002_region': expansion, '0003_region_index': index })
  const opened = lastFirst(t)
  const FAIRLEAD_ENCRYPTION_KEY = randomBytes(32).toString('base64')
  const world = await startWorld(opened, '', { FAIRLEAD_ENCRYPTION_KEY })
  const { fairlead } = world
  const id = await world.connect()
  const works = async () => {
    assert.equal((await send(fairlead.url, { path: '/proxy/x', headers: naming(world, id) })).status, 200)
    const renewed = await fairlead.call('POST', `/connections/${id}/refresh?provider_config_key=own`)
    assert.equal(renewed.status, 200, renewed.text)
  }
  let migrating = true
  const busy = (async () => {
    for (let n = 0; migrating || n < 5; n++) {
      await works()
      await world.connect()
    }
  })()
  // Two servers of the next version start at once.
  const address = { url: fairlead.databaseUrl }
  const applied = await Promise.all([migrate(address, folder), migrate(address, folder)])
  migrating = false
  await busy
  assert.deepEqual(
    applied.map(one => one.applied).sort((a, b) => a.length - b.length),
    [[], ['0002_region', '0003_region_index']],
  )

  const { db, close } = await openDb(address)
  opened.after(close)
  await fairlead.call('PATCH', `/connections/${id}?provider_config_key=own`, { tags: { region: 'eu' } })
  await works()
  const [row] = await db.query<object>(sql`select region, pinned from connection where connection_id = ${id}`)
  assert.deepEqual(row, { region: 'eu', pinned: false })
  assert.equal(
    (await fairlead.call('DELETE', `/connections/${await world.connect()}?provider_config_key=own`)).status,
    200,
  )

  // The way back: the version before, started anew.
  const env = { DATABASE_URL: fairlead.databaseUrl, FAIRLEAD_ENCRYPTION_KEY, FAIRLEAD_SECRET_KEY_DEV: fairlead.key }
  const again = await startFairlead(opened, { providers: world.providers, env })
  assert.equal(
    (
      await again.call('GET', `/connections/${id}?provider_config_key=own`, undefined, {
        Authorization: `Bearer ${fairlead.key}`,
      })
    ).status,
    200,
  )
  assert.match(
    again.log(),
    /"migrations":\["0002_region","0003_region_index"\].*the database is newer than this server/,
  )
})

test('a migration that fails leaves the schema and the version that is serving as they were', async t => {
  const opened = lastFirst(t)
  const world = await startWorld(opened)
  const { fairlead } = world
  const id = await world.connect()
  const failing = `alter table connection add column half text; drop trigger webhook_on_change on connection; select 1 / 0`
  const folder = await nextVersion(t, { '0002_half': failing })
  await assert.rejects(
    migrate({ url: fairlead.databaseUrl }, folder),
    /Migration 0002_half failed; nothing of it was kept/,
  )
  const { db, close } = await openDb({ url: fairlead.databaseUrl })
  opened.after(close)
  const left = await db.query(sql`
    select attname from pg_attribute where attrelid = 'connection'::regclass and attname = 'half'
    union all select tgname from pg_trigger where tgname = 'webhook_on_change'`)
  assert.deepEqual(left, [{ attname: 'webhook_on_change' }])
  assert.equal((await send(fairlead.url, { path: '/proxy/x', headers: naming(world, id) })).status, 200)
  assert.equal((await fairlead.call('POST', `/connections/${id}/refresh?provider_config_key=own`)).status, 200)
  await world.connect()
  assert.equal((await fairlead.call('GET', '/ready')).status, 200)
})

test('an index whose building failed is gone, and built by the next attempt', async t => {
  const { db, url } = await testDatabase(t)
  await db.query(sql`create table twice (name text)`)
  await db.query(sql`insert into twice values ('a'), ('a')`)
  const folder = await nextVersion(t, { '0002_unique': 'create unique index concurrently twice_once on twice (name)' })
  const indexes = () => db.query(sql`select indisvalid from pg_index where indrelid = 'twice'::regclass`)
  await assert.rejects(migrate({ url }, folder), /0002_unique failed/)
  assert.deepEqual(await indexes(), [])
  await db.query(sql`delete from twice`)
  assert.deepEqual((await migrate({ url }, folder)).applied, ['0002_unique'])
  assert.deepEqual(await indexes(), [{ indisvalid: true }])
})

test('a lock that is not to be had holds nobody up, and is had when it is free', async t => {
  const { db, url } = await testDatabase(t)
  const folder = await nextVersion(t, { '0002_region': 'alter table connection add column region text' })
  const held = Promise.withResolvers<void>()
  const release = Promise.withResolvers<void>()
  const holding = db.transaction(async tx => {
    await tx.query(sql`select 1 from connection`)
    held.resolve()
    await release.promise
  })
  await held.promise
  const migrating = migrate({ url }, folder)
  // It gives up its place in the queue again and again, so that a reader comes through while the lock is held.
  const gaveUp = () =>
    db.query<{ n: number }>(sql`
      select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
  await until(async () => (await gaveUp())[0]!.n === 1)
  await until(async () => (await gaveUp())[0]!.n === 0)
  await db.query(sql`select 1 from connection`)
  release.resolve()
  await holding
  assert.deepEqual((await migrating).applied, ['0002_region'])
})
