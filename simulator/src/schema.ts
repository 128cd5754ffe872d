// The sObjects the simulator knows and their fields, in the vocabulary of a describe call. Small on purpose: enough
// to browse, page, create, update and delete as a real client would.

export type FieldType =
  | 'id'
  | 'string'
  | 'textarea'
  | 'picklist'
  | 'email'
  | 'phone'
  | 'url'
  | 'boolean'
  | 'double'
  | 'currency'
  | 'int'
  | 'date'
  | 'datetime'
  | 'reference'

export type Field = {
  name: string
  label: string
  type: FieldType
  length?: number
  required?: boolean
  readOnly?: boolean
  externalId?: boolean
  /** For references: the object pointed at, and the name SOQL follows it by (`Account.Name`). */
  referenceTo?: string
  relationshipName?: string
}

export type ObjectType = {
  name: string
  label: string
  plural: string
  prefix: string
  /** Organization and User can be read through the API but not created here. */
  writable: boolean
  fields: Field[]
}

const field = (name: string, type: FieldType, extra: Partial<Field> = {}): Field => ({
  name,
  label: name
    .replace(/__c$/, '')
    .replace(/_/g, ' ')
    .replace(/([a-z])([A-Z])/g, '$1 $2'),
  type,
  ...extra,
})
const reference = (name: string, referenceTo: string, extra: Partial<Field> = {}): Field =>
  field(name, 'reference', { referenceTo, relationshipName: name.replace(/Id$/, ''), length: 18, ...extra })

const system: Field[] = [
  field('IsDeleted', 'boolean', { readOnly: true }),
  reference('OwnerId', 'User'),
  field('CreatedDate', 'datetime', { readOnly: true }),
  reference('CreatedById', 'User', { readOnly: true }),
  field('LastModifiedDate', 'datetime', { readOnly: true }),
  reference('LastModifiedById', 'User', { readOnly: true }),
  field('SystemModstamp', 'datetime', { readOnly: true }),
]
const id = field('Id', 'id', { readOnly: true, length: 18 })
const name = (extra: Partial<Field> = {}) => field('Name', 'string', { length: 255, ...extra })
const externalId = field('External_Id__c', 'string', { length: 80, externalId: true })

export const objectTypes: ObjectType[] = [
  {
    name: 'Account',
    label: 'Account',
    plural: 'Accounts',
    prefix: '001',
    writable: true,
    fields: [
      id,
      name({ required: true }),
      field('Type', 'picklist'),
      field('Industry', 'picklist'),
      field('AnnualRevenue', 'currency'),
      field('NumberOfEmployees', 'int'),
      field('Phone', 'phone'),
      field('Website', 'url'),
      field('BillingStreet', 'textarea'),
      field('BillingCity', 'string', { length: 40 }),
      field('BillingState', 'string', { length: 80 }),
      field('BillingCountry', 'string', { length: 80 }),
      field('Description', 'textarea', { length: 32000 }),
      externalId,
      ...system,
    ],
  },
  {
    name: 'Contact',
    label: 'Contact',
    plural: 'Contacts',
    prefix: '003',
    writable: true,
    fields: [
      id,
      name({ readOnly: true }),
      field('FirstName', 'string', { length: 40 }),
      field('LastName', 'string', { length: 80, required: true }),
      reference('AccountId', 'Account'),
      field('Title', 'string', { length: 128 }),
      field('Department', 'string', { length: 80 }),
      field('Email', 'email', { length: 80 }),
      field('Phone', 'phone'),
      field('MailingCity', 'string', { length: 40 }),
      field('MailingCountry', 'string', { length: 80 }),
      externalId,
      ...system,
    ],
  },
  {
    name: 'Opportunity',
    label: 'Opportunity',
    plural: 'Opportunities',
    prefix: '006',
    writable: true,
    fields: [
      id,
      name({ required: true, length: 120 }),
      reference('AccountId', 'Account'),
      field('StageName', 'picklist', { required: true }),
      field('Amount', 'currency'),
      field('Probability', 'double'),
      field('CloseDate', 'date', { required: true }),
      field('Type', 'picklist'),
      field('IsWon', 'boolean', { readOnly: true }),
      field('IsClosed', 'boolean', { readOnly: true }),
      ...system,
    ],
  },
  {
    name: 'Lead',
    label: 'Lead',
    plural: 'Leads',
    prefix: '00Q',
    writable: true,
    fields: [
      id,
      name({ readOnly: true }),
      field('FirstName', 'string', { length: 40 }),
      field('LastName', 'string', { length: 80, required: true }),
      field('Company', 'string', { required: true }),
      field('Email', 'email', { length: 80 }),
      field('Status', 'picklist'),
      ...system,
    ],
  },
  {
    name: 'User',
    label: 'User',
    plural: 'Users',
    prefix: '005',
    writable: false,
    fields: [
      id,
      field('Username', 'string', { length: 80 }),
      name(),
      field('FirstName', 'string', { length: 40 }),
      field('LastName', 'string', { length: 80 }),
      field('Email', 'email', { length: 128 }),
      field('Alias', 'string', { length: 8 }),
      field('IsActive', 'boolean'),
      field('UserType', 'picklist'),
      field('TimeZoneSidKey', 'picklist'),
      field('LocaleSidKey', 'picklist'),
      field('LanguageLocaleKey', 'picklist'),
      field('ProfileId', 'string', { length: 18 }),
      field('CreatedDate', 'datetime'),
      field('LastModifiedDate', 'datetime'),
      field('SystemModstamp', 'datetime'),
    ],
  },
  {
    name: 'Organization',
    label: 'Organization',
    plural: 'Organizations',
    prefix: '00D',
    writable: false,
    fields: [
      id,
      name({ length: 80 }),
      field('InstanceName', 'string', { length: 5 }),
      field('IsSandbox', 'boolean'),
      field('TrialExpirationDate', 'datetime'),
      field('NamespacePrefix', 'string', { length: 15 }),
      field('OrganizationType', 'picklist'),
      field('CreatedDate', 'datetime'),
    ],
  },
]

export const objectType = (name: string): ObjectType | undefined =>
  objectTypes.find(type => type.name.toLowerCase() === name.toLowerCase())

export const fieldOf = (type: ObjectType, name: string): Field | undefined =>
  type.fields.find(f => f.name.toLowerCase() === name.toLowerCase())

export const isNumeric = (type: FieldType): boolean => type === 'double' || type === 'currency' || type === 'int'
export const isTemporal = (type: FieldType): boolean => type === 'date' || type === 'datetime'
