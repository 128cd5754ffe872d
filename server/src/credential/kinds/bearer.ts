/** What kinds share whose token is presented as a bearer token (RFC 6750 §2.1), and whose answer may be somebody's own. */
import type { Held, Kind } from './kind.ts'
import type { TokenAnswer } from './oauth2-code.ts'

export const bearer: Pick<Kind, 'values' | 'authorization'> = {
  values: ({ accessToken }) => ({ accessToken: accessToken.reveal(), token: accessToken.reveal() }),
  authorization: ({ accessToken }) => `Bearer ${accessToken.reveal()}`,
}

export const shownEnd = ({ expiresAt }: Held): { expires_at?: string } =>
  expiresAt ? { expires_at: expiresAt.toISOString() } : {}

/** The error code of a login that was refused without one. */
export const loginRefused = 'login_refused'

/** 401 and 403 say by themselves that what was given does not open the door. */
export const refusedByStatus = (answer: TokenAnswer): TokenAnswer =>
  answer.kind === 'unreadable' && (answer.status === 401 || answer.status === 403)
    ? { kind: 'error', error: loginRefused, description: `HTTP ${answer.status}`, status: answer.status }
    : answer

/** Without a life of its own told: somewhat less than the hour that nearly every token of this kind has. */
export const usualLifeMs = 55 * 60_000
