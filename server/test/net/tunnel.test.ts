/** The egress proxies: which host goes through which, what they are told, and that nothing goes around them. */
import assert from 'node:assert/strict'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { connect, createServer, type Socket } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { createEgress } from '../../src/net/egress.ts'
import { parseEgressProxies, proxyFor } from '../../src/net/tunnel.ts'
import { freePort } from '../support/fairlead.ts'
import { answering, certificate, listen } from './support/servers.ts'

const one = (text: string) => parseEgressProxies(text).proxies[0]!

test('what the variable may say', () => {
  const { proxies, faults } = parseEgressProxies(
    'acme.my.salesforce.com=http://u:p%40ss@10.0.0.1:8080, *.salesforce.com=socks5://gate , http://[::1]',
  )
  assert.deepEqual(faults, [])
  assert.deepEqual(
    proxies.map(({ host, kind, address, user }) => [
      host,
      kind,
      address.host,
      address.port,
      user?.name,
      user?.password.reveal(),
    ]),
    [
      ['acme.my.salesforce.com', 'http', '10.0.0.1', 8080, 'u', 'p@ss'],
      ['*.salesforce.com', 'socks5', 'gate', 1080, undefined, undefined],
      [undefined, 'http', '::1', 80, undefined, undefined],
    ],
  )
  const named = (host: string) => proxyFor(proxies, host)?.address.host
  assert.equal(named('acme.my.salesforce.com'), '10.0.0.1')
  assert.equal(named('other.my.salesforce.com'), 'gate')
  assert.equal(named('salesforce.com'), '::1')
  assert.equal(named('notsalesforce.com'), '::1')
  assert.equal(proxyFor(proxies.slice(0, 2), 'api.example.com'), undefined)
  assert.deepEqual(parseEgressProxies('  '), { proxies: [], faults: [] })
})

test('what cannot be read is a fault that quotes no password', () => {
  for (const entry of [
    'proxy:3128',
    'https://canary:x@gate',
    'http://canary@gate/path',
    'UPPER=http://gate',
    'a b=http://gate',
    'http://',
    '',
  ])
    assert.equal(parseEgressProxies(`http://good,${entry}`).faults.length, 1, entry)
  for (const fault of parseEgressProxies('ftp://canary:canary@gate').faults) assert.doesNotMatch(fault, /canary/)
})

interface Asked {
  target: string
  login: string | undefined
}

/** A CONNECT proxy that notes what it is asked; `answer` other than 200 refuses. */
async function connectProxy(t: TestContext, status = 200) {
  const asked: Asked[] = []
  const server = createHttp()
  server.on('connect', (req, socket: Socket) => {
    const login = req.headers['proxy-authorization']
    asked.push({ target: req.url!, login: login && Buffer.from(login.split(' ')[1]!, 'base64').toString() })
    if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`)
    joinTo(req.url!, socket)
  })
  const { port } = await listen(t, server)
  return { asked, port }
}

function joinTo(target: string, socket: Socket, greeting = 'HTTP/1.1 200 OK\r\n\r\n') {
  const [host, port] = [target.slice(0, target.lastIndexOf(':')), target.slice(target.lastIndexOf(':') + 1)]
  const far = connect(Number(port), host, () => {
    socket.write(Buffer.from(greeting, 'latin1'))
    far.pipe(socket)
    socket.pipe(far)
  })
  far.on('error', () => socket.destroy())
  socket.on('close', () => far.destroy())
}

/** The part of RFC 1928 and 1929 a server needs, for IPv4 targets. */
async function socksProxy(t: TestContext) {
  const asked: Asked[] = []
  const server = createServer(socket => {
    let login: string | undefined
    socket.once('data', (methods: Buffer) => {
      const wantsLogin = methods.subarray(2).includes(2)
      const target = () =>
        socket.once('data', (ask: Buffer) => {
          assert.deepEqual([...ask.subarray(0, 4)], [5, 1, 0, 1], 'CONNECT to an IPv4 address')
          const at = `${ask.subarray(4, 8).join('.')}:${ask.readUInt16BE(8)}`
          asked.push({ target: at, login })
          joinTo(at, socket, '\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00')
        })
      if (wantsLogin) {
        socket.once('data', (said: Buffer) => {
          const name = said.subarray(2, 2 + said[1]!)
          login = `${name}:${said.subarray(3 + name.length)}`
          target()
          socket.write(Buffer.from([1, 0]))
        })
        return void socket.write(Buffer.from([5, 2]))
      }
      target()
      socket.write(Buffer.from([5, 0]))
    })
  })
  const { port } = await listen(t, server)
  return { asked, port }
}

describe('through a proxy', () => {
  for (const kind of ['http', 'socks5'] as const)
    for (const login of ['', 'user:canary-pass@'])
      test(`${kind} ${login}`, async t => {
        const proxy = kind === 'http' ? await connectProxy(t) : await socksProxy(t)
        const { key, cert } = certificate()
        const { port } = await listen(
          t,
          createHttps({ key, cert }, (_req, res) => void res.end('over TLS')),
        )
        const egress = createEgress({
          rules: parseEgressAllow('127.0.0.1').rules,
          proxies: [one(`${kind}://${login}127.0.0.1:${proxy.port}`)],
          lookup: async () => [{ address: '127.0.0.1', family: 4 }],
          ca: cert,
        })
        t.after(() => egress.close())
        const answer = await egress.request({
          method: 'GET',
          url: new URL(`https://api.example:${port}/`),
          deadlineMs: 5_000,
          maxBytes: 1_000,
        })
        assert.equal(answer.body.toString(), 'over TLS')
        // The judged address, not the name; the certificate is still the name's.
        assert.deepEqual(proxy.asked, [{ target: `127.0.0.1:${port}`, login: login ? 'user:canary-pass' : undefined }])
      })
})

test('what the policy refuses does not reach the proxy, by name or by address', async t => {
  const proxy = await connectProxy(t)
  const egress = createEgress({
    rules: [],
    proxies: [one(`http://127.0.0.1:${proxy.port}`)],
    lookup: async () => [{ address: '10.0.0.1', family: 4 }],
  })
  t.after(() => egress.close())
  for (const url of [
    'https://inside.example.com/',
    'https://169.254.169.254/',
    'https://localhost/',
    'http://example.com/',
  ])
    await assert.rejects(
      egress.request({ method: 'GET', url: new URL(url), deadlineMs: 1_000, maxBytes: 10 }),
      (error: { phase?: string }) => error.phase === 'refused',
    )
  assert.deepEqual(proxy.asked, [])
})

test('a proxy that refuses or is not there: nothing was sent, and nothing goes around it', async t => {
  const { port, sockets } = await answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  const { port: refusing } = await connectProxy(t, 407)
  const gone = await freePort()
  for (const proxy of [
    `http://user:canary@127.0.0.1:${refusing}`,
    `socks5://127.0.0.1:${refusing}`,
    `http://127.0.0.1:${gone}`,
  ]) {
    const egress = createEgress({ rules: parseEgressAllow('127.0.0.1').rules, proxies: [one(proxy)] })
    t.after(() => egress.close())
    await assert.rejects(
      egress.request({ method: 'GET', url: new URL(`http://127.0.0.1:${port}/`), deadlineMs: 1_000, maxBytes: 10 }),
      (error: Error & { phase?: string }) => {
        assert.equal(error.phase, 'unsent', String(error))
        assert.doesNotMatch(String(error), /canary/)
        return true
      },
    )
  }
  assert.equal(sockets.length, 0)
})
