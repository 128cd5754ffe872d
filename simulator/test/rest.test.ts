import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { ADA, byName, connect, type Json, rest, simulate, soql, text } from './support.ts'

type Page = { totalSize: number; done: boolean; nextRecordsUrl?: string; records: Record<string, unknown>[] }
const page = (json: unknown) => json as Page
const code = (json: unknown) => (json as { errorCode: string }[])[0]?.errorCode
const expired = [{ message: 'Session expired or invalid', errorCode: 'INVALID_SESSION_ID' }]

test('the version list is anonymous and uncounted; everything else needs a session of that org', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const list = await fetch(`${simulator.base('acme--uat')}/services/data`)
  const versions = (await list.json()) as Record<string, string>[]
  assert.equal(list.headers.get('sforce-limit-info'), null)
  assert.deepEqual(versions[0], { label: "Summer '14", url: '/services/data/v31.0', version: '31.0' })
  assert.deepEqual(versions.at(-1), { label: "Winter '27", url: '/services/data/v68.0', version: '68.0' })

  const { access_token } = tokens
  const table: [string, Json, number, unknown][] = [
    ['another org', { access_token, instance_url: simulator.base('acme') }, 401, expired],
    ['the login host', { access_token, instance_url: simulator.base('test') }, 401, expired],
    ['no such token', { access_token: 'x', instance_url: tokens.instance_url }, 401, expired],
  ]
  for (const [name, as, status, json] of table) {
    const answer = await rest(as, '/v60.0/limits')
    assert.deepEqual([answer.status, answer.json], [status, json], name)
    assert.equal(answer.headers.get('sforce-limit-info'), null, name)
  }
  const scheme = await rest(tokens, '/v60.0/limits', { headers: { authorization: 'Digest x' } })
  assert.deepEqual([scheme.status, code(scheme.json)], [401, 'INVALID_AUTH_HEADER'])
  const oauth = await rest(tokens, '/v60.0/limits', { headers: { authorization: `OAuth ${access_token}` } })
  assert.equal(oauth.status, 200)
})

test('answers carry usage that rises to the limit, cookies, and 403 beyond', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  simulator.control.setOrg({ org: 'acme--uat', apiUsed: 41, apiMax: 43 })
  const seen = []
  for (let i = 0; i < 3; i++) {
    const { status, json, headers } = await rest(tokens, '/v60.0/recent')
    seen.push([status, headers.get('sforce-limit-info'), status === 403 ? code(json) : null])
    assert.match(headers.getSetCookie().join(), /BrowserId=/)
  }
  assert.deepEqual(seen, [
    [200, 'api-usage=42/43', null],
    [200, 'api-usage=43/43', null],
    [403, 'api-usage=43/43', 'REQUEST_LIMIT_EXCEEDED'],
  ])
})

test('sessions slide only after half their window', async t => {
  const simulator = await simulate(t)
  const minutes = (n: number) => simulator.control.skipClock({ ms: n * 60_000 })
  const a = await connect(simulator)
  minutes(30)
  assert.equal((await rest(a, '/v60.0/limits')).status, 200)
  minutes(91)
  assert.deepEqual((await rest(a, '/v60.0/limits')).json, expired, 'a call at 0:30 does not extend two hours')
  const b = await connect(simulator)
  minutes(70)
  assert.equal((await rest(b, '/v60.0/limits')).status, 200)
  minutes(115)
  assert.equal((await rest(b, '/v60.0/limits')).status, 200, 'a call at 1:10 extends to 3:10')
  simulator.control.setApp({ clientId: simulator.app('acme--uat').clientId, sessionMinutes: 15 })
  const c = await connect(simulator)
  minutes(16)
  assert.equal((await rest(c, '/v60.0/limits')).status, 401)
})

test('missing scope and missing permission say so, and are not expiry', async t => {
  const simulator = await simulate(t)
  const noApi = await connect(simulator, { scope: 'id refresh_token' })
  const answer = await rest(noApi, '/v60.0/limits')
  assert.equal(answer.status, 401)
  assert.deepEqual(answer.json, [
    { message: 'This session is not valid for use with the REST API', errorCode: 'INVALID_SESSION_ID' },
  ])
  simulator.control.setUser({ username: ADA, apiEnabled: false })
  const disabled = await rest(await connect(simulator), '/v60.0/limits')
  assert.deepEqual([disabled.status, code(disabled.json)], [403, 'API_DISABLED_FOR_ORG'])
})

test('identity and userinfo: the person, or 403 in plain text', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const authorization = `Bearer ${tokens.access_token}`
  const id = text(tokens, 'id')
  const person = (await (await fetch(id, { headers: { authorization } })).json()) as Json
  assert.equal(person.username, ADA)
  assert.equal(person.id, id)
  assert.match(JSON.stringify(person.urls), /services\/data\/v\{version\}\/query/)
  const byParameter = await fetch(`${id}?format=json&oauth_token=${encodeURIComponent(text(tokens, 'access_token'))}`)
  assert.equal(byParameter.status, 200)
  const onInstance = await fetch(`${tokens.instance_url}${new URL(id).pathname.replace('/test', '')}`, {
    headers: { authorization },
  })
  assert.equal(onInstance.status, 200)
  const userinfo = `${tokens.instance_url}/services/oauth2/userinfo`
  const info = (await (await fetch(userinfo, { headers: { authorization } })).json()) as Json
  assert.equal(info.sub, id)
  assert.equal(info.preferred_username, ADA)

  const bad: [string, Record<string, string>, number, string][] = [
    [userinfo, { authorization: 'Bearer x' }, 403, 'Bad_OAuth_Token'],
    [id, { authorization: 'Bearer x' }, 403, 'Bad_OAuth_Token'],
    [userinfo, {}, 403, 'Missing_OAuth_Token'],
    [id.replace(/00D\w+/, '00D000000000000EAA'), { authorization }, 403, 'Wrong_Org'],
    [id.replace(/005\w+/, '005000000000000AAA'), { authorization }, 404, 'Bad_Id'],
  ]
  for (const [url, headers, status, body] of bad) {
    const answer = await fetch(url, { headers })
    assert.deepEqual([answer.status, await answer.text()], [status, body], url)
    assert.match(answer.headers.get('content-type') ?? '', /^text\/plain/)
  }
})

test('query pages by path, resumes with a locator, and honours batchSize', async t => {
  const simulator = await simulate(t, { contacts: 2347 })
  const tokens = await connect(simulator)
  const first = page((await soql(tokens, 'SELECT Id FROM Contact')).json)
  assert.deepEqual([first.totalSize, first.done, first.records.length], [2347, false, 2000])
  assert.match(first.nextRecordsUrl ?? '', /^\/services\/data\/v60\.0\/query\/01g\w{15}-2000$/, 'no org prefix')
  const next = await rest(tokens, (first.nextRecordsUrl ?? '').replace('/services/data', ''))
  assert.deepEqual([page(next.json).done, page(next.json).records.length], [true, 347])
  assert.ok(!('nextRecordsUrl' in page(next.json)))

  const ids = new Set<unknown>()
  const headers = { 'sforce-query-options': 'batchSize=500' }
  let at = page((await soql(tokens, 'SELECT Id FROM Contact ORDER BY Name', headers)).json)
  let pages = 1
  for (const r of at.records) ids.add(r.Id)
  while (at.nextRecordsUrl) {
    at = page((await rest(tokens, at.nextRecordsUrl.replace('/services/data', ''), { headers })).json)
    for (const r of at.records) ids.add(r.Id)
    pages++
  }
  assert.deepEqual([pages, ids.size], [5, 2347])
  const lost = await rest(tokens, '/v60.0/query/01g000000000000AAA-2000')
  assert.deepEqual([lost.status, code(lost.json)], [400, 'INVALID_QUERY_LOCATOR'])
})

test('records: create, read, update, upsert, delete, and their errors', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const at = '/v60.0/sobjects/Account'
  const made = await rest(tokens, at, { method: 'POST', body: { Name: 'New Ltd', NumberOfEmployees: 3 } })
  const { id } = made.json as { id: string }
  assert.deepEqual([made.status, made.json], [201, { id, success: true, errors: [] }])
  assert.equal(made.headers.get('location'), `/services/data${at}/${id}`)
  const changed = await rest(tokens, `${at}/${id}`, { method: 'PATCH', body: { Industry: 'Media' } })
  assert.deepEqual([changed.status, changed.json], [204, null])
  const read = await rest(tokens, `${at}/${id.slice(0, 15)}?fields=Name,industry`)
  assert.deepEqual(read.json, {
    attributes: { type: 'Account', url: `/services/data${at}/${id}` },
    Name: 'New Ltd',
    Industry: 'Media',
  })
  const up = (Name: string) => rest(tokens, `${at}/External_Id__c/E-1`, { method: 'PATCH', body: { Name } })
  assert.deepEqual([(await up('A')).status, (await up('B')).status], [201, 200])
  assert.equal((await rest(tokens, `${at}/${id}`, { method: 'DELETE' })).status, 204)
  assert.equal(page((await soql(tokens, `SELECT Id FROM Account WHERE Id = '${id}'`)).json).totalSize, 0)
  const all = await rest(tokens, `/v60.0/queryAll?q=${encodeURIComponent(`SELECT Id FROM Account WHERE Id = '${id}'`)}`)
  assert.equal(page(all.json).totalSize, 1)

  const bad: [string, string, unknown, number, string][] = [
    ['POST', at, {}, 400, 'REQUIRED_FIELD_MISSING'],
    ['POST', at, { Name: 'x', Nope__c: 1 }, 400, 'INVALID_FIELD'],
    ['POST', at, { Name: 'x', Id: id }, 400, 'INVALID_FIELD_FOR_INSERT_UPDATE'],
    ['POST', at, { Name: 'x', NumberOfEmployees: 'many' }, 400, 'JSON_PARSER_ERROR'],
    ['POST', at, '{not json', 400, 'JSON_PARSER_ERROR'],
    ['POST', at, '[]', 400, 'JSON_PARSER_ERROR'],
    [
      'POST',
      '/v60.0/sobjects/Contact',
      { LastName: 'x', AccountId: '001000000000000AAA' },
      400,
      'INVALID_CROSS_REFERENCE_KEY',
    ],
    ['GET', `${at}/${id}`, undefined, 404, 'ENTITY_IS_DELETED'],
    ['GET', `${at}/nonsense`, undefined, 404, 'NOT_FOUND'],
    ['GET', '/v60.0/sobjects/Nope', undefined, 404, 'NOT_FOUND'],
    ['GET', '/v60.0/nope', undefined, 404, 'NOT_FOUND'],
    ['GET', '/v99.0/limits', undefined, 404, 'NOT_FOUND'],
    ['GET', '/v30.0/limits', undefined, 410, 'UNSUPPORTED_API_VERSION'],
    ['GET', '/v60.0/sobjects/%E0%A4%A', undefined, 404, 'NOT_FOUND'],
    ['PUT', at, {}, 405, 'METHOD_NOT_ALLOWED'],
  ]
  for (const [method, path, body, status, errorCode] of bad) {
    const answer = await rest(tokens, path, { method, ...(body === undefined ? {} : { body }) })
    assert.deepEqual(
      [answer.status, code(answer.json)],
      [status, errorCode],
      `${method} ${path} ${JSON.stringify(body)}`,
    )
  }
})

test('describe, composite and collections', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const global = (await rest(tokens, '/v60.0/sobjects')).json as { maxBatchSize: number; sobjects: { name: string }[] }
  assert.equal(global.maxBatchSize, 200)
  assert.ok(global.sobjects.some(o => o.name === 'Organization'))
  const account = (await rest(tokens, '/v60.0/sobjects/account/describe')).json as { fields: { name: string }[] }
  assert.ok(account.fields.some(f => f.name === 'External_Id__c'))

  const composite = await rest(tokens, '/v60.0/composite', {
    method: 'POST',
    body: {
      compositeRequest: [
        {
          method: 'POST',
          url: '/services/data/v60.0/sobjects/Account',
          referenceId: 'a',
          body: { Name: 'C "quoted"' },
        },
        {
          method: 'POST',
          url: '/services/data/v60.0/sobjects/Contact',
          referenceId: 'c',
          body: { LastName: 'L', AccountId: '@{a.id}' },
        },
        { method: 'GET', url: '/services/data/v60.0/sobjects/Nope/1', referenceId: 'n' },
        {
          method: 'GET',
          url: "/services/data/v60.0/query?q=SELECT Account.Name FROM Contact WHERE Id='@{c.id}'",
          referenceId: 'q',
        },
      ],
    },
  })
  const { compositeResponse } = composite.json as { compositeResponse: { httpStatusCode: number; body: unknown }[] }
  assert.deepEqual(
    compositeResponse.map(r => r.httpStatusCode),
    [201, 201, 404, 200],
  )
  const found = page(compositeResponse[3]?.body).records[0] as { Account: Json }
  assert.equal(found.Account.Name, 'C "quoted"')

  const many = await rest(tokens, '/v60.0/composite/sobjects', {
    method: 'POST',
    body: { records: [{ attributes: { type: 'Account' }, Name: 'M1' }, { attributes: { type: 'Account' } }] },
  })
  assert.deepEqual(
    (many.json as { success: boolean }[]).map(r => r.success),
    [true, false],
  )
})

test('gzip both ways', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const raw = await new Promise<{ encoding: string | undefined; body: Buffer }>((resolve, reject) => {
    request(
      `${tokens.instance_url}/services/data/v60.0/limits`,
      { agent: false, headers: { authorization: `Bearer ${tokens.access_token}`, 'accept-encoding': 'gzip' } },
      response => {
        const chunks: Buffer[] = []
        response.on('data', chunk => chunks.push(chunk))
        response.on('end', () =>
          resolve({ encoding: response.headers['content-encoding'], body: Buffer.concat(chunks) }),
        )
      },
    )
      .on('error', reject)
      .end()
  })
  assert.equal(raw.encoding, 'gzip')
  assert.ok('DailyApiRequests' in JSON.parse(gunzipSync(raw.body).toString()))
})

test('URLs come back in the form they came in', async t => {
  const simulator = await simulate(t)
  const host = 'acme--uat.sandbox.my.salesforce.localhost'
  const named = JSON.parse((await byName(simulator, host, '/.well-known/openid-configuration')).body) as Json
  assert.equal(named.issuer, `http://${host}:${simulator.port}`)
  assert.equal(simulator.base('acme--uat', 'name'), named.issuer)
  const unknown = await byName(simulator, 'nobody.my.salesforce.localhost', '/services/data')
  assert.equal(unknown.status, 420)
  const front = await byName(simulator, '127.0.0.1', '/')
  assert.match(front.body, /acme--uat\.sandbox\.my\.salesforce\.localhost/)
})

test('a moved org: new instance_url from the next token response, the old host 301 or 420', async t => {
  const simulator = await simulate(t)
  const old = simulator.base('acme--uat')
  const tokens = await connect(simulator)
  simulator.control.moveOrg({ org: 'acme--uat', domain: 'apex--uat' })
  const away = await fetch(`${old}/services/data/v60.0/limits?x=1`, { redirect: 'manual' })
  assert.equal(away.status, 301)
  assert.equal(away.headers.get('location'), `${simulator.url}/apex--uat/services/data/v60.0/limits?x=1`)
  const again = await fetch(`${old}/services/oauth2/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: text(tokens, 'refresh_token'),
      client_id: simulator.app('acme--uat').clientId,
      client_secret: simulator.app('acme--uat').clientSecret,
    }),
  })
  const fresh = (await again.json()) as Json
  assert.equal(fresh.instance_url, `${simulator.url}/apex--uat`)
  assert.equal((await rest(fresh, '/v60.0/limits')).status, 200)
  simulator.control.moveOrg({ org: 'acme--uat', domain: 'third--uat', answer: 'gone', oldOAuth: false })
  const gone = await fetch(`${simulator.url}/apex--uat/services/oauth2/token`, { method: 'POST' })
  assert.equal(gone.status, 420)
})
