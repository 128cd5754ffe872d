/**
 * Connecting without a sign-in: what the end user typed in comes here, is checked against the provider's form, turned into something that
 * can be presented (for some kinds that is a login at the provider), tried, and stored like any other connection. Nothing is stored unless
 * all of it held.
 */
import { holderOf } from '../connection/live.ts'
import { exchange } from '../credential/exchange.ts'
import { readGiven } from '../credential/kinds/form.ts'
import type { Exchange, Given, Kind } from '../credential/kinds/kind.ts'
import { kindOf } from '../credential/kinds/kinds.ts'
import type { TokenSet } from '../credential/kinds/oauth2-code.ts'
import type { Holder } from '../credential/refresh-deps.ts'
import { verify } from '../credential/verify.ts'
import { EgressError, Failure } from '../errors.ts'
import { newId } from '../lib/id.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import { accepted, type Endings } from './answer.ts'
import { accountFacts, type CallbackDeps, checkAccount, save } from './callback.ts'
import { givenFacts, targetOf } from './reconnect.ts'
import { accountConfig, requestedScopes, type StartQuery } from './start.ts'
import type { Begun } from './store.ts'

export interface Submitted {
  connectionId: string
  providerConfigKey: string
  /** Asked for and not granted, when anything was not. */
  missing_scopes?: string[]
}

export async function submit(
  deps: CallbackDeps,
  { session, integration }: Begun,
  type: Kind['type'],
  query: StartQuery,
  body: Record<string, unknown>,
): Promise<Submitted> {
  const { environmentId, allowedIntegrations: allowed } = session
  if (!integration) throw new Failure('unknown_provider_config', { status: 404 })
  const { key } = integration
  if (allowed.length > 0 && !allowed.includes(key)) throw new Failure('integration_not_allowed')
  if (!deps.catalogue.get(integration.provider)) throw new Failure('unknown_provider_template')
  const { provider, holder } = holderOf(deps.catalogue, integration)
  const kind = kindOf(provider)
  if (!kind?.obtain || kind.type !== type)
    throw new Failure('invalid_auth_mode', { payload: { auth_mode: provider.auth_mode } })

  const defaults = session.integrationDefaults[key] ?? {}
  const target = await targetOf(deps.db, session)
  const hooks = deps.catalogue.hooks(provider)
  const known = accountConfig(provider, hooks, query.params, defaults, target && givenFacts(provider, target.config))
  const { settings = {} } = holder
  const given = readGiven(kind, provider, body, settings)
  const scopes = requestedScopes(provider, integration, defaults)
  const steps = kind.obtain({
    ...{ provider, client: holder.client, settings, config: known, given, scopes },
    wallNow: deps.clock.wall(),
  })
  const tokens = { ...(await obtained(deps, holder, known, steps, { ...settings, ...given }, kind)), given }
  const { learned, config: told } = accountFacts(deps, holder, known, tokens)
  const arrival = {
    ...{ environmentId, sessionId: session.id, attempt: query.attempt, integrationKey: key },
    connectionId: target?.connection.connectionId ?? newId(),
    scopesRequested: scopes,
  }
  const { facts, missingScopes } = await checkAccount(
    deps,
    integration,
    holder,
    arrival,
    session,
    tokens,
    told,
    learned,
  )
  const config = { ...told, ...facts }
  await verify(deps, holder, asHeld(kind, tokens, config, given))
  const found = { config, missingScopes }
  const { operation } = await save(deps, integration, arrival, session, tokens, learned, found, holder)
  deps.log.info({ integration: key, connection: arrival.connectionId, operation }, 'connected')
  return {
    connectionId: arrival.connectionId,
    providerConfigKey: key,
    ...(missingScopes.length > 0 && { missing_scopes: missingScopes }),
  }
}

const asHeld = (kind: Kind, tokens: TokenSet, config: ConnectionConfig, given: Given) => ({
  ...{ kind: kind.name, config, given, raw: tokens.raw, expiresAt: null },
  ...{ accessToken: tokens.accessToken, refreshToken: tokens.refreshToken },
})

const endingsOf = ({ type }: Kind): Endings => ({
  refused: () => (type === 'OAUTH2_CC' ? 'client_credentials_fetch_error' : 'connection_test_failed'),
  busy: 'connection_test_unanswered',
  sentence: 'The provider does not accept what was given.',
})

/** The first token, or the Failure that says in the provider's words why there is none. */
async function obtained(
  deps: CallbackDeps,
  holder: Holder,
  config: ConnectionConfig,
  steps: Exchange,
  sent: Given,
  kind: Kind,
): Promise<TokenSet> {
  const { read } = await exchange(deps, steps, { deadlineMs: deps.timing.answer }).catch((error: unknown) => {
    if (!(error instanceof EgressError)) throw error
    if (error.phase === 'refused') throw new Failure('egress_refused', { cause: error })
    throw new Failure('connection_test_unanswered', { cause: error })
  })
  return accepted(deps, holder, config, read, Object.values(sent), endingsOf(kind))
}
