/**
 * The way back from the provider, top to bottom: take the handshake → exchange the code → check what came back → save in one
 * transaction. Every way it can end is a Failure with a code of its own; nothing is stored unless everything held.
 */

import { unstorable } from '@fairlead/contract'
import { holderOf } from '../connection/live.ts'
import { addConnection } from '../connection/store.ts'
import { checkFacts } from '../credential/facts.ts'
import type { Credentials } from '../credential/fresh.ts'
import { codeGrant, factsOf, readTokenAnswer, type TokenSet, tokenRequest } from '../credential/kinds/oauth2-code.ts'
import type { Holder, RefreshDeps } from '../credential/refresh-deps.ts'
import { addCredential, type StoreDeps as CredentialDeps, loadCredential } from '../credential/store.ts'
import { EgressError, Failure } from '../errors.ts'
import { findIntegrationById, type Integration } from '../integration/store.ts'
import type { Log } from '../lib/log.ts'
import { withhold } from '../net/redact.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { type ConnectionConfig, endpoint, tokenUrlOf } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import type { Egress } from '../seams.ts'
import { isSameBrowser } from './browser.ts'
import { type Handshake, loadSession, takeHandshake } from './store.ts'

export interface CallbackDeps extends CredentialDeps {
  egress: Egress
  catalogue: Catalogue
  credentials: Credentials
  epoch: RefreshDeps['epoch']
  log: Log
  url: string
}

export interface Connected {
  integration: Integration
  provider: Provider
  connectionId: string
  config: ConnectionConfig
}

/** Far above any real token response (the largest seen is 12 KB), far below what would hurt. */
const maxTokenResponse = 1024 * 1024

/** Providers with installation flows call it by other names. */
export const stateOf = (search: URLSearchParams): string | null =>
  search.get('state') ?? search.get('payload') ?? search.get('customField')

export async function finishOAuth(
  deps: CallbackDeps,
  search: URLSearchParams,
  cookieHeader: string | undefined,
): Promise<Connected> {
  const state = stateOf(search)
  if (!state) throw new Failure('state_missing')
  // 256 bits as base64url; anything else was not made here and costs no query.
  const handshake = /^[A-Za-z0-9_-]{43}$/.test(state) ? await takeHandshake(deps, state) : undefined
  if (!handshake) throw new Failure('state_unknown')
  if (!isSameBrowser(cookieHeader, state, deps.url.startsWith('https:'), handshake.browserHash))
    throw new Failure('browser_mismatch')

  const integration = await findIntegrationById(deps, handshake.integrationId)
  if (!integration) throw new Failure('unknown_provider_config')
  const { provider, holder } = holderOf(deps.catalogue, integration)

  const code = codeOf(provider, search)
  const tokens = await exchange(deps, holder, handshake, code)
  const config = accountFacts(deps, provider, handshake.config, tokens)
  await save(deps, integration, handshake, tokens, config, holder)
  deps.log.info({ integration: integration.key, connection: handshake.connectionId }, 'connected')
  return { integration, provider, connectionId: handshake.connectionId, config }
}

/** RFC 6749 §4.1.2: a code or an error, each at most once. Anything else is somebody's forgery or a broken proxy. */
function codeOf(provider: Provider, search: URLSearchParams): string {
  const codeParam = provider.authorization_code_param_in_callback ?? 'code'
  const repeated = ['state', codeParam, 'error', 'error_description'].some(name => search.getAll(name).length > 1)
  const code = search.get(codeParam)
  const error = search.get('error')
  if (repeated || (code && error)) throw new Failure('callback_malformed')
  if (error !== null || (!code && search.get('error_description'))) {
    const said = [error, search.get('error_description') ?? search.get('error_message')].filter(Boolean).join(': ')
    throw new Failure(error === 'access_denied' ? 'access_denied' : 'provider_error', {
      payload: { provider_said: said.slice(0, 512) },
    })
  }
  if (!code) throw new Failure('code_missing')
  return code
}

/** Presents the code, once. Whatever happens to the request, it is not sent again: a code is single-use (RFC 6749 §4.1.2). */
async function exchange(deps: CallbackDeps, holder: Holder, handshake: Handshake, code: string): Promise<TokenSet> {
  const { provider, client } = holder
  const url = endpoint(provider, tokenUrlOf(provider) ?? '', handshake.config)
  if (!url) throw new Failure('connection_config_missing')
  const grant = codeGrant(provider, code, handshake.redirectUri, handshake.verifier.reveal())
  const request = tokenRequest(provider, client, grant, handshake.config)
  const answer = await deps.egress
    .request({ method: 'POST', url, ...request, deadlineMs: deps.timing.answer, maxBytes: maxTokenResponse })
    .catch((error: unknown) => {
      if (!(error instanceof EgressError)) throw error
      if (error.reason === 'too_large') throw new Failure('token_response_too_large', { cause: error })
      if (error.phase === 'refused') throw new Failure('egress_refused', { cause: error })
      throw new Failure(error.phase === 'unsent' ? 'token_endpoint_unreachable' : 'token_exchange_unanswered', {
        cause: error,
      })
    })

  const read = readTokenAnswer(provider, answer.status, answer.body, deps.clock.wall())
  switch (read.kind) {
    case 'tokens':
      return read.tokens
    case 'unsupported_type':
      throw new Failure('token_type_unsupported', { payload: { token_type: read.tokenType } })
    case 'unreadable':
      throw new Failure('token_response_unreadable', { cause: `HTTP ${read.status}: ${read.reason}` })
    case 'error': {
      // Some providers repeat what they were sent; it must reach neither the page nor the log.
      const sent = [client.secret?.reveal(), code, handshake.verifier.reveal()].filter(secret => secret !== undefined)
      const said = withhold([read.error, read.description].filter(Boolean).join(': '), sent)
      throw new Failure(/^invalid_client(_id)?$/.test(read.error) ? 'token_client_invalid' : 'token_exchange_refused', {
        payload: { provider_said: said },
        cause: `HTTP ${read.status}: ${said}`,
      })
    }
  }
}

/** What the provider says of the account, with every host checked before a token is sent there. */
function accountFacts(
  deps: CallbackDeps,
  provider: Provider,
  known: ConnectionConfig,
  tokens: TokenSet,
): ConnectionConfig {
  const learned = checkFacts(provider, factsOf(provider, tokens.raw), deps.egress)
  if (learned.refused.length > 0)
    throw new Failure('host_not_allowed', {
      payload: { hosts: learned.refused },
      cause: `${provider.name}: ${learned.refused.join(', ')}`,
    })
  if (unstorable.test([...Object.values(learned.facts), ...(tokens.scopes ?? [])].join()))
    throw new Failure('token_response_unreadable', {
      cause: `${provider.name}: a fact or scope holds U+0000 or the like`,
    })
  const config = { ...known, ...learned.facts }
  const base = provider.proxy?.base_url
  if (base && !endpoint(provider, base, config))
    throw new Failure('token_response_incomplete', {
      cause: `${provider.name}: no base URL from ${Object.keys(learned.facts).join(', ') || 'nothing'}`,
    })
  return config
}

async function save(
  deps: CallbackDeps,
  integration: Integration,
  handshake: Handshake,
  tokens: TokenSet,
  config: ConnectionConfig,
  holder: Holder,
): Promise<void> {
  const { environmentId, connectionId, scopesRequested } = handshake
  const session = await loadSession(deps, handshake.sessionId)
  const credentialId = await deps.db.transaction(async tx => {
    const id = await addCredential(
      { ...deps, db: tx },
      {
        environmentId,
        integrationId: integration.id,
        tokens,
        config,
        scopesRequested,
        scopesGranted: tokens.scopes ?? scopesRequested,
        epoch: deps.epoch.current().name,
      },
    )
    await addConnection(tx, {
      environmentId,
      integrationId: integration.id,
      credentialId: id,
      connectionId,
      endUser: session?.endUser ?? null,
      organization: session?.organization ?? null,
      tags: session?.tags ?? {},
      webhookUrlOverride: session?.webhookUrlOverride ?? null,
    })
    return id
  })
  const stored = await loadCredential(deps, credentialId)
  if (stored) deps.credentials.learn(holder, stored)
}
