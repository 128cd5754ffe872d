/** What real providers answer and what their authorization URLs want, with literals: no server, no clock. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { authorizationUrl, readTokenAnswer, s256, tokenRequest } from '../../src/credential/kinds/oauth2-code.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Provider, ProviderDefinition } from '../../src/provider/schema.ts'

const provider = (own: Partial<ProviderDefinition> = {}): Provider => ({
  name: 'p',
  display_name: 'P',
  auth_mode: 'OAUTH2',
  ...own,
})

interface Tokens {
  access: string
  refresh: string | undefined
  type: string
  lifeMs: number | undefined
  scopes: string[] | undefined
}
const normal: Tokens = { access: 'a', refresh: 'r', type: 'Bearer', lifeMs: 3_600_000, scopes: ['x', 'y'] }
const members = { access_token: 'a', refresh_token: 'r', token_type: 'Bearer', expires_in: 3600, scope: 'x y' }

/** The wall clock of the JWT rows. */
const now = Date.UTC(2026, 0, 1)
const jwt = (claims: object) => `h.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`

const answers: [
  name: string,
  status: number,
  body: unknown,
  expected: Partial<Tokens> | string,
  own?: Partial<ProviderDefinition>,
][] = [
  // thirteen answers of real token endpoints
  ['1 normal', 200, members, {}],
  ['2 no expires_in', 200, { ...members, expires_in: undefined }, { lifeMs: undefined }],
  ['3 expires_in as a string', 200, { ...members, expires_in: '3600' }, {}],
  [
    '4 JSON with a byte order mark and blanks, as behind a text/html label',
    200,
    `\uFEFF\n ${JSON.stringify(members)} `,
    {},
  ],
  ['5 no token_type', 200, { ...members, token_type: undefined }, {}],
  ['6 an odd token_type', 200, { ...members, token_type: 'BearerToken' }, { type: 'BearerToken' }],
  ['7 HTTP 201', 201, members, {}],
  ['8 scope as an array', 200, { ...members, scope: ['x', 'y'] }, {}],
  ['9 refresh_token null', 200, { ...members, refresh_token: null }, { refresh: undefined }],
  ['10 a malformed id_token', 200, { ...members, id_token: 'not.a.jwt!' }, {}],
  ['11 form-encoded', 200, 'access_token=a&refresh_token=r&token_type=Bearer&expires_in=3600&scope=x+y', {}],
  [
    '12 nested',
    200,
    { ok: true, authed_user: { ...members, token_type: undefined } },
    {},
    { alternate_access_token_response_path: 'authed_user' },
  ],
  [
    '12 nested, the token alone',
    200,
    { d: { t: 'a' } },
    { refresh: undefined, lifeMs: undefined, scopes: undefined },
    { alternate_access_token_response_path: 'd.t' },
  ],
  [
    '13 HTTP 200 with an error',
    200,
    { error: 'bad_verification_code', error_description: 'no' },
    'error bad_verification_code: no',
  ],
  // and what else was seen
  ['an empty refresh token', 200, { ...members, refresh_token: '' }, { refresh: undefined }],
  ['scopes with commas', 200, { ...members, scope: 'x,y' }, {}],
  ['an empty scope', 200, { ...members, scope: '' }, { scopes: undefined }],
  ['milliseconds', 200, { ...members, expires_in: 3_600_000 }, {}, { expires_in_unit: 'milliseconds' }],
  ['expires_in null', 200, { ...members, expires_in: null }, { lifeMs: undefined }],
  ['expires_in that is no number', 200, { ...members, expires_in: 'soon' }, { lifeMs: undefined }],
  ['expires_in zero', 200, { ...members, expires_in: 0 }, { lifeMs: undefined }],
  ['expires_in of a thousand years', 200, { ...members, expires_in: 31_536_000_000 }, { lifeMs: undefined }],
  [
    'a JWT that says its end',
    200,
    { ...members, expires_in: undefined, access_token: jwt({ exp: now / 1000 + 60 }) },
    { access: jwt({ exp: now / 1000 + 60 }), lifeMs: 60_000 },
  ],
  [
    'a JWT that has ended',
    200,
    { ...members, expires_in: undefined, access_token: jwt({ exp: 1 }) },
    { access: jwt({ exp: 1 }), lifeMs: undefined },
  ],
  ['an empty error', 200, { ...members, error: '' }, {}],
  [
    'a path that leads to a prototype',
    200,
    { x: {} },
    'unreadable',
    { alternate_access_token_response_path: 'x.constructor.name' },
  ],
  ['token_type mac', 200, { ...members, token_type: 'MAC' }, 'unsupported_type MAC'],
  ['an error form-encoded', 400, 'error=invalid_grant&error_description=used+up', 'error invalid_grant: used up'],
  ['an error as an object', 400, { error: { code: 1 } }, 'unreadable'],
  ['tokens with an error status', 500, members, 'unreadable'],
  ['text', 200, 'ok', 'unreadable'],
  ['HTML that looks like a form', 200, 'a=<html>', 'unreadable'],
  ['a number', 200, '7', 'unreadable'],
  ['an access token that is a number', 200, { ...members, access_token: 7 }, 'unreadable'],
]

for (const [name, status, body, expected, own] of answers)
  test(`token response: ${name}`, () => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const read = readTokenAnswer(provider(own), status, Buffer.from(text), now)
    if (typeof expected === 'string') {
      const said = {
        tokens: () => 'tokens',
        unreadable: () => 'unreadable',
        unsupported_type: () => `unsupported_type ${'tokenType' in read && read.tokenType}`,
        error: () => `error ${'error' in read && `${read.error}: ${read.description}`}`,
      }[read.kind]()
      assert.equal(said, expected)
      return
    }
    assert.ok(read.kind === 'tokens', JSON.stringify(read))
    const { accessToken, refreshToken, tokenType, lifeMs, scopes, raw } = read.tokens
    const found = { access: accessToken.reveal(), refresh: refreshToken?.reveal(), type: tokenType, lifeMs, scopes }
    assert.deepEqual(found, { ...normal, ...expected })
    assert.ok(Object.keys(raw).length > 0, 'the whole response is kept')
    assert.doesNotMatch(`${JSON.stringify(accessToken)}${accessToken}`, /"a"|^a$/)
  })

test('an error is shown at most 512 characters long and without control characters', () => {
  const body = { error: 'e', error_description: `a\r\n\u0000b${'x'.repeat(1_000_000)}` }
  const read = readTokenAnswer(provider(), 400, Buffer.from(JSON.stringify(body)), now)
  assert.ok(read.kind === 'error')
  assert.equal(read.description.length, 512)
  assert.match(read.description, /^a bx+$/)
})

test('the challenge is RFC 7636 appendix B', () => {
  assert.equal(s256('dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'), 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM')
})

const base = {
  client_id: 'id',
  redirect_uri: 'https://b.io/oauth/callback',
  response_type: 'code',
  scope: 'x y',
  state: 's',
}
const pkce = { code_challenge: s256('v'), code_challenge_method: 'S256' }

const urls: [
  name: string,
  own: Partial<ProviderDefinition>,
  extra: Record<string, string>,
  expected: object,
  text?: RegExp,
][] = [
  ['everything it needs', {}, {}, { ...base, ...pkce }],
  ['no PKCE where it breaks the provider', { disable_pkce: true }, {}, base],
  ['the separator of the provider', { scope_separator: ',' }, {}, { ...base, ...pkce, scope: 'x,y' }],
  [
    'parameters of the provider',
    { authorization_params: { prompt: 'consent' } },
    {},
    { ...base, ...pkce, prompt: 'consent' },
  ],
  [
    'from facts of the account',
    { authorization_params: { tenant: '${connectionConfig.tenant}' } },
    {},
    { ...base, ...pkce, tenant: 'acme & co' },
  ],
  [
    'parameters of the session win',
    { authorization_params: { prompt: 'consent' } },
    { prompt: 'login' },
    { ...base, ...pkce, prompt: 'login' },
  ],
  [
    '"undefined" removes',
    { authorization_params: { prompt: 'consent' } },
    { prompt: 'undefined' },
    { ...base, ...pkce },
  ],
  [
    'what carries the flow cannot be replaced or removed',
    {},
    {
      state: 'x',
      redirect_uri: 'x',
      client_id: 'x',
      response_type: 'token',
      scope: 'all',
      code_challenge: 'undefined',
      code_challenge_method: 'plain',
    },
    { ...base, ...pkce },
  ],
  [
    'nor by provider data',
    { authorization_params: { state: 'x', code_challenge_method: 'plain', response_type: 'token' } },
    {},
    { ...base, ...pkce },
  ],
  ['empty parameters stay', { authorization_params: { hint: '' } }, {}, { ...base, ...pkce, hint: '' }],
  [
    'unless they are skipped',
    { authorization_params: { hint: '' }, authorization_url_skip_empty: true },
    {},
    { ...base, ...pkce },
  ],
  [
    'scopes as they are',
    { authorization_url_skip_encode: ['scopes'], scope_separator: '%20' },
    {},
    { ...base, ...pkce },
    /&scope=x%20y$/,
  ],
  [
    'a fragment before the query',
    { authorization_url_fragment: '/login' },
    {},
    {},
    /^https:\/\/a\.io\/authorize#\/login\?/,
  ],
  ['replacements', { authorization_url_replacements: { 'a.io': 'eu.a.io' } }, {}, {}, /^https:\/\/eu\.a\.io\//],
]

for (const [name, own, extra, expected, pattern] of urls)
  test(`authorization URL: ${name}`, () => {
    const text = authorizationUrl({
      provider: provider(own),
      url: new URL('https://a.io/authorize'),
      clientId: 'id',
      redirectUri: 'https://b.io/oauth/callback',
      scopes: ['x', 'y'],
      state: 's',
      verifier: 'v',
      config: { tenant: 'acme & co' },
      extra,
    })
    if (pattern) assert.match(text, pattern)
    if (Object.keys(expected).length > 0)
      assert.deepEqual(
        Object.fromEntries([...new URL(text).searchParams].sort()),
        Object.fromEntries(Object.entries(expected).sort()),
      )
    assert.doesNotMatch(text, /[?&]code_verifier=|secret/)
  })

test('a query the provider’s URL already has is kept', () => {
  const url = new URL('https://a.io/authorize?audience=api')
  const text = authorizationUrl({
    provider: provider(),
    url,
    clientId: 'id',
    redirectUri: 'r',
    scopes: [],
    state: 's',
    verifier: 'v',
    config: {},
    extra: {},
  })
  assert.equal(new URL(text).searchParams.get('audience'), 'api')
  assert.equal(new URL(text).searchParams.get('scope'), null)
})

test('provider data cannot replace what is presented to the token endpoint', () => {
  const client = { id: 'id', secret: new Secret('s') }
  const own = { token_params: { code: 'x', client_secret: 'x', grant_type: 'x', audience: 'api' } }
  const { body } = tokenRequest(provider(own), client, { grant_type: 'authorization_code', code: 'c' }, {})
  assert.deepEqual(Object.fromEntries(new URLSearchParams(body)), {
    audience: 'api',
    client_id: 'id',
    client_secret: 's',
    code: 'c',
    grant_type: 'authorization_code',
  })
})

test('a public client sends no secret at all', () => {
  const { body, headers } = tokenRequest(
    provider(),
    { id: 'id', secret: null },
    { grant_type: 'authorization_code' },
    {},
  )
  assert.doesNotMatch(body, /client_secret/)
  assert.equal(headers.authorization, undefined)
})
