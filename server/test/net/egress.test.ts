/**
 * The egress against real sockets. Two promises are tested by counting: what the policy refuses opens no connection (and,
 * for addresses, asks no resolver), and what fails says truthfully whether a byte was written.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { EgressError } from '../../src/errors.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { type Address, type DialOptions, dialer } from '../../src/net/dial.ts'
import { createEgress, egressPhaseOf } from '../../src/net/egress.ts'
import { exchange } from '../../src/net/exchange.ts'
import type { Egress, EgressRequest } from '../../src/seams.ts'
import { forbiddenLiterals, forbiddenNames } from './support/hosts.ts'
import type { PeerData } from './support/peer.ts'
import { answering, certificate, closedPort, listen, rawServer } from './support/servers.ts'

const address = (text: string): Address => ({ address: text, family: text.includes(':') ? 6 : 4 })

function open(t: TestContext, allow = '', options: Omit<DialOptions, 'rules'> = {}): Egress {
  const egress = createEgress({ rules: parseEgressAllow(allow).rules, ...options })
  t.after(() => egress.close())
  return egress
}

const ask = (url: string, more: Partial<EgressRequest> = {}): EgressRequest => ({
  method: 'GET',
  url: new URL(url),
  deadlineMs: 10_000,
  maxBytes: 64 * 1024,
  ...more,
})

type Expected = Pick<EgressError, 'phase'> & Partial<Pick<EgressError, 'reason'>>

async function fails(work: Promise<unknown>, expected: Expected): Promise<EgressError> {
  const error = await work.then(
    () => assert.fail(`should have ended as ${expected.phase}`),
    error => error,
  )
  assert.ok(error instanceof EgressError, error)
  assert.deepEqual({ phase: error.phase, reason: error.reason }, { reason: undefined, ...expected }, error.message)
  return error
}

/** One dispatch through the proxy's data path. */
function dispatch(egress: Egress, origin: string, headers: Record<string, string> = {}): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const chunks: Buffer[] = []
  egress.dispatcher.dispatch(
    { origin, path: '/', method: 'GET', headers },
    {
      onRequestStart: () => {},
      onResponseStart: () => {},
      onResponseData: (_controller, chunk) => void chunks.push(chunk),
      onResponseEnd: () => resolve(Buffer.concat(chunks).toString()),
      onResponseError: (_controller, error) => reject(error),
    },
  )
  return promise
}

// ---- what is refused opens nothing

test('no forbidden host opens a connection or asks a resolver, by either path', async t => {
  const { port, sockets } = await rawServer(t, socket => socket.destroy())
  let lookups = 0
  const lookup = async () => {
    lookups++
    return [address('127.0.0.1')]
  }
  const egress = open(t, '', { lookup })
  for (const host of [...forbiddenLiterals, ...forbiddenNames]) {
    for (const scheme of ['https', 'http']) {
      const url = `${scheme}://${host}:${port}/`
      assert.throws(() => egress.check(new URL(url)), { name: 'EgressError', phase: 'refused' }, url)
      await fails(egress.request(ask(url, { ready: async () => assert.fail('asked') })), { phase: 'refused' })
      await fails(egress.request(ask(url, { repeatable: true })), { phase: 'refused' })
      // undici keeps no user information of an origin, so there is none to judge on that path.
      if (!host.includes('@')) await fails(dispatch(egress, url.slice(0, -1)), { phase: 'refused' })
    }
  }
  for (const url of [
    'ftp://api.example/',
    'file:///etc/passwd',
    'gopher://api.example/',
    'ws://api.example/',
    'data:,x',
  ]) {
    await fails(egress.request(ask(url)), { phase: 'refused' })
  }
  assert.deepEqual({ connections: sockets.length, lookups }, { connections: 0, lookups: 0 })

  // The counters count: the same requests, allowed, do connect.
  const allowed = open(t, '127.0.0.1,api.example', { lookup })
  await fails(allowed.request(ask(`http://0x7f000001:${port}/`)), { phase: 'unanswered' })
  await fails(allowed.request(ask(`http://api.example:${port}/`)), { phase: 'unanswered' })
  assert.deepEqual({ connections: sockets.length, lookups }, { connections: 2, lookups: 1 })
})

test('a name with one forbidden address among its addresses opens no connection, by either path', async t => {
  const { port, sockets } = await rawServer(t, socket => socket.destroy())
  const good = [address('8.8.8.8'), address('2606:4700::1111')]
  const forbidden = forbiddenLiterals
    .map(host => new URL(`https://${host}/`).hostname.replace(/[[\]]/g, ''))
    .concat('fe80::1%lo', '::ffff:10.0.0.1', 'nonsense')
  for (const bad of forbidden) {
    for (const answer of [[address(bad)], [address(bad), ...good], [...good, address(bad)]]) {
      const egress = open(t, '', { lookup: async () => answer })
      await fails(egress.request(ask(`https://api.example:${port}/`)), { phase: 'refused' })
      await fails(dispatch(egress, `https://api.example:${port}`), { phase: 'refused' })
    }
  }
  assert.equal(sockets.length, 0)
})

test('a resolver that alternates is asked once per connection, and the judged address is the one dialled', async t => {
  const secure = createHttps(certificate(), (_request, response) => response.end('hello'))
  const dialled: unknown[] = []
  secure.on('connection', (socket: Socket) => dialled.push(socket.localAddress))
  const { port } = await listen(t, secure, '0.0.0.0')
  let lookups = 0
  // 127.0.0.2 plays the public address; 127.0.0.1 is where the rebinding server wants us.
  const lookup = async () => [address(lookups++ % 2 === 0 ? '127.0.0.2' : '127.0.0.1')]
  const egress = open(t, '127.0.0.2', { lookup, ca: certificate().cert })
  for (let i = 0; i < 3; i++) {
    const answer = await egress.request(ask(`https://api.example:${port}/`))
    assert.equal(answer.body.toString(), 'hello')
    await fails(egress.request(ask(`https://api.example:${port}/`)), { phase: 'refused' })
  }
  assert.equal(lookups, 6)
  assert.deepEqual(dialled, ['127.0.0.2', '127.0.0.2', '127.0.0.2'])
})

test('connections that wait for the same name share one lookup', async t => {
  const { port } = await answering(t, 'HTTP/1.1 200 OK\r\n\r\n')
  let lookups = 0
  const answer = Promise.withResolvers<Address[]>()
  const lookup = () => {
    lookups++
    return answer.promise
  }
  const egress = open(t, 'api.example', { lookup })
  const both = [1, 2].map(() => egress.request(ask(`http://api.example:${port}/`)))
  answer.resolve([address('127.0.0.1')])
  await Promise.all(both)
  assert.equal(lookups, 1)
})

// ---- what is allowed

const allowed: [allow: (port: number) => string, url: (port: number) => string][] = [
  [() => '127.0.0.1', port => `http://127.0.0.1:${port}/`],
  [() => '127.0.0.0/8', port => `http://2130706433:${port}/`],
  [port => `127.0.0.1:${port}`, port => `http://127.0.0.1:${port}/`],
  [port => `127.0.0.1:${port}`, port => `http://localhost:${port}/`],
  [() => '127.0.0.1', port => `http://acme--uat.sandbox.my.salesforce.localhost:${port}/`],
  [port => `*.localhost:${port}`, port => `http://acme.localhost:${port}/`],
  [() => '*.sim.example', port => `http://a.sim.example:${port}/`],
  [() => 'sim', port => `http://SIM:${port}/`],
]

for (const [allow, url] of allowed) {
  test(`"${allow(80)}" lets ${url(80)} through, Host as asked`, async t => {
    let seen: string | undefined
    const server = createHttp((request, response) => {
      seen = request.headers.host
      response.end('hello')
    })
    const { port } = await listen(t, server)
    const lookups: string[] = []
    const lookup = async (host: string) => {
      lookups.push(host)
      return [address('127.0.0.1')]
    }
    const egress = open(t, allow(port), { lookup })
    const target = new URL(url(port))
    assert.equal((await egress.request(ask(target.href))).body.toString(), 'hello')
    assert.equal(seen, target.host)
    assert.equal(await dispatch(egress, target.origin), 'hello')
    assert.equal(seen, target.host)
    // RFC 6761: *.localhost never reaches a resolver.
    if (/localhost|\d$/.test(target.hostname)) assert.deepEqual(lookups, [])
    else assert.deepEqual(lookups, [target.hostname, target.hostname])
  })
}

test('several addresses: the one that answers is used', async t => {
  const { port } = await answering(t, 'HTTP/1.1 204 No Content\r\n\r\n')
  const egress = open(t, 'sim', { lookup: async () => [address('127.0.0.9'), address('127.0.0.1')] })
  assert.equal((await egress.request(ask(`http://sim:${port}/`))).status, 204)
})

// ---- one request: before the write

test('ready is asked when the connection stands and nothing is written; then the whole request is', async t => {
  const accepted = Promise.withResolvers<Socket>()
  let received = ''
  const { port } = await rawServer(t, socket => {
    accepted.resolve(socket)
    socket.on('data', chunk => {
      received += chunk.toString()
      if (received.endsWith('}')) socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: 1\r\n\r\nok')
    })
  })
  const egress = open(t, '127.0.0.1')
  const answer = await egress.request(
    ask(`http://127.0.0.1:${port}/token?a=b`, {
      method: 'POST',
      body: '{"é":1}',
      headers: {
        'Content-Type': 'application/json',
        Host: 'evil.example',
        'Transfer-Encoding': 'chunked',
        'Content-Length': '1',
      },
      ready: async () => {
        const socket = await accepted.promise
        assert.equal(socket.bytesRead, 0)
        return true
      },
    }),
  )
  assert.deepEqual([answer.status, answer.body.toString(), answer.headers['x-a']], [200, 'ok', '1'])
  const [head = '', body] = received.split('\r\n\r\n')
  assert.equal(body, '{"é":1}')
  assert.deepEqual(
    head.split('\r\n').sort(),
    [
      'POST /token?a=b HTTP/1.1',
      'accept-encoding: identity',
      'accept: */*',
      'connection: close',
      'content-length: 8',
      'content-type: application/json',
      `host: 127.0.0.1:${port}`,
      'user-agent: fairlead/0.1.0',
    ].sort(),
  )
})

test('ready says no: not one byte arrives', async t => {
  const bytes = Promise.withResolvers<number>()
  const { port } = await rawServer(t, socket => socket.on('close', () => bytes.resolve(socket.bytesRead)).resume())
  const egress = open(t, '127.0.0.1')
  const work = egress.request(ask(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'x', ready: async () => false }))
  await fails(work, { phase: 'unsent', reason: 'withheld' })
  assert.equal(await bytes.promise, 0)
})

test('ready throws: not one byte arrives, and the cause is kept', async t => {
  const bytes = Promise.withResolvers<number>()
  const { port } = await rawServer(t, socket => socket.on('close', () => bytes.resolve(socket.bytesRead)).resume())
  const egress = open(t, '127.0.0.1')
  const cause = new Error('database gone')
  const work = egress.request(ask(`http://127.0.0.1:${port}/`, { ready: () => Promise.reject(cause) }))
  assert.equal((await fails(work, { phase: 'unsent', reason: 'withheld' })).cause, cause)
  assert.equal(await bytes.promise, 0)
})

test('the connection breaks while ready is asked: unsent, and not reported before ready has answered', async t => {
  const { port, sockets } = await rawServer(t, () => {})
  const line = await dialer({ rules: parseEgressAllow('127.0.0.1').rules })(new URL(`http://127.0.0.1:${port}/`))
  let answered = false
  const ready = async () => {
    const closed = new Promise(resolve => line.socket.once('close', resolve))
    sockets[0]?.resetAndDestroy()
    await closed
    for (let i = 0; i < 10; i++) await new Promise(setImmediate)
    answered = true
    return true
  }
  await fails(
    exchange(line, ask(`http://127.0.0.1:${port}/`, { ready }), 'test').finally(() => assert.ok(answered)),
    { phase: 'unsent' },
  )
})

test('a server that answers before it was asked is not believed', async t => {
  const { port } = await rawServer(t, socket => void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'))
  const line = await dialer({ rules: parseEgressAllow('127.0.0.1').rules })(new URL(`http://127.0.0.1:${port}/`))
  const ready = async () => {
    if (!line.socket.destroyed) await new Promise(resolve => line.socket.once('close', resolve))
    return true
  }
  await fails(exchange(line, ask(`http://127.0.0.1:${port}/`, { ready }), 'test'), { phase: 'unsent' })
})

test('a header value that HTTP cannot carry: unsent', async t => {
  const { port } = await rawServer(t, () => {})
  const egress = open(t, '127.0.0.1')
  await fails(egress.request(ask(`http://127.0.0.1:${port}/`, { headers: { authorization: 'Bearer a\r\nx: y' } })), {
    phase: 'unsent',
  })
})

async function peer(t: TestContext, data: Omit<PeerData, 'signal'>) {
  const signal = new Int32Array(new SharedArrayBuffer(8))
  const worker = new Worker(new URL('./support/peer.ts', import.meta.url), { workerData: { ...data, signal } })
  t.after(() => worker.terminate())
  const [port] = (await once(worker, 'message')) as [number]
  /** Stops this thread, event loop and all, until the peer got to `stage`. */
  const blockUntil = (stage: number) => {
    const end = performance.now() + 5000
    for (let at = Atomics.load(signal, 0); at < stage && performance.now() < end; at = Atomics.load(signal, 0)) {
      Atomics.wait(signal, 0, at, 5000)
    }
    return Atomics.load(signal, 0) >= stage
  }
  /** Stops this thread for a time. */
  const blockFor = (ms: number) => void Atomics.wait(signal, 1, 0, ms)
  return { port, blockUntil, blockFor }
}

for (const scheme of ['http', 'https'] as const) {
  const tls = () => (scheme === 'https' ? certificate() : undefined)

  test(`${scheme}: the request is in the kernel before anything else runs after ready`, async t => {
    const { port, blockUntil } = await peer(t, { tls: tls(), answerBytes: 2, delimited: true })
    const egress = open(t, '127.0.0.1', { ca: certificate().cert })
    let arrived = false
    const answer = await egress.request(
      ask(`${scheme}://127.0.0.1:${port}/`, {
        method: 'POST',
        body: 'x'.repeat(4000),
        // Runs after the promise continuations of this turn, before any I/O of ours can.
        ready: async () => {
          process.nextTick(() => {
            arrived = blockUntil(1)
          })
          return true
        },
      }),
    )
    assert.ok(arrived)
    assert.equal(answer.body.toString(), 'aa')
  })

  for (const delimited of [true, false]) {
    test(`${scheme}: an answer ${delimited ? '' : 'without length '}already in the kernel is read although the deadline passed`, async t => {
      const answerBytes = 100_000
      const { port, blockUntil, blockFor } = await peer(t, { tls: tls(), answerBytes, delimited })
      const egress = open(t, '127.0.0.1', { ca: certificate().cert })
      const answer = await egress.request(
        ask(`${scheme}://127.0.0.1:${port}/`, {
          deadlineMs: 20,
          maxBytes: answerBytes,
          ready: async () => {
            process.nextTick(() => {
              assert.ok(blockUntil(2))
              blockFor(40)
            })
            return true
          },
        }),
      )
      assert.equal(answer.body.length, answerBytes)
    })
  }
}

// ---- one request: after the write

for (const trickle of [false, true]) {
  test(`the deadline ends ${trickle ? 'a trickle' : 'silence'} with a reset, and not early`, async t => {
    const ended = Promise.withResolvers<string | undefined>()
    const { port } = await rawServer(t, socket => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n')
      const drip = trickle ? setInterval(() => socket.write('.'), 5) : undefined
      socket.resume().on('error', (error: NodeJS.ErrnoException) => ended.resolve(error.code))
      socket.on('close', () => {
        clearInterval(drip)
        ended.resolve(undefined)
      })
    })
    const egress = open(t, '127.0.0.1')
    let start = 0
    const ready = async () => {
      start = performance.now()
      return true
    }
    const work = egress.request(ask(`http://127.0.0.1:${port}/`, { deadlineMs: 100, ready }))
    await fails(work, { phase: 'unanswered', reason: 'deadline' })
    assert.ok(performance.now() - start >= 100)
    assert.ok(['ECONNRESET', 'EPIPE'].includes(String(await ended.promise)), String(await ended.promise))
  })
}

test('the time ready takes does not count towards the deadline', async t => {
  const { port } = await answering(t, 'HTTP/1.1 200 OK\r\n\r\nok')
  const egress = open(t, '127.0.0.1')
  const ready = async () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
    return true
  }
  const answer = await egress.request(ask(`http://127.0.0.1:${port}/`, { deadlineMs: 250, ready }))
  assert.equal(answer.body.toString(), 'ok')
})

test('at the deadline a TLS connection is reset as well', async t => {
  const ended = Promise.withResolvers<string | undefined>()
  const secure = createHttps(certificate(), () => {})
  secure.on('connection', (socket: Socket) => {
    socket.on('error', (error: NodeJS.ErrnoException) => ended.resolve(error.code))
    socket.on('close', () => ended.resolve(undefined))
  })
  secure.on('secureConnection', (socket: Socket) => {
    socket.on('error', (error: NodeJS.ErrnoException) => ended.resolve(error.code))
  })
  const { port } = await listen(t, secure)
  const egress = open(t, '127.0.0.1', { ca: certificate().cert })
  await fails(egress.request(ask(`https://127.0.0.1:${port}/`, { deadlineMs: 50 })), {
    phase: 'unanswered',
    reason: 'deadline',
  })
  assert.equal(await ended.promise, 'ECONNRESET')
})

const head = (extra = '') => `HTTP/1.1 200 OK\r\n${extra}\r\n`
const coded = (coding: string, body: Buffer) =>
  Buffer.concat([Buffer.from(head(`content-encoding: ${coding}\r\ncontent-length: ${body.length}\r\n`)), body])
const reset = (socket: Socket) => void socket.resetAndDestroy()
const stay = () => {}
const bomb = Buffer.alloc(4 * 1024 * 1024)

const unanswered: [what: string, text: string | Buffer, then: (socket: Socket) => void, reason?: 'too_large'][] = [
  ['a connection closed without a word', '', socket => socket.end()],
  ['a connection reset without a word', '', reset],
  ['a reset in the middle of the body', `${head('content-length: 100\r\n')}abc`, reset],
  ['an end in the middle of the body', `${head('content-length: 100\r\n')}abc`, socket => socket.end()],
  ['an end in the middle of a chunk', `${head('transfer-encoding: chunked\r\n')}5\r\nabc`, socket => socket.end()],
  ['an end in the middle of the head', 'HTTP/1.1 200 OK\r\ncont', socket => socket.end()],
  ['an answer that is not HTTP', 'SSH-2.0-OpenSSH_9.9\r\n', stay],
  [
    'a protocol switch nobody asked for',
    'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
    stay,
  ],
  ['conflicting lengths', `${head('content-length: 1\r\ncontent-length: 2\r\n')}abc`, stay],
  ['corrupt gzip', coded('gzip', Buffer.from('not gzip at all')), stay],
  ['truncated gzip', coded('gzip', gzipSync('hello').subarray(0, 20)), stay],
  ['a body longer than maxBytes', `${head(`content-length: 70000\r\n`)}${'a'.repeat(70_000)}`, stay, 'too_large'],
  ['an endless body', `${head()}${'a'.repeat(70_000)}`, stay, 'too_large'],
  ['a flood of header bytes', `${head(`x: ${'a'.repeat(40_000)}\r\n`)}`, stay, 'too_large'],
  ['a flood of headers', `${head('x: aaaaaaaa\r\n'.repeat(5000))}`, stay, 'too_large'],
  ['a gzip bomb', coded('gzip', gzipSync(bomb)), stay, 'too_large'],
  ['a deflate bomb', coded('deflate', deflateSync(bomb)), stay, 'too_large'],
  ['a brotli bomb', coded('br', brotliCompressSync(bomb)), stay, 'too_large'],
]

for (const [what, text, then, reason] of unanswered) {
  test(`${what}: unanswered, alone and by the pool`, async t => {
    const { port, sockets } = await answering(t, text, then)
    const egress = open(t, '127.0.0.1')
    for (const repeatable of [false, true])
      await fails(egress.request(ask(`http://127.0.0.1:${port}/`, { repeatable })), { phase: 'unanswered', reason })
    assert.equal(sockets.length, 2, 'nothing is sent again')
  })
}

const readable: [what: string, text: string | Buffer, then: (socket: Socket) => void, status: number, body: string][] =
  [
    ['a body ended by the connection', `${head()}hello`, socket => socket.end(), 200, 'hello'],
    ['a chunked body', `${head('transfer-encoding: chunked\r\n')}5\r\nhello\r\n0\r\n\r\n`, stay, 200, 'hello'],
    ['exactly maxBytes', `${head('content-length: 65536\r\n')}${'a'.repeat(65_536)}`, stay, 200, 'a'.repeat(65_536)],
    ['gzip', coded('gzip', gzipSync('hello')), stay, 200, 'hello'],
    ['x-gzip', coded('X-GZIP', gzipSync('hello')), stay, 200, 'hello'],
    ['deflate', coded('deflate', deflateSync('hello')), stay, 200, 'hello'],
    ['raw deflate', coded('deflate', deflateRawSync('hello')), stay, 200, 'hello'],
    ['brotli', coded('br', brotliCompressSync('hello')), stay, 200, 'hello'],
    ['gzip of nothing', coded('gzip', Buffer.alloc(0)), stay, 200, ''],
    ['a coding nobody knows', coded('zstd', Buffer.from('hello')), stay, 200, 'hello'],
    [
      '1xx before the answer',
      `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n${head('content-length: 5\r\n')}hello`,
      stay,
      200,
      'hello',
    ],
    ['a refusal', 'HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno', stay, 400, 'no'],
  ]

for (const [what, text, then, status, body] of readable) {
  test(`${what}: read, alone and by the pool`, async t => {
    const { port } = await answering(t, text, then)
    for (const repeatable of [false, true]) {
      const answer = await open(t, '127.0.0.1').request(ask(`http://127.0.0.1:${port}/`, { repeatable }))
      assert.deepEqual([answer.status, answer.body.toString()], [status, body])
      if (answer.headers['content-encoding']) assert.ok(['zstd', 'gzip'].includes(answer.headers['content-encoding']))
    }
  })
}

test('a redirect is handed back, not followed', async t => {
  const elsewhere = await rawServer(t, () => {})
  const location = `http://127.0.0.1:${elsewhere.port}/`
  const { port, sockets } = await answering(t, `HTTP/1.1 307 Temporary Redirect\r\nlocation: ${location}\r\n\r\n`)
  const egress = open(t, '127.0.0.1')
  const answer = await egress.request(ask(`http://127.0.0.1:${port}/`))
  assert.deepEqual([answer.status, answer.headers.location], [307, location])
  assert.equal(await dispatch(egress, `http://127.0.0.1:${port}`), '')
  assert.deepEqual([sockets.length, elsewhere.sockets.length], [2, 0])
})

// ---- what fails before the connection stands

test('connection refused: unsent, by every path', async t => {
  const egress = open(t, '127.0.0.1')
  const port = await closedPort()
  const error = await fails(egress.request(ask(`http://127.0.0.1:${port}/?token=CANARY`)), { phase: 'unsent' })
  assert.match(error.message, /ECONNREFUSED/)
  assert.doesNotMatch(error.message, /CANARY/)
  const dispatched = await dispatch(egress, `http://127.0.0.1:${port}`).catch(error => error)
  assert.equal(egressPhaseOf(dispatched), 'unsent')
})

const lookups: [what: string, lookup: () => Promise<Address[]>][] = [
  ['a name that does not exist', () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' }))],
  ['a name without addresses', async () => []],
  ['a resolver that never answers', () => new Promise(() => {})],
]

for (const [what, lookup] of lookups) {
  test(`${what}: unsent`, async t => {
    const egress = open(t, 'api.example', { lookup, connectTimeoutMs: 50 })
    await fails(egress.request(ask('http://api.example/')), { phase: 'unsent' })
    await fails(dispatch(egress, 'http://api.example'), { phase: 'unsent' })
  })
}

test('a resolver that answers too late opens nothing', async t => {
  const { port, sockets } = await rawServer(t, () => {})
  const late = Promise.withResolvers<Address[]>()
  const egress = open(t, 'api.example', { lookup: () => late.promise, connectTimeoutMs: 20 })
  await fails(egress.request(ask(`http://api.example:${port}/`)), { phase: 'unsent' })
  late.resolve([address('127.0.0.1')])
  const probe = connect(port, '127.0.0.1')
  await once(probe, 'connect')
  while (sockets.length === 0) await new Promise(setImmediate)
  assert.equal(sockets.length, 1)
  probe.destroy()
})

test('a TLS handshake that stalls: unsent, and the socket is closed', async t => {
  const closed = Promise.withResolvers<void>()
  const { port } = await rawServer(t, socket => socket.resume().on('close', () => closed.resolve()))
  const egress = open(t, '127.0.0.1', { connectTimeoutMs: 50 })
  await fails(egress.request(ask(`https://127.0.0.1:${port}/`)), { phase: 'unsent' })
  await closed.promise
})

test('a certificate from nobody we trust: unsent, by either path, whatever the environment says', async t => {
  let requests = 0
  const { port } = await listen(
    t,
    createHttps(certificate(), () => requests++),
  )
  const egress = open(t, '127.0.0.1')
  const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  try {
    const error = await fails(egress.request(ask(`https://127.0.0.1:${port}/`)), { phase: 'unsent' })
    assert.match(error.message, /SELF_SIGNED/)
    await fails(dispatch(egress, `https://127.0.0.1:${port}`), { phase: 'unsent' })
  } finally {
    if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before
  }
  assert.equal(requests, 0)
})

test('a certificate for another name: unsent, and a Host header does not choose the name', async t => {
  let requests = 0
  const { port } = await listen(
    t,
    createHttps(certificate(), () => requests++),
  )
  const egress = open(t, '*.example', { lookup: async () => [address('127.0.0.1')], ca: certificate().cert })
  await fails(egress.request(ask(`https://other.example:${port}/`)), { phase: 'unsent' })
  await fails(dispatch(egress, `https://other.example:${port}`, { host: 'api.example' }), { phase: 'unsent' })
  assert.equal(requests, 0)
})

test('TLS 1.1: unsent', async t => {
  const old = { ...certificate(), minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
  const { port } = await listen(
    t,
    createHttps(old, () => assert.fail('asked')),
  )
  const egress = open(t, '127.0.0.1', { ca: certificate().cert })
  await fails(egress.request(ask(`https://127.0.0.1:${port}/`)), { phase: 'unsent' })
})

test('TLS by name: SNI is the name, the address is the resolved one; an address sends no SNI', async t => {
  const names: unknown[] = []
  const secure = createHttps(certificate(), (request, response) => {
    names.push((request.socket as Socket & { servername: unknown }).servername)
    response.end('hello')
  })
  const { port } = await listen(t, secure)
  const egress = open(t, '127.0.0.1', { lookup: async () => [address('127.0.0.1')], ca: certificate().cert })
  for (const host of ['api.example', 'acme.localhost', '127.0.0.1']) {
    assert.equal((await egress.request(ask(`https://${host}:${port}/`))).body.toString(), 'hello')
    assert.equal(await dispatch(egress, `https://${host}:${port}`), 'hello')
  }
  assert.deepEqual(names, ['api.example', 'api.example', 'acme.localhost', 'acme.localhost', false, false])
})

// ---- the dispatcher

test('the dispatcher keeps connections alive and ignores HTTP_PROXY', async t => {
  const trap = await rawServer(t, () => {})
  const { port, sockets } = await listen(
    t,
    createHttp((_request, response) => response.end('hello')),
  )
  const names = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'ALL_PROXY']
  for (const name of names) process.env[name] = `http://127.0.0.1:${trap.port}`
  try {
    const egress = open(t, '127.0.0.1')
    for (let i = 0; i < 3; i++) {
      assert.equal(await dispatch(egress, `http://127.0.0.1:${port}`), 'hello')
      // onResponseEnd is called before undici takes the connection back.
      await new Promise(setImmediate)
    }
    await egress.request(ask(`http://127.0.0.1:${port}/`))
  } finally {
    for (const name of names) delete process.env[name]
  }
  assert.deepEqual([sockets.length, trap.sockets.length], [2, 0])
})

test('what may be repeated shares a connection, and nothing else does', async t => {
  const seen: string[] = []
  const { port, sockets } = await listen(
    t,
    createHttp((request, response) => {
      seen.push(
        `${request.method} ${request.headers.host} ${request.headers['user-agent']} ${request.headers['accept-encoding']}`,
      )
      request.pipe(response)
    }),
  )
  const egress = open(t, '127.0.0.1')
  const url = `http://127.0.0.1:${port}/`
  for (const body of ['one', 'two']) {
    const answer = await egress.request(ask(url, { method: 'POST', body, repeatable: true }))
    assert.equal(answer.body.toString(), body)
    await new Promise(setImmediate)
  }
  assert.equal((await egress.request(ask(url, { repeatable: true }))).body.toString(), '')
  assert.equal(sockets.length, 1)
  await egress.request(ask(url, { method: 'POST', body: 'once' }))
  assert.equal(sockets.length, 2)
  const [first] = seen
  assert.deepEqual(seen, [first, first, first!.replace('POST', 'GET'), first])
  // The URL is judged although no connection has to be opened.
  await fails(egress.request(ask(`http://a:b@127.0.0.1:${port}/`, { repeatable: true })), { phase: 'refused' })
})

test('a question has its deadline: silence and a trickle end, and the connection with them', async t => {
  const { port, sockets } = await rawServer(t, socket => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n')
      const drip = setInterval(() => socket.write('.'), 5)
      socket.on('close', () => clearInterval(drip))
    })
  })
  const silent = await rawServer(t, socket => void socket.resume())
  const egress = open(t, '127.0.0.1')
  for (const to of [port, silent.port]) {
    const asked = egress.request(ask(`http://127.0.0.1:${to}/`, { deadlineMs: 100, repeatable: true }))
    await fails(asked, { phase: 'unanswered', reason: 'deadline' })
  }
  for (const socket of [...sockets, ...silent.sockets]) if (!socket.closed) await once(socket, 'close')
})

test('the dispatcher asks once: a connection that ends after the write is unanswered, and nothing is sent again', async t => {
  for (const then of [reset, (socket: Socket) => void socket.end()]) {
    const { port, sockets } = await answering(t, '', then)
    const error = await dispatch(open(t, '127.0.0.1'), `http://127.0.0.1:${port}`).catch(error => error)
    assert.equal(egressPhaseOf(error), 'unanswered')
    assert.equal(sockets.length, 1)
  }
})

test('close waits for what is under way, then nothing can be dispatched', async t => {
  const asked = Promise.withResolvers<() => void>()
  const { port } = await listen(
    t,
    createHttp((_request, response) => asked.resolve(() => response.end('hello'))),
  )
  const egress = createEgress({ rules: parseEgressAllow('127.0.0.1').rules })
  const answer = dispatch(egress, `http://127.0.0.1:${port}`)
  const release = await asked.promise
  const closed = egress.close()
  release()
  assert.equal(await answer, 'hello')
  await closed
  await assert.rejects(dispatch(egress, `http://127.0.0.1:${port}`), { code: 'UND_ERR_DESTROYED' })
})

const coding = (code: string, more: object = {}) => Object.assign(new Error(code), { code, ...more })
const phases: [error: unknown, phase: string][] = [
  [new EgressError('refused', 'x'), 'refused'],
  [new Error('wrapped', { cause: new EgressError('refused', 'x') }), 'refused'],
  [coding('ECONNREFUSED'), 'unsent'],
  [coding('ENOTFOUND', { syscall: 'getaddrinfo' }), 'unsent'],
  [coding('EHOSTUNREACH', { syscall: 'connect' }), 'unsent'],
  [coding('EHOSTUNREACH', { syscall: 'read' }), 'unanswered'],
  [coding('ETIMEDOUT', { syscall: 'read' }), 'unanswered'],
  [coding('UND_ERR_CONNECT_TIMEOUT'), 'unsent'],
  [coding('UND_ERR_CLOSED'), 'unsent'],
  [coding('UND_ERR_DESTROYED'), 'unanswered'],
  [coding('SELF_SIGNED_CERT_IN_CHAIN'), 'unsent'],
  [coding('ERR_TLS_CERT_ALTNAME_INVALID'), 'unsent'],
  [coding('CERT_HAS_EXPIRED'), 'unsent'],
  [coding('UND_ERR_SOCKET'), 'unanswered'],
  [coding('UND_ERR_HEADERS_TIMEOUT'), 'unanswered'],
  [coding('UND_ERR_BODY_TIMEOUT'), 'unanswered'],
  [coding('ECONNRESET'), 'unanswered'],
  [coding('EPIPE'), 'unanswered'],
  [new Error('?'), 'unanswered'],
  ['?', 'unanswered'],
]

for (const [error, phase] of phases) {
  test(`${String(error)} ${JSON.stringify(error)} means ${phase}`, () => assert.equal(egressPhaseOf(error), phase))
}
