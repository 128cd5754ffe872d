/**
 * Everything a browser, a stranger or an authorization server can send that must not become a connection. Each row says with which
 * code it ends; for all of them: the same page, nothing stored, a code presented at most once, no secret in the answer or the log.
 */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ErrorCode, errors } from '@fairlead/contract'
import { defaultTiming } from '../../src/credential/timing.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { escapeHtml } from '../../src/http/page.ts'
import { sha256 } from '../../src/lib/id.ts'
import { Browser, freePort, request, startFairlead } from '../support/fairlead.ts'
import {
  addIntegration,
  type Begun,
  begin,
  callbackOf,
  clientSecret,
  counts,
  openSession,
  startUrl,
} from './support/journey.ts'
import { type Answer, overlay, send, sendJson, startProvider, tokens } from './support/provider.ts'
import { scope } from './support/scope.ts'

const provider = await startProvider(scope)
const closedPort = await freePort()
const otherPort = await freePort()
// Loopback is open on two ports, so a token response that names a third is refused by the egress policy alone.
const fairlead = await startFairlead(scope, {
  env: { FAIRLEAD_EGRESS_ALLOW: `127.0.0.1:${provider.port}, 127.0.0.1:${closedPort}` },
  timing: { ...defaultTiming, answer: 700 },
  providers: [
    overlay('mock', `${provider.url}/token`),
    overlay('refused', `http://127.0.0.1:${closedPort}/token`),
    overlay('outside', `${provider.url}/token`, "  allowed_hosts: ['127.0.0.2']\n").replace(
      /token_url: .*/,
      "token_url: 'http://${connectionConfig.at}:9/token'",
    ),
    overlay(
      'demanding',
      `${provider.url}/token`,
      '  connection_config:\n    region: { title: Region, enum: [eu, us] }\n',
    ),
  ].join(''),
})
const { db, close } = await openDb({ url: fairlead.databaseUrl })
scope.after(close)
for (const key of ['mock', 'refused', 'outside', 'demanding', 'private'])
  await addIntegration(fairlead, key, key === 'private' ? 'mock' : key)

const code = 'CODE-that-must-be-presented-once'
const good: Answer = (res, asked) => sendJson(200, tokens(provider))(res, asked)
const answers =
  (changed: Record<string, unknown>): Answer =>
  (res, asked) =>
    sendJson(200, tokens(provider, changed))(res, asked)
const refuses = (status: number, body: object): Answer => sendJson(status, body)

interface Case {
  name: string
  integration?: string
  query?: string
  answer?: Answer
  /** Changes what comes back from the provider, or the browser it comes back in. */
  back?: (url: URL, begun: Begun) => unknown
  browser?: (begun: Begun) => Browser
  code: ErrorCode
  tokenRequests: 0 | 1
  /** What the page must say beside the table's sentence. */
  says?: RegExp
  /** Sends no callback that belongs to the handshake, so the handshake stays for the honest browser. */
  untouched?: boolean
}

const script = '<script>alert(1)</script>'

const cases: Case[] = [
  // the state and the browser
  {
    name: 'no state',
    back: url => url.searchParams.delete('state'),
    code: 'state_missing',
    tokenRequests: 0,
    untouched: true,
  },
  {
    name: 'an empty state',
    back: url => url.searchParams.set('state', ''),
    code: 'state_missing',
    tokenRequests: 0,
    untouched: true,
  },
  {
    name: 'an unknown state',
    back: url => url.searchParams.set('state', 'A'.repeat(43)),
    code: 'state_unknown',
    tokenRequests: 0,
    untouched: true,
  },
  {
    name: 'a state that was never one',
    back: url => url.searchParams.set('state', "' or 1=1 --"),
    code: 'state_unknown',
    tokenRequests: 0,
    untouched: true,
  },
  {
    name: 'an expired state',
    back: () => db.query(sql`update handshake set expires_at = clock_timestamp()`),
    code: 'state_unknown',
    tokenRequests: 0,
  },
  { name: 'no cookie', browser: () => new Browser(), code: 'browser_mismatch', tokenRequests: 0 },

  // what the provider sends back in the URL
  { name: 'access denied', back: url => refused(url, 'access_denied'), code: 'access_denied', tokenRequests: 0 },
  {
    name: 'another error',
    back: url => refused(url, 'server_error', 'we fell over'),
    code: 'provider_error',
    says: /server_error: we fell over/,
    tokenRequests: 0,
  },
  {
    name: 'a description without an error',
    back: url => {
      url.searchParams.delete('code')
      url.searchParams.set('error_description', 'x')
    },
    code: 'provider_error',
    tokenRequests: 0,
  },
  {
    name: 'code and error together',
    back: url => url.searchParams.set('error', 'access_denied'),
    code: 'callback_malformed',
    tokenRequests: 0,
  },
  {
    name: 'neither code nor error',
    back: url => url.searchParams.delete('code'),
    code: 'code_missing',
    tokenRequests: 0,
  },
  { name: 'an empty code', back: url => url.searchParams.set('code', ''), code: 'code_missing', tokenRequests: 0 },
  ...['code', 'state', 'error', 'error_description'].map(
    (name): Case => ({
      name: `${name} twice`,
      back: url => {
        if (name.startsWith('error')) refused(url, 'access_denied', 'no')
        url.searchParams.append(name, 'another')
      },
      code: 'callback_malformed',
      tokenRequests: 0,
    }),
  ),
  {
    name: 'markup in error_description',
    back: url => refused(url, 'x', script),
    code: 'provider_error',
    says: /&lt;script&gt;alert\(1\)/,
    tokenRequests: 0,
  },
  {
    name: 'a long error_description',
    back: url => refused(url, 'x', 'y'.repeat(5000)),
    code: 'provider_error',
    says: /[^y]y{509}[^y]/,
    tokenRequests: 0,
  },

  // what the token endpoint answers
  {
    name: 'HTML',
    answer: send(200, 'text/html', '<html><body>Down for maintenance</body></html>'),
    code: 'token_response_unreadable',
    tokenRequests: 1,
  },
  {
    name: 'HTML with an error status',
    answer: send(503, 'text/html', '<h1>503</h1>'),
    code: 'token_response_unreadable',
    tokenRequests: 1,
  },
  {
    name: 'nothing',
    answer: res => void res.writeHead(204).end(),
    code: 'token_response_unreadable',
    tokenRequests: 1,
  },
  { name: 'an array', answer: sendJson(200, ['access_token']), code: 'token_response_unreadable', tokenRequests: 1 },
  {
    name: 'no access token',
    answer: answers({ access_token: undefined }),
    code: 'token_response_unreadable',
    tokenRequests: 1,
  },
  {
    name: 'an empty access token',
    answer: answers({ access_token: '' }),
    code: 'token_response_unreadable',
    tokenRequests: 1,
  },
  {
    name: 'a redirect',
    answer: res => void res.writeHead(302, { Location: `${provider.url}/elsewhere` }).end(),
    code: 'token_response_unreadable',
    tokenRequests: 1,
  },
  {
    name: '5 MB',
    answer: answers({ padding: 'x'.repeat(5 * 1024 * 1024) }),
    code: 'token_response_too_large',
    tokenRequests: 1,
  },
  { name: 'a trickle', answer: trickle, code: 'token_exchange_unanswered', tokenRequests: 1 },
  { name: 'silence', answer: () => {}, code: 'token_exchange_unanswered', tokenRequests: 1 },
  {
    name: 'a reset after the request',
    answer: res => res.socket?.resetAndDestroy(),
    code: 'token_exchange_unanswered',
    tokenRequests: 1,
  },
  {
    name: 'half an answer',
    answer: res => void res.writeHead(200, { 'Content-Length': 500 }).write('{"access_token":"a', () => res.destroy()),
    code: 'token_exchange_unanswered',
    tokenRequests: 1,
  },
  { name: 'nobody there', integration: 'refused', code: 'token_endpoint_unreachable', tokenRequests: 0 },
  {
    name: 'an address the policy forbids',
    integration: 'outside',
    query: '&params[at]=127.0.0.2',
    code: 'egress_refused',
    tokenRequests: 0,
  },
  {
    name: 'HTTP 200 with an error',
    answer: refuses(200, { error: 'invalid_grant', error_description: 'expired authorization code' }),
    code: 'token_exchange_refused',
    says: /invalid_grant: expired authorization code/,
    tokenRequests: 1,
  },
  {
    name: 'an error beside tokens',
    answer: answers({ error: 'invalid_grant' }),
    code: 'token_exchange_refused',
    tokenRequests: 1,
  },
  {
    name: 'invalid_client',
    answer: refuses(400, { error: 'invalid_client' }),
    code: 'token_client_invalid',
    tokenRequests: 1,
  },
  {
    name: 'invalid_client_id',
    answer: refuses(400, { error: 'invalid_client_id' }),
    code: 'token_client_invalid',
    tokenRequests: 1,
  },
  {
    name: 'markup in the token error',
    answer: refuses(400, { error: 'x', error_description: script }),
    code: 'token_exchange_refused',
    says: /&lt;script&gt;/,
    tokenRequests: 1,
  },
  {
    name: 'our secrets, echoed in the token error',
    answer: (res, { form }) =>
      refuses(400, {
        error: 'x',
        error_description: `no: ${form.get('client_secret')} ${form.get('code_verifier')} ${form.get('code')}`,
      })(res, last()),
    code: 'token_exchange_refused',
    says: /x: no: \[redacted\] \[redacted\] \[redacted\]/,
    tokenRequests: 1,
  },
  ...['mac', 'DPoP'].map(
    (type): Case => ({
      name: `token_type ${type}`,
      answer: answers({ token_type: type }),
      code: 'token_type_unsupported',
      tokenRequests: 1,
    }),
  ),

  ...[
    { scope: 'api\u0000' },
    { id: `https://test.salesforce.com/id/00D\u0000/005` },
    { id: 'https://x/id/\ud800/005' },
  ].map(
    (changed): Case => ({
      name: `text no database stores: ${JSON.stringify(changed)}`,
      answer: answers(changed),
      code: 'token_response_unreadable',
      tokenRequests: 1,
    }),
  ),

  // hosts a token would be sent to
  {
    name: 'no instance_url',
    answer: answers({ instance_url: undefined }),
    code: 'token_response_incomplete',
    tokenRequests: 1,
  },
  {
    name: 'an instance_url that is no text',
    answer: answers({ instance_url: { host: 'acme.my.salesforce.com' } }),
    code: 'token_response_incomplete',
    tokenRequests: 1,
  },
  ...[
    'https://evil.example',
    'https://my.salesforce.com.evil.example',
    'https://evilmy.salesforce.com',
    'https://my.salesforce.com',
    'https://acme.my.salesforce.com.',
    'https://acme.my.salesforce.com@evil.example',
    'https://user:pw@acme.my.salesforce.com',
    'https://:pw@acme.my.salesforce.com',
    'https://evil.example#.my.salesforce.com',
    'https://evil.example\\.my.salesforce.com',
    'http://acme.my.salesforce.com',
    'ftp://acme.my.salesforce.com',
    'javascript:alert(1)//.my.salesforce.com',
    '//evil.example',
    'acme.my.salesforce.com',
    `http://127.0.0.1:${otherPort}`,
    'http://localhost',
    'https://169.254.169.254',
    'https://[::ffff:127.0.0.1]',
  ].map(
    (url): Case => ({
      name: `instance_url ${url}`,
      answer: answers({ instance_url: url }),
      code: 'host_not_allowed',
      tokenRequests: 1,
    }),
  ),
]

function refused(url: URL, error: string, description?: string): void {
  url.searchParams.delete('code')
  url.searchParams.set('error', error)
  if (description) url.searchParams.set('error_description', description)
}

/** Never silent for long, never done. */
function trickle(res: Parameters<Answer>[0]): void {
  res.writeHead(200, { 'Content-Type': 'application/json' }).write('{"access_token":"')
  const timer = setInterval(() => res.write('a'), 50)
  res.on('close', () => clearInterval(timer))
}

const last = () => provider.tokenRequests.at(-1)!

function assertPage(answer: Awaited<ReturnType<Browser['open']>>, expected: ErrorCode): void {
  assert.equal(answer.headers.get('fairlead-error'), expected, answer.text.slice(answer.text.indexOf('<main')))
  // The contract's page of failure has one status, whatever the table says for an API.
  assert.equal(answer.status, 400)
  assert.match(answer.headers.get('content-type') ?? '', /^text\/html/)
  assert.ok(answer.text.includes(`<code>${expected}</code>`), 'the code to quote')
  assert.doesNotMatch(answer.text, /<script>alert/)
}

for (const row of cases)
  test(row.name, async () => {
    const { integration = 'mock', query = '' } = row
    provider.answer = row.answer ?? good
    const asked = provider.tokenRequests.length
    const others = provider.otherRequests.length
    const logged = fairlead.log().length
    const begun = await begin(fairlead, integration, { query })
    const url = callbackOf(begun, code)
    await row.back?.(url, begun)
    const answer = await (row.browser?.(begun) ?? begun.browser).open(url.href)

    assertPage(answer, row.code)
    // Our own page, reloaded, comes without a state; what it says then is made for that.
    const sentence =
      row.code === 'state_missing'
        ? 'Otherwise start the sign-in again from the product you came from.'
        : errors[row.code][1]
    assert.ok(answer.text.includes(`<p>${escapeHtml(sentence)}</p>`), 'the sentence of the table')
    if (row.says) assert.match(answer.text, row.says)
    assert.equal(provider.tokenRequests.length - asked, row.tokenRequests)
    assert.equal(provider.otherRequests.length, others, 'no token was sent anywhere')
    assert.deepEqual(await counts(db), { connections: 0, credentials: 0, handshakes: row.untouched ? 1 : 0 })

    const verifier = row.tokenRequests === 1 ? last().form.get('code_verifier') : null
    const { access_token, refresh_token } = tokens(provider)
    const secrets = [clientSecret, code, verifier, access_token, refresh_token, begun.token, begun.state, fairlead.key]
    for (const secret of secrets.filter(secret => secret !== null)) {
      assert.ok(!answer.text.includes(secret), `in the page: ${secret}`)
      assert.ok(!fairlead.log().slice(logged).includes(secret), `in the log: ${secret}`)
    }
    // The same URL again, in the same browser: whatever went wrong, the code is not presented a second time.
    if (!row.untouched) assertPage(await begun.browser.open(url.href), 'state_unknown')
    assert.equal(provider.tokenRequests.length - asked, row.tokenRequests)
    await db.query(sql`delete from handshake`)
  })

test('starts that are refused', async t => {
  const token = await openSession(fairlead, { tags: { a: 'b' }, allowed_integrations: ['mock', 'demanding'] })
  const all = await openSession(fairlead)
  const pages: [name: string, path: string, session: string, code: ErrorCode, says?: RegExp][] = [
    ['an unknown integration', 'none', all, 'unknown_provider_config'],
    ['a name no integration can have', 'no%00ne', all, 'unknown_provider_config'],
    ['an integration the session does not allow', 'private', token, 'integration_not_allowed'],
    [
      'a fact only the provider may tell',
      'mock&params[instance_url]=https://evil.example',
      token,
      'connection_config_automated',
    ],
    ['another such fact', 'mock&params[organization_id]=00D', token, 'connection_config_automated'],
    [
      'a host name against the pattern',
      'mock&params[hostname]=evil.example',
      token,
      'connection_config_invalid',
      /hostname: evil\.example is not an address of Salesforce/,
    ],
    [
      'a look-alike host name',
      'mock&params[hostname]=x.my.salesforce.com.evil.example',
      token,
      'connection_config_invalid',
    ],
    ['a value that is not in the list', 'demanding&params[region]=moon', token, 'connection_config_invalid', /eu, us/],
    ['a missing value', 'demanding', token, 'connection_config_missing', /Region/],
    ['a value that is too long', `mock&params[x]=${'y'.repeat(1025)}`, token, 'connection_config_invalid'],
    [
      'markup in a name',
      `mock&params[</script>${script}]=${'y'.repeat(1025)}`,
      token,
      'connection_config_invalid',
      /&lt;\/script&gt;/,
    ],
  ]
  for (const [name, path, session, expected, says] of pages)
    await t.test(name, async () => {
      const [key = '', ...query] = path.split('&')
      const answer = await new Browser().open(startUrl(fairlead, key, session, query.map(part => `&${part}`).join('')))
      assertPage(answer, expected)
      if (says) assert.match(answer.text, says)
      assert.equal(answer.location, null)
      assert.deepEqual(answer.headers.getSetCookie(), [])
      assert.equal(answer.text.match(/<\/script>/g)?.length, 1, 'the page’s own')
    })

  const json: [name: string, query: string, status: number, code: ErrorCode, path?: string][] = [
    ['no token', '', 401, 'missing_public_key'],
    ['a public key', '?public_key=x', 401, 'deprecated_authentication'],
    ['a malformed token', '?connect_session_token=abc', 401, 'invalid_connect_session_token_format'],
    [
      'an unknown token',
      `?connect_session_token=nango_connect_session_${'0'.repeat(64)}`,
      401,
      'unknown_connect_session_token',
    ],
    ['U+0000', `?connect_session_token=${token}&params[a]=%00`, 400, 'invalid_query_params', 'params[a]'],
    ['an unknown parameter', `?connect_session_token=${token}&redirect=x`, 400, 'invalid_query_params', 'redirect'],
    [
      'a connection id',
      `?connect_session_token=${token}&connection_id=x`,
      400,
      'invalid_query_params',
      'connection_id',
    ],
    [
      'a parameter twice',
      `?connect_session_token=${token}&params[a]=1&params[a]=2`,
      400,
      'invalid_query_params',
      'params[a]',
    ],
    [
      'two tokens',
      `?connect_session_token=${token}&connect_session_token=${token}`,
      400,
      'invalid_query_params',
      'connect_session_token',
    ],
    [
      'half an OAuth client of its own',
      `?connect_session_token=${token}&credentials[oauth_client_id_override]=x`,
      400,
      'invalid_query_params',
      'credentials',
    ],
  ]
  for (const [name, query, status, expected, path] of json)
    await t.test(name, async () => {
      const answer = await request(`${fairlead.url}/oauth/connect/mock${query}`)
      assert.equal(answer.json?.error.code, expected)
      assert.equal(answer.status, status)
      assert.equal(answer.headers.get('fairlead-error'), expected)
      if (path) assert.deepEqual(answer.json.error.errors[0].path, [path])
    })

  await t.test('an expired session', async () => {
    const ended = await openSession(fairlead)
    await db.query(
      sql`update connect_session set expires_at = clock_timestamp() where id = (select max(id) from connect_session)`,
    )
    const answer = await request(startUrl(fairlead, 'mock', ended))
    assert.deepEqual([answer.status, answer.json.error.code], [401, 'unknown_connect_session_token'])
  })
  assert.deepEqual(await counts(db), { connections: 0, credentials: 0, handshakes: 0 })
})

test('a handshake holds its verifier sealed and its state and cookie only as hashes', async () => {
  const { authorize, state, browser } = await begin(fairlead, 'mock')
  const [row] = await db.query<Record<string, unknown>>(sql`select * from handshake`)
  assert.deepEqual(row?.state_hash, sha256(state))
  const whole = JSON.stringify(row, (_name, value) =>
    value?.type === 'Buffer' ? Buffer.from(value.data).toString('latin1') : value,
  )
  provider.answer = good
  assert.equal((await browser.open(callbackOf({ authorize, state }, code).href)).status, 200)
  const verifier = last().form.get('code_verifier') ?? assert.fail()
  for (const secret of [state, verifier]) assert.ok(!whole.includes(secret))
  // 1 version, 8 key id, 12 nonce, 16 tag, and as many bytes as the verifier has in its JSON.
  assert.equal((row!.verifier_sealed as Buffer).length, 37 + JSON.stringify({ verifier }).length)
  assert.deepEqual(await counts(db), { connections: 1, credentials: 1, handshakes: 0 })
})

test('a callback is good for one success', async t => {
  provider.answer = good
  await t.test('one after the other', async () => {
    const before = await counts(db)
    const begun = await begin(fairlead, 'mock')
    const asked = provider.tokenRequests.length
    const url = callbackOf(begun, code).href
    // The cookie is gone after the first; a browser that kept it is answered no better.
    const thief = new Browser()
    assert.equal((await begun.browser.open(url)).status, 200)
    assertPage(await begun.browser.open(url), 'state_unknown')
    assertPage(await thief.open(url), 'state_unknown')
    assert.equal(provider.tokenRequests.length - asked, 1)
    assert.equal((await counts(db)).connections, before.connections + 1)
  })

  await t.test('eight at once', async () => {
    const before = await counts(db)
    const begun = await begin(fairlead, 'mock')
    const asked = provider.tokenRequests.length
    const url = callbackOf(begun, code).href
    const all = await Promise.all(Array.from({ length: 8 }, () => begun.browser.open(url)))
    assert.deepEqual(all.map(answer => answer.status).sort(), [200, 400, 400, 400, 400, 400, 400, 400])
    for (const answer of all) if (answer.status === 400) assertPage(answer, 'state_unknown')
    assert.equal(provider.tokenRequests.length - asked, 1)
    assert.equal((await counts(db)).connections, before.connections + 1)
  })
})

test('another browser cannot finish a sign-in, even one with a sign-in of its own', async () => {
  const before = await counts(db)
  const asked = provider.tokenRequests.length
  const victim = await begin(fairlead, 'mock')
  const attacker = await begin(fairlead, 'mock')
  assertPage(await attacker.browser.open(callbackOf(victim, code).href), 'browser_mismatch')
  assert.equal(provider.tokenRequests.length, asked)
  assert.equal((await counts(db)).connections, before.connections)
  // The attacker's own flow is unharmed by what he tried.
  assert.equal((await attacker.browser.open(callbackOf(attacker, code).href)).status, 200)
})

test('three sign-ins in one browser do not disturb one another', async () => {
  const browser = new Browser()
  const before = await counts(db)
  const begun: Begun[] = []
  // Three people: one who signs in to one account twice has one grant.
  for (const [i, key] of ['mock', 'mock', 'private'].entries())
    begun.push(
      await begin(fairlead, key, { browser, token: await openSession(fairlead, { end_user: { id: `tab ${i}` } }) }),
    )
  assert.equal(new Set(begun.map(({ state }) => state)).size, 3)
  for (const one of begun.toReversed()) assert.equal((await browser.open(callbackOf(one, code).href)).status, 200)
  assert.deepEqual(await counts(db), {
    connections: before.connections + 3,
    credentials: before.credentials + 3,
    handshakes: 0,
  })
})

test('an account whose known facts are odd is connected and shown all the same', async () => {
  // `note` is nobody's field; it is stored as text and never becomes part of a URL or of markup.
  const begun = await begin(fairlead, 'mock', { query: `&params[note]=${encodeURIComponent(script)}` })
  const done = await begun.browser.open(callbackOf(begun, code).href)
  assert.equal(done.status, 200, done.text)
  assert.doesNotMatch(done.text, /<script>alert/)
})
