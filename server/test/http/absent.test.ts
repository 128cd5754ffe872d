import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startFairlead } from '../support/fairlead.ts'

const kinds = ['APP', 'CUSTOM', 'TBA', 'BILL', 'SIGNATURE', 'AWS_SIGV4', 'INSTALL_PLUGIN', 'MCP_OAUTH2']
const definitions = [
  ...kinds.map(
    kind => `kind-${kind}: { display_name: ${kind}, auth_mode: ${kind}, proxy: { base_url: 'https://api.example' } }`,
  ),
  "signing: { display_name: S, auth_mode: API_KEY, proxy: { base_url: 'https://api.example', headers: { a: '${awsSigV4(a,b,c,d)}' } } }",
  "printed: { display_name: P, auth_mode: API_KEY, proxy: { base_url: 'https://api.example', headers: { a: '${fingerprint(a)}' } } }",
].join('\n')

test('a provider of a kind that is not here is shown, and refused before anything is stored', async t => {
  const { call } = await startFairlead(t, { providers: definitions })
  const names = [...kinds.map(kind => `kind-${kind}`), 'signing', 'printed']
  for (const name of names) {
    const { unsupported } = (await call('GET', `/providers/${name}`)).json.data
    assert.ok(unsupported.length > 0, name)
    const credentials = { type: 'OAUTH2', client_id: 'a', client_secret: 'b' }
    for (const more of [{}, { credentials }]) {
      const refused = await call('POST', '/integrations', { provider: name, unique_key: name, ...more })
      assert.deepEqual([refused.status, refused.json.error.code], [400, 'provider_unsupported'], name)
      assert.deepEqual(refused.json.error.payload, { unsupported })
      assert.ok(refused.json.error.message.includes(unsupported[0]), refused.json.error.message)
    }
    const imported = await call('POST', '/connections', { provider_config_key: name, credentials: { type: 'NONE' } })
    assert.equal(imported.status, 404, imported.text)
  }
  assert.deepEqual((await call('GET', '/integrations')).json.data, [])
  // Where their credentials and their ways back would go.
  for (const [method, path] of [
    ['POST', '/auth/tba/kind-TBA'],
    ['POST', '/auth/bill/kind-BILL'],
    ['POST', '/auth/signature/kind-SIGNATURE'],
    ['POST', '/auth/aws-sigv4/kind-AWS_SIGV4'],
    ['GET', '/app-auth/connect?installation_id=1&state=x'],
  ] as const) {
    const answer = await call(method, path, method === 'POST' ? {} : undefined)
    assert.deepEqual([answer.status, answer.json.error.code], [501, 'not_implemented'], path)
  }
})

test('what the wire contract has and this server has not is said in the envelope, as JSON', async t => {
  const { call } = await startFairlead(t)
  for (const [method, path] of [
    ['GET', '/records?model=Account'],
    ['GET', '/records/?model=Account'],
    ['PATCH', '/records/prune'],
    ['POST', '/sync/trigger'],
    ['GET', '/sync/status?syncs=*'],
    ['PUT', '/sync/update-connection-frequency'],
    ['DELETE', '/sync/contacts/variant/eu'],
    ['POST', '/action/trigger'],
    ['GET', '/action/17'],
    ['GET', '/scripts/config?format=openai'],
    ['GET', '/environment-variables'],
    ['GET', '/integrations/sf/functions'],
    ['GET', '/integrations/sf/functions/one/code'],
    ['POST', '/integrations/quickstart'],
    ['GET', '/providers/salesforce/templates'],
    ['POST', '/mcp'],
    ['GET', '/v1/anything/at/all'],
  ] as const) {
    const answer = await call(method, path, method === 'GET' || method === 'DELETE' ? undefined : {})
    assert.equal(answer.status, 501, `${method} ${path}: ${answer.text}`)
    assert.deepEqual(Object.keys(answer.json.error), ['code', 'message'])
    assert.equal(answer.json.error.code, 'not_implemented')
    assert.equal(answer.headers.get('fairlead-error'), 'not_implemented')
  }
  // Neighbours that are here, or nowhere.
  assert.equal((await call('GET', '/integrations/sf')).status, 404)
  assert.equal((await call('GET', '/record')).status, 404)
  assert.equal((await call('GET', '/actions/trigger')).status, 404)
})
