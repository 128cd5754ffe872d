/** Every command against a real server around the Salesforce simulator: what a person reads, what a script reads, what must not be printed. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { sql } from '../../server/src/db/sql.ts'
import { openSite, type Site } from '../../server/test/connection/support/site.ts'
import { until } from '../../server/test/db/until.ts'
import { Browser } from '../../server/test/support/fairlead.ts'
import { bin, type Ran, run } from './support.ts'

type Cli = (args: string, input?: string) => Promise<Ran>

/** A server, and the program pointed at it. Arguments are separated by spaces. */
async function open(t: { after(work: () => Promise<void>): void }, integrations = ['sf']): Promise<[Site, Cli]> {
  const site = await openSite(t, integrations)
  const { url, key } = site.servers[0]
  const env = { FAIRLEAD_URL: `${url}/`, FAIRLEAD_SECRET_KEY: key, FAIRLEAD_SECRET_KEY_DEV: key }
  const cli: Cli = async (args, input) => {
    const ran = await run(args.split(' '), env, input)
    // Whatever it is asked: no key and no token, and no colour for what is not a terminal.
    for (const text of [ran.out, ran.err]) {
      assert.ok(!text.includes(key), args)
      assert.doesNotMatch(text, /00D\w{15}!|5Aep/, args)
      assert.doesNotMatch(text, /\x1b/, args)
    }
    return ran
  }
  return [site, cli]
}

const iso = /\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)/

/** Done, and nothing said beside the answer. */
function done(ran: Ran): Ran {
  assert.deepEqual([ran.code, ran.err], [0, ''], ran.out)
  return ran
}

function fails(ran: Ran, code: number, err: RegExp): void {
  assert.equal(ran.code, code, ran.err)
  assert.equal(ran.out, '')
  assert.match(ran.err, err)
  assert.doesNotMatch(ran.err, /^\s+at /m, 'no stack')
}

test('connections: an address for webhooks is alone on its line, and works', async t => {
  const [site, cli] = await open(t)
  const id = await site.connect('ada')
  const made = await cli(`connections webhook-address ${id}`)
  assert.equal(made.code, 0, made.err)
  assert.match(made.out, /^http:\/\/127\.0\.0\.1:\d+\/webhook\/[A-Za-z0-9_-]{43}\n$/)
  assert.match(made.err, /not shown again/)
  await site.servers[0].call('PATCH', '/environment/settings', { webhook_url: 'http://127.0.0.1:9/' })
  const sent = { org: 'acme--uat', url: made.out.trim(), object: 'Account' }
  assert.equal((await site.simulator.control.sendOutboundMessage(sent)).acknowledged, true)
  fails(await cli('connections webhook-address nobody'), 1, /There is no connection "nobody"/)
})

test('connections: listed, shown, renewed, paused, resumed', async t => {
  const [site, cli] = await open(t)
  assert.equal(done(await cli('connections list')).out, 'No connection matches.\n')
  assert.deepEqual(done(await cli('connections list --json')).json, [])
  const id = await site.connect('ada')
  const other = await site.connect('grace')

  const listed = done(await cli('connections list'))
    .out.trimEnd()
    .split('\n')
  assert.match(listed[0]!, /^CONNECTION +INTEGRATION +END USER +STATE +SINCE +CAUSE$/)
  assert.deepEqual(
    listed.slice(1).map(line => line.split(/ +/).slice(0, 4)),
    [
      [other, 'sf', 'grace', 'active'],
      [id, 'sf', 'ada', 'active'],
    ],
  )
  const columns = listed.map(line => line.search(/ACTIVE|active|STATE/))
  assert.equal(new Set(columns).size, 1, 'columns stand below one another')
  const ids = async (args: string) =>
    done(await cli(`connections list --json ${args}`)).json.map((one: { connection_id: string }) => one.connection_id)
  assert.deepEqual(await ids('--integration sf'), [other, id])
  assert.deepEqual(await ids('--end-user ada'), [id])
  assert.deepEqual(await ids(`--search ${id}`), [id])
  assert.deepEqual(await ids('--state paused'), [])
  assert.deepEqual(await ids('--env dev --state active'), [other, id])

  const shown = done(await cli(`connections get ${id}`)).out
  for (const line of [/^Connection +\S+$/m, /^State +active, since .+ago|just now/m, /^instance_url +http/m, iso])
    assert.match(shown, line)
  const json = done(await cli(`connections get ${id} --json`)).json
  assert.equal(json.connection_id, id)
  assert.deepEqual(json.scopes.requested, ['api', 'refresh_token'])
  assert.equal('credentials' in json, false)

  const refreshed = done(await cli(`connections refresh ${id}`)).out
  assert.match(refreshed, /^State +active/m)
  assert.equal(site.simulator.control.counters().grants.refresh_token, 1)
  assert.equal(done(await cli(`connections pause ${id} --json`)).json.state.name, 'paused')
  assert.deepEqual(await ids('--state paused'), [id])
  // A paused connection hands out nothing, and is still shown.
  const paused = done(await cli(`connections get ${id}`)).out
  assert.match(paused, /^State +paused/m)
  assert.match(paused, /\(connection_paused\)/)
  assert.equal(done(await cli(`connections get ${id} --json`)).json.error.code, 'connection_paused')
  fails(await cli(`connections refresh ${id}`), 1, /^This connection is paused.*\(connection_paused\)\n$/)
  assert.match(done(await cli(`connections resume ${id}`)).out, /^State +active/m)

  fails(await cli('connections get none'), 1, /There is no connection "none" in this environment\. \(not_found\)/)
  fails(await cli(`connections get ${id} --integration other`), 1, /on the integration "other"/)
  fails(await cli('connections list --state Active'), 1, /\(invalid_query_params\)\n {2}state: /)
})

test('an id that stands on several integrations: the program asks which', async t => {
  const [site, cli] = await open(t, ['sf', 'other'])
  await site.connect('ada')
  await site.connect('ada', 'other')
  await site.db.query(sql`update connection set connection_id = 'same/id with $ and ?'`)
  const one = async (...args: string[]) => {
    const { url, key } = site.servers[0]
    return run(['connections', 'get', 'same/id with $ and ?', ...args], { FAIRLEAD_URL: url, FAIRLEAD_SECRET_KEY: key })
  }
  fails(await one(), 2, /--integration other or --integration sf/)
  assert.equal(done(await one('--integration', 'other', '--json')).json.provider_config_key, 'other')
  fails(await cli('kill --connection same --yes'), 1, /There is no connection "same"/)
})

test('links: to connect, and to sign in again', async t => {
  const [site, cli] = await open(t)
  const [first] = site.servers
  const connect = await cli('connect sf --end-user ada --email ada@acme.com --name Ada')
  assert.equal(connect.code, 0)
  assert.match(connect.err, /It works until in (29 min|30 min)/)
  // The link alone, so that a script can take it.
  assert.match(connect.out, /^http:\/\/127\.0\.0\.1:\d+\/connect\/\?session_token=\S+\n$/)
  const sessionOf = async (link: string) => {
    const headers = { Authorization: `Bearer ${new URL(link).searchParams.get('session_token')}` }
    return (await first.call('GET', '/connect/session', undefined, headers)).json.data
  }
  assert.equal((await sessionOf(connect.out)).endUser.display_name, 'Ada')
  const token = new URL(connect.out).searchParams.get('session_token')
  assert.equal((await new Browser().follow(`${first.url}/oauth/connect/sf?connect_session_token=${token}`)).status, 200)
  const [{ connection_id: id, end_user }] = done(await cli('connections list --json')).json
  assert.deepEqual([end_user.id, end_user.email, end_user.display_name], ['ada', 'ada@acme.com', 'Ada'])

  const again = await cli(`connections reconnect ${id} --json`)
  assert.equal(again.code, 0)
  const bound = await sessionOf(again.json.connect_link)
  assert.deepEqual([bound.isReconnecting, bound.reconnect.connection_id], [true, id])
  fails(await cli('connect none'), 1, /\(invalid_body\)\n {2}allowed_integrations\.0: There is no integration "none"/)
})

test('connect --wait: told of a denial, done with the connection, and over when the session is', async t => {
  const [site, cli] = await open(t)
  const [first] = site.servers
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-cli-'))
  t.after(() => rm(folder, { recursive: true }))
  // The system's browser, which writes down what it is asked to open.
  await writeFile(join(folder, 'xdg-open'), `#!/bin/sh\necho "$1" >> ${folder}/opened\n`, { mode: 0o755 })
  const begin = (args: string[]) => {
    const child = spawn(process.execPath, [bin, 'connect', 'sf', '--end-user', 'ada', '--wait', ...args], {
      env: { PATH: `${folder}:${process.env.PATH}`, FAIRLEAD_URL: first.url, FAIRLEAD_SECRET_KEY: first.key },
    })
    const said = { out: '', err: '' }
    child.stdout.setEncoding('utf8').on('data', text => {
      said.out += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      said.err += text
    })
    const code = once(child, 'close').then(([code]) => code as number)
    const token = async () => {
      await until(() => /session_token=\S+\n/.test(said.err))
      return /session_token=(\S+)\n/.exec(said.err)![1]!
    }
    return { said, code, token }
  }

  const { said, code, token } = begin(['--open'])
  const start = `${first.url}/oauth/connect/sf?connect_session_token=${await token()}`
  await until(async () => (await readFile(join(folder, 'opened'), 'utf8').catch(() => '')).includes(await token()))
  const denied = new Browser()
  const consent = await denied.open(start)
  const state = new URL(consent.headers.get('location')!).searchParams.get('state')
  await denied.open(`${first.url}/oauth/callback?error=access_denied&state=${state}`)
  await until(() => said.err.includes('(access_denied)'))
  assert.equal(said.out, '')
  assert.equal((await new Browser().follow(start)).status, 200)
  assert.equal(await code, 0, said.err)
  const [connection] = done(await cli('connections list --json')).json
  assert.match(said.out, new RegExp(`^Connection +${connection.connection_id}$`, 'm'))
  assert.doesNotMatch(said.out, /session_token/)

  const over = begin(['--json'])
  const bearer = { Authorization: `Bearer ${await over.token()}` }
  assert.equal((await first.call('DELETE', '/connect/session', undefined, bearer)).status, 204)
  assert.equal(await over.code, 1)
  assert.match(over.said.err, /"code": "unknown_connect_session_token"/)
  assert.equal(over.said.out, '')
})

test('end users: everything about one is printed, and erased after a question', async t => {
  const [site, cli] = await open(t)
  for (const who of ['ada', 'grace']) await site.connect(who)
  const all = done(await cli('end-users export --end-user ada --json')).json
  assert.ok(JSON.stringify(all).includes('ada') && !JSON.stringify(all).includes('grace'))
  fails(await cli('end-users export'), 2, /--end-user/)
  fails(await cli('end-users erase --end-user ada'), 2, /add --yes/)
  assert.equal(done(await cli('connections list --json')).json.length, 2)
  const erased = await cli('end-users erase --end-user ada --yes')
  assert.equal(erased.code, 0, erased.err)
  assert.deepEqual(
    done(await cli('connections list --json')).json.map((one: { end_user: { id: string } }) => one.end_user.id),
    ['grace'],
  )
})

test('what is deleted or killed is asked about first, and leaves receipts', async t => {
  const [site, cli] = await open(t, ['sf', 'other'])
  const count = async () => done(await cli('connections list --json')).json.length
  const id = await site.connect('ada')
  for (const who of ['ada', 'grace', 'mallory']) await site.connect(who, 'other')

  fails(await cli(`connections delete ${id}`), 2, /^Delete the connection .* of ada on sf\?.*\n.*add --yes/)
  fails(await cli('kill --environment'), 2, /everything in this environment at http.*: 4 connections/)
  assert.equal(await count(), 4)
  for (const wrong of [
    'kill --yes',
    'kill --environment --end-user ada --yes',
    `kill --end-user ada --integration sf --yes`,
  ])
    fails(await cli(wrong), 2, /exactly one of/)
  assert.equal(await count(), 4)

  assert.match(done(await cli(`connections delete ${id} --yes`)).out, /^Deleted\./)
  const killed = await cli('kill --end-user mallory --reason stolen --yes')
  assert.equal(killed.code, 0, killed.err)
  assert.match(killed.err, /^1 connection ended\./)
  assert.match(killed.out, /^CONNECTION .*\n\S+ +other +deleted +pending .* stolen\n$/)
  assert.equal(await count(), 2)
  const all = await cli('kill --integration other --yes --json')
  assert.equal(all.json.length, 2)
  assert.equal(await count(), 0)
  fails(await cli('kill --integration none --yes'), 1, /\(unknown_provider_config\)/)

  await until(async () => (await cli('revocations --json')).json.every((one: { ended_at: string }) => one.ended_at))
  assert.equal(
    done(await cli('revocations list'))
      .out.trimEnd()
      .split('\n').length,
    5,
  )
  const [receipt, ...others] = done(await cli(`revocations --connection ${id} --json`)).json
  assert.deepEqual([receipt.connection_id, receipt.status, others], [id, 'revoked', []])
  assert.equal(done(await cli('revocations --integration none')).out, 'There are no receipts.\n')
})

test('integrations: the secret comes from a file or from standard input, and is shown to nobody', async t => {
  const [site, cli] = await open(t)
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-cli-'))
  t.after(() => rm(folder, { recursive: true }))
  const file = join(folder, 'secret')
  await writeFile(file, 'secret-from-a-file\n')
  const create = 'integrations create two --provider salesforce --client-id 3MVG9'
  fails(await cli(create), 2, /--client-secret-file/)
  fails(await cli(`${create} --client-secret-file ${folder}/none`), 2, /cannot be read \(ENOENT\)/)
  const made = await cli(`${create} --client-secret-file ${file} --scopes api,refresh_token --name Two`)
  assert.equal(made.code, 0, made.err)
  assert.match(made.err, /\/oauth\/callback$/m)
  const stored = async () =>
    (await site.servers[0].call('GET', '/integrations/two?include=credentials')).json.data.credentials
  assert.deepEqual(await stored(), {
    type: 'OAUTH2',
    client_id: '3MVG9',
    client_secret: 'secret-from-a-file',
    scopes: 'api,refresh_token',
  })
  const updated = done(
    await cli('integrations update two --client-id 3MVG8 --client-secret-file - --name Zwei', 'from-input\n'),
  )
  assert.match(updated.out, /^Name +Zwei$/m)
  assert.deepEqual([(await stored()).client_id, (await stored()).client_secret], ['3MVG8', 'from-input'])
  for (const args of [
    'integrations get two',
    'integrations get two --json',
    'integrations list',
    'integrations --json',
  ])
    assert.doesNotMatch(done(await cli(args)).out, /from-input|client_secret/)
  assert.match(done(await cli('integrations list')).out, /^two +salesforce +Zwei +/m)
  fails(await cli('integrations update two'), 2, /nothing to change/)
  fails(await cli('integrations update two --scopes api'), 2, /--client-id is needed/)
  fails(await cli('integrations create two --client-id x'), 2, /--provider is needed/)
  fails(await cli(`${create} --client-secret-file ${file}`), 1, /exists already/)

  // An API key needs no app of the developer's, and nobody is asked for one.
  const keyed = done(await cli('integrations create keyed --provider anthropic'))
  assert.deepEqual([keyed.err, /^Provider +anthropic$/m.test(keyed.out)], ['', true])
  fails(await cli('integrations create three --provider salesforce'), 1, /client id and secret of your OAuth app/)
  fails(await cli('proxy FETCH keyed/x /v1'), 2, /"FETCH" is no method/)
  assert.doesNotMatch(done(await cli('settings get')).out, /\[object/)
  done(await cli('integrations delete keyed --yes'))

  await site.connect('ada')
  fails(await cli('integrations delete sf'), 2, /with 1 connection on it\?/)
  fails(await cli('integrations delete none --yes'), 1, /\(not_found\)/)
  for (const key of ['sf', 'two']) assert.equal(done(await cli(`integrations delete ${key} --yes`)).out, 'Deleted.\n')
  assert.equal(done(await cli('integrations list')).out, 'There are no integrations yet.\n')
  assert.equal(done(await cli('connections list')).out, 'No connection matches.\n')
})

test('providers, encryption and status', async t => {
  const [site, cli] = await open(t)
  assert.match(done(await cli('providers list')).out, /^salesforce-sandbox +Salesforce Sandbox +OAUTH2$/m)
  assert.equal(done(await cli('providers --search sandbox --json')).json.length, 1)
  assert.match(
    done(await cli('providers get salesforce-sandbox')).out,
    /^Learned +instance_url organization_id user_id organization_kind instance_name api_version$/m,
  )
  fails(await cli('providers get none'), 1, /\(not_found\)/)

  const [kept, paused] = [await site.connect('ada'), await site.connect('grace')]
  await cli(`connections pause ${paused}`)
  assert.match(done(await cli('encryption status')).out, /^Rows to seal anew +0$/m)
  const begun = done(await cli('encryption rotate --json')).json
  assert.ok(begun.data_keys.some((key: { state: string }) => key.state === 'retired'))
  const waited = await cli('encryption rotate --wait')
  assert.equal(waited.code, 0)
  assert.match(waited.err, /^Everything is sealed with the new keys \(\d+ rows\)\./)
  assert.match(waited.out, /^Rows to seal anew +0$/m)
  assert.equal((await site.proxied(site.servers[1], kept)).status, 200)

  const { json } = done(await cli('status --json'))
  assert.deepEqual([json.live, json.ready], [true, true])
  assert.match(json.version, /^\d+\.\d+\.\d+$/)
  assert.deepEqual(json.connections, { active: 1, degraded: 0, needs_reauth: 0, blocked_by_policy: 0, paused: 1 })
  assert.match(done(await cli('status')).out, /^Ready +yes\nactive +1$/m)
})

test('settings and webhooks', async t => {
  const [, cli] = await open(t)
  const received: string[] = []
  const receiver = createServer((req, res) => {
    received.push(req.headers['webhook-id'] as string)
    res.writeHead(received.length === 1 ? 410 : 204).end()
  })
  await new Promise<void>(resolve => receiver.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    receiver.closeAllConnections()
    await new Promise(resolve => receiver.close(resolve))
  })
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`
  fails(await cli('webhooks test'), 1, /\(webhook_url_missing\)/)
  assert.match(done(await cli('settings get')).out, /^webhook_url +–$/m)
  const changed = done(await cli(`settings set webhook_url=${url} on_connection_lifecycle=false`))
  assert.match(changed.out, /^shown once +\S{20,}$/m)
  const now = done(await cli('settings get --json')).json
  assert.deepEqual([now.webhook_url, now.on_connection_lifecycle, now.signing_keys.length], [url, false, 1])
  assert.equal('webhook_signing_key' in now, false)
  assert.doesNotMatch(done(await cli('settings get')).out, /shown once/)
  fails(await cli('settings set webhook_url'), 2, /write it as name=value/)
  fails(await cli('settings set nothing=1'), 1, /\(invalid_body\)/)

  assert.match(done(await cli('webhooks test')).out, /webhook\.test/)
  await until(() => received.length > 0)
  const first = async () => done(await cli('webhooks deliveries --event webhook.test --json')).json[0]
  await until(async () => (await first()).attempts > 0)
  const { id, event } = await first()
  assert.match(done(await cli(`webhooks replay ${id}`)).out, new RegExp(`^${id} +webhook.test`, 'm'))
  await until(async () => (await first()).state === 'delivered')
  assert.deepEqual(received, [event.id, event.id])
  assert.equal(done(await cli('webhooks replay --since 2026-01-01T00:00:00Z')).out, '0 on their way.\n')
  assert.equal(done(await cli('webhooks deliveries --state failed')).out, 'There are no deliveries.\n')
  fails(await cli('webhooks replay'), 2, /the id of a delivery, or --since/)
  fails(await cli('webhooks replay --since yesterday'), 1, /\(invalid_body\)/)
})

test('activity: listed, narrowed down, followed', async t => {
  const [site, cli] = await open(t)
  assert.equal(done(await cli('activity')).out, 'There were no calls.\n')
  const [id, other] = [await site.connect('ada'), await site.connect('grace')]
  const [first, second] = site.servers
  for (const [server, connection] of [
    [first, id],
    [second, id],
    [second, other],
  ] as const)
    assert.equal((await site.proxied(server, connection)).status, 200)
  const listed = async (args = '') => done(await cli(`activity list --json${args}`)).json
  await until(async () => (await listed()).length === 3)
  const lines = done(await cli(`activity --connection ${id}`))
    .out.trimEnd()
    .split('\n')
  assert.equal(lines.length, 3)
  assert.match(lines[0]!, /^ENDED +STATUS +METHOD +TOOK +INTEGRATION +CONNECTION +PATH$/)
  for (const line of lines.slice(1))
    assert.match(line, new RegExp(`200 +GET .* sf +${id} .*/services/data/v66.0/limits$`))
  assert.deepEqual([(await listed(' --status 5xx')).length, (await listed(' --integration none')).length], [0, 0])
  fails(await cli('activity --status fine'), 1, /\(invalid_query_params\)\n {2}status: /)

  const child = spawn(process.execPath, [bin, 'activity', '--follow', '--json', '--connection', other], {
    env: { PATH: process.env.PATH ?? '', FAIRLEAD_URL: first.url, FAIRLEAD_SECRET_KEY: first.key },
  })
  let out = ''
  child.stdout.setEncoding('utf8').on('data', text => {
    out += text
  })
  const printed = () => out.split('\n').filter(Boolean)
  await until(() => printed().length === 1)
  for (const server of [first, second, second]) await site.proxied(server, other)
  await site.proxied(first, id)
  await until(() => printed().length === 4)
  const shown = printed().map(line => JSON.parse(line))
  assert.equal(new Set(shown.map(call => call.id)).size, 4, 'each once')
  assert.ok(shown.every(call => call.connection_id === other))
  child.kill()
  await once(child, 'exit')
  assert.equal(printed().length, 4)
})

test('names of end users do not drive the terminal', async t => {
  const [site, cli] = await open(t)
  const id = await site.connect('ada')
  const hostile = 'A\u001b]0;owned\u0007da\u009b2J\u202e'
  await site.db.query(sql`
    update connection set end_user = ${JSON.stringify({ id: 'ada', display_name: hostile })}::jsonb, tags = ${JSON.stringify({ t: hostile })}::jsonb`)
  for (const args of ['connections list', `connections get ${id}`, `connections delete ${id}`]) {
    const { out, err } = await cli(args)
    assert.match(out + err, /A\\u001b\]0;owned\\u0007da\\u009b2J/)
    assert.doesNotMatch(out + err, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
  }
  assert.doesNotMatch(done(await cli('connections list --json')).out, /[\u007f-\u009f]/)
})
