import assert from 'node:assert/strict'
import { createHash, createHmac, generateKeyPairSync, verify } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { configValues } from '../../src/provider/endpoint.ts'
import { expand, expandUrl, parseTemplate, TemplateError, type Values } from '../../src/provider/template.ts'

const config = (given: Record<string, unknown>): Values => configValues(given)
const values: Values = new Map([
  ['connectionConfig.hostname', 'acme.example'],
  ['connectionConfig.a', 'A'],
  ['connectionConfig.b', 'B'],
  ['connectionConfig.empty', ''],
  ['clientId', 'me'],
  ['clientSecret', 'sesame'],
])

const rows: [template: string, text: string | undefined][] = [
  ['', ''],
  ['plain', 'plain'],
  ['${clientId}', 'me'],
  ['<${ clientId }>', '<me>'],
  ['${connectionConfig.a}${connectionConfig.b}', 'AB'],
  ['$clientId {clientId} $$ }', '$clientId {clientId} $$ }'],
  // Alternatives: the first whose tokens all resolve; an empty value resolves nothing.
  ['${connectionConfig.none} || ${connectionConfig.a}', 'A'],
  ['${connectionConfig.a} || ${connectionConfig.b}', 'A'],
  ['${connectionConfig.empty} || fallback', 'fallback'],
  ['${connectionConfig.a}${connectionConfig.none} || ${connectionConfig.b}', 'B'],
  ['${connectionConfig.none} || ${connectionConfig.empty}', undefined],
  ['${connectionConfig.none}', undefined],
  ['a||b', 'a||b'],
  // Functions, nested.
  ['Basic ${base64(${clientId}:${clientSecret})}', `Basic ${Buffer.from('me:sesame').toString('base64')}`],
  ['${sha256Hex(${clientId})}', createHash('sha256').update('me').digest('hex')],
  ['${sha256Base64(x)}', createHash('sha256').update('x').digest('base64')],
  ['${hmacSha1Hex(${clientId}, ${clientSecret})}', createHmac('sha1', 'sesame').update('me').digest('hex')],
  ['${base64(${base64(${clientId})})}', Buffer.from(Buffer.from('me').toString('base64')).toString('base64')],
  ['${base64(${connectionConfig.none})}', undefined],
  ['${base64(${connectionConfig.none})} || x', 'x'],
  // A path is a name nobody defined, whatever JavaScript would make of it.
  ...[
    'constructor',
    '__proto__',
    '__proto__.x',
    'toString',
    'connectionConfig',
    'connectionConfig.constructor',
    'connectionConfig.__proto__.polluted',
    'connectionConfig.a.length',
    'clientId.length',
    'hasOwnProperty',
    'size',
  ].map((path): [string, undefined] => [`\${${path}}`, undefined]),
]
for (const [template, text] of rows)
  test(`"${template}" → ${text}`, () => {
    assert.equal(expand(template, values), text)
  })

// RFC 2202 §3 and RFC 4231 §4, case 2: "Jefe" signs "what do ya want for nothing?".
const published: [call: string, text: string][] = [
  ['hmacSha1Hex', 'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79'],
  ['hmacSha1Base64', Buffer.from('effcdf6ae5eb2fa2d27416d5f184df9c259a7c79', 'hex').toString('base64')],
  ['hmacSha256Hex', '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'],
  [
    'hmacSha256Base64',
    Buffer.from('5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843', 'hex').toString('base64'),
  ],
]
for (const [call, text] of published)
  test(`${call}: the RFC's own example`, () => {
    assert.equal(expand(`\${${call}(what do ya want for nothing?, \${key})}`, new Map([['key', 'Jefe']])), text)
  })

test('ed25519Sign: a signature that its key verifies, of the message and of no other', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const signature = Buffer.from(
    expand(
      '${ed25519Sign(${m}, ${k})}',
      new Map([
        ['m', 'a, b'],
        ['k', key],
      ]),
    ) ?? '',
    'base64',
  )
  assert.equal(verify(null, Buffer.from('a, b'), publicKey, signature), true)
  assert.equal(verify(null, Buffer.from('a, c'), publicKey, signature), false)
})

test('now: in seconds, in milliseconds, by a format with its literals, and later', t => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.UTC(2026, 10, 28, 7, 5, 9, 30) })
  const seconds = Date.UTC(2026, 10, 28, 7, 5, 9) / 1000
  for (const [template, text] of [
    ['${now}', String(seconds)],
    ['${now:X}', String(seconds)],
    ['${now:unix}', String(seconds)],
    ['${now:x}', String(seconds * 1000 + 30)],
    ['${now:iso}', '2026-11-28T07:05:09.030Z'],
    ['${now:YYYY-MM-DD[T]HH:mm:ss.SSS[Z]}', '2026-11-28T07:05:09.030Z'],
    ['${now+90:s}', String(seconds + 90)],
    ['${now+2:h:HH:mm}', '09:05'],
    ['${now+1:d:YYYYMMDD}', '20261129'],
  ] as const)
    assert.equal(expand(template, values), text, template)
})

test('${random} is another one each time', () => {
  const seen = new Set(Array.from({ length: 50 }, () => expand('${random}', values)))
  assert.equal(seen.size, 50)
  for (const text of seen) assert.match(text ?? '', /^[0-9a-f]{32}$/)
})

for (const broken of [
  '${',
  'a${b',
  '${a${b}',
  '${base64(${a)}',
  '${}',
  '${ }',
  '${a b}',
  '${a..b}',
  '${.a}',
  '${a.}',
  '${1+1}',
  "${process.env['HOME']}",
  '${a()}',
  '${constructor(x)}',
  '${toString()}',
  '${__proto__()}',
  '${base64()}',
  '${base64(a,b)}',
  '${hmacSha1Hex(a)}',
  '${random(1)}',
  'fine || ${',
])
  test(`"${broken}" is refused when it is read, in a sentence`, () => {
    assert.throws(
      () => parseTemplate(broken),
      error => error instanceof TemplateError && error.message.length > 10,
    )
  })

const urls: [template: string, values: Values, url: string | undefined][] = [
  ['https://${connectionConfig.hostname}/token', values, 'https://acme.example/token'],
  ['https://${connectionConfig.none}/t || https://login.example/t', values, 'https://login.example/t'],
  // A value that begins the URL brings scheme and host, and its trailing slash does not double.
  ['${connectionConfig.base}/x', config({ base: 'https://a.example/p//' }), 'https://a.example/p/x'],
  ['${connectionConfig.base}/x', config({ base: 'a.example' }), undefined],
  ['${connectionConfig.on}/x', config({ on: true }), undefined],
  // In a host: one label or more of that host, never another one.
  ...[
    'evil.example/',
    'evil.example?',
    'evil.example#',
    'u@evil.example',
    'evil.example:80',
    '\\evil.example',
    '%2f',
    ' ',
  ].map((sub): [string, Values, undefined] => [
    'https://${connectionConfig.sub}.good.example/',
    config({ sub }),
    undefined,
  ]),
  [
    'https://${connectionConfig.sub}.good.example/',
    config({ sub: 'evil.example' }),
    'https://evil.example.good.example/',
  ],
  // Fullwidth forms are mapped by IDNA only after the parser has found the host.
  ['https://${connectionConfig.sub}.good.example/', config({ sub: 'evil.example／' }), undefined],
  // In a path: one segment, which it may fill and not leave.
  ['https://h.example/a/${connectionConfig.s}/b', config({ s: '../../x' }), 'https://h.example/a/..%2F..%2Fx/b'],
  ...['.', '..', '%2e%2e'.replace(/%2e/g, '.')].map((s): [string, Values, undefined] => [
    'https://h.example/a/${connectionConfig.s}/b',
    config({ s }),
    undefined,
  ]),
  ['https://h.example/a/${connectionConfig.s}${connectionConfig.s}', config({ s: '.' }), undefined],
  ['https://h.example/a/${connectionConfig.s}', config({ s: '%2e%2e' }), 'https://h.example/a/%252e%252e'],
  ['https://h.example/a/${connectionConfig.s}/b', config({ s: '...' }), 'https://h.example/a/.../b'],
  ['https://h.example/v${connectionConfig.s}/b', config({ s: '..' }), 'https://h.example/v../b'],
  // In a query: one value.
  [
    'https://h.example/?q=${connectionConfig.q}&r=1',
    config({ q: 'a&r=2#x' }),
    'https://h.example/?q=a%26r%3D2%23x&r=1',
  ],
  ['https://h.example/?q=${connectionConfig.q}', config({ q: '..' }), 'https://h.example/?q=..'],
  // Text that is no Unicode fails nothing.
  ['https://h.example/${connectionConfig.q}', config({ q: 'a\uD800' }), 'https://h.example/a%EF%BF%BD'],
  // Only text and booleans are facts a URL is made of.
  ['https://h.example/${connectionConfig.q}', config({ q: { toString: () => 'x' } }), undefined],
  ['https://h.example/${connectionConfig.q}', config({ q: ['x'] }), undefined],
]
for (const [template, given, url] of urls)
  test(`${template} with ${JSON.stringify([...given].slice(-1))} → ${url}`, () => {
    assert.equal(expandUrl(template, given)?.href, url)
  })

const anything = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom(...'./\\?#@:%&=;\t\n\r \u0000\uFF0F\u3002a2eE') }),
)

test('no value changes a host that is written out, nor the number of segments and parameters', () => {
  fc.assert(
    fc.property(anything, anything, anything, (a, b, q) => {
      const url = expandUrl(
        'https://api.good.example:8443/x/${connectionConfig.a}/y/${connectionConfig.b}?q=${connectionConfig.q}&r=1',
        config({ a, b, q }),
      )
      if (!url) return
      assert.equal(url.origin, 'https://api.good.example:8443')
      assert.deepEqual([url.username, url.password, url.hash], ['', '', ''])
      assert.deepEqual(
        url.pathname.split('/').map(segment => decodeURIComponent(segment)),
        ['', 'x', a.toWellFormed(), 'y', b.toWellFormed()],
      )
      assert.deepEqual([...url.searchParams.keys()], ['q', 'r'])
    }),
    { numRuns: 2_000 },
  )
})

test('no value in a label leads out of the domain that is written out', () => {
  fc.assert(
    fc.property(anything, sub => {
      const url = expandUrl('https://${connectionConfig.sub}.good.example/token', config({ sub }))
      if (!url) return
      assert.ok(url.hostname.endsWith('.good.example'), url.href)
      assert.deepEqual([url.port, url.username, url.pathname, url.search, url.hash], ['', '', '/token', '', ''])
    }),
    { numRuns: 2_000 },
  )
})
