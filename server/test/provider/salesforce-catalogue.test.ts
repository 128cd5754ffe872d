/**
 * The catalogue of Salesforce's errors, all of it, from the simulator's mouth to the person: each thing a cause looks like is produced where
 * it is met, and has to end in that cause, with its texts and its links, in the API, on the page a sign-in ends on, in the state of a
 * connection and in the doctor. The rows are the catalogue's own, so a new one is tested without a line here.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { ExplainedCause, Finding } from '@fairlead/contract'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { type Context, catalogue, explain, type Where } from '../../../salesforce/errors.ts'
import { addressesOf, exitsOf } from '../../src/net/exits.ts'
import { Browser, type Fairlead, request, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'

const key = 'salesforce-sandbox'
const org = 'acme--uat'
const hostname = 'acme--uat.sandbox.my.salesforce.com'

/** With these statuses the API says so; anything else is told with 400. */
const statuses: Record<string, number> = {
  INVALID_SESSION_ID: 401,
  Bad_OAuth_Token: 403,
  API_DISABLED_FOR_ORG: 403,
  API_CURRENTLY_DISABLED: 403,
  FUNCTIONALITY_NOT_ENABLED: 403,
  REQUEST_LIMIT_EXCEEDED: 403,
  LOGIN_RATE_EXCEEDED: 403,
  SERVER_UNAVAILABLE: 503,
}

interface Row {
  code: string
  error: string
  description: string
}
const rowsAt = (where: Where): Row[] =>
  catalogue.flatMap(({ code, seen }) =>
    seen.filter(([at]) => at === where).map(([, error, description = '']): Row => ({ code, error, description })),
  )
const nameOf = ({ code, error, description }: Row): string =>
  `${[error, description].filter(Boolean).join(': ') || 'nothing'} is ${code}`

describe('every row of the catalogue', () => {
  let simulator: Simulator
  let fairlead: Fairlead
  let exits: string[]
  const ends = lastFirst({ after })
  const met = new Set<string>()

  before(async () => {
    simulator = await startSimulator({ autoApprove: true, contacts: 1 })
    ends.after(() => simulator.close())
    exits = addressesOf(await exitsOf([]))
    fairlead = await startFairlead(ends, {
      providers: `${sandboxOverlay(simulator.base('test'), ['127.0.0.1'])}salesforce:
  authorization_url: ${simulator.base('login')}/services/oauth2/authorize
  token_url: ${simulator.base('login')}/services/oauth2/token
  allowed_hosts: ['127.0.0.1']
# Sandboxes' definition at the log-in of production, and the reverse.
astray:
  alias: salesforce-sandbox
  authorization_url: ${simulator.base('login')}/services/oauth2/authorize
  token_url: ${simulator.base('login')}/services/oauth2/token
crossed:
  alias: salesforce
  authorization_url: ${simulator.base('test')}/services/oauth2/authorize
  token_url: ${simulator.base('test')}/services/oauth2/token
`,
    })
    for (const [integration, at] of [
      [key, org],
      ['astray', 'acme'],
      ['crossed', org],
    ] as const)
      await integrate(integration, at)
  })

  async function integrate(integration: string, at: string): Promise<void> {
    const { clientId, clientSecret } = simulator.app(at)
    simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    const body = { provider: integration, unique_key: integration, credentials }
    const made = await fairlead.call('POST', '/integrations', body)
    assert.equal(made.status, 200, made.text)
  }

  /** What the pure table says; every other place has to say the same. */
  function expected(where: Where, { code, error, description }: Row, known: Partial<Context> = {}): ExplainedCause {
    const callback = `${fairlead.app.url}/oauth/callback`
    const context = { login: 'sandbox', org: `https://${hostname}`, callback, exits, ...known } as const
    const cause = explain({ where, error, description }, context)
    assert.equal(cause.code, code)
    met.add(`${where} ${error} ${description}`)
    return cause
  }

  async function signIn(integration = key, given: object = {}, query = `&params[hostname]=${org}`) {
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' }, ...given })
    return finish(integration, session.json.data.token, query)
  }

  async function finish(integration: string, token: string, query = '') {
    const page = await new Browser().follow(
      `${fairlead.app.url}/oauth/connect/${integration}?connect_session_token=${token}${query}`,
    )
    const results = await request(`${fairlead.url}/connect/session/results`, {
      headers: { Authorization: `Bearer ${token}` },
    })
    const [result] = results.json.data as { error?: { cause?: ExplainedCause } }[]
    return { page, result }
  }

  async function connected(): Promise<string> {
    const { page } = await signIn()
    assert.equal(page.status, 200, page.text)
    const [newest] = (await fairlead.call('GET', '/connections')).json.connections
    return newest.connection_id
  }
  const remove = async (id: string) =>
    assert.equal((await fairlead.call('DELETE', `/connections/${id}?provider_config_key=${key}`)).status, 200)
  const read = async (id: string) => (await fairlead.call('GET', `/connections/${id}?provider_config_key=${key}`)).json
  /** Its verdict reaches the cache by a notification. */
  async function explainedOf(id: string) {
    for (let tries = 0; ; tries++) {
      const connection = await read(id)
      if (connection.state.explained || tries === 200) return connection
      await new Promise(resolve => setTimeout(resolve, 25))
    }
  }
  const findings = async (id: string): Promise<Finding[]> => {
    const answer = await fairlead.call('GET', `/connections/${id}/doctor?provider_config_key=${key}`)
    assert.equal(answer.status, 200, answer.text)
    return answer.json.findings
  }

  /** The next time it is asked, the token endpoint answers so. */
  function answerAtTheTokenEndpoint({ error, description }: Row, grantType: string): void {
    const status = /^HTTP (\d+)$/.exec(error)?.[1]
    if (status)
      simulator.control.fail({ endpoint: 'token', grantType, status: Number(status), body: '<h1>Maintenance</h1>' })
    else simulator.control.refuse({ endpoint: 'token', grantType, error, description })
  }

  function isOnPage(page: string, { title, explanations }: ExplainedCause): void {
    const shown = (text: string) =>
      text.replace(/[&<>"']/g, one => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[one]!)
    assert.ok(page.includes(`<h1>${shown(title)}</h1>`), page)
    for (const { text, fix, link } of explanations) {
      assert.ok(page.includes(shown(text)), text)
      assert.ok(page.includes(shown(fix)), fix)
      if (link) assert.ok(page.includes(`<a href="${shown(link)}"`), link)
    }
  }

  function isFound(found: Finding[], { code, title, explanations: [first] }: ExplainedCause): void {
    const finding = found.find(one => one.code === code)
    assert.ok(finding, `${code} in ${found.map(one => `${one.severity} ${one.code}`)}`)
    assert.equal(finding.title, title)
    assert.equal(finding.fix, first?.fix)
    assert.equal(finding.link, first?.link)
    assert.notEqual(finding.severity, 'ok')
  }

  for (const row of rowsAt('authorize'))
    it(`on the way back, ${nameOf(row)}`, async () => {
      const cause = expected('authorize', row)
      simulator.control.refuse({ endpoint: 'authorize', error: row.error, description: row.description })
      const { page, result } = await signIn()
      assert.equal(page.status, 400)
      assert.deepEqual(result?.error?.cause, cause)
      isOnPage(page.text, cause)
      assert.deepEqual((await fairlead.call('GET', '/connections')).json.connections, [])
    })

  for (const row of rowsAt('token'))
    it(`at the token endpoint, ${nameOf(row)}`, async () => {
      const cause = expected('token', row)
      answerAtTheTokenEndpoint(row, 'authorization_code')
      const { page, result } = await signIn()
      assert.equal(page.status, 400)
      assert.deepEqual(result?.error?.cause, cause)
      isOnPage(page.text, cause)
      assert.deepEqual((await fairlead.call('GET', '/connections')).json.connections, [])
    })

  for (const row of rowsAt('refresh'))
    it(`at a renewal, ${nameOf(row)}`, async () => {
      const id = await connected()
      const cause = expected('refresh', row, { org: simulator.base(org) })
      answerAtTheTokenEndpoint(row, 'refresh_token')
      await fairlead.call('POST', `/connections/${id}/refresh?provider_config_key=${key}`)
      const { state } = await explainedOf(id)
      assert.deepEqual(state.explained, cause)
      assert.equal(state.message, `${cause.title}. ${cause.explanations[0]!.fix}`)
      const [listed] = (await fairlead.call('GET', '/connections')).json.connections
      assert.deepEqual(listed.state, state)
      isFound(await findings(id), cause)
      await remove(id)
    })

  for (const row of rowsAt('api'))
    it(`in the API, ${nameOf(row)}`, async () => {
      const id = await connected()
      const cause = expected('api', row, { org: simulator.base(org) })
      const { error: errorCode, description: message } = row
      const status = Number(/^HTTP (\d+)$/.exec(errorCode)?.[1] ?? statuses[errorCode] ?? 400)
      const body = errorCode === 'Bad_OAuth_Token' ? errorCode : status === 420 ? '' : [{ errorCode, message }]
      simulator.control.fail({ endpoint: 'rest', path: '/limits', status, body })
      isFound(await findings(id), cause)
      await remove(id)
    })

  it('an app the token endpoint does not know is found by the doctor before anybody has to sign in again', async () => {
    const id = await connected()
    const isOfApp = ({ error, description }: Row) =>
      /^invalid_client/.test(error) || /not_found|blocked|installed/i.test(`${error} ${description}`)
    const rows = rowsAt('token').filter(isOfApp)
    assert.ok(rows.length >= 6)
    for (const row of rows) {
      answerAtTheTokenEndpoint(row, 'authorization_code')
      isFound(await findings(id), expected('token', row, { org: simulator.base(org) }))
    }
    await remove(id)
  })

  it('nothing came back: the page is Salesforce’s, the callback hears nothing, and the guide says what it may be', async () => {
    const [row, ...pages] = rowsAt('silence')
    simulator.control.refuse({ endpoint: 'authorize', error: 'redirect_uri_mismatch', onPage: true })
    const { page, result } = await signIn()
    assert.ok(page.url.startsWith(simulator.base('test')), page.url)
    assert.equal(result, undefined)
    const guide = await fairlead.call('GET', `/docs/providers/${key}.md`)
    const { explanations } = expected('silence', row!, { org: undefined })
    for (const { text } of explanations.slice(0, 2)) assert.ok(guide.text.includes(text), text)
    for (const other of pages) expected('silence', other)
  })

  it('an org of the wrong kind, either way', async () => {
    for (const [integration, login, code] of [
      ['crossed', 'sandbox', 'sandbox_on_production'],
      ['astray', 'production', 'production_on_sandbox'],
    ] as const) {
      const { page, result } = await signIn(integration, {}, '')
      const cause = expected('reconnect', { code, error: code, description: '' }, { login })
      assert.deepEqual(result?.error?.cause, cause)
      isOnPage(page.text, cause)
    }
    assert.deepEqual((await fairlead.call('GET', '/connections')).json.connections, [])
  })

  it('a refreshed sandbox, by somebody who signs in again and by the doctor', async () => {
    const id = await connected()
    simulator.control.refreshSandbox({ org })
    const { clientId, clientSecret } = simulator.control.addApp({
      ...{ org, name: 'Anew', scopes: ['api', 'refresh_token'] },
      callbacks: [`${fairlead.app.url}/oauth/callback`],
    })
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    assert.equal((await fairlead.call('PATCH', `/integrations/${key}`, { credentials })).status, 200)
    const session = await fairlead.call('POST', '/connect/sessions/reconnect', {
      connection_id: id,
      integration_id: key,
    })
    const { page, result } = await finish(key, session.json.data.token)
    const row = { code: 'sandbox_refreshed', error: 'account_replaced', description: '' }
    const cause = expected('reconnect', row, { org: simulator.base(org) })
    assert.deepEqual(result?.error?.cause, cause)
    isOnPage(page.text, cause)
  })

  it('and none was left out', () => {
    const all = catalogue.flatMap(({ seen }) => seen.map(([where, error, text = '']) => `${where} ${error} ${text}`))
    assert.deepEqual(
      all.filter(one => !met.has(one)),
      [],
    )
    assert.ok(all.length >= 75, String(all.length))
  })
})
