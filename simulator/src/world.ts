// Everything the simulated Salesforce remembers: orgs with their records, users, apps, settings, the virtual clock,
// counters, and the tables of codes, grants and sessions that tokens.ts looks after. One mutable object, no module
// state, so several simulators can live in one process. Seeds come from seeds.ts.

import type { Delimiter, LineEnding } from './csv.ts'
import type { Form, Site } from './hosts.ts'
import { newClientId, newClientSecret, salesforceId } from './ids.ts'

export type OrgKind = 'production' | 'sandbox' | 'developer' | 'scratch' | 'playground'
export type Value = string | number | boolean | null
export type Row = Record<string, Value>

/** A site of Experience Cloud. `prefix` is its path, like `/partners`, or empty. */
export type Community = { id: string; prefix: string }

export type Org = {
  /** The name the admin API uses; never changes. */
  key: string
  /** First label of the My Domain host and the path prefix; changes when the org is moved. */
  domain: string
  former: { domain: string; answer: 'redirect' | 'gone'; oldOAuth: boolean }[]
  kind: OrgKind
  id: string
  name: string
  instanceName: string
  organizationType: string
  trialExpirationDate: string | null
  namespacePrefix: string | null
  createdDate: string
  /** Session length; an app's own wins. Salesforce default 2 h (SessionSettings.sessionTimeout). */
  sessionMinutes: number
  /** MyDomainSettings.canOnlyLoginWithMyDomainUrl. */
  onlyMyDomainLogin: boolean
  /** ExternalClientAppSettings.enableClientSecretInRestApiAccess. */
  secretsByRest: boolean
  apiVersionMax: number
  apiUsed: number
  apiMax: number
  communities: Community[]
  tables: Map<string, Map<string, Row>>
}

export type User = {
  id: string
  org: string
  username: string
  password: string
  email: string
  firstName: string
  lastName: string
  active: boolean
  /** The "API Enabled" permission; without it REST answers 403 API_DISABLED_FOR_ORG. */
  apiEnabled: boolean
  /** May deploy metadata and see apps' secrets; counts as approved where an app asks for that. */
  admin: boolean
}

export type RefreshPolicy =
  | { kind: 'untilRevoked' }
  | { kind: 'immediatelyExpire' }
  | { kind: 'idle'; days: number }
  | { kind: 'lifetime'; days: number }

/** An External Client App, local to one org. The same clientId in several orgs plays a packaged one. */
export type App = {
  org: string
  name: string
  /** API name; deployments and credentials name the app by it. */
  developerName: string
  /** `0xI…` and `888…`, by which its credentials are read. */
  identifier: string
  consumerId: string
  clientId: string
  clientSecret: string
  /** PEM, a certificate or a public key; with it the app may sign assertions (JWT bearer). */
  certificate: string | null
  /** A new secret waiting to be applied. */
  staged: { id: string; key: string; secret: string } | null
  callbacks: string[]
  scopes: string[]
  pkceRequired: boolean
  secretRequired: boolean
  secretRequiredForRefresh: boolean
  /** Refresh token rotation (isRefreshTokenRotationEnabled). */
  rotation: boolean
  refreshPolicy: RefreshPolicy
  sessionMinutes: number | null
  /** "Introspect All Tokens". */
  introspectAll: boolean
  /** Run-as user of the client credentials flow; null = flow not enabled. */
  clientCredentialsUser: string | null
  blocked: boolean
  /** "Admin approved users are pre-authorized": nobody else gets in. */
  adminApproved: boolean
  /** From where refresh tokens may be used; empty: anywhere. */
  refreshRanges: { start: string; end: string }[]
  /** A new app is unknown until its settings have propagated, up to ten minutes; in virtual time. */
  availableAt: number
}

/** Behaviours that are recalled or vary between orgs rather than documented; the sheet marks them [R]. */
export type Settings = {
  /** Authorise without clicks: the page is skipped and the answer is Allow (or Deny). */
  autoApprove: boolean | 'deny'
  /** How long a token request occupies its code or refresh token; a second one meanwhile loses. */
  refreshHoldMs: number
  codeMinutes: number
  maxApprovals: number
  /** Whether the eviction of the oldest approval also ends its access tokens. */
  evictionEndsSessions: boolean
  /** Whether a wrong verifier or redirect_uri spends the code. */
  failedExchangeSpendsCode: boolean
  /** Whether introspecting an access token slides its session. */
  introspectionIsActivity: boolean
  /** Answer a refresh that sends `scope` with invalid_request. */
  rejectScopeOnRefresh: boolean
  /** Whether login./test. know apps that are local to an org of their kind. False gives invalid_client_id. */
  localAppsOnGenericHosts: boolean
  /** Give repeated authorisations of one user and app the same access token (help remoteaccess_oauth_tokens_scopes). */
  sharedSessions: boolean
  /** Virtual milliseconds until an app that was deployed is known. */
  propagationMs: number
  /** Whether a consumerKey and consumerSecret in a deployment become the app's; reports differ. */
  honoursSuppliedCredentials: boolean
}

export const defaultSettings: Settings = {
  autoApprove: false,
  refreshHoldMs: 60,
  codeMinutes: 15,
  maxApprovals: 5,
  evictionEndsSessions: false,
  failedExchangeSpendsCode: true,
  introspectionIsActivity: false,
  rejectScopeOnRefresh: true,
  localAppsOnGenericHosts: true,
  sharedSessions: false,
  propagationMs: 0,
  honoursSuppliedCredentials: true,
}

/** An authorisation request between its arrival and the user's decision. */
export type Pending = {
  id: string
  clientId: string
  site: Extract<Site, { kind: 'generic' | 'org' }>
  redirectUri: string
  state: string | null
  scope: string | null
  challenge: string | null
  nonce: string | null
  loginHint: string | null
  user: User | null
  createdAt: number
}

export type Code = {
  app: App
  user: User
  redirectUri: string
  scopes: string[]
  challenge: string | null
  nonce: string | null
  createdAt: number
  spent: boolean
}

/** One approval of one app by one user: a refresh token family. */
export type Grant = {
  id: string
  org: string
  user: User
  app: App
  scopes: string[]
  refreshToken: string
  createdAt: number
  lastUsedAt: number
  /** Why it no longer works, or null while it does. Never told to the client, only to the admin API. */
  ended: string | null
}

/** What an opaque access token is to Salesforce. */
export type Session = {
  token: string
  org: string
  orgId: string
  user: User
  app: App
  scopes: string[]
  grant: Grant | null
  issuedAt: number
  windowStart: number
  windowMs: number
  ended: string | null
}

export type Cursor = { org: string; type: string; rows: Row[]; paths: string[]; expiresAt: number }

export type JobState = 'Open' | 'UploadComplete' | 'InProgress' | 'JobComplete' | 'Failed' | 'Aborted'

/** A Bulk API 2.0 job. Its tables have a header row. */
export type Job = {
  id: string
  org: string
  kind: 'ingest' | 'query'
  operation: 'insert' | 'update' | 'upsert' | 'delete' | 'hardDelete' | 'query' | 'queryAll'
  object: string
  externalIdFieldName: string | null
  columnDelimiter: Delimiter
  lineEnding: LineEnding
  state: JobState
  createdById: string
  createdDate: string
  systemModstamp: string
  apiVersion: number
  content: string | null
  errorMessage: string | null
  /** Of a query: its rows. */
  successful: string[][]
  failed: string[][]
  unprocessed: string[][]
}

/** A deployment of metadata. */
export type Deployment = {
  id: string
  org: string
  archive: Buffer
  checkOnly: boolean
  ignoreWarnings: boolean
  userId: string
  createdDate: string
  status: 'Pending' | 'InProgress' | 'Succeeded' | 'Failed' | 'Canceled'
  successes: object[]
  failures: object[]
  total: number
}

export type Counters = {
  /** Requests that arrived, by endpoint, whether or not a fault then swallowed them. */
  requests: Record<string, number>
  /** Token requests that arrived, by grant_type. */
  grants: Record<string, number>
  /** Token requests that succeeded, by grant_type. */
  issued: Record<string, number>
  rotations: number
  familyRevocations: number
  evictions: number
  alreadyProcessing: number
}

export type RequestEntry = {
  at: string
  method: string
  host: string
  form: Form
  path: string
  /** Query string with token values masked. */
  search: string
  endpoint: string
  grantType?: string
  /** Request headers as received, Authorization and Cookie values masked. */
  headers: Record<string, string>
  /** 0 while under way, or when the connection was dropped. */
  status: number
}

export type World = {
  settings: Settings
  clockSkipMs: number
  orgs: Org[]
  users: User[]
  apps: App[]
  pendings: Map<string, Pending>
  codes: Map<string, Code>
  grants: Grant[]
  refreshTokens: Map<string, { grant: Grant; spent: boolean }>
  sessions: Map<string, Session>
  cursors: Map<string, Cursor>
  jobs: Map<string, Job>
  deployments: Map<string, Deployment>
  /** `jti` of assertions that were accepted. */
  assertions: Set<string>
  /** Codes and refresh tokens some request is exchanging at this moment. */
  inFlight: Set<string>
  serials: Map<string, number>
  counters: Counters
  requests: RequestEntry[]
}

export const newCounters = (): Counters => ({
  requests: {},
  grants: {},
  issued: {},
  rotations: 0,
  familyRevocations: 0,
  evictions: 0,
  alreadyProcessing: 0,
})

export const emptyWorld = (settings: Partial<Settings>): World => ({
  settings: { ...defaultSettings, ...settings },
  clockSkipMs: 0,
  orgs: [],
  users: [],
  apps: [],
  pendings: new Map(),
  codes: new Map(),
  grants: [],
  refreshTokens: new Map(),
  sessions: new Map(),
  cursors: new Map(),
  jobs: new Map(),
  deployments: new Map(),
  assertions: new Set(),
  inFlight: new Set(),
  serials: new Map(),
  counters: newCounters(),
  requests: [],
})

export const now = (world: World): number => Date.now() + world.clockSkipMs

export const salesforceTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '+0000')

export function nextId(world: World, prefix: string): string {
  const serial = (world.serials.get(prefix) ?? 1000) + 1
  world.serials.set(prefix, serial)
  return salesforceId(prefix, serial)
}

export const count = (table: Record<string, number>, key: string): void => {
  table[key] = (table[key] ?? 0) + 1
}

export const findOrg = (world: World, key: string): Org | undefined =>
  world.orgs.find(org => org.key === key || org.domain === key || org.id === key)
export const findUser = (world: World, username: string): User | undefined =>
  world.users.find(user => user.username.toLowerCase() === username.trim().toLowerCase())
export const orgOf = (world: World, owned: { org: string }): Org => {
  const org = world.orgs.find(o => o.key === owned.org)
  // Guaranteed by addUser and addApp, which refuse an unknown org; orgs are never removed.
  if (!org) throw new Error(`the simulator lost the org ${owned.org}`)
  return org
}

// Adding to the world

export type OrgInput = { key: string; kind?: OrgKind } & Partial<Omit<Org, 'key' | 'kind' | 'tables' | 'former'>>
export type UserInput = { org: string; username: string; password?: string } & Partial<
  Omit<User, 'id' | 'org' | 'username' | 'password'>
>
export type AppInput = { org: string } & Partial<Omit<App, 'org' | 'availableAt'>> & {
    /** Milliseconds of virtual time until the new app is known; default 0. */
    propagationMs?: number
  }

/** A mistake of whoever drives the simulator, as opposed to a behaviour of the simulated Salesforce. */
export class BadInput extends Error {}

const EDITION = {
  production: 'Enterprise Edition',
  sandbox: 'Enterprise Edition',
  developer: 'Developer Edition',
  scratch: 'Developer Edition',
  playground: 'Developer Edition',
} as const
/** Daily API requests by kind of org (fact sheet §6.4). */
const API_MAX = {
  production: 100_000,
  sandbox: 5_000_000,
  developer: 15_000,
  scratch: 15_000,
  playground: 15_000,
} as const

export function addOrg(world: World, input: OrgInput): Org {
  if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(input.key)) throw new BadInput('org key must be a host label')
  if (['login', 'test'].includes(input.key) || findOrg(world, input.key)) {
    throw new BadInput(`org ${input.key} is taken`)
  }
  const kind = input.kind ?? (input.key.includes('--') ? 'sandbox' : 'production')
  const org: Org = {
    domain: input.key,
    kind,
    id: nextId(world, '00D'),
    name: 'Acme',
    instanceName: kind === 'production' ? 'USA662' : 'USA408S',
    organizationType: EDITION[kind],
    trialExpirationDate: kind === 'scratch' ? salesforceTime(now(world) + 30 * 86_400_000) : null,
    namespacePrefix: null,
    createdDate: '2024-03-01T09:00:00.000+0000',
    sessionMinutes: 120,
    onlyMyDomainLogin: false,
    secretsByRest: false,
    apiVersionMax: 68,
    apiUsed: 0,
    apiMax: API_MAX[kind],
    communities: [],
    ...defined(input),
    key: input.key,
    former: [],
    tables: new Map(),
  }
  world.orgs.push(org)
  return org
}

export function addUser(world: World, input: UserInput): User {
  const org = findOrg(world, input.org)
  if (!org) throw new BadInput(`unknown org ${input.org}`)
  if (findUser(world, input.username)) throw new BadInput(`username ${input.username} is taken`)
  const first = input.username.split('@')[0] ?? 'user'
  const user: User = {
    id: nextId(world, '005'),
    password: 'Simulated-1',
    email: input.username,
    firstName: first.charAt(0).toUpperCase() + first.slice(1),
    lastName: 'Example',
    active: true,
    apiEnabled: true,
    admin: false,
    ...defined(input),
    username: input.username,
    org: org.key,
  }
  world.users.push(user)
  return user
}

/** The client of Salesforce's own CLI, which is in every org and survives a sandbox's refresh. */
export const PLATFORM_CLI = 'PlatformCLI'

export function makeApp(world: World, input: AppInput): App {
  const org = findOrg(world, input.org)
  if (!org) throw new BadInput(`unknown org ${input.org}`)
  const { propagationMs = 0, ...given } = input
  return {
    name: 'Connection broker',
    developerName: `Connection_broker_${world.apps.length + 1}`,
    identifier: nextId(world, '0xI'),
    consumerId: nextId(world, '888'),
    clientId: newClientId(),
    clientSecret: newClientSecret(),
    certificate: null,
    staged: null,
    callbacks: ['http://localhost:3003/oauth/callback'],
    scopes: ['api', 'refresh_token', 'id'],
    pkceRequired: true,
    secretRequired: true,
    secretRequiredForRefresh: true,
    rotation: false,
    refreshPolicy: { kind: 'untilRevoked' },
    sessionMinutes: null,
    introspectAll: false,
    clientCredentialsUser: null,
    blocked: false,
    adminApproved: false,
    refreshRanges: [],
    ...defined(given),
    org: org.key,
    availableAt: now(world) + propagationMs,
  }
}

export function addApp(world: World, input: AppInput): App {
  const app = makeApp(world, input)
  const unusable = app.callbacks.find(callback => !URL.canParse(callback))
  if (unusable !== undefined) throw new BadInput(`callback is not a URL: ${unusable}`)
  if (world.apps.some(other => other.org === app.org && other.clientId === app.clientId)) {
    throw new BadInput('that org already has an app with this client id')
  }
  world.apps.push(app)
  return app
}

/** Drops undefined values, so an optional input never erases a default. */
export const defined = <T extends object>(input: T): T =>
  Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined)) as T
