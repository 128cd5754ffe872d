/**
 * Requests made to be read in two ways, by raw sockets, to the server alone and behind nginx. Whatever is answered, three things must
 * not happen: the provider sees a request that nobody sent, an innocent request on the same front connection gets another one's answer,
 * or another caller of the same nginx does.
 */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { lastFirst } from '../support/last-first.ts'
import { hasNginx, type Nginx, startNginx } from './nginx.ts'
import { naming, raw, send, startWorld, type World } from './world.ts'

let world: World
let id: string
let nginx: Nginx
const file = lastFirst({ after: whenDone })

before(async () => {
  world = await startWorld(file)
  id = await world.connect()
  if (hasNginx) nginx = await startNginx(file, world.fairlead.url)
})
beforeEach(() => {
  world.upstream.arrived.length = 0
  // An answer says whose it is.
  world.upstream.answer = (_req, res, { method, url, body }) => {
    const said = `echo(${method} ${url} ${body.length})`
    res.writeHead(200, { 'Content-Length': said.length }).end(method === 'HEAD' ? '' : said)
  }
})

const named = () =>
  Object.entries(naming(world, id))
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')
const head = (line: string, ...more: string[]) =>
  `${line}\r\nHost: x\r\n${named()}${more.map(one => `${one}\r\n`).join('')}\r\n`
const post = (...more: string[]) => head('POST /proxy/x HTTP/1.1', ...more)
const get = (...more: string[]) => head('GET /proxy/x HTTP/1.1', ...more)
/** What must never be a request. */
const smuggled = () => head('GET /proxy/smuggled HTTP/1.1')
const innocent = () => head('GET /proxy/innocent HTTP/1.1', 'Connection: close')

const te = 'Transfer-Encoding: chunked'
const chunks = (...lines: string[]) => `${lines.join('\r\n')}\r\n`
const done = chunks('0', '')

/** `sees`: what one honest reading makes of it, and then the provider may get that. Nothing when there is no honest reading. */
interface Row {
  bytes: () => string
  sees?: string
}
const rows: Record<string, Row> = {
  // A length and chunks.
  'CL.TE': { bytes: () => post('Content-Length: 6', te) + done + smuggled() },
  'TE.CL': { bytes: () => post(te, 'Content-Length: 3') + chunks('1', 'x') + done + smuggled() },
  'a length of 0 and chunks': { bytes: () => post('Content-Length: 0', te) + done + smuggled() },
  'chunks, and a length that covers the next request': {
    bytes: () => post(te, `Content-Length: ${done.length + smuggled().length}`) + done + smuggled(),
  },
  'chunks in HTTP/1.0': {
    bytes: () => head('POST /proxy/x HTTP/1.0', 'Connection: keep-alive', te) + done + smuggled(),
  },
  'a length and chunks in HTTP/1.0': {
    bytes: () => head('POST /proxy/x HTTP/1.0', 'Connection: keep-alive', 'Content-Length: 5', te) + done + smuggled(),
  },

  // Codings that are not quite "chunked".
  xchunked: { bytes: () => post('Transfer-Encoding: xchunked') + done + smuggled() },
  'xchunked and a length': {
    bytes: () => post('Transfer-Encoding: xchunked', 'Content-Length: 5') + done + smuggled(),
  },
  'chunked twice': { bytes: () => post(te, te) + done + smuggled() },
  'chunked, chunked': { bytes: () => post('Transfer-Encoding: chunked, chunked') + done + smuggled() },
  'chunked, then identity': { bytes: () => post(te, 'Transfer-Encoding: identity') + done + smuggled() },
  'identity, then chunked': { bytes: () => post('Transfer-Encoding: identity', te) + done + smuggled() },
  'chunked, identity': { bytes: () => post('Transfer-Encoding: chunked, identity') + done + smuggled() },
  'chunked, x': { bytes: () => post(te, 'Transfer-Encoding: x') + done + smuggled() },
  'a quoted coding': { bytes: () => post('Transfer-Encoding: "chunked"') + done + smuggled() },
  'a coding with a parameter': { bytes: () => post('Transfer-Encoding: chunked;q=1') + done + smuggled() },
  'an empty coding and a length': { bytes: () => post('Transfer-Encoding:', 'Content-Length: 5') + done + smuggled() },
  'a comma before the coding': { bytes: () => post('Transfer-Encoding: , chunked') + done + smuggled() },
  'a comma after the coding': { bytes: () => post('Transfer-Encoding: chunked,') + done + smuggled() },
  'a coding behind a vertical tab': { bytes: () => post('Transfer-Encoding:\x0bchunked') + done + smuggled() },
  'a coding behind a form feed': { bytes: () => post('Transfer-Encoding: \x0cchunked') + done + smuggled() },
  'a coding with a NUL': { bytes: () => post('Transfer-Encoding: chunked\x00') + done + smuggled() },
  'a coding with a 0xA0': { bytes: () => post('Transfer-Encoding: \xa0chunked') + done + smuggled() },
  'a Kelvin sign': { bytes: () => post('Transfer-Encoding: chun\xe2\x84\xaaed') + done + smuggled() },
  'chunked in capitals': {
    bytes: () => post('TRANSFER-ENCODING: CHUNKED') + chunks('3', 'abc') + done,
    sees: 'POST /x 3',
  },
  'a blank before the colon of the coding': {
    bytes: () => post('Content-Length: 5', 'Transfer-Encoding : chunked') + done + smuggled(),
  },
  'a tab before the colon of the coding': {
    bytes: () => post('Content-Length: 5', 'Transfer-Encoding\t: chunked') + done + smuggled(),
  },
  'a coding with an underscore': {
    bytes: () => `${post('Content-Length: 5', 'Transfer_Encoding: chunked')}${done}`,
    sees: 'POST /x 5',
  },
  'a coding after a lone line feed': {
    bytes: () => post('X-A: 1\nTransfer-Encoding: chunked', 'Content-Length: 5') + done + smuggled(),
  },
  'a coding after a lone carriage return': {
    bytes: () => post('X-A: 1\rTransfer-Encoding: chunked', 'Content-Length: 5') + done + smuggled(),
  },
  'a coding on a folded line': {
    bytes: () => post('X-A: 1', ' Transfer-Encoding: chunked', 'Content-Length: 5') + done + smuggled(),
  },
  'a folded coding': { bytes: () => post('Transfer-Encoding:', ' chunked') + done + smuggled() },
  'a folded coding by a tab': {
    bytes: () => post('Transfer-Encoding:', '\tchunked', 'Content-Length: 5') + done + smuggled(),
  },
  'a fold before every header': {
    bytes: () =>
      `POST /proxy/x HTTP/1.1\r\n ${te}\r\nHost: x\r\n${named()}Content-Length: 5\r\n\r\n${done}${smuggled()}`,
  },

  // Lengths.
  'two lengths': { bytes: () => post('Content-Length: 0', `Content-Length: ${smuggled().length}`) + smuggled() },
  'two lengths, the longer first': { bytes: () => post('Content-Length: 5', 'Content-Length: 0') + done + smuggled() },
  'two equal lengths': { bytes: () => post('Content-Length: 5', 'Content-Length: 5') + done + smuggled() },
  'a list of lengths': { bytes: () => post('Content-Length: 5, 5') + done + smuggled() },
  'a negative length': { bytes: () => post('Content-Length: -5') + done + smuggled() },
  'minus nought': { bytes: () => post('Content-Length: -0') + smuggled() },
  'a length with a plus': { bytes: () => post('Content-Length: +5') + done + smuggled() },
  'a hexadecimal length': { bytes: () => post('Content-Length: 0x5') + done + smuggled() },
  'a length with an exponent': { bytes: () => post('Content-Length: 5e0') + done + smuggled() },
  'a length with a fraction': { bytes: () => post('Content-Length: 5.0') + done + smuggled() },
  'a length beyond 64 bits': { bytes: () => post('Content-Length: 18446744073709551621') + done + smuggled() },
  'a length beyond 32 bits that would wrap to 5': { bytes: () => post('Content-Length: 4294967301') + done },
  'an empty length': { bytes: () => post('Content-Length:') + done + smuggled() },
  'a length in words': { bytes: () => post('Content-Length: five') + done + smuggled() },
  'a length with blanks inside': { bytes: () => post('Content-Length: 5 0') + done + smuggled() },
  'a length with an underscore': {
    bytes: () => `${post('Content_Length: 9', 'Content-Length: 5')}${done}`,
    sees: 'POST /x 5',
  },
  'a blank before the colon of the length': { bytes: () => post('Content-Length : 5') + done + smuggled() },
  'a folded length': { bytes: () => post('Content-Length:', ' 5') + done + smuggled() },
  'a length with leading noughts': { bytes: () => post('Content-Length: 0005') + done, sees: 'POST /x 5' },
  'a length with blanks around it': { bytes: () => post('Content-Length: \t 5 \t') + done, sees: 'POST /x 5' },
  'a length in front of GET': {
    bytes: () => get(`Content-Length: ${smuggled().length}`) + smuggled(),
    sees: 'GET /x *',
  },
  'a length named by Connection': {
    bytes: () => post('Connection: keep-alive, Content-Length', `Content-Length: ${smuggled().length}`) + smuggled(),
    sees: 'POST /x *',
  },
  'a coding named by Connection': {
    bytes: () => post('Connection: keep-alive, Transfer-Encoding', te) + chunks('3', 'abc') + done,
    sees: 'POST /x 3',
  },

  // Chunks.
  'a chunk size with 0x': { bytes: () => post(te) + chunks('0x3', 'abc') + done + smuggled() },
  'a negative chunk size': { bytes: () => post(te) + chunks('-3', 'abc') + done + smuggled() },
  'a chunk size with a plus': { bytes: () => post(te) + chunks('+3', 'abc') + done + smuggled() },
  'a chunk size beyond 64 bits': { bytes: () => post(te) + chunks('10000000000000003', 'abc') + done + smuggled() },
  'a chunk size with an underscore': { bytes: () => post(te) + chunks('0_3', 'abc') + done + smuggled() },
  'an empty chunk size': { bytes: () => post(te) + chunks('', 'abc') + done + smuggled() },
  'a blank before a chunk size': { bytes: () => post(te) + chunks(' 3', 'abc') + done + smuggled() },
  'a chunk longer than it says': { bytes: () => post(te) + chunks('3', 'abcdef') + done + smuggled() },
  'a chunk size ended by a line feed': { bytes: () => `${post(te)}3\nabc\r\n${done}${smuggled()}` },
  'a chunk ended by a line feed': { bytes: () => `${post(te)}3\r\nabc\n${done}${smuggled()}` },
  'a last chunk ended by line feeds': { bytes: () => `${post(te)}0\n\n${smuggled()}` },
  'a last chunk ended by carriage returns': { bytes: () => `${post(te)}0\r\r${smuggled()}` },
  'a line feed within a chunk extension': { bytes: () => `${post(te)}3;a\nabc\r\n${done}${smuggled()}` },
  'a carriage return within a chunk extension': { bytes: () => `${post(te)}3;a\rb\r\nabc\r\n${done}${smuggled()}` },
  'an extension that looks like the end': {
    bytes: () => `${post(te)}3;a="\r\nabc\r\n0\r\n\r\n${smuggled()}"\r\nabc\r\n${done}`,
  },
  'chunk extensions': { bytes: () => post(te) + chunks('3;a=1;b="c"', 'abc', '0;d', ''), sees: 'POST /x 3' },
  'a chunk size in capitals, with noughts': {
    bytes: () => post(te) + chunks('00A', '0123456789') + done,
    sees: 'POST /x 10',
  },
  'a body that is a request': {
    bytes: () => post(te) + chunks(smuggled().length.toString(16), smuggled()) + done,
    sees: 'POST /x *',
  },
  'a trailer that names a length': {
    bytes: () => post(te) + chunks('3', 'abc', '0', `Content-Length: ${smuggled().length}`, '') + smuggled(),
  },
  'a trailer that names a coding': {
    bytes: () => post(te) + chunks('3', 'abc', '0', te, '') + smuggled(),
  },
  'a trailer with a bare line feed': { bytes: () => `${post(te)}3\r\nabc\r\n0\r\nX-A: 1\n\r\n${smuggled()}` },
  'a trailer that names another connection': {
    bytes: () => post(te) + chunks('3', 'abc', '0', 'Connection-Id: other', 'Authorization: Bearer other', ''),
    sees: 'POST /x 3',
  },

  // Lines of the head.
  'bare line feeds throughout': { bytes: () => get().replaceAll('\r\n', '\n') + smuggled() },
  'a head ended by line feeds': { bytes: () => `${get().slice(0, -4)}\n\n${smuggled()}` },
  'a bare carriage return in a value': { bytes: () => get('X-A: 1\rX-B: 2') },
  'a NUL in a value': { bytes: () => get('X-A: 1\x002') },
  'a NUL in a name': { bytes: () => get('X\x00A: 1') },
  'a header without a colon': { bytes: () => get('X-A') },
  'a header without a name': { bytes: () => get(': 1') },
  'a header name in brackets': { bytes: () => get('[X]: 1') },
  'two Hosts': { bytes: () => get('Host: y') },
  'no Host': { bytes: () => get().replace('Host: x\r\n', '') },
  'two API keys': { bytes: () => get('Authorization: Bearer other') },

  // The request line.
  'a blank in the target': { bytes: () => head('GET /proxy/x HTTP/1.1 /y HTTP/1.1') },
  // RFC 9112 §3 lets a reader take them for one.
  'two blanks': { bytes: () => head('GET  /proxy/x  HTTP/1.1'), sees: 'GET /x 0' },
  'tabs for blanks': { bytes: () => head('GET\t/proxy/x\tHTTP/1.1') },
  'a blank before the method': { bytes: () => head(' GET /proxy/x HTTP/1.1') },
  'a method in small letters': { bytes: () => head('get /proxy/x HTTP/1.1') },
  'an unknown method': { bytes: () => head('SMUGGLE /proxy/x HTTP/1.1') },
  'a method with a line break': { bytes: () => head('GE\r\nT /proxy/x HTTP/1.1') },
  'no version': { bytes: () => head('GET /proxy/x') },
  'HTTP/0.9': { bytes: () => 'GET /proxy/smuggled\r\n' },
  'HTTP/1.2': { bytes: () => head('GET /proxy/x HTTP/1.2'), sees: 'GET /x 0' },
  'HTTP/2.0': { bytes: () => head('GET /proxy/x HTTP/2.0') },
  'HTTP/1.01': { bytes: () => head('GET /proxy/x HTTP/1.01') },
  'the preface of HTTP/2': { bytes: () => `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${smuggled()}` },
  'a NUL in the target': { bytes: () => head('GET /proxy/x\x00y HTTP/1.1') },
  'a fragment in the target': { bytes: () => head('GET /proxy/x#y HTTP/1.1') },
  'a target in absolute form': { bytes: () => head('GET http://x/proxy/x HTTP/1.1'), sees: 'GET /x 0' },
  'an absolute form of another host': {
    bytes: () => head('GET http://evil.example/proxy/x HTTP/1.1'),
    sees: 'GET /x 0',
  },
  'an absolute form as the path': { bytes: () => head('GET /proxy/http://evil.example/x HTTP/1.1') },
  'an absolute form with user information': {
    bytes: () => head('GET http://a@evil.example/proxy/x HTTP/1.1'),
    sees: 'GET /x 0',
  },
  'a target in authority form': { bytes: () => head('GET evil.example:80 HTTP/1.1') },
  'a target that is a star': { bytes: () => head('OPTIONS * HTTP/1.1') },
  'a target with two slashes': { bytes: () => head('GET //proxy/x HTTP/1.1'), sees: 'GET /x 0' },
  CONNECT: { bytes: () => head('CONNECT evil.example:80 HTTP/1.1') + smuggled() },
  'an upgrade, then a request': {
    bytes: () => get('Connection: Upgrade', 'Upgrade: websocket'),
  },
  'empty lines before the request': { bytes: () => `\r\n\r\n${get()}`, sees: 'GET /x 0' },
  'a TLS greeting': { bytes: () => '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' },

  // Remnants.
  'HEAD with a body that is a request': {
    bytes: () => head('HEAD /proxy/x HTTP/1.1', `Content-Length: ${smuggled().length}`) + smuggled(),
    sees: 'HEAD /x *',
  },
  'a refused call whose body is a request': {
    bytes: () => head('POST /proxy/a/../b HTTP/1.1', `Content-Length: ${smuggled().length}`) + smuggled(),
  },
  'an unknown key, and a body that is a request': {
    bytes: () =>
      `POST /proxy/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer other\r\nContent-Length: ${smuggled().length}\r\n\r\n${smuggled()}`,
  },
  'a call of the API whose body is a request': {
    bytes: () => head('POST /connections HTTP/1.1', `Content-Length: ${smuggled().length}`) + smuggled(),
  },
  'Expect, and a body that is a request': {
    bytes: () => post('Expect: 100-continue', `Content-Length: ${smuggled().length}`) + smuggled(),
    sees: 'POST /x *',
  },
  'an Expect nobody knows, and a body that is a request': {
    bytes: () => post('Expect: 200-maybe', `Content-Length: ${smuggled().length}`) + smuggled(),
    sees: 'POST /x *',
  },
}

/** How the bytes are cut into writes: in one piece, head and rest, every byte by itself. */
const cuts: Record<string, (bytes: string) => string[]> = {
  whole: bytes => [bytes],
  'head first': bytes => {
    const end = bytes.indexOf('\r\n\r\n') + 4
    return end < 4 ? [bytes] : [bytes.slice(0, end), bytes.slice(end)]
  },
  'in pieces': bytes => bytes.match(/[\s\S]{1,7}/g) ?? [],
}

/** Everything answered until the other side closed, or until it was silent for so long that it waits for more. */
function exchange(base: string, pieces: string[], silenceMs: number): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(Number(new URL(base).port), '127.0.0.1')
    let text = ''
    const silent = setTimeout(() => socket.destroy(), silenceMs)
    socket.setNoDelay().setEncoding('latin1')
    socket.on('data', piece => {
      text += piece
      silent.refresh()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(silent)
      resolve(text)
    })
    socket.on('connect', async () => {
      for (const piece of pieces) {
        if (socket.destroyed) return
        socket.write(piece, 'latin1')
        await new Promise(setImmediate)
      }
    })
  })
}

const echoes = (text: string): string[] => [...text.matchAll(/echo\(([^)]*)\)/g)].map(([, said]) => said!)
const fits = (said: string, sees: string | undefined): boolean =>
  sees !== undefined && (sees.endsWith('*') ? said.startsWith(sees.slice(0, -1)) : said === sees)
const innocentSaid = 'GET /innocent 0'

/** The provider got what `may` says and the innocent request, each with our token and one framing. */
function nothingSmuggled(may: (one: string) => boolean, text: string): void {
  for (const { method, url, headers, body } of world.upstream.arrived) {
    const one = `${method} ${url} ${body.length}`
    assert.ok(one === innocentSaid || may(one), `the provider saw ${one}\n${text}`)
    assert.equal(headers.authorization, 'Bearer token-0')
    assert.ok(headers['content-length'] === undefined || headers['transfer-encoding'] === undefined)
  }
}

/** Each answer is the answer to the request in its place: the innocent one's comes last or not at all. */
function nothingSwapped(may: (one: string) => boolean, text: string): void {
  const said = echoes(text)
  const at = said.indexOf(innocentSaid)
  assert.ok(at === -1 || at === said.length - 1, `answers in the wrong order: ${said}`)
  for (const one of at === -1 ? said : said.slice(0, at)) assert.ok(may(one), `answered ${one}`)
}

describe('alone: bytes that could be two requests are one or none', () => {
  for (const [name, row] of Object.entries(rows))
    test(name, async () => {
      for (const cut of Object.values(cuts)) {
        world.upstream.arrived.length = 0
        const text = await exchange(world.fairlead.url, [...cut(row.bytes()), innocent()], 300)
        const may = (one: string) => fits(one, row.sees)
        nothingSmuggled(may, text)
        nothingSwapped(may, text)
        assert.ok(world.upstream.arrived.length <= (row.sees === undefined ? 1 : 2), text)
      }
    })
})

// What nginx makes of the bytes is nginx's affair: it takes bare line feeds, for one. What it forwards and what we read must be the same.
describe('behind nginx: what it forwarded is what we read', { skip: !hasNginx && 'nginx is not installed' }, () => {
  for (const [name, row] of Object.entries(rows))
    test(name, async () => {
      for (const cut of Object.values(cuts)) {
        const before = (await nginx.read()).length
        world.upstream.arrived.length = 0
        const text = await exchange(nginx.url, [...cut(row.bytes()), innocent()], 300)
        const first = world.upstream.arrived.splice(0)
        // Another caller, who gets the very connection to us that the bytes above came on.
        const other = await send(nginx.url, { path: '/proxy/other', headers: naming(world, id) })
        assert.deepEqual([other.status, other.text], [200, 'echo(GET /other 0)'])
        assert.deepEqual(
          world.upstream.arrived.map(({ url }) => url),
          ['/other'],
        )
        let forwarded: string[] = []
        while (forwarded.at(-1) !== 'GET /proxy/other') forwarded = (await nginx.read()).slice(before)
        const may = (one: string) => {
          const at = forwarded.findIndex(line => targetOf(line) === one.slice(0, one.lastIndexOf(' ')))
          return at >= 0
        }
        world.upstream.arrived = first
        nothingSmuggled(may, text)
        nothingSwapped(may, text)
        for (const { method, url } of first)
          assert.ok(
            first.filter(one => one.url === url).length <=
              forwarded.filter(line => targetOf(line) === `${method} ${url}`).length,
            `${url} more often than nginx read it`,
          )
      }
    })
})

/** `$request_uri` is as it was written: an absolute form, doubled slashes. */
const targetOf = (line: string): string => line.replace(/ (?:http:\/\/[^/]*)?\/+proxy\//, ' /')

test('every row with one honest reading is read so by the server alone', async () => {
  for (const [name, row] of Object.entries(rows)) {
    // These two readings nginx makes of what we refuse.
    if (row.sees === undefined || /absolute|two slashes|HTTP\/1\.2/.test(name)) continue
    const said = echoes(await raw(world.fairlead.url, Buffer.from(row.bytes() + innocent(), 'latin1')))
    if (!row.sees.startsWith('HEAD')) assert.ok(fits(said[0]!, row.sees), `${name}: ${said}`)
    assert.equal(said.at(-1), 'GET /innocent 0', name)
  }
})

test('answers of pipelined requests come in their order, however long each takes', async () => {
  world.upstream.answer = (_req, res, { url }) => {
    setTimeout(() => res.end(`echo(${url})`), url === '/a' ? 60 : 0)
  }
  const text = await raw(
    world.fairlead.url,
    head('GET /proxy/a HTTP/1.1') + head('GET /proxy/b HTTP/1.1') + head('GET /proxy/c HTTP/1.1', 'Connection: close'),
  )
  assert.deepEqual(echoes(text), ['/a', '/b', '/c'])
})
