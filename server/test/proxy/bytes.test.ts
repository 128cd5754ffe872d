/** What crosses the proxy, each way: bodies byte by byte, and every header that may or may not. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { PassThrough, type Writable } from 'node:stream'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { brotliCompressSync, gunzipSync, gzipSync } from 'node:zlib'
import { lastFirst } from '../support/last-first.ts'
import { listening, naming, open, raw, send, startWorld, values, type World } from './world.ts'

let world: World
let id: string
const file = lastFirst({ after: whenDone })

before(async () => {
  world = await startWorld(file)
  id = await world.connect()
})
beforeEach(() => {
  world.upstream.arrived.length = 0
  world.upstream.early = undefined
  world.upstream.answer = (_req, res) => void res.end('ok')
})

const pairs = (...more: string[]) => [...Object.entries(naming(world, id)).flat(), ...more]
const call = (more: string[] = [], method = 'GET', body?: Buffer | string) =>
  send(world.fairlead.url, {
    method,
    path: '/proxy/x',
    headers: pairs(...more, ...(body === undefined ? [] : ['Content-Length', String(Buffer.byteLength(body))])),
    ...(body !== undefined && { body }),
  })

const bodies: Record<string, Buffer> = {
  'a number no double can hold': Buffer.from('{"n":12345678901234567890,"x":1.10e2}'),
  'duplicate keys and odd spacing': Buffer.from('{ "a":1,\r\n\t"a":2 }\n\n'),
  'invalid UTF-8 and a BOM': Buffer.from([0xef, 0xbb, 0xbf, 0xff, 0xfe, 0x00, 0xc3, 0x28, 0x0a]),
  'every byte': Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
  gzip: gzipSync('{"a":1}'),
  'a megabyte': Buffer.alloc(1 << 20, 'ab\r\n0\r\n\r\n'),
  multipart: Buffer.from('--b\r\nContent-Disposition: form-data; name="f"; filename="é"\r\n\r\n\r\n0\r\n\r\n--b--\r\n'),
  nothing: Buffer.alloc(0),
  brotli: brotliCompressSync('{"a":1}'),
  'gzip cut short': gzipSync('{"a":1}').subarray(0, 12),
  'two gzip members': Buffer.concat([gzipSync('a'), gzipSync('b')]),
  NUL: Buffer.alloc(3),
  'half a surrogate pair, and an overlong slash': Buffer.from([0xed, 0xa0, 0x80, 0xc0, 0xaf]),
  'numbers at the edge of a double': Buffer.from('[9007199254740993,1e400,-0,0.1000,1E+2,00]'),
  'keys twice, with escapes': Buffer.from('{"a":1,"\\u0061":2,"__proto__":3}'),
  'what looks like an answer': Buffer.from('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'),
  'what looks like the last chunk': Buffer.from('\r\n0\r\n\r\n'),
}

/** As their `Content-Encoding`, both ways. */
const encodings: Record<string, string> = {
  gzip: 'gzip',
  'gzip cut short': 'gzip',
  'two gzip members': 'gzip',
  brotli: 'br',
}

/** The two ways in. */
const doors: Record<string, { path: () => string; naming: () => string[] }> = {
  'by headers': { path: () => '/proxy/x', naming: () => pairs() },
  'by path': { path: () => `/via/own/${id}/x`, naming: () => ['Authorization', `Bearer ${world.fairlead.key}`] },
}

describe('a body arrives as it was sent', () => {
  for (const [name, bytes] of Object.entries(bodies))
    for (const way of ['with a length', 'chunked'])
      for (const [via, { path, naming }] of Object.entries(doors))
        test(`${name}, ${way}, ${via}`, async () => {
          const encoding = encodings[name] ? ['Content-Encoding', encodings[name]] : []
          world.upstream.answer = (_req, res, { body }) => {
            const length = way === 'chunked' ? [] : ['Content-Length', String(body.length)]
            res.writeHead(200, ['Content-Type', 'application/octet-stream', ...encoding, ...length])
            if (body.length > 2) res.write(body.subarray(0, 2))
            res.end(body.subarray(body.length > 2 ? 2 : 0))
          }
          const framing =
            way === 'chunked' ? ['Transfer-Encoding', 'chunked'] : ['Content-Length', String(bytes.length)]
          const got = await send(world.fairlead.url, {
            method: 'POST',
            path: path(),
            headers: [...naming(), 'Content-Type', 'text/odd; charset=x', ...encoding, ...framing],
            body: bytes,
          })
          const [arrived] = world.upstream.arrived
          assert.equal(arrived!.body.compare(bytes), 0, 'up')
          assert.equal(got.body.compare(bytes), 0, 'down')
          assert.equal(arrived!.headers['content-type'], 'text/odd; charset=x')
          assert.equal(arrived!.headers['content-encoding'], encoding[1])
          assert.equal(got.headers['content-encoding'], encoding[1])
          if (way === 'with a length') {
            assert.equal(arrived!.headers['content-length'], String(bytes.length))
            assert.equal(got.headers['content-length'], String(bytes.length))
          }
          if (name === 'gzip') assert.equal(gunzipSync(got.body).toString(), '{"a":1}')
        })
})

describe('statuses without a body, and redirects', () => {
  const rows: [number, string[]][] = [
    [204, []],
    [304, ['ETag', '"a"', 'Content-Length', '42']],
    [205, ['Content-Length', '0']],
    [300, ['Location', 'https://elsewhere.example/']],
    [301, ['Location', 'http://127.0.0.1:1/x']],
    [302, ['Location', 'https://elsewhere.example/x']],
    [303, ['Location', '../y']],
    [307, ['Location', 'https://evil.example/?a=b#c']],
    [308, ['Location', '//evil.example']],
  ]
  for (const [status, headers] of rows)
    test(String(status), async () => {
      world.upstream.answer = (_req, res) => void res.writeHead(status, headers).end()
      const got = await call()
      assert.equal(got.status, status)
      assert.equal(got.ours, undefined)
      assert.equal(got.text, '')
      for (let i = 0; i < headers.length; i += 2)
        assert.deepEqual(values(got.rawHeaders, headers[i]!), [headers[i + 1]])
      assert.equal(world.upstream.arrived.length, 1)
    })

  test('HEAD keeps the length of what GET would bring', async () => {
    world.upstream.answer = (_req, res) => void res.writeHead(200, { 'Content-Length': 123456 }).end()
    const got = await call([], 'HEAD')
    assert.deepEqual([got.status, got.headers['content-length'], got.text], [200, '123456', ''])
  })

  test('a status and a reason of the provider are kept, even odd ones', async () => {
    for (const [status, reason] of [
      [299, 'Fine, Mostly'],
      [418, "I'm a teapot"],
      [599, ''],
    ] as const) {
      world.upstream.answer = (_req, res) => void res.writeHead(status, reason).end('x')
      const got = await call()
      assert.deepEqual([got.status, got.statusText || '', got.text], [status, reason, 'x'])
    }
  })

  test('a reason phrase beyond ASCII comes down byte by byte', async t => {
    const upstream = createServer(socket =>
      socket.once('data', () =>
        socket.end('HTTP/1.1 404 Não há 無\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno'),
      ),
    )
    const connection = await world.connect('own', `http://127.0.0.1:${await listening(upstream)}`)
    t.after(() => upstream.close())
    const got = await send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, connection) })
    assert.equal(got.status, 404)
    assert.equal(Buffer.from(got.statusText, 'latin1').toString(), 'Não há 無')
  })
})

test('informational answers do not disturb the real one', async () => {
  world.upstream.answer = (_req, res) => {
    res.writeProcessing()
    res.writeEarlyHints({ link: '</a>; rel=preload' })
    res.writeHead(200, { 'X-Real': '1' }).end('real')
  }
  const got = await call()
  assert.deepEqual([got.status, got.text, got.headers['x-real']], [200, 'real', '1'])
})

describe('100 Continue that nobody asked for', () => {
  const final = 'HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n'
  // A body that begins like one, in a segment of its own.
  const body = 'HTTP/1.1 100 Continue\r\n\r\n12345678'
  const one = 'HTTP/1.1 100 Continue\r\n\r\n'
  const hints = 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n'
  const rows: Record<string, string[]> = {
    'before the answer': [one, final, body],
    'with the answer': [one + final, body],
    'with a header of its own': ['HTTP/1.1 100 Go on\r\nX-A: 1\r\n\r\n', final, body],
    twice: [one + one, final, body],
    'among others': [hints, one, hints + final, body],
    'all at once': [hints + one + final + body],
  }
  for (const [name, segments] of Object.entries(rows))
    test(`${name}, on a connection that serves on`, async t => {
      let connections = 0
      const upstream = createServer(socket => {
        connections++
        socket.setNoDelay().on('error', () => {})
        socket.on('data', async () => {
          for (const segment of segments) {
            socket.write(segment)
            await new Promise(resolve => setTimeout(resolve, 5))
          }
        })
      })
      const connection = await world.connect('own', `http://127.0.0.1:${await listening(upstream)}`)
      t.after(() => upstream.close())
      const { servers } = world.fairlead
      for (const method of ['POST', 'PUT', 'PUT'].flatMap(method => Array<string>(servers).fill(method))) {
        const headers = { ...naming(world, connection), 'Content-Length': '3' }
        const got = await send(world.fairlead.url, { method, path: '/proxy/x', headers, body: 'abc' })
        assert.deepEqual([got.status, got.text, got.ours], [200, body, undefined])
      }
      // A POST and what may be repeated have connections apart.
      assert.equal(connections, 2 * servers)
    })
})

test('an interim answer does not come down: nginx before 1.29 would take it for the answer', async () => {
  world.upstream.answer = (_req, res) => {
    res.writeEarlyHints({ link: '</a>; rel=preload' })
    res.end('real')
  }
  const seen: number[] = []
  const req = open(world.fairlead.url, { path: '/proxy/x', headers: pairs() })
  req.on('information', ({ statusCode }) => seen.push(statusCode))
  const [res] = await once(req, 'response')
  assert.deepEqual([String(await res.toArray()), seen], ['real', []])
})

test('trailers of a request end here (undici sends none), and its body is whole', async () => {
  const text = await raw(
    world.fairlead.url,
    `POST /proxy/x HTTP/1.1\r\nHost: x\r\n${Object.entries(naming(world, id))
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join(
        '',
      )}Connection: close\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n`,
  )
  assert.match(text, /^HTTP\/1\.1 200 /)
  const [arrived] = world.upstream.arrived
  assert.deepEqual(
    [arrived!.body.toString(), arrived!.headers.trailer, arrived!.headers['x-sum']],
    ['abc', undefined, undefined],
  )
})

test('one byte at a time, both ways', async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => 255 - i))
  const trickle = async (to: Writable) => {
    for (const byte of bytes) {
      to.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
    to.end()
  }
  world.upstream.answer = (_req, res) => void trickle(res)
  const body = new PassThrough()
  void trickle(body)
  const got = await send(world.fairlead.url, {
    method: 'POST',
    path: '/proxy/x',
    headers: pairs('Transfer-Encoding', 'chunked'),
    body,
  })
  assert.equal(world.upstream.arrived[0]!.body.compare(bytes), 0, 'up')
  assert.equal(got.body.compare(bytes), 0, 'down')
})

test('chunks without a byte are a body without a byte', async () => {
  world.upstream.answer = (_req, res) => {
    res.writeHead(200, { 'Transfer-Encoding': 'chunked' })
    res.end()
  }
  const got = await send(world.fairlead.url, {
    method: 'POST',
    path: '/proxy/x',
    headers: pairs('Transfer-Encoding', 'chunked'),
    body: '',
  })
  assert.deepEqual([got.status, got.body.length, world.upstream.arrived[0]!.body.length], [200, 0, 0])
})

describe('multipart with odd boundaries', () => {
  for (const boundary of ["'()+_,-./:=?", 'a b', '-'.repeat(70), '0', '\u00e9'])
    test(boundary, async () => {
      const body = Buffer.from(`--${boundary}\r\n\r\n--${boundary.slice(1)}\r\n--${boundary}--`, 'latin1')
      const type = `multipart/form-data; boundary="${boundary}"`
      world.upstream.answer = (req, res, arrived) =>
        void res.writeHead(200, ['Content-Type', req.headers['content-type']!]).end(arrived.body)
      const got = await call(['Content-Type', type], 'POST', body)
      assert.equal(got.headers['content-type'], type)
      assert.equal(world.upstream.arrived[0]!.headers['content-type'], type)
      assert.equal(got.body.compare(body), 0)
    })
})

test('an error of the provider may be any bytes, also where it is held back to be read', async () => {
  const bytes = Buffer.from([0x00, 0xff, 0xfe, 0x1f, 0x8b, 0x08, 0x00])
  // Its 401 leads to a renewal, which must not be seen by the other tests' connection.
  const headersOf = naming(world, await world.connect())
  for (const status of [400, 401, 403, 500])
    for (const headers of [{}, { 'Content-Encoding': 'gzip' }, { 'Content-Length': String(bytes.length) }]) {
      world.upstream.answer = (_req, res) => void res.writeHead(status, 'odd', headers).end(bytes)
      const got = await send(world.fairlead.url, { path: '/proxy/x', headers: headersOf })
      assert.deepEqual([got.status, got.ours], [status, undefined])
      assert.equal(got.body.compare(bytes), 0)
      assert.equal(got.headers['content-encoding'], (headers as Record<string, string>)['Content-Encoding'])
    }
})

test('trailers come down, except those that could not have been headers', async () => {
  world.upstream.answer = (_req, res) => {
    res.writeHead(200, { Trailer: 'X-Checksum, Set-Cookie' })
    res.write('x')
    res.addTrailers({ 'X-Checksum': 'abc', 'Set-Cookie': 'a=b', 'Fairlead-Error': 'server_error' })
    res.end()
  }
  const got = await call()
  assert.deepEqual([got.text, got.trailers], ['x', ['x-checksum', 'abc']])
})

const goesUp: [name: string, value: string][] = [
  ['Accept', 'application/xml'],
  ['Accept-Encoding', 'gzip, br'],
  ['Accept-Language', 'de'],
  ['Content-Type', 'application/json'],
  ['Content-MD5', 'x=='],
  ['If-Match', '"a"'],
  ['If-None-Match', '"b"'],
  ['If-Modified-Since', 'Sat, 29 Oct 1994 19:43:31 GMT'],
  ['Range', 'bytes=0-1'],
  ['Prefer', 'respond-async'],
  ['Idempotency-Key', '1'],
  ['User-Agent', 'jsforce/3'],
  ['Sforce-Call-Options', 'client=a, defaultNamespace=b'],
  ['Sforce-Query-Options', 'batchSize=200'],
  ['X-PrettyPrint', '1'],
  ['x-sfdc-packageversion-abc', '1.0'],
  ['X-HTTP-Method-Override', 'PATCH'],
  ['X_Custom', 'underscore'],
  ['X-Empty', ''],
  ['X-Latin', 'caf\xe9'],
  ['Nango-Unknown', '1'],
]

const staysHere: [name: string, value: string][] = [
  ['Cookie', 'session=1'],
  ['Cookie2', '1'],
  ['X-Forwarded-For', '10.0.0.1'],
  ['X-Forwarded-Host', 'evil.example'],
  ['X-Forwarded-Anything', '1'],
  ['Forwarded', 'for=10.0.0.1'],
  ['Via', '1.1 x'],
  ['X-Real-IP', '10.0.0.1'],
  ['True-Client-IP', '10.0.0.1'],
  ['CF-Connecting-IP', '10.0.0.1'],
  ['X_Forwarded_For', '10.0.0.1'],
  ['X_Forwarded-Host', 'evil.example'],
  ['Content_Length', '3'],
  ['Transfer_Encoding', 'chunked'],
  ['Connection_Id', 'x'],
  ['X_Api_Key', 'x'],
  ['Proxy-Authorization', 'Basic eDp5'],
  ['Proxy-Connection', 'keep-alive'],
  ['Keep-Alive', 'timeout=1'],
  ['TE', 'trailers'],
  ['Sec-Fetch-Mode', 'cors'],
  ['X-Api-Key', 'k'],
  ['Retries', '3'],
  ['Retry-On', '429'],
  ['Decompress', 'true'],
  ['Forward-Headers-On-Redirect', 'true'],
  ['Nango-Activity-Log-Id', ''],
  ['Nango-Is-Sync', 'true'],
  ['Nango-Is-Dry-Run', 'false'],
  ['Fairlead-Anything', '1'],
  ['Nango_Proxy_X', '1'],
  ['Nango-Proxy-Host', 'evil.example'],
  ['Nango-Proxy-Authorization', 'Bearer evil'],
  ['Nango-Proxy-Content-Length', '0'],
  ['Nango-Proxy-Transfer-Encoding', 'chunked'],
  ['Nango-Proxy-X_Forwarded_For', '1'],
  ['Fairlead-Proxy-Cookie', 'a=b'],
  ['Fairlead-Proxy-Connection', 'close'],
]

test('the headers a provider needs go up, in order, and nothing else does', async () => {
  await call([...goesUp, ...staysHere].flat(), 'POST', Buffer.from('{}'))
  const { rawHeaders } = world.upstream.arrived[0]!
  const added = ['host', 'connection', 'authorization', 'content-length']
  const arrived = rawHeaders.filter((_, i) => !added.includes(rawHeaders[i - (i % 2)]!.toLowerCase()))
  assert.deepEqual(arrived, goesUp.flat())
  assert.deepEqual(values(rawHeaders, 'authorization'), ['Bearer token-0'])
  assert.deepEqual(values(rawHeaders, 'host'), [`127.0.0.1:${world.upstream.port}`])
  assert.deepEqual(values(rawHeaders, 'content-length'), ['2'])
})

test('repeated request headers stay repeated', async () => {
  await call(['X-A', '1', 'x-a', '2', 'Accept', 'a', 'Accept', 'b'])
  const { rawHeaders } = world.upstream.arrived[0]!
  assert.deepEqual(
    [values(rawHeaders, 'x-a'), values(rawHeaders, 'accept')],
    [
      ['1', '2'],
      ['a', 'b'],
    ],
  )
})

test('a prefix forces a header over the one without it', async () => {
  await call(['Content-Type', 'a/a', 'NANGO-PROXY-Content-Type', 'b/b', 'Fairlead-Proxy-X-New', '1', 'X_New', 'twin'])
  const { rawHeaders } = world.upstream.arrived[0]!
  assert.deepEqual(values(rawHeaders, 'content-type'), ['b/b'])
  assert.deepEqual(values(rawHeaders, 'x-new'), ['1'])
  assert.deepEqual(values(rawHeaders, 'x_new'), [])
})

test('our API key stays here whatever header holds it', async () => {
  const { key } = world.fairlead
  await call(['X-SFDC-Session', key, 'X-Auth-Token', `Token ${key}`, 'Nango-Proxy-X-Key', key, 'X-Fine', '1'])
  const { rawHeaders, headers } = world.upstream.arrived[0]!
  assert.equal(rawHeaders.join('\n').includes(key), false)
  assert.equal(headers['x-fine'], '1')
})

test('Connection takes its named headers away from the caller, and none from us', async () => {
  await call(
    ['Connection', 'close, X-Hop, authorization, Content-Length, host', 'X-Hop', '1', 'X-End', '2'],
    'POST',
    'abc',
  )
  const { headers, body } = world.upstream.arrived[0]!
  assert.equal(headers['x-hop'], undefined)
  assert.equal(headers['x-end'], '2')
  assert.equal(headers.authorization, 'Bearer token-0')
  assert.equal(headers.host, `127.0.0.1:${world.upstream.port}`)
  assert.equal(body.toString(), 'abc')
})

test('end-to-end headers come down, what speaks for our origin or for one hop does not', async () => {
  const down = [
    ['Content-Type', 'text/html'],
    ['Sforce-Limit-Info', 'api-usage=10018/100000; per-app-api-usage=17/250(appName=x)'],
    ['Warning', '299 - "old"'],
    ['Warning', '299 - "older"'],
    ['X-RateLimit-Remaining', '0'],
    ['Retry-After', '30'],
    ['ETag', 'W/"a"'],
    ['Link', '</a>; rel=next'],
    ['Link', '</b>; rel=prev'],
    ['Content-Disposition', 'attachment; filename="a"'],
    ['WWW-Authenticate', 'Bearer realm="x"'],
    ['Cache-Control', 'private'],
    ['Vary', 'Origin'],
    ['Location', 'https://a.example/'],
    ['X-Latin', 'caf\xe9'],
  ]
  const notDown = [
    ['Set-Cookie', 'BrowserId=1; domain=.salesforce.com'],
    ['Set-Cookie', 'b=2'],
    ['Strict-Transport-Security', 'max-age=63072000'],
    ['Alt-Svc', 'h3=":443"'],
    ['Clear-Site-Data', '"*"'],
    ['Public-Key-Pins', 'x'],
    ['NEL', '{}'],
    ['Report-To', '{}'],
    ['Service-Worker-Allowed', '/'],
    ['Access-Control-Allow-Origin', '*'],
    ['Access-Control-Allow-Credentials', 'true'],
    ['Access-Control-Anything', '1'],
    ['Fairlead-Error', 'server_error'],
    ['Proxy-Authenticate', 'Basic'],
    ['Upgrade', 'h2c'],
    ['X-Hop', '1'],
  ]
  world.upstream.answer = (_req, res) => {
    const security = ['Content-Security-Policy', "default-src 'none'", 'X-Content-Type-Options', 'sniff']
    res.writeHead(200, [...down.flat(), ...notDown.flat(), ...security, 'Connection', 'close, X-Hop']).end('<script>')
  }
  const got = await call()
  for (const name of new Set(down.map(([header]) => header!)))
    assert.deepEqual(
      values(got.rawHeaders, name),
      down.flatMap(([other, value]) => (other === name ? [value] : [])),
      name,
    )
  for (const [name] of notDown) assert.deepEqual([name, values(got.rawHeaders, name!)], [name, []])
  assert.deepEqual(values(got.rawHeaders, 'Content-Security-Policy'), ['sandbox'])
  assert.deepEqual(values(got.rawHeaders, 'X-Content-Type-Options'), ['nosniff'])
})

test('an upstream error is the upstream’s: no mark of ours, body untouched', async () => {
  for (const status of [400, 403, 404, 405, 410, 412, 420, 429, 500, 502, 503, 504]) {
    world.upstream.answer = (_req, res) =>
      void res.writeHead(status, { 'Fairlead-Error': 'server_error' }).end(`[{"errorCode":"E${status}"}]`)
    const got = await call()
    assert.deepEqual([got.status, got.ours, got.text], [status, undefined, `[{"errorCode":"E${status}"}]`])
  }
})

test('Expect: 100-continue is answered here; the body then goes up', async () => {
  const body = new PassThrough()
  const headers = pairs('Expect', '100-continue', 'Content-Length', '3')
  const { promise, resolve } = Promise.withResolvers<number>()
  const req = open(world.fairlead.url, { method: 'POST', path: '/proxy/x', headers, body })
  req.on('response', res => resolve(res.resume().statusCode!)).on('continue', () => body.end('abc'))
  req.flushHeaders()
  assert.equal(await promise, 200)
  const [arrived] = world.upstream.arrived
  assert.deepEqual([arrived!.body.toString(), arrived!.headers.expect], ['abc', undefined])
})

test('an upstream without lengths (HTTP/1.0) is read to its end', async t => {
  const upstream = createServer(socket => socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nall of it')))
  const connection = await world.connect('own', `http://127.0.0.1:${await listening(upstream)}`)
  t.after(() => upstream.close())
  const got = await send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, connection) })
  assert.deepEqual([got.status, got.text], [200, 'all of it'])
})

test('a caller that speaks HTTP/1.0 gets an answer it can read', async () => {
  world.upstream.answer = (_req, res) => {
    res.write('a')
    res.end('b')
  }
  const head = Object.entries(naming(world, id)).map(([name, value]) => `${name}: ${value}\r\n`)
  const text = await raw(world.fairlead.url, `GET /proxy/x HTTP/1.0\r\n${head.join('')}\r\n`)
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n/)
  assert.doesNotMatch(text, /transfer-encoding/i)
  assert.match(text, /\r\n\r\nab$/)
})
