/**
 * What Salesforce says, from the simulator's mouth to the person: the page a sign-in ends on, the result of the sign-in, and the doctor use
 * the same words. And an org of the wrong kind is never filed.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { Browser, type Fairlead, request, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'

const sandbox = 'salesforce-sandbox'
const production = 'salesforce'

describe('Salesforce, end to end', () => {
  let simulator: Simulator
  let fairlead: Fairlead
  const ends = lastFirst({ after })

  before(async () => {
    simulator = await startSimulator({ contacts: 1 })
    ends.after(() => simulator.close())
    const overlay = (key: string, login: string, base = '') => `${key}:${base && `\n  alias: ${base}`}
  authorization_url: ${login}/services/oauth2/authorize
  token_url: ${login}/services/oauth2/token
  allowed_hosts: ['127.0.0.1', '*.salesforce.localhost']
`
    fairlead = await startFairlead(ends, {
      providers:
        overlay(sandbox, simulator.base('test')) +
        overlay(production, simulator.base('login')) +
        overlay('crossed', simulator.base('test'), production),
    })
    for (const [key, org] of [
      [sandbox, 'acme--uat'],
      [production, 'acme'],
    ] as const) {
      const { clientId, clientSecret } = simulator.app(org)
      simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
      await integrate(key, clientId, clientSecret)
    }
  })

  async function integrate(key: string, clientId: string, clientSecret: string): Promise<void> {
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    const made = await fairlead.call('POST', '/integrations', { provider: key, unique_key: key, credentials })
    assert.equal(made.status, 200, made.text)
  }

  async function signIn(key: string, approve = 'allow', body: object = {}, query = '') {
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' }, ...body })
    const { token } = session.json.data
    const browser = new Browser()
    let answer = await browser.open(`${fairlead.app.url}/oauth/connect/${key}?connect_session_token=${token}${query}`)
    while (answer.location)
      answer = await browser.open(answer.location, { headers: { 'x-simulator-approve': approve } })
    const results = await request(`${fairlead.url}/connect/session/results`, {
      headers: { Authorization: `Bearer ${token}` },
    })
    return {
      page: answer,
      browser,
      cause: results.json.data[0]?.error?.cause,
      error: results.json.data[0]?.error,
      missing: results.json.data[0]?.missing_scopes,
      token,
    }
  }

  const connections = async (): Promise<{ connection_id: string; provider_config_key: string }[]> =>
    (await fairlead.call('GET', '/connections')).json.connections
  const doctor = async (key: string, id: string) => {
    const answer = await fairlead.call('GET', `/connections/${id}/doctor?provider_config_key=${key}`)
    assert.equal(answer.status, 200, answer.text)
    return answer.json.findings as {
      code: string
      severity: string
      title: string
      detail: string
      fix: string
      link?: string
    }[]
  }
  const linkOf = (page: string) => /<a class="button" href="([^"]+)"/.exec(page)?.[1]?.replaceAll('&amp;', '&')

  /** Errors of the token endpoint, as the simulator is told to give them. */
  const atTheTokenEndpoint: [error: string, description: string, code: string, title: RegExp][] = [
    ['invalid_client', 'invalid client credentials', 'wrong_client_secret', /The client secret is wrong/],
    ['invalid_client', 'app must be installed into org', 'app_not_installed', /not installed/],
    ['invalid_client_id', 'client identifier invalid', 'app_unknown_here', /does not know this app/],
    ['invalid_grant', 'External client app is not installed in this org', 'app_not_found', /no such app/],
    ['invalid_grant', 'user is not admin approved to access this app', 'user_not_approved', /not among those/],
    ['invalid_grant', 'expired authorization code', 'code_expired', /too long/],
    ['invalid_grant', 'token request is already being processed', 'being_processed', /same moment/],
    ['invalid_grant', 'ip restricted', 'ip_restricted', /does not let this server in/],
    ['invalid_grant', 'inactive user', 'user_inactive', /deactivated/],
    ['inactive_org', '', 'org_unreachable', /does not exist any more/],
    ['invalid_grant', 'invalid code verifier', 'code_verifier_invalid', /another sign-in/],
    ['invalid_grant', 'request not supported on this domain', 'domain_not_supported', /My Domain/],
    ['unsupported_grant_type', 'grant type not supported', 'grant_not_supported', /does not give tokens/],
    ['rate_limit_exceeded', '', 'login_rate_exceeded', /too often/],
    ['use_dpop_nonce', '', 'dpop_required', /bound to a key/],
    ['invalid_scope', '', 'scope_not_on_app', /scope/],
    ['server_error', '', 'salesforce_unavailable', /not available/],
    ['something_new', 'of tomorrow', 'unknown', /no explanation/],
  ]
  for (const [error, description, code, title] of atTheTokenEndpoint)
    it(`${error}: ${description} at the token endpoint is ${code}, on the page and in the result`, async () => {
      simulator.control.fail({ endpoint: 'token', status: 400, body: { error, error_description: description } })
      const { page, cause, error: told } = await signIn(sandbox)
      assert.equal(page.status, 400)
      assert.match(page.text, title)
      assert.equal(cause?.code, code, JSON.stringify(told))
      for (const { fix } of cause.explanations.slice(0, 3)) {
        const shown = fix
          .replace(/&/g, '&amp;')
          .replace(/</g, '&lt;')
          .replace(/>/g, '&gt;')
          .replace(/"/g, '&quot;')
          .replace(/'/g, '&#39;')
        assert.ok(page.text.includes(shown), fix)
      }
      assert.deepEqual(await connections(), [])
    })

  it('a status page in place of an answer is Salesforce being away', async () => {
    simulator.control.fail({ endpoint: 'token', status: 503, body: '<h1>Maintenance</h1>' })
    assert.equal((await signIn(sandbox)).cause.code, 'salesforce_unavailable')
  })

  it('errors of the log-in page itself', async () => {
    const { clientId } = simulator.app('acme--uat')
    assert.equal((await signIn(sandbox, 'deny')).cause.code, 'access_denied')
    simulator.control.setApp({ clientId, scopes: ['id'] })
    assert.equal((await signIn(sandbox)).cause.code, 'scope_not_on_app')
    simulator.control.setApp({ clientId, scopes: ['api', 'refresh_token', 'id'] })
  })

  /** The token endpoint's next answer. */
  const answerWith = (body: object) =>
    simulator.control.fail({ endpoint: 'token', grantType: 'authorization_code', status: 200, body })
  const tokensWith = (scopes: string[]) => {
    const { clientId } = simulator.app('acme--uat')
    return simulator.control.issueTokens({ username: 'ada@acme.com.uat', clientId, scopes })
  }

  it('fewer scopes than were asked for are told on the page that says connected', async () => {
    answerWith(tokensWith(['refresh_token', 'id']))
    const { page, missing } = await signIn(sandbox)
    assert.equal(page.status, 200, page.text)
    assert.match(page.text, /granted less than was asked for/)
    assert.match(page.text, /<li><code>api<\/code>: read and change your Salesforce data/)
    assert.doesNotMatch(page.text, /<code>refresh_token<\/code>/)
    assert.deepEqual(missing, ['api'])
    await clear()
    const whole = await signIn(sandbox)
    assert.doesNotMatch(whole.page.text, /granted less/)
    assert.deepEqual(whole.missing, [])
    await clear()
  })

  it('a token response whose identity URL was changed on the way is refused, and nothing is stored', async () => {
    const told = tokensWith(['api', 'refresh_token'])
    const [organization, user] = ['00D8d000000EVILEAM', '0058d000000EVILAAA']
    for (const id of [
      String(told.id).replace(/00D[^/]+/, organization),
      String(told.id).replace(/005[^/]+$/, user),
      `${told.id}?`,
    ]) {
      answerWith({ ...told, id })
      const { page, error } = await signIn(sandbox)
      assert.equal(page.headers.get('fairlead-error'), 'token_response_forged', page.text)
      assert.ok(error)
    }
    answerWith({ ...told, issued_at: String(Number(told.issued_at) + 1) })
    assert.equal((await signIn(sandbox)).page.headers.get('fairlead-error'), 'token_response_forged')
    assert.deepEqual(await connections(), [])
  })

  it('a really wrong secret is called a wrong secret, with a link into Setup where the org is known', async () => {
    const { clientSecret } = simulator.control.rotateSecret({ clientId: simulator.app('acme--uat').clientId })
    const { page, cause } = await signIn(sandbox)
    assert.match(page.text, /<h1>The client secret is wrong/)
    assert.equal(cause.code, 'wrong_client_secret')
    const credentials = { type: 'OAUTH2', client_id: simulator.app('acme--uat').clientId, client_secret: clientSecret }
    assert.equal((await fairlead.call('PATCH', `/integrations/${sandbox}`, { credentials })).status, 200)
  })

  it('a sandbox typed on production is caught before anybody leaves, and the right integration is one click away', async () => {
    const host = 'acme--uat.sandbox.my.salesforce.com'
    const { page, cause, browser } = await signIn(production, 'allow', {}, `&params[hostname]=${host}`)
    assert.equal(page.headers.get('fairlead-error'), 'belongs_elsewhere', page.text)
    assert.equal(cause.code, 'sandbox_on_production')
    assert.deepEqual(await connections(), [])
    const link = linkOf(page.text)
    assert.ok(link?.startsWith(simulator.base('test')), String(link))
    await finish(browser, link!)
    assert.deepEqual(
      (await connections()).map(one => one.provider_config_key),
      [sandbox],
    )
    await clear()
  })

  it('a session that allows only the wrong one offers nothing and says what to do', async () => {
    const { page } = await signIn(
      production,
      'allow',
      { allowed_integrations: [production] },
      '&params[hostname]=acme--uat.sandbox.my.salesforce.com',
    )
    assert.equal(linkOf(page.text), undefined)
    assert.match(page.text, /an integration of the provider Salesforce Sandbox/)
  })

  it('an org of the wrong kind is recognised after the sign-in: nothing is stored, its access is given back, and one click repairs it', async () => {
    // Production's definition, and a log-in that lets sandboxes in.
    const { clientId, clientSecret } = simulator.app('acme--uat')
    await integrate('crossed', clientId, clientSecret)
    const alive = () => simulator.control.state().grants.filter(grant => grant.ended === null).length
    const before = alive()
    const { page, cause, browser } = await signIn('crossed')
    assert.equal(page.headers.get('fairlead-error'), 'belongs_elsewhere', page.text)
    assert.equal(cause.code, 'sandbox_on_production')
    assert.deepEqual(await connections(), [])
    for (let tries = 0; alive() > before && tries < 200; tries++) await new Promise(resolve => setTimeout(resolve, 100))
    assert.equal(alive(), before)
    await finish(browser, linkOf(page.text)!)
    assert.deepEqual(
      (await connections()).map(one => one.provider_config_key),
      [sandbox],
    )
  })

  it('the doctor finds a healthy connection healthy, with eight questions at most and two that count', async () => {
    const [{ connection_id: id }] = (await connections()) as unknown as [{ connection_id: string }]
    const used = simulator.control.state().orgs.find(org => org.key === 'acme--uat')!.apiUsed
    simulator.control.clearRequests()
    const findings = await doctor(sandbox, id)
    assert.deepEqual(
      findings.filter(({ severity }) => severity === 'error'),
      [],
    )
    const codes = findings.map(({ code }) => code)
    for (const code of [
      'scopes',
      'app',
      'callback',
      'pkce',
      'introspection',
      'api_version',
      'api',
      'budget',
      'organization',
      'approvals',
      'refresh_policy',
      'idle_limit',
      'ip_policy',
    ])
      assert.ok(codes.includes(code), `${code} in ${codes}`)
    assert.ok(
      simulator.control.requests().length <= 8,
      JSON.stringify(simulator.control.requests().map(({ path }) => path)),
    )
    assert.equal(simulator.control.state().orgs.find(org => org.key === 'acme--uat')!.apiUsed - used, 2)
  })

  it('the doctor names what is wrong, with a link into the Setup of that org', async () => {
    const [{ connection_id: id }] = (await connections()) as unknown as [{ connection_id: string }]
    const { clientId } = simulator.app('acme--uat')
    const codes = async () =>
      (await doctor(sandbox, id)).filter(({ severity }) => severity === 'error' || severity === 'warning')
    const callback = `${fairlead.app.url}/oauth/callback`

    simulator.control.setApp({ clientId, callbacks: ['https://elsewhere.example/'] })
    const [mismatch] = await codes()
    assert.equal(mismatch?.code, 'redirect_uri_mismatch')
    assert.ok(mismatch.fix.endsWith(callback))
    assert.equal(mismatch.link, `${simulator.base('acme--uat')}/lightning/setup/ManageExternalClientApplication/home`)
    simulator.control.setApp({ clientId, callbacks: [callback] })

    simulator.control.setUser({ username: 'ada@acme.com.uat', apiEnabled: false })
    assert.deepEqual(
      (await codes()).map(({ code }) => code),
      ['api_disabled'],
    )
    simulator.control.setUser({ username: 'ada@acme.com.uat', apiEnabled: true })

    // The session lives on; the doctor sees that nothing will renew it, before anything was refused.
    const policy = (kind: 'immediatelyExpire' | 'untilRevoked') =>
      simulator.control.setApp({ clientId, refreshPolicy: { kind } })
    policy('immediatelyExpire')
    assert.deepEqual(
      (await codes()).map(({ code, severity }) => [code, severity]),
      [['refresh_policy', 'warning']],
    )
    policy('untilRevoked')

    simulator.control.setOrg({ org: 'acme--uat', apiUsed: 4_900_000 })
    const queries = () => simulator.control.requests().filter(({ path }) => path.includes('/query')).length
    const asked = queries()
    assert.deepEqual(
      (await codes()).map(({ code }) => code),
      ['budget_low'],
    )
    assert.equal(queries(), asked, 'a budget that is nearly used up is not spent on examinations')
    simulator.control.setOrg({ org: 'acme--uat', apiUsed: 0 })
  })

  async function finish(browser: Browser, link: string): Promise<void> {
    let answer = await browser.open(link, { headers: { 'x-simulator-approve': 'allow' } })
    while (answer.location)
      answer = await browser.open(answer.location, { headers: { 'x-simulator-approve': 'allow' } })
    assert.equal(answer.status, 200, answer.text)
  }

  async function clear(): Promise<void> {
    for (const { connection_id, provider_config_key } of await connections())
      await fairlead.call('DELETE', `/connections/${connection_id}?provider_config_key=${provider_config_key}`)
  }
})
