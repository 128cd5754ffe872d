// Bulk API 2.0, /services/data/vNN.0/jobs:
//   POST jobs/ingest · PUT jobs/ingest/{id}/batches · PATCH, GET, DELETE jobs/ingest/{id}
//   GET jobs/ingest/{id}/successfulResults, failedResults, unprocessedrecords
//   POST jobs/query · PATCH, GET, DELETE jobs/query/{id} · GET jobs/query/{id}/results
// Salesforce works through a job in its own time. Here each question about a job moves it one state on, so a client has
// to poll as it would there and no test has to wait (fact sheet §6.4).

import { BadCsv, DELIMITERS, type Delimiter, LINE_ENDINGS, type LineEnding, readCsv, writeCsv } from './csv.ts'
import type { Reply } from './http.ts'
import { restError } from './http.ts'
import { createRow, deleteRow, RecordError, sourceOf, tableOf, updateRow } from './records.ts'
import { type Handlers, notFound, objectOf, ok, type Request, typeNamed } from './resource.ts'
import { type Field, fieldOf, isNumeric, type ObjectType } from './schema.ts'
import { project, runSoql } from './soql.ts'
import type { Job, JobState } from './world.ts'
import { nextId, now, salesforceTime } from './world.ts'

const OPERATIONS = {
  ingest: ['insert', 'update', 'upsert', 'delete', 'hardDelete'],
  query: ['query', 'queryAll'],
} as const

export function jobHandlers({ segments }: Request): Handlers | undefined {
  const [, kind, id, part] = segments
  if ((kind !== 'ingest' && kind !== 'query') || segments.length > 4) return undefined
  if (id === undefined) return { GET: list, POST: kind === 'ingest' ? openIngest : openQuery }
  if (part === undefined) return { GET: look, PATCH: setState, DELETE: remove }
  if (kind === 'query') return part === 'results' ? { GET: queryResults } : undefined
  switch (part) {
    case 'batches':
      return { PUT: upload }
    case 'successfulResults':
      return { GET: request => results(request, job => job.successful) }
    case 'failedResults':
      return { GET: request => results(request, job => job.failed) }
    case 'unprocessedrecords':
      return { GET: request => results(request, job => job.unprocessed) }
    default:
      return undefined
  }
}

const invalid = (code: string, message: string) => new RecordError(400, code, message)

function oneOf<Name extends string>(value: unknown, allowed: readonly Name[], what: string, otherwise?: Name): Name {
  if (value === undefined && otherwise !== undefined) return otherwise
  const found = allowed.find(name => name === value)
  if (found === undefined) throw invalid('INVALIDJOB', `${String(value)} is not a valid ${what}`)
  return found
}

function newJob(request: Request, body: Record<string, unknown>): Job {
  const { world, org, session } = request
  const kind = request.segments[1] === 'query' ? 'query' : 'ingest'
  if (body.contentType !== undefined && body.contentType !== 'CSV') {
    throw invalid('INVALIDJOB', `Unsupported content type: ${String(body.contentType)}`)
  }
  const at = salesforceTime(now(world))
  const job: Job = {
    id: nextId(world, '750'),
    org: org.key,
    kind,
    operation: oneOf(body.operation, OPERATIONS[kind], 'operation'),
    object: '',
    externalIdFieldName: null,
    columnDelimiter: oneOf(body.columnDelimiter, Object.keys(DELIMITERS) as Delimiter[], 'column delimiter', 'COMMA'),
    lineEnding: oneOf(body.lineEnding, Object.keys(LINE_ENDINGS) as LineEnding[], 'line ending', 'LF'),
    state: kind === 'ingest' ? 'Open' : 'UploadComplete',
    createdById: session.user.id,
    createdDate: at,
    systemModstamp: at,
    apiVersion: Number(request.version),
    content: null,
    errorMessage: null,
    successful: [],
    failed: [],
    unprocessed: [],
  }
  world.jobs.set(job.id, job)
  return job
}

function openIngest(request: Request): Reply {
  const body = objectOf(request)
  const type = typeNamed(String(body.object ?? ''))
  const operation = oneOf(body.operation, OPERATIONS.ingest, 'operation')
  let externalId: Field | undefined
  if (operation === 'upsert') {
    externalId = fieldOf(type, String(body.externalIdFieldName ?? ''))
    if (!externalId || !(externalId.externalId || externalId.type === 'id')) {
      throw invalid('INVALIDJOB', 'externalIdFieldName must name an external id field of the object')
    }
  }
  const job = newJob(request, body)
  job.object = type.name
  job.externalIdFieldName = externalId?.name ?? null
  return ok(view(request, job))
}

function openQuery(request: Request): Reply {
  const body = objectOf(request)
  const operation = oneOf(body.operation, OPERATIONS.query, 'operation')
  // A query that does not parse is refused here, as Salesforce does; its rows are those of this moment.
  const source = sourceOf(request.world, request.org, operation === 'queryAll')
  const result = runSoql(String(body.query ?? ''), source)
  if (result.kind !== 'rows') throw invalid('API_ERROR', 'Aggregate queries are not supported by Bulk API 2.0')
  const job = newJob(request, body)
  job.object = result.type.name
  job.successful = [
    result.paths,
    ...result.rows.map(row => {
      const record = project(result.type, row, result.paths, request.version, source)
      return result.paths.map(path => cellOf(record, path))
    }),
  ]
  return ok(view(request, job))
}

/** `Account.Name` reads through the nested record. */
function cellOf(record: unknown, path: string): string {
  let value = record
  for (const step of path.split('.')) value = (value as Record<string, unknown> | null | undefined)?.[step]
  return value === null || value === undefined ? '' : String(value)
}

function view({ version }: Request, job: Job) {
  const { id, kind, operation, object, createdById, createdDate, systemModstamp, state, lineEnding, columnDelimiter } =
    job
  const done = job.kind === 'query' ? Math.max(0, job.successful.length - 1) : rowsIn(job.successful)
  const failed = rowsIn(job.failed)
  const finished = state === 'JobComplete' || state === 'Failed'
  return {
    id,
    operation,
    object,
    createdById,
    createdDate,
    systemModstamp,
    state,
    concurrencyMode: 'Parallel',
    contentType: 'CSV',
    apiVersion: job.apiVersion,
    jobType: kind === 'query' ? 'V2Query' : 'V2Ingest',
    lineEnding,
    columnDelimiter,
    ...(job.externalIdFieldName === null ? {} : { externalIdFieldName: job.externalIdFieldName }),
    ...(kind === 'ingest' && state === 'Open'
      ? { contentUrl: `services/data/v${version}/jobs/ingest/${id}/batches` }
      : {}),
    ...(finished
      ? {
          numberRecordsProcessed: done + failed,
          ...(kind === 'ingest' ? { numberRecordsFailed: failed, apexProcessingTime: 0 } : {}),
          retries: 0,
          totalProcessingTime: 1,
        }
      : {}),
    ...(job.errorMessage === null ? {} : { errorMessage: job.errorMessage }),
  }
}

/** The first row is the header. */
const rowsIn = (rows: string[][]) => Math.max(0, rows.length - 1)

const jobsHere = (request: Request): Job[] =>
  [...request.world.jobs.values()].filter(job => job.org === request.org.key && job.kind === request.segments[1])

function jobOf(request: Request): Job {
  const job = jobsHere(request).find(({ id }) => id.slice(0, 15) === request.segments[2]?.slice(0, 15))
  if (!job) throw new RecordError(404, 'NOT_FOUND', 'The requested resource does not exist')
  return job
}

function list(request: Request): Reply {
  return ok({
    done: true,
    nextRecordsUrl: null,
    records: jobsHere(request).map(job => view(request, job)),
  })
}

/** A question moves the job on: UploadComplete, InProgress, JobComplete or Failed. */
function look(request: Request): Reply {
  const job = jobOf(request)
  const next: Partial<Record<JobState, JobState>> = { UploadComplete: 'InProgress', InProgress: 'JobComplete' }
  const to = next[job.state]
  if (to) {
    job.state = to
    job.systemModstamp = salesforceTime(now(request.world))
    if (to === 'JobComplete' && job.kind === 'ingest') work(request, job)
  }
  return ok(view(request, job))
}

function upload(request: Request): Reply {
  const job = jobOf(request)
  if (!/^text\/csv\b/i.test(request.headers['content-type'] ?? '')) {
    return restError(415, 'UNSUPPORTED_MEDIA_TYPE', 'The content type of a batch must be text/csv')
  }
  if (job.state !== 'Open' || job.content !== null) {
    throw invalid('INVALIDJOBSTATE', `Uploading data isn't allowed when the job is in the ${job.state} state`)
  }
  job.content = request.raw.toString('utf8')
  return { status: 201 }
}

function setState(request: Request): Reply {
  const job = jobOf(request)
  const state = oneOf(objectOf(request).state, ['UploadComplete', 'Aborted'] as const, 'job state')
  const allowed = state === 'UploadComplete' ? job.state === 'Open' : !['JobComplete', 'Failed'].includes(job.state)
  if (!allowed) throw invalid('INVALIDJOBSTATE', `Transition from ${job.state} to ${state} isn't allowed`)
  job.state = state
  return ok(view(request, job))
}

function remove(request: Request): Reply {
  const job = jobOf(request)
  if (job.state === 'UploadComplete' || job.state === 'InProgress') {
    throw invalid('INVALIDJOBSTATE', `A job in the ${job.state} state can't be deleted`)
  }
  request.world.jobs.delete(job.id)
  return { status: 204 }
}

// ── Ingest ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Row by row: one that fails is reported and stops no other. */
function work(request: Request, job: Job): void {
  try {
    ingest(request, job, readCsv(job.content ?? '', DELIMITERS[job.columnDelimiter]))
  } catch (error) {
    if (!(error instanceof BadCsv)) throw error
    job.state = 'Failed'
    job.errorMessage = `InvalidBatch : ${error.message}`
  }
}

function ingest(request: Request, job: Job, rows: string[][]): void {
  const [header = [], ...records] = rows
  const type = typeNamed(job.object)
  const unknown = header.find(name => !fieldOf(type, name))
  if (unknown !== undefined) throw new BadCsv(`Field name not found : ${unknown}`)
  job.successful = [['sf__Id', 'sf__Created', ...header]]
  job.failed = [['sf__Id', 'sf__Error', ...header]]
  job.unprocessed = [header]
  for (const cells of records) {
    try {
      if (cells.length !== header.length) throw new RecordError(400, 'INVALID_CSV', 'wrong number of columns')
      const { id, created } = perform(request, job, type, header, cells)
      job.successful.push([id, String(created), ...cells])
    } catch (error) {
      if (!(error instanceof RecordError)) throw error
      const fields = error.fields.join(', ')
      job.failed.push(['', `${error.code}:${error.message}:${fields} --`, ...cells])
    }
  }
}

function perform(request: Request, job: Job, type: ObjectType, header: string[], cells: string[]) {
  const { world, org, session } = request
  const record: Record<string, unknown> = {}
  for (const [i, name] of header.entries()) {
    const field = fieldOf(type, name)
    const cell = cells[i] ?? ''
    // Bulk leaves a field alone where the cell is empty, and empties it where it says #N/A.
    if (field && cell !== '') record[field.name] = valueIn(field, cell)
  }
  const { Id, ...rest } = record
  switch (job.operation) {
    case 'insert':
      return { id: String(createRow(world, org, type, rest, session.user).Id), created: true }
    case 'upsert': {
      const key = job.externalIdFieldName ?? 'Id'
      const row = [...tableOf(org, type).values()].find(r => r.IsDeleted !== true && r[key] === record[key])
      if (!row) return { id: String(createRow(world, org, type, rest, session.user).Id), created: true }
      updateRow(world, org, type, String(row.Id), rest, session.user)
      return { id: String(row.Id), created: false }
    }
    case 'update':
      updateRow(world, org, type, String(Id ?? ''), rest, session.user)
      return { id: String(Id), created: false }
    default:
      deleteRow(world, org, type, String(Id ?? ''))
      return { id: String(Id), created: false }
  }
}

function valueIn(field: Field, cell: string): unknown {
  if (cell === '#N/A') return null
  if (isNumeric(field.type)) return Number(cell)
  if (field.type === 'boolean') return /^(true|1)$/i.test(cell)
  return cell
}

// ── Results ─────────────────────────────────────────────────────────────────────────────────────────────────────

const csv = (job: Job, rows: string[][], headers: Record<string, string> = {}): Reply => ({
  status: 200,
  text: writeCsv(rows, DELIMITERS[job.columnDelimiter], LINE_ENDINGS[job.lineEnding]),
  type: 'text/csv',
  headers,
})

function results(request: Request, rowsOf: (job: Job) => string[][]): Reply {
  const job = jobOf(request)
  return csv(job, rowsOf(job))
}

/** `Sforce-Locator` leads to the next page and is the word `null` after the last. */
function queryResults(request: Request): Reply {
  const job = jobOf(request)
  if (job.state !== 'JobComplete') return notFound()
  const locator = request.query.get('locator')
  const from = locator === null ? 0 : Number(Buffer.from(locator, 'base64url').toString())
  const size = Number(request.query.get('maxRecords') ?? 50_000)
  if (!Number.isInteger(from) || from < 0 || !Number.isInteger(size) || size < 1) {
    throw invalid('INVALID_QUERY_LOCATOR', 'invalid query locator')
  }
  const [header = [], ...rows] = job.successful
  const page = rows.slice(from, from + size)
  const next = from + size < rows.length ? Buffer.from(String(from + size)).toString('base64url') : 'null'
  return csv(job, [header, ...page], { 'sforce-locator': next, 'sforce-numberofrecords': String(page.length) })
}
