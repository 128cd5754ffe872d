/** Canary: a secret in any of the shapes we know must not survive; ordinary words must. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { redactBody, redactText, redactUrl } from '../../src/net/redact.ts'

const canary = 'CANARY0123456789abcdefCANARY'
const salesforce = `00D8d000000abcd!AQ4A.${canary}`
const jwt = `eyJhbGciOiJSUzI1NiJ9.eyJ${canary}.c2ln${canary}`

const urls = [
  `https://app.example/oauth/callback?code=${canary}&state=${canary}`,
  `/oauth/callback?code=aPrx${canary}%3D%3D&state=${canary}&x=1`,
  `/connect/?session_token=${canary}`,
  `/oauth/connect/sf?connect_session_token=nango_connect_session_${canary}`,
  `https://app.example/#access_token=${canary}&token_type=Bearer`,
  `https://h.example/?CLIENT_SECRET=${canary}`,
  `https://h.example/?client%5Fsecret=${canary}`,
  `https://h.example/?tokens[refresh_token]=${canary}`,
  `https://h.example/?Client-Secret=${canary};${canary}`,
  `https://user:${canary}@h.example/x`,
  `https://h.example/${encodeURIComponent(salesforce)}/x`,
  `https://h.example/?q=${salesforce}`,
  `https://h.example/?q=${jwt}`,
  `https://h.example/sess/nango_connect_session_${canary}`,
  `/secur/frontdoor.jsp?sid=${encodeURIComponent(salesforce)}`,
  `?%=1&token=${canary}`,
]

for (const url of urls) {
  test(`no secret is left of ${url}`, () => {
    const redacted = redactUrl(url)
    assert.ok(!redacted.includes('CANARY'), redacted)
    assert.ok(redacted.includes('[redacted]'))
    assert.equal(redactUrl(redacted), redacted)
  })
}

const texts = [
  `Authorization: Bearer ${canary}`,
  `authorization: basic ${canary}==`,
  `INVALID_SESSION_ID ${salesforce} expired`,
  `token ${jwt}.`,
  `{"access_token":"${canary}","instance_url":"https://a.example"}`,
  `{\\"refresh_token\\": \\"${canary}\\"}`,
  `grant_type=refresh_token&refresh_token=${canary}`,
  `client_secret: ${canary}`,
  `refresh 5Aep861${canary}`,
  `-----BEGIN RSA PRIVATE KEY-----\n${canary}\n-----END RSA PRIVATE KEY-----`,
  `connect ECONNREFUSED https://u:${canary}@h.example/`,
]

for (const text of texts) {
  test(`no secret is left of ${JSON.stringify(text)}`, () => {
    const redacted = redactText(text)
    assert.ok(!redacted.includes('CANARY'), redacted)
    assert.equal(redactText(redacted), redacted)
  })
}

const harmless = [
  '/proxy/services/data/v64.0/query?q=SELECT+Id+FROM+Account&limit=10',
  'https://acme.my.salesforce.com/services/data/v64.0/sobjects/Account/0018d00000abcdeAAA',
  '/connections?end_user_id=jane@acme.example',
  '/via/sf/6f1e7a1c-9b1f-4c2e-8f53-0a1b2c3d4e5f/services',
]

for (const text of harmless) test(`${text} stays as it is`, () => assert.equal(redactUrl(text), text))

test('prose stays as it is', () => {
  const prose = 'state: active, code: ECONNREFUSED, grant_type=refresh_token, unsupported token type'
  assert.equal(redactText(prose), prose)
})

test('a reason that speaks of a token is not taken for one, and a token in its place is', () => {
  for (const reason of ['token validity expired', 'invalid token: the token supplied.', 'Token rejected'])
    assert.equal(redactText(reason), reason)
  for (const token of [
    'abcdefghij.klmnop',
    'abcdefghijklmnopqrstuvw',
    'ABCDEFGHIJ',
    'abcdefgh1',
    'abcdefgh-',
    'abcdefgh=',
  ])
    for (const scheme of ['Token', 'token', 'TOKEN'])
      assert.equal(redactText(`${scheme} ${token}`), `${scheme} [redacted]`)
})

test('the rest of the query survives', () => {
  assert.equal(redactUrl('/cb?a=1&code=xyz&b=2#c'), '/cb?a=1&code=[redacted]&b=2#c')
})

test('a long hostile text is redacted in linear time', () => {
  const start = performance.now()
  redactText(
    `${'eyJaaaaaa.'.repeat(20_000)}${'//'.repeat(20_000)}${'00D'.repeat(20_000)}${'access_token '.repeat(20_000)}`,
  )
  assert.ok(performance.now() - start < 2000)
})

const json = 'application/json'
const key = '0f0e0d0c-0b0a-4908-8706-050403020100'
const basic = (text: string) => Buffer.from(text).toString('base64')
const bodies: [type: string, body: string][] = [
  [json, `{"accessToken":"${canary}"}`],
  [json, `{"a":{"Client-Secret" : "${canary}"}}`],
  [json, `{"password":"with \\" a quote ${canary}"}`],
  [json, `{"tokens":["${canary}","${canary}"],"x":1}`],
  [json, `{"otp":123456,"session_id":"${canary}`],
  [json, JSON.stringify({ log: JSON.stringify({ token: canary }) })],
  [json, `{"text":"00D8d000000abcd\\u0021AQ4A.${canary}"}`],
  ['application/x-www-form-urlencoded', `grant_type=password&username=ada&password=${canary}&code=${canary}`],
  ['application/xml', `<urn:login><urn:password>${canary}</urn:password></urn:login>`],
  ['text/xml', `<a sessionId="${canary}"/><b token='${canary}'>`],
  ['text/plain', `Authorization: Bearer ${canary}`],
]
for (const [type, body] of bodies)
  test(`no secret is left of the body ${body}`, () => {
    const redacted = redactBody(body, type, [])
    assert.ok(!redacted.includes('CANARY') && !redacted.includes('123456'), redacted)
    assert.ok(redacted.includes('[redacted]'))
  })

test('no value that is known is left of a body, however it is written', () => {
  const token = `00D!a/b+c=.${canary}`
  for (const value of [key, token])
    for (const body of [
      value,
      `x=${encodeURIComponent(value)}`,
      encodeURIComponent(value).replaceAll('!', '%21'),
      encodeURIComponent(value).toLowerCase().includes('%2f')
        ? encodeURIComponent(value).replace(/%../g, hex => hex.toLowerCase())
        : value,
      Buffer.from(value).toString('hex'),
      ...['', 'a', 'ab', 'abc'].flatMap(user => [basic(`${user}:${value}`), basic(`${user}:${value}:x`)]),
      Buffer.from(value).toString('base64url'),
      JSON.stringify({ note: value }).replaceAll('/', '\\/').replaceAll('!', '\\u0021'),
      value.slice(0, 20), // cut off
    ]) {
      const redacted = redactBody(`says ${body}`, 'text/plain', [key, token])
      const left = redacted.replaceAll('[redacted]', '')
      // Of base64, the characters that share their bits with a neighbour may stay.
      assert.ok(left.length < 24 && !left.includes(value.slice(4, 16)), `${body} → ${redacted}`)
    }
})

test('what is no secret stays in a body', () => {
  for (const body of [
    '{"code":"NOT_FOUND","state":"CA","key":"PROJ-1","Name":"Edge Communications","errorCode":"INVALID_FIELD"}',
    '[{"message":"No such column \'Foo\'","errorCode":"INVALID_FIELD"}]',
    '<Account><Name>Edge</Name><Phone>(512) 757-6000</Phone></Account>',
    'a=1&name=Edge',
  ])
    for (const type of [json, 'text/xml', 'application/x-www-form-urlencoded']) {
      if (body.startsWith('a=') !== type.endsWith('urlencoded')) continue
      assert.equal(redactBody(body, type, [key]), body)
    }
})
