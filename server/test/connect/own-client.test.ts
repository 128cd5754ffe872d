/**
 * A connection with an OAuth client of its own (wire contract §8, `oauth_client_id_override`): authorised, exchanged and renewed with that one
 * and no other, shown as `config_override`, and its secret nowhere in the clear.
 */
// First, so that its hook runs before the database's.
import './support/scope.ts'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { startFairlead } from '../support/fairlead.ts'
import { addIntegration, begin, callbackOf, clientId, openSession } from './support/journey.ts'
import { overlay, sendJson, startProvider, tokens } from './support/provider.ts'
import { scope } from './support/scope.ts'

const own = { id: 'client-of-the-account', secret: 'secret of the account & more' }
const provider = await startProvider(scope)
provider.answer = (res, asked) => sendJson(200, tokens(provider))(res, asked)
const fairlead = await startFairlead(scope, { providers: overlay('mock', `${provider.url}/token`) })
const { db, close } = await openDb({ url: fairlead.databaseUrl })
scope.after(close)
await addIntegration(fairlead, 'mock')

const query = `&credentials[oauth_client_id_override]=${own.id}&credentials[oauth_client_secret_override]=${encodeURIComponent(own.secret)}`
const defaults = (integrations_config_defaults: object) => ({ end_user: { id: 'ada' }, integrations_config_defaults })
const presented = () => {
  const { form } = provider.tokenRequests.at(-1)!
  return [form.get('client_id'), form.get('client_secret')]
}

test('authorised, exchanged and renewed with its own client', async () => {
  const token = await openSession(
    fairlead,
    defaults({
      mock: {
        user_scopes: 'chat:write,users:read',
        connection_config: { oauth_client_id_override: '', oauth_client_secret_override: '' },
      },
    }),
  )
  const begun = await begin(fairlead, 'mock', { token, query })
  assert.equal(begun.authorize.searchParams.get('client_id'), own.id)
  assert.equal(begun.authorize.searchParams.get('user_scope'), 'chat:write,users:read')
  assert.doesNotMatch(begun.authorize.href, /secret/)
  const [row] = await db.query<{ text: string }>(sql`select to_jsonb(h)::text as text from handshake h`)
  assert.ok(!row!.text.includes(own.secret) && !row!.text.includes(Buffer.from(own.secret).toString('hex')))

  const ended = await begun.browser.open(callbackOf(begun, 'the-code').href)
  assert.equal(ended.status, 200, ended.text)
  assert.deepEqual(presented(), [own.id, own.secret])
  const [{ connection_id: id }] = (await fairlead.call('GET', '/connections')).json.connections
  const read = (await fairlead.call('GET', `/connections/${id}?provider_config_key=mock&force_refresh=true`)).json
  assert.deepEqual(presented(), [own.id, own.secret])
  assert.deepEqual(read.credentials.config_override, { client_id: own.id, client_secret: own.secret })
  for (const name of Object.keys(read.connection_config)) assert.doesNotMatch(name, /override/)
  assert.ok(!fairlead.log().includes(own.secret))
  const plain = await db.query<{ text: string }>(
    sql`select to_jsonb(c)::text as text from credential c union all select to_jsonb(s)::text from connect_session s`,
  )
  for (const { text } of plain) assert.ok(!text.includes(own.secret))

  // The next one without it is the integration's again.
  const other = await begin(fairlead, 'mock')
  assert.equal(other.authorize.searchParams.get('client_id'), clientId)
})

test('a refresh token of its own takes the place of the one that comes, and is what the next renewal presents', async () => {
  const brought = 'brought-along & kept'
  const token = await openSession(fairlead, {
    ...defaults({ mock: { connection_config: { oauth_refresh_token_override: '' } } }),
    end_user: { id: 'grace' },
  })
  const begun = await begin(fairlead, 'mock', {
    token,
    query: `&credentials[oauth_refresh_token_override]=${encodeURIComponent(brought)}`,
  })
  const [row] = await db.query<{ text: string }>(sql`select to_jsonb(h)::text as text from handshake h`)
  assert.ok(!row!.text.includes(brought) && !begun.authorize.href.includes('brought'))
  const before = provider.tokenRequests.length
  assert.equal((await begun.browser.open(callbackOf(begun, 'the-code').href)).status, 200)
  assert.equal(provider.tokenRequests.length, before + 1)
  const [{ connection_id: id }] = (await fairlead.call('GET', '/connections?endUserId=grace')).json.connections
  const of = `/connections/${id}?provider_config_key=mock`
  const { connection_config } = (await fairlead.call('GET', of)).json
  assert.equal(connection_config.overrideTokenRefresh, true)
  assert.equal(connection_config.oauth_refresh_token_override, undefined)

  assert.equal((await fairlead.call('GET', `${of}&force_refresh=true`)).status, 200)
  assert.equal(provider.tokenRequests[before + 1]!.form.get('refresh_token'), brought)
  const asked = provider.otherRequests.filter(({ form }) => form.get('token') === brought)
  assert.ok(asked.length > 0, 'somebody else may have used it: asked about before it is presented')
  const came = `5Aep861-REFRESH-token-of-the-mock-${before + 1}`
  assert.ok(
    !provider.tokenRequests.some(({ form }) => form.get('refresh_token') === came),
    'the one that came is not used',
  )
  assert.ok(!fairlead.log().includes(brought))
})

test('half a client is refused, and so is a secret in a session or among the facts of an account', async () => {
  const token = await openSession(fairlead)
  const start = (more: string) => fairlead.call('GET', `/oauth/connect/mock?connect_session_token=${token}${more}`)
  for (const more of [
    '&credentials[oauth_client_id_override]=x',
    '&credentials[oauth_client_secret_override]=x',
    `${query}&credentials[access_token]=x`,
    `&credentials[oauth_refresh_token_override]=${'y'.repeat(16_385)}`,
    `&credentials[oauth_client_id_override]=x&credentials[oauth_client_secret_override]=${'y'.repeat(1025)}`,
  ]) {
    const answer = await start(more)
    assert.deepEqual([answer.status, answer.json?.error.code], [400, 'invalid_query_params'], more)
  }
  for (const name of ['oauth_client_secret_override', 'oauth_refresh_token_override']) {
    const body = defaults({ mock: { connection_config: { oauth_client_id_override: 'x', [name]: own.secret } } })
    const refused = await fairlead.call('POST', '/connect/sessions', body)
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_body'])
    assert.deepEqual(refused.json.error.errors[0].path, [
      ...['integrations_config_defaults', 'mock', 'connection_config', name],
    ])
  }
  const begun = await begin(fairlead, 'mock', { query: '&params[oauth_client_secret_override]=a-fact' })
  const rows = await db.query<{ config: object }>(sql`select config from handshake`)
  assert.ok(rows.length > 0 && begun.state)
  for (const { config } of rows) assert.ok(!JSON.stringify(config).includes('a-fact'))
})
