/**
 * The way back from the provider, top to bottom: take the handshake → exchange the code → check what came back → save in one
 * transaction. Every way it can end is a Failure with a code of its own; nothing is stored unless everything held.
 */

import { type ConnectionWarning, errors, unstorable } from '@fairlead/contract'
import { holderOf } from '../connection/live.ts'
import { warningsOf } from '../connection/routes.ts'
import { addConnection, findConnectionById, saveOwner } from '../connection/store.ts'
import { accountOf, checkFacts } from '../credential/facts.ts'
import type { Credentials } from '../credential/fresh.ts'
import { codeGrant, factsOf, readTokenAnswer, type TokenSet, tokenRequest } from '../credential/kinds/oauth2-code.ts'
import type { Holder, RefreshDeps } from '../credential/refresh-deps.ts'
import { retireRefused } from '../credential/revocation/store.ts'
import type { Revocations } from '../credential/revocation.ts'
import {
  addCredential,
  type StoreDeps as CredentialDeps,
  countGrants,
  type HeldGrant,
  loadCredential,
  type NewCredential,
} from '../credential/store.ts'
import { EgressError, Failure } from '../errors.ts'
import { findIntegrationById, type Integration } from '../integration/store.ts'
import type { Log } from '../lib/log.ts'
import { withhold } from '../net/redact.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { type ConnectionConfig, endpoint, tokenUrlOf } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import type { Egress } from '../seams.ts'
import { isSameBrowser } from './browser.ts'
import { addressOf, describeAccount, type SignedInAgain, signInAgain, takePlaceOfOlder } from './reconnect.ts'
import { type Handshake, loadSession, type Session, takeHandshake } from './store.ts'

export interface CallbackDeps extends CredentialDeps {
  egress: Egress
  catalogue: Catalogue
  credentials: Credentials
  revocations: Pick<Revocations, 'kick'>
  epoch: RefreshDeps['epoch']
  log: Log
  url: string
}

export interface Connected {
  integration: Integration
  provider: Provider
  connectionId: string
  operation: 'creation' | 'override'
  config: ConnectionConfig
  warnings: ConnectionWarning[]
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

  const session = await loadSession(deps, handshake.sessionId)
  // Ended by its owner this very moment: it would have taken the handshake along.
  if (!session) throw new Failure('state_unknown')
  const integration = await findIntegrationById(deps, handshake.integrationId)
  if (!integration) throw new Failure('unknown_provider_config')
  const { provider, holder } = holderOf(deps.catalogue, integration)

  const code = codeOf(provider, search)
  const tokens = await exchange(deps, holder, handshake, code)
  const { learned, config } = accountFacts(deps, provider, handshake.config, tokens)
  const { operation, credentialId } = await save(deps, integration, handshake, session, tokens, learned, config, holder)
  deps.log.info({ integration: integration.key, connection: handshake.connectionId, operation }, 'connected')
  const stored = await loadCredential(deps, credentialId)
  if (stored) deps.credentials.learn(holder, stored)
  const account = provider.grants_per_user === undefined ? null : accountOf(provider, learned)
  const grants = account === null ? 0 : await countGrants(deps.db, integration.id, account)
  const warnings = warningsOf({ provider, grants })
  for (const { code, payload } of warnings)
    deps.log.warn({ code, ...payload, integration: integration.key, connection: handshake.connectionId }, 'a warning')
  return { integration, provider, connectionId: handshake.connectionId, operation, config, warnings }
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
): { learned: ConnectionConfig; config: ConnectionConfig } {
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
  return { learned: learned.facts, config }
}

async function save(
  deps: CallbackDeps,
  integration: Integration,
  handshake: Handshake,
  session: Session,
  tokens: TokenSet,
  learned: ConnectionConfig,
  config: ConnectionConfig,
  holder: Holder,
): Promise<{ operation: Connected['operation']; credentialId: string }> {
  const { environmentId, connectionId, scopesRequested } = handshake
  const added: NewCredential = {
    environmentId,
    integrationId: integration.id,
    tokens,
    config,
    // Only what the provider told just now says whose it is.
    account: accountOf(holder.provider, learned),
    scopesRequested,
    scopesGranted: tokens.scopes ?? scopesRequested,
    epoch: deps.epoch.current().name,
  }
  if (session.reconnects !== null)
    return {
      operation: 'override',
      credentialId: await reconnect(deps, integration, handshake, session, added, holder),
    }

  const credentialId = await deps.db.transaction(async tx => {
    const stores = { ...deps, db: tx }
    const older = session.endUser && (await takePlaceOfOlder(stores, holder, integration, session.endUser.id, added))
    const id = older ?? (await addCredential(stores, added))
    await addConnection(tx, {
      environmentId,
      integrationId: integration.id,
      credentialId: id,
      connectionId,
      endUser: session.endUser,
      organization: session.organization,
      tags: session.tags,
      webhookUrlOverride: session.webhookUrlOverride,
    })
    return id
  })
  deps.revocations.kick()
  return { operation: 'creation', credentialId }
}

/** The new grant in the place of the old one, or nothing at all; tokens that are not stored are ended where that harms nobody. */
async function reconnect(
  deps: CallbackDeps,
  integration: Integration,
  { connectionId }: Handshake,
  session: Session,
  added: NewCredential,
  holder: Holder,
): Promise<string> {
  const { provider } = holder
  const again = await deps.db.transaction(async (tx): Promise<SignedInAgain> => {
    const connection = await findConnectionById(tx, session.reconnects!)
    if (!connection) return { kind: 'gone' }
    // Looked at again under the lock: it may have been deleted while others kept the grant.
    const stillHere = async ({ id }: HeldGrant) => (await findConnectionById(tx, connection.id))?.credentialId === id
    const stores = { ...deps, db: tx }
    const outcome = await signInAgain(stores, holder, integration, connection.credentialId, added, stillHere)
    if (outcome.kind === 'replaced') await saveOwner(tx, connection.id, session)
    return outcome
  })
  if (again.kind === 'gone' || again.kind === 'unsuited' || again.kind === 'another_account') {
    const { tokens, config, account = null } = added
    const refused = { connectionId, account, tokens, config }
    const ended = await retireRefused(deps.db, deps, holder, integration, refused)
    deps.log.warn({ integration: integration.key, connection: connectionId, ended }, 'a reconnect was refused')
  }
  deps.revocations.kick()
  switch (again.kind) {
    case 'replaced':
      return again.credentialId
    case 'gone':
    case 'unsuited':
      throw new Failure('unknown_connect_session_token')
    case 'no_refresh_token':
      throw new Failure('refresh_token_missing')
    case 'superseded':
      throw new Failure('refresh_token_superseded')
    case 'another_account': {
      const address = addressOf(provider, added.config)
      const replaced = address !== undefined && address === addressOf(provider, again.held)
      const hint = replaced ? provider.account_replaced : undefined
      throw new Failure('account_mismatch', {
        ...(hint && { message: `${errors.account_mismatch[1]} ${hint}` }),
        payload: {
          expected: Object.fromEntries(describeAccount(provider, again.held)),
          got: Object.fromEntries(describeAccount(provider, added.config)),
        },
      })
    }
  }
}
