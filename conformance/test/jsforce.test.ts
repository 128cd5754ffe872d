/**
 * jsforce, unmodified. Through Fairlead it is given a base URL and our API key as its token, and never learns that there is a broker;
 * against the simulator alone it shows that what our own tests take for Salesforce looks like Salesforce to somebody else's library.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it, type TestContext } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import jsforce from 'jsforce'
import { sandboxOverlay } from '../../demo/overlay.ts'
import { Browser, type Fairlead, startFairlead } from '../../server/test/support/fairlead.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'

const key = 'salesforce-sandbox'
const version = '66.0'

/** What Salesforce called an error; jsforce hangs it on what it throws. */
const errorCode = (error: unknown): string | undefined => (error as { errorCode?: string }).errorCode

describe('jsforce through Fairlead', () => {
  let simulator: Simulator
  let fairlead: Fairlead
  let connection: jsforce.Connection
  const ends = lastFirst({ after })

  before(async () => {
    simulator = await startSimulator({ autoApprove: true, rotation: true })
    ends.after(() => simulator.close())
    fairlead = await startFairlead(ends, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
    const { clientId, clientSecret } = simulator.app('acme--uat')
    simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    await fairlead.call('POST', '/integrations', { provider: key, unique_key: key, credentials })
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    const start = `${fairlead.app.url}/oauth/connect/${key}?connect_session_token=${session.json.data.token}`
    const page = await new Browser().follow(start)
    assert.match(page.text, /is connected/)
    const { connections } = (await fairlead.call('GET', '/connections')).json
    connection = new jsforce.Connection({
      instanceUrl: `${fairlead.url}/via/${key}/${connections[0].connection_id}`,
      accessToken: fairlead.key,
      version,
    })
  })

  const refreshes = () => simulator.control.counters().grants.refresh_token ?? 0

  it('queries', async () => {
    const { records, totalSize, done } = await connection.query<{ Name: string }>(
      "SELECT Id, Name FROM Account WHERE Name = 'Edge Communications'",
    )
    assert.deepEqual([records.map(record => record.Name), totalSize, done], [['Edge Communications'], 1, true])
  })

  it('pages through more rows than one answer holds', async () => {
    const first = await connection.query('SELECT Id FROM Contact')
    assert.deepEqual([first.records.length, first.totalSize, first.done], [2000, 2347, false])
    // jsforce puts Salesforce's bare path behind the base URL it was given.
    assert.ok(
      first.nextRecordsUrl?.startsWith(`${connection.instanceUrl}/services/data/`),
      String(first.nextRecordsUrl),
    )
    const second = await connection.queryMore(first.nextRecordsUrl!)
    assert.deepEqual([second.records.length, second.done], [347, true])
    const ids = [...first.records, ...second.records].map(record => record.Id)
    assert.equal(new Set(ids).size, 2347)

    const all = await connection.query('SELECT Id FROM Contact').execute({ autoFetch: true, maxFetch: 5000 })
    assert.equal(Array.isArray(all) ? all.length : all.records.length, 2347)
  })

  it('finds by its own query builder', async () => {
    const found = await connection.sobject('Account').find({ BillingCity: 'Austin' }, ['Id', 'Name']).limit(5)
    assert.deepEqual(
      found.map(record => record.Name),
      ['Edge Communications'],
    )
  })

  it('creates, retrieves, updates and deletes', async () => {
    const accounts = connection.sobject('Account')
    const created = await accounts.create({ Name: 'Fähr & Söhne', Industry: 'Shipping' })
    assert.ok(created.success)
    assert.equal((await accounts.retrieve(created.id)).Name, 'Fähr & Söhne')
    const updated = await accounts.update({ Id: created.id, Industry: 'Ferries' })
    assert.deepEqual([updated.success, updated.id], [true, created.id])
    assert.equal((await accounts.retrieve(created.id)).Industry, 'Ferries')
    const deleted = await accounts.delete(created.id)
    assert.equal(deleted.success, true)
    await assert.rejects(accounts.retrieve(created.id), error =>
      /NOT_FOUND|ENTITY_IS_DELETED/.test(errorCode(error) ?? ''),
    )
  })

  it('creates many at once', async () => {
    const accounts = connection.sobject('Account')
    const made = await accounts.create([{ Name: 'One' }, { Name: 'Two' }, { Name: 'Three' }])
    assert.deepEqual(
      made.map(result => result.success),
      [true, true, true],
    )
    const gone = await accounts.delete(made.map(result => result.id ?? ''))
    assert.ok(gone.every(result => result.success))
  })

  it('describes', async () => {
    const account = await connection.sobject('Account').describe()
    assert.equal(account.name, 'Account')
    assert.ok(account.fields.some(field => field.name === 'Industry' && field.type === 'picklist'))
    const all = await connection.describeGlobal()
    assert.ok(all.sobjects.some(object => object.name === 'Contact'))
  })

  it('reads the API usage from the header', async () => {
    await connection.query('SELECT Id FROM Account LIMIT 1')
    const { apiUsage } = connection.limitInfo
    assert.ok(apiUsage && apiUsage.used > 0 && apiUsage.limit >= apiUsage.used, JSON.stringify(connection.limitInfo))
    const limits = (await connection.limits()) as Record<string, { Max: number; Remaining: number }>
    assert.ok(limits.DailyApiRequests && limits.DailyApiRequests.Max > 0)
  })

  it("hears the provider's own errors", async () => {
    await assert.rejects(
      async () => connection.query('SELECT Nonsense FROM Account'),
      error => errorCode(error) === 'INVALID_FIELD',
    )
  })

  it('never notices that the token ended, between two pages or under five queries at once', async () => {
    const before = refreshes()
    const first = await connection.query('SELECT Id FROM Contact')
    simulator.control.expireAccessTokens()
    assert.equal((await connection.queryMore(first.nextRecordsUrl!)).records.length, 347)
    assert.equal(refreshes(), before + 1)

    simulator.control.expireAccessTokens()
    const answers = await Promise.all(
      Array.from({ length: 5 }, (_, i) => connection.query(`SELECT Id FROM Account LIMIT ${i + 1}`)),
    )
    assert.deepEqual(
      answers.map(answer => answer.records.length),
      [1, 2, 3, 4, 5],
    )
    assert.equal(refreshes(), before + 2, 'five expired calls share one refresh')

    simulator.control.expireAccessTokens()
    const created = await connection.sobject('Account').create({ Name: 'Written after the token had ended' })
    assert.equal((await connection.sobject('Account').delete(created.id ?? '')).success, true)
    assert.equal(refreshes(), before + 3)
  })

  it('was given nothing of the customer’s and gave nothing of ours away', () => {
    const seen = JSON.stringify(simulator.control.requests())
    assert.ok(!seen.includes(fairlead.key) && !seen.includes(fairlead.key.slice(-6)))
    assert.equal(connection.accessToken, fairlead.key)
    assert.ok(!fairlead.log().includes(fairlead.key))
  })
})

describe('jsforce against the simulator', () => {
  const callback = 'http://127.0.0.1:9999/callback'

  async function signIn(t: TestContext) {
    const simulator = await startSimulator({ callbacks: [callback], autoApprove: true })
    t.after(() => simulator.close())
    const { clientId, clientSecret } = simulator.app('acme--uat')
    const oauth2 = new jsforce.OAuth2({
      loginUrl: simulator.base('test'),
      clientId,
      clientSecret,
      redirectUri: callback,
      useVerifier: true,
    })
    const arrival = await fetch(oauth2.getAuthorizationUrl({ scope: 'api refresh_token id', state: 'x' }), {
      redirect: 'manual',
    })
    const back = new URL(arrival.headers.get('location') ?? 'about:blank')
    assert.equal(back.searchParams.get('state'), 'x', back.href)
    return { simulator, oauth2, code: back.searchParams.get('code') ?? '' }
  }

  it('signs in with its OAuth client, names the user, renews by itself and signs out', async t => {
    const { simulator, oauth2, code } = await signIn(t)
    const connection = new jsforce.Connection({ oauth2, version })
    const user = await connection.authorize(code)
    assert.match(user.id, /^005/)
    assert.match(user.organizationId, /^00D/)
    assert.equal(connection.instanceUrl, simulator.base('acme--uat'))
    assert.equal((await connection.identity()).username, 'ada@acme.com.uat')

    const renewed: string[] = []
    connection.on('refresh', (token: string) => renewed.push(token))
    simulator.control.expireAccessTokens()
    assert.equal((await connection.query('SELECT Id FROM Account LIMIT 3')).records.length, 3)
    assert.deepEqual(renewed, [connection.accessToken])

    await connection.logout(true)
    assert.equal(connection.accessToken, null)
  })

  it('is refused with a verifier that is not the one it began with', async t => {
    const { oauth2, code } = await signIn(t)
    oauth2.codeVerifier = 'another verifier, long enough to be one: 0123456789-0123456789'
    await assert.rejects(oauth2.requestToken(code), /invalid_grant|invalid code verifier/i)
  })
})
