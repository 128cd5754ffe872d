/**
 * JWT bearer at the simulator, from a key pair to a proxied call: nobody signs in, the assertion is for the org's own log-in, sessions are
 * renewed by signing anew, and each refusal is called by its name.
 */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { loadCatalogue } from '../../src/provider/catalogue.ts'
import { until } from '../db/until.ts'
import { type Answer, type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'

const key = 'salesforce-jwt'
const username = 'ada@acme.com.uat'
const keyPair = () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return {
    certificate: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

describe('the audience comes with the address', () => {
  const catalogue = loadCatalogue({ overlayPath: undefined, egressAllow: parseEgressAllow('').rules })
  const provider = catalogue.get(key)!
  for (const [pasted, hostname, audience] of [
    ['acme', 'acme.my.salesforce.com', 'https://login.salesforce.com'],
    ['https://acme.lightning.force.com/lightning/page/home', 'acme.my.salesforce.com', 'https://login.salesforce.com'],
    ['acme--uat', 'acme--uat.sandbox.my.salesforce.com', 'https://test.salesforce.com'],
    ['acme.scratch.my.salesforce.com', 'acme.scratch.my.salesforce.com', 'https://test.salesforce.com'],
    ['acme-dev-ed.develop.my.salesforce.com', 'acme-dev-ed.develop.my.salesforce.com', 'https://login.salesforce.com'],
    [
      'acme-dev-ed.trailblaze.my.salesforce.com',
      'acme-dev-ed.trailblaze.my.salesforce.com',
      'https://login.salesforce.com',
    ],
    ['login.salesforce.com', 'login.salesforce.com', 'https://login.salesforce.com'],
    ['test.salesforce.com', 'test.salesforce.com', 'https://test.salesforce.com'],
    ['acme.my.salesforce.mil', 'acme.my.salesforce.mil', 'https://acme.my.salesforce.mil'],
    ['test.sfcrmproducts.cn', 'test.sfcrmproducts.cn', 'https://test.sfcrmproducts.cn'],
  ] as const)
    it(`${pasted} is for ${audience}`, () => {
      assert.deepEqual(catalogue.hooks(provider).readFact?.(provider, 'hostname', pasted), {
        facts: { hostname, audience },
      })
    })

  it('and from nowhere else: a foreign host has none', () => {
    const read = catalogue.hooks(provider).readFact?.(provider, 'hostname', 'my.salesforce.com.evil.example')
    assert.ok(read && 'fault' in read)
    assert.equal(
      catalogue.hooks(provider).appProject,
      undefined,
      'the app of this flow has a certificate no project can hold',
    )
  })
})

describe('JWT bearer, end to end', () => {
  let simulator: Simulator
  let fairlead: Fairlead
  let client: { clientId: string; clientSecret: string }
  const pair = keyPair()
  const ends = lastFirst({ after })

  before(async () => {
    simulator = await startSimulator({ autoApprove: true, contacts: 1 })
    ends.after(() => simulator.close())
    fairlead = await startFairlead(ends, {
      providers: `${key}:
  token_url: ${simulator.base('acme--uat')}/services/oauth2/token
  allowed_hosts: ['127.0.0.1']
`,
    })
    client = simulator.app('acme--uat')
    simulator.control.setApp({ clientId: client.clientId, certificate: pair.certificate, adminApproved: true })
    const made = await fairlead.call('POST', '/integrations', {
      ...{ provider: key, unique_key: key },
      integration_config: { client_id: client.clientId, private_key: pair.private_key },
    })
    assert.equal(made.status, 200, made.text)
    assert.deepEqual(made.json.data.preconfigured_credentials.toSorted(), ['client_id', 'private_key'])
    assert.doesNotMatch(made.text, /PRIVATE KEY/)
  })

  async function connect(given: object = {}, host = 'acme--uat', integration = key): Promise<Answer> {
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    const query = `connect_session_token=${session.json.data.token}&params[hostname]=${host}`
    return fairlead.call('POST', `/auth/two-step/${integration}?${query}`, { type: 'TWO_STEP', username, ...given })
  }
  const connections = async () => (await fairlead.call('GET', '/connections')).json.connections
  const read = async (id: string, integration = key) =>
    (await fairlead.call('GET', `/connections/${id}?provider_config_key=${integration}`)).json
  const query = (id: string) =>
    fairlead.call('GET', `/via/${key}/${id}/services/data/v66.0/query?q=SELECT+Name+FROM+Account+LIMIT+1`)

  it('a user name and an address are all a connection takes; it calls the org, and is renewed by signing anew', async () => {
    const made = await connect()
    assert.equal(made.status, 200, made.text)
    const { connectionId: id } = made.json
    const { connection_config: config, scopes, credentials } = await read(id)
    assert.equal(config.hostname, 'acme--uat.sandbox.my.salesforce.com')
    assert.equal(config.audience, 'https://test.salesforce.com')
    assert.equal(config.instance_url, simulator.base('acme--uat'))
    assert.equal(config.organization_kind, 'sandbox')
    assert.match(config.organization_id, /^00D/)
    assert.ok(scopes.granted.includes('api'), String(scopes.granted))
    assert.ok(!('private_key' in credentials), 'the integration’s key is not handed out with a connection')
    assert.equal((await query(id)).status, 200)

    // Salesforce ends the session when it likes: the call is sent again with a new one.
    simulator.control.expireAccessTokens({ org: 'acme--uat' })
    assert.equal((await query(id)).status, 200)
    const renewed = await read(id)
    assert.notEqual(renewed.credentials.token, credentials.token)
    assert.equal(renewed.state.name, 'active')
    const asked = simulator.control.requests().filter(({ path }) => path.endsWith('/oauth2/token'))
    assert.equal(asked.length, 2)

    const answer = await fairlead.call('GET', `/connections/${id}/doctor?provider_config_key=${key}`)
    const troubles = answer.json.findings.filter((one: { severity: string }) => /error|warning/.test(one.severity))
    assert.deepEqual(troubles, [])
    assert.equal((await fairlead.call('DELETE', `/connections/${id}?provider_config_key=${key}`)).status, 200)
  })

  it('with the consumer secret it is known when the session ends', async () => {
    const own = await fairlead.call('POST', '/integrations', { provider: key, unique_key: 'whole' })
    assert.equal(own.status, 200, own.text)
    const made = await connect(
      { client_id: client.clientId, private_key: pair.private_key, client_secret: client.clientSecret },
      'acme--uat',
      'whole',
    )
    assert.equal(made.status, 200, made.text)
    let end: string | undefined
    for (let tries = 0; end === undefined && tries < 200; tries++) {
      end = (await read(made.json.connectionId, 'whole')).credentials.expires_at
      if (end === undefined) await new Promise(resolve => setTimeout(resolve, 50))
    }
    assert.ok(end && Date.parse(end) > Date.now(), String(end))
    await fairlead.call('DELETE', `/connections/${made.json.connectionId}?provider_config_key=whole`)
  })

  const refusals: [name: string, given: object, host: string, arrange: () => void, code: string][] = [
    [
      'a user the app was not given to',
      { username: 'bob@acme.com.uat' },
      'acme--uat',
      () => {
        simulator.control.addUser({ org: 'acme--uat', username: 'bob@acme.com.uat', admin: false })
      },
      'user_not_approved',
    ],
    ['a user nobody knows', { username: 'nobody@acme.com.uat' }, 'acme--uat', () => {}, 'consumer_not_approved'],
    ['the address of production for a sandbox’s user', {}, 'acme', () => {}, 'audience_invalid'],
    [
      'a deactivated user',
      {},
      'acme--uat',
      () => simulator.control.setUser({ username, active: false }),
      'user_inactive',
    ],
    [
      'another certificate',
      {},
      'acme--uat',
      () => {
        simulator.control.setUser({ username, active: true })
        simulator.control.setApp({ clientId: client.clientId, certificate: keyPair().certificate })
      },
      'audience_invalid',
    ],
    [
      'a blocked app',
      {},
      'acme--uat',
      () => {
        simulator.control.setApp({ clientId: client.clientId, certificate: pair.certificate, blocked: true })
      },
      'app_blocked',
    ],
    [
      'an app that is not installed',
      {},
      'acme--uat',
      () => {
        simulator.control.setApp({ clientId: client.clientId, blocked: false })
        simulator.control.refuse({
          ...{ endpoint: 'token', error: 'app_not_found' },
          description: 'External client app is not installed in this org',
        })
      },
      'app_not_found',
    ],
    [
      'Salesforce away',
      {},
      'acme--uat',
      () => {
        simulator.control.fail({ endpoint: 'token', status: 503, body: '<h1>Maintenance</h1>' })
      },
      'salesforce_unavailable',
    ],
  ]
  for (const [name, given, host, arrange, code] of refusals)
    it(`${name} is ${code}, and nothing is stored`, async () => {
      arrange()
      const refused = await connect(given, host)
      assert.ok(refused.status >= 400, refused.text)
      assert.equal(refused.json.error.cause?.code, code, refused.text)
      assert.doesNotMatch(refused.text, /PRIVATE KEY|eyJ/)
      assert.deepEqual(await connections(), [])
    })

  it('what an administrator takes back is asked for again by itself, and works again when it is given back', async () => {
    const { connectionId: id } = (await connect()).json
    simulator.control.setApp({ clientId: client.clientId, blocked: true })
    simulator.control.expireAccessTokens({ org: 'acme--uat' })
    assert.notEqual((await query(id)).status, 200)
    // What was read for the call is read anew when the database tells of the change.
    await until(async () => (await read(id)).state.name === 'blocked_by_policy')
    simulator.control.setApp({ clientId: client.clientId, blocked: false })
    const renewed = await fairlead.call('POST', `/connections/${id}/refresh?provider_config_key=${key}`)
    assert.equal(renewed.status, 200, renewed.text)
    assert.equal(renewed.json.state.name, 'active')
    assert.equal((await query(id)).status, 200)
  })
})
