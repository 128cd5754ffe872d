// What a fresh simulator contains: the production org `acme` and its sandbox `acme--uat`, each with two users, one
// External Client App local to it, twelve accounts, a few opportunities and enough contacts to page. People,
// companies and figures are invented; client ids and secrets are the same on every start and open nothing real.

import { seededClientId, seededClientSecret } from './ids.ts'
import { createRow } from './records.ts'
import { objectType } from './schema.ts'
import type { AppInput, Org, OrgInput, UserInput, World } from './world.ts'
import { addApp, addOrg, addUser, defined, nextId } from './world.ts'

export type SeedOptions = {
  /** Replaces the callback list of the seeded apps. */
  callbacks?: string[]
  /** Contacts per seeded org; default 2347, so a query of them has two pages. */
  contacts?: number
  /** Rotation of the seeded apps' refresh tokens; default off. */
  rotation?: boolean
  /** More of your own, added after the seeds. */
  orgs?: OrgInput[]
  users?: UserInput[]
  apps?: AppInput[]
}

export const PASSWORD = 'Simulated-1'

export function seed(world: World, options: SeedOptions): void {
  for (const key of ['acme', 'acme--uat']) {
    const suffix = key === 'acme' ? '' : '.uat'
    const org = addOrg(world, {
      key,
      name: 'Acme',
      communities: [{ id: nextId(world, '0DB'), prefix: '/partners' }],
    })
    addUser(world, {
      org: key,
      username: `ada@acme.com${suffix}`,
      firstName: 'Ada',
      lastName: 'Admin',
      admin: true,
      password: PASSWORD,
    })
    addUser(world, {
      org: key,
      username: `ben@acme.com${suffix}`,
      firstName: 'Ben',
      lastName: 'Broker',
      password: PASSWORD,
    })
    addApp(
      world,
      defined({
        org: key,
        clientId: seededClientId(key),
        clientSecret: seededClientSecret(key),
        clientCredentialsUser: `ben@acme.com${suffix}`,
        callbacks: options.callbacks,
        rotation: options.rotation,
      }) as AppInput,
    )
    seedRecords(world, org, options.contacts ?? 2347)
  }
  for (const org of options.orgs ?? []) seedRecords(world, addOrg(world, org), 0)
  for (const user of options.users ?? []) addUser(world, user)
  for (const app of options.apps ?? []) addApp(world, app)
}

// name, industry, type, revenue, employees, city, state, country
const ACCOUNTS: [string, string, string, number, number, string, string, string][] = [
  ['Edge Communications', 'Electronics', 'Customer - Direct', 139_000_000, 1000, 'Austin', 'TX', 'USA'],
  ['Burlington Textiles Corp of America', 'Apparel', 'Customer - Direct', 350_000_000, 9000, 'Burlington', 'NC', 'USA'],
  ['Pyramid Construction Inc.', 'Construction', 'Customer - Channel', 950_000_000, 2680, 'Paris', '', 'France'],
  ['Harbourlight Hotels & Resorts', 'Hospitality', 'Customer - Direct', 500_000_000, 5600, 'Chicago', 'IL', 'USA'],
  ['Northwind Freight plc', 'Transportation', 'Customer - Channel', 950_000_000, 12_300, 'Portland', 'OR', 'USA'],
  ['Meridian Oil & Gas', 'Energy', 'Customer - Direct', 5_600_000_000, 145_000, 'Houston', 'TX', 'USA'],
  ['Meridian Oil & Gas, Singapore', 'Energy', 'Customer - Direct', 250_000_000, 3000, 'Singapore', '', 'Singapore'],
  ['Saguaro State University', 'Education', 'Customer - Direct', 60_000_000, 39_000, 'Tempe', 'AZ', 'USA'],
  ['Helixpoint Genomics', 'Biotechnology', 'Customer - Channel', 30_000_000, 265, 'Mountain View', 'CA', 'USA'],
  ['Ashgrove & Daughters Ltd', 'Consulting', 'Prospect', 50_000_000, 120, 'Leeds', '', 'United Kingdom'],
  ['Quillfeather Publishing', 'Media', 'Prospect', 12_500_000, 84, 'Edinburgh', '', 'United Kingdom'],
  ["O'Malley Dairy Co-operative", 'Agriculture', 'Prospect', 8_200_000, 61, 'Cork', '', 'Ireland'],
]
const FIRST = [
  'Rose',
  'Sean',
  'Jack',
  'Pat',
  'Andy',
  'Tim',
  'John',
  'Stella',
  'Lauren',
  'Babara',
  'Josh',
  'Jane',
  'Arthur',
]
const LAST = ['Gonzalez', 'Forbes', 'Rogers', 'Stumuller', 'Young', 'Barr', 'Bond', 'Pavlova', 'Boyle', 'Levy', 'Davis']
const TITLE = [
  'CEO',
  'CFO',
  'SVP, Procurement',
  'Director, Warehouse Operations',
  'VP, Facilities',
  'Regional Manager',
  null,
]
const OPPORTUNITIES: [string, number, string, number, number][] = [
  ['Edge Emergency Generator', 0, 'Closed Won', 75_000, 100],
  ['Edge Installation', 0, 'Prospecting', 50_000, 10],
  ['Burlington Weaving Plant Generator', 1, 'Closed Won', 235_000, 100],
  ['Pyramid Site Power', 2, 'Negotiation/Review', 100_000, 90],
  ['Harbourlight Kitchen Generator', 3, 'Id. Decision Makers', 15_000, 60],
  ['Northwind Depot Power', 4, 'Value Proposition', 120_000, 50],
  ['Meridian Refinery Generators', 5, 'Proposal/Price Quote', 270_000, 75],
  ['Saguaro Portable Generators', 7, 'Closed Lost', 50_000, 0],
]

function seedRecords(world: World, org: Org, contacts: number): void {
  // createRow only needs an author; an org seeded before its first user has an owner that no longer exists.
  const author = world.users.find(user => user.org === org.key) ?? { ...NOBODY, org: org.key }
  const add = (name: string, row: object) => {
    const type = objectType(name)
    if (!type) throw new Error(`no such seed type ${name}`)
    return String(createRow(world, org, type, row, author).Id)
  }
  const accounts = ACCOUNTS.map(([Name, Industry, Type, AnnualRevenue, NumberOfEmployees, city, state, country], i) =>
    add('Account', {
      Name,
      Industry,
      Type,
      AnnualRevenue,
      NumberOfEmployees,
      Phone: `(512) 555-01${String(i).padStart(2, '0')}`,
      Website: `https://${Name.toLowerCase()
        .replace(/[^a-z]+/g, '-')
        .replace(/-$/, '')}.example`,
      BillingCity: city,
      BillingState: state,
      BillingCountry: country,
      External_Id__c: `ACC-${i + 1}`,
    }),
  )
  for (const [Name, account, StageName, Amount, Probability] of OPPORTUNITIES) {
    add('Opportunity', { Name, AccountId: accounts[account], StageName, Amount, Probability, CloseDate: '2026-12-31' })
  }
  for (let i = 0; i < contacts; i++) {
    const FirstName = FIRST[i % FIRST.length] ?? ''
    const LastName = LAST[(i * 7) % LAST.length] ?? ''
    add('Contact', {
      FirstName,
      LastName,
      AccountId: accounts[i % accounts.length],
      Title: TITLE[i % TITLE.length],
      Email: `${FirstName}.${LastName}.${i + 1}@example.com`.toLowerCase(),
      External_Id__c: `CON-${i + 1}`,
    })
  }
}

const NOBODY = {
  id: '005000000000000AAA',
  username: '',
  password: '',
  email: '',
  firstName: '',
  lastName: '',
  active: false,
  apiEnabled: false,
  admin: false,
}
