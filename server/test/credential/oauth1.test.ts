/** Signatures of OAuth 1.0a against the examples others published, and the requests and answers of its sign-in, with literals. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  authorizationPage,
  readAnswer,
  type Signing,
  signedHeader,
  temporaryRequest,
  tokenRequest,
} from '../../src/credential/kinds/oauth1.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Provider, ProviderDefinition } from '../../src/provider/schema.ts'

const provider = (own: Partial<ProviderDefinition> = {}): Provider => ({
  name: 'p',
  display_name: 'P',
  auth_mode: 'OAUTH1',
  ...own,
})

const members = (header: string): Record<string, string> => {
  assert.ok(header.startsWith('OAuth '), header)
  return Object.fromEntries(
    header
      .slice(6)
      .split(', ')
      .map(pair => /^([^=]+)="(.*)"$/.exec(pair)!.slice(1).map(decodeURIComponent) as [string, string]),
  )
}

const photos = { key: 'dpf43f3p2l4k3l03', secret: 'kd94hf93k423kf44' }
const published: [name: string, signing: Partial<Signing>, signature: string, method?: string][] = [
  [
    'RFC 5849 §1.2, temporary credentials',
    {
      ...{ method: 'POST', origin: 'https://photos.example.net', path: '/initiate', consumer: photos },
      ...{ timestamp: '137131200', nonce: 'wIjqoS', unversioned: true },
      extra: { oauth_callback: 'http://printer.example.com/ready' },
    },
    '74KNZJeDHnMBp0EMJ9ZHt/XKycU=',
  ],
  [
    'RFC 5849 §1.2, token credentials',
    {
      ...{ method: 'POST', origin: 'https://photos.example.net', path: '/token', consumer: photos },
      ...{ timestamp: '137131201', nonce: 'walatlh', unversioned: true },
      token: { key: 'hh5s93j4hdidpola', secret: 'hdhd0244k9j7ao03' },
      extra: { oauth_verifier: 'hfdp7dh39dks9884' },
    },
    'gKgrFCywp7rO0OXSjdot/IHF7IU=',
  ],
  [
    'RFC 5849 §1.2, a call with a query',
    {
      ...{ method: 'GET', origin: 'http://photos.example.net', path: '/photos?file=vacation.jpg&size=original' },
      ...{ consumer: photos, timestamp: '137131202', nonce: 'chapoH', unversioned: true },
      token: { key: 'nnch734d00sl2jdk', secret: 'pfkkdhi9sl3r4s00' },
    },
    'MdpQcU8iPSUjWoN/UDMsK2sui9I=',
  ],
  [
    'RFC 5849 §3.4.1.1 as its erratum 2550 corrects it: repeated names, empty values, a form',
    {
      ...{ method: 'POST', origin: 'http://EXAMPLE.com', path: '/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b' },
      ...{ form: 'c2&a3=2+q', timestamp: '137131201', nonce: '7d8f3e4a', unversioned: true },
      consumer: { key: '9djdj82h48djs9d2', secret: 'j49sk3j29djd' },
      token: { key: 'kkk9d7dh3k39sjv7', secret: 'dh893hdasih9' },
    },
    'r6/TJjbCOr97/+UU0NsvSne7s5g=',
  ],
  [
    'RFC 5849 §2.1, PLAINTEXT',
    {
      ...{ method: 'POST', origin: 'https://server.example.com', path: '/request_temp_credentials' },
      consumer: { key: 'jd83jd92dhsh93js', secret: 'ja893SD9' },
    },
    'ja893SD9&',
    'PLAINTEXT',
  ],
  [
    'Twitter, "Creating a signature"',
    {
      ...{ method: 'post', origin: 'https://api.twitter.com', path: '/1.1/statuses/update.json?include_entities=true' },
      form: 'status=Hello%20Ladies%20%2b%20Gentlemen%2c%20a%20signed%20OAuth%20request%21',
      consumer: { key: 'xvz1evFS4wEEPTGEFPHBog', secret: 'kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw' },
      token: {
        key: '370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb',
        secret: 'LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE',
      },
      ...{ timestamp: '1318622958', nonce: 'kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg' },
    },
    'hCtSmYh+iHYCEqBWrE7C7hYmtUk=',
  ],
]

for (const [name, signing, signature, method] of published)
  test(`signature: ${name}`, () => {
    const header = signedHeader(provider({ signature_method: method }), { form: undefined, ...signing } as Signing)
    const said = members(header)
    assert.equal(said.oauth_signature, signature)
    assert.equal(said.oauth_consumer_key, signing.consumer?.key)
    assert.equal(said.oauth_version, signing.unversioned ? undefined : '1.0')
    if (method !== 'PLAINTEXT')
      for (const pair of [signing.consumer, signing.token]) assert.ok(!header.includes(pair?.secret ?? 'no secret'))
  })

test('each call has a nonce and an instant of its own', () => {
  const signing = { method: 'GET', origin: 'https://a.io', path: '/', form: undefined, consumer: photos }
  const [one, two] = [members(signedHeader({}, signing)), members(signedHeader({}, signing))]
  assert.notEqual(one.oauth_nonce, two.oauth_nonce)
  assert.match(one.oauth_timestamp ?? '', /^\d{10}$/)
})

const client = { id: photos.key, secret: new Secret(photos.secret) }
const asking = (own: Partial<ProviderDefinition> = {}, url = 'https://a.io/request?x=1') => ({
  ...{ provider: provider(own), client, config: { tenant: 'acme & co' }, url: new URL(url) },
})

test('temporary credentials are asked for with a POST; parameters of the provider go as a signed form', () => {
  const plain = temporaryRequest(asking(), 'https://b.io/oauth/callback?state=s')
  assert.deepEqual([plain.method, plain.url.href, plain.body], ['POST', 'https://a.io/request?x=1', undefined])
  assert.equal(members(plain.headers.authorization!).oauth_callback, 'https://b.io/oauth/callback?state=s')
  assert.equal(members(plain.headers.authorization!).oauth_token, undefined)
  const own = {
    request_params: { scope: 'a b', tenant: '${connectionConfig.tenant}', none: '${connectionConfig.none}' },
  }
  const formed = temporaryRequest(asking(own), 'https://b.io')
  assert.deepEqual(
    [formed.body, formed.headers['content-type']],
    ['scope=a+b&tenant=acme+%26+co', 'application/x-www-form-urlencoded'],
  )
  const got = temporaryRequest(asking({ ...own, request_http_method: 'get' }), 'https://b.io')
  assert.deepEqual([got.method, got.url.search, got.body], ['GET', '?x=1&scope=a+b&tenant=acme+%26+co', undefined])
})

test('the verifier is presented with the temporary credentials, whose secret signs and is not sent', () => {
  const request = tokenRequest(asking({ token_http_method: 'POST' }), { key: 'temp', secret: 'temp-secret' }, 'v')
  const said = members(request.headers.authorization!)
  assert.deepEqual([said.oauth_token, said.oauth_verifier, said.oauth_callback], ['temp', 'v', undefined])
  assert.doesNotMatch(JSON.stringify(request), /temp-secret|kd94hf93k423kf44/)
})

test('the address for the browser carries the temporary token, and nobody replaces it', () => {
  const own = { authorization_params: { expiration: 'never', name: '${connectionConfig.tenant}' } }
  const extra = { oauth_token: 'mine', oauth_callback: 'https://evil.example', expiration: 'undefined', scope: 'read' }
  const href = authorizationPage(asking(own, 'https://a.io/authorize?perms=1'), { key: 't/+', secret: 's' }, extra)
  assert.deepEqual(Object.fromEntries(new URL(href).searchParams), {
    ...{ perms: '1', name: 'acme & co', scope: 'read', oauth_token: 't/+' },
  })
})

const answers: [name: string, status: number, body: string, expected: string][] = [
  ['a form', 200, 'oauth_token=a%2F&oauth_token_secret=s&user_id=7', 'tokens a/ s'],
  ['JSON', 200, '{"oauth_token":"a","oauth_token_secret":"s"}', 'tokens a s'],
  ['no secret', 200, 'oauth_token=a', 'unreadable'],
  ['an empty token', 200, 'oauth_token=&oauth_token_secret=s', 'unreadable'],
  ['a page', 200, '<html>', 'unreadable'],
  ['a problem with a name', 401, 'oauth_problem=signature_invalid&oauth_problem_advice=no', 'signature_invalid: no'],
  ['a sentence', 401, 'Invalid signature', 'HTTP 401: Invalid signature'],
  ['a page with a status', 503, '<html>down</html>', 'HTTP 503: '],
  [
    'tokens with an error status',
    500,
    'oauth_token=a&oauth_token_secret=s',
    'HTTP 500: oauth_token=a&oauth_token_secret=s',
  ],
]
for (const [name, status, body, expected] of answers)
  test(`answer: ${name}`, () => {
    const read = readAnswer(status, Buffer.from(body))
    const said = {
      tokens: () =>
        'tokens' in read && `tokens ${read.tokens.accessToken.reveal()} ${read.tokens.given?.oauth_token_secret}`,
      error: () => 'error' in read && `${read.error}: ${read.description}`,
      unreadable: () => 'unreadable',
      unsupported_type: () => 'unsupported',
    }[read.kind]()
    assert.equal(said, expected)
  })
