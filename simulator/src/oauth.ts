// The OAuth server of Salesforce, on every generic and My Domain host:
//   GET|POST /services/oauth2/authorize    the request; then our login and consent pages under /secur/
//   POST     /services/oauth2/token        authorization_code, refresh_token, client_credentials, JWT bearer
//   POST     /services/oauth2/introspect   RFC 7662
//   POST|GET /services/oauth2/revoke       RFC 7009
// Error names and texts are those of the fact sheet §2.8. Token life is tokens.ts; pages are pages.ts.

import { createHash, createPublicKey, timingSafeEqual, verify, X509Certificate } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { baseOf, genericHostOf, ownBase } from './hosts.ts'
import type { Call, Reply } from './http.ts'
import { formOf, html, oauthError, redirect } from './http.ts'
import { idToken } from './identity.ts'
import { newCode, randomText } from './ids.ts'
import { consentPage, loginPage, oauthErrorPage } from './pages.ts'
import {
  communityFacts,
  endGrant,
  givesRefreshToken,
  grantEnd,
  identityUrl,
  isAlive,
  openGrant,
  openSession,
  rotate,
  sessionEnd,
  tokenBody,
  useSession,
} from './tokens.ts'
import type { App, Org, Pending, User, World } from './world.ts'
import { count, findUser, now, orgOf } from './world.ts'

// ── Which app is meant ──────────────────────────────────────────────────────────────────────────────────────────

/**
 * A local app is known only in its own org. A generic host has no org until somebody has logged in; real Salesforce
 * often answers invalid_client_id there for local apps, so that is a setting (fact sheet §1.4).
 */
function appsKnownHere(world: World, call: Call, clientId: string): App[] {
  const { site } = call.address
  return world.apps.filter(app => {
    if (app.clientId !== clientId || app.availableAt > now(world)) return false
    if (site.kind === 'org') return app.org === site.org.key
    if (site.kind !== 'generic' || !world.settings.localAppsOnGenericHosts) return false
    return genericHostOf(orgOf(world, app)) === site.name
  })
}

// ── Authorise ───────────────────────────────────────────────────────────────────────────────────────────────────

/** Before the redirect address can be trusted, errors are a page on this host and the callback is never called. */
const refusedHere = (error: string, description: string): Reply => html(400, oauthErrorPage(error, description))

function refusedThere(pending: Pick<Pending, 'redirectUri' | 'state'>, error: string, description: string): Reply {
  const url = new URL(pending.redirectUri)
  url.searchParams.append('error', error)
  url.searchParams.append('error_description', description)
  if (pending.state !== null) url.searchParams.append('state', pending.state)
  return redirect(url.href)
}

/** A fault: Salesforce refuses, in the way it does at that endpoint. */
export function refusal(call: Call, error: string, description: string, onPage: boolean): Reply {
  const asked = formOf(call)
  const redirectUri = asked.get('redirect_uri')
  if (!call.path.endsWith('/authorize')) return oauthError(error, description)
  return onPage || !redirectUri
    ? refusedHere(error, description)
    : refusedThere({ redirectUri, state: asked.get('state') }, error, description)
}

export function authorize(world: World, call: Call): Reply {
  const { site } = call.address
  if (site.kind !== 'org' && site.kind !== 'generic') return html(404, oauthErrorPage('not_found', 'No such page.'))
  const asked = formOf(call)
  const clientId = asked.get('client_id') ?? ''
  const redirectUri = asked.get('redirect_uri')
  const app = appsKnownHere(world, call, clientId)[0]

  if (!app) return refusedHere('invalid_client_id', 'client identifier invalid')
  if (app.blocked) return refusedHere('OAUTH_APP_BLOCKED', 'this app is blocked by admin')
  if (!redirectUri) return refusedHere('redirect_uri_missing', 'redirect_uri not provided')
  // Compared as strings: scheme, host, path and trailing slash all count (fact sheet §2.2).
  if (!app.callbacks.includes(redirectUri)) {
    return refusedHere('redirect_uri_mismatch', 'redirect_uri must match configuration')
  }
  if (!asked.get('response_type')) return refusedHere('invalid_request', 'response_type is required')

  const pending: Pending = {
    id: randomText(24),
    clientId,
    site,
    redirectUri,
    state: asked.get('state'),
    scope: asked.get('scope'),
    challenge: asked.get('code_challenge'),
    nonce: asked.get('nonce'),
    loginHint: asked.get('login_hint'),
    user: null,
    createdAt: now(world),
  }
  if (asked.get('response_type') !== 'code') {
    return refusedThere(pending, 'unsupported_response_type', 'response type not supported')
  }
  if (!pending.challenge && app.pkceRequired) {
    return refusedThere(pending, 'invalid_request', 'missing required code challenge')
  }
  // jsforce and the sf CLI leave the method out, so absence means S256 here, not plain as in RFC 7636 §4.3.
  if (pending.challenge && (asked.get('code_challenge_method') ?? 'S256') !== 'S256') {
    return refusedThere(pending, 'invalid_request', 'code challenge method must be S256')
  }
  if (!grantedScopes(app, pending.scope)) {
    return refusedThere(pending, 'invalid_scope', 'the requested scope is not allowed')
  }

  const header = call.headers['x-simulator-approve']
  const automatic = header === 'allow' ? true : header === 'deny' ? 'deny' : world.settings.autoApprove
  if (automatic !== false) {
    pending.user = firstUserFor(world, pending)
    return automatic === 'deny' ? deny(pending) : allow(world, call, pending)
  }
  if (asked.get('immediate') === 'true') {
    return refusedThere(pending, 'immediate_unsuccessful', 'immediate request unsuccessful')
  }
  forgetOldPendings(world)
  world.pendings.set(pending.id, pending)
  return showLogin(world, call, pending)
}

/** POST /secur/login: the form of our login page. */
export function login(world: World, call: Call): Reply {
  const form = formOf(call)
  const pending = world.pendings.get(form.get('request') ?? '')
  if (!pending) return refusedHere('invalid_request', 'this login page is too old; start again from the app')
  const user = findUser(world, form.get('username') ?? '')
  const site = pending.site
  const org = user && orgOf(world, user)
  const knownHere = org && (site.kind === 'org' ? site.org === org : genericHostOf(org) === site.name)
  // One text for every reason, as Salesforce does: it will not say which.
  if (!user || !org || !knownHere || !user.active || user.password !== form.get('password')) {
    const text =
      'Please check your username and password. If you still can’t log in, contact your Salesforce administrator.'
    return showLogin(world, call, { ...pending, loginHint: form.get('username') }, text)
  }
  if (site.kind === 'generic' && org.onlyMyDomainLogin) {
    return showLogin(world, call, pending, 'This org only accepts logins on its My Domain.')
  }
  const app = world.apps.find(a => a.clientId === pending.clientId && a.org === org.key)
  if (!app) return refusedHere('OAUTH_EC_APP_NOT_FOUND', 'External client app is not installed in this org')
  if (app.adminApproved && !user.admin) {
    return refusedHere('invalid_grant', 'user is not admin approved to access this app')
  }
  pending.user = user
  return html(
    200,
    consentPage({
      action: `${ownBase(call.address)}/secur/consent`,
      request: pending.id,
      app: app.name,
      username: user.username,
      org: `${org.name} (${org.key})`,
      scopes: grantedScopes(app, pending.scope) ?? [],
    }),
  )
}

/** POST /secur/consent: Allow or Deny. */
export function consent(world: World, call: Call): Reply {
  const form = formOf(call)
  const pending = world.pendings.get(form.get('request') ?? '')
  if (!pending?.user) return refusedHere('invalid_request', 'this page is too old; start again from the app')
  world.pendings.delete(pending.id)
  return form.get('decision') === 'allow' ? allow(world, call, pending) : deny(pending)
}

const deny = (pending: Pending) => refusedThere(pending, 'access_denied', 'end-user denied authorization')

function allow(world: World, call: Call, pending: Pending): Reply {
  const user = pending.user
  const app = user && appsKnownHere(world, call, pending.clientId).find(a => a.org === user.org)
  const scopes = app && grantedScopes(app, pending.scope)
  if (!user || !app || !scopes) {
    return refusedHere('OAUTH_APPROVAL_ERROR_GENERIC', 'An unexpected error has occurred during authentication.')
  }
  const code = newCode()
  world.codes.set(code, {
    app,
    user,
    redirectUri: pending.redirectUri,
    scopes,
    challenge: pending.challenge,
    nonce: pending.nonce,
    createdAt: now(world),
    spent: false,
  })
  const url = new URL(pending.redirectUri)
  url.searchParams.append('code', code)
  if (pending.state !== null) url.searchParams.append('state', pending.state)
  for (const [name, value] of Object.entries(communityFacts(call.address))) url.searchParams.append(name, value)
  return redirect(url.href)
}

/** Scope omitted means all scopes of the app; one it does not have means none at all (fact sheet §2.2). */
function grantedScopes(app: App, requested: string | null): string[] | null {
  const wanted = (requested ?? '').split(/\s+/).filter(Boolean)
  if (wanted.length === 0) return app.scopes
  const has = (scope: string) =>
    app.scopes.includes(scope) ||
    (scope === 'offline_access' && app.scopes.includes('refresh_token')) ||
    (scope === 'refresh_token' && app.scopes.includes('offline_access')) ||
    // `full` is everything except refresh_token (fact sheet §4).
    (app.scopes.includes('full') && scope !== 'refresh_token' && scope !== 'offline_access')
  return wanted.every(has) ? [...new Set(wanted)] : null
}

/** Who the login page suggests, and who an automatic approval signs in. */
function firstUserFor(world: World, pending: Pending): User | null {
  const orgs = world.apps.filter(app => app.clientId === pending.clientId).map(app => app.org)
  const here = world.users.filter(user => {
    if (!user.active || !orgs.includes(user.org)) return false
    const { site } = pending
    return site.kind === 'org' ? user.org === site.org.key : genericHostOf(orgOf(world, user)) === site.name
  })
  const hint = pending.loginHint?.toLowerCase()
  return here.find(user => user.username.toLowerCase() === hint) ?? here[0] ?? null
}

function showLogin(world: World, call: Call, pending: Pending, problem?: string): Reply {
  const suggested = firstUserFor(world, pending)
  const username = pending.loginHint ?? suggested?.username ?? ''
  const { site } = call.address
  return html(
    200,
    loginPage({
      action: `${ownBase(call.address)}/secur/login`,
      request: pending.id,
      where: site.kind === 'org' ? site.org.domain : site.kind === 'generic' ? `${site.name}.salesforce.com` : '',
      sandbox:
        site.kind === 'org' ? genericHostOf(site.org) === 'test' : site.kind === 'generic' && site.name === 'test',
      username,
      password: findUser(world, username)?.password ?? '',
      ...(problem === undefined ? {} : { problem }),
    }),
  )
}

function forgetOldPendings(world: World): void {
  for (const [id, pending] of world.pendings) {
    if (world.pendings.size > 1000 || pending.createdAt < now(world) - 3_600_000) world.pendings.delete(id)
  }
}

// ── Token ───────────────────────────────────────────────────────────────────────────────────────────────────────

type Exchange = { world: World; call: Call; form: URLSearchParams; app: App; org: Org }
type GrantType = { secretNeeded: (app: App) => boolean; exchange: (x: Exchange) => Reply | Promise<Reply> }

const grantTypes: Record<string, GrantType> = {
  authorization_code: { secretNeeded: app => app.secretRequired, exchange: exchangeCode },
  refresh_token: { secretNeeded: app => app.secretRequiredForRefresh, exchange: refresh },
  client_credentials: { secretNeeded: () => true, exchange: clientCredentials },
}
/** Its client says who it is in the assertion and proves it by the signature. */
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

export async function token(world: World, call: Call): Promise<Reply> {
  if (call.method !== 'POST') return oauthError('invalid_request', 'must use HTTP POST')
  const form = formOf(call)
  const grantType = form.get('grant_type') ?? ''
  if (grantType === JWT_BEARER && call.address.site.kind !== 'lightning') {
    const reply = jwtBearer(world, call, form)
    if (reply.status === 200) count(world.counters.issued, grantType)
    return reply
  }
  const grant = Object.hasOwn(grantTypes, grantType) ? grantTypes[grantType] : undefined
  // A Lightning host serves the UI; its token endpoint supports nothing, which users misread (fact sheet §1.2).
  if (!grant || call.address.site.kind === 'lightning') {
    return oauthError('unsupported_grant_type', 'grant type not supported')
  }
  const app = authenticateClient(world, call, form, grant.secretNeeded)
  if ('status' in app) return app
  if (app.blocked) return oauthError('OAUTH_APP_BLOCKED', 'this app is blocked by admin')
  const reply = await grant.exchange({ world, call, form, app, org: orgOf(world, app) })
  if (reply.status === 200) count(world.counters.issued, grantType)
  return reply
}

/** RFC 6749 §2.3.1: HTTP Basic, or client_id and client_secret in the body; both together are tolerated [R]. */
function authenticateClient(
  world: World,
  call: Call,
  form: URLSearchParams,
  secretNeeded: (app: App) => boolean,
): App | Reply {
  let clientId = form.get('client_id')
  let secret = form.get('client_secret')
  const header = call.headers.authorization
  if (header !== undefined && /^basic\b/i.test(header)) {
    const basic = readBasic(header)
    if (!basic) return oauthError('invalid_basic_auth_header', 'invalid basic authentication header')
    clientId = basic.clientId
    secret = basic.secret
  }
  const app = appsKnownHere(world, call, clientId ?? '')[0]
  if (!app) return oauthError('invalid_client_id', 'client identifier invalid')
  // An optional secret that is sent is still validated (fact sheet §2.3).
  if (secret === null ? secretNeeded(app) : !sameText(secret, app.clientSecret)) {
    return oauthError('invalid_client', 'invalid client credentials')
  }
  return app
}

function readBasic(header: string): { clientId: string; secret: string } | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(header)?.[1]
  const text = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon < 1) return undefined
  try {
    // RFC 6749 §2.3.1: both halves are form-urlencoded before they are joined.
    const decode = (part: string) => decodeURIComponent(part.replace(/\+/g, ' '))
    return { clientId: decode(text.slice(0, colon)), secret: decode(text.slice(colon + 1)) }
  } catch {
    return undefined
  }
}

const sameText = (a: string, b: string) =>
  timingSafeEqual(createHash('sha256').update(a).digest(), createHash('sha256').update(b).digest())

/**
 * Salesforce lets one request at a time present a code or refresh token (release note rn_security_refresh_token
 * _requests, Summer '24). The state change happens first and the token stays occupied for a while after, so a test
 * can see the loser's answer and a dropped winner has still been committed.
 */
async function alone(world: World, presented: string, work: () => Reply): Promise<Reply> {
  if (world.inFlight.has(presented)) {
    world.counters.alreadyProcessing++
    return oauthError('invalid_grant', 'token request is already being processed')
  }
  world.inFlight.add(presented)
  try {
    const reply = work()
    await sleep(world.settings.refreshHoldMs, undefined, { ref: false })
    return reply
  } finally {
    world.inFlight.delete(presented)
  }
}

function exchangeCode({ world, call, form, app }: Exchange): Promise<Reply> {
  const presented = form.get('code') ?? ''
  return alone(world, presented, () => {
    const code = world.codes.get(presented)
    const tooOld = code && now(world) > code.createdAt + world.settings.codeMinutes * 60_000
    if (!code || code.spent || tooOld || code.app !== app) {
      return oauthError('invalid_grant', 'expired authorization code')
    }
    code.spent = world.settings.failedExchangeSpendsCode
    if (form.get('redirect_uri') !== code.redirectUri) {
      return oauthError('redirect_uri_mismatch', 'redirect_uri must match configuration')
    }
    const verifier = form.get('code_verifier')
    if (code.challenge !== null && !verifier) return oauthError('invalid_request', 'missing required code verifier')
    // Verifiers longer than the 128 characters of RFC 7636 §4.1 are accepted: jsforce sends 171.
    if (code.challenge !== null && verifier && s256(verifier) !== code.challenge.replace(/=+$/, '')) {
      return oauthError('invalid_grant', 'invalid code verifier')
    }
    if (!code.user.active) return oauthError('invalid_grant', 'inactive user')
    code.spent = true
    const grant = givesRefreshToken(code.scopes) ? openGrant(world, code.user, app, code.scopes) : null
    const session = openSession(world, code.user, app, code.scopes, grant)
    const body = tokenBody(world, call.address, session, grant?.refreshToken ?? null)
    const extra = code.scopes.includes('openid') ? { id_token: idToken(world, call.address, session, code.nonce) } : {}
    return success({ ...body, ...extra })
  })
}

const s256 = (verifier: string) => createHash('sha256').update(verifier).digest('base64url')

function refresh({ world, call, form, app }: Exchange): Reply | Promise<Reply> {
  // Down-scoping is not offered (fact sheet §2.4 b) [R: the wording].
  if (form.has('scope') && world.settings.rejectScopeOnRefresh) {
    return oauthError('invalid_request', 'scope parameter not supported')
  }
  const presented = form.get('refresh_token') ?? ''
  return alone(world, presented, () => {
    const known = world.refreshTokens.get(presented)
    const dead = oauthError('invalid_grant', 'expired access/refresh token')
    if (!known || known.grant.app !== app) return dead
    const { grant, spent } = known
    if (spent) {
      // Presenting a rotated token is taken for theft: the live token and its sessions die too (fact sheet §3.2).
      if (grant.ended === null) world.counters.familyRevocations++
      endGrant(world, grant, 'a rotated refresh token was presented again')
      return dead
    }
    if (!grant.user.active) return oauthError('invalid_grant', 'inactive user')
    if (!fromAllowed(app, call)) return oauthError('invalid_grant', 'ip restricted')
    if (grantEnd(world, grant) !== null) return dead
    grant.lastUsedAt = now(world)
    const rotated = app.rotation ? rotate(world, grant) : null
    return success(tokenBody(world, call.address, openSession(world, grant.user, app, grant.scopes, grant), rotated))
  })
}

/** ExtlClntAppOauthSecuritySettings.tokenIpRanges; IPv4, since that is what the ranges are written in. */
function fromAllowed(app: App, { remote }: Call): boolean {
  const number = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const from = number(remote.replace(/^::ffff:/, ''))
  return app.refreshRanges.length === 0 || app.refreshRanges.some(r => number(r.start) <= from && from <= number(r.end))
}

function clientCredentials({ world, call, app }: Exchange): Reply {
  if (call.address.site.kind !== 'org') return oauthError('invalid_grant', 'request not supported on this domain')
  const user = app.clientCredentialsUser === null ? undefined : findUser(world, app.clientCredentialsUser)
  if (!user || user.org !== app.org) return oauthError('invalid_grant', 'no client credentials user enabled')
  if (!user.active) return oauthError('invalid_grant', 'inactive user')
  const withheld = ['full', 'web', 'refresh_token', 'offline_access']
  const scopes = app.scopes.filter(scope => !withheld.includes(scope))
  return success(tokenBody(world, call.address, openSession(world, user, app, scopes, null), null))
}

/**
 * Fact sheet §2.4 c. Quirks of clients that the platform lives with: `prn` wins over `sub`, `exp` may be milliseconds or a
 * string. The user must have approved the app before, or an administrator for them.
 */
function jwtBearer(world: World, call: Call, form: URLSearchParams): Reply {
  const invalid = (description: string) => oauthError('invalid_grant', description)
  const parts = (form.get('assertion') ?? '').split('.')
  const [head, claims] = parts.slice(0, 2).map(readPart)
  if (parts.length !== 3 || !head || !claims || head.alg !== 'RS256') return invalid('invalid assertion')
  const app = appsKnownHere(world, call, String(claims.iss ?? ''))[0]
  if (!app) return oauthError('invalid_client_id', 'client identifier invalid')
  if (app.blocked) return oauthError('OAUTH_APP_BLOCKED', 'this app is blocked by admin')
  if (app.certificate === null) return invalid('invalid assertion')
  const signed = Buffer.from(`${parts[0]}.${parts[1]}`)
  if (!verify('sha256', signed, publicKey(app.certificate), Buffer.from(parts[2] ?? '', 'base64url'))) {
    return invalid('invalid assertion')
  }
  const org = orgOf(world, app)
  const audiences = [
    `https://${genericHostOf(org)}.salesforce.com`,
    baseOf(call.address, genericHostOf(org)),
    baseOf(call.address, org),
    ownBase(call.address),
  ]
  if (!audiences.includes(String(claims.aud ?? '').replace(/\/$/, ''))) return invalid('audience is invalid')
  const skew = 3 * 60_000
  const given = Number(claims.exp)
  const expires = given > 1e11 ? given : given * 1000
  if (!(expires > now(world) - skew) || expires > now(world) + 2 * skew) {
    return invalid(expires > now(world) ? 'invalid assertion' : 'expired authorization code')
  }
  if (typeof claims.jti === 'string') {
    if (world.assertions.has(claims.jti)) return oauthError('bad_jti_claim', 'the assertion was used before')
    world.assertions.add(claims.jti)
  }
  const user = findUser(world, String(claims.prn ?? claims.sub ?? ''))
  if (!user || user.org !== app.org) return invalid("user hasn't approved this consumer")
  if (!user.active) return invalid('inactive user')
  const approved = app.adminApproved
    ? user.admin
    : world.grants.some(grant => grant.app === app && grant.user === user && grantEnd(world, grant) === null)
  if (!approved) {
    return invalid(
      app.adminApproved ? 'user is not admin approved to access this app' : "user hasn't approved this consumer",
    )
  }
  const scopes = app.scopes.filter(scope => scope !== 'refresh_token' && scope !== 'offline_access')
  const body = tokenBody(world, call.address, openSession(world, user, app, scopes, null), null)
  const { access_token, scope, instance_url, id, token_type } = body
  return success({ access_token, scope, instance_url, id, token_type })
}

function readPart(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

const publicKey = (pem: string) =>
  pem.includes('CERTIFICATE') ? new X509Certificate(pem).publicKey : createPublicKey(pem)

const success = (json: object): Reply => ({
  status: 200,
  headers: { 'cache-control': 'no-store', pragma: 'no-cache' },
  json,
})

// ── Introspect and revoke ───────────────────────────────────────────────────────────────────────────────────────

export function introspect(world: World, call: Call): Reply {
  if (call.method !== 'POST') return oauthError('invalid_request', 'must use HTTP POST')
  const form = formOf(call)
  const app = authenticateClient(world, call, form, () => true)
  if ('status' in app) {
    const body = app.json as { error: string }
    return body.error === 'invalid_basic_auth_header'
      ? app
      : oauthError('invalid_client', 'invalid client credentials', 401)
  }
  const presented = form.get('token') ?? ''
  if (!presented) return oauthError('invalid_request', 'token is required')
  const seconds = (ms: number) => Math.floor(ms / 1000)
  // An app sees its own tokens; "Introspect All Tokens" extends that to the org's (fact sheet §2.7).
  const mayLook = (owner: App) => owner === app || (app.introspectAll && owner.org === app.org)

  const session = world.sessions.get(presented)
  if (session && isAlive(world, session) && mayLook(session.app)) {
    if (world.settings.introspectionIsActivity) useSession(world, session)
    return success({
      active: true,
      scope: session.scopes.join(' '),
      client_id: session.app.clientId,
      username: session.user.username,
      sub: identityUrl(world, call.address, session.user),
      token_type: 'access_token',
      exp: seconds(sessionEnd(session)),
      iat: seconds(session.windowStart),
      nbf: seconds(session.windowStart),
    })
  }
  const known = world.refreshTokens.get(presented)
  if (
    known &&
    !known.spent &&
    grantEnd(world, known.grant) === null &&
    known.grant.user.active &&
    mayLook(known.grant.app)
  ) {
    const { grant } = known
    const policy = grant.app.refreshPolicy
    return success({
      active: true,
      scope: grant.scopes.join(' '),
      client_id: grant.app.clientId,
      username: grant.user.username,
      sub: identityUrl(world, call.address, grant.user),
      token_type: 'refresh_token',
      ...(policy.kind === 'lifetime' ? { exp: seconds(grant.createdAt + policy.days * 86_400_000) } : {}),
      iat: seconds(grant.createdAt),
      nbf: seconds(grant.createdAt),
    })
  }
  return success({ active: false })
}

/** No client authentication: holding the token is enough (fact sheet §2.7). A dead token is a 400, unlike RFC 7009. */
export function revoke(world: World, call: Call): Reply {
  const presented = formOf(call).get('token') ?? call.query.get('token') ?? ''
  const session = world.sessions.get(presented)
  if (session && isAlive(world, session)) {
    session.ended = 'revoked'
    return { status: 200 }
  }
  const known = world.refreshTokens.get(presented)
  if (known && !known.spent && grantEnd(world, known.grant) === null) {
    endGrant(world, known.grant, 'revoked')
    return { status: 200 }
  }
  return oauthError('invalid_token', 'invalid token')
}
