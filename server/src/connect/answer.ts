/** One request to a token endpoint while somebody connects, and what its answer means for them: tokens, or the Failure it ends with. */
import type { ErrorCode } from '@fairlead/contract'
import type { Request, Response } from '../credential/kinds/kind.ts'
import type { TokenAnswer, TokenSet } from '../credential/kinds/oauth2-code.ts'
import type { Holder } from '../credential/refresh-deps.ts'
import type { Timing } from '../credential/timing.ts'
import { EgressError, Failure } from '../errors.ts'
import { withhold } from '../net/redact.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Explain } from '../provider/explain.ts'
import type { Egress } from '../seams.ts'

export interface AskDeps {
  egress: Egress
  explain: Explain
  timing: Timing
}

/** Far above any real token response (the largest seen is 12 KB), far below what would hurt. */
const maxTokenResponse = 1024 * 1024

/** Sent once, whatever becomes of it: a code is single-use (RFC 6749 §4.1.2), and so is a verifier. */
export const askOnce = ({ egress, timing }: Pick<AskDeps, 'egress' | 'timing'>, request: Request): Promise<Response> =>
  egress.request({ ...request, deadlineMs: timing.answer, maxBytes: maxTokenResponse }).catch((error: unknown) => {
    if (!(error instanceof EgressError)) throw error
    if (error.reason === 'too_large') throw new Failure('token_response_too_large', { cause: error })
    if (error.phase === 'refused') throw new Failure('egress_refused', { cause: error })
    throw new Failure(error.phase === 'unsent' ? 'token_endpoint_unreachable' : 'token_exchange_unanswered', {
      cause: error,
    })
  })

/** How it ends without tokens: a sign-in, or something that was given. */
export interface Endings {
  refused(error: string): ErrorCode
  /** It cannot say just now. */
  busy: ErrorCode
  /** What stands before the provider's words, when they are for whoever gave something. */
  sentence?: string
}

const signInEndings: Endings = {
  refused: error => (/^invalid_client(_id)?$/.test(error) ? 'token_client_invalid' : 'token_exchange_refused'),
  busy: 'token_response_unreadable',
}

/** `sent`: secrets of the request. Some providers repeat what they were sent; it must reach neither the page nor the log. */
export async function accepted(
  { explain }: Pick<AskDeps, 'explain'>,
  { provider, client }: Holder,
  config: ConnectionConfig,
  read: TokenAnswer,
  sent: string[],
  endings = signInEndings,
): Promise<TokenSet> {
  switch (read.kind) {
    case 'tokens':
      return read.tokens
    case 'unsupported_type':
      throw new Failure('token_type_unsupported', { payload: { token_type: read.tokenType } })
    case 'unreadable': {
      const { status, reason } = read
      throw new Failure(status >= 500 || status === 429 ? endings.busy : 'token_response_unreadable', {
        cause: `HTTP ${status}: ${reason}`,
        // What answers in the provider's stead when it is down speaks HTML; its status is all there is to go by.
        explained:
          status >= 400
            ? await explain(provider, { where: 'token', error: `HTTP ${status}`, description: '' }, config)
            : undefined,
      })
    }
    case 'error': {
      const secrets = [client.secret?.reveal(), ...sent]
      const [error, description] = [withhold(read.error, secrets), withhold(read.description, secrets)]
      const said = [error, description].filter(Boolean).join(': ')
      throw new Failure(endings.refused(read.error), {
        ...(endings.sentence && { message: `${endings.sentence} It said: ${said}` }),
        payload: { provider_said: said },
        cause: `HTTP ${read.status}: ${said}`,
        explained: await explain(provider, { where: 'token', error, description }, config),
      })
    }
  }
}
