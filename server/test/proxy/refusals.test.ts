/** Errors of our own are marked as ours; requests that two servers could read in two ways are read by nobody. */
import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { freePort } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { listening, naming, open, raw, send, startWorld, type World } from './world.ts'

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

const head = (line: string, ...more: string[]) => {
  const lines = Object.entries(naming(world, id)).map(([name, value]) => `${name}: ${value}`)
  return [line, 'Host: x', ...lines, ...more, '', ''].join('\r\n')
}
const statuses = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(match => Number(match[1]))

describe('an upstream that cannot be asked, or does not answer', () => {
  /** An upstream that does `act` to every connection that says something. */
  const behaving = async (act: (socket: Socket, count: number) => void): Promise<string> => {
    let count = 0
    const server = createServer(socket => {
      socket.on('error', () => {})
      socket.once('data', () => act(socket, ++count))
    })
    const port = await listening(server)
    file.after(() => void server.close())
    return world.connect('own', `http://127.0.0.1:${port}`)
  }
  const call = (connection: string, method = 'GET') =>
    send(world.fairlead.url, { method, path: '/proxy/x', headers: naming(world, connection) })

  test('nobody listens', async () => {
    const connection = await world.connect('own', `http://127.0.0.1:${await freePort()}`)
    for (const method of ['GET', 'POST', 'HEAD']) {
      const got = await call(connection, method)
      assert.deepEqual([got.status, got.ours], [502, 'upstream_unreachable'])
      if (method !== 'HEAD') assert.equal(got.json.error.code, 'upstream_unreachable')
    }
  })

  const broken: Record<string, (socket: Socket) => void> = {
    'hangs up': socket => socket.end(),
    resets: socket => socket.resetAndDestroy(),
    'speaks no HTTP': socket => socket.end('220 smtp ready\r\n'),
    'sends two lengths': socket => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'),
    'sends a length and chunks': socket =>
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    'switches protocols unasked': socket =>
      socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'),
    'stops within its head': socket => socket.end('HTTP/1.1 200 OK\r\nContent-Le'),
  }
  for (const [name, act] of Object.entries(broken))
    test(`one that ${name} is asked once`, async () => {
      let asked = 0
      const connection = await behaving(socket => {
        asked++
        act(socket)
      })
      const got = await call(connection)
      assert.deepEqual([got.status, got.ours, asked], [502, 'upstream_failed', 1])
      assert.doesNotMatch(got.text, /token-\d|smtp|127\.0\.0\.1/)
    })

  test('a second answer nobody asked for is not given to the next caller', async () => {
    const connection = await behaving((socket, count) =>
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${count}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray`,
      ),
    )
    assert.equal((await call(connection)).text, '1')
    assert.notEqual((await call(connection)).text, 'stray')
  })
})

describe('a request that could be read in two ways is answered 400, its connection closed, and nothing is sent', () => {
  const smuggled = () => head('GET /proxy/smuggled HTTP/1.1')
  const rows: Record<string, () => string> = {
    'a length and chunks (CL.TE)': () =>
      `${head('POST /proxy/x HTTP/1.1', 'Content-Length: 6', 'Transfer-Encoding: chunked')}0\r\n\r\n${smuggled()}`,
    'chunks and a length (TE.CL)': () =>
      `${head('POST /proxy/x HTTP/1.1', 'Transfer-Encoding: chunked', 'Content-Length: 3')}1\r\nx\r\n0\r\n\r\n${smuggled()}`,
    'a coding that is none': () =>
      `${head('POST /proxy/x HTTP/1.1', 'Transfer-Encoding: xchunked')}0\r\n\r\n${smuggled()}`,
    'chunked twice': () =>
      `${head('POST /proxy/x HTTP/1.1', 'Transfer-Encoding: chunked', 'Transfer-Encoding: identity')}0\r\n\r\n${smuggled()}`,
    'a coding with a tab': () =>
      `${head('POST /proxy/x HTTP/1.1', 'Transfer-Encoding:\x0bchunked')}0\r\n\r\n${smuggled()}`,
    'a blank before the colon': () =>
      `${head('POST /proxy/x HTTP/1.1', 'Content-Length: 0', 'Transfer-Encoding : chunked')}0\r\n\r\n${smuggled()}`,
    'two lengths': () => `${head('POST /proxy/x HTTP/1.1', 'Content-Length: 0', 'Content-Length: 60')}${smuggled()}`,
    'two equal lengths': () => `${head('POST /proxy/x HTTP/1.1', 'Content-Length: 1', 'Content-Length: 1')}x`,
    'a list of lengths': () => `${head('POST /proxy/x HTTP/1.1', 'Content-Length: 1, 1')}x`,
    'a length that is no number': () => `${head('POST /proxy/x HTTP/1.1', 'Content-Length: +1')}x`,
    'bare line feeds': () => head('GET /proxy/x HTTP/1.1').replaceAll('\r\n', '\n'),
    'one bare line feed': () => head('GET /proxy/x HTTP/1.1', 'X-A: 1\nX-B: 2'),
    'a folded line': () => head('GET /proxy/x HTTP/1.1', 'X-A: 1\r\n Transfer-Encoding: chunked'),
    'a NUL in a value': () => head('GET /proxy/x HTTP/1.1', 'X-A: 1\x002'),
    'no Host': () => head('GET /proxy/x HTTP/1.1').replace('Host: x\r\n', ''),
    'a space in the target': () => head('GET /proxy/x y HTTP/1.1'),
    'another protocol': () => head('GET /proxy/x HTTP/9.9'),
  }
  for (const [name, bytes] of Object.entries(rows))
    test(name, async () => {
      const text = await raw(world.fairlead.url, bytes())
      assert.deepEqual(statuses(text), [400], text)
      if (name !== 'no Host') assert.match(text, /\r\nFairlead-Error: invalid_headers\r\n/)
      assert.match(text, /\r\nConnection: close\r\n/i)
      assert.deepEqual(world.upstream.arrived, [])
    })

  test('a head that never ends, or is too long', async () => {
    const text = await raw(world.fairlead.url, head('GET /proxy/x HTTP/1.1', `X-A: ${'a'.repeat(40_000)}`))
    assert.deepEqual(statuses(text), [431])
    assert.match(text, /Fairlead-Error/)
    assert.deepEqual(world.upstream.arrived, [])
  })
})

test('what follows a whole request on its connection is the next request', async () => {
  const chunked = `${head('POST /proxy/one HTTP/1.1', 'Transfer-Encoding: chunked')}3\r\nabc\r\n0\r\n\r\n`
  const sized = `${head('POST /proxy/two HTTP/1.1', 'Content-Length: 3')}def`
  const text = await raw(world.fairlead.url, chunked + sized + head('GET /proxy/three HTTP/1.1', 'Connection: close'))
  assert.deepEqual(statuses(text), [200, 200, 200])
  // Answers keep the order; requests that were sent at once may overtake each other on their way up.
  assert.deepEqual(
    new Map(world.upstream.arrived.map(({ url, body }) => [url, body.toString()])),
    new Map([
      ['/one', 'abc'],
      ['/two', 'def'],
      ['/three', ''],
    ]),
  )
})

test('a body that breaks off or is no chunk ends the call at the provider, and never cleanly', async () => {
  const cut = Promise.withResolvers<boolean>()
  world.upstream.early = req => {
    req.resume().on('error', () => {})
    req.on('close', () => cut.resolve(req.complete))
  }
  const text = await raw(
    world.fairlead.url,
    `${head('POST /proxy/x HTTP/1.1', 'Transfer-Encoding: chunked')}3\r\nabc\r\nzz\r\nGET /proxy/smuggled HTTP/1.1\r\n\r\n`,
  )
  assert.deepEqual(statuses(text), [400])
  world.upstream.early = undefined
  const after = await send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) })
  assert.equal(after.status, 200)
  assert.deepEqual(
    world.upstream.arrived.map(one => one.url),
    ['/x'],
  )
  cut.resolve(false)
  assert.equal(await cut.promise, false)
})

test('a refused request does not swallow or become the next one on its connection', async () => {
  const refused = `${head('POST /proxy/a/../b HTTP/1.1', 'Content-Length: 5')}GET /`
  const big = `${head('POST /proxy/a/../b HTTP/1.1', 'Content-Length: 200000')}${'x'.repeat(200_000)}`
  const text = await raw(world.fairlead.url, refused + big + head('GET /proxy/next HTTP/1.1', 'Connection: close'))
  assert.deepEqual(statuses(text), [400, 400, 200])
  assert.deepEqual(
    world.upstream.arrived.map(one => one.url),
    ['/next'],
  )
})

test('headers that must be single and are not', async () => {
  const [auth, key, connection] = Object.entries(naming(world, id)).flatMap(pair => [pair])
  const rows = [
    [...auth!, 'Authorization', 'Bearer other'],
    [...auth!, 'authorization', auth![1]],
    [...auth!, ...connection!, ...key!, 'provider-config-key', 'own-extra'],
    [...auth!, ...key!, ...connection!, 'CONNECTION-ID', 'other'],
    [...auth!, ...key!, ...connection!, 'Host', 'other'],
    ['X-Api-Key', world.fairlead.key, 'X-Api-Key', 'other'],
  ]
  for (const headers of rows) {
    const got = await send(world.fairlead.url, { path: '/proxy/x', headers })
    assert.deepEqual([got.status, got.ours], [400, 'proxy_header_conflict'], headers.join(' '))
  }
  assert.deepEqual(world.upstream.arrived, [])
})

test('TRACE, CONNECT and upgrades are not proxied', async () => {
  const trace = await send(world.fairlead.url, { method: 'TRACE', path: '/proxy/x', headers: naming(world, id) })
  assert.deepEqual([trace.status, trace.ours], [405, 'proxy_method_refused'])
  for (const protocol of ['websocket', 'h2', 'TLS/1.0', 'h2c, websocket']) {
    const text = await raw(
      world.fairlead.url,
      head('GET /proxy/x HTTP/1.1', 'Connection: Upgrade, close', `Upgrade: ${protocol}`),
    )
    assert.deepEqual(statuses(text), [405], protocol)
    assert.match(text, /Fairlead-Error: proxy_method_refused/)
  }
  // Node closes such a connection without a word.
  assert.doesNotMatch(
    await raw(world.fairlead.url, head('CONNECT 127.0.0.1:22 HTTP/1.1', 'Connection: close')),
    /HTTP\/1.1 2/,
  )
  assert.deepEqual(world.upstream.arrived, [])
})

test('an offer of clear-text HTTP/2 is ignored, not refused: Java makes it with every first request', async () => {
  const offer = [
    'Connection: Upgrade, HTTP2-Settings, close',
    'Upgrade: h2c',
    'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA',
  ]
  assert.deepEqual(statuses(await raw(world.fairlead.url, head('GET /proxy/x HTTP/1.1', ...offer))), [200])
  const { headers } = world.upstream.arrived[0]!
  assert.deepEqual([headers.upgrade, headers['http2-settings']], [undefined, undefined])
})

test('a caller that goes away is no failure of the server', async () => {
  const hangsUp = async (body: number) => {
    const closed = Promise.withResolvers<void>()
    const req = open(world.fairlead.url, {
      method: 'POST',
      path: '/proxy/x',
      headers: { ...naming(world, id), 'Content-Length': String(body + 1), Connection: 'close' },
      body: undefined as never,
    })
    req.on('error', () => closed.resolve())
    req.on('response', res => res.resume())
    setTimeout(() => req.destroy(), 30)
    await closed.promise
  }
  await Promise.all([hangsUp(10), hangsUp(100_000)])
  assert.equal((await send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) })).status, 200)
  assert.doesNotMatch(world.fairlead.log(), /unexpected failure/)
})
