import { type IntegrationDefaults, integrationKey, unstorable } from '@fairlead/contract'
import type { SessionCaller } from '../account/caller.ts'
import { authorizationUrl, automatedFacts } from '../credential/kinds/oauth2-code.ts'
import { Failure } from '../errors.ts'
import { findIntegration, type Integration } from '../integration/store.ts'
import { newId, randomToken } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { type ConnectionConfig, endpoint } from '../provider/endpoint.ts'
import type { FormField, Provider } from '../provider/schema.ts'
import { bindBrowser } from './browser.ts'
import { givenFacts, targetOf } from './reconnect.ts'
import { addHandshake, loadSession, type StoreDeps } from './store.ts'

export interface StartDeps extends StoreDeps {
  catalogue: Catalogue
  /** The public base of this server. */
  url: string
}

/** The query of GET /oauth/connect/:key, taken apart. */
export interface StartQuery {
  params: Record<string, string>
  authorizationParams: Record<string, string>
}

const known = new Set(['connect_session_token', 'ws_client_id', 'user_scope'])

/** `params[hostname]=…` and its siblings. Throws `invalid_query_params` for what nobody defined. */
export function readStartQuery(search: URLSearchParams): StartQuery {
  const query: StartQuery = { params: {}, authorizationParams: {} }
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
    else if (nested)
      refuse('A connection with an OAuth client of its own is not supported by this version.', 'credentials')
    else if (name === 'connection_id') refuse('A connect session decides the connection id. Leave it out.', name)
    else if (!known.has(name)) refuse('Unknown parameter.', name)
  }
  if (issues.length > 0) throw new Failure('invalid_query_params', { issues })
  return query
}

export interface Start {
  /** The provider's authorization page. */
  location: string
  setCookie: string
}

/** Everything up to the redirect: what the session allows, what the provider needs to know, one handshake bound to this browser. */
export async function startOAuth(
  deps: StartDeps,
  caller: SessionCaller,
  key: string,
  query: StartQuery,
): Promise<Start> {
  const environmentId = caller.environment.id
  const integration = integrationKey.safeParse(key).success && (await findIntegration(deps, environmentId, key))
  if (!integration) throw new Failure('unknown_provider_config')
  if (caller.allowedIntegrations.length > 0 && !caller.allowedIntegrations.includes(key))
    throw new Failure('integration_not_allowed')
  const provider = deps.catalogue.get(integration.provider)
  if (!provider?.authorization_url) throw new Failure('unknown_provider_config')
  if (!integration.clientId) throw new Failure('integration_credentials_missing')
  const session = await loadSession(deps, caller.sessionId)
  if (!session) throw new Failure('unknown_connect_session_token')

  const defaults = session.integrationDefaults[key] ?? {}
  const target = await targetOf(deps.db, session)
  const config = accountConfig(provider, query.params, defaults, target && givenFacts(provider, target.config))
  const authorize = endpoint(provider, provider.authorization_url, config)
  if (!authorize) throw new Failure('connection_config_missing')

  const state = randomToken(256)
  const verifier = randomToken(256)
  const redirectUri = `${deps.url}/oauth/callback`
  const scopes = requestedScopes(provider, integration, defaults)
  const browser = bindBrowser(state, deps.url.startsWith('https:'))
  await addHandshake(deps, state, {
    environmentId,
    integrationId: integration.id,
    sessionId: session.id,
    connectionId: target?.connection.connectionId ?? newId(),
    browserHash: browser.browserHash,
    verifier: new Secret(verifier),
    redirectUri,
    config,
    scopesRequested: scopes,
  })
  const location = authorizationUrl({
    provider,
    url: authorize,
    clientId: integration.clientId,
    redirectUri,
    scopes,
    state,
    verifier,
    config,
    extra: defaults.authorization_params ?? query.authorizationParams,
  })
  return { location, setCookie: browser.setCookie }
}

/** Session override, else the integration's, else the provider's default. */
function requestedScopes(provider: Provider, integration: Integration, defaults: IntegrationDefaults): string[] {
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
function accountConfig(
  provider: Provider,
  params: Record<string, string>,
  defaults: IntegrationDefaults,
  known: ConnectionConfig = {},
): ConnectionConfig {
  const automated = automatedFacts(provider)
  const config: ConnectionConfig = { ...known }
  for (const [name, value] of Object.entries(params)) {
    if (value === '' || name === 'webhook_url') continue
    if (automated.has(name)) throw new Failure('connection_config_automated', { payload: { name } })
    const fault = fieldFault(provider.connection_config?.[name], value)
    if (fault) throw new Failure('connection_config_invalid', { message: `${name}: ${fault}`, payload: { name } })
    config[name] = value
  }
  const { oauth_scopes_override: _, ...given } = defaults.connection_config ?? {}
  Object.assign(config, given)
  for (const [name, field] of Object.entries(provider.connection_config ?? {}))
    if (config[name] === undefined && !field.optional && !field.automated && field.default_value === undefined)
      throw new Failure('connection_config_missing', {
        message: `The provider needs ${field.title ?? name}.`,
        payload: { name },
      })
    else if (config[name] === undefined && field.default_value !== undefined) config[name] = field.default_value
  return config
}

function fieldFault(field: FormField | undefined, value: string): string | undefined {
  if (value.length > 1024) return 'is longer than 1024 characters.'
  if (!field) return undefined
  if (field.enum && !field.enum.includes(value)) return `must be one of ${field.enum.join(', ')}.`
  if (field.pattern && !new RegExp(field.pattern).test(value))
    return `does not have the form it needs${field.example ? `, for example ${field.example}` : ''}.`
  if (field.format === 'hostname' && !/^[a-z0-9-]+(\.[a-z0-9-]+)*$/i.test(value)) return 'is not a host name.'
  if (field.format === 'uri' && !URL.canParse(value)) return 'is not a URL.'
  return undefined
}
