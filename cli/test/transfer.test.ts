/** Taking an environment along: to a file and back, and over from an old server. Nothing is renewed that somebody else still owns. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSite } from '../../server/test/connection/support/site.ts'
import { simulatorOverlay } from '../../server/test/credential/support/room.ts'
import { startFairlead } from '../../server/test/support/fairlead.ts'
import { type Ran, run } from './support.ts'

type Test = { after(work: () => Promise<void>): void }
// biome-ignore lint/suspicious/noExplicitAny: the wire's own bodies
type Body = any

interface Peer {
  url: string
  asked: { method: string; url: URL; body: Body }[]
}

/** A server that speaks the wire; `answer` gets every request and says status and body. */
async function startPeer(
  t: Test,
  answer: (method: string, url: URL, body: Body) => [status: number, body: unknown, headers?: Record<string, string>],
): Promise<Peer> {
  const peer: Peer = { url: '', asked: [] }
  const server = createServer(async (req, res) => {
    let text = ''
    for await (const piece of req.setEncoding('utf8')) text += piece
    const url = new URL(req.url ?? '', 'http://peer')
    const body = text ? JSON.parse(text) : undefined
    peer.asked.push({ method: req.method ?? '', url, body })
    const [status, said, headers = {}] = answer(req.method ?? '', url, body)
    res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(said))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  peer.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  t.after(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  return peer
}

const secrets = ['old-client-secret', 'old-access', 'old-refresh', 'old-api-key']
const listed = (id: string, key: string, more: object = {}) => ({
  id: 7,
  connection_id: id,
  provider_config_key: key,
  provider: key,
  errors: [],
  end_user: null,
  tags: {},
  metadata: null,
  created: '2026-11-01T08:00:00.000+00:00',
  ...more,
})

/** The old server with its quirks: counts calls by the minute, leaves sentences out, cannot renew one of its connections. */
function oldServer() {
  const connections = [
    listed('ada', 'crm', {
      end_user: {
        id: 'ada',
        display_name: null,
        email: null,
        tags: null,
        organization: { id: 'acme', display_name: null },
      },
      tags: { end_user_id: 'ada', organization_id: 'acme' },
      metadata: { plan: 'gold' },
    }),
    listed('keyed/1', 'keys'),
    listed('dead', 'crm'),
    listed('bank', 'bills'),
  ]
  const credentials: Record<string, object> = {
    ada: {
      type: 'OAUTH2',
      access_token: 'old-access',
      refresh_token: 'old-refresh',
      expires_at: '2026-12-01T00:00:00.000Z',
      raw: { a: 1 },
    },
    'keyed/1': { type: 'API_KEY', apiKey: 'old-api-key' },
    bank: { type: 'BILL', username: 'u' },
  }
  let calls = 0
  const answer = (_method: string, url: URL): [number, unknown, Record<string, string>?] => {
    if (++calls === 2)
      return [429, { error: { code: 'too_many_request', method: 'GET', path: url.pathname } }, { 'retry-after': '0' }]
    if (url.pathname === '/integrations')
      return [
        200,
        {
          data: ['crm', 'keys', 'bills'].map(unique_key => ({
            unique_key,
            provider: unique_key,
            display_name: unique_key,
          })),
        },
      ]
    if (url.pathname.startsWith('/integrations/')) {
      const isOAuth = url.pathname.endsWith('/crm')
      const found = isOAuth
        ? { type: 'OAUTH2', client_id: 'old', client_secret: 'old-client-secret', scopes: null }
        : null
      return [
        200,
        {
          data: {
            unique_key: url.pathname.slice(14),
            provider: url.pathname.slice(14),
            display_name: 'x',
            credentials: found,
          },
        },
      ]
    }
    if (url.pathname === '/connections')
      return [200, { connections: url.searchParams.get('page') === '0' ? connections : [] }]
    const id = decodeURIComponent(url.pathname.slice('/connections/'.length))
    if (id === 'dead') return [424, { error: { code: 'invalid_credentials' } }]
    return [
      200,
      {
        ...connections.find(one => one.connection_id === id),
        connection_config: { instance_url: 'https://a.example' },
        credentials: credentials[id],
      },
    ]
  }
  return { answer, connections, credentials }
}

/** The new one, as far as an import needs it: what it was given is what it holds. */
function newServer() {
  const integrations = new Map<string, Body>()
  const connections = new Map<string, Body>()
  const answer = (method: string, url: URL, body: Body): [number, unknown] => {
    const [, noun = '', id = '', verb = ''] = url.pathname.split('/').map(decodeURIComponent)
    if (noun === 'integrations' && method === 'GET') {
      const found = integrations.get(id)
      return found ? [200, { data: found }] : [404, { error: { code: 'not_found', message: 'No.' } }]
    }
    if (noun === 'integrations') {
      integrations.set(body.unique_key ?? id, { ...integrations.get(id), ...body })
      return [200, { data: body }]
    }
    if (method === 'GET') return [200, { connections: [...connections.values()] }]
    if (verb) {
      connections.get(id).state = { name: verb === 'pause' ? 'paused' : 'active' }
      return [200, {}]
    }
    const state = { name: body.paused ? 'paused' : 'active' }
    connections.set(body.connection_id, { state, ...connections.get(body.connection_id), ...body })
    return [201, body]
  }
  return { answer, connections, integrations }
}

test('import nango: everything that can come along, held still, and taken over in the end', async t => {
  const there = oldServer()
  const here = newServer()
  const source = await startPeer(t, there.answer)
  const target = await startPeer(t, here.answer)
  const env = { FAIRLEAD_URL: target.url, FAIRLEAD_SECRET_KEY: 'new-key', NANGO_SECRET_KEY: 'old-key' }
  const cli = async (...more: string[]): Promise<Ran> => {
    const ran = await run(['import', 'nango', '--url', source.url, ...more], env)
    for (const secret of [...secrets, 'old-key', 'new-key']) assert.ok(!`${ran.out}${ran.err}`.includes(secret), secret)
    return ran
  }

  const dry = await cli('--dry-run')
  assert.match(dry.out, /^made {2}integration crm$/m)
  assert.match(dry.out, /^made {2}connection crm\/ada$/m)
  assert.match(dry.out, /^Nothing was changed\. It would be: 7 made,/m)
  assert.deepEqual(
    target.asked.filter(({ method }) => method !== 'GET'),
    [],
  )
  assert.deepEqual(
    source.asked.filter(({ url }) => url.pathname.startsWith('/connections/')),
    [],
    'reading may renew: not for a look',
  )

  const first = await cli()
  assert.equal(first.code, 1, 'some could not come along')
  assert.match(first.out, /^failed {2}connection crm\/dead: .*\(unreadable_there\)$/m)
  assert.match(first.out, /^failed {2}connection bills\/bank: Credentials of the kind BILL cannot/m)
  assert.match(first.out, /^5 made, 0 changed, 0 replaced, 0 left, 2 failed\.$/m)
  const ada = here.connections.get('ada')
  assert.deepEqual(ada.credentials, {
    type: 'OAUTH2',
    access_token: 'old-access',
    refresh_token: 'old-refresh',
    expires_at: '2026-12-01T00:00:00.000Z',
  })
  assert.deepEqual(
    [ada.tags, ada.metadata, ada.end_user],
    [{ end_user_id: 'ada', organization_id: 'acme' }, { plan: 'gold' }, { id: 'ada' }],
  )
  assert.deepEqual(ada.connection_config, { instance_url: 'https://a.example' })
  assert.equal(ada.state.name, 'paused', 'nothing here renews what the old server owns')
  assert.equal(here.connections.get('keyed/1').state.name, 'paused')
  assert.deepEqual(ada.organization, { id: 'acme' })
  const pauses = target.asked.filter(({ url }) => url.pathname.endsWith('/pause'))
  assert.deepEqual(pauses, [], 'paused from its first moment: whoever stops the program leaves none that is not')
  assert.deepEqual(here.integrations.get('crm').credentials, {
    type: 'OAUTH2',
    client_id: 'old',
    client_secret: 'old-client-secret',
  })
  for (const { url } of source.asked) assert.equal(url.searchParams.has('force_refresh'), false)

  const before = target.asked.length
  const second = await cli()
  assert.match(second.out, /^0 made, 0 changed, 0 replaced, 5 left, 2 failed\.$/m)
  assert.deepEqual(
    target.asked.slice(before).filter(({ method }) => method !== 'GET'),
    [],
    'twice is once',
  )

  // The old server renewed in the meantime.
  there.credentials.ada = { ...there.credentials.ada, access_token: 'old-access-2', refresh_token: 'old-refresh-2' }
  assert.equal((await cli('--cut-over')).code, 2, 'nobody to ask')
  const last = await cli('--cut-over', '--yes')
  assert.match(last.out, /2 replaced/)
  assert.equal(here.connections.get('ada').credentials.refresh_token, 'old-refresh-2')
  assert.equal(here.connections.get('ada').state.name, 'active')

  // Stopped and run again: what was taken over is not read there any more, which would present a token that is used up.
  const reads = () => source.asked.filter(({ url }) => /^\/connections\/(ada|keyed)/.test(url.pathname)).length
  const once = reads()
  for (const args of [['--cut-over', '--yes'], []]) assert.match((await cli(...args)).out, /0 replaced, 5 left/)
  assert.equal(reads(), once)
})

test('import nango --integration: one at a time, and one that is not there is said', async t => {
  const source = await startPeer(t, oldServer().answer)
  const here = newServer()
  const target = await startPeer(t, here.answer)
  const env = { FAIRLEAD_URL: target.url, FAIRLEAD_SECRET_KEY: 'new-key', NANGO_SECRET_KEY: 'old-key' }
  const cli = (...more: string[]) => run(['import', 'nango', '--url', source.url, ...more], env)
  const none = await cli('--integration', 'none')
  assert.equal(none.code, 2, none.out)
  assert.match(none.err, /There is no integration "none" at http/)
  const dry = await cli('--integration', 'keys', '--dry-run')
  assert.match(dry.out, /^made {2}integration keys$/m)
  assert.doesNotMatch(dry.out, /integration (crm|bills)/)
  const lists = source.asked.filter(({ url }) => url.pathname === '/connections')
  assert.ok(lists.length > 0 && lists.every(({ url }) => url.searchParams.get('integrationId') === 'keys'))
})

test('import nango from another Fairlead: held while the old one renews, then taken over with its newest tokens', async t => {
  const site = await openSite(t)
  const [there] = site.servers
  const id = await site.connect('ada')
  const here = await startFairlead(t, { providers: simulatorOverlay(site.simulator) })
  const env = { FAIRLEAD_URL: here.url, FAIRLEAD_SECRET_KEY: here.key, NANGO_SECRET_KEY: there.key }
  const cli = (...more: string[]) => run(['import', 'nango', '--url', there.url, ...more], env)
  const at = `/connections/${id}?provider_config_key=sf`

  const first = await cli()
  assert.equal(first.code, 0, first.err)
  assert.match(first.out, /^2 made, 0 changed, 0 replaced, 0 left, 0 failed\.$/m)
  assert.equal((await here.call('GET', '/connections')).json.connections[0].state.name, 'paused')
  assert.equal((await site.proxied(here, id)).status, 423, 'nothing here uses what the other still owns')

  // The old server renews, and with rotation the token that came along is used up.
  const renewed = await there.call('GET', `${at}&force_refresh=true&refresh_token=true`)
  assert.equal(renewed.status, 200, renewed.text)
  const last = await cli('--cut-over', '--yes')
  assert.equal(last.code, 0, last.err)
  assert.match(last.out, /^0 made, 0 changed, 1 replaced, 1 left, 0 failed\.$/m)
  const read = await here.call('GET', `${at}&refresh_token=true`)
  assert.equal(read.json.credentials.refresh_token, renewed.json.credentials.refresh_token)
  assert.equal((await site.proxied(here, id)).status, 200)
  const own = await here.call('GET', `${at}&force_refresh=true&refresh_token=true`)
  assert.equal(own.status, 200, own.text)
  assert.notEqual(own.json.credentials.refresh_token, renewed.json.credentials.refresh_token)
  assert.equal((await site.proxied(here, id)).status, 200, 'the grant lives: no token was presented twice')

  // Once more leaves it alone: its newest tokens are here.
  const late = await cli('--cut-over', '--yes')
  assert.equal(late.code, 0, late.out)
  assert.match(late.out, /^0 made, 0 changed, 0 replaced, 2 left, 0 failed\.$/m)
  assert.equal((await site.proxied(here, id)).status, 200)
})

test('shadow: the same connection at two servers, field by field, and no token shown', async t => {
  const site = await openSite(t)
  const [here, there] = site.servers
  const id = await site.connect('ada')
  const env = { FAIRLEAD_URL: here.url, FAIRLEAD_SECRET_KEY: here.key, NANGO_SECRET_KEY: there.key }
  const same = await run(['shadow', '--url', there.url], env)
  assert.deepEqual([same.code, same.out], [0, '1 connections, no difference.\n'], same.err)
  assert.match(same.err, /Of 1 connections only what lists show was compared: they are renewed here/)

  // An old server that says other things of it.
  const read = (await there.call('GET', `/connections/${id}?provider_config_key=sf&refresh_token=true`)).json
  const other = {
    ...read,
    tags: { ...read.tags, plan: 'gold' },
    connection_config: { ...read.connection_config, instance_url: 'https://elsewhere.example' },
    credentials: { ...read.credentials, access_token: 'another-token' },
  }
  const { connection_config: _, credentials: __, ...inList } = other
  const source = await startPeer(t, (_method, url) => [
    200,
    url.pathname === '/connections' ? { connections: [inList, { ...inList, connection_id: 'gone' }] } : other,
  ])
  // Renewed here: the other server is not asked for it, because it would renew with a token that is used up.
  await run(['shadow', '--url', source.url], env)
  const reads = () => source.asked.filter(({ url }) => url.pathname.startsWith('/connections/')).length
  assert.equal(reads(), 0)
  // Held here, and still that server's own.
  await here.call('POST', `/connections/${id}/pause?provider_config_key=sf`)
  const ran = await run(['shadow', '--url', source.url, '--json'], env)
  assert.equal(ran.code, 1)
  assert.equal(reads(), 1)
  const fields = ran.json.differences.map(
    (one: { connection: string; field: string }) => `${one.connection} ${one.field}`,
  )
  assert.deepEqual(fields.sort(), [`sf/${id} connection_config.instance_url`, `sf/${id} tags.plan`, 'sf/gone '])
  for (const secret of ['another-token', read.credentials.access_token, read.credentials.refresh_token])
    assert.ok(!ran.out.includes(secret))
})

test('export and import: twice is once, and secrets come along only sealed', async t => {
  const site = await openSite(t)
  const [server] = site.servers
  const id = await site.connect('ada')
  await server.call('POST', '/connections/metadata', {
    connection_id: id,
    provider_config_key: 'sf',
    metadata: { plan: 'gold' },
  })
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-export-'))
  t.after(() => rm(folder, { recursive: true }))
  const [plain, sealed, passphrase] = ['plain.json', 'sealed.json', 'passphrase'].map(name => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await writeFile(passphrase, 'a long and quiet sentence\n')
  const env = { FAIRLEAD_URL: server.url, FAIRLEAD_SECRET_KEY: server.key }

  assert.match(
    (await run(['export', plain], env)).out,
    /^1 integrations and 1 connections are in .*, without any secret\.$/m,
  )
  assert.equal((await run(['export', sealed, '--secrets'], env)).code, 2, 'a passphrase is asked for')
  assert.match(
    (await run(['export', sealed, '--secrets', '--passphrase-file', passphrase], env)).out,
    /with their secrets sealed/,
  )
  const read = (await server.call('GET', `/connections/${id}?provider_config_key=sf&refresh_token=true`)).json
  const kept = (await server.call('GET', '/integrations/sf?include=credentials')).json.data.credentials
  for (const file of [plain, sealed]) {
    const text = await readFile(file, 'utf8')
    for (const secret of [read.credentials.access_token, read.credentials.refresh_token, kept.client_secret])
      assert.ok(!text.includes(secret))
    assert.equal((await stat(file)).mode & 0o777, 0o600)
  }

  // Where it came from: nothing to do. Tags that were lost come back.
  assert.match((await run(['import', plain], env)).out, /^0 made, 0 changed, 0 replaced, 2 left, 0 failed\.$/m)
  await server.call('POST', '/connections/metadata', {
    connection_id: id,
    provider_config_key: 'sf',
    metadata: { plan: 'none' },
  })
  assert.match((await run(['import', plain], env)).out, /^0 made, 1 changed/m)
  assert.deepEqual((await server.call('GET', `/connections/${id}?provider_config_key=sf`)).json.metadata, {
    plan: 'gold',
  })

  const empty = await startFairlead(t)
  const there = { FAIRLEAD_URL: empty.url, FAIRLEAD_SECRET_KEY: empty.key }
  const dry = await run(['import', sealed, '--passphrase-file', passphrase, '--dry-run'], there)
  assert.match(dry.out, /^Nothing was changed\. It would be: 2 made/m)
  assert.deepEqual((await empty.call('GET', '/integrations')).json.data, [])
  await run(['import', sealed, '--passphrase-file', passphrase], there)
  assert.equal(
    (await empty.call('GET', '/integrations/sf?include=credentials')).json.data.credentials.client_secret,
    kept.client_secret,
  )

  await writeFile(passphrase, 'another one')
  const wrong = await run(['import', sealed, '--passphrase-file', passphrase], there)
  assert.deepEqual([wrong.code, wrong.out], [2, ''])
  assert.match(wrong.err, /do not open/)
  assert.equal((await run(['import', passphrase], there)).code, 2)
})

test('proxy, keys, doctor', async t => {
  const site = await openSite(t)
  const [server] = site.servers
  const id = await site.connect('ada')
  const env = { FAIRLEAD_URL: server.url, FAIRLEAD_SECRET_KEY: server.key }
  const cli = (args: string[], input = '') => run(args, env, input)
  const query = await cli([
    'proxy',
    'get',
    `sf/${id}`,
    '/services/data/v66.0/query?q=SELECT+Name+FROM+Account',
    '-H',
    'Accept: application/json',
  ])
  assert.equal(query.code, 0, query.err)
  assert.ok(query.json.records.length > 0)
  const sobject = '/services/data/v66.0/sobjects/Account'
  const made = await cli(['proxy', 'POST', `sf/${id}`, sobject, '-d', '@-'], '{"Name":"From the terminal"}')
  assert.equal(made.json.success, true, made.out + made.err)
  const refused = await cli(['proxy', 'POST', `sf/${id}`, sobject, '-d', '{}'])
  assert.equal(refused.code, 1)
  assert.match(refused.err, /^The provider answered 400/)
  assert.match(refused.out, /REQUIRED_FIELD_MISSING/)
  const ours = await cli(['proxy', 'GET', 'sf/nobody', '/x'])
  assert.deepEqual([ours.code, ours.out], [1, ''])
  assert.match(ours.err, /\(unknown_connection\)|\(not_found\)/)
  for (const args of [
    ['proxy', 'GET', 'sf', '/x'],
    ['proxy', 'GET', `sf/${id}`, '/x', '-H', 'nonsense'],
  ])
    assert.equal((await cli(args)).code, 2)

  const key = await cli(['keys', 'create', 'export job', '--scopes', 'environment:connections:list'])
  assert.match(key.out, /^[0-9a-f-]{36}\n$/)
  const asKey = (args: string[]) => run(args, { ...env, FAIRLEAD_SECRET_KEY: key.out.trim() })
  assert.equal((await asKey(['connections', 'list'])).code, 0)
  assert.match((await asKey(['keys', 'list'])).err, /\(forbidden\)/)
  const known = (await cli(['keys', 'list', '--json'])).json.find(
    (one: { display_name: string }) => one.display_name === 'export job',
  )
  assert.ok(!(await cli(['keys', 'list'])).out.includes(key.out.trim()))
  assert.equal((await cli(['keys', 'delete', String(known.id)])).code, 2, 'asked first')
  assert.equal((await cli(['keys', 'delete', String(known.id), '--yes'])).out, 'Ended.\n')
  assert.equal((await asKey(['connections', 'list'])).code, 1)
})
