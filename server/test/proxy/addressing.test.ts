/** Which connection a call is for, and where it goes: by headers, by path, and what must never leave the base URL. */
import assert from 'node:assert/strict'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import pg from 'pg'
import { clientConfig } from '../../src/db/open.ts'
import { Browser, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { naming, raw, send, startWorld, type World } from './world.ts'

let world: World
let id: string
let deep: string
const file = lastFirst({ after: whenDone })

before(async () => {
  world = await startWorld(file)
  id = await world.connect()
  deep = await world.connect('own', `${world.upstream.url}/base/v1`)
})
beforeEach(() => {
  world.upstream.arrived.length = 0
  world.upstream.answer = (_req, res) => void res.end('ok')
})

const call = (path: string, headers: Record<string, string> = {}, method = 'GET', body?: string) =>
  send(world.fairlead.url, {
    method,
    path,
    headers: { ...headers, ...(body !== undefined && { 'Content-Length': String(Buffer.byteLength(body)) }) },
    ...(body !== undefined && { body }),
  })
const byHeaders = (path: string, connection = id, method = 'GET', body?: string) =>
  call(`/proxy/${path}`, naming(world, connection), method, body)
const byPath = (path: string, connection = id) =>
  call(`/via/own/${connection}${path}`, { Authorization: `Bearer ${world.fairlead.key}` })

describe('the path and the query arrive as they were written', () => {
  const rests = [
    '',
    'a',
    'a/b/',
    'a//b',
    'a%2Fb',
    'a%2fb%20c',
    '%C3%A9/%E2%82%AC',
    "~-._!$&'()*+,;=:@",
    'a/..b/.c/d..',
    'documents:search',
    'v1:batch/x:y',
    'sites/https%3A%2F%2Fexample.com%2F/x',
    '100%25/%2525',
    'a?',
    '?',
    '?x=1',
    'a?b=1&a=2&b=1',
    'a?q=SELECT+Id%20FROM%20A%2CB&empty=&bare&=&&',
    'a?x=1?y=2??',
    'a?next=../../b&url=https://example.com/%2e%2e/#x'.replace('#', '%23'),
    'a?%zz',
  ]
  for (const rest of rests)
    test(rest || '(nothing)', async () => {
      assert.equal((await byHeaders(rest)).status, 200)
      assert.equal((await byHeaders(rest, deep)).status, 200)
      const below = rest.startsWith('?') ? [`/${rest}`, rest] : [`/${rest}`]
      for (const form of below) assert.equal((await byPath(form)).status, 200)
      const urls = world.upstream.arrived.map(one => one.url)
      assert.deepEqual(urls, [`/${rest}`, `/base/v1/${rest}`, ...below.map(() => `/${rest}`)])
    })
})

test('a full URL below the base URL is its path', async () => {
  const base = `${world.upstream.url}/base/v1`
  for (const rest of [base, `${base}/x?y=http://a`, `${base}?x`])
    assert.equal((await byHeaders(rest, deep)).status, 200)
  assert.equal((await byPath(`/${base}/x`, deep)).status, 200)
  assert.deepEqual(
    world.upstream.arrived.map(one => one.url),
    ['/base/v1/', '/base/v1/x?y=http://a', '/base/v1/?x', '/base/v1/x'],
  )
})

test('a base URL with a slash at its end, joined by an SDK with one more, is the same', async () => {
  for (const connection of [id, deep]) {
    assert.equal((await byPath('//evil.example/x?y=//z', connection)).status, 200)
    assert.equal((await byPath('//', connection)).status, 200)
    for (const path of ['//../x', '//%2e%2e/x', '///x', '//http://evil.example/']) {
      const got = await byPath(path, connection)
      assert.match(got.ours ?? '', /^proxy_path_/, path)
    }
    assert.equal((await byHeaders('/evil.example/x', connection)).ours, 'proxy_path_malformed')
  }
  assert.deepEqual(
    world.upstream.arrived.map(one => one.url),
    ['/evil.example/x?y=//z', '/', '/base/v1/evil.example/x?y=//z', '/base/v1/'],
  )
})

describe('a path that could leave the base URL is refused, and nothing is sent', () => {
  const malformed = 'proxy_path_malformed'
  const traversal = 'proxy_path_traversal'
  const absolute = 'proxy_path_absolute'
  const rows: [string, string][] = [
    ['..', traversal],
    ['../x', traversal],
    ['a/../../x', traversal],
    ['a/./b', traversal],
    ['a/..?x', traversal],
    ['%2e%2e/x', traversal],
    ['.%2E/x', traversal],
    ['a/%2e', traversal],
    ['a%2f..%2fb', traversal],
    ['%252e%252e/x', traversal],
    ['%252e%252e/%25', traversal],
    ['%25252e%25252e%25252fx', traversal],
    ['..;/x', traversal],
    ['..;a=1/x', traversal],
    ['%2e%2e%3b/x', traversal],
    ['..%253Bx', traversal],
    ['//evil.example/x', malformed],
    ['//', malformed],
    ['a\\b', malformed],
    ['..\\x', malformed],
    ['a%5cb', malformed],
    ['a%255Cb', malformed],
    ['a%00b', malformed],
    ['a%0d%0aHost:x', malformed],
    ['a%250ab', malformed],
    ['a%7f', malformed],
    ['a%C2%85', malformed],
    ['%C0%AE%C0%AE/x', malformed],
    ['%zz', malformed],
    ['a%', malformed],
    ['a#b', malformed],
    ['http://evil.example/x', absolute],
    ['https://evil.example', absolute],
    ['https:/evil.example', absolute],
    ['HTTP://evil.example/', absolute],
    ['file:///etc/passwd', absolute],
  ]
  for (const [rest, code] of rows)
    test(rest, async () => {
      for (const connection of [id, deep])
        for (const got of [await byHeaders(rest, connection), await byPath(`/${rest}`, connection)]) {
          assert.equal(got.status, 400)
          assert.equal(got.ours, code)
          assert.equal(got.json.error.code, code)
        }
      assert.deepEqual(world.upstream.arrived, [])
    })

  test('another host, a look-alike of ours or user information in front of one', async () => {
    const { host, port } = new URL(world.upstream.url)
    for (const rest of [
      `http://${host}.evil.example/x`,
      `http://${host}@evil.example/x`,
      `http://${host}\\@evil.example`,
      `http://127.0.0.1:${Number(port) + 1}/x`,
      `https://${host}/x`,
    ])
      assert.equal((await byHeaders(rest)).ours, 'proxy_path_absolute', rest)
    assert.equal((await byHeaders(`${world.upstream.url}/base/v1x/y`, deep)).ours, 'proxy_path_absolute')
    assert.equal((await byHeaders(`${world.upstream.url}/base/v1/../x`, deep)).ours, 'proxy_path_traversal')
    assert.deepEqual(world.upstream.arrived, [])
  })
})

test('every method goes through, with its body', async () => {
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND', 'QUERY']) {
    const got = await byHeaders('x', id, method, `body of ${method}`)
    assert.equal(got.status, 200, method)
    const arrived = world.upstream.arrived.pop()!
    assert.equal(arrived.method, method)
    assert.equal(arrived.body.toString(), `body of ${method}`)
    assert.equal(arrived.headers['transfer-encoding'], undefined)
  }
})

test('without a body none is made up', async () => {
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'DELETE']) {
    await byHeaders('x', id, method)
    const { headers } = world.upstream.arrived.pop()!
    assert.equal(headers['content-length'] ?? headers['transfer-encoding'], undefined, method)
  }
})

test('by path, ids are percent-decoded and the key is where a vendor SDK puts its secret', async () => {
  const { key } = world.fairlead
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
  const accepted: Record<string, string>[] = [
    { Authorization: `Bearer ${key}` },
    { authorization: `bearer  ${key}` },
    // Vendors with a word of their own for it: GitHub, Salesforce, Discord, PagerDuty; without any: Linear.
    { Authorization: `token ${key}` },
    { Authorization: `OAuth ${key}` },
    { Authorization: `Bot ${key}` },
    { Authorization: `Token token=${key}` },
    { Authorization: key },
    { Authorization: basic(key) },
    { Authorization: basic(`${key}:`) },
    { Authorization: basic(`${key}:x-oauth-basic`) },
    { Authorization: basic(`:${key}`) },
    { Authorization: basic(`a.person.with.a.long.address@a.company.with.a.long.name.example:${key}`) },
    { 'X-Api-Key': key },
  ]
  const encoded = [...id].map(char => `%${char.charCodeAt(0).toString(16)}`).join('')
  for (const headers of accepted) {
    assert.equal((await call(`/via/%6Fwn/${encoded}/x`, headers)).status, 200, JSON.stringify(headers))
    const arrived = world.upstream.arrived.pop()!
    assert.equal(arrived.headers.authorization, 'Bearer token-0')
    assert.equal(JSON.stringify(arrived.rawHeaders).includes(key), false)
  }
  const refused: [Record<string, string>, string][] = [
    [{}, 'missing_auth_header'],
    [{ Authorization: `Digest username="${key}", realm="x"` }, 'malformed_auth_header'],
    [{ Authorization: `token ${key} ${key}` }, 'malformed_auth_header'],
    [{ Authorization: 'Bearer nothing' }, 'invalid_secret_key_format'],
    [{ Authorization: basic('x:') }, 'invalid_secret_key_format'],
    [{ 'X-Api-Key': crypto.randomUUID() }, 'unknown_account'],
    // The standard header decides; a second secret is not a second chance.
    [{ Authorization: `Bearer ${crypto.randomUUID()}`, 'X-Api-Key': key }, 'unknown_account'],
  ]
  for (const [headers, code] of refused) {
    const got = await call(`/via/own/${id}/x`, headers)
    assert.deepEqual([got.status, got.ours], [401, code])
  }
  assert.deepEqual(world.upstream.arrived, [])
})

describe('addresses of the provider in Link, Location and Content-Location', () => {
  const answered = async (headers: Record<string, string | string[]>, call: () => ReturnType<typeof byPath>) => {
    world.upstream.answer = (_req, res) => void res.writeHead(201, headers).end()
    return (await call()).headers
  }

  test('by path they lead back here, because an SDK follows them with our key', async () => {
    const { url } = world.upstream
    for (const [connection, own] of [
      [id, url],
      [deep, `${url}/base/v1`],
    ] as const) {
      const here = `${world.fairlead.url}/via/own/${connection}`
      const got = await answered(
        {
          Location: `${own}/a/b%2Fc?d=/../e#f`,
          'Content-Location': `${own}`,
          Link: [
            `<${own}/items?page=2>; rel="next", <${own}?page=9>; rel="last"`,
            `<https://docs.example/x>; rel="help"; title="<${own}/y"`,
          ],
        },
        () => byPath('/x', connection),
      )
      assert.equal(got.location, `${here}/a/b%2Fc?d=/../e#f`)
      assert.equal(got['content-location'], here)
      assert.equal(
        got.link,
        `<${here}/items?page=2>; rel="next", <${here}?page=9>; rel="last", <https://docs.example/x>; rel="help"; title="<${own}/y"`,
      )
    }
  })

  test('a path is taken against this server by who follows it, so it is rewritten, too', async () => {
    const got = await answered({ Location: '/base/v1/jobs/7', Link: '</base/v1/x?page=2>; rel="next"' }, () =>
      byPath('/x', deep),
    )
    assert.equal(got.location, `/via/own/${deep}/jobs/7`)
    assert.equal(got.link, `</via/own/${deep}/x?page=2>; rel="next"`)
  })

  test('ids stay as the caller wrote them, and so does the host it calls', async () => {
    world.upstream.answer = (_req, res) => void res.writeHead(302, { Location: `${world.upstream.url}/y` }).end()
    const { port } = new URL(world.fairlead.url)
    const answer = await raw(
      world.fairlead.url,
      `GET /via/%6Fwn/${id}?z HTTP/1.1\r\nAuthorization: Bearer ${world.fairlead.key}\r\nHost: fairlead.internal:${port}\r\nConnection: close\r\n\r\n`,
    )
    assert.match(
      answer,
      new RegExp(`^HTTP/1.1 302 .*location: http://fairlead.internal:${port}/via/%6Fwn/${id}/y\r\n`, 'is'),
    )
  })

  test('what lies outside, and what could lead out of the connection, comes as it was written', async () => {
    const { url, port } = world.upstream
    const { host } = new URL(url)
    for (const address of [
      'https://elsewhere.example/x',
      `https://${host}/base/v1/x`,
      `http://127.0.0.1:${port}0/base/v1/x`,
      `${url}/base/v10`,
      `${url}/base`,
      `http://user@${host}/base/v1/x`,
      `http://${host}\\@evil.example/base/v1/x`,
      `//${host}/base/v1/x`,
      '/base/v10/x',
      'x/y',
      '?page=2',
      // A client resolves these before it calls: the first would be another connection's.
      `${url}/base/v1/../../../own/${id}/x`,
      `${url}/base/v1/%2e%2e/x`,
      `${url}/base/v1/..\\..\\x`,
      `${url}/base/v1//evil.example/x`,
      '/base/v1/..',
    ]) {
      const got = await answered({ Location: address, Link: `<${address}>; rel="next"` }, () => byPath('/x', deep))
      assert.equal(got.location, address)
      assert.equal(got.link, `<${address}>; rel="next"`)
    }
  })

  test('by headers the caller knows of the provider, and reads what it wrote', async () => {
    const own = `${world.upstream.url}/base/v1/x`
    const got = await answered({ Location: own, Link: `<${own}>; rel="next"` }, () => byHeaders('x', deep))
    assert.deepEqual([got.location, got.link], [own, `<${own}>; rel="next"`])
  })

  test('behind TLS they name FAIRLEAD_URL, never a host in clear text', async () => {
    const publicUrl = 'https://fairlead.example'
    const secure = await startFairlead(file, { providers: world.providers, env: { FAIRLEAD_URL: publicUrl } })
    await secure.call('POST', '/integrations', {
      provider: 'own',
      unique_key: 'own',
      credentials: { type: 'OAUTH2', client_id: 'id', client_secret: 'secret' },
    })
    world.issuer.instanceUrl = world.upstream.url
    const session = await secure.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    const browser = new Browser()
    let at: string | undefined = `${secure.url}/oauth/connect/own?connect_session_token=${session.json.data.token}`
    while (at) at = (await browser.open(at)).location?.replace(publicUrl, secure.url)
    const { connections } = (await secure.call('GET', '/connections')).json
    const path = `/via/own/${connections[0].connection_id}`
    const got = await answered({ Location: `${world.upstream.url}/y` }, () =>
      send(secure.url, { path: `${path}/x`, headers: { Authorization: `Bearer ${secure.key}` } }),
    )
    assert.equal(got.location, `${publicUrl}${path}/y`)
  })
})

test('what does not name a connection is refused with a code, and nothing is sent', async () => {
  const auth = { Authorization: `Bearer ${world.fairlead.key}` }
  const rows: [string, Record<string, string>, number, string][] = [
    ['/proxy/x', {}, 401, 'missing_auth_header'],
    ['/proxy/x', auth, 400, 'invalid_headers'],
    ['/proxy/x', { ...auth, 'Connection-Id': id }, 400, 'invalid_headers'],
    ['/proxy/x', { ...auth, 'Provider-Config-Key': 'own' }, 400, 'invalid_headers'],
    ['/proxy/x', naming(world, 'nobody'), 400, 'unknown_connection'],
    ['/proxy/x', naming(world, id, 'own-extra'), 400, 'unknown_connection'],
    ['/proxy/x', naming(world, id, 'nothing'), 404, 'unknown_provider_config'],
    ['/via/own', auth, 400, 'invalid_uri_params'],
    ['/via/own/', auth, 400, 'invalid_uri_params'],
    ['/via/own//x', auth, 400, 'invalid_uri_params'],
    [`/via//${id}/x`, auth, 400, 'invalid_uri_params'],
    ['/via/own/%zz/x', auth, 400, 'invalid_uri_params'],
    ['/via/own/a%00b/x', auth, 400, 'invalid_uri_params'],
    [`/via/own%0A/${id}/x`, auth, 400, 'invalid_uri_params'],
    ['/via/own/nobody/x', auth, 400, 'unknown_connection'],
    [`/via/nothing/${id}/x`, auth, 404, 'unknown_provider_config'],
  ]
  for (const [path, headers, status, code] of rows) {
    const got = await call(path, headers)
    assert.deepEqual([got.status, got.ours, got.json.error.code], [status, code, code], path)
    assert.equal(typeof got.json.error.message, 'string')
  }
  const { errors } = (await call('/proxy/x', auth)).json.error
  assert.deepEqual(
    errors.map((issue: { path: string[] }) => issue.path),
    [['provider-config-key'], ['connection-id']],
  )
  assert.deepEqual(world.upstream.arrived, [])
})

test('Base-Url-Override: empty is nothing, anything else is refused', async () => {
  const headers = naming(world, id)
  assert.equal((await call('/proxy/x', { ...headers, 'Base-Url-Override': '' })).status, 200)
  assert.equal(world.upstream.arrived.pop()!.headers['base-url-override'], undefined)
  for (const value of [world.upstream.url, 'https://evil.example', 'x']) {
    const got = await call('/proxy/x', { ...headers, 'Base-Url-Override': value })
    assert.deepEqual([got.status, got.ours], [400, 'base_url_override_disabled'])
  }
  assert.deepEqual(world.upstream.arrived, [])
})

test('a key without the scope environment:proxy is refused before anything is looked up', async () => {
  const { url, key, databaseUrl } = await startFairlead(file)
  const client = new pg.Client(clientConfig({ url: databaseUrl }))
  await client.connect()
  await client.query(`update api_key set scopes = '{environment:connections:*}'`)
  await client.end()
  const headers = { Authorization: `Bearer ${key}`, 'Provider-Config-Key': 'own', 'Connection-Id': id }
  for (const path of ['/proxy/x', `/via/own/${id}/x`]) {
    const got = await send(url, { path, headers })
    assert.deepEqual([got.status, got.ours], [403, 'forbidden'])
  }
})

test("a definition's headers and query are added; what the caller forces by prefix wins", async () => {
  const extra = await world.connect('own-extra')
  const headers = naming(world, extra, 'own-extra')
  await call('/proxy/a', headers)
  await call('/proxy/a?', headers)
  await call('/proxy/a?b=1', { ...headers, 'X-Set': 'caller', X_Set: 'twin', 'Nango-Proxy-X-Where': 'forced' })
  const [plain, bare, both] = world.upstream.arrived
  assert.deepEqual(
    [plain!.url, bare!.url, both!.url],
    ['/a?api-version=7%20%26%208', '/a?api-version=7%20%26%208', '/a?b=1&api-version=7%20%26%208'],
  )
  assert.equal(plain!.headers['x-set'], 'by provider')
  assert.equal(plain!.headers['x-where'], world.upstream.url)
  assert.equal(plain!.headers['x-unknown'], undefined)
  assert.equal(both!.headers['x-set'], 'by provider')
  assert.equal(both!.headers.x_set, undefined)
  assert.equal(both!.headers['x-where'], 'forced')
})
