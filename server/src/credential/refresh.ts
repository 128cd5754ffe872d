/**
 * One attempt at renewing a grant, read top to bottom: claim → settle any doubt → dial → intent on disk → one request inside a send
 * window, never retried → journal → install whenever the row still holds the token that was presented. Not knowing is an outcome; only a
 * definitive verdict of the provider ends a connection.
 */
import { type Health, unstorable } from '@fairlead/contract'
import { EgressError, Failure } from '../errors.ts'
import { newId } from '../lib/id.ts'
import { days, retryAfterMs } from '../lib/time.ts'
import { withhold } from '../net/redact.ts'
import { type ConnectionConfig, endpoint, tokenUrlOf } from '../provider/endpoint.ts'
import type { Provider, TokenErrorMeaning } from '../provider/schema.ts'
import type { Clock } from '../seams.ts'
import { type Exchanged, exchange, renewalOf } from './exchange.ts'
import { checkFacts, followingHosts } from './facts.ts'
import { introspectRefreshToken } from './introspect.ts'
import type { Entry } from './journal.ts'
import { loginRefused } from './kinds/bearer.ts'
import { kindNamed } from './kinds/kinds.ts'
import { factsOf, type TokenAnswer, type TokenSet } from './kinds/oauth2-code.ts'
import type { Holder, RefreshDeps } from './refresh-deps.ts'
import type { Attempt, Credential, Installed, ProviderSaid, Successor } from './store.ts'
import { backOff, blockedBackOff, longestBackOff } from './timing.ts'

/** Why it is renewed: its end is near, somebody asked, or the provider called the access token dead. */
export type Reason = 'due' | 'asked' | 'access_token_dead'

export type RefreshOutcome =
  | { kind: 'renewed' }
  /** Another attempt is under way, or the row moved on: read it again. */
  | { kind: 'not_claimed' }
  | { kind: 'refused'; cause: string }
  | { kind: 'unavailable'; cause: string }

/** What an owner gave is not used up. Of refresh tokens provider data knows best; else what a refresh has shown; else the worst is assumed. */
export const mayRotate = (provider: Provider, credential: Credential): boolean =>
  renewsFromGiven(credential) ? false : (provider.rotates ?? credential.rotates ?? true)

const renewsFromGiven = ({ kind }: Credential): boolean => kindNamed(kind).renewsFrom === 'given'

export async function refreshOnce(
  deps: RefreshDeps,
  holder: Holder,
  seen: Credential,
  reason: Reason,
): Promise<RefreshOutcome> {
  const { store, clock, timing } = deps
  const { provider, client } = holder
  const claim = newId()
  const rotates = mayRotate(provider, seen)

  const credential = await store.claim(seen, claim, { forced: reason !== 'due', rotates, ripe: deps.watch.ripe() })
  if (!credential) return { kind: 'not_claimed' }
  const attempt: Attempt = { credential, claim }
  const accessDead = reason === 'access_token_dead' || !isAlive(credential, clock)

  /** Longer when the provider said so. */
  let backOffMs = backOff(credential.failures)
  /** The provider's own words, for the state of the connection. */
  let told: ProviderSaid | undefined
  const doubt = async (cause: string): Promise<RefreshOutcome> => {
    await persist(deps, () => store.leaveInDoubt(attempt, cause, backOffMs, told))
    return { kind: 'unavailable', cause }
  }
  const withdraw = async (
    cause: string,
    health: Health = credential.health,
    wait = backOffMs,
  ): Promise<RefreshOutcome> => {
    await persist(deps, () => store.withdraw(attempt, health, cause, wait, told))
    return { kind: 'unavailable', cause }
  }

  const unwritable = unwritableBecause(holder, credential, clock.wall())
  if (unwritable) return withdraw(unwritable)
  try {
    await deps.epoch.look()
  } catch (error) {
    deps.log.warn(
      { credential: credential.id, reason: String(error) },
      'the history of the database is not known just now',
    )
    return withdraw('database_unavailable')
  }
  if (!credential.fingerprint) return withdraw('no_refresh_token')

  // Somebody may have presented this token before: ask what became of it, after the quiet time, and only then present it.
  let lastTry = false
  const elsewhere = inAnotherEpoch(deps, credential)
  if (rotates && (credential.intentClaim !== null || credential.suspect || elsewhere)) {
    const history = deps.epoch.current()
    // A presentation that a lost commit has forgotten may still be under way: quiet since the history changed.
    if (elsewhere && clock.now() - history.since < timing.quiet) return withdraw('in_doubt')
    switch (await introspectRefreshToken(deps, holder, credential, credential.refreshToken!)) {
      case 'active':
        break
      case 'inactive':
        await persist(deps, () => store.markSpent(attempt))
        return { kind: 'unavailable', cause: 'refresh_response_lost' }
      case 'unknown':
        return doubt('in_doubt')
      case 'not_offered':
        // Nobody can be asked. When the access token is dead and no journal holds a successor, one last presentation can lose nothing.
        lastTry =
          accessDead &&
          !credential.lastTried &&
          !deps.journal.pending().some(entry => entry.credentialId === credential.id)
        if (!lastTry) return doubt('in_doubt')
    }
  }

  const sent = { at: 0 }
  const present = (settled: string | null) =>
    ask(deps, holder, credential, async () => {
      const asked = clock.now()
      const wall = clock.wall()
      const intended = await store.intend(attempt, { node: deps.node, settled, lastTry }).catch(() => false)
      if (!intended) return false
      sent.at = clock.now()
      deps.watch.own(claim)
      // Both clocks: a machine that was frozen wakes with its monotonic one behind.
      return sent.at - asked <= timing.sendWindow && Math.abs(clock.wall() - wall) <= timing.sendWindow
    })

  let answer = await present(credential.intentClaim)
  // Somebody presented this token before and nobody knows what became of that: a presentation that was not processed leaves the doubt.
  let beneath = lastTry && credential.intentClaim !== null
  if (answer.kind === 'unanswered' && (await mayRepeat(deps, holder, attempt, sent.at))) {
    beneath = true
    answer = await present(claim)
  }
  const takeBack = beneath ? doubt : withdraw

  switch (answer.kind) {
    case 'unsent':
      return takeBack(answer.cause)
    case 'unanswered':
      return rotates ? doubt('refresh_unanswered') : withdraw('refresh_unanswered')
    case 'answered':
      break
  }
  const wanted = retryAfterMs(answer.headers['retry-after'], clock.wall()) ?? 0
  backOffMs = Math.max(backOffMs, Math.min(longestBackOff, wanted))
  const { read } = answer
  if (read.kind === 'tokens') return save(deps, holder, credential, read.tokens)
  if (read.kind === 'unreadable' && read.status >= 400) told = [`HTTP ${read.status}`, '']
  if (read.kind !== 'error')
    return read.kind === 'unreadable' && read.status === 429 ? takeBack('provider_busy') : doubt('refresh_unreadable')

  const sentAlong = [client.secret?.reveal(), credential.refreshToken?.reveal(), ...Object.values(credential.given)]
  const said = withhold(read.description, sentAlong)
  told = [withhold(read.error, sentAlong).slice(0, 512).toWellFormed(), said.toWellFormed()]
  deps.log.warn({ credential: credential.id, error: read.error, description: said }, 'refresh refused')
  const isOwners = Object.keys(credential.given).length > 0
  switch (meaningOf(provider, read, isOwners)) {
    case 'refused': {
      const cause = renewsFromGiven(credential) ? loginRefused : read.error
      await persist(deps, () => store.refuse(attempt, cause, accessDead, told))
      return { kind: 'refused', cause }
    }
    case 'blocked':
      return beneath ? doubt('policy') : withdraw('policy', 'blocked_by_policy', blockedBackOff(credential.failures))
    case 'later':
      return takeBack(read.error)
    case 'doubt':
      return doubt('in_doubt')
  }
}

/** For how long the provider lets a grant lie unused, in milliseconds. */
export const idleLimitOf = ({ idle_limit_days: limit }: Provider): number | undefined =>
  limit === undefined ? undefined : days(limit)

export const isAlive = (credential: Credential, clock: Clock): boolean =>
  credential.aliveUntil === undefined || clock.now() < credential.aliveUntil

const inAnotherEpoch = (deps: RefreshDeps, credential: Credential): boolean =>
  credential.epoch !== deps.epoch.current().name

/** The token endpoint, or the reason there is none to ask. */
export function endpointOf(
  { provider }: Pick<Holder, 'provider'>,
  { config }: Pick<Credential, 'config'>,
): URL | string {
  try {
    const source = provider.refresh_url ?? tokenUrlOf(provider)
    return (source && endpoint(provider, source, config)) || 'token_endpoint_unknown'
  } catch (failure) {
    if (failure instanceof Failure) return failure.code
    throw failure
  }
}

/** Why the renewal's request cannot be written: then nobody is asked, and nothing is claimed for long. */
function unwritableBecause(holder: Holder, credential: Credential, wallNow: number): string | undefined {
  if (!renewsFromGiven(credential)) {
    const url = endpointOf(holder, credential)
    return typeof url === 'string' ? url : undefined
  }
  try {
    renewalOf(holder, credential, wallNow).next()
    return undefined
  } catch (failure) {
    if (failure instanceof Failure) return failure.code === 'host_not_allowed' ? failure.code : 'token_endpoint_unknown'
    throw failure
  }
}

type Asked =
  | ({ kind: 'answered' } & Exchanged)
  /** Not a byte was written. */
  | { kind: 'unsent'; cause: string }
  | { kind: 'unanswered' }

async function ask(
  deps: RefreshDeps,
  holder: Holder,
  credential: Credential,
  ready: () => Promise<boolean>,
): Promise<Asked> {
  try {
    // Dialled first, so that between the intent and the last byte of the request there is no network wait of ours to overrun.
    const steps = renewalOf(holder, credential, deps.clock.wall())
    return { kind: 'answered', ...(await exchange(deps, steps, { deadlineMs: deps.timing.answer, ready })) }
  } catch (error) {
    if (!(error instanceof EgressError)) throw error
    deps.log.warn({ phase: error.phase, reason: error.message }, 'refresh got no answer')
    if (error.phase === 'unanswered') return { kind: 'unanswered' }
    return { kind: 'unsent', cause: error.reason === 'withheld' ? 'refresh_withheld' : 'token_endpoint_unreachable' }
  }
}

/**
 * A provider with a grace window lets the same living process, which knows that it read no answer, present once more within half of it,
 * and only after introspection proved that the first request had arrived.
 */
async function mayRepeat(deps: RefreshDeps, holder: Holder, { credential }: Attempt, sentAt: number): Promise<boolean> {
  const graceMs = (holder.provider.grace_seconds ?? 0) * 1000
  if (graceMs === 0 || !credential.refreshToken) return false
  if ((await introspectRefreshToken(deps, holder, credential, credential.refreshToken)) !== 'inactive') return false
  return deps.clock.now() - sentAt < graceMs / 2
}

/** The client or the request is wrong, not the token: the integration must be corrected, every connection stays as it is. */
export const notTheToken =
  /^(invalid_client|invalid_client_id|unauthorized_client|invalid_request|invalid_scope|unsupported_grant_type)$/

/** Of a login with what the owner gave, also these mean what was given. */
const refusesOwner = new RegExp(`^(${loginRefused}|invalid_client|unauthorized_client|access_denied)$`)

/** The provider's own table first; then what RFC 6749 §5.2 says of its codes. `isOwners`: the client is the account's, not the integration's. */
export function meaningOf(
  provider: Provider,
  { status, error, description }: Extract<TokenAnswer, { kind: 'error' }>,
  isOwners: boolean,
): TokenErrorMeaning {
  const row = (provider.token_errors ?? []).find(
    candidate =>
      candidate.error === error &&
      (candidate.description === undefined || description.toLowerCase().includes(candidate.description.toLowerCase())),
  )
  if (row) return row.means
  if (error === 'invalid_grant' || (isOwners && refusesOwner.test(error))) return 'refused'
  return status === 429 || notTheToken.test(error) ? 'later' : 'doubt'
}

/** The answer is this grant's only successor: on this machine's disk first, then in the database, until it says what became of it. */
async function save(
  deps: RefreshDeps,
  holder: Holder,
  credential: Credential,
  tokens: TokenSet,
): Promise<RefreshOutcome> {
  // A host that is not on the provider's list is not followed; the tokens are saved all the same, they are ours.
  const { facts, refused } = checkFacts(holder.provider, factsOf(holder.provider, tokens.raw), deps.egress)
  if (refused.length > 0)
    deps.log.warn(
      { credential: credential.id, hosts: refused },
      'a refresh named a host that is not allowed; kept the old one',
    )
  // Nor is text that no column takes: an answer that the database refuses would be tried for ever, and all behind it.
  const storable = (value: unknown) => !unstorable.test(String(value))
  const told = Object.fromEntries(Object.entries(facts).filter(([, value]) => storable(value)))
  const known = { ...told, ...followingHosts(holder.provider, credential.config, told) }
  const set = { ...tokens, scopes: tokens.scopes?.filter(storable) }
  const successor = successorOf(credential, set, known, deps.epoch.current().name)
  const entry = await deps.journal.append(successor).catch((error: unknown) => {
    deps.log.error(
      { credential: credential.id, reason: String(error) },
      'the journal cannot be written; installing without it',
    )
    return undefined
  })
  const installed = await installDecided(deps, holder, successor, entry)
  return { kind: installed === 'installed' || installed === 'already_installed' ? 'renewed' : 'not_claimed' }
}

/** What came of presenting `credential`'s refresh token. A provider that sends no new one means: keep the old one. */
export function successorOf(
  credential: Credential,
  tokens: TokenSet,
  facts: ConnectionConfig,
  epoch: string,
): Successor {
  const next = tokens.refreshToken ?? credential.refreshToken
  return {
    credentialId: credential.id,
    environmentId: credential.environmentId,
    integrationId: credential.integrationId,
    config: credential.config,
    grantNumber: credential.grantNumber,
    tokenVersion: credential.tokenVersion,
    presented: credential.fingerprint!,
    presentedEpoch: credential.epoch,
    epoch,
    tokens: {
      ...tokens,
      refreshToken: next,
      ...(Object.keys(credential.given).length > 0 && { given: credential.given }),
    },
    rotated: next?.reveal() !== credential.refreshToken?.reveal(),
    facts,
  }
}

/**
 * INSTALL until the database has decided. Also the replay of a journal entry, on start, after the database was away, and when another
 * process asks: the same conditions, no shortcuts.
 */
export async function installDecided(
  deps: RefreshDeps,
  holder: Holder | undefined,
  successor: Successor,
  entry: Entry | undefined,
): Promise<Installed> {
  for (let tries = 0; ; tries++) {
    try {
      const history = deps.epoch.current().name
      const installed = await deps.store.install(successor, {
        ...(holder && { idleLimitMs: idleLimitOf(holder.provider) ?? null }),
      })
      // Nobody will ever present these: end them at the provider, so that a deleted connection is deleted there too.
      if (holder && (installed === 'gone' || installed === 'orphaned')) await deps.revoke(holder, successor)
      if (installed === 'superseded')
        deps.log.info({ credential: successor.credentialId }, 'a token answer came after another one to the same token')
      if (entry) await deps.journal.decide(entry, installed === 'ahead' ? undefined : history).catch(() => {})
      return installed
    } catch (error) {
      // The journal keeps it for the next start.
      if (deps.draining() && (entry || tries > 10)) throw error
      deps.log.warn(
        { credential: successor.credentialId, reason: String(error) },
        'a token answer waits for the database',
      )
      await deps.clock.sleep(Math.min(5_000, 200 * 2 ** Math.min(tries, 6)))
    }
  }
}

/** What an attempt learned is written down in spite of a database that stumbles; when it stays away, the lease and the quiet time take over. */
async function persist(deps: RefreshDeps, write: () => Promise<void>): Promise<void> {
  for (let tries = 0; tries < 6; tries++) {
    try {
      return await write()
    } catch (error) {
      deps.log.warn({ reason: String(error) }, 'the outcome of a refresh could not be written yet')
      await deps.clock.sleep(300 * 2 ** tries)
    }
  }
}
