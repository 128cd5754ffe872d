/** Asking the provider about a token (RFC 7662): when an access token ends, once per token; and what became of a refresh token. */
import type { Secret } from '../lib/secret.ts'
import { endpoint } from '../provider/endpoint.ts'
import type { Egress } from '../seams.ts'
import { clientOf } from './exchange.ts'
import { tokenRequest } from './kinds/oauth2-code.ts'
import type { Holder, RefreshDeps } from './refresh-deps.ts'
import type { Credential } from './store.ts'

type AskDeps = Pick<RefreshDeps, 'timing'> & { egress: Pick<Egress, 'request'> }

/** `given`: the client it belongs to may be its owner's. */
type Asked = Pick<Credential, 'config'> & Partial<Pick<Credential, 'given'>>

/** An access token of which nobody said when it ends. */
export type Endless = Pick<Credential, 'id' | 'tokenVersion' | 'config' | 'given' | 'accessToken'>

/** RFC 7009 §2.1, RFC 7662 §2.1. */
export type TokenHint = 'access_token' | 'refresh_token'

/** Undefined where the provider offers it not. Throws what the egress throws. */
async function introspect(
  deps: AskDeps,
  { provider, client }: Holder,
  credential: Asked,
  token: Secret,
  hint: TokenHint,
): Promise<{ status: number; body: Buffer } | undefined> {
  const url = provider.introspection_url && endpoint(provider, provider.introspection_url, credential.config)
  if (!url || provider.introspects === false) return undefined
  const asForm = { ...provider, token_params: {}, body_format: 'form' as const }
  const request = tokenRequest(
    asForm,
    clientOf(client, credential.given ?? {}),
    { token: token.reveal(), token_type_hint: hint },
    credential.config,
  )
  return deps.egress.request({
    method: 'POST',
    url,
    ...request,
    repeatable: true,
    deadlineMs: deps.timing.introspection,
    maxBytes: 64 * 1024,
  })
}

function readAnswer(status: number, body: Buffer): { active?: unknown; exp?: unknown } | undefined {
  if (status !== 200) return undefined
  try {
    const answer: unknown = JSON.parse(body.toString('utf8'))
    return typeof answer === 'object' && answer !== null ? answer : undefined
  } catch {
    return undefined
  }
}

export type Introspected = 'active' | 'inactive' | 'unknown' | 'not_offered'

/**
 * What became of a refresh token that may have been presented. An error is `unknown`, never `inactive`: `inactive` makes a connection wait
 * for a successor that may not exist.
 */
export const introspectRefreshToken = (
  deps: AskDeps,
  holder: Holder,
  credential: Asked,
  token: Secret,
): Promise<Introspected> => introspectToken(deps, holder, credential, token, 'refresh_token')

export async function introspectToken(
  deps: AskDeps,
  holder: Holder,
  credential: Asked,
  token: Secret,
  hint: TokenHint,
): Promise<Introspected> {
  try {
    const answer = await introspect(deps, holder, credential, token, hint)
    if (!answer) return 'not_offered'
    const active = readAnswer(answer.status, answer.body)?.active
    return active === true ? 'active' : active === false ? 'inactive' : 'unknown'
  } catch {
    return 'unknown'
  }
}

/** How long an access token has left. `active: false` proves nothing here: a token just issued may not be known everywhere yet. */
export function readLifetime(status: number, body: Buffer, wallNow: number): number | undefined {
  const answer = readAnswer(status, body)
  const leftMs = Number(answer?.exp) * 1000 - wallNow
  return answer?.active === true && leftMs > 0 ? leftMs : undefined
}

type LearnDeps = AskDeps & Pick<RefreshDeps, 'store' | 'log' | 'clock'>

/** Learns when a renewed token ends, of all the servers that see it on one. */
export async function learnRenewed(deps: LearnDeps, holder: Holder, credential: Endless): Promise<void> {
  if (!holder.provider.introspection_url) return
  if (await deps.store.askLifetimeOnce(credential)) await learnLifetime(deps, holder, credential)
}

/**
 * Learns when an access token ends, once per token (`lifetime_asked`) and never on the path of a call. An error is not an end: the token
 * then serves until a call is refused.
 */
export async function learnLifetime(deps: LearnDeps, holder: Holder, credential: Endless): Promise<void> {
  try {
    const answer = await introspect(deps, holder, credential, credential.accessToken, 'access_token')
    const leftMs = answer && readLifetime(answer.status, answer.body, deps.clock.wall())
    if (leftMs !== undefined) await deps.store.saveLifetime(credential, leftMs)
  } catch (error) {
    deps.log.info({ credential: credential.id, reason: (error as Error).message }, 'could not learn when a token ends')
  }
}
