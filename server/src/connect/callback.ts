/**
 * The way back from the provider, top to bottom: take the handshake → exchange the code → check what came back → save in one
 * transaction. Every way it can end is a Failure with a code of its own; nothing is stored unless everything held.
 */

import { type ConnectionWarning, errors, unstorable } from '@fairlead/contract'
import type { Actor, Audit } from '../audit/audit.ts'
import { type Connections, holderOf } from '../connection/live.ts'
import { warningsOf } from '../connection/routes.ts'
import { addConnection, askToConfirm, connectionsOn, findConnectionById, saveOwner } from '../connection/store.ts'
import { askApi } from '../credential/ask.ts'
import { accountOf, checkFacts, isSigned } from '../credential/facts.ts'
import type { Credentials } from '../credential/fresh.ts'
import { kindOf } from '../credential/kinds/kinds.ts'
import { codeGrant, factsOf, readTokenAnswer, type TokenSet, tokenRequest } from '../credential/kinds/oauth2-code.ts'
import type { Holder, RefreshDeps } from '../credential/refresh-deps.ts'
import { retireRefused } from '../credential/revocation/store.ts'
import type { Revocations } from '../credential/revocation.ts'
import {
  addCredential,
  type StoreDeps as CredentialDeps,
  countGrants,
  type HeldGrant,
  type NewCredential,
  type StoredGrant,
} from '../credential/store.ts'
import { Failure } from '../errors.ts'
import type { Integration } from '../integration/store.ts'
import type { Log } from '../lib/log.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { type ConnectionConfig, endpoint, tokenUrlOf } from '../provider/endpoint.ts'
import type { Explain } from '../provider/explain.ts'
import { fieldFault } from '../provider/form.ts'
import type { Provider } from '../provider/schema.ts'
import type { Egress } from '../seams.ts'
import { accepted, askOnce } from './answer.ts'
import { isSameBrowser } from './browser.ts'
import { type Attempt, tellSuccess } from './notify.ts'
import { finishOAuth1 } from './oauth1.ts'
import {
  accountView,
  addressOf,
  describeAccount,
  type SignedInAgain,
  signInAgain,
  takePlaceOfOlder,
} from './reconnect.ts'
import { belongsElsewhere } from './start.ts'
import { type Handshake, type Session, type TakenHandshake, takeHandshake } from './store.ts'

export interface CallbackDeps extends CredentialDeps {
  egress: Egress
  catalogue: Catalogue
  explain: Explain
  connections: Pick<Connections, 'forgetCredential'>
  credentials: Credentials
  revocations: Pick<Revocations, 'kick'>
  epoch: RefreshDeps['epoch']
  audit: Audit
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
  /** Asked for and not granted. */
  missingScopes: string[]
}

/** Providers with installation flows call it by other names. */
export const stateOf = (search: URLSearchParams): string | null =>
  search.get('state') ?? search.get('payload') ?? search.get('customField')

/** The sign-in this callback is the end of, which is hereby used up. */
export async function takeBack(deps: CallbackDeps, search: URLSearchParams): Promise<TakenHandshake> {
  const state = stateOf(search)
  if (!state) throw new Failure('state_missing')
  // 256 bits as base64url; anything else was not made here and costs no query.
  const handshake = /^[A-Za-z0-9_-]{43}$/.test(state) ? await takeHandshake(deps, state) : undefined
  if (!handshake) throw new Failure('state_unknown')
  return handshake
}

/** The success is told in here, with the transaction that makes it one; a failure by whoever catches it. */
export async function finishOAuth(
  deps: CallbackDeps,
  taken: TakenHandshake,
  search: URLSearchParams,
  cookieHeader: string | undefined,
): Promise<Connected> {
  const state = stateOf(search) ?? ''
  if (!isSameBrowser(cookieHeader, state, deps.url.startsWith('https:'), taken.browserHash))
    throw new Failure('browser_mismatch')

  const { session, integration } = taken
  const { provider, holder: known } = holderOf(deps.catalogue, integration)
  const handshake = { ...taken, config: { ...factsOnTheWay(provider, search), ...taken.config } }
  const { client, refreshToken: brought } = handshake
  const holder = client ? { ...known, client } : known

  const answer =
    provider.auth_mode === 'OAUTH1'
      ? await finishOAuth1(deps, holder, handshake, search)
      : await exchange(deps, holder, handshake, await codeOf(deps, provider, search, handshake.config))
  // Its tokens are this client's for good: renewed and revoked by it.
  const given = client && { client_id: client.id, client_secret: client.secret?.reveal() ?? '' }
  const tokens = {
    ...{ ...answer, ...(given && { given }) },
    // Wire contract §9. The one that came is forgotten: to revoke it would end, at most providers, the grant of the other as well.
    ...(brought && { refreshToken: brought, raw: { ...answer.raw, refresh_token: brought.reveal() } }),
  }
  const { learned, config: told } = accountFacts(deps, holder, handshake.config, tokens)
  const account = provider.grants_per_user === undefined ? null : accountOf(provider, learned)
  const [checked, others] = await Promise.all([
    checkAccount(deps, integration, holder, handshake, session, tokens, told, learned),
    // Only for a warning: tokens that are here are not lost for want of it.
    account === null ? 0 : countGrants(deps.db, integration.id, account).catch(() => 0),
  ])
  const config = { ...told, ...checked.facts, ...(brought && { overrideTokenRefresh: true }) }
  const found = { config, missingScopes: checked.missingScopes }
  const { operation, stored } = await save(deps, integration, handshake, session, tokens, learned, found, known)
  deps.log.info({ integration: integration.key, connection: handshake.connectionId, operation }, 'connected')
  const warnings = warningsOf({ provider, grants: account === null ? 0 : others + (isNew(stored) ? 1 : 0) })
  for (const { code, payload } of warnings)
    deps.log.warn({ code, ...payload, integration: integration.key, connection: handshake.connectionId }, 'a warning')
  const { connectionId } = handshake
  return { integration, provider, connectionId, operation, ...found, warnings }
}

export const attemptOf = ({ sessionId, attempt, integrationKey, connectionId }: Arrival): Attempt => ({
  sessionId,
  attempt,
  integrationKey,
  connectionId,
})

/**
 * `redirect_uri_metadata` of provider data: facts that some providers put beside the code. They came through the browser, so they are held
 * to their form like anything typed, never say whose account it is, and lead to no host that the definition does not allow.
 */
function factsOnTheWay(provider: Provider, search: URLSearchParams): Record<string, string> {
  const facts: Record<string, string> = {}
  for (const name of provider.redirect_uri_metadata ?? []) {
    const [value, ...more] = search.getAll(name)
    if (!value) continue
    if (more.length > 0 || unstorable.test(value) || fieldFault(provider.connection_config?.[name], value))
      throw new Failure('callback_malformed')
    facts[name] = value
  }
  return facts
}

/** RFC 6749 §4.1.2: a code or an error, each at most once. Anything else is somebody's forgery or a broken proxy. */
async function codeOf(
  deps: CallbackDeps,
  provider: Provider,
  search: URLSearchParams,
  config: ConnectionConfig,
): Promise<string> {
  const codeParam = provider.authorization_code_param_in_callback ?? 'code'
  const repeated = ['state', codeParam, 'error', 'error_description'].some(name => search.getAll(name).length > 1)
  const code = search.get(codeParam)
  const error = search.get('error')
  if (repeated || (code && error)) throw new Failure('callback_malformed')
  if (error !== null || (!code && search.get('error_description'))) {
    const description = (search.get('error_description') ?? search.get('error_message') ?? '').slice(0, 512)
    const said = [error, description].filter(Boolean).join(': ')
    throw new Failure(error === 'access_denied' ? 'access_denied' : 'provider_error', {
      payload: { provider_said: said.slice(0, 512) },
      explained: await deps.explain(
        provider,
        { where: 'authorize', error: (error ?? '').slice(0, 512), description },
        config,
      ),
    })
  }
  if (!code) throw new Failure('code_missing')
  return code
}

/** Presents the code, once. */
async function exchange(deps: CallbackDeps, holder: Holder, handshake: Handshake, code: string): Promise<TokenSet> {
  const { provider, client } = holder
  const { config } = handshake
  const url = endpoint(provider, tokenUrlOf(provider) ?? '', config)
  if (!url) throw new Failure('connection_config_missing')
  const grant = codeGrant(provider, code, handshake.redirectUri, handshake.verifier.reveal())
  const answer = await askOnce(deps, { method: 'POST', url, ...tokenRequest(provider, client, grant, config) })
  const read = readTokenAnswer(provider, answer.status, answer.body, deps.clock.wall())
  return accepted(deps, holder, config, read, [code, handshake.verifier.reveal()])
}

/** Of a token response. */
const secretMembers = new Set(['access_token', 'refresh_token', 'id_token', 'oauth_token', 'oauth_token_secret'])

/**
 * Whose account is it, asked of the provider itself before anything is stored: a sandbox is not filed under production. What the
 * provider's hooks cannot find out is no reason to refuse.
 */
export async function checkAccount(
  deps: CallbackDeps,
  integration: Integration,
  holder: Holder,
  arrival: Pick<TakenHandshake, 'connectionId' | 'scopesRequested' | 'attempt'> & {
    opener?: string | null
    returnUrl?: string | null
  },
  session: Session,
  tokens: TokenSet,
  config: ConnectionConfig,
  learned: ConnectionConfig,
): Promise<{ facts: Record<string, string>; missingScopes: string[] }> {
  const { provider } = holder
  const told = Object.fromEntries(Object.entries(tokens.raw).filter(([name]) => !secretMembers.has(name)))
  const checked = await deps.catalogue.hooks(provider).checkAccount?.({
    provider,
    config,
    told,
    scopesRequested: arrival.scopesRequested,
    scopesGranted: tokens.scopes ?? arrival.scopesRequested,
    api: askApi(deps.egress, provider, config, tokens.accessToken),
  })
  if (!checked) return { facts: {}, missingScopes: [] }
  if (checked.kind === 'belongs') return { facts: checked.facts, missingScopes: checked.missingScopes ?? [] }
  const refused = { connectionId: arrival.connectionId, account: accountOf(provider, learned), tokens, config }
  const ended = await retireRefused(deps.db, deps, holder, integration, refused)
  deps.revocations.kick()
  deps.log.warn({ integration: integration.key, connection: arrival.connectionId, ended }, 'an account of another kind')
  const { attempt, opener = null, returnUrl = null } = arrival
  throw await belongsElsewhere(deps, session, checked.elsewhere, {
    attempt,
    opener,
    returnUrl,
    authorizationParams: {},
  })
}

/** What the provider says of the account, with every host checked before a token is sent there. */
export function accountFacts(
  deps: CallbackDeps,
  { provider, client: { secret } }: Holder,
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
  if (!isSigned(provider, tokens.raw, secret)) throw new Failure('token_response_forged', { cause: provider.name })
  const config = { ...known, ...learned.facts }
  const base = provider.proxy?.base_url
  if (base && !endpoint(provider, base, config))
    throw new Failure('token_response_incomplete', {
      cause: `${provider.name}: no base URL from ${Object.keys(learned.facts).join(', ') || 'nothing'}`,
    })
  return { learned: learned.facts, config }
}

/** What is known before the account is: for whom, how the connection will be called, and what was asked for. */
export type Arrival = Pick<
  TakenHandshake,
  'environmentId' | 'sessionId' | 'attempt' | 'integrationKey' | 'connectionId' | 'scopesRequested'
> &
  Partial<Pick<TakenHandshake, 'refreshToken'>>

/** All in one transaction; afterwards, in the background, the provider is asked when the token ends, where it did not say. */
export async function save(
  deps: CallbackDeps,
  integration: Integration,
  handshake: Arrival,
  session: Session,
  tokens: TokenSet,
  learned: ConnectionConfig,
  { config, missingScopes }: Pick<Connected, 'config' | 'missingScopes'>,
  holder: Holder,
): Promise<{ operation: Connected['operation']; stored: StoredGrant }> {
  const { environmentId, scopesRequested } = handshake
  const added: NewCredential = {
    environmentId,
    integrationId: integration.id,
    kind: kindOf(holder.provider)?.name ?? 'oauth2-code',
    tokens,
    config,
    // Only what the provider told just now says whose it is.
    account: accountOf(holder.provider, learned),
    scopesRequested,
    scopesGranted: tokens.scopes ?? scopesRequested,
    epoch: deps.epoch.current().name,
    suspect: Boolean(handshake.refreshToken),
    asksLifetime: tokens.lifeMs === undefined,
  }
  const operation = session.reconnects === null ? 'creation' : 'override'
  const store = session.reconnects === null ? create : reconnect
  const stored = await store(deps, integration, handshake, session, added, missingScopes, holder)
  const { id, tokenVersion } = stored
  // The notification would do it in a moment; whoever reads the answer may be faster.
  if (!isNew(stored)) deps.connections.forgetCredential(id)
  if (tokenVersion !== undefined && added.asksLifetime)
    deps.credentials.learn(holder, {
      ...{ id, tokenVersion, config, given: tokens.given ?? {} },
      accessToken: tokens.accessToken,
    })
  return { operation, stored }
}

/** On a row of its own, as opposed to one that is known already. */
const isNew = ({ tokenVersion }: StoredGrant): boolean => tokenVersion === 1

async function create(
  deps: CallbackDeps,
  integration: Integration,
  handshake: Arrival,
  session: Session,
  added: NewCredential,
  missingScopes: string[],
  holder: Holder,
): Promise<StoredGrant> {
  const { environmentId, config } = added
  const { connectionId } = handshake
  const waitsForConfirmation = session.settled.confirmsConnections
  const { stored, replaced } = await deps.db.transaction(async tx => {
    await tellSuccess(tx, attemptOf(handshake), {
      operation: 'creation',
      account: accountView(holder.provider, config),
      isPending: waitsForConfirmation,
      missingScopes,
    })
    const stores = { ...deps, db: tx }
    // A grant that may yet turn out to be somebody else's takes nothing's place.
    const mayReplace = session.endUser !== null && !waitsForConfirmation
    const older = mayReplace && (await takePlaceOfOlder(stores, holder, integration, session.endUser!.id, added))
    const stored = older || (await addCredential(stores, added))
    await addConnection(tx, {
      environmentId,
      integrationId: integration.id,
      credentialId: stored.id,
      connectionId,
      endUser: session.endUser,
      organization: session.organization,
      tags: session.tags,
      webhookUrlOverride: session.webhookUrlOverride,
      waitsForConfirmation,
    })
    await deps.audit(tx, endUserActor(session), {
      environmentId,
      action: 'connection.created',
      target: connectionId,
      detail: { integration: integration.key },
    })
    return { stored, replaced: Boolean(older) }
  })
  if (replaced) deps.revocations.kick()
  return stored
}

/** The browser is not ours to name: whoever the session says it is. */
const endUserActor = ({ endUser }: Session): Actor => ({
  kind: 'end_user',
  id: endUser?.id ?? '',
  name: endUser?.display_name ?? endUser?.email ?? endUser?.id ?? '',
  address: null,
})

/** The new grant in the place of the old one, or nothing at all; tokens that are not stored are ended where that harms nobody. */
async function reconnect(
  deps: CallbackDeps,
  integration: Integration,
  handshake: Arrival,
  session: Session,
  added: NewCredential,
  missingScopes: string[],
  holder: Holder,
): Promise<StoredGrant> {
  const { provider } = holder
  const { connectionId } = handshake
  const again = await deps.db.transaction(async (tx): Promise<SignedInAgain> => {
    const connection = await findConnectionById(tx, session.reconnects!)
    if (!connection) return { kind: 'gone' }
    // Looked at again under the lock: it may have been deleted while others kept the grant.
    const stillHere = async ({ id }: HeldGrant) => (await findConnectionById(tx, connection.id))?.credentialId === id
    const stores = { ...deps, db: tx }
    // What else stands on the grant is other people's: they did not ask for another account.
    const mayBeAnother = async ({ id }: HeldGrant) => session.anotherAccount && (await connectionsOn(tx, id)) === 1
    const outcome = await signInAgain(
      stores,
      holder,
      integration,
      connection.credentialId,
      added,
      stillHere,
      mayBeAnother,
    )
    if (outcome.kind !== 'replaced') return outcome
    await saveOwner(tx, connection.id, session)
    // Where nothing tells one account from another, whoever was sent this link may have signed in to one of their own (checklist LK3).
    const waits = session.settled.confirmsConnections && !outcome.proven
    if (waits) await askToConfirm(tx, outcome.stored.id)
    await tellSuccess(tx, attemptOf(handshake), {
      operation: 'override',
      account: accountView(provider, added.config),
      isPending: waits || connection.confirmBy !== null,
      missingScopes,
    })
    await deps.audit(tx, endUserActor(session), {
      environmentId: added.environmentId,
      action: 'connection.reconnected',
      target: connectionId,
      detail: { integration: integration.key },
    })
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
      return again.stored
    case 'gone':
    case 'unsuited':
      throw new Failure('unknown_connect_session_token')
    case 'no_refresh_token':
      throw new Failure('refresh_token_missing')
    case 'superseded':
      throw new Failure('refresh_token_superseded')
    case 'another_account': {
      const address = addressOf(provider, added.config)
      // The first fact of an identity is the organisation: another user of the same one replaces nothing.
      const [organisation = ''] = provider.identity ?? []
      const replaced =
        address !== undefined &&
        address === addressOf(provider, again.held) &&
        added.config[organisation] !== again.held[organisation]
      const hint = replaced ? provider.account_replaced : undefined
      throw new Failure('account_mismatch', {
        ...(hint && { message: `${errors.account_mismatch[1]} ${hint}` }),
        explained: hint
          ? await deps.explain(
              provider,
              { where: 'reconnect', error: 'account_replaced', description: '' },
              added.config,
            )
          : undefined,
        payload: {
          expected: Object.fromEntries(describeAccount(provider, again.held)),
          got: Object.fromEntries(describeAccount(provider, added.config)),
        },
      })
    }
  }
}
