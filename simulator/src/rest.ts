// The data API of an org, /services/data:
//   GET /services/data                            versions, anonymous
//   GET /services/data/vNN.0                      resources, and under it:
//     query, queryAll, search, limits, recent, sobjects, sobjects/X, sobjects/X/describe, sobjects/X/{id},
//     sobjects/X/{externalIdField}/{value}, composite, composite/sobjects[/X], jobs (bulk.ts),
//     metadata and apps (metadata.ts)
// Everything but the version list needs a session of this org and counts against the daily limit. Errors are arrays
// of one (fact sheet §6.2). Tooling and SOAP are not simulated.

import { jobHandlers } from './bulk.ts'
import type { Call, Reply } from './http.ts'
import { presentedToken, restError } from './http.ts'
import { appHandlers, metadataHandlers } from './metadata.ts'
import { createRow, deleteRow, getRow, RecordError, sourceOf, tableOf, updateRow } from './records.ts'
import { base, type Context, type Handlers, notFound, ok, type Request, typeNamed } from './resource.ts'
import type { Field, ObjectType } from './schema.ts'
import { fieldOf, objectType, objectTypes } from './schema.ts'
import { project, runSoql, SoqlError } from './soql.ts'
import { allowsApi, liveSession, useSession } from './tokens.ts'
import type { Cursor, Row, World } from './world.ts'
import { nextId, now } from './world.ts'

const OLDEST = 31

/** 31.0 = Summer '14; three releases a year. */
function versionsOf(max: number) {
  return Array.from({ length: max - OLDEST + 1 }, (_, i) => {
    const season = ['Summer', 'Winter', 'Spring'][i % 3]
    return {
      label: `${season} '${14 + Math.floor((i + 2) / 3)}`,
      url: `/services/data/v${OLDEST + i}.0`,
      version: `${OLDEST + i}.0`,
    }
  })
}

export function versions(world: World, call: Call): Reply {
  const { site } = call.address
  const max =
    site.kind === 'org' ? site.org.apiVersionMax : Math.max(...world.orgs.map(org => org.apiVersionMax), OLDEST)
  return { status: 200, json: versionsOf(max) }
}

export function rest(world: World, call: Call): Reply {
  const presented = presentedToken(call)
  const expired = {
    ...restError(401, 'INVALID_SESSION_ID', 'Session expired or invalid'),
    headers: { 'www-authenticate': 'Token' },
  }
  if (presented === 'malformed') return restError(401, 'INVALID_AUTH_HEADER', 'INVALID_HEADER_TYPE')
  const { site } = call.address
  const session = presented === 'missing' ? undefined : liveSession(world, presented)
  // A session of another org, or presented to a generic host, is simply not a session here.
  if (!session || site.kind !== 'org' || session.org !== site.org.key) return expired
  const org = site.org
  if (!allowsApi(session.scopes)) {
    return restError(401, 'INVALID_SESSION_ID', 'This session is not valid for use with the REST API')
  }
  if (!session.user.apiEnabled) {
    return restError(403, 'API_DISABLED_FOR_ORG', 'API is not enabled for this Organization or Partner')
  }
  useSession(world, session)

  const limited = org.apiUsed >= org.apiMax
  if (!limited) org.apiUsed++
  const reply = limited
    ? restError(403, 'REQUEST_LIMIT_EXCEEDED', 'TotalRequests Limit exceeded.')
    : perform(
        { world, org, session, address: call.address, headers: call.headers },
        methodOf(call),
        call.path,
        call.query,
        {
          raw: call.body,
          body: () => json(call.body),
        },
      )
  return {
    ...reply,
    headers: {
      ...reply.headers,
      'sforce-limit-info': `api-usage=${org.apiUsed}/${org.apiMax}`,
      'cache-control': 'no-cache',
    },
  }
}

/** Clients that cannot send PATCH use `POST …?_HttpMethod=PATCH`. */
const methodOf = (call: Call) =>
  call.method === 'POST' ? (call.query.get('_HttpMethod')?.toUpperCase() ?? 'POST') : call.method

function json(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    throw new RecordError(400, 'JSON_PARSER_ERROR', 'Unexpected character or end of input in the request body')
  }
}

/** One request, from outside or from inside a composite. */
function perform(
  context: Context,
  method: string,
  path: string,
  query: URLSearchParams,
  content: Pick<Request, 'raw' | 'body'>,
): Reply {
  const [, number, tail = ''] = /^\/services\/data\/v(\d+)\.0(?:\/(.*?))?\/?$/.exec(path) ?? []
  const version = Number(number)
  if (!number || version > context.org.apiVersionMax) return notFound()
  // 21.0–30.0 are retired (fact sheet §6.1).
  if (version < OLDEST)
    return restError(410, 'UNSUPPORTED_API_VERSION', 'The requested API version has been retired or deprecated')
  try {
    const segments = tail.split('/').filter(Boolean).map(decodeURIComponent)
    const reply = route({ ...context, ...content, version: `${version}.0`, method, segments, query })
    // 31–40 are to be retired in Summer '28 (fact sheet §6.1).
    const warning =
      version <= 40 ? { warning: `299 - "This API is deprecated and will be retired: v${version}.0"` } : {}
    return { ...reply, headers: { ...warning, ...reply.headers } }
  } catch (error) {
    if (error instanceof RecordError) return restError(error.status, error.code, error.message, error.fields)
    if (error instanceof SoqlError) return restError(400, error.code, error.message)
    if (error instanceof URIError) return notFound()
    throw error
  }
}

function route(request: Request): Reply {
  const handlers = handlersFor(request)
  if (!handlers) return notFound()
  const method = request.method === 'HEAD' ? 'GET' : request.method
  const handler = Object.hasOwn(handlers, method) ? handlers[method as keyof Handlers] : undefined
  if (handler) return handler(request)
  const allowed = Object.keys(handlers).join(',')
  return {
    ...restError(405, 'METHOD_NOT_ALLOWED', `HTTP Method '${request.method}' not allowed. Allowed are ${allowed}`),
    headers: { allow: allowed },
  }
}

function handlersFor(request: Request): Handlers | undefined {
  const { segments } = request
  const [first, second, third] = segments
  switch (first) {
    case undefined:
      return { GET: resources }
    case 'query':
      return segments.length === 1 ? { GET: request => query(request, false) } : { GET: more }
    case 'queryAll':
      return segments.length === 1 ? { GET: request => query(request, true) } : { GET: more }
    case 'search':
      return { GET: search }
    case 'limits':
      return { GET: limits }
    case 'recent':
      return { GET: recent }
    case 'jobs':
      return jobHandlers(request)
    case 'metadata':
      return metadataHandlers(request)
    case 'apps':
      return appHandlers(request)
    case 'composite':
      if (second === 'sobjects') return { GET: readMany, POST: createMany, PATCH: updateMany, DELETE: deleteMany }
      return second === undefined ? { POST: composite } : undefined
    case 'sobjects':
      if (second === undefined) return { GET: describeGlobal }
      if (third === undefined) return { GET: basicInfo, POST: create }
      if (third === 'describe') return { GET: describe }
      if (segments.length === 3) return { GET: read, PATCH: update, DELETE: remove }
      return segments.length === 4 ? { GET: readByExternalId, PATCH: upsert, DELETE: removeByExternalId } : undefined
    default:
      return undefined
  }
}

const targetType = (request: Request) => typeNamed(request.segments[1])

function resources(request: Request): Reply {
  const names = ['query', 'queryAll', 'search', 'limits', 'recent', 'sobjects', 'composite', 'jobs', 'metadata']
  return ok(Object.fromEntries(names.map(name => [name, `${base(request)}/${name}`])))
}

// ── Query ───────────────────────────────────────────────────────────────────────────────────────────────────────

function query(request: Request, withDeleted: boolean): Reply {
  const text = request.query.get('q')
  if (!text) return restError(400, 'MALFORMED_QUERY', 'A query string has to be specified')
  const result = runSoql(text, sourceOf(request.world, request.org, withDeleted))
  if (result.kind === 'count') return ok({ totalSize: result.size, done: true, records: [] })
  if (result.kind === 'aggregate') {
    const record = { attributes: { type: 'AggregateResult' }, [result.alias]: result.size }
    return ok({ totalSize: 1, done: true, records: [record] })
  }
  const cursor: Cursor = {
    org: request.org.key,
    type: result.type.name,
    rows: result.rows,
    paths: result.paths,
    expiresAt: now(request.world) + 2 * 86_400_000,
  }
  return page(request, cursor, null, 0)
}

/** `Sforce-Query-Options: batchSize=200..2000`, 2000 by default (fact sheet §6.3). */
function batchSize(headers: Call['headers']): number {
  const asked = /batchSize\s*=\s*(\d+)/i.exec(String(headers['sforce-query-options'] ?? ''))?.[1]
  return asked === undefined ? 2000 : Math.min(2000, Math.max(200, Number(asked)))
}

/** nextRecordsUrl is a path from the root of the org, whatever base the client came in by. */
function page(request: Request, cursor: Cursor, locator: string | null, from: number): Reply {
  const { world, org } = request
  const to = from + batchSize(request.headers)
  const done = to >= cursor.rows.length
  let key = locator
  if (!done && key === null) {
    key = nextId(world, '01g')
    world.cursors.set(key, cursor)
    const oldest = world.cursors.keys().next().value
    if (world.cursors.size > 100 && oldest !== undefined) world.cursors.delete(oldest)
  }
  const source = sourceOf(world, org, true)
  const type = typeNamed(cursor.type)
  return ok({
    totalSize: cursor.rows.length,
    done,
    ...(done ? {} : { nextRecordsUrl: `${base(request)}/query/${key}-${to}` }),
    records: cursor.rows.slice(from, to).map(row => project(type, row, cursor.paths, request.version, source)),
  })
}

function more(request: Request): Reply {
  const [, locator = '', from = ''] = /^(\w{18})-(\d+)$/.exec(request.segments[1] ?? '') ?? []
  const cursor = request.world.cursors.get(locator)
  const usable = cursor && cursor.org === request.org.key && cursor.expiresAt > now(request.world)
  if (!usable) return restError(400, 'INVALID_QUERY_LOCATOR', 'invalid query locator')
  return page(request, cursor, locator, Number(from))
}

function search(request: Request): Reply {
  const text = request.query.get('q') ?? ''
  const term = /^\s*FIND\s*\{([^}]+)\}/i
    .exec(text)?.[1]
    ?.replace(/[*?\\]/g, '')
    .trim()
    .toLowerCase()
  if (!term)
    return restError(400, 'MALFORMED_SEARCH', 'No search term found. The search term must be enclosed in braces.')
  const named = [...(/RETURNING(.+)$/i.exec(text)?.[1] ?? '').matchAll(/(\w+)\s*(?:\(([^)]*)\))?/g)]
  const wanted =
    named.length > 0 ? named.map(m => [m[1] ?? '', m[2] ?? 'Id']) : ['Account', 'Contact'].map(n => [n, 'Id'])
  const source = sourceOf(request.world, request.org)
  const found = wanted.flatMap(([name = '', fields = '']) => {
    const type = objectType(name)
    if (!type) throw new SoqlError('INVALID_TYPE', `sObject type '${name}' is not supported.`)
    const paths = fields.split(',').map(f => fieldOf(type, f.trim())?.name ?? 'Id')
    return source
      .rows(type)
      .filter(row =>
        ['Name', 'Email', 'Phone'].some(f =>
          String(row[f] ?? '')
            .toLowerCase()
            .includes(term),
        ),
      )
      .slice(0, 200)
      .map(row => project(type, row, paths, request.version, source))
  })
  return ok({ searchRecords: found })
}

function recent(request: Request): Reply {
  const source = sourceOf(request.world, request.org)
  const accounts = typeNamed('Account')
  const rows = source.rows(accounts).toSorted((a, b) => (String(a.SystemModstamp) < String(b.SystemModstamp) ? 1 : -1))
  return ok(rows.slice(0, 5).map(row => project(accounts, row, ['Id', 'Name'], request.version, source)))
}

function limits({ org }: Request): Reply {
  const full = (Max: number) => ({ Max, Remaining: Max })
  return ok({
    DailyApiRequests: { Max: org.apiMax, Remaining: Math.max(0, org.apiMax - org.apiUsed) },
    DailyBulkApiBatches: full(15_000),
    DailyBulkV2QueryJobs: full(10_000),
    DailyBulkV2QueryFileStorageMB: full(976_562),
    DailyStreamingApiEvents: full(10_000),
    DataStorageMB: full(1024),
    FileStorageMB: full(1024),
    HourlyPublishedPlatformEvents: full(50_000),
    MassEmail: full(5000),
    SingleEmail: full(5000),
  })
}

// ── sObjects ────────────────────────────────────────────────────────────────────────────────────────────────────

function create(request: Request): Reply {
  const type = targetType(request)
  const row = createRow(request.world, request.org, type, request.body(), request.session.user)
  return created(request, type, row)
}

const created = (request: Request, type: ObjectType, row: Row, extra: object = {}): Reply => ({
  status: 201,
  headers: { location: `${base(request)}/sobjects/${type.name}/${row.Id}` },
  json: { id: row.Id, success: true, errors: [], ...extra },
})

function read(request: Request): Reply {
  const type = targetType(request)
  return show(request, type, getRow(request.world, request.org, type, request.segments[2] ?? ''))
}

function show(request: Request, type: ObjectType, row: Row): Reply {
  const asked = request.query.get('fields')?.split(',') ?? type.fields.map(f => f.name)
  const paths = asked.map(name => {
    const field = fieldOf(type, name.trim())
    if (!field) throw new RecordError(400, 'INVALID_FIELD', `No such column '${name}' on sobject of type ${type.name}`)
    return field.name
  })
  return ok(project(type, row, paths, request.version, sourceOf(request.world, request.org)))
}

function update(request: Request): Reply {
  const { world, org, segments, session } = request
  updateRow(world, org, targetType(request), segments[2] ?? '', request.body(), session.user)
  return { status: 204 }
}

function remove(request: Request): Reply {
  deleteRow(request.world, request.org, targetType(request), request.segments[2] ?? '')
  return { status: 204 }
}

function byExternalId(request: Request): { type: ObjectType; field: Field; value: string; row: Row | undefined } {
  const type = targetType(request)
  const [, , name = '', value = ''] = request.segments
  const field = fieldOf(type, name)
  if (!field || !(field.externalId || field.type === 'id')) {
    throw new RecordError(404, 'NOT_FOUND', `Provided external ID field does not exist or is not accessible: ${name}`)
  }
  const row = [...tableOf(request.org, type).values()].find(r => r.IsDeleted !== true && r[field.name] === value)
  return { type, field, value, row }
}

function readByExternalId(request: Request): Reply {
  const { type, row } = byExternalId(request)
  return row ? show(request, type, row) : notFound()
}

function removeByExternalId(request: Request): Reply {
  const { type, row } = byExternalId(request)
  if (!row) return notFound()
  deleteRow(request.world, request.org, type, String(row.Id))
  return { status: 204 }
}

function upsert(request: Request): Reply {
  const { world, org, session } = request
  const { type, field, value, row } = byExternalId(request)
  const body = request.body() as object
  if (row) {
    updateRow(world, org, type, String(row.Id), body, session.user)
    return ok({ id: row.Id, success: true, errors: [], created: false })
  }
  const made = createRow(world, org, type, { ...body, [field.name]: value }, session.user)
  return created(request, type, made, { created: true })
}

function basicInfo(request: Request): Reply {
  const type = targetType(request)
  const source = sourceOf(request.world, request.org)
  const rows = source.rows(type).slice(0, 5)
  return ok({
    objectDescribe: summary(request, type),
    recentItems: rows.map(row => project(type, row, ['Id', 'Name'], request.version, source)),
  })
}

function describeGlobal(request: Request): Reply {
  return ok({ encoding: 'UTF-8', maxBatchSize: 200, sobjects: objectTypes.map(type => summary(request, type)) })
}

function summary(request: Request, type: ObjectType) {
  const url = `${base(request)}/sobjects/${type.name}`
  return {
    activateable: false,
    createable: type.writable,
    custom: false,
    customSetting: false,
    deletable: type.writable,
    deprecatedAndHidden: false,
    feedEnabled: type.writable,
    keyPrefix: type.prefix,
    label: type.label,
    labelPlural: type.plural,
    layoutable: true,
    mergeable: false,
    name: type.name,
    queryable: true,
    replicateable: true,
    retrieveable: true,
    searchable: type.writable,
    triggerable: type.writable,
    undeletable: type.writable,
    updateable: type.writable,
    urls: { sobject: url, describe: `${url}/describe`, rowTemplate: `${url}/{ID}` },
  }
}

const SOAP_TYPE: Partial<Record<Field['type'], string>> = {
  id: 'tns:ID',
  reference: 'tns:ID',
  boolean: 'xsd:boolean',
  double: 'xsd:double',
  currency: 'xsd:double',
  int: 'xsd:int',
  date: 'xsd:date',
  datetime: 'xsd:dateTime',
}

function describe(request: Request): Reply {
  const type = targetType(request)
  const fields = type.fields.map(field => ({
    aggregatable: true,
    autoNumber: false,
    calculated: false,
    createable: type.writable && !field.readOnly,
    custom: field.name.endsWith('__c'),
    defaultValue: field.type === 'boolean' ? false : null,
    defaultedOnCreate: field.type === 'boolean',
    deprecatedAndHidden: false,
    externalId: field.externalId ?? false,
    filterable: true,
    groupable: true,
    idLookup: field.type === 'id' || (field.externalId ?? false),
    label: field.label,
    length: field.length ?? 0,
    name: field.name,
    nameField: field.name === 'Name',
    nillable: !field.required && field.type !== 'id' && field.type !== 'boolean',
    picklistValues: [],
    referenceTo: field.referenceTo ? [field.referenceTo] : [],
    relationshipName: field.relationshipName ?? null,
    soapType: SOAP_TYPE[field.type] ?? 'xsd:string',
    sortable: true,
    type: field.type,
    unique: field.externalId ?? false,
    updateable: type.writable && !field.readOnly,
  }))
  return ok({ ...summary(request, type), childRelationships: [], fields, recordTypeInfos: [] })
}

// ── Composite ───────────────────────────────────────────────────────────────────────────────────────────────────

type Save = { id?: unknown; success: boolean; errors: object[] }

/** One of up to 200 saves: its failure is part of the answer, not of the request. */
function attempt(id: unknown, work: () => unknown): Save {
  try {
    return { id: work() ?? id, success: true, errors: [] }
  } catch (error) {
    if (!(error instanceof RecordError)) throw error
    return { success: false, errors: [{ statusCode: error.code, message: error.message, fields: error.fields }] }
  }
}

type Collection = { records: (Record<string, unknown> & { attributes?: { type?: string } })[] }

/** allOrNone is accepted and ignored: nothing here needs the rollback. */
function collection(request: Request): Collection['records'] {
  const body = request.body() as Partial<Collection> | null
  const records = body?.records
  if (!Array.isArray(records) || records.some(r => typeof r !== 'object' || r === null)) {
    throw new RecordError(400, 'JSON_PARSER_ERROR', 'records must be an array of objects')
  }
  if (records.length > 200)
    throw new RecordError(400, 'EXCEEDED_ID_LIMIT', 'record limit reached. cannot submit more than 200 records')
  return records
}

function createMany(request: Request): Reply {
  const { world, org, session } = request
  return ok(
    collection(request).map(record =>
      attempt(undefined, () => createRow(world, org, typeNamed(record.attributes?.type), record, session.user).Id),
    ),
  )
}

function updateMany(request: Request): Reply {
  const { world, org, session } = request
  return ok(
    collection(request).map(({ attributes, ...record }) => {
      const key = Object.keys(record).find(k => k.toLowerCase() === 'id') ?? 'id'
      const { [key]: id, ...fields } = record
      return attempt(id, () => updateRow(world, org, typeNamed(attributes?.type), String(id), fields, session.user))
    }),
  )
}

function deleteMany(request: Request): Reply {
  const ids = (request.query.get('ids') ?? '').split(',').filter(Boolean)
  return ok(
    ids.map(id =>
      attempt(id, () => {
        const type = objectTypes.find(t => t.prefix === id.slice(0, 3))
        if (!type) throw new RecordError(400, 'MALFORMED_ID', `malformed id ${id}`)
        deleteRow(request.world, request.org, type, id)
      }),
    ),
  )
}

function readMany(request: Request): Reply {
  const type = typeNamed(request.segments[2])
  const ids = (request.query.get('ids') ?? '').split(',').filter(Boolean)
  return ok(
    ids.map(id => {
      try {
        return show(request, type, getRow(request.world, request.org, type, id)).json
      } catch (error) {
        if (error instanceof RecordError && error.status === 404) return null
        throw error
      }
    }),
  )
}

type Subrequest = { method: string; url: string; referenceId: string; body?: unknown }

const inJson = (value: string) => JSON.stringify(value).slice(1, -1)

/** Up to 25 requests in one, each able to use the answers of earlier ones as @{reference.field}. */
function composite(request: Request): Reply {
  const body = request.body() as { compositeRequest?: Subrequest[] } | null
  const all = body?.compositeRequest
  if (!Array.isArray(all)) return restError(400, 'JSON_PARSER_ERROR', 'compositeRequest must be an array')
  if (all.length > 25) return restError(400, 'LIMIT_EXCEEDED', 'The composite request has more than 25 subrequests')
  const answers: Record<string, unknown> = {}
  const fill = (text: string, encode = (value: string) => value) =>
    text.replace(/@\{(\w+)((?:\.\w+|\[\d+\])*)\}/g, (whole, reference: string, path: string) => {
      let at = answers[reference]
      for (const [step] of path.matchAll(/\w+/g)) at = (at as Record<string, unknown> | null | undefined)?.[step]
      return at === undefined || at === null ? whole : encode(String(at))
    })
  const compositeResponse = all.map(sub => {
    const { method, url, referenceId } = sub ?? {}
    if (typeof method !== 'string' || typeof url !== 'string' || typeof referenceId !== 'string') {
      throw new RecordError(400, 'JSON_PARSER_ERROR', 'a subrequest needs method, url and referenceId')
    }
    const target = new URL(fill(url), 'http://composite')
    const inner = sub.body === undefined ? undefined : JSON.parse(fill(JSON.stringify(sub.body), inJson))
    // A composite inside a composite is refused, so recursion is one level deep.
    const nested = /\/composite(\/|$)/.test(target.pathname)
    const reply = nested
      ? notFound()
      : perform(request, method.toUpperCase(), target.pathname, target.searchParams, {
          raw: Buffer.alloc(0),
          body: () => inner,
        })
    answers[referenceId] = reply.json
    const location = reply.headers?.location
    return {
      body: reply.json ?? null,
      httpHeaders: location === undefined ? {} : { Location: location },
      httpStatusCode: reply.status,
      referenceId,
    }
  })
  return ok({ compositeResponse })
}
