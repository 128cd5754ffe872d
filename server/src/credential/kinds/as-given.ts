import type { Secret } from '../../lib/secret.ts'
import type { Exchange } from './kind.ts'

/** An exchange with nobody: what was given is what is presented, and it has no end. */
// biome-ignore lint/correctness/useYield: nobody has to be asked
export function* asGiven(accessToken: Secret): Exchange {
  return {
    kind: 'tokens',
    tokens: {
      accessToken,
      refreshToken: undefined,
      tokenType: 'none',
      lifeMs: undefined,
      scopes: undefined,
      raw: {},
    },
  }
}
