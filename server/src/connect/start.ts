import { type IntegrationDefaults, unstorable } from '@fairlead/contract'
import { holderOf } from '../connection/live.ts'
import { authorizationPage } from '../credential/kinds/oauth1.ts'
import { authorizationUrl, automatedFacts, type Client, secretNames } from '../credential/kinds/oauth2-code.ts'
import { Failure } from '../errors.ts'
import { type Integration, listIntegrations } from '../integration/store.ts'
import { newId, randomToken } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { type ConnectionConfig, endpoint } from '../provider/endpoint.ts'
import { fieldFault } from '../provider/form.ts'
import type { Elsewhere, Hooks } from '../provider/hooks.ts'
import type { Provider } from '../provider/schema.ts'
import type { AskDeps } from './answer.ts'
import { bindBrowser } from './browser.ts'
import { beginOAuth1, written } from './oauth1.ts'
import { givenFacts, targetOf } from './reconnect.ts'
import { addHandshake, askForOpener, type Begun, type Session, type StoreDeps } from './store.ts'

export interface StartDeps extends StoreDeps, AskDeps {
  catalogue: Catalogue
  /** The public base of this server. */
  url: string
}

/** The query of GET /oauth/connect/:key, taken apart. */
export interface StartQuery {
  params: Record<string, string>
  authorizationParams: Record<string, string>
  /** The `ws_client_id`: of a WebSocket of ours, or any UUID that the client made up to find the result by. */
  attempt: string | null
  /** Where the browser goes in the end: one of the environment's return URLs. */
  returnUrl: string | null
  /** The OAuth client of whoever signs in, in the place of the integration's. */
  client: Client | null
  /** The refresh token of whoever signs in, in the place of the one the sign-in brings. */
  refreshToken: Secret | null
}

const known = new Set(['connect_session_token', 'ws_client_id', 'user_scope', 'click'])

/** The wire contract's names for what one connection brings. They stand among its credentials, and are no fact of an account. */
const clientIdName = 'oauth_client_id_override'
const [clientSecretName, refreshTokenName] = secretNames
const broughtNames = new Set<string>([clientIdName, ...secretNames])

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** `params[hostname]=…` and its siblings. Throws `invalid_query_params` for what nobody defined. */
export function readStartQuery(search: URLSearchParams): StartQuery {
  const query: StartQuery = {
    ...{ params: {}, authorizationParams: {}, attempt: null, returnUrl: null },
    ...{ client: null, refreshToken: null },
  }
  const credentials: Record<string, string> = {}
  const issues: { code: string; message: string; path: string[] }[] = []
  const refuse = (message: string, ...path: string[]) => issues.push({ code: 'custom', message, path })
  const seen = new Set<string>()
  for (const [name, value] of search) {
    if (seen.has(name)) refuse('Sent more than once.', name)
    seen.add(name)
    if (unstorable.test(name + value)) refuse('Holds U+0000.', name)
    const nested = /^(params|authorization_params|credentials)\[([^\]]{1,255})\]$/.exec(name)
    if (nested?.[1] === 'params') query.params[nested[2]!] = value
    else if (nested?.[1] === 'authorization_params') query.authorizationParams[nested[2]!] = value
    else if (nested && broughtNames.has(nested[2]!)) credentials[nested[2]!] = value
    else if (nested) refuse('A sign-in can bring an OAuth client and a refresh token alone.', 'credentials', nested[2]!)
    else if (name === 'connection_id') refuse('A connect session decides the connection id. Leave it out.', name)
    else if (name === 'ws_client_id' && !uuid.test(value)) refuse('Not a UUID.', name)
    else if (name === 'ws_client_id') query.attempt = value.toLowerCase()
    else if (name === 'return_url') query.returnUrl = value
    else if (!known.has(name)) refuse('Unknown parameter.', name)
  }
  query.client = clientIn(credentials)
  if ((credentials[clientIdName] || credentials[clientSecretName]) && !query.client)
    refuse('A client has an id and a secret, of at most 1024 characters each.', 'credentials')
  const refreshToken = credentials[refreshTokenName]
  if (refreshToken && refreshToken.length > 16_384)
    refuse('More than 16384 characters.', 'credentials', refreshTokenName)
  if (refreshToken) query.refreshToken = new Secret(refreshToken)
  if (issues.length > 0) throw new Failure('invalid_query_params', { issues })
  return query
}

function clientIn(members: Record<string, string>): Client | null {
  const [id, secret] = [members[clientIdName], members[clientSecretName]]
  const isGiven = (text: string | undefined): text is string => Boolean(text) && text!.length <= 1024
  return isGiven(id) && isGiven(secret) ? { id, secret: new Secret(secret) } : null
}

export interface Start {
  /** The provider's authorization page. */
  location: string
  setCookie: string
}

/**
 * Everything up to the redirect: what the session allows, what the provider needs to know, one handshake bound to this browser.
 * `opener`: the origin of the page that waits for the end of it; unknown when another process holds its socket.
 */
export async function startOAuth(
  deps: StartDeps,
  { session, integration }: Begun,
  query: StartQuery,
  opener: string | null,
  isSecond = false,
): Promise<Start> {
  const { environmentId, allowedIntegrations: allowed } = session
  if (!integration) throw new Failure('unknown_provider_config')
  const { key } = integration
  if (allowed.length > 0 && !allowed.includes(key)) throw new Failure('integration_not_allowed')
  const provider = deps.catalogue.get(integration.provider)
  if (!provider?.authorization_url) throw new Failure('unknown_provider_config')

  const defaults = session.integrationDefaults[key] ?? {}
  const target = await targetOf(deps.db, session)
  const hooks = deps.catalogue.hooks(provider)
  const config = accountConfig(provider, hooks, query.params, defaults, target && givenFacts(provider, target.config))
  const client = provider.auth_mode === 'OAUTH2' ? query.client : null
  const clientId = client?.id ?? integration.clientId
  if (!clientId) throw new Failure('integration_credentials_missing')
  const extra: Record<string, string> = {
    ...(defaults.authorization_params ?? query.authorizationParams),
    ...(defaults.user_scopes && { user_scope: defaults.user_scopes }),
  }
  const elsewhere =
    !isSecond &&
    hooks.beforeSignIn?.({ provider, config, loginHint: extra.login_hint, email: session.endUser?.email ?? undefined })
  if (elsewhere) throw await belongsElsewhere(deps, session, elsewhere, { ...query, opener })
  const authorize = endpoint(provider, provider.authorization_url, config)
  if (!authorize) throw new Failure('connection_config_missing')

  // Compared to the letter: no prefix, no pattern, no other spelling (RFC 9700 §4.11).
  const { returnUrl } = query
  if (returnUrl !== null && !session.settled.returnUrls.includes(returnUrl)) throw new Failure('return_url_not_allowed')

  const state = randomToken(256)
  const redirectUri = `${deps.url}/oauth/callback`
  const { holder } = holderOf(deps.catalogue, integration)
  const temporary =
    provider.auth_mode === 'OAUTH1' &&
    (await beginOAuth1(deps, holder, config, `${redirectUri}?state=${encodeURIComponent(state)}`))
  const verifier = temporary ? written(temporary) : randomToken(256)
  const scopes = requestedScopes(provider, integration, defaults)
  const browser = bindBrowser(state, deps.url.startsWith('https:'))
  await addHandshake(deps, state, {
    environmentId,
    integrationId: integration.id,
    sessionId: session.id,
    connectionId: target?.connection.connectionId ?? newId(),
    browserHash: browser.browserHash,
    verifier: new Secret(verifier),
    client,
    refreshToken: provider.auth_mode === 'OAUTH2' ? query.refreshToken : null,
    redirectUri,
    config,
    scopesRequested: scopes,
    attempt: query.attempt,
    opener,
    returnUrl,
  })
  if (query.attempt && !opener) await askForOpener(deps.db, query.attempt)
  if (temporary)
    return {
      location: authorizationPage({ provider, config, url: authorize }, temporary, extra),
      setCookie: browser.setCookie,
    }
  const location = authorizationUrl({
    provider,
    url: authorize,
    clientId,
    redirectUri,
    scopes,
    state,
    verifier,
    config,
    extra,
  })
  return { location, setCookie: browser.setCookie }
}

/** A sign-in on the wrong integration, with the beginning of one on the right one where the session has such. */
export class BelongsElsewhere extends Failure {
  readonly instead: (Start & { name: string }) | undefined

  constructor({ cause }: Elsewhere, instead: (Start & { name: string }) | undefined) {
    super('belongs_elsewhere', { explained: cause })
    this.instead = instead
  }
}

/** The sister integration is one the session allows, and it has a client; else the words alone say what to do. */
export async function belongsElsewhere(
  deps: StartDeps,
  session: Session,
  elsewhere: Elsewhere,
  {
    attempt,
    opener,
    returnUrl,
    authorizationParams,
  }: Pick<StartQuery, 'attempt' | 'returnUrl' | 'authorizationParams'> & { opener: string | null },
): Promise<BelongsElsewhere> {
  const allowed = session.allowedIntegrations
  const right = (await listIntegrations(deps, session.environmentId)).find(({ key, provider: name, clientId }) => {
    const provider = deps.catalogue.get(name)
    const serves = provider && deps.catalogue.hooks(provider).serves === elsewhere.serves
    return serves && clientId && (allowed.length === 0 || allowed.includes(key))
  })
  if (!right) return new BelongsElsewhere(elsewhere, undefined)
  const query = { params: elsewhere.params, authorizationParams, attempt, returnUrl, client: null, refreshToken: null }
  const start = await startOAuth(deps, { session, integration: right }, query, opener, true)
  const name = right.displayName ?? deps.catalogue.get(right.provider)!.display_name
  return new BelongsElsewhere(elsewhere, { ...start, name })
}

/** Session override, else the integration's, else the provider's default. */
export function requestedScopes(provider: Provider, integration: Integration, defaults: IntegrationDefaults): string[] {
  const chosen = defaults.connection_config?.oauth_scopes_override ?? integration.scopes
  return chosen
    ? chosen
        .split(',')
        .map(scope => scope.trim())
        .filter(Boolean)
    : (provider.default_scopes ?? [])
}

/**
 * What is known of the account before the sign-in. The browser's values are checked against provider data, the developer's session
 * defaults win over them, and facts only the provider may tell are refused from a browser: they decide where tokens are sent. `known` is
 * what was given when the account was connected first: nobody is asked for it again.
 */
export function accountConfig(
  provider: Provider,
  hooks: Hooks,
  params: Record<string, string>,
  defaults: IntegrationDefaults,
  known: ConnectionConfig = {},
): ConnectionConfig {
  const automated = automatedFacts(provider)
  const config: ConnectionConfig = { ...known }
  for (const [name, value] of Object.entries(params)) {
    if (value === '' || name === 'webhook_url' || broughtNames.has(name)) continue
    if (automated.has(name)) throw new Failure('connection_config_automated', { payload: { name } })
    const read = readFact(provider, hooks, name, value)
    for (const [name, value] of Object.entries(read)) {
      const fault = fieldFault(provider.connection_config?.[name], value)
      if (fault) throw new Failure('connection_config_invalid', { message: `${name}: ${fault}`, payload: { name } })
    }
    Object.assign(config, read)
  }
  const { oauth_scopes_override: _, ...given } = defaults.connection_config ?? {}
  for (const [name, value] of Object.entries(given))
    if (!broughtNames.has(name))
      Object.assign(config, typeof value === 'string' ? readFact(provider, hooks, name, value) : { [name]: value })
  for (const [name, field] of Object.entries(provider.connection_config ?? {}))
    if (config[name] === undefined && !field.optional && !field.automated && field.default_value === undefined)
      throw new Failure('connection_config_missing', {
        message: `The provider needs ${field.title ?? name}.`,
        payload: { name },
      })
    else if (config[name] === undefined && field.default_value !== undefined) config[name] = field.default_value
  return config
}

/** As the provider spells it, where its hooks know how to read what people paste. */
function readFact(provider: Provider, hooks: Hooks, name: string, typed: string): Record<string, string> {
  const read = hooks.readFact?.(provider, name, typed)
  if (read && 'fault' in read)
    throw new Failure('connection_config_invalid', { message: `${name}: ${read.fault}`, payload: { name } })
  return read?.facts ?? { [name]: typed }
}
