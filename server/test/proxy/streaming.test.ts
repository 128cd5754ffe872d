/** A body is never gathered: memory stays flat, the slower side sets the pace, and a side that goes away takes the other with it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { type Duplex, PassThrough, Readable } from 'node:stream'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { lastFirst } from '../support/last-first.ts'
import { listening, naming, open, send, startWorld, type World } from './world.ts'

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
})

const chunk = Buffer.alloc(64 * 1024, 7)
const megabytes = (count: number) =>
  Readable.from(
    (function* () {
      for (let i = 0; i < count * 16; i++) yield chunk
    })(),
  )
const get = () => open(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) })
const post = (body: Readable, more: Record<string, string> = {}) =>
  open(world.fairlead.url, { method: 'POST', path: '/proxy/x', headers: { ...naming(world, id), ...more }, body })

async function until(what: () => boolean): Promise<void> {
  for (const end = Date.now() + 5_000; !what(); ) {
    assert.ok(Date.now() < end, 'it never came about')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

/** The most this process grew while `work` ran. Caller, server and upstream all live in it. */
async function growth(work: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage.rss()
  let most = before
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss())
  }, 20)
  try {
    await work()
  } finally {
    clearInterval(watch)
  }
  return (most - before) / 2 ** 20
}

const size = 128

test(`${size} MB down and chunked up, in flat memory`, async () => {
  const through = async (size: number) => {
    const length = { 'Content-Length': String(size * 2 ** 20) }
    world.upstream.early = (_req, res) => void megabytes(size).pipe(res.writeHead(200, length))
    let down = 0
    const [res] = await once(get(), 'response')
    for await (const piece of res) down += piece.length
    assert.equal(down, size * 2 ** 20)

    world.upstream.early = async (req, res) => {
      let up = 0
      for await (const piece of req) up += piece.length
      res.end(String(up))
    }
    const [answer] = await once(post(megabytes(size)), 'response')
    assert.equal(String(await answer.toArray()), String(size * 2 ** 20))
  }
  // What a process takes for its first streams it keeps; what matters is that more bytes take no more.
  await through(16)
  const grown = await growth(() => through(size))
  assert.ok(grown < 80, `grew by ${grown} MB`)
})

test('the head and the first event of a stream arrive before the stream ends', async () => {
  const events = new PassThrough()
  world.upstream.early = (_req, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders()
    events.pipe(res)
  }
  const [res] = await once(get(), 'response')
  assert.equal(res.headers['content-type'], 'text/event-stream')
  for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
    events.write(event)
    const [piece] = await once(res, 'data')
    assert.equal(String(piece), event)
  }
  events.end()
  await once(res, 'end')
})

test('both directions at once: what is sent comes back before the sending ends', async () => {
  world.upstream.early = (req, res) => void req.pipe(res.writeHead(200))
  const body = new PassThrough()
  const req = post(body, { 'Transfer-Encoding': 'chunked' })
  body.write('ping')
  const [res] = await once(req, 'response')
  assert.equal(String((await once(res, 'data'))[0]), 'ping')
  body.end('pong')
  assert.equal(String((await once(res, 'data'))[0]), 'pong')
})

test('a caller that does not read stops the upstream', async () => {
  let sent = 0
  let stopped = false
  world.upstream.early = (_req, res) => {
    res.writeHead(200)
    const write = () => {
      while (sent < 256 * 2 ** 20) {
        sent += chunk.length
        if (!res.write(chunk)) {
          stopped = true
          return void res.once('drain', () => {
            stopped = false
            write()
          })
        }
      }
      res.end()
    }
    write()
  }
  const req = get()
  const [res] = await once(req, 'response')
  res.pause()
  // It has stopped when it says so and nothing moves for a while.
  let seen = -1
  for (let still = 0; still < 10; seen = sent) {
    await new Promise(resolve => setTimeout(resolve, 10))
    still = stopped && seen === sent ? still + 1 : 0
  }
  assert.ok(sent < 64 * 2 ** 20, `the upstream wrote ${sent} bytes into the void`)
  req.destroy()
})

test('an upstream that does not read stops the caller', async () => {
  const sockets = new Set<Duplex>()
  world.upstream.early = req => void sockets.add(req.socket)
  let read = 0
  const body = Readable.from(
    (function* () {
      for (; read < 256 * 2 ** 20; read += chunk.length) yield chunk
    })(),
  )
  const req = post(body).on('error', () => {})
  let seen = -1
  for (let still = 0; still < 10; seen = read) {
    await new Promise(resolve => setTimeout(resolve, 10))
    still = read > 0 && seen === read ? still + 1 : 0
  }
  assert.ok(read < 64 * 2 ** 20, `${read} bytes were taken in`)
  for (const socket of sockets) socket.destroy()
  await new Promise(resolve => req.once('close', resolve))
})

test('a caller that goes away takes the upstream request with it', async () => {
  for (const begun of [false, true]) {
    const gone = Promise.withResolvers<void>()
    world.upstream.early = (_req, res) => {
      res.on('close', () => gone.resolve())
      if (begun) res.write('x')
      arrived()
    }
    let arrived = () => {}
    const there = new Promise<void>(resolve => {
      arrived = resolve
    })
    const req = get().on('error', () => {})
    if (begun) await once(req, 'response')
    await there
    req.destroy()
    await gone.promise
  }
  assert.doesNotMatch(world.fairlead.log(), /unexpected failure/)
})

test('a caller that goes away while it sends cuts the upload, which never ends cleanly', async () => {
  for (const framing of [{ 'Content-Length': '1000000' }, { 'Transfer-Encoding': 'chunked' }] as const) {
    const ended = Promise.withResolvers<boolean>()
    const begun = Promise.withResolvers<void>()
    world.upstream.early = req => {
      req.on('error', () => {}).on('close', () => ended.resolve(req.complete))
      req.once('data', () => begun.resolve())
    }
    const body = new PassThrough()
    const req = post(body, framing).on('error', () => {})
    body.write('x'.repeat(1000))
    await begun.promise
    req.destroy()
    assert.equal(await ended.promise, false)
  }
})

test('an answer cut short is cut for the caller, never ended', async () => {
  const rows: Record<string, string>[] = [{ 'Content-Length': '100000' }, {}]
  for (const headers of rows) {
    world.upstream.early = (_req, res) => {
      res.writeHead(200, headers)
      res.write('x'.repeat(1000), () => res.socket!.destroy())
    }
    await assert.rejects(
      send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) }),
      /aborted|ECONNRESET/,
    )
  }
})

test('an answer that comes before the whole body reaches a caller that is still sending', async () => {
  for (const framing of [{ 'Content-Length': String(64 * 2 ** 20) }, {}]) {
    world.upstream.early = (_req, res) => void res.writeHead(413).end('too large')
    const got = await send(world.fairlead.url, {
      method: 'POST',
      path: '/proxy/x',
      headers: { ...naming(world, id), ...framing, Connection: 'keep-alive' } as Record<string, string>,
      body: megabytes(64),
    })
    assert.deepEqual([got.status, got.text], [413, 'too large'])
  }
})

describe('an answer before the whole body, from a provider that then closes', () => {
  const answers: Record<string, (socket: Socket) => void> = {
    'and reads no more': socket => socket.pause().end(early),
    'and says so, reading on': socket =>
      socket.resume().end(early.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')),
  }
  let early = ''
  for (const [name, act] of Object.entries(answers))
    for (const status of [401, 403, 413, 417])
      test(`${status}, ${name}`, async t => {
        early = `HTTP/1.1 ${status} Early\r\nContent-Length: 5\r\n\r\nearly`
        const upstream = createServer(socket => {
          socket.on('error', () => {}).once('data', () => act(socket))
        })
        const port = await listening(upstream)
        t.after(() => upstream.close())
        const connection = await world.connect('own', `http://127.0.0.1:${port}`)
        for (const framing of [{ 'Content-Length': String(8 * 2 ** 20) }, {}])
          for (const expects of [{}, { Expect: '100-continue' }]) {
            const got = await send(world.fairlead.url, {
              method: 'POST',
              path: '/proxy/x',
              headers: { ...naming(world, connection), ...framing, ...expects, Connection: 'keep-alive' } as Record<
                string,
                string
              >,
              body: megabytes(8),
            })
            assert.deepEqual([got.status, got.ours, got.text], [status, undefined, 'early'])
          }
      })
})

test('so does an error of our own', async () => {
  const got = await send(world.fairlead.url, {
    method: 'POST',
    path: '/proxy/x',
    headers: { ...naming(world, 'nobody'), 'Content-Length': String(32 * 2 ** 20), Connection: 'keep-alive' },
    body: megabytes(32),
  })
  assert.deepEqual([got.status, got.ours], [400, 'unknown_connection'])
})

test('nothing stays behind: after all this, calls still work', async () => {
  world.upstream.early = undefined
  world.upstream.answer = (_req, res) => void res.end('ok')
  const all = await Promise.all(
    Array.from({ length: 200 }, () => send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) })),
  )
  assert.deepEqual(new Set(all.map(got => got.text)), new Set(['ok']))
  await until(() => world.upstream.arrived.length >= 200)
})
