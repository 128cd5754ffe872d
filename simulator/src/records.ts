// The records of an org: reading, creating, changing and deleting rows with Salesforce's validation errors. Users and
// the Organization are not stored; they are views of the world.

import { toId18 } from './ids.ts'
import type { Field, ObjectType } from './schema.ts'
import { fieldOf, isNumeric, objectType } from './schema.ts'
import type { Source } from './soql.ts'
import type { Org, Row, User, Value, World } from './world.ts'
import { nextId, now, salesforceTime } from './world.ts'

export class RecordError extends Error {
  readonly status: number
  readonly code: string
  readonly fields: string[]
  constructor(status: number, code: string, message: string, fields: string[] = []) {
    super(message)
    this.status = status
    this.code = code
    this.fields = fields
  }
}

export function tableOf(org: Org, type: ObjectType): Map<string, Row> {
  let table = org.tables.get(type.name)
  if (!table) {
    table = new Map()
    org.tables.set(type.name, table)
  }
  return table
}

export function sourceOf(world: World, org: Org, withDeleted = false): Source {
  const rows = (type: ObjectType): Row[] => {
    if (type.name === 'User') return world.users.filter(u => u.org === org.key).map(u => userRow(org, u))
    if (type.name === 'Organization') return [organizationRow(org)]
    return [...tableOf(org, type).values()].filter(row => withDeleted || row.IsDeleted !== true)
  }
  return {
    rows,
    row: (type, id) => (type.writable ? tableOf(org, type).get(id) : rows(type).find(row => row.Id === id)),
  }
}

const userRow = (org: Org, user: User): Row => ({
  Id: user.id,
  Username: user.username,
  Name: `${user.firstName} ${user.lastName}`,
  FirstName: user.firstName,
  LastName: user.lastName,
  Email: user.email,
  Alias: user.firstName.slice(0, 8).toLowerCase(),
  IsActive: user.active,
  UserType: 'Standard',
  TimeZoneSidKey: 'America/Los_Angeles',
  LocaleSidKey: 'en_US',
  LanguageLocaleKey: 'en_US',
  ProfileId: null,
  CreatedDate: org.createdDate,
  LastModifiedDate: org.createdDate,
  SystemModstamp: org.createdDate,
})

/** What tells a sandbox from production with authority (fact sheet §1.3). */
const organizationRow = (org: Org): Row => ({
  Id: org.id,
  Name: org.name,
  InstanceName: org.instanceName,
  IsSandbox: org.kind === 'sandbox' || org.kind === 'scratch',
  TrialExpirationDate: org.trialExpirationDate,
  NamespacePrefix: org.namespacePrefix,
  OrganizationType: org.organizationType,
  CreatedDate: org.createdDate,
})

export function getRow(world: World, org: Org, type: ObjectType, id: string): Row {
  const id18 = toId18(id)
  const row = id18 === undefined ? undefined : sourceOf(world, org, true).row(type, id18)
  if (!row) throw new RecordError(404, 'NOT_FOUND', 'The requested resource does not exist')
  if (row.IsDeleted === true) throw new RecordError(404, 'ENTITY_IS_DELETED', 'entity is deleted')
  return row
}

export function createRow(world: World, org: Org, type: ObjectType, input: unknown, user: User): Row {
  if (!type.writable) {
    throw new RecordError(400, 'CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY', `entity type cannot be inserted: ${type.label}`)
  }
  const given = accepted(world, org, type, input)
  const missing = type.fields.filter(f => f.required && (given[f.name] ?? null) === null).map(f => f.name)
  if (missing.length > 0) {
    throw new RecordError(
      400,
      'REQUIRED_FIELD_MISSING',
      `Required fields are missing: [${missing.join(', ')}]`,
      missing,
    )
  }
  const at = salesforceTime(now(world))
  const row: Row = Object.fromEntries(type.fields.map(f => [f.name, f.type === 'boolean' ? false : null]))
  Object.assign(row, { OwnerId: user.id }, given, {
    Id: nextId(world, type.prefix),
    CreatedDate: at,
    CreatedById: user.id,
    LastModifiedDate: at,
    LastModifiedById: user.id,
    SystemModstamp: at,
  })
  derive(type, row)
  tableOf(org, type).set(String(row.Id), row)
  return row
}

export function updateRow(world: World, org: Org, type: ObjectType, id: string, input: unknown, user: User): void {
  const row = getRow(world, org, type, id)
  if (!type.writable) {
    throw new RecordError(400, 'CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY', `entity type cannot be updated: ${type.label}`)
  }
  const given = accepted(world, org, type, input)
  const emptied = type.fields.filter(f => f.required && f.name in given && given[f.name] === null).map(f => f.name)
  if (emptied.length > 0) {
    throw new RecordError(
      400,
      'REQUIRED_FIELD_MISSING',
      `Required fields are missing: [${emptied.join(', ')}]`,
      emptied,
    )
  }
  const at = salesforceTime(now(world))
  Object.assign(row, given, { LastModifiedDate: at, LastModifiedById: user.id, SystemModstamp: at })
  derive(type, row)
}

/** To the recycle bin: queryAll still sees it. */
export function deleteRow(world: World, org: Org, type: ObjectType, id: string): void {
  const row = getRow(world, org, type, id)
  if (!type.writable) {
    throw new RecordError(400, 'INSUFFICIENT_ACCESS_OR_READONLY', `entity type cannot be deleted: ${type.label}`)
  }
  row.IsDeleted = true
  row.SystemModstamp = salesforceTime(now(world))
}

function derive(type: ObjectType, row: Row): void {
  if (fieldOf(type, 'FirstName') && fieldOf(type, 'Name')?.readOnly) {
    row.Name = [row.FirstName, row.LastName].filter(Boolean).join(' ')
  }
  if (type.name === 'Opportunity') {
    row.IsWon = row.StageName === 'Closed Won'
    row.IsClosed = row.IsWon || row.StageName === 'Closed Lost'
  }
}

/** Checks a body field by field and returns it under canonical names. */
function accepted(world: World, org: Org, type: ObjectType, input: unknown): Row {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new RecordError(
      400,
      'JSON_PARSER_ERROR',
      'The HTTP entity body is required, but this request has no entity body.',
    )
  }
  const row: Row = {}
  for (const [name, value] of Object.entries(input)) {
    if (name === 'attributes') continue
    const field = fieldOf(type, name)
    if (!field) {
      throw new RecordError(400, 'INVALID_FIELD', `No such column '${name}' on sobject of type ${type.name}`)
    }
    if (field.readOnly) {
      throw new RecordError(
        400,
        'INVALID_FIELD_FOR_INSERT_UPDATE',
        `Unable to create/update fields: ${field.name}. Please check the security settings of this field and verify that it is read/write for your profile or permission set.`,
        [field.name],
      )
    }
    row[field.name] = checked(world, org, field, value)
  }
  return row
}

function checked(world: World, org: Org, field: Field, value: unknown): Value {
  if (value === null || value === '') return null
  const wrong = () =>
    new RecordError(
      400,
      'JSON_PARSER_ERROR',
      `Cannot deserialize instance of ${field.type} from ${JSON.stringify(value)?.slice(0, 60)} or request may be missing a required field`,
    )
  if (isNumeric(field.type)) {
    const number = typeof value === 'number' ? value : Number.NaN
    if (!Number.isFinite(number)) throw wrong()
    return number
  }
  if (field.type === 'boolean') {
    if (typeof value !== 'boolean') throw wrong()
    return value
  }
  if (typeof value !== 'string') throw wrong()
  if (field.type === 'date' && !/^\d{4}-\d\d-\d\d/.test(value)) throw wrong()
  if (field.type === 'reference') {
    const id = toId18(value)
    const target = field.referenceTo ? objectType(field.referenceTo) : undefined
    if (!id)
      throw new RecordError(400, 'MALFORMED_ID', `${field.label}: id value of incorrect type: ${value}`, [field.name])
    if (!target || !sourceOf(world, org).row(target, id)) {
      throw new RecordError(400, 'INVALID_CROSS_REFERENCE_KEY', 'invalid cross reference id', [field.name])
    }
    return id
  }
  if (field.length !== undefined && value.length > field.length) {
    throw new RecordError(
      400,
      'STRING_TOO_LONG',
      `${field.label}: data value too large: ${value.slice(0, 40)} (max length=${field.length})`,
      [field.name],
    )
  }
  if (field.type === 'email' && !/^[^@\s]+@[^@\s]+\.[^@\s]+$/.test(value)) {
    throw new RecordError(400, 'INVALID_EMAIL_ADDRESS', `${field.label}: invalid email address: ${value}`, [field.name])
  }
  return value
}
