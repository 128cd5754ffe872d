import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BadCsv, readCsv, writeCsv } from '../src/csv.ts'
import { connect, type Json, simulate, text } from './support.ts'

type Job = Record<string, unknown> & { id: string; state: string }

/** `/jobs/…` of an org, with whatever comes back. */
async function jobs(
  tokens: Json,
  path: string,
  init: { method?: string; json?: object; csv?: string } = {},
): Promise<{ status: number; body: string; json: () => Job; headers: Headers }> {
  const response = await fetch(`${text(tokens, 'instance_url')}/services/data/v66.0/jobs${path}`, {
    method: init.method ?? (init.json ? 'POST' : 'GET'),
    headers: {
      authorization: `Bearer ${text(tokens, 'access_token')}`,
      ...(init.json ? { 'content-type': 'application/json' } : {}),
      ...(init.csv === undefined ? {} : { 'content-type': 'text/csv' }),
    },
    ...(init.json ? { body: JSON.stringify(init.json) } : init.csv === undefined ? {} : { body: init.csv }),
  })
  const body = await response.text()
  return { status: response.status, body, json: () => JSON.parse(body) as Job, headers: response.headers }
}

async function finished(tokens: Json, path: string): Promise<Job> {
  const seen: string[] = []
  for (;;) {
    const job = (await jobs(tokens, path)).json()
    seen.push(job.state)
    if (!['UploadComplete', 'InProgress'].includes(job.state)) return { ...job, seen }
    assert.ok(seen.length < 5, `stuck: ${seen}`)
  }
}

async function ingest(tokens: Json, options: object, csv: string): Promise<{ id: string; job: Job }> {
  const { id } = (await jobs(tokens, '/ingest', { json: { contentType: 'CSV', ...options } })).json()
  assert.equal((await jobs(tokens, `/ingest/${id}/batches`, { method: 'PUT', csv })).status, 201)
  await jobs(tokens, `/ingest/${id}`, { method: 'PATCH', json: { state: 'UploadComplete' } })
  return { id, job: await finished(tokens, `/ingest/${id}`) }
}

test('ingest: a failed row is reported and stops no other', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const opened = (
    await jobs(tokens, '/ingest', { json: { object: 'Account', operation: 'insert', lineEnding: 'CRLF' } })
  ).json()
  assert.match(opened.id, /^750\w{15}$/)
  assert.deepEqual(
    [opened.state, opened.contentUrl, opened.apiVersion],
    ['Open', `services/data/v66.0/jobs/ingest/${opened.id}/batches`, 66],
  )
  const path = `/ingest/${opened.id}`
  const csv =
    'Name,AnnualRevenue,NumberOfEmployees\r\n"Quoted ""Q"", Inc.\nSecond line",1.5,3\r\n,2,4\r\nPlain,many,5\r\n'
  assert.equal((await jobs(tokens, `${path}/batches`, { method: 'PUT', csv })).status, 201)
  // One upload a job, and only while it is open.
  assert.equal((await jobs(tokens, `${path}/batches`, { method: 'PUT', csv })).status, 400)
  assert.equal(
    (await jobs(tokens, path, { method: 'PATCH', json: { state: 'UploadComplete' } })).json().state,
    'UploadComplete',
  )
  assert.equal((await jobs(tokens, `${path}/batches`, { method: 'PUT', csv })).status, 400)
  const done = await finished(tokens, path)
  assert.deepEqual(done.seen, ['InProgress', 'JobComplete'])
  assert.deepEqual([done.numberRecordsProcessed, done.numberRecordsFailed], [3, 2])

  const successful = readCsv((await jobs(tokens, `${path}/successfulResults`)).body, ',')
  assert.deepEqual(successful[0], ['sf__Id', 'sf__Created', 'Name', 'AnnualRevenue', 'NumberOfEmployees'])
  assert.deepEqual(successful.length, 2)
  assert.match(successful[1]?.[0] ?? '', /^001/)
  assert.deepEqual(successful[1]?.slice(1), ['true', 'Quoted "Q", Inc.\nSecond line', '1.5', '3'])
  const failed = readCsv((await jobs(tokens, `${path}/failedResults`)).body, ',')
  assert.deepEqual(
    failed.slice(1).map(([, error]) => error?.split(':')[0]),
    ['REQUIRED_FIELD_MISSING', 'JSON_PARSER_ERROR'],
  )
  assert.equal(readCsv((await jobs(tokens, `${path}/unprocessedrecords`)).body, ',').length, 1)

  assert.equal((await jobs(tokens, path, { method: 'DELETE' })).status, 204)
  assert.equal((await jobs(tokens, path)).status, 404)
})

test('update, upsert and delete in bulk; an empty cell leaves a field alone and #N/A empties it', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const upserted = await ingest(
    tokens,
    { object: 'Account', operation: 'upsert', externalIdFieldName: 'External_Id__c' },
    'External_Id__c,Name,Phone\nACC-1,Edge Renamed,\nNEW-1,Brand New,123\n',
  )
  const rows = readCsv((await jobs(tokens, `/ingest/${upserted.id}/successfulResults`)).body, ',').slice(1)
  assert.deepEqual(
    rows.map(row => row[1]),
    ['false', 'true'],
  )
  const [first, second] = rows.map(row => row[0] ?? '')
  await ingest(tokens, { object: 'Account', operation: 'update' }, `Id,Phone\n${second},#N/A\n`)
  const read = async (id = '') => {
    const url = `${text(tokens, 'instance_url')}/services/data/v66.0/sobjects/Account/${id}?fields=Name,Phone`
    return await (await fetch(url, { headers: { authorization: `Bearer ${text(tokens, 'access_token')}` } })).json()
  }
  const { Name, Phone } = (await read(first)) as Json
  assert.deepEqual([Name, Phone], ['Edge Renamed', '(512) 555-0100'])
  assert.equal(((await read(second)) as Json).Phone, null)
  const { job } = await ingest(
    tokens,
    { object: 'Account', operation: 'delete' },
    `Id\n${second}\n001000000000000AAA\n`,
  )
  assert.deepEqual([job.numberRecordsProcessed, job.numberRecordsFailed], [2, 1])
})

test('query in bulk: pages by locator, and the last says null', async t => {
  const simulator = await simulate(t, { contacts: 7 })
  const tokens = await connect(simulator)
  const made = (
    await jobs(tokens, '/query', {
      json: { operation: 'query', query: 'SELECT Id, Account.Name, Title FROM Contact ORDER BY External_Id__c' },
    })
  ).json()
  const path = `/query/${made.id}`
  assert.equal((await jobs(tokens, `${path}/results`)).status, 404, 'not before it is complete')
  const done = await finished(tokens, path)
  assert.deepEqual([done.state, done.numberRecordsProcessed], ['JobComplete', 7])
  const found: string[][] = []
  let locator: string | null = ''
  for (let pages = 0; locator !== 'null'; pages++) {
    assert.ok(pages < 3)
    const page = await jobs(tokens, `${path}/results?maxRecords=3${locator ? `&locator=${locator}` : ''}`)
    const [header, ...rows] = readCsv(page.body, ',')
    assert.deepEqual(header, ['Id', 'Account.Name', 'Title'])
    assert.equal(page.headers.get('sforce-numberofrecords'), String(rows.length))
    found.push(...rows)
    locator = page.headers.get('sforce-locator')
    assert.ok(locator)
  }
  assert.equal(new Set(found.map(row => row[0])).size, 7)
  assert.equal(found[0]?.[1], 'Edge Communications')
})

test('what is refused, in bulk', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const table: [string, object, number, RegExp][] = [
    ['/ingest', { object: 'Nonsense', operation: 'insert' }, 404, /NOT_FOUND/],
    ['/ingest', { object: 'Account', operation: 'explode' }, 400, /INVALIDJOB/],
    ['/ingest', { object: 'Account', operation: 'upsert' }, 400, /externalIdFieldName/],
    ['/ingest', { object: 'Account', operation: 'insert', contentType: 'JSON' }, 400, /INVALIDJOB/],
    ['/query', { operation: 'query', query: 'SELECT Nope FROM Account' }, 400, /INVALID_FIELD/],
    ['/query', { operation: 'query', query: 'SELECT COUNT() FROM Account' }, 400, /API_ERROR/],
  ]
  for (const [path, json, status, body] of table) {
    const answer = await jobs(tokens, path, { json })
    assert.equal(answer.status, status, JSON.stringify(json))
    assert.match(answer.body, body)
  }
  // A file that is no table fails the job and stores nothing.
  const before = simulator.control.state().orgs.find(org => org.key === 'acme--uat')?.records.Account
  for (const csv of ['Name\n"never closed', 'Nmae\nX\n']) {
    const { job } = await ingest(tokens, { object: 'Account', operation: 'insert' }, csv)
    assert.deepEqual([job.state, /^InvalidBatch/.test(String(job.errorMessage))], ['Failed', true], csv)
  }
  assert.equal(simulator.control.state().orgs.find(org => org.key === 'acme--uat')?.records.Account, before)
  // A job of one org is nothing to another.
  const production = simulator.control.issueTokens({ username: 'ada@acme.com' }) as Json
  const { id } = (await jobs(tokens, '/ingest', { json: { object: 'Account', operation: 'insert' } })).json()
  assert.equal((await jobs(production, `/ingest/${id}`)).status, 404)
  const aborted = await jobs(tokens, `/ingest/${id}`, { method: 'PATCH', json: { state: 'Aborted' } })
  assert.equal(aborted.json().state, 'Aborted')
})

test('a path without an org means the org of the token, and nobody else’s', async t => {
  const simulator = await simulate(t)
  const tokens = await connect(simulator)
  const ask = (token: string) =>
    fetch(`${simulator.url}/services/data/v66.0/limits`, { headers: { authorization: `Bearer ${token}` } })
  assert.equal((await ask(text(tokens, 'access_token'))).status, 200)
  assert.equal((await ask('no-such-token')).status, 404)
  assert.equal((await fetch(`${simulator.url}/services/data/v66.0/limits`)).status, 404)
})

test('CSV, read and written', () => {
  const table: [string, string[][]][] = [
    [
      'a,b\n1,2\n',
      [
        ['a', 'b'],
        ['1', '2'],
      ],
    ],
    [
      'a,b\r\n1,2',
      [
        ['a', 'b'],
        ['1', '2'],
      ],
    ],
    ['\uFEFFa\n\n\n"x ""y"""\n', [['a'], ['x "y"']]],
    ['a\n""\nb', [['a'], [''], ['b']]],
    [
      'a,\n,b\n',
      [
        ['a', ''],
        ['', 'b'],
      ],
    ],
    ['"multi\nline","c,d"', [['multi\nline', 'c,d']]],
    ['', []],
  ]
  for (const [source, rows] of table) {
    assert.deepEqual(readCsv(source, ','), rows, JSON.stringify(source))
    assert.deepEqual(readCsv(writeCsv(rows, '|', '\r\n'), '|'), rows)
  }
  for (const bad of ['"open', '"a"b']) assert.throws(() => readCsv(bad, ','), BadCsv)
})
