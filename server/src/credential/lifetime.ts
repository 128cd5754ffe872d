import type { Log } from '../lib/log.ts'
import { endpoint } from '../provider/endpoint.ts'
import { tokenRequest } from './kinds/oauth2-code.ts'
import type { Holder, RefreshDeps } from './refresh.ts'
import { askLifetimeOnce, type Credential, saveLifetime } from './store.ts'

/**
 * Learns when an access token ends, once per token and never on the path of a call: by introspection (RFC 7662) where the provider
 * offers it. An error is not an end: the token then serves until a call is refused.
 */
export async function learnLifetime(
  deps: RefreshDeps,
  { provider, client }: Holder,
  credential: Credential,
): Promise<void> {
  if (credential.expiresAt !== null || !provider.introspection_url) return
  const url = endpoint(provider, provider.introspection_url, credential.config)
  if (!url || !(await askLifetimeOnce(deps, credential))) return
  const params = { token: credential.accessToken.reveal(), token_type_hint: 'access_token' }
  const request = tokenRequest(
    { ...provider, token_params: {}, body_format: 'form' },
    client,
    params,
    credential.config,
  )
  const answer = await deps.egress.request({
    method: 'POST',
    url,
    ...request,
    deadlineMs: deps.timing.introspection,
    maxBytes: 64 * 1024,
  })
  const leftMs = readIntrospection(answer.status, answer.body, Date.now())
  if (leftMs !== undefined) await saveLifetime(deps, credential, leftMs)
}

/** RFC 7662 §2.2. `active: false` proves nothing here: a token just issued may not be known everywhere yet. */
export function readIntrospection(status: number, body: Buffer, wallNow: number): number | undefined {
  if (status !== 200) return undefined
  try {
    const { active, exp } = JSON.parse(body.toString('utf8')) as { active?: unknown; exp?: unknown }
    const leftMs = Number(exp) * 1000 - wallNow
    return active === true && leftMs > 0 ? leftMs : undefined
  } catch {
    return undefined
  }
}

/** In the background; what it cannot learn, use will show. */
export const learnLifetimeQuietly = (
  deps: RefreshDeps & { log: Log },
  holder: Holder,
  credential: Credential,
): Promise<void> =>
  learnLifetime(deps, holder, credential).catch(error => {
    deps.log.info({ credential: credential.id, reason: (error as Error).message }, 'could not learn when a token ends')
  })
