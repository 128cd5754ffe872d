/** The other ways into an org: a site's address with its path, client credentials at the My Domain, and an org that moved. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { loadCatalogue } from '../../src/provider/catalogue.ts'
import { Browser, type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'

const catalogue = loadCatalogue({ overlayPath: undefined, egressAllow: parseEgressAllow('').rules })

it('a site is read with its path, an org without one', () => {
  const read = (name: string, typed: string) => {
    const provider = catalogue.get(name)!
    return catalogue.hooks(provider).readFact?.(provider, 'hostname', typed)
  }
  assert.deepEqual(read('salesforce-experience-cloud', 'https://acme.my.site.com/partners/s/login'), {
    facts: { hostname: 'acme.my.site.com', site_path: 'partners' },
  })
  assert.deepEqual(read('salesforce-cc', 'acme--uat'), { facts: { hostname: 'acme--uat.sandbox.my.salesforce.com' } })
})

it('two sorts are told apart, and the others are for either', () => {
  const serves = (name: string) => catalogue.hooks(catalogue.get(name)!).serves
  assert.equal(serves('salesforce'), 'salesforce production')
  assert.equal(serves('salesforce-sandbox'), 'salesforce sandbox')
  for (const name of ['salesforce-cc', 'salesforce-jwt', 'salesforce-experience-cloud'])
    assert.equal(serves(name), undefined)
})

describe('at the simulator', () => {
  let simulator: Simulator
  let fairlead: Fairlead
  const ends = lastFirst({ after })

  before(async () => {
    simulator = await startSimulator({ autoApprove: true, contacts: 1 })
    ends.after(() => simulator.close())
    const hosts = ['127.0.0.1']
    fairlead = await startFairlead(ends, {
      providers: `${sandboxOverlay(simulator.base('test'), hosts)}salesforce-cc:
  token_url: ${simulator.base('acme--uat')}/services/oauth2/token
  allowed_hosts: ['127.0.0.1']
`,
    })
  })

  it('client credentials connect at the My Domain, and the org is known', async () => {
    assert.equal(
      (await fairlead.call('POST', '/integrations', { provider: 'salesforce-cc', unique_key: 'cc' })).status,
      200,
    )
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    const { clientId, clientSecret } = simulator.app('acme--uat')
    const query = `connect_session_token=${session.json.data.token}&params[hostname]=acme--uat`
    const made = await fairlead.call('POST', `/oauth2/auth/cc?${query}`, {
      client_id: clientId,
      client_secret: clientSecret,
    })
    assert.equal(made.status, 200, made.text)
    const { connectionId } = made.json
    const { connection_config: config } = (
      await fairlead.call('GET', `/connections/${connectionId}?provider_config_key=cc`)
    ).json
    assert.equal(config.hostname, 'acme--uat.sandbox.my.salesforce.com')
    assert.equal(config.organization_kind, 'sandbox')
    assert.equal(config.instance_url, simulator.base('acme--uat'))
  })

  it('fewer scopes than were asked for are told in the answer and in the results; what no such grant can have is not missed', async () => {
    const { clientId, clientSecret } = simulator.app('acme--uat')
    const scopes = ['api', 'web', 'refresh_token']
    const session = await fairlead.call('POST', '/connect/sessions', {
      end_user: { id: 'ada' },
      integrations_config_defaults: { cc: { connection_config: { oauth_scopes_override: scopes.join() } } },
    })
    const query = `connect_session_token=${session.json.data.token}&params[hostname]=acme--uat`
    const client = { client_id: clientId, client_secret: clientSecret }
    const made = await fairlead.call('POST', `/oauth2/auth/cc?${query}`, client)
    assert.equal(made.status, 200, made.text)
    assert.deepEqual(made.json.missing_scopes, ['web'])
    const results = await fairlead.call('GET', '/connect/session/results', undefined, {
      Authorization: `Bearer ${session.json.data.token}`,
    })
    assert.deepEqual(results.json.data[0].missing_scopes, ['web'])
    assert.equal(results.json.data[0].success, true)
  })

  it('the integration may hold the client: then an address is all that is asked', async () => {
    const { clientId, clientSecret } = simulator.app('acme--uat')
    const client = { client_id: clientId, client_secret: clientSecret }
    const integration = { provider: 'salesforce-cc', unique_key: 'ours', integration_config: client }
    const made = await fairlead.call('POST', '/integrations', integration)
    assert.equal(made.status, 200, made.text)
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    const query = `connect_session_token=${session.json.data.token}&params[hostname]=acme--uat`
    const connected = await fairlead.call('POST', `/oauth2/auth/ours?${query}`, {})
    assert.equal(connected.status, 200, connected.text)
    const { connectionId } = connected.json
    const shown = await fairlead.call('GET', `/connections/${connectionId}?provider_config_key=ours&force_refresh=true`)
    assert.equal(shown.status, 200, shown.text)
    assert.ok(!shown.text.includes(clientSecret), 'the secret of all connections is not handed out with one')
  })

  it('an org that moved is followed: the call is renewed and sent again at the new address, whatever the old one answers', async () => {
    const { clientId, clientSecret } = simulator.app('acme--uat')
    simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
    const key = 'salesforce-sandbox'
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    await fairlead.call('POST', '/integrations', { provider: key, unique_key: key, credentials })
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    const page = await new Browser().follow(
      `${fairlead.app.url}/oauth/connect/${key}?connect_session_token=${session.json.data.token}`,
    )
    assert.equal(page.status, 200, page.text)
    const { connections } = (await fairlead.call('GET', `/connections?integrationId=${key}`)).json
    const id = connections[0].connection_id
    const query = () =>
      fairlead.call('GET', `/via/${key}/${id}/services/data/v66.0/query?q=SELECT+Id+FROM+Account+LIMIT+1`)
    assert.equal((await query()).status, 200)
    for (const [domain, answer] of [
      ['apex--uat', 'redirect'],
      ['peak--uat', 'gone'],
    ] as const) {
      simulator.control.moveOrg({ org: 'acme--uat', domain, answer })
      simulator.control.clearRequests()
      // The first call there is one that changes something: it is done once, at the new address, with its body.
      const made = await fairlead.call('POST', `/via/${key}/${id}/services/data/v66.0/sobjects/Account`, {
        Name: domain,
      })
      assert.equal(made.status, 201, `${answer}: ${made.status} ${made.text.slice(0, 200)}`)
      const asked = simulator.control.requests().map(({ endpoint, path, status }) => [endpoint, path, status])
      assert.deepEqual(
        asked.filter(([endpoint]) => endpoint === 'token').map(([, , status]) => status),
        [200],
        'one renewal',
      )
      assert.deepEqual(
        asked.filter(([, path]) => String(path).endsWith('/sobjects/Account')).map(([, , status]) => status),
        [answer === 'redirect' ? 301 : 420, 201],
      )
      const moved = await query()
      assert.equal(moved.status, 200, `${answer}: ${moved.status} ${moved.text.slice(0, 200)}`)
      const { connection_config: config } = (
        await fairlead.call('GET', `/connections/${id}?provider_config_key=${key}`)
      ).json
      assert.equal(config.instance_url, simulator.base('acme--uat'))
    }
  })

  it('an org whose My Domain is renamed is asked at the new one from the next renewal on, also when somebody gave the old', async t => {
    const opened = lastFirst(t)
    const named = await startSimulator({ autoApprove: true, contacts: 1 })
    opened.after(() => named.close())
    const providers = sandboxOverlay(named.base('test', 'name'), ['*.salesforce.localhost'])
    const other = await startFairlead(opened, { providers })
    const { clientId, clientSecret } = named.app('acme--uat')
    named.control.setApp({ clientId, callbacks: [`${other.app.url}/oauth/callback`] })
    const key = 'salesforce-sandbox'
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    await other.call('POST', '/integrations', { provider: key, unique_key: key, credentials })
    const tokens = named.control.issueTokens({ username: 'ada@acme.com.uat' })
    const instance_url = named.base('acme--uat', 'name')
    const { hostname } = new URL(instance_url)
    const brought = await other.call('POST', '/connections', {
      provider_config_key: key,
      connection_id: 'ada',
      credentials: { type: 'OAUTH2', access_token: tokens.access_token, refresh_token: tokens.refresh_token },
      connection_config: { instance_url, hostname },
    })
    assert.equal(brought.status, 201, brought.text)
    const config = async () =>
      (await other.call('GET', `/connections/ada?provider_config_key=${key}&force_refresh=true`)).json.connection_config
    assert.equal((await config()).hostname, hostname)
    named.control.moveOrg({ org: 'acme--uat', domain: 'apex--uat' })
    const moved = await config()
    assert.equal(moved.instance_url, named.base('acme--uat', 'name'))
    assert.equal(moved.hostname, new URL(moved.instance_url).hostname)
    assert.notEqual(moved.hostname, hostname)
  })
})
