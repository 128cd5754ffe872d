import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openKeyedHash } from '../../src/account/pepper.ts'
import { addConnection } from '../../src/connection/store.ts'
import { addCredential } from '../../src/credential/store.ts'
import { defaultTiming } from '../../src/credential/timing.ts'
import { sql } from '../../src/db/sql.ts'
import { Secret } from '../../src/lib/secret.ts'
import { systemClock } from '../../src/lib/time.ts'
import { testDatabase } from '../support/database.ts'
import { type Answer, request } from '../support/fairlead.ts'
import { newEncryptionKey, vaultOn } from '../support/vault.ts'
import { serverOn } from './support.ts'

test('what belongs to another environment is answered exactly like what does not exist', async t => {
  const database = await testDatabase()
  const encryptionKey = newEncryptionKey()
  const keys = { dev: 'd'.repeat(40), prod: 'p'.repeat(40) }
  const { port } = await serverOn(t, database, {
    FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
    FAIRLEAD_SECRET_KEY_DEV: keys.dev,
    FAIRLEAD_SECRET_KEY_PROD: keys.prod,
  })
  const call = (
    environment: keyof typeof keys,
    method: string,
    path: string,
    body?: object,
    headers = {},
  ): Promise<Answer> =>
    request(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${keys[environment]}`,
        ...(body && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body && { body: JSON.stringify(body) }),
    })
  const integration = (unique_key: string) => ({
    provider: 'salesforce',
    unique_key,
    credentials: { type: 'OAUTH2', client_id: 'id', client_secret: 'canary-secret' },
  })
  assert.equal((await call('prod', 'POST', '/integrations', integration('shared'))).status, 200)
  assert.equal((await call('prod', 'POST', '/integrations', integration('prod-only'))).status, 200)
  assert.equal((await call('dev', 'POST', '/integrations', integration('shared'))).status, 200)

  // A connection of prod, stored as the callback would.
  const { db } = database
  const vault = await vaultOn(db, encryptionKey)
  const deps = { db, vault, keyedHash: await openKeyedHash(db, vault), clock: systemClock, timing: defaultTiming }
  const rows = await db.query<{ id: number; environment_id: number; unique_key: string }>(sql`
    select i.id, i.environment_id, i.unique_key from integration i join environment e on e.id = environment_id where e.name = 'prod'`)
  for (const { id: integrationId, environment_id: environmentId } of rows) {
    const tokens = { accessToken: new Secret('canary-token'), refreshToken: undefined, tokenType: 'Bearer' }
    const { id: credentialId } = await addCredential(deps, {
      environmentId,
      integrationId,
      tokens: { ...tokens, lifeMs: undefined, scopes: undefined, raw: {} },
      config: { instance_url: 'https://acme.my.salesforce.com' },
      scopesRequested: [],
      scopesGranted: [],
      epoch: 'test',
    })
    const named = {
      connectionId: 'theirs',
      endUser: { id: 'ada' },
      organization: null,
      tags: {},
      webhookUrlOverride: null,
    }
    await addConnection(db, { environmentId, integrationId, credentialId, ...named })
  }
  const own = await call('prod', 'GET', '/connections/theirs?provider_config_key=shared')
  assert.equal(own.json.credentials.access_token, 'canary-token')

  const proxied = (key: string, id: string) => ({ 'Provider-Config-Key': key, 'Connection-Id': id })
  /** The same question about something of prod's and about something of nobody's. */
  const pairs: [what: string, theirs: Promise<Answer>, nobodys: Promise<Answer>, status: number][] = [
    ['integration', call('dev', 'GET', '/integrations/prod-only'), call('dev', 'GET', '/integrations/nobodys'), 404],
    [
      'its secret',
      call('dev', 'GET', '/integrations/prod-only?include=credentials'),
      call('dev', 'GET', '/integrations/nobodys?include=credentials'),
      404,
    ],
    [
      'changing it',
      call('dev', 'PATCH', '/integrations/prod-only', { display_name: 'mine' }),
      call('dev', 'PATCH', '/integrations/nobodys', { display_name: 'mine' }),
      404,
    ],
    [
      'deleting it',
      call('dev', 'DELETE', '/integrations/prod-only'),
      call('dev', 'DELETE', '/integrations/nobodys'),
      404,
    ],
    [
      'connection on a key both have',
      call('dev', 'GET', '/connections/theirs?provider_config_key=shared'),
      call('dev', 'GET', '/connections/nobodys?provider_config_key=shared'),
      404,
    ],
    [
      'connection on a key only they have',
      call('dev', 'GET', '/connections/theirs?provider_config_key=prod-only'),
      call('dev', 'GET', '/connections/theirs?provider_config_key=nobodys'),
      400,
    ],
    [
      'deleting a connection',
      call('dev', 'DELETE', '/connections/theirs?provider_config_key=shared'),
      call('dev', 'DELETE', '/connections/nobodys?provider_config_key=shared'),
      400,
    ],
    [
      'a proxied call',
      call('dev', 'GET', '/proxy/x', undefined, proxied('shared', 'theirs')),
      call('dev', 'GET', '/proxy/x', undefined, proxied('shared', 'nobodys')),
      400,
    ],
    [
      'a proxied call on their key',
      call('dev', 'GET', '/proxy/x', undefined, proxied('prod-only', 'theirs')),
      call('dev', 'GET', '/proxy/x', undefined, proxied('nobodys', 'theirs')),
      404,
    ],
  ]
  for (const [what, theirs, nobodys, status] of pairs) {
    const [a, b] = await Promise.all([theirs, nobodys])
    assert.equal(a.status, status, `${what}: ${a.text}`)
    assert.equal(b.status, status, `${what}: ${b.text}`)
    assert.deepEqual(a.json, b.json, what)
    assert.ok(!a.text.includes('canary'), what)
  }
  const sees = async (environment: keyof typeof keys) => [
    (await call(environment, 'GET', '/integrations')).json.data.map((one: { unique_key: string }) => one.unique_key),
    (await call(environment, 'GET', '/connections')).json.connections.length,
    (await call(environment, 'GET', '/connections?endUserId=ada')).json.connections.length,
  ]
  assert.deepEqual(await sees('dev'), [['shared'], 0, 0])
  assert.deepEqual(await sees('prod'), [['shared', 'prod-only'], 2, 2])

  // A session of dev lists and starts nothing of prod's.
  const opened = await call('dev', 'POST', '/connect/sessions', { end_user: { id: 'ada' } })
  const session = { headers: { Authorization: `Bearer ${opened.json.data.token}` } }
  const listed = await request(`http://127.0.0.1:${port}/integrations`, session)
  assert.deepEqual(
    listed.json.data.map((one: { unique_key: string }) => one.unique_key),
    ['shared'],
  )
})
