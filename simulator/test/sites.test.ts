import assert from 'node:assert/strict'
import { generateKeyPairSync, sign } from 'node:crypto'
import { test } from 'node:test'
import type { Simulator } from '../src/index.ts'
import { ADA, authorizeUrl, byName, CALLBACK, connect, exchange, open, post, rest, simulate, text } from './support.ts'

test('a site of Experience Cloud: its own path, the same org, and the answer says so', async t => {
  const simulator = await simulate(t)
  const site = `${simulator.url}/acme--uat.site/partners`
  const url = authorizeUrl(simulator)
  const { location } = await open(`${site}/services/oauth2/authorize${url.search}`, {
    headers: { 'x-simulator-approve': 'allow' },
  })
  assert.equal(location?.searchParams.get('sfdc_community_url'), site)
  const { clientId, clientSecret } = simulator.app('acme--uat')
  const { status, json } = await post(`${site}/services/oauth2/token`, {
    grant_type: 'authorization_code',
    client_id: clientId,
    client_secret: clientSecret,
    code: location?.searchParams.get('code') ?? '',
    redirect_uri: CALLBACK,
    code_verifier: 'v'.repeat(64),
  })
  assert.equal(status, 200, JSON.stringify(json))
  assert.equal(json.sfdc_community_url, site)
  assert.match(text(json, 'sfdc_community_id'), /^0DB/)
  assert.equal(json.instance_url, simulator.base('acme--uat'))
  assert.equal((await rest(json, '/v66.0/limits')).status, 200)

  // Elsewhere nothing says so, and a path that is no site's is nobody's.
  const plain = await connect(simulator)
  assert.equal(plain.sfdc_community_url, undefined)
  assert.equal(
    (await fetch(`${simulator.url}/acme--uat.site/customers/services/oauth2/token`, { method: 'POST' })).status,
    420,
  )
  const discovery = await byName(
    simulator,
    'acme--uat.sandbox.my.site.salesforce.localhost',
    '/partners/.well-known/openid-configuration',
  )
  assert.equal(
    (JSON.parse(discovery.body) as { issuer: string }).issuer,
    `http://acme--uat.sandbox.my.site.salesforce.localhost:${simulator.port}/partners`,
  )
})

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

function assertion(claims: object, key = privateKey): string {
  const input = `${part({ alg: 'RS256' })}.${part(claims)}`
  return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`
}
const ask = (simulator: Simulator, jwt: string) =>
  post(`${simulator.base('acme--uat')}/services/oauth2/token`, {
    grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
    assertion: jwt,
  })

test('JWT bearer: who signs, for whom, until when, and only after consent', async t => {
  const simulator = await simulate(t)
  const { clientId: iss } = simulator.app('acme--uat')
  simulator.control.setApp({
    clientId: iss,
    certificate: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  })
  const seconds = Math.floor(Date.now() / 1000)
  const claims = { iss, sub: ADA, aud: 'https://test.salesforce.com', exp: seconds + 120 }
  const reason = async (changes: object, key = privateKey) => {
    const { status, json } = await ask(simulator, assertion({ ...claims, ...changes }, key))
    return status === 200 ? 'granted' : String(json.error_description)
  }
  assert.equal(await reason({}), "user hasn't approved this consumer")
  await connect(simulator)
  const granted = await ask(simulator, assertion(claims))
  // Nothing but this: no refresh token, no issued_at, no signature.
  assert.deepEqual(Object.keys(granted.json).sort(), ['access_token', 'id', 'instance_url', 'scope', 'token_type'])
  assert.equal(granted.json.scope, 'api id')
  assert.equal((await rest(granted.json, '/v66.0/limits')).status, 200)

  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  const table: [string, object, string][] = [
    ['milliseconds, as the sf CLI sends them', { exp: Date.now() + 300 }, 'granted'],
    ['a string', { exp: String(seconds + 60) }, 'granted'],
    ['prn wins over sub', { prn: ADA, sub: 'nobody' }, 'granted'],
    ['its own address as audience', { aud: simulator.base('acme--uat') }, 'granted'],
    ['production’s audience', { aud: 'https://login.salesforce.com' }, 'audience is invalid'],
    ['too far ahead', { exp: seconds + 3600 }, 'invalid assertion'],
    ['over', { exp: seconds - 3600 }, 'expired authorization code'],
    ['somebody who never consented', { sub: 'ben@acme.com.uat' }, "user hasn't approved this consumer"],
    ['no such app', { iss: '3MVG9nobody' }, 'client identifier invalid'],
    ['once', { jti: 'a' }, 'granted'],
    ['twice', { jti: 'a' }, 'the assertion was used before'],
  ]
  for (const [name, changes, expected] of table) assert.equal(await reason(changes), expected, name)
  assert.equal(await reason({}, other), 'invalid assertion', 'signed by somebody else')
  for (const rubbish of ['', 'a.b.c', `${part({ alg: 'none' })}.${part(claims)}.`]) {
    assert.equal((await ask(simulator, rubbish)).json.error, 'invalid_grant', rubbish)
  }
  // Pre-authorised by an administrator: who is one of them needs no consent.
  simulator.control.setApp({ clientId: iss, adminApproved: true })
  simulator.control.revokeRefreshTokens()
  assert.equal(await reason({}), 'granted')
  assert.equal(await reason({ sub: 'ben@acme.com.uat' }), 'user is not admin approved to access this app')
})

test('refuse: any error, in the way it is told at that endpoint', async t => {
  const simulator = await simulate(t)
  simulator.control.refuse({ endpoint: 'authorize', error: 'app_blocked', description: 'blocked' })
  const back = await open(authorizeUrl(simulator))
  assert.deepEqual(
    [back.location?.origin, back.location?.searchParams.get('error'), back.location?.searchParams.get('state')],
    ['http://localhost:3003', 'app_blocked', 'the state'],
  )
  simulator.control.refuse({ endpoint: 'authorize', error: 'OAUTH_APPROVAL_ERROR_GENERIC', onPage: true })
  const page = await open(authorizeUrl(simulator))
  assert.deepEqual([page.status, page.location], [400, null])
  simulator.control.refuse({
    endpoint: 'token',
    error: 'inactive_org',
    description: 'Data Not Available',
    grantType: 'authorization_code',
  })
  const { status, json } = await exchange(simulator, 'x')
  assert.deepEqual([status, json], [400, { error: 'inactive_org', error_description: 'Data Not Available' }])
  assert.throws(() => simulator.control.refuse({ endpoint: 'rest' as 'token', error: 'x' }), /endpoint must be/)
  assert.throws(() => simulator.control.refuse({ endpoint: 'token', error: '' }), /error must be/)
})
