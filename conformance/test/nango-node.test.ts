/**
 * `@nangohq/node`, unmodified, told nothing but another host: from an integration to a connection and its end, against the simulator.
 * The tests stand in the order of a connection's life and each goes on where the one before it left off.
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { Nango } from '@nangohq/node'
import { sandboxOverlay } from '../../demo/overlay.ts'
import { type Provider, sendJson, startProvider } from '../../server/test/connect/support/provider.ts'
import { until } from '../../server/test/db/until.ts'
import { Browser, type Fairlead, startFairlead } from '../../server/test/support/fairlead.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'
import { type ReceiverServer, startReceiver } from '../../server/test/webhook/support/receiver.ts'

const key = 'salesforce-sandbox'
const utc = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$/
const accounts = '/services/data/v66.0/sobjects/Account'

/** What the SDK throws is axios' error; the rest is ours. */
interface Refused {
  response: { status: number; headers: Record<string, string>; data: { error: { code: string; message: string } } }
}
const refusedWith = (status: number, code: string) => (thrown: unknown) => {
  const { response } = thrown as Refused
  assert.deepEqual([response?.status, response?.data?.error?.code], [status, code], String(thrown))
  assert.equal(typeof response.data.error.message, 'string')
  return true
}

describe('@nangohq/node', () => {
  let simulator: Simulator
  let fairlead: Fairlead
  let receiver: ReceiverServer
  /** An API that answers as a test says. */
  let plain: Provider
  let nango: Nango
  let id: string
  let accessToken: string
  /** The last answer's status, as the SDK itself hides it. */
  let status: number
  const ends = lastFirst({ after })

  before(async () => {
    simulator = await startSimulator({ autoApprove: true, rotation: true })
    ends.after(() => simulator.close())
    receiver = await startReceiver(ends)
    plain = await startProvider(ends)
    const providers = `${sandboxOverlay(simulator.base('test'), ['127.0.0.1'])}plain:
  display_name: Plain
  auth_mode: API_KEY
  credentials: { apiKey: { title: Key } }
  proxy: { base_url: '${plain.url}/v1', headers: { x-key: '\${apiKey}' } }
`
    fairlead = await startFairlead(ends, { providers })
    const settings = await fairlead.call('PATCH', '/environment/settings', { webhook_url: receiver.url })
    assert.equal(settings.status, 200, settings.text)
    const onFulfilled = <Answer extends { status: number }>(answer: Answer) => {
      status = answer.status
      return answer
    }
    nango = new Nango(
      { host: fairlead.url, secretKey: fairlead.key, webhookSigningKey: settings.json.webhook_signing_key },
      { interceptors: { response: { onFulfilled } } },
    )
  })

  const signIn = async (token: string) => {
    const page = await new Browser().follow(`${fairlead.app.url}/oauth/connect/${key}?connect_session_token=${token}`)
    assert.equal(page.status, 200, page.text)
  }
  const authEvent = async (operation: string) => {
    const found = () => receiver.taken.find(({ json }) => json.type === 'auth' && json.operation === operation)
    await until(() => found() !== undefined)
    return found()!
  }
  const refreshes = () => simulator.control.counters().grants.refresh_token ?? 0

  it('finds providers', async () => {
    const { data } = await nango.getProvider({ provider: key })
    assert.deepEqual([data.name, data.auth_mode], [key, 'OAUTH2'])
    const found = await nango.listProviders({ search: 'salesforce' })
    assert.ok(found.data.some(provider => provider.name === key))
  })

  it('creates an integration, reads it, changes it and lists it', async () => {
    const { clientId, clientSecret } = simulator.app('acme--uat')
    simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
    const credentials = { type: 'OAUTH2' as const, client_id: clientId, client_secret: clientSecret }
    const { data } = await nango.createIntegration({ provider: key, unique_key: key, credentials })
    assert.deepEqual([status, data.unique_key, data.provider], [200, key, key])
    const read = await nango.getIntegration({ uniqueKey: key })
    assert.ok(!JSON.stringify(read).includes(clientSecret))
    const shown = await nango.getIntegration({ uniqueKey: key }, { include: ['credentials'] })
    assert.equal(shown.data.credentials?.type === 'OAUTH2' && shown.data.credentials.client_id, clientId)
    const changed = await nango.updateIntegration({ uniqueKey: key }, { display_name: 'Sandbox' })
    assert.equal(changed.data.display_name, 'Sandbox')
    const { configs } = await nango.listIntegrations()
    assert.deepEqual(
      configs.map(config => config.unique_key),
      [key],
    )
  })

  it('opens a session, and finds who signed in', async () => {
    const { data } = await nango.createConnectSession({
      end_user: { id: 'ada', email: 'ada@acme.com' },
      organization: { id: 'acme' },
      allowed_integrations: [key],
    })
    assert.equal(status, 201)
    assert.match(data.token, /^nango_connect_session_[0-9a-f]{64}$/)
    await signIn(data.token)
    const { connections } = await nango.listConnections({ userId: 'ada' })
    const [connection, ...more] = connections
    assert.ok(connection && more.length === 0)
    assert.deepEqual([connection.provider_config_key, connection.provider, connection.errors], [key, key, []])
    assert.deepEqual([connection.end_user?.id, connection.end_user?.organization?.id], ['ada', 'acme'])
    id = connection.connection_id
    assert.equal((await nango.listConnections(id)).connections.length, 1)
    assert.equal((await nango.listConnections({ tags: { email: 'ada@acme.com' } })).connections.length, 1)
    assert.equal((await nango.listConnections({ tags: { email: 'eve@acme.com' } })).connections.length, 0)
  })

  it('verifies the webhook of it, by both signatures', async () => {
    const { body, headers, json } = await authEvent('creation')
    assert.deepEqual([json.from, json.connectionId, json.success], ['nango', id, true])
    assert.equal(nango.verifyIncomingWebhookRequest(body, headers), true)
    assert.equal(nango.verifyWebhookSignature(String(headers['x-nango-signature']), JSON.parse(body)), true)
    assert.equal(nango.verifyIncomingWebhookRequest(body.replace('"success":true', '"success":false'), headers), false)
  })

  it('gets the connection, with the refresh token only when asked', async () => {
    const plain = await nango.getConnection(key, id)
    assert.equal(status, 200)
    for (const time of [plain.created_at, plain.updated_at, plain.last_fetched_at]) assert.match(String(time), utc)
    assert.equal(plain.connection_config.instance_url, simulator.base('acme--uat'))
    // As a name: the scopes granted have one called so, too.
    assert.ok(!/"refresh_?token":/i.test(JSON.stringify(plain)))
    assert.ok(plain.credentials.type === 'OAUTH2')
    accessToken = plain.credentials.access_token
    const whole = await nango.getConnection(key, id, false, true)
    assert.ok(whole.credentials.type === 'OAUTH2' && whole.credentials.refresh_token)
    assert.ok(!JSON.stringify(plain).includes(whole.credentials.refresh_token))
    assert.equal(whole.credentials.access_token, accessToken)
  })

  it('gets the token, and another when it forces a refresh', async () => {
    assert.equal(await nango.getToken(key, id), accessToken)
    const before = refreshes()
    const { credentials } = await nango.getConnection(key, id, true)
    assert.ok(credentials.type === 'OAUTH2' && credentials.access_token !== accessToken)
    assert.equal(refreshes(), before + 1)
    assert.equal(await nango.getToken(key, id), credentials.access_token)
    const raw = await nango.getRawTokenResponse<{ instance_url: string; refresh_token?: string }>(key, id)
    assert.deepEqual([raw.instance_url, raw.refresh_token], [simulator.base('acme--uat'), undefined])
  })

  it('sets metadata, merges into it, and patches the connection', async () => {
    const set = await nango.setMetadata(key, id, { plan: 'gold', seats: 3 })
    assert.equal(set.status, 201)
    const merged = await nango.updateMetadata(key, [id], { seats: 4 })
    assert.equal(merged.status, 200)
    assert.deepEqual(await nango.getMetadata(key, id), { plan: 'gold', seats: 4 })
    const patched = await nango.patchConnection({ connectionId: id, provider_config_key: key }, { tags: { Team: 'a' } })
    assert.deepEqual(patched, { success: true })
    assert.deepEqual((await nango.getConnection(key, id)).tags, { team: 'a' })
    await assert.rejects(nango.setMetadata(key, [id, 'nobody'], {}), refusedWith(404, 'unknown_connection'))
    assert.deepEqual(await nango.getMetadata(key, id), { plan: 'gold', seats: 4 })
  })

  it('calls the API through the proxy, also when the token has ended', async () => {
    const to = { providerConfigKey: key, connectionId: id }
    const made = await nango.post({ ...to, endpoint: accounts, data: { Name: 'Fähr & Söhne' } })
    assert.deepEqual([made.status, made.data.success], [201, true])
    simulator.control.expireAccessTokens()
    const before = refreshes()
    const query = { q: "SELECT Name FROM Account WHERE Name = 'Fähr & Söhne'" }
    const found = await nango.get({ ...to, endpoint: '/services/data/v66.0/query', params: query })
    assert.deepEqual([found.data.totalSize, found.data.records[0].Name], [1, 'Fähr & Söhne'])
    assert.equal(refreshes(), before + 1)
    const one = { ...to, endpoint: `${accounts}/${made.data.id}` }
    assert.equal((await nango.patch({ ...one, data: { Industry: 'Shipping' } })).status, 204)
    assert.equal((await nango.proxy({ ...one, method: 'GET' })).data.Industry, 'Shipping')
    assert.equal((await nango.delete(one)).status, 204)
    await assert.rejects(nango.get(one), thrown => {
      const { response } = thrown as { response: { status: number; data: { errorCode: string }[] } }
      assert.equal(response.status, 404)
      assert.match(response.data[0]?.errorCode ?? '', /NOT_FOUND|ENTITY_IS_DELETED/)
      return true
    })
  })

  it('passes bodies of every kind through the proxy as they are, and tries again when told to', async () => {
    await nango.createIntegration({ provider: 'plain', unique_key: 'plain' })
    const credentials = { type: 'API_KEY', apiKey: 'the-key' }
    const body = { provider_config_key: 'plain', connection_id: 'plain', credentials }
    assert.equal((await fairlead.call('POST', '/connections', body)).status, 201)
    const to = { providerConfigKey: 'plain', connectionId: 'plain', endpoint: '/things' }
    const last = () => plain.otherRequests.at(-1)!

    plain.api = sendJson(200, { made: true })
    const json = await nango.post({
      ...to,
      data: { b: 1, a: [1.0, 'ü'] },
      params: { q: 'a b' },
      headers: { 'X-Own': 'mine' },
    })
    assert.deepEqual([json.status, json.data, last().body], [200, { made: true }, '{"b":1,"a":[1,"ü"]}'])
    assert.match(last().url, /^\/v1\/things\?q=a(?:\+|%20)b$/)
    assert.deepEqual([last().headers['x-own'], last().headers['x-key']], ['mine', 'the-key'])
    assert.equal(last().headers.authorization, undefined)

    const form = new FormData()
    form.set('file', new Blob(['bytes of a file']), 'a.txt')
    await nango.post({ ...to, data: form as unknown as string })
    assert.match(last().headers['content-type'] ?? '', /^multipart\/form-data; ?boundary=/)
    assert.match(last().body, /filename="a.txt"[\s\S]*bytes of a file/)

    plain.api = res => void res.writeHead(204).end()
    const none = await nango.delete(to)
    assert.deepEqual([none.status, none.data], [204, ''])

    const packed = gzipSync('{"packed":true}')
    plain.api = res =>
      void res.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }).end(packed)
    for (const decompress of [false, true]) {
      const answer = await nango.get({ ...to, decompress })
      assert.deepEqual(answer.data, { packed: true }, `decompress: ${decompress}`)
    }
    const raw = (headers: Record<string, string>) =>
      fetch(`${fairlead.url}/proxy/things`, {
        headers: {
          Authorization: `Bearer ${fairlead.key}`,
          'Provider-Config-Key': 'plain',
          'Connection-Id': 'plain',
          'NANGO-PROXY-X-Upper': 'up',
          'nango-proxy-x-lower': 'low',
          'Base-Url-Override': '',
          ...headers,
        },
      })
    assert.equal((await raw({})).headers.get('content-encoding'), 'gzip')
    assert.deepEqual([last().headers['x-upper'], last().headers['x-lower']], ['up', 'low'])
    assert.equal((await raw({ Decompress: 'true' })).headers.get('content-encoding'), null)

    const large = randomBytes(20 * 1024 * 1024)
    plain.api = res => {
      res.writeHead(200, { 'content-type': 'application/octet-stream' })
      for (let at = 0; at < large.length; at += 65_536) res.write(large.subarray(at, at + 65_536))
      res.end()
    }
    const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
    const whole = await nango.get<Buffer>({ ...to, responseType: 'arraybuffer' })
    assert.equal(hashOf(whole.data), hashOf(large))
    const streamed = await nango.get<Readable>({ ...to, responseType: 'stream' })
    assert.equal(hashOf(Buffer.concat(await streamed.data.toArray())), hashOf(large))

    for (const status of [400, 404, 422, 500, 503]) {
      const said = { why: `it is ${status}`, n: [1, 2] }
      plain.api = sendJson(status, said)
      await assert.rejects(nango.get(to), thrown => {
        const { response } = thrown as { response: { status: number; data: unknown; headers: Record<string, string> } }
        assert.deepEqual([response.status, response.data], [status, said])
        assert.equal(response.headers['fairlead-error'], undefined)
        return true
      })
    }
    let asked = 0
    plain.api = (res, request) => {
      asked++
      if (asked < 3) res.writeHead(503, { 'retry-after': '0' }).end()
      else sendJson(200, { at: asked })(res, request)
    }
    assert.deepEqual((await nango.get({ ...to, retries: 3 })).data, { at: 3 })
    assert.equal(asked, 3)
    await nango.deleteConnection('plain', 'plain')
    await nango.deleteIntegration('plain')
  })

  it('is told of a refresh that was refused, and nothing is sent again for it', async () => {
    const { data } = await nango.createConnectSession({ end_user: { id: 'grace' }, allowed_integrations: [key] })
    await signIn(data.token)
    const { connections } = await nango.listConnections({ userId: 'grace' })
    const graces = connections[0]!.connection_id
    assert.equal(typeof (await nango.getToken(key, graces)), 'string')
    simulator.control.revokeRefreshTokens()
    simulator.control.expireAccessTokens()
    const before = refreshes()
    const refused = refusedWith(400, 'invalid_credentials')
    for (let n = 0; n < 2; n++) await assert.rejects(nango.getConnection(key, graces, true), refused)
    // What is there serves for as long as it lives.
    assert.equal(typeof (await nango.getToken(key, graces)), 'string')
    assert.equal(refreshes(), before + 1)
    // How their users find connections that are over.
    const [broken] = (await nango.listConnections({ userId: 'grace' })).connections
    assert.deepEqual(broken?.errors, [{ type: 'auth', log_id: graces }])
    await nango.deleteConnection(key, graces)
  })

  it('reconnects the same connection', async () => {
    const { data } = await nango.createReconnectSession({ connection_id: id, integration_id: key })
    assert.equal(status, 201)
    await signIn(data.token)
    const { connections } = await nango.listConnections()
    assert.deepEqual(
      connections.map(connection => connection.connection_id),
      [id],
    )
    const { body, headers, json } = await authEvent('override')
    assert.equal(json.connectionId, id)
    assert.equal(nango.verifyIncomingWebhookRequest(body, headers), true)
    assert.deepEqual(await nango.getMetadata(key, id), { plan: 'gold', seats: 4 })
  })

  it('waits for a connection as it does, and finds it', async () => {
    // Its own timer: ten seconds before it looks for the first time.
    const found = await nango.waitForConnection(key, 'ada')
    assert.equal(found.connection_id, id)
  })

  it('asks for two things of an integration and gets the last, as its own client writes it', async () => {
    const { data } = await nango.getIntegration({ uniqueKey: key }, { include: ['credentials', 'webhook'] })
    assert.deepEqual([Object.hasOwn(data, 'webhook_url'), Object.hasOwn(data, 'credentials')], [true, false])
  })

  it('is told in the envelope what is not here', async () => {
    const of = { providerConfigKey: key, connectionId: id }
    const named = { provider_config_key: key, connection_id: id, name: 'contacts', variant: 'eu' }
    const calls: (() => Promise<unknown>)[] = [
      () => nango.listRecords({ ...of, model: 'Account' }),
      () => nango.pruneRecords({ ...of, model: 'Account', until_cursor: 'x' } as never),
      () => nango.triggerSync(key, ['contacts'], id),
      () => nango.startSync(key, ['contacts'], id),
      () => nango.pauseSync(key, ['contacts'], id),
      () => nango.syncStatus(key, '*', id),
      () => nango.updateSyncConnectionFrequency(key, 'contacts', id, 'every hour'),
      () => nango.createSyncVariant(named),
      () => nango.deleteSyncVariant(named),
      () => nango.triggerAction(key, id, 'greet'),
      () => nango.triggerActionAsync(key, id, 'greet'),
      () => nango.getAsyncActionResult({ id: crypto.randomUUID() } as never),
      () => nango.getScriptsConfig(),
      () => nango.getScriptsConfig('openai'),
      () => nango.getEnvironmentVariables(),
      () => nango.getProviderTemplates({ provider: key }),
      () => nango.createQuickstartIntegration({ provider: key } as never),
      () => nango.listFunctions({ uniqueKey: key }),
      () => nango.getFunction({ uniqueKey: key, name: 'greet' } as never),
      () => nango.getFunctionCode({ uniqueKey: key, name: 'greet' } as never),
      () => nango.deleteFunction({ uniqueKey: key, name: 'greet' } as never, { type: 'action' } as never),
    ]
    for (const made of calls) await assert.rejects(made, refusedWith(501, 'not_implemented'), String(made))
  })

  it('is refused a wrong key, a missing connection and an integration nobody made', async () => {
    const stranger = new Nango({ host: `${fairlead.url}/`, secretKey: crypto.randomUUID() })
    await assert.rejects(stranger.listConnections(), refusedWith(401, 'unknown_account'))
    await assert.rejects(nango.getConnection(key, 'nobody'), refusedWith(404, 'not_found'))
    await assert.rejects(nango.getConnection('nothing', id), refusedWith(400, 'unknown_provider_config'))
    await assert.rejects(nango.deleteConnection(key, 'nobody'), refusedWith(400, 'unknown_connection'))
  })

  it('deletes the connection and the integration', async () => {
    const gone = await nango.deleteConnection(key, id)
    assert.deepEqual([gone.status, gone.data], [200, { success: true }])
    await assert.rejects(nango.getConnection(key, id), refusedWith(404, 'not_found'))
    const ended = await nango.deleteIntegration(key)
    assert.equal(ended.status, 200)
    await assert.rejects(nango.getIntegration({ uniqueKey: key }), refusedWith(404, 'not_found'))
    assert.ok(!JSON.stringify(simulator.control.requests()).includes(fairlead.key))
  })
})
