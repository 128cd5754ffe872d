import { Failure } from '../errors.ts'
import { type ConnectionConfig, endpoint } from '../provider/endpoint.ts'
import { type TokenSet, tokenRequest } from './kinds/oauth2-code.ts'
import type { Holder, RefreshDeps } from './refresh-deps.ts'

/**
 * Ends a grant at the provider (RFC 7009): the refresh token, with which its access tokens end. A token the provider does not know is
 * already where we want it (§2.2). Gives up after a few tries: what cannot be reached is said in the log.
 */
export async function revokeTokens(
  deps: Pick<RefreshDeps, 'egress' | 'clock' | 'log' | 'timing'>,
  { provider, client }: Holder,
  config: ConnectionConfig,
  tokens: TokenSet,
): Promise<void> {
  try {
    const url = provider.revocation_url && endpoint(provider, provider.revocation_url, config)
    if (!url) return
    const token = tokens.refreshToken ?? tokens.accessToken
    const params = {
      token: token.reveal(),
      token_type_hint: tokens.refreshToken ? 'refresh_token' : 'access_token',
    }
    const request = tokenRequest({ ...provider, token_params: {}, body_format: 'form' }, client, params, config)
    for (let tries = 0; tries < 6; tries++) {
      const answer = await deps.egress
        .request({ method: 'POST', url, ...request, deadlineMs: deps.timing.introspection, maxBytes: 64 * 1024 })
        .catch(() => undefined)
      if (answer && answer.status < 500 && answer.status !== 429) return
      await deps.clock.sleep(1_000 * 2 ** tries)
    }
    deps.log.warn({ provider: provider.name }, 'a token could not be revoked at its provider')
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    deps.log.warn({ provider: provider.name, code: error.code }, 'a token could not be revoked at its provider')
  }
}
