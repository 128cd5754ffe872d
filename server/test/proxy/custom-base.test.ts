/** The base URL a developer names for an integration (`custom.baseUrl`): calls go there and nowhere else, and only where provider data asks for it. */
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sendJson, startProvider } from '../connect/support/provider.ts'
import { scope } from '../connect/support/scope.ts'
import { startFairlead } from '../support/fairlead.ts'

const [theirs, own] = [await startProvider(scope), await startProvider(scope)]
const definition = (name: string, more = '') => `${name}:
  display_name: ${name}
  auth_mode: API_KEY
  credentials: { apiKey: { title: Key } }
  proxy:
    base_url: '${theirs.url}/cloud'
    headers: { x-api-key: '\${apiKey}' }
    verification: { method: GET, endpoints: [/me], base_url_override: '${theirs.url}/check' }
  allowed_hosts: [127.0.0.1]
${more}`
const { call } = await startFairlead(scope, {
  providers:
    definition('hosted', '  integration_config: { site: { title: Site, optional: true } }\n') + definition('plain'),
})
const credentials = { type: 'API_KEY', apiKey: 'the-key' }

async function arrivesAt(id: string, path = '/things?a=1'): Promise<[string, string | undefined]> {
  const before = [theirs.otherRequests.length, own.otherRequests.length]
  const answer = await call('GET', `/proxy${path}`, undefined, { 'Provider-Config-Key': 'hosted', 'Connection-Id': id })
  assert.equal(answer.status, 200, answer.text)
  const [there, here] = [theirs.otherRequests.slice(before[0]), own.otherRequests.slice(before[1])]
  assert.equal(there.length + here.length, 1)
  const [arrived] = [...there, ...here]
  assert.equal(arrived!.headers['x-api-key'], 'the-key')
  return [here.length > 0 ? 'own' : 'theirs', arrived!.url]
}

test('calls go below the integration’s own base URL from the moment it is named, until it is taken away', async () => {
  await call('POST', '/integrations', { provider: 'hosted', unique_key: 'hosted' })
  const made = await call('POST', '/connections', { provider_config_key: 'hosted', connection_id: 'ada', credentials })
  assert.equal(made.status, 201, made.text)
  assert.deepEqual(await arrivesAt('ada'), ['theirs', '/cloud/things?a=1'])
  const name = (baseUrl: string) => call('PATCH', '/integrations/hosted', { custom: { baseUrl } })
  assert.equal((await name(`${own.url}/on/premises/`)).status, 200)
  assert.deepEqual(await arrivesAt('ada'), ['own', '/on/premises/things?a=1'])
  assert.deepEqual(await arrivesAt('ada', `/${own.url}/on/premises/things`), ['own', '/on/premises/things'])
  const absolute = await call('GET', `/proxy/${theirs.url}/cloud/things`, undefined, {
    'Provider-Config-Key': 'hosted',
    'Connection-Id': 'ada',
  })
  assert.equal(absolute.headers.get('fairlead-error'), 'proxy_path_absolute', 'not back to the provider’s')
  assert.equal((await name('')).status, 200)
  assert.deepEqual(await arrivesAt('ada'), ['theirs', '/cloud/things?a=1'])
})

test('what somebody gives is tried where its calls will go, and shown to nobody else', async () => {
  const give = (id: string) =>
    call('POST', '/connections', { provider_config_key: 'hosted', connection_id: id, credentials })
  const asked = () => [theirs, own].map(({ otherRequests }) => otherRequests.map(({ url }) => url))
  await call('PATCH', '/integrations/hosted', { custom: { baseUrl: `${own.url}/on/premises` } })
  const [before] = asked()
  assert.equal((await give('grace')).status, 201)
  const [there, here] = asked()
  assert.deepEqual(there, before)
  assert.equal(here!.at(-1), '/on/premises/me')

  own.api = sendJson(401, {})
  const refused = await give('lin')
  assert.deepEqual([refused.status, refused.json.error.code], [400, 'connection_test_failed'])
  assert.equal((await call('GET', '/connections/lin?provider_config_key=hosted')).status, 404)
  assert.deepEqual(asked()[0], before)
})

const refused: [name: string, key: string, baseUrl: string][] = [
  ['a provider without integration_config', 'plain', own.url],
  ['a user in it', 'hosted', own.url.replace('://', '://user@')],
  ['a query', 'hosted', `${own.url}/?a=1`],
  ['another scheme', 'hosted', 'ftp://example.com'],
  ['what the egress policy forbids', 'hosted', 'http://169.254.169.254/'],
  ['no URL', 'hosted', 'example.com'],
]
test('what cannot be a base URL is refused, and nothing of the integration changes', async () => {
  await call('POST', '/integrations', { provider: 'plain', unique_key: 'plain' })
  for (const [name, key, baseUrl] of refused) {
    const answer = await call('PATCH', `/integrations/${key}`, { display_name: name, custom: { baseUrl } })
    assert.deepEqual([answer.status, answer.json?.error.code], [400, 'invalid_body'], name)
    assert.notEqual((await call('GET', `/integrations/${key}`)).json.data.display_name, name)
  }
})
