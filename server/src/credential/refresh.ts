/**
 * One attempt at renewing a grant, read top to bottom: claim → dial → intent on disk → one request inside a send window →
 * install whenever the row still holds the token that was presented. Not knowing is an outcome; only a definitive verdict of the
 * provider ends a connection.
 */
import { EgressError, Failure } from '../errors.ts'
import { newId } from '../lib/id.ts'
import type { Log } from '../lib/log.ts'
import { type ConnectionConfig, endpoint, tokenUrlOf } from '../provider/endpoint.ts'
import type { Provider, TokenErrorMeaning } from '../provider/schema.ts'
import type { Egress } from '../seams.ts'
import { checkFacts } from './facts.ts'
import {
  type Client,
  factsOf,
  readTokenAnswer,
  refreshGrant,
  type TokenSet,
  tokenRequest,
} from './kinds/oauth2-code.ts'
import { type Credential, claim, install, intend, leaveInDoubt, refuse, type StoreDeps, withdraw } from './store.ts'
import { backOff } from './timing.ts'

export interface RefreshDeps extends StoreDeps {
  egress: Egress
  log: Log
  /** This process, for the row's reader. */
  node: string
}

/** Whose grant it is: what `integration/` knows and a credential does not. */
export interface Holder {
  provider: Provider
  client: Client
}

export type RefreshOutcome =
  | { kind: 'renewed' }
  /** Another attempt is under way, or the row moved on: read it again. */
  | { kind: 'not_claimed' }
  | { kind: 'refused'; cause: string }
  | { kind: 'unavailable'; cause: string }

const maxTokenResponse = 1024 * 1024

/** The caller has made sure there is a refresh token. */
export async function refreshOnce(
  deps: RefreshDeps,
  holder: Holder,
  seen: Credential,
  forced: boolean,
): Promise<RefreshOutcome> {
  const { provider, client } = holder
  const id = newId()
  // The caller's copy may be a minute old; from here on the row as it was claimed counts.
  const claimed = await claim(deps, { credential: seen, claim: id }, forced)
  if (!claimed) return { kind: 'not_claimed' }
  const attempt = { credential: claimed, claim: id }
  const { credential } = attempt
  const doubt = async (cause: string): Promise<RefreshOutcome> => {
    await leaveInDoubt(deps, attempt, cause, backOff(credential.failures))
    return { kind: 'unavailable', cause }
  }
  const giveBack = async (cause: string, health: Credential['health'] = credential.health): Promise<RefreshOutcome> => {
    await withdraw(deps, attempt, health, cause, backOff(credential.failures))
    return { kind: 'unavailable', cause }
  }

  let url: URL | undefined
  try {
    url = endpoint(provider, provider.refresh_url ?? tokenUrlOf(provider) ?? '', credential.config)
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    return giveBack(failure.code)
  }
  if (!url || !credential.refreshToken) return giveBack('token_endpoint_unknown')

  const request = tokenRequest(provider, client, refreshGrant(credential.refreshToken), credential.config)
  let answer: Awaited<ReturnType<Egress['request']>>
  try {
    answer = await deps.egress.request({
      method: 'POST',
      url,
      ...request,
      deadlineMs: deps.timing.answer,
      maxBytes: maxTokenResponse,
      // Dialled first, so that between the intent and the last byte of the request there is no network wait of ours to overrun.
      ready: async () => {
        const asked = deps.now()
        return (await intend(deps, attempt, deps.node)) && deps.now() - asked <= deps.timing.sendWindow
      },
    })
  } catch (error) {
    if (!(error instanceof EgressError)) throw error
    deps.log.warn({ credential: credential.id, phase: error.phase, reason: error.message }, 'refresh got no answer')
    if (error.phase === 'unanswered') return doubt('refresh_unanswered')
    return giveBack(error.reason === 'withheld' ? 'refresh_withheld' : 'token_endpoint_unreachable')
  }

  const read = readTokenAnswer(provider, answer.status, answer.body, Date.now())
  if (read.kind === 'tokens') return save(deps, provider, attempt, read.tokens, factsOf(provider, read.tokens.raw))
  if (read.kind !== 'error') return answer.status === 429 ? giveBack('provider_busy') : doubt('refresh_unreadable')

  deps.log.warn({ credential: credential.id, error: read.error, description: read.description }, 'refresh refused')
  switch (meaningOf(provider, answer.status, read.error, read.description)) {
    case 'refused':
      await refuse(deps, attempt, read.error)
      return { kind: 'refused', cause: read.error }
    case 'blocked':
      return giveBack('policy', 'blocked_by_policy')
    case 'later':
      return giveBack(read.error)
    case 'doubt':
      return doubt('in_doubt')
  }
}

/** The provider's own table first; then what RFC 6749 §5.2 says of its codes. */
export function meaningOf(provider: Provider, status: number, error: string, description: string): TokenErrorMeaning {
  const row = (provider.token_errors ?? []).find(
    candidate =>
      candidate.error === error &&
      (candidate.description === undefined || description.toLowerCase().includes(candidate.description.toLowerCase())),
  )
  if (row) return row.means
  if (error === 'invalid_grant') return 'refused'
  // The client or the request is wrong, not the token: the integration must be corrected, every connection stays as it is.
  if (
    status === 429 ||
    /^(invalid_client|invalid_client_id|unauthorized_client|invalid_request|invalid_scope|unsupported_grant_type)$/.test(
      error,
    )
  )
    return 'later'
  return 'doubt'
}

/**
 * The answer is here and is this grant's only successor, so it is saved until the database says what became of it;
 * a database that is away for a minute does not cost a connection. (The encrypted journal takes over from there.)
 */
async function save(
  deps: RefreshDeps,
  provider: Provider,
  attempt: { credential: Credential },
  tokens: TokenSet,
  facts: ConnectionConfig,
): Promise<RefreshOutcome> {
  const { credential } = attempt
  // A host that is not on the provider's list is not followed; the tokens are saved all the same, they are ours.
  const safe = checkFacts(provider, facts, deps.egress)
  if (safe.refused.length > 0)
    deps.log.warn(
      { credential: credential.id, hosts: safe.refused },
      'a refresh named a host that is not allowed; kept the old one',
    )
  for (let tries = 0; ; tries++) {
    try {
      const installed = await install(deps, attempt, tokens, safe.facts)
      if (installed === 'gone' || installed === 'superseded')
        deps.log.warn({ credential: credential.id, installed }, 'a token answer came too late to be used')
      return { kind: installed === 'installed' || installed === 'already_installed' ? 'renewed' : 'not_claimed' }
    } catch (error) {
      if (tries >= 60) throw error
      await new Promise(resolve => setTimeout(resolve, 1_000))
    }
  }
}
