/**
 * A sign-in by OAuth 1.0a (RFC 5849), end to end: temporary credentials, the provider's page, the credentials of the account, a call that is
 * signed. The provider checks every signature by its own reading of the RFC; what must not happen is a connection from anything else.
 */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { Browser, startFairlead } from '../support/fairlead.ts'
import { counts, openSession, startUrl } from './support/journey.ts'
import { type Answer, type Asked, send, startProvider } from './support/provider.ts'
import { scope } from './support/scope.ts'

const consumer = { key: 'consumer-key', secret: 'consumer secret & more' }
const temporary = { key: 'temp-token/1', secret: 'temp-secret-of-the-mock' }
const account = { key: 'account-token', secret: 'account-secret-of-the-mock' }

const provider = await startProvider(scope)
const fairlead = await startFairlead(scope, {
  providers: `older:
  display_name: Older
  auth_mode: OAUTH1
  request_url: ${provider.url}/request_token
  authorization_url: ${provider.url}/authorize
  authorization_params: { expiration: never }
  token_url: ${provider.url}/access_token
  token_response_metadata: [user_id]
  proxy: { base_url: '${provider.url}/api' }
  allowed_hosts: [127.0.0.1]
`,
})
const { db, close } = await openDb({ url: fairlead.databaseUrl })
scope.after(close)
const credentials = { type: 'OAUTH1', client_id: consumer.key, client_secret: consumer.secret }
const made = await fairlead.call('POST', '/integrations', { provider: 'older', unique_key: 'older', credentials })
assert.equal(made.status, 200, made.text)

const encoded = (text: string) =>
  [...Buffer.from(text)]
    .map(byte =>
      /[\w.~-]/.test(String.fromCharCode(byte))
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    )
    .join('')

/** What the request says of itself, when its signature holds by this secret; undefined when it does not. */
function signedBy(asked: Asked, secret: string): Record<string, string> | undefined {
  const header = asked.headers.authorization ?? ''
  const said = Object.fromEntries(
    [...header.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name!, decodeURIComponent(value!)]),
  )
  const { oauth_signature, ...signed } = said
  const url = new URL(asked.url, provider.url)
  const pairs = [...Object.entries(signed), ...url.searchParams, ...asked.form]
  const sorted = pairs.map(([name, value]) => `${encoded(name)}=${encoded(value)}`).sort()
  const base = [asked.method, `${url.origin}${url.pathname}`, sorted.join('&')].map(encoded).join('&')
  const key = `${encoded(consumer.secret)}&${encoded(secret)}`
  return createHmac('sha1', key).update(base).digest('base64') === oauth_signature ? said : undefined
}

const form = (members: Record<string, string>): Answer =>
  send(200, 'application/x-www-form-urlencoded', new URLSearchParams(members).toString())

/** What the next requests for temporary credentials and for those of the account are answered with, once their signatures hold. */
let temporaryAnswer: Answer
let accountAnswer: Answer
let callback = ''

beforeEach(() => {
  temporaryAnswer = form({
    oauth_token: temporary.key,
    oauth_token_secret: temporary.secret,
    oauth_callback_confirmed: 'true',
  })
  accountAnswer = form({ oauth_token: account.key, oauth_token_secret: account.secret, user_id: '38895958' })
})

provider.api = (res, asked) => {
  const path = asked.url.split('?')[0]
  const refuse = send(401, 'text/plain', `Invalid signature, ${consumer.secret}`)
  if (path === '/request_token') {
    const said = signedBy(asked, '')
    callback = said?.oauth_callback ?? ''
    return (said && !said.oauth_token ? temporaryAnswer : refuse)(res, asked)
  }
  if (path === '/access_token') {
    const said = signedBy(asked, temporary.secret)
    const isRight = said?.oauth_token === temporary.key && said.oauth_verifier === 'the-verifier'
    return (isRight ? accountAnswer : refuse)(res, asked)
  }
  return (signedBy(asked, account.secret)?.oauth_token === account.key ? send(200, 'text/plain', 'signed') : refuse)(
    res,
    asked,
  )
}

async function begin() {
  const browser = new Browser()
  const token = await openSession(fairlead, { end_user: { id: 'ada' } })
  const answer = await browser.open(startUrl(fairlead, 'older', token))
  return { browser, token, answer }
}

function wayBack(changed: Record<string, string | undefined> = {}): string {
  const url = new URL(callback)
  const members = { oauth_token: temporary.key, oauth_verifier: 'the-verifier', ...changed }
  for (const [name, value] of Object.entries(members)) if (value !== undefined) url.searchParams.append(name, value)
  return url.href
}

test('signed in, read, called with a signature, and signed in again', async () => {
  const { browser, answer } = await begin()
  assert.equal(answer.status, 302, answer.text)
  const authorize = new URL(answer.location ?? '')
  assert.equal(authorize.pathname, '/authorize')
  assert.deepEqual(Object.fromEntries(authorize.searchParams), { expiration: 'never', oauth_token: temporary.key })
  const back = new URL(callback)
  assert.equal(`${back.origin}${back.pathname}`, `${fairlead.app.url}/oauth/callback`)
  assert.match(back.searchParams.get('state') ?? '', /^[\w-]{43}$/)

  const ended = await browser.open(wayBack())
  assert.equal(ended.status, 200, ended.text)
  const [{ connection_id: id }] = (await fairlead.call('GET', '/connections?integrationId=older')).json.connections
  const path = `/connections/${id}?provider_config_key=older`
  const read = (await fairlead.call('GET', path)).json
  const { type, oauth_token, oauth_token_secret } = read.credentials
  assert.deepEqual([type, oauth_token, oauth_token_secret], ['OAUTH1', account.key, account.secret])
  assert.equal(read.connection_config.user_id, '38895958')
  const named = { 'Provider-Config-Key': 'older', 'Connection-Id': id }
  const called = await fairlead.call('GET', '/proxy/things?b=%2F&a=1&a=0', undefined, named)
  assert.deepEqual([called.status, called.text], [200, 'signed'])

  const again = await fairlead.call('POST', '/connect/sessions/reconnect', {
    connection_id: id,
    integration_id: 'older',
  })
  const second = new Browser()
  assert.equal((await second.open(startUrl(fairlead, 'older', again.json.data.token))).status, 302)
  assert.equal((await second.open(wayBack())).status, 200)
  assert.equal((await fairlead.call('GET', '/connections?integrationId=older')).json.connections.length, 1)
  assert.equal((await fairlead.call('DELETE', path)).status, 200)
  for (const secret of [temporary.secret, account.secret, consumer.secret]) assert.ok(!fairlead.log().includes(secret))
})

const refusedBefore: [name: string, answer: Answer, code: string][] = [
  [
    'a client the provider does not know',
    send(401, 'text/plain', `who is ${consumer.secret}?`),
    'token_client_invalid',
  ],
  ['a refusal', send(400, 'text/plain', 'oauth_problem=timestamp_refused'), 'token_exchange_refused'],
  ['a page', send(200, 'text/html', '<html>hello</html>'), 'token_response_unreadable'],
  [
    'OAuth 1.0 without the "a", where somebody else could finish it',
    form({ oauth_token: temporary.key, oauth_token_secret: temporary.secret }),
    'token_response_incomplete',
  ],
]
for (const [name, refusal, code] of refusedBefore)
  test(`before the redirect, ${name}: ${code}, and nothing is begun`, async () => {
    const before = await counts(db)
    temporaryAnswer = refusal
    const { answer } = await begin()
    assert.deepEqual([answer.status, answer.headers.get('fairlead-error')], [400, code])
    assert.ok(!answer.text.includes(consumer.secret))
    assert.deepEqual(await counts(db), before)
  })

const refusedAfter: [name: string, way: () => string, code: string, accountSays?: Answer][] = [
  [
    'denied, as Twitter says it',
    () => wayBack({ oauth_token: undefined, oauth_verifier: undefined, denied: 'x' }),
    'access_denied',
  ],
  [
    'denied, by its problem',
    () => wayBack({ oauth_verifier: undefined, oauth_problem: 'user_refused' }),
    'access_denied',
  ],
  ['another problem', () => wayBack({ oauth_verifier: undefined, oauth_problem: 'token_expired' }), 'provider_error'],
  ['a problem and a verifier', () => wayBack({ oauth_problem: 'user_refused' }), 'callback_malformed'],
  ['no verifier', () => wayBack({ oauth_verifier: undefined }), 'code_missing'],
  ['the token of another sign-in', () => wayBack({ oauth_token: 'temp-token/2' }), 'callback_malformed'],
  ['no token', () => wayBack({ oauth_token: undefined }), 'callback_malformed'],
  ['two verifiers', () => `${wayBack()}&oauth_verifier=x`, 'callback_malformed'],
  ['a wrong verifier', () => wayBack({ oauth_verifier: 'x' }), 'token_exchange_refused'],
  ['an answer without a secret', () => wayBack(), 'token_response_unreadable', form({ oauth_token: 'a' })],
  ['a page that says it is down', () => wayBack(), 'token_exchange_refused', send(503, 'text/html', '<html>')],
]
for (const [name, way, code, accountSays] of refusedAfter)
  test(`after the redirect, ${name}: ${code}, and nothing is stored`, async () => {
    const before = await counts(db)
    if (accountSays) accountAnswer = accountSays
    const asked = provider.otherRequests.length
    const { browser, answer, token } = await begin()
    assert.equal(answer.status, 302, answer.text)
    const ended = await browser.open(way())
    assert.equal(ended.headers.get('fairlead-error'), code, ended.text)
    assert.ok(!ended.text.includes(consumer.secret))
    assert.deepEqual(await counts(db), before)
    const presented = provider.otherRequests.slice(asked).filter(({ url }) => url.startsWith('/access_token'))
    assert.ok(presented.length <= 1, 'a verifier is presented once')
    const results = await fairlead.call('GET', '/connect/session/results', undefined, {
      Authorization: `Bearer ${token}`,
    })
    assert.equal(results.json.data[0].error.code, code)
    assert.equal((await browser.open(wayBack())).headers.get('fairlead-error'), 'state_unknown', 'used up')
  })

test('another browser cannot finish it', async () => {
  const before = await counts(db)
  await begin()
  const ended = await new Browser().open(wayBack())
  assert.equal(ended.headers.get('fairlead-error'), 'browser_mismatch')
  assert.deepEqual(await counts(db), before)
})
