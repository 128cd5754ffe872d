/**
 * Salesforce's own two libraries, unmodified, `jsforce` and `@salesforce/core`: each logs in against Salesforce itself and drives an org
 * through Fairlead with nothing but a base URL and our key. One list of what they do (queries, pages, records, composites, Bulk 2.0 both
 * ways) is run with both. Salesforce is the simulator, unless SF_* variables name a real org:
 *
 *   SF_LOGIN_URL      its My Domain, https://acme--uat.sandbox.my.salesforce.com
 *   SF_CLIENT_ID, SF_CLIENT_SECRET    of its External Client App
 *   SF_REFRESH_TOKEN  of a user of it, for this test alone: where tokens rotate, it is used up here
 *
 * What it makes in the org, accounts called "Fairlead conformance …", it deletes.
 */
import assert from 'node:assert/strict'
import dns from 'node:dns'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { startSimulator } from '@fairlead/salesforce-simulator'
import jsforce from 'jsforce'
import { type Fairlead, startFairlead } from '../../server/test/support/fairlead.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'

const key = 'salesforce-sandbox'
const version = '64.0'
const prefix = `Fairlead conformance ${Date.now()}`

interface Org {
  loginUrl: string
  clientId: string
  clientSecret: string
  refreshToken: string
  /** On loopback, which a definition has to be opened for. */
  isSimulated: boolean
}

describe('Salesforce’s own libraries', () => {
  let org: Org
  let fairlead: Fairlead
  /** With a slash at its end: Bulk 2.0 is resolved against it. */
  let via: string
  let core: typeof import('@salesforce/core')
  const ends = lastFirst({ after })

  before(async () => {
    org = realOrg() ?? (await simulated())
    // As CI does it: no keychain, no log file, nothing of the developer's own home.
    const home = await mkdtemp(join(tmpdir(), 'fairlead-sfdx-'))
    ends.after(() => rm(home, { recursive: true, force: true }))
    Object.assign(process.env, {
      ...{
        HOME: home,
        SF_DISABLE_LOG_FILE: 'true',
        SF_USE_GENERIC_UNIX_KEYCHAIN: 'true',
        SF_DISABLE_DNS_CHECK: 'true',
      },
      ...{ SF_DISABLE_TELEMETRY: 'true' },
    })
    core = await import('@salesforce/core')
  })

  function realOrg(): Org | undefined {
    const { SF_LOGIN_URL, SF_CLIENT_ID, SF_CLIENT_SECRET, SF_REFRESH_TOKEN } = process.env
    if (!SF_LOGIN_URL) return undefined
    assert.ok(SF_CLIENT_ID && SF_CLIENT_SECRET && SF_REFRESH_TOKEN, 'with SF_LOGIN_URL the other SF_* are needed')
    return {
      ...{ loginUrl: SF_LOGIN_URL, clientId: SF_CLIENT_ID, clientSecret: SF_CLIENT_SECRET },
      ...{ refreshToken: SF_REFRESH_TOKEN, isSimulated: false },
    }
  }

  async function simulated(): Promise<Org> {
    const simulator = await startSimulator({ contacts: 2347 })
    ends.after(() => simulator.close())
    const { clientId, clientSecret } = simulator.app('acme--uat')
    const { refresh_token: refreshToken } = simulator.control.issueTokens({ username: 'ada@acme.com.uat', clientId })
    // `@salesforce/core` writes paths behind a host alone, so the org is reached by name; Debian's resolver has no *.localhost (RFC 6761).
    const { port } = new URL(simulator.base('acme--uat'))
    const loginUrl = `http://acme--uat.sandbox.my.salesforce.localhost:${port}`
    const { lookup } = dns
    dns.lookup = Object.assign(
      (name: string, ...rest: unknown[]) =>
        Reflect.apply(lookup, dns, [name.endsWith('.localhost') ? '127.0.0.1' : name, ...rest]),
      lookup,
    ) as typeof lookup
    ends.after(async () => {
      dns.lookup = lookup
    })
    return { clientId, clientSecret, loginUrl, refreshToken: String(refreshToken), isSimulated: true }
  }

  /** Imported: where tokens rotate, the grant is Fairlead's from here on. */
  async function throughFairlead(refreshToken: string, instanceUrl: string, accessToken: string): Promise<void> {
    const overlay = `${key}:
  authorization_url: ${org.loginUrl}/services/oauth2/authorize
  token_url: ${org.loginUrl}/services/oauth2/token
  allowed_hosts: ['*.salesforce.localhost']
`
    fairlead = await startFairlead(ends, org.isSimulated ? { providers: overlay } : {})
    const client = { type: 'OAUTH2', client_id: org.clientId, client_secret: org.clientSecret }
    await fairlead.call('POST', '/integrations', { provider: key, unique_key: key, credentials: client })
    const made = await fairlead.call('POST', '/connections', {
      provider_config_key: key,
      credentials: { type: 'OAUTH2', access_token: accessToken, refresh_token: refreshToken },
      connection_config: { instance_url: instanceUrl },
    })
    assert.equal(made.status, 201, made.text)
    via = `${fairlead.url}/via/${key}/${made.json.connection_id}/`
  }

  it('log in: @salesforce/core with a refresh token, jsforce with what came of it', async () => {
    const { loginUrl, clientId, clientSecret } = org
    const info = await core.AuthInfo.create({
      oauth2Options: { loginUrl, clientId, clientSecret, refreshToken: org.refreshToken },
    })
    const { username, orgId, instanceUrl, accessToken, refreshToken } = info.getFields(true)
    assert.match(username ?? '', /@/)
    assert.match(orgId ?? '', /^00D/)
    const connection = await core.Connection.create({ authInfo: info })
    const { records } = await connection.query<{ Id: string }>('SELECT Id FROM Organization')
    assert.equal(records[0]?.Id.slice(0, 15), orgId?.slice(0, 15))

    const oauth2 = new jsforce.OAuth2({ loginUrl, clientId, clientSecret })
    const direct = new jsforce.Connection({ oauth2, instanceUrl: instanceUrl!, accessToken: accessToken!, version })
    const { records: seen } = await direct.query<{ Id: string }>('SELECT Id FROM Organization')
    assert.deepEqual(
      seen.map(({ Id }) => Id),
      records.map(({ Id }) => Id),
    )
    const made = await direct.bulk2.loadAndWaitForResults({
      ...{ object: 'Account', operation: 'insert', input: [{ Name: `${prefix} direct` }] },
      ...patience(),
    })
    assert.equal(made.successfulResults.length, 1)
    assert.ok((await direct.sobject('Account').destroy(made.successfulResults[0]!.sf__Id)).success)
    await throughFairlead(refreshToken ?? org.refreshToken, instanceUrl!, accessToken!)
  })

  /** `@salesforce/core` extends a fork of jsforce with the same members. */
  const libraries: [name: string, open: () => Promise<jsforce.Connection>][] = [
    ['jsforce', async () => new jsforce.Connection({ instanceUrl: via, accessToken: fairlead.key, version })],
    [
      '@salesforce/core',
      async () => {
        const username = 'through@fairlead.example'
        const authInfo = await core.AuthInfo.create({
          username,
          accessTokenOptions: { instanceUrl: via, loginUrl: via, accessToken: fairlead.key },
        })
        const connection = await core.Connection.create({ authInfo, connectionOptions: { version } })
        return connection as unknown as jsforce.Connection
      },
    ],
  ]
  for (const [name, open] of libraries)
    describe(`${name} through Fairlead`, () => {
      let connection: jsforce.Connection

      before(async () => {
        connection = await open()
      })

      it('queries, and pages through more rows than one answer holds', async () => {
        const { records } = await connection.query<{ Id: string }>('SELECT Id, Name FROM Organization')
        assert.match(records[0]?.Id ?? '', /^00D/)
        const first = await connection.query('SELECT Id FROM Contact')
        let read = first.records.length
        for (let page = first; !page.done; read += page.records.length)
          page = await connection.queryMore(page.nextRecordsUrl!)
        assert.equal(read, first.totalSize)
        if (org.isSimulated) assert.deepEqual([first.records.length, read], [2000, 2347])
      })

      it('creates, reads, changes and deletes a record', async () => {
        const accounts = connection.sobject('Account')
        const made = await accounts.create({ Name: `${prefix} ä` })
        assert.ok(made.success)
        assert.equal((await accounts.retrieve(made.id)).Name, `${prefix} ä`)
        assert.ok((await accounts.update({ Id: made.id, Industry: 'Shipping' })).success)
        assert.equal((await accounts.retrieve(made.id)).Industry, 'Shipping')
        assert.ok((await accounts.destroy(made.id)).success)
        await assert.rejects(accounts.retrieve(made.id), /NOT_FOUND|deleted|not found|exist/i)
      })

      it('sends a composite, in which one part refers to another', async () => {
        const url = (path: string) => `/services/data/v${version}/${path}`
        const answer = await connection.request<{ compositeResponse: { httpStatusCode: number; body: unknown }[] }>({
          method: 'POST',
          url: url('composite'),
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({
            allOrNone: true,
            compositeRequest: [
              { method: 'POST', url: url('sobjects/Account'), referenceId: 'made', body: { Name: prefix } },
              { method: 'GET', url: url('sobjects/Account/@{made.id}?fields=Name'), referenceId: 'read' },
              { method: 'DELETE', url: url('sobjects/Account/@{made.id}'), referenceId: 'gone' },
            ],
          }),
        })
        assert.deepEqual(
          answer.compositeResponse.map(({ httpStatusCode }) => httpStatusCode),
          [201, 200, 204],
        )
        assert.equal((answer.compositeResponse[1]!.body as { Name: string }).Name, prefix)
      })

      it('loads and reads in bulk (Bulk API 2.0)', async () => {
        const rows = ['one', 'two', 'three, with a comma', 'four "quoted"'].map(one => `${prefix} ${one}`)
        const cells = rows.map(name => `"${name.replaceAll('"', '""')}"`)
        assert.equal((await ingest(connection, 'insert', ['Name', ...cells])).numberRecordsFailed, 0)

        Object.assign(connection.bulk2, patience())
        const stream = await connection.bulk2.query(`SELECT Id, Name FROM Account WHERE Name LIKE '${prefix}%'`)
        const found = (await stream.toArray()) as { Id: string; Name: string }[]
        assert.deepEqual(found.map(({ Name }) => Name).sort(), rows.toSorted())

        const gone = await ingest(connection, 'delete', ['Id', ...found.map(({ Id }) => Id)])
        assert.deepEqual([gone.numberRecordsProcessed, gone.numberRecordsFailed], [rows.length, 0])
      })

      it('cannot load by its own helper: that one writes its path behind the host, whatever base URL it was given', async () => {
        // jsforce 3.10.26, IngestJobV2.createIngestRequest: new URL('/services/data/…', instanceUrl). When this fails, use the helper above.
        const load = connection.bulk2.loadAndWaitForResults({
          ...{ object: 'Account', operation: 'insert', input: [{ Name: prefix }] },
          ...patience(),
        })
        await assert.rejects(load, /not_found/)
      })
    })

  const patience = () => ({ pollInterval: org.isSimulated ? 10 : 2000, pollTimeout: 120_000 })

  interface Job {
    id: string
    state: string
    numberRecordsProcessed: number
    numberRecordsFailed: number
  }

  /** The four requests of an ingest job, by the library's own `request`. */
  async function ingest(connection: jsforce.Connection, operation: 'insert' | 'delete', lines: string[]): Promise<Job> {
    const jobs = `/services/data/v${version}/jobs/ingest`
    const send = (method: 'POST' | 'PUT' | 'PATCH' | 'GET', path: string, body?: string, type = 'application/json') =>
      connection.request<Job>({
        ...{ method, url: `${jobs}${path}` },
        ...(body !== undefined && { body, headers: { 'content-type': type } }),
      })
    const { id } = await send('POST', '', JSON.stringify({ object: 'Account', operation, lineEnding: 'LF' }))
    await send('PUT', `/${id}/batches`, `${lines.join('\n')}\n`, 'text/csv')
    await send('PATCH', `/${id}`, JSON.stringify({ state: 'UploadComplete' }))
    const { pollInterval, pollTimeout } = patience()
    for (let waited = 0; waited < pollTimeout; waited += pollInterval) {
      const job = await send('GET', `/${id}`)
      if (/JobComplete|Failed|Aborted/.test(job.state)) return job
      await new Promise(resolve => setTimeout(resolve, pollInterval))
    }
    throw new Error(`job ${id} does not end`)
  }
})
