/**
 * The doctor: what is right and wrong with a connection to an org, found with eight short questions at most. Two of them count against the
 * org's API calls of the day, and neither is asked when those are nearly used up. Whatever cannot be found out is left out, not guessed.
 */
import type { Finding, Severity } from '@fairlead/contract'
import { missingScopes, organizationQuery, readOrganization, readVersions, sameId } from './account.ts'
import { type Context, explain, type Where } from './errors.ts'
import { loginOf, readHost } from './hosts.ts'
import { type SetupPage, setupLink } from './setup.ts'

interface Answer {
  status: number
  body: string
}

export interface Patient {
  /** Which log-in the integration is for; undefined: either. */
  login: 'production' | 'sandbox' | undefined
  org: string | undefined
  hostname: string | undefined
  organizationId: string | undefined
  apiVersion: string | undefined
  clientId: string
  callback: string
  exits: readonly string[]
  /** A sign-in in a browser, with a refresh token. */
  signsIn: boolean
  health: string
  cause: string | null
  /** What was said when it came into this state. */
  said: readonly [error: string, description: string] | null
  scopesRequested: readonly string[]
  scopesGranted: readonly string[]
  renewable: boolean
  rotates: boolean | undefined
  grants: number
  usage: { used: number; limit: number } | undefined
  api(path: string): Promise<Answer | undefined>
  open(url: URL): Promise<Answer | undefined>
  asClient(url: URL, form: Record<string, string>): Promise<Answer | undefined>
  introspect(token: 'access_token' | 'refresh_token'): Promise<'active' | 'inactive' | 'unknown' | 'not_offered'>
}

/** Beyond it nothing is asked that counts. */
const lowBudget = 0.9
const keptApprovals = 5
const idleDays = 30

export async function examine(patient: Patient): Promise<Finding[]> {
  const findings: Finding[] = []
  const { org, login } = patient
  const context: Context = { login, org, callback: patient.callback, exits: patient.exits }
  const link = (page: SetupPage) => setupLink(org, page)
  const add = (code: string, severity: Severity, title: string, detail: string, fix = '', where?: string) =>
    findings.push({ code, severity, title, detail, fix, ...(where && { link: where }) })
  /** An error of Salesforce, in the words of the table every other place uses. */
  const addError = (where: Where, error: string, description: string, severity: Severity = 'error') => {
    const { code, title, explanations } = explain({ where, error, description }, context)
    const [first] = explanations
    add(code, severity, title, explanations.map(({ text }) => text).join(' '), first?.fix, first?.link)
  }

  // What is known without asking.
  const address = org === undefined ? null : URL.parse(org)
  const typed = patient.hostname === undefined ? undefined : readHost(patient.hostname, { localhost: true })
  if (!patient.hostname && login === 'sandbox')
    add(
      'generic_host',
      'info',
      'The sandbox was signed in to at the generic log-in',
      'Apps that are local to one sandbox are often unknown at test.salesforce.com. Its own address always knows them.',
      `Give ${address?.host ?? 'its My Domain'} as the host the next time it is connected.`,
    )
  else if (
    typed?.ok &&
    address &&
    !typed.host.generic &&
    typed.host.host !== address.hostname &&
    address.hostname.includes('.my.')
  )
    add(
      'host_renamed',
      'warning',
      'The org has another address by now',
      `It was connected at ${typed.host.host} and answers at ${address.host}. The old address is served for a limited time only.`,
      `Reconnect with ${address.host} as the host.`,
      link('OrgDomain'),
    )
  else add('host', 'ok', 'The address is the org’s own', address?.host ?? patient.hostname ?? 'No address is needed.')

  const has = (scope: string) => patient.scopesGranted.includes(scope)
  const missing = missingScopes(patient.scopesRequested, patient.scopesGranted, patient.signsIn)
  if (!has('api') && !has('full'))
    addError('api', 'INVALID_SESSION_ID', 'This session is not valid for use with the REST API')
  if (missing.length > 0)
    add(
      'scopes_missing',
      'warning',
      'Scopes that were asked for were not granted',
      `Missing: ${missing.join(', ')}.`,
      'Add them to the OAuth scopes of the app, then reconnect.',
      link('ManageExternalClientApplication'),
    )
  else add('scopes', 'ok', 'All scopes were granted', patient.scopesGranted.join(' ') || 'None were asked for.')
  if (patient.signsIn && !patient.renewable)
    add(
      'refresh_token_missing',
      'warning',
      'There is no refresh token',
      'When the session ends, after two hours unless the org says otherwise, somebody has to sign in again.',
      'Add "Perform requests at any time (refresh_token)" to the app and to the integration, then reconnect.',
      link('ManageExternalClientApplication'),
    )
  if (patient.rotates)
    add(
      'rotation',
      'info',
      'Refresh tokens rotate',
      'Each works once, and one that is used again ends the grant. Never use the same grant in another program.',
    )
  if (patient.signsIn && patient.renewable)
    add(
      'idle_limit',
      'ok',
      'It is not left idle',
      `An org may end what nobody uses for ${idleDays} days. It is renewed here well before, used or not.`,
    )
  const troubled = patient.health === 'needs_reauth' || patient.health === 'blocked_by_policy'
  if (patient.said) addError('refresh', ...patient.said, troubled ? 'error' : 'warning')
  // Known without Salesforce having said it: nobody holds the tokens any more.
  else if (troubled) addError('refresh', 'invalid_grant', 'expired access/refresh token')
  if (patient.grants >= keptApprovals - 1)
    add(
      'approvals_near_limit',
      'warning',
      `${patient.grants} of ${keptApprovals} approvals of this user are used`,
      'Salesforce keeps five for one user and app; a sixth silently ends the oldest.',
      'Delete connections of this user that nobody uses.',
      link('ConnectedAppsUsage'),
    )
  else if (patient.grants > 0)
    add(
      'approvals',
      'ok',
      `${patient.grants} of ${keptApprovals} approvals of this user are used`,
      'There is room for another.',
    )

  // The app, without anybody's token. In the other flows each renewal says the same.
  if (org !== undefined && patient.clientId && patient.signsIn) {
    await examineApp(patient, org, add, addError)
    await examineAuthorization(patient, org, add, addError)
  }

  // The token.
  const access = patient.health === 'needs_reauth' ? 'not_offered' : await patient.introspect('access_token')
  if (access === 'active')
    add('introspection', 'ok', 'The app may ask about its tokens', 'So it is known when they end.')
  else if (access === 'unknown')
    add(
      'introspection',
      'info',
      'Salesforce does not tell when tokens end',
      'They serve until a call is refused, and are renewed then. "Introspect All Tokens" is not needed for that.',
    )

  // Only while nothing is known against it: in trouble the state says more.
  const renewal =
    patient.signsIn && patient.renewable && patient.health === 'active'
      ? await patient.introspect('refresh_token')
      : 'not_offered'
  if (renewal === 'active')
    add('refresh_policy', 'ok', 'The refresh token is good', 'The policy of the app has not ended it.')
  else if (renewal === 'inactive')
    add(
      'refresh_policy',
      'warning',
      'The refresh token is not good any more',
      'The access token serves to its end, and nothing can renew it then. Either the policy of the app is "Immediately expire refresh token", or the grant was revoked or pushed out by a newer one.',
      'Policies of the app → Refresh Token Policy → valid until revoked, then reconnect.',
      link('ManageExternalClientApplication'),
    )

  const versions = await patient.api('/services/data')
  const [newest] = versions?.status === 200 ? readVersions(versions.body) : []
  if (newest && patient.apiVersion && Number(patient.apiVersion) < Number(newest))
    add(
      'api_version',
      'info',
      `The org speaks version ${newest} of the API by now`,
      `It was ${patient.apiVersion} when it was connected. Old versions go on working for years.`,
    )
  else if (newest) add('api_version', 'ok', `Version ${newest} of the API`, 'The newest the org speaks.')
  else if (versions?.status === 420 || versions?.status === 301) addError('api', 'HTTP 420', '')

  await examineBudget(patient, newest ?? patient.apiVersion ?? '60.0', context, add, addError)
  const order: Severity[] = ['error', 'warning', 'info', 'ok']
  return findings.sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity))
}

type Add = (code: string, severity: Severity, title: string, detail: string, fix?: string, link?: string) => void
type AddError = (where: Where, error: string, description: string, severity?: Severity) => void

/** A code that cannot exist: a client that is known and has the right secret hears about the code, any other about itself. */
async function examineApp(patient: Patient, org: string, add: Add, addError: AddError): Promise<void> {
  const form = {
    grant_type: 'authorization_code',
    code: 'examined',
    redirect_uri: patient.callback,
    code_verifier: 'examined',
  }
  const said = errorOf(await patient.asClient(new URL(`${org}/services/oauth2/token`), form))
  if (!said) return
  if (/^invalid_client/.test(said.error) || /not_found|blocked|installed/i.test(`${said.error} ${said.description}`))
    addError('token', said.error, said.description)
  else if (said.error === 'invalid_grant')
    add(
      'app',
      'ok',
      'The org knows the app, and the client secret is right',
      'It was asked with a code that cannot exist.',
    )
}

/** Neither request has a browser's session, so the best that can come is a log-in page. */
async function examineAuthorization(patient: Patient, org: string, add: Add, addError: AddError): Promise<void> {
  const url = new URL(`${org}/services/oauth2/authorize`)
  url.search = new URLSearchParams({
    ...{ response_type: 'code', client_id: patient.clientId, redirect_uri: patient.callback, prompt: 'login' },
    ...{ code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM', code_challenge_method: 'S256' },
  }).toString()
  const page = (await patient.open(url))?.body ?? ''
  const found = /redirect_uri_mismatch|OAUTH_APP_BLOCKED|OAUTH_EC_APP_NOT_FOUND/.exec(page)?.[0]
  if (found) addError('authorize', found, '')
  else if (/<form|login|password/i.test(page) && !/invalid_client_id/.test(page))
    add('callback', 'ok', 'The app knows the callback address of this server', patient.callback)
  add('pkce', 'ok', 'Every sign-in is bound by PKCE', 'S256, whether the app requires it or not.')
}

async function examineBudget(patient: Patient, version: string, context: Context, add: Add, addError: AddError) {
  const { login, org } = context
  const isLow = (used: number, limit: number) => limit > 0 && used >= limit * lowBudget
  const low = (used: number, limit: number) =>
    add(
      'budget_low',
      used >= limit ? 'error' : 'warning',
      `${used} of ${limit} API calls of the day are used`,
      'Nothing that counts was asked, so the org itself was not looked at. Every program that calls the org shares this budget.',
      'Find the program that calls so often, or have the budget raised.',
      setupLink(org, 'CompanyProfileInfo'),
    )
  if (patient.usage && isLow(patient.usage.used, patient.usage.limit))
    return low(patient.usage.used, patient.usage.limit)

  const limits = await patient.api(`/services/data/v${version}/limits`)
  if (!limits) return
  if (limits.status !== 200) {
    const said = apiErrorOf(limits)
    return addError('api', said.error, said.description)
  }
  add('api', 'ok', 'The API takes the token', `Asked at ${org}.`)
  const from = patient.exits.length > 0 ? ` Requests come from ${patient.exits.join(', ')}.` : ''
  add(
    'ip_policy',
    'ok',
    'No restriction of addresses stands in the way',
    `Where an org has one, in profiles, in the app’s policies or for refresh tokens, this server has to be in it.${from}`,
  )
  const daily = limitOf(limits.body)
  if (daily && isLow(daily.used, daily.limit)) return low(daily.used, daily.limit)
  if (daily)
    add(
      'budget',
      'ok',
      `${daily.used} of ${daily.limit} API calls of the day are used`,
      'Every program that calls the org shares them.',
    )

  const asked = await patient.api(`/services/data/v${version}/query?q=${encodeURIComponent(organizationQuery)}`)
  const organization = asked?.status === 200 ? readOrganization(asked.body) : undefined
  if (!organization) return
  const at = loginOf(organization.kind)
  if (patient.organizationId && !sameId(patient.organizationId, organization.id))
    addError('reconnect', 'account_replaced', '')
  else if (login && at !== login)
    addError('reconnect', at === 'sandbox' ? 'sandbox_on_production' : 'production_on_sandbox', '')
  else
    add(
      'organization',
      'ok',
      `${organization.name}: ${organization.edition}, instance ${organization.instance}`,
      `Organization ${organization.id}, the one that was connected.`,
    )
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

const text = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 255) : '')

function errorOf(answer: Answer | undefined): { error: string; description: string } | undefined {
  const { error, error_description } = (parse(answer?.body ?? '') ?? {}) as Record<string, unknown>
  return text(error) ? { error: text(error), description: text(error_description) } : undefined
}

/** The API answers with a list of errors, its identity service with plain text. */
function apiErrorOf({ status, body }: Answer): { error: string; description: string } {
  const list = parse(body)
  const first = (Array.isArray(list) ? list[0] : undefined) as Record<string, unknown> | undefined
  if (text(first?.errorCode)) return { error: text(first?.errorCode), description: text(first?.message) }
  return { error: /^\w{1,40}$/.test(body.trim()) ? body.trim() : `HTTP ${status}`, description: '' }
}

function limitOf(body: string): { used: number; limit: number } | undefined {
  const { DailyApiRequests: daily } = (parse(body) ?? {}) as {
    DailyApiRequests?: { Max?: unknown; Remaining?: unknown }
  }
  return typeof daily?.Max === 'number' && typeof daily.Remaining === 'number'
    ? { used: daily.Max - daily.Remaining, limit: daily.Max }
    : undefined
}
