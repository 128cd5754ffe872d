/** What clients of the wire contract ask of /proxy beside the call itself: another base, facts in the path, plain answers, redirects. */
import assert from 'node:assert/strict'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { lastFirst } from '../support/last-first.ts'
import { type Got, naming, send, startUpstream, startWorld, type Upstream, type World } from './world.ts'

const more = `
own-body:
  alias: own
  proxy:
    base_url: \${connectionConfig.instance_url}
    body:
      version: 7
      account:
        at: ['\${connectionConfig.instance_url}', '\${connectionConfig.nothing}']
      gone: \${connectionConfig.nothing}
own-either:
  alias: own
  proxy:
    base_url: \${connectionConfig.nothing}/v1 || \${connectionConfig.instance_url}/v2
own-obliging:
  alias: own
  proxy:
    base_url: \${connectionConfig.instance_url}
    decompress: true
    forward_headers_on_redirect: true
`

let world: World
let other: Upstream
const ids: Record<string, string> = {}
const file = lastFirst({ after: whenDone })

before(async () => {
  world = await startWorld(file, more)
  other = await startUpstream(file)
  const credentials = { type: 'OAUTH2', client_id: 'id', client_secret: 'secret' }
  for (const name of ['own-body', 'own-either', 'own-obliging'])
    await world.fairlead.call('POST', '/integrations', { provider: name, unique_key: name, credentials })
  for (const name of ['own', 'own-body', 'own-either', 'own-obliging'])
    ids[name] = await world.connect(name, `${world.upstream.url}/base`)
})
beforeEach(async () => {
  for (const upstream of [world.upstream, other]) {
    upstream.arrived.length = 0
    upstream.answer = (_req, res) => void res.end('ok')
  }
  await allow([])
})

const allow = (hosts: string[]) => world.fairlead.call('PATCH', '/integrations/own', { base_url_hosts: hosts })

const call = (
  path: string,
  headers: Record<string, string> = {},
  { integration = 'own', method = 'GET', body }: { integration?: string; method?: string; body?: string | Buffer } = {},
): Promise<Got> =>
  send(world.fairlead.url, {
    method,
    path: `/proxy/${path}`,
    headers: {
      ...naming(world, ids[integration]!, integration),
      ...(body !== undefined && { 'Content-Length': String(Buffer.byteLength(body)) }),
      ...headers,
    },
    ...(body !== undefined && { body }),
  })

const arrivedAt = ({ arrived }: Upstream) => arrived.map(({ method, url }) => `${method} ${url}`)

describe('Base-Url-Override', () => {
  test('is off until the integration names hosts, and then leads to those alone', async () => {
    const { host } = new URL(other.url)
    const to = (override: string) => call('x?y=1', { 'Base-Url-Override': override })
    assert.equal((await to(other.url)).ours, 'base_url_override_disabled')
    await allow([host, 'api.example'])
    for (const base of [other.url, `${other.url}/`, `${other.url}/deep/v1/`])
      assert.equal((await to(base)).status, 200, base)
    assert.deepEqual(arrivedAt(other), ['GET /x?y=1', 'GET /x?y=1', 'GET /deep/v1/x?y=1'])
    assert.equal(other.arrived[0]!.headers.authorization, 'Bearer token-0')
    assert.equal(other.arrived[0]!.headers['base-url-override'], undefined)

    for (const refused of [
      world.upstream.url,
      host,
      `//${host}/`,
      `ftp://${host}/`,
      `http://user@${host}/`,
      `http://${host}\\@evil.example/`,
      `http://${host}@evil.example/`,
      `http://${host}.evil.example/`,
      `http://evil.example/${host}`,
      `${other.url}/?q=`,
      `${other.url}/#`,
      `http://127.0.0.1:${other.port + 1}/`,
      'http://127.0.0.1/',
      'https://sub.api.example/',
      'https://api.example:8443/',
    ]) {
      const got = await to(refused)
      assert.deepEqual([got.status, got.ours], [400, 'base_url_override_not_allowed'], refused)
    }
    // On the list, and still not beyond the egress policy: clear text, and an address nobody opened.
    for (const [base, hosts] of [
      ['http://api.example/', ['api.example']],
      ['https://10.0.0.1/', ['10.0.0.1']],
    ] as const) {
      await allow([...hosts])
      assert.equal((await to(base)).ours, 'egress_refused', base)
    }
    assert.equal(other.arrived.length, 3)
    assert.deepEqual(world.upstream.arrived, [])
  })

  test('keeps every rule about paths', async () => {
    await allow([new URL(other.url).host])
    const to = (path: string) => call(path, { 'Base-Url-Override': `${other.url}/deep` })
    assert.equal((await to('../x')).ours, 'proxy_path_traversal')
    assert.equal((await to('/evil.example')).ours, 'proxy_path_malformed')
    assert.equal((await to(`${world.upstream.url}/base/x`)).ours, 'proxy_path_absolute')
    assert.equal((await to(`${other.url}/deep/x`)).status, 200)
    assert.deepEqual(arrivedAt(other), ['GET /deep/x'])
  })

  test('is the wire contract’s: by path there is none', async () => {
    await allow([new URL(other.url).host])
    const got = await send(world.fairlead.url, {
      path: `/via/own/${ids.own}/x`,
      headers: { Authorization: `Bearer ${world.fairlead.key}`, 'Base-Url-Override': other.url },
    })
    assert.equal(got.status, 200)
    assert.deepEqual([arrivedAt(world.upstream), arrivedAt(other)], [['GET /base/x'], []])
  })

  test('hosts are exact, and part of what an integration says of itself', async () => {
    for (const host of [
      '*.example.com',
      'https://a.example',
      'A.example',
      'a.example/x',
      'a.example:',
      '',
      'a b',
      '.a',
      'a@b',
    ])
      assert.equal((await allow([host])).json.error?.code, 'invalid_body', host)
    const hosts = ['api.example', 'api.example:8443', '[2001:db8::1]:8443', '127.0.0.1:9000', 'xn--bcher-kva.example']
    assert.deepEqual((await allow(hosts)).json.data.base_url_hosts, hosts)
    assert.equal((await world.fairlead.call('PATCH', '/integrations/own', { display_name: 'Own' })).status, 200)
    assert.deepEqual((await world.fairlead.call('GET', '/integrations/own')).json.data.base_url_hosts, hosts)
  })
})

test('`A || B` takes the first base URL whose facts are known', async () => {
  assert.equal((await call('x', {}, { integration: 'own-either' })).status, 200)
  assert.deepEqual(arrivedAt(world.upstream), ['GET /base/v2/x'])
})

test('${connectionConfig.x} in the path stands for the fact, and never for anything else', async () => {
  const url = `${world.upstream.url}/base`
  const encoded = encodeURIComponent(url)
  const rows: [string, string][] = [
    ['a/${connectionConfig.instance_url}/b', `/base/a/${encoded}/b`],
    ['a/$%7BconnectionConfig.instance_url%7D/b', `/base/a/${encoded}/b`],
    ['a?at=${connectionConfig.instance_url}&x', `/base/a?at=${encoded}&x`],
    ['${connectionConfig.instance_url}/b?c', '/base/b?c'],
    // What names no fact is text: a credential, an unknown fact, a price.
    [
      '${accessToken}/${credentials.access_token}/$%7Btoken%7D',
      '/base/${accessToken}/${credentials.access_token}/$%7Btoken%7D',
    ],
    [
      '${connectionConfig.nothing}/${connectionConfig.__proto__}',
      '/base/${connectionConfig.nothing}/${connectionConfig.__proto__}',
    ],
    ['a?price=$5', '/base/a?price=$5'],
  ]
  for (const [path, expected] of rows) {
    assert.equal((await call(path)).status, 200, path)
    assert.equal(world.upstream.arrived.pop()!.url, expected)
  }
  assert.equal((await call('${connectionConfig.instance_url}/../x')).ours, 'proxy_path_traversal')
  const via = await send(world.fairlead.url, {
    path: `/via/own/${ids.own}/a/\${connectionConfig.instance_url}`,
    headers: { Authorization: `Bearer ${world.fairlead.key}` },
  })
  assert.equal(via.status, 200)
  assert.equal(world.upstream.arrived.pop()!.url, '/base/a/${connectionConfig.instance_url}')
})

describe('Decompress', () => {
  const text = 'Fähre '.repeat(20_000)
  const coded: [string, Buffer][] = [
    ['gzip', gzipSync(text)],
    ['X-GZIP', gzipSync(text)],
    ['deflate', deflateSync(text)],
    ['br', brotliCompressSync(text)],
  ]
  const answering = (status: number, coding: string, body: Buffer, headers = {}) => {
    world.upstream.answer = (_req, res) =>
      void res
        .writeHead(status, { 'Content-Encoding': coding, 'Content-Length': body.length, 'X-A': 'b', ...headers })
        .end(body)
  }

  for (const [coding, body] of coded)
    test(`true: ${coding} comes plain; otherwise as it was`, async () => {
      answering(200, coding, body)
      const plain = await call('x', { Decompress: 'true' })
      assert.equal(plain.text, text)
      assert.deepEqual([plain.headers['content-encoding'], plain.headers['content-length']], [undefined, undefined])
      assert.equal(plain.headers['x-a'], 'b')
      assert.equal(world.upstream.arrived[0]!.headers.decompress, undefined)
      for (const headers of [{}, { Decompress: 'false' }, { Decompress: '' }] as Record<string, string>[]) {
        const same = await call('x', headers)
        assert.equal(same.headers['content-encoding'], coding)
        assert.deepEqual(same.body, body)
      }
    })

  test('a definition may say so, and its caller may not want it', async () => {
    answering(200, ...coded[0]!)
    assert.equal((await call('x', {}, { integration: 'own-obliging' })).text, text)
    assert.deepEqual((await call('x', { Decompress: 'false' }, { integration: 'own-obliging' })).body, coded[0]![1])
    const via = await send(world.fairlead.url, {
      path: `/via/own-obliging/${ids['own-obliging']}/x`,
      headers: { Authorization: `Bearer ${world.fairlead.key}` },
    })
    assert.deepEqual(via.body, coded[0]![1], 'an SDK decodes by itself')
  })

  test('an error that was held back to be read comes plain as well', async () => {
    answering(401, 'gzip', gzipSync('not about the token'))
    const got = await call('x', { Decompress: 'true' })
    assert.deepEqual([got.status, got.text, got.headers['content-encoding']], [401, 'not about the token', undefined])
  })

  test('what cannot be decoded comes as it was, or is cut where that shows late', async () => {
    for (const [status, coding] of [
      [200, 'gzip, br'],
      [200, 'compress'],
      [206, 'gzip'],
    ] as const) {
      answering(status, coding, coded[0]![1])
      const got = await call('x', { Decompress: 'true' })
      assert.equal(got.headers['content-encoding'], coding)
      assert.deepEqual(got.body, coded[0]![1])
    }
    answering(200, 'gzip', Buffer.from('this is no gzip'))
    await assert.rejects(call('x', { Decompress: 'true' }))
    assert.equal((await call('y')).text, 'this is no gzip')
  })

  test('an answer without a body stays one', async () => {
    for (const [method, status] of [
      ['HEAD', 200],
      ['GET', 204],
      ['GET', 304],
    ] as const) {
      world.upstream.answer = (_req, res) => void res.writeHead(status, { 'Content-Encoding': 'gzip' }).end()
      const got = await call('x', { Decompress: 'true' }, { method })
      assert.deepEqual([got.status, got.text], [status, ''])
    }
  })

  test('is true or false', async () => {
    for (const name of ['Decompress', 'Forward-Headers-On-Redirect'])
      assert.deepEqual((await call('x', { [name]: '1' })).json.error.errors[0].path, [name.toLowerCase()])
    assert.deepEqual(world.upstream.arrived, [])
  })
})

describe('redirects', () => {
  const redirecting = (status: number, location: string) => {
    world.upstream.answer = (req, res) =>
      void (req.url === '/base/end' ? res.end('arrived') : res.writeHead(status, { Location: location }).end('moved'))
  }

  test('are the caller’s to follow; those below the base URL lead it through the proxy', async () => {
    const here = `${world.fairlead.url}/proxy`
    for (const [location, told] of [
      [`${world.upstream.url}/base/end?x`, `${here}/end?x`],
      ['/base/end', '/proxy/end'],
      [`${world.upstream.url}/elsewhere`, `${world.upstream.url}/elsewhere`],
      ['https://storage.example/signed', 'https://storage.example/signed'],
    ] as const) {
      redirecting(302, location)
      const got = await call('x')
      assert.deepEqual([got.status, got.headers.location, got.text], [302, told, 'moved'])
    }
    redirecting(302, '/base/end')
    const followed = await fetch(`${here}/x`, { headers: naming(world, ids.own!) })
    assert.equal(await followed.text(), 'arrived')
  })

  test('are followed when the caller says so, to hosts a credential may go to', async () => {
    const wanted = { 'Forward-Headers-On-Redirect': 'true', Accept: 'text/x', 'Nango-Proxy-X-Own': 'kept' }
    other.answer = (_req, res) => void res.writeHead(307, { Location: `${world.upstream.url}/base/end` }).end()
    for (const [headers, integration] of [
      [wanted, 'own'],
      [{}, 'own-obliging'],
    ] as const) {
      redirecting(302, `${other.url}/over?z=%2F`)
      const got = await call('x', headers, { integration })
      assert.deepEqual([got.status, got.text], [200, 'arrived'])
      assert.deepEqual(arrivedAt(world.upstream).splice(-2), ['GET /base/x', 'GET /base/end'])
      assert.deepEqual(arrivedAt(other).splice(-1), ['GET /over?z=%2F'])
    }
    const [first] = other.arrived
    assert.deepEqual(
      [first!.headers.authorization, first!.headers.accept, first!.headers['x-own'], first!.headers.host],
      ['Bearer token-0', 'text/x', 'kept', new URL(other.url).host],
    )
  })

  test('to any other host the caller goes by itself, without the credential', async () => {
    for (const location of [
      `http://localhost:${other.port}/x`,
      'https://evil.example/x',
      `http://127.0.0.1@evil.example/x`,
      `http://user:pw@127.0.0.1:${other.port}/x`,
      'ftp://127.0.0.1/x',
      'http://[',
    ]) {
      redirecting(302, location)
      const got = await call('x', { 'Forward-Headers-On-Redirect': 'true' })
      assert.deepEqual([got.status, got.headers.location, got.text], [302, location, 'moved'])
    }
    assert.deepEqual(other.arrived, [])
  })

  test('end after five', async () => {
    redirecting(302, '/base/again')
    const got = await call('x', { 'Forward-Headers-On-Redirect': 'true' })
    assert.deepEqual([got.status, got.headers.location], [302, '/base/again'])
    assert.equal(world.upstream.arrived.length, 6)
  })

  test('change the method as every client does, and repeat no body to another host', async () => {
    const rows: [status: number, method: string, to: string, then: string | undefined][] = [
      [301, 'POST', '/base/end', 'GET'],
      [302, 'POST', '/base/end', 'GET'],
      [303, 'POST', '/base/end', 'GET'],
      [303, 'PUT', '/base/end', 'GET'],
      [301, 'PUT', '/base/end', 'PUT'],
      [307, 'POST', '/base/end', 'POST'],
      [308, 'POST', '/base/end', 'POST'],
      [303, 'POST', `${other.url}/end`, 'GET'],
      [307, 'POST', `${other.url}/end`, undefined],
      [308, 'PUT', `${other.url}/end`, undefined],
    ]
    for (const [status, method, to, then] of rows) {
      world.upstream.arrived.length = other.arrived.length = 0
      redirecting(status, to)
      const headers = { 'Forward-Headers-On-Redirect': 'true', 'Content-Type': 'text/plain' }
      const got = await call('x', headers, { method, body: 'the body' })
      const last = (to.startsWith('http') ? other : world.upstream).arrived.at(-1)
      assert.equal(got.status, then ? 200 : status, `${status} ${method} ${to}`)
      assert.equal(last?.method, then)
      if (!then) continue
      assert.equal(last!.body.toString(), then === 'GET' ? '' : 'the body')
      assert.equal(last!.headers['content-type'], then === 'GET' ? undefined : 'text/plain')
      assert.equal(last!.headers['content-length'], then === 'GET' ? undefined : '8')
    }
  })

  test('a token that ended behind one is renewed once, and the hop repeated', async () => {
    const { refreshes } = world.issuer
    world.upstream.answer = (req, res) => {
      if (req.url === '/base/x') return void res.writeHead(302, { Location: `${other.url}/end` }).end()
      res.end()
    }
    other.answer = (req, res) =>
      void res.writeHead(req.headers.authorization === `Bearer token-${refreshes + 1}` ? 200 : 401).end('x')
    const got = await call('x', { 'Forward-Headers-On-Redirect': 'true' })
    assert.equal(got.status, 200)
    assert.equal(world.issuer.refreshes, refreshes + 1)
    assert.deepEqual([arrivedAt(world.upstream), arrivedAt(other)], [['GET /base/x'], ['GET /end', 'GET /end']])
  })
})

describe("a definition's members of the body", () => {
  const sent = async (body: string | Buffer | undefined, headers: Record<string, string> = {}, method = 'POST') => {
    const got = await call('x', headers, { integration: 'own-body', method, ...(body !== undefined && { body }) })
    assert.equal(got.status, 200)
    const arrived = world.upstream.arrived.pop()!
    assert.equal(arrived.headers['transfer-encoding'], undefined)
    assert.equal(arrived.headers['content-length'], arrived.body.length > 0 ? String(arrived.body.length) : undefined)
    return arrived
  }
  const json = { 'Content-Type': 'application/json; charset=utf-8' }
  const added = () => `"version":7,"account":{"at":["${world.upstream.url}/base"]}`

  test('go in front of what the caller wrote, which stays as it is', async () => {
    const rows: [string, string][] = [
      ['{}', `{${added()}}`],
      [
        ' \n{ "big": 12345678901234567890.10, "e": 1E+2, "b": "\\u00e9" }\n',
        ` \n{${added()}, "big": 12345678901234567890.10, "e": 1E+2, "b": "\\u00e9" }\n`,
      ],
      // What the caller says is not said twice.
      ['{"version":"mine"}', `{"account":{"at":["${world.upstream.url}/base"]},"version":"mine"}`],
      ['{"version":1,"account":null}', '{"version":1,"account":null}'],
    ]
    for (const [body, expected] of rows) assert.equal((await sent(body, json)).body.toString(), expected)
    const none = await sent(undefined)
    assert.equal(none.body.toString(), `{${added()}}`)
    assert.equal(none.headers['content-type'], 'application/json')
  })

  test('are not put into what is no JSON object', async () => {
    for (const [body, headers] of [
      ['[{}]', json],
      ['null', json],
      ['{"broken"', json],
      ['a=b', { 'Content-Type': 'application/x-www-form-urlencoded' }],
      [gzipSync('{}'), { ...json, 'Content-Encoding': 'gzip' }],
      ['{}', { 'Content-Type': 'text/plain' }],
    ] as const)
      assert.deepEqual((await sent(body, headers)).body, Buffer.from(body))
    for (const method of ['GET', 'DELETE', 'HEAD']) assert.equal((await sent(undefined, {}, method)).body.length, 0)
  })

  test('a body is read up to a megabyte for them', async () => {
    const long = `{"x":"${'y'.repeat(1024 * 1024 - 8)}"}`
    assert.equal((await sent(long, json)).body.toString(), `{${added()},${long.slice(1)}`)
    const got = await call('x', json, { integration: 'own-body', method: 'POST', body: `${long} ` })
    assert.deepEqual([got.status, got.ours], [413, 'proxy_body_too_large'])
    assert.deepEqual(world.upstream.arrived, [])
  })

  test('multipart/form-data passes through untouched', async () => {
    const body = Buffer.concat([
      Buffer.from('--b\r\nContent-Disposition: form-data; name="f"; filename="é"\r\n\r\n{}'),
      Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 7) & 0xff)),
      Buffer.from('\r\n--b--\r\n'),
    ])
    const arrived = await sent(body, { 'Content-Type': 'multipart/form-data; boundary=b' })
    assert.deepEqual(arrived.body, body)
    assert.equal(arrived.headers['content-type'], 'multipart/form-data; boundary=b')
  })
})
