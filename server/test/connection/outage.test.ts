/** The database goes away under servers that know what they serve: warm connections are served on, and nothing that was taken back is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { type Fairlead, request } from '../support/fairlead.ts'
import { openSite } from './support/site.ts'

test('a database that goes away: warm connections are served, what was ended is not, and all is well when it is back', async t => {
  const site = await openSite(t)
  const { servers } = site
  // Behind an address there may be several, which take turns; what one remembers another may never have seen.
  const all = servers.flatMap(server => Array<Fairlead>(server.servers).fill(server))
  const [ada, grace, late] = [await site.connect('ada'), await site.connect('grace'), await site.connect('late')]
  const call = async (server: Fairlead, id: string) => {
    const { status, json } = await site.proxied(server, id)
    return [status, json?.error?.code]
  }
  for (const id of [ada, grace]) for (const server of all) assert.deepEqual(await call(server, id), [200, undefined])
  const made = await servers[0].call('POST', '/environment/api-keys', { display_name: 'gone' })
  const gone = { Authorization: `Bearer ${made.json.data.secret}` }
  for (const server of all) assert.equal((await server.call('GET', '/integrations', undefined, gone)).status, 200)

  // Ended while the database is there, and heard of everywhere.
  await servers[0].call('DELETE', `/connections/${grace}?provider_config_key=sf`)
  await servers[0].call('DELETE', '/environment/api-keys', { key_id: made.json.data.id })
  const isEverywhere = async (what: (server: Fairlead) => Promise<boolean>) => {
    const answers: boolean[] = []
    for (const server of all) answers.push(await what(server))
    return answers.every(Boolean)
  }
  await until(() => isEverywhere(async server => (await call(server, grace))[0] === 400))
  await until(() =>
    isEverywhere(async server => (await server.call('GET', '/integrations', undefined, gone)).status === 401),
  )
  for (const server of all) assert.deepEqual(await call(server, ada), [200, undefined])

  const [{ name } = assert.fail()] = await site.db.query<{ name: string }>(sql`select current_database() as name`)
  const own = new URL(servers[0].databaseUrl).pathname
  const { db: admin, close } = await openDb({ url: servers[0].databaseUrl.replace(own, '/postgres') })
  t.after(close)
  const allow = (allowed: boolean) =>
    admin.query({ text: `alter database ${name} with allow_connections ${allowed}`, values: [] })
  await allow(false)
  await admin.query({
    text: 'select pg_terminate_backend(pid) from pg_stat_activity where datname = $1',
    values: [name],
  })
  for (const server of servers) {
    for (let n = 0; n < 20; n++) assert.deepEqual(await call(server, ada), [200, undefined], `call ${n}`)
    assert.notEqual((await call(server, grace))[0], 200, 'ended')
    assert.notEqual((await server.call('GET', '/integrations', undefined, gone)).status, 200, 'an ended key')
    assert.deepEqual(await call(server, late), [503, 'database_unavailable'], 'never seen')
    const ready = await request(`${server.url}/ready`)
    assert.deepEqual([ready.status, ready.json], [200, { result: 'ok', database: 'away' }])
  }

  await allow(true)
  for (const server of servers) {
    await until(async () => (await call(server, late))[0] === 200)
    await until(async () => (await request(`${server.url}/ready`)).json.database === undefined)
    assert.deepEqual(await call(server, ada), [200, undefined])
    assert.notEqual((await call(server, grace))[0], 200)
  }
})
