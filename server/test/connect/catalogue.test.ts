/**
 * Every provider of the catalogue, end to end, against a mock made of its own definition: its endpoints are moved to the mock, host and all
 * (https://api.acme.com/x becomes http://127.0.0.1:…/api.acme.com/x), and the mock answers as the definition says that it is answered.
 */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { before, test } from 'node:test'
import { dump } from 'js-yaml'
import { formOf } from '../../src/credential/kinds/form.ts'
import { kindOf } from '../../src/credential/kinds/kinds.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { loadCatalogue } from '../../src/provider/catalogue.ts'
import { tokenUrlOf } from '../../src/provider/endpoint.ts'
import type { Provider as Definition, FormField } from '../../src/provider/schema.ts'
import { Browser, type Fairlead, request, startFairlead } from '../support/fairlead.ts'
import { begin, callbackOf, clientId, clientSecret, openSession, startUrl } from './support/journey.ts'
import { type Asked, type Provider, sendJson, startProvider } from './support/provider.ts'
import { scope } from './support/scope.ts'

const builtIn = loadCatalogue({ overlayPath: undefined, egressAllow: parseEgressAllow('').rules }).list()
const secret = 'secret-of-the-account'
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' })

let mock: Provider
let fairlead: Fairlead
let issued = 0

const paths: Record<string, string> = {
  API_KEY: '/api-auth/api-key',
  BASIC: '/api-auth/basic',
  OAUTH2_CC: '/oauth2/auth',
  TWO_STEP: '/auth/two-step',
  JWT: '/auth/jwt',
  NONE: '/auth/unauthenticated',
}

const moved = (source: string) =>
  source
    .split(' || ')
    .map(one => one.replace(/^https:\/\//, `${mock.url}/`))
    .join(' || ')

/** The definition with every endpoint at the mock. */
function atMock({ name: _, ...definition }: Definition): object {
  const urls = [
    ...(['authorization_url', 'token_url', 'refresh_url', 'request_url'] as const),
    ...(['introspection_url', 'revocation_url'] as const),
  ]
  return {
    ...definition,
    ...Object.fromEntries(
      urls.flatMap(url => (typeof definition[url] === 'string' ? [[url, moved(definition[url] as string)]] : [])),
    ),
    ...(definition.proxy && { proxy: { ...definition.proxy, base_url: moved(definition.proxy.base_url ?? '') } }),
    allowed_hosts: ['127.0.0.1'],
  }
}

/** What somebody fills in: the definition's own examples. */
const filledIn = (fields: Record<string, FormField>) =>
  Object.fromEntries(
    Object.entries(fields).flatMap(([name, field]): [string, string][] => {
      if (field.automated) return []
      if (/private_key$/.test(name)) return name === 'private_key' ? [[name, key.toString()]] : []
      if (name === 'client_certificate') return []
      return [[name, field.example ?? field.default_value ?? (name === 'password' && !field.secret ? '' : secret)]]
    }),
  )

/** A token response, where the definition reads its members; and all the facts it reads from one. */
function tokenAnswer({ auth_mode, token_response: said, token_response_metadata: facts = [] }: Definition): object {
  if (auth_mode === 'OAUTH1')
    return { oauth_token: `token-${++issued}`, oauth_token_secret: 's', oauth_callback_confirmed: 'true' }
  const answer: Record<string, unknown> = {
    access_token: `token-${++issued}`,
    refresh_token: `refresh-${issued}`,
    expires_in: 3600,
  }
  for (const path of [...facts, said?.token ?? ''].filter(path => path && !(path in answer))) {
    const names = path.split('.')
    let here = answer
    for (const name of names.slice(0, -1)) {
      here[name] ??= {}
      here = here[name] as Record<string, unknown>
    }
    here[names.at(-1)!] = /domain|url/.test(path) ? mock.url : path === 'host' ? '127.0.0.1' : 'a-fact'
  }
  return answer
}

/** The provider being played. */
let playing: Definition

before(async () => {
  mock = await startProvider(scope)
  mock.api = (res, asked) => {
    const path = asked.url.split('?')[0]!.replace(/\/$/, '')
    const isToken = /token|bearer|refresh|oauth\.v2\.access/i.test(path.split('/').at(-1)!) && asked.method === 'POST'
    sendJson(200, isToken ? tokenAnswer(playing) : {})(res, asked)
  }
  const definitions = Object.fromEntries(builtIn.map(provider => [provider.name, atMock(provider)]))
  fairlead = await startFairlead(scope, { providers: dump(definitions) })
})

/** Of the account, as somebody would give them. */
const factsFor = ({ connection_config }: Definition) => {
  const { instance_url: _, ...asked } = connection_config ?? {}
  const given = filledIn(Object.fromEntries(Object.entries(asked).filter(([, field]) => !field.automated)))
  return Object.entries(given)
    .map(([name, value]) => `&params[${name}]=${encodeURIComponent(value)}`)
    .join('')
}

async function connect(provider: Definition): Promise<string> {
  const query = factsFor(provider)
  if (provider.auth_mode === 'OAUTH2') {
    const begun = await begin(fairlead, provider.name, { query })
    assert.ok(begun.authorize.href.startsWith(mock.url))
    const answer = await begun.browser.open(callbackOf(begun, 'the-code').href)
    assert.equal(answer.status, 200, answer.text)
    const listed = await fairlead.call('GET', `/connections?integrationId=${provider.name}`)
    return listed.json.connections[0].connection_id
  }
  if (provider.auth_mode === 'OAUTH1') {
    const browser = new Browser()
    const begun = await browser.open(startUrl(fairlead, provider.name, await openSession(fairlead), query))
    const authorize = new URL(begun.location ?? '')
    assert.ok(authorize.href.startsWith(mock.url))
    const asked = mock.otherRequests.at(-1)!.headers.authorization ?? ''
    const back = new URL(decodeURIComponent(/oauth_callback="([^"]+)"/.exec(asked)?.[1] ?? ''))
    back.searchParams.set('oauth_token', authorize.searchParams.get('oauth_token') ?? '')
    back.searchParams.set('oauth_verifier', 'the-verifier')
    const answer = await browser.open(back.href)
    assert.equal(answer.status, 200, answer.text)
    const listed = await fairlead.call('GET', `/connections?integrationId=${provider.name}`)
    return listed.json.connections[0].connection_id
  }
  const kind = kindOf(provider)!
  const body = filledIn(formOf(kind, provider))
  const url = `${fairlead.url}${paths[provider.auth_mode]}/${provider.name}?connect_session_token=${await openSession(fairlead)}`
  const answer = await request(`${url}${query}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    ...(provider.auth_mode !== 'NONE' && { body: JSON.stringify(body) }),
  })
  assert.equal(answer.status, 200, answer.text)
  return answer.json.connectionId
}

/** Whatever this kind presents, as the provider would look for it. */
function presents(provider: Definition, { headers, url }: Asked): string {
  const { authorization } = headers
  switch (provider.auth_mode) {
    case 'NONE':
      return authorization === undefined ? 'nothing' : ''
    case 'BASIC':
      return /^Basic (.+)$/.exec(authorization ?? '')?.[1] ?? ''
    case 'API_KEY':
      return Object.values({ ...headers, url }).find(value =>
        String(value).includes(provider.credentials!.apiKey!.example ?? secret),
      )
        ? 'the key'
        : ''
    case 'JWT':
      return /^(?:Bearer|Ghost) ([\w-]+\.[\w-]+\.[\w-]+)$/.exec(authorization ?? '')?.[1] ?? ''
    case 'OAUTH1':
      return /^OAuth .*oauth_token="(token-\d+)"/.exec(authorization ?? '')?.[1] ?? ''
    default:
      return /^(?:Bearer|Zoho-oauthtoken) (token-\d+)$/.exec(authorization ?? '')?.[1] ?? ''
  }
}

for (const provider of builtIn.filter(({ name }) => !name.startsWith('salesforce')))
  test(`${provider.name}: connected, called, renewed`, async () => {
    playing = provider
    const needsClient = /^OAUTH[12]$/.test(provider.auth_mode)
    const made = await fairlead.call('POST', '/integrations', {
      provider: provider.name,
      unique_key: provider.name,
      ...(needsClient && {
        credentials: { type: provider.auth_mode, client_id: clientId, client_secret: clientSecret },
      }),
    })
    assert.equal(made.status, 200, made.text)
    const id = await connect(provider)

    const call = async () => {
      const answer = await fairlead.call('GET', '/proxy/some/path?q=1', undefined, {
        'Provider-Config-Key': provider.name,
        'Connection-Id': id,
      })
      assert.equal(answer.status, 200, answer.text)
      const arrived = mock.otherRequests.at(-1)!
      assert.ok(arrived.url.includes('/some/path?q=1'), arrived.url)
      assert.ok(!JSON.stringify(arrived.headers).includes(fairlead.key))
      return presents(provider, arrived)
    }
    const first = await call()
    assert.notEqual(first, '', 'the credential arrived')

    const isRenewed = kindOf(provider)!.renewsFrom !== undefined
    const forced = await fairlead.call(
      'GET',
      `/connections/${id}?provider_config_key=${provider.name}&force_refresh=true`,
    )
    assert.equal(forced.status, 200, forced.text)
    assert.equal(forced.json.credentials.type, provider.auth_mode)
    if (isRenewed && tokenUrlOf(provider)) assert.notEqual(await call(), first, 'a new token')
    else if (!isRenewed) assert.equal(await call(), first)
  })
