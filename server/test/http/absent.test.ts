import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startFairlead } from '../support/fairlead.ts'

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
