/**
 * What state a connection can be in, and why: stable codes with a sentence for people. The documentation's table is made from this one,
 * and a test holds it to every cause the server writes.
 */
import { z } from '@hono/zod-openapi'
import { type ExplainedCause, explainedCause, unexplained } from './explained.ts'

export const health = z.enum(['active', 'degraded', 'needs_reauth', 'blocked_by_policy'])
export type Health = z.infer<typeof health>

/** What a list can be filtered by. `paused` hides the health beneath it; a deleted connection is only a receipt. */
export const stateName = z.enum([...health.options, 'paused'])
export type StateName = z.infer<typeof stateName>

export const states = {
  active: 'It works.',
  degraded: 'Its access token serves as long as it lives; renewing it is in trouble. Nobody has to do anything yet.',
  needs_reauth: 'The provider no longer accepts it. Its owner has to sign in again.',
  blocked_by_policy:
    'A policy at the provider keeps it from being renewed. It is tried again by itself, up to every hour.',
  paused: 'Somebody paused it. It refuses calls until it is resumed, and is not renewed.',
  deleted:
    'It was deleted or killed. Its tokens are being, or have been, ended at the provider; the receipt says how that went.',
} as const satisfies Record<StateName | 'deleted', string>

export const causes = {
  // in doubt: the old access token serves on
  refresh_unanswered: 'A renewal got no answer. Whether it happened is asked of the provider after a quiet time.',
  refresh_unreadable: 'The provider answered a renewal with something that is not a token response.',
  in_doubt: 'A renewal may have used up the refresh token. It is not presented again before that is known.',
  refresh_response_lost: 'The provider renewed the tokens, but its answer was lost on the way and nobody holds it.',

  // over
  answer_lost: 'The answer to a renewal was lost, nobody holds the new tokens, and the old access token has ended.',
  invalid_grant: 'The provider refused the refresh token: withdrawn, expired, or its user was deactivated.',
  bad_refresh_token: 'The provider does not know the refresh token any more: withdrawn, expired, or used before.',
  invalid_refresh_token: 'The provider does not know the refresh token any more: withdrawn, expired, or used before.',
  token_revoked: 'The tokens were withdrawn at the provider.',
  login_refused: 'The provider refuses what the owner gave: it was changed, withdrawn or blocked there.',

  // a policy
  policy:
    'A policy at the provider forbids the renewal, for instance an IP restriction. Its administrator can lift it.',

  // turned away before anything happened
  refresh_withheld: 'The renewal was not sent, because its moment had passed. It is tried again.',
  token_endpoint_unreachable: 'The token endpoint of the provider could not be reached.',
  token_endpoint_unknown: 'A fact that the address of the token endpoint is built from is missing.',
  host_not_allowed: 'The token endpoint is on a host that the provider definition does not allow.',
  database_unavailable: 'The database could not be reached in the middle of a renewal. It is tried again.',
  no_refresh_token: 'The provider gave no refresh token, so there is nothing to renew it with.',
  provider_busy: 'The provider asked to be left alone for a while.',
  rate_limit_exceeded: 'The provider has seen too many logins of this user.',
  slow_down: 'The provider asked to be called less often.',

  // the integration is wrong, not the connection
  invalid_client: 'The provider does not accept the client id and secret of the integration. Correct them there.',
  invalid_client_id: 'The provider does not know the client id of the integration. Correct it there.',
  unauthorized_client: 'The OAuth app of the integration may not renew tokens. Allow it at the provider.',
  invalid_request: 'The provider found the renewal malformed. The provider definition may need a correction.',
  invalid_scope: 'The provider no longer grants these scopes. Check the scopes of the OAuth app.',
  unsupported_grant_type: 'The token endpoint does not renew tokens. The provider definition may need a correction.',

  provider_error: 'The provider refused the renewal with an error that has no sentence of its own here.',
} as const

export type Cause = keyof typeof causes

export const connectionState = z
  .object({
    name: stateName,
    cause: z.enum(Object.keys(causes) as [Cause, ...Cause[]]).nullable(),
    message: z
      .string()
      .openapi({ description: "What it means and what to do, in the provider's own terms where they are known." }),
    since: z.string().openapi({ description: 'When the connection came into this state.' }),
    explained: explainedCause
      .optional()
      .openapi({ description: 'What may be behind what the provider said, likeliest first.' }),
  })
  .openapi('ConnectionState')
export type ConnectionState = z.infer<typeof connectionState>

/** What will go wrong unless somebody does something: it works today. */
export const warnings = {
  grants_near_limit:
    'The provider keeps only so many grants of one account for one OAuth app, and this account is about to have them all. From then on ' +
    'each further sign-in silently ends the oldest grant, and the connection on it needs its owner again. Delete connections of this ' +
    'account that nobody uses.',
} as const
export type WarningCode = keyof typeof warnings

export const connectionWarning = z
  .object({
    code: z.enum(Object.keys(warnings) as [WarningCode, ...WarningCode[]]),
    message: z.string(),
    payload: z.object({ live: z.number(), limit: z.number() }),
  })
  .openapi('ConnectionWarning')
export type ConnectionWarning = z.infer<typeof connectionWarning>

/** A provider's own error codes have no end; those without a sentence share one. */
export const causeOf = (written: string): Cause =>
  Object.hasOwn(causes, written) ? (written as Cause) : 'provider_error'

/** What people see: a pause hides the health beneath it. `explained`: what the provider's own words mean, where somebody knows. */
export function stateOf(
  known: { health: Health; cause: string | null; paused: boolean; since: string },
  explained?: ExplainedCause,
): ConnectionState {
  const { health, paused, since } = known
  const cause = known.cause === null ? null : causeOf(known.cause)
  if (paused) return { name: 'paused', cause, message: states.paused, since }
  const [likeliest] = explained?.explanations ?? []
  const isKnown = explained && likeliest && explained.code !== unexplained
  const message = isKnown ? `${explained.title}. ${likeliest.fix}` : cause ? causes[cause] : states[health]
  return { name: health, cause, message, since, ...(explained && { explained }) }
}
