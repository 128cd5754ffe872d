/** Export and erasure over HTTP and by the program: what comes along, what is gone everywhere, what must stay, and whose it must not touch. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { run } from '../../../cli/test/support.ts'
import { sql } from '../../src/db/sql.ts'
import type { Db } from '../../src/seams.ts'
import { openSite } from '../connection/support/site.ts'
import { sandbox } from '../credential/support/room.ts'
import { until } from '../db/until.ts'

/** Tables in which a text stands anywhere, in any column. */
async function tablesWith(db: Db, text: string): Promise<string[]> {
  const tables = await db.query<{ name: string }>(sql`
    select relname::text as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`)
  const found: string[] = []
  for (const { name } of tables) {
    const rows = await db.query({
      text: `select 1 from "${name}" r where r::text like $1 limit 1`,
      values: [`%${text}%`],
    })
    if (rows.length > 0) found.push(name)
  }
  return found
}

test('a person is exported, then erased; what is left names nobody but in the chain', async t => {
  const site = await openSite(t)
  const [first] = site.servers
  const set = await first.call('PATCH', '/environment/settings', { webhook_url: 'http://127.0.0.1:9/nobody' })
  assert.equal(set.status, 200, set.text)
  const ada = await site.connect('ada-lovelace-0815')
  const grace = await site.connect('grace-hopper-4711')
  const tagged = await first.call('PATCH', `/connections/${ada}?provider_config_key=sf`, {
    end_user: { id: 'ada-lovelace-0815', email: 'ada@analytical.example', display_name: 'Ada L.' },
    tags: { plan: 'tag-of-ada' },
  })
  assert.equal(tagged.status, 200, tagged.text)
  for (const id of [ada, grace]) assert.equal((await site.proxied(first, id)).status, 200)
  const calls = (id: string) =>
    site.db.query(sql`select from activity where connection_id = ${id}`).then(rows => rows.length)
  await until(async () => (await calls(ada)) === 1 && (await calls(grace)) === 1)
  const untouched = await first.call('GET', `/connections?endUserId=grace-hopper-4711`)

  const exported = await first.call('POST', '/end-users/export', { end_user_id: 'ada-lovelace-0815' })
  assert.equal(exported.status, 200, exported.text)
  const { connections, activity, connect_sessions, webhook_events, audit, activity_is_complete } = exported.json
  assert.deepEqual(
    connections.map((one: { connection_id: string; tags: object }) => [one.connection_id, one.tags]),
    [[ada, { plan: 'tag-of-ada' }]],
  )
  assert.ok(connections[0].connection_config.instance_url)
  assert.deepEqual([activity.length, activity_is_complete, connect_sessions.length], [1, true, 1])
  assert.equal(webhook_events[0].name, 'connection.created')
  assert.ok(audit.length >= 1)
  assert.ok(!exported.text.includes(grace) && !exported.text.includes('grace'))
  assert.ok(!exported.text.includes(site.simulator.app(sandbox).clientSecret))
  assert.doesNotMatch(exported.text, /00D\w{15}!|5Aep/, 'no token')

  for (const body of [{}, { end_user_id: '' }, { end_user_id: 'a', organization_id: 'b' }])
    assert.equal((await first.call('POST', '/end-users/erase', body)).json.error.code, 'invalid_body')

  const erased = await first.call('POST', '/end-users/erase', { end_user_id: 'ada-lovelace-0815' })
  assert.equal(erased.status, 200, erased.text)
  const receipt = erased.json
  assert.deepEqual(
    [receipt.deleted.connection, receipt.deleted.activity, receipt.deleted.connect_session, receipt.revocations_queued],
    [1, 1, 1, 1],
  )
  assert.ok(receipt.audit_entries_kept >= 1)
  assert.match(receipt.subject, /^erased-[0-9a-f]{24}$/)
  for (const server of site.servers) await until(async () => (await site.proxied(server, ada)).status === 400, 5_000)

  // Refused calls since then have left records under its id, and the news of its end is on its way; the person stands in neither.
  for (const trace of ['ada-lovelace-0815', 'ada@analytical.example', 'Ada L.', 'tag-of-ada'])
    assert.deepEqual(
      (await tablesWith(site.db, trace)).filter(name => name !== 'audit'),
      [],
      trace,
    )
  await until(async () => (await site.db.query(sql`select from revocation where ended_at is null`)).length === 0)
  assert.equal(site.simulator.control.state().grants.filter(grant => grant.ended === null).length, 1)

  const trail = await first.call('GET', '/audit?action=end_user')
  assert.deepEqual(
    trail.json.entries.map((one: { action: string; target: string }) => [one.action, one.target]),
    [
      ['end_user.erased', receipt.subject],
      ['end_user.exported', receipt.subject],
    ],
  )
  // As a word: ids are hexadecimal and spell it now and then.
  assert.doesNotMatch(trail.text, /\bada\b/)
  assert.equal((await first.call('POST', '/audit/verify')).json.intact, true)

  // Nobody else's.
  assert.equal((await site.proxied(first, grace)).status, 200)
  const still = await first.call('GET', `/connections?endUserId=grace-hopper-4711`)
  assert.deepEqual(still.json.connections[0].end_user, untouched.json.connections[0].end_user)
  const again = await first.call('POST', '/end-users/erase', { end_user_id: 'ada-lovelace-0815' })
  assert.equal(again.json.deleted.connection, 0)
  assert.equal(again.json.subject, receipt.subject)
})

test('a tenant, by the program', async t => {
  const site = await openSite(t)
  const { url, key } = site.servers[0]
  const [one, two, other] = [await site.connect('ada'), await site.connect('bob'), await site.connect('eve')]
  await site.db.query(sql`
    update connection set organization = '{"id": "acme"}' where connection_id = any (${[one, two]}::text[])`)
  const env = { FAIRLEAD_URL: url, FAIRLEAD_SECRET_KEY: key }

  const exported = await run(['end-users', 'export', '--organization', 'acme'], env)
  assert.equal(exported.code, 0, exported.err)
  assert.equal(exported.json.connections.length, 2)
  const unsaid = await run(['end-users', 'erase'], env)
  assert.deepEqual([unsaid.code, unsaid.out], [2, ''])
  const unasked = await run(['end-users', 'erase', '--organization', 'acme'], env)
  assert.equal(unasked.code, 2)
  const erased = await run(['end-users', 'erase', '--organization', 'acme', '--yes'], env)
  assert.equal(erased.code, 0, erased.err)
  assert.match(erased.out, /^Deleted from connection +2$/m)
  assert.match(erased.out, /^Revocations queued +2$/m)
  const left = await site.db.query<{ connection_id: string }>(sql`select connection_id from connection`)
  assert.deepEqual(left, [{ connection_id: other }])
})
