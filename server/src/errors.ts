import { type ErrorCode, type ErrorIssue, type ExplainedCause, errors } from '@fairlead/contract'

interface Details {
  /** Where the wire contract answers one code with two statuses. */
  status?: number
  /** A more exact sentence for the caller than the table's. Never a secret, never an upstream body. */
  message?: string
  /** Validation only: which member is wrong and why. */
  issues?: ErrorIssue[]
  payload?: unknown
  /** What the provider's error means and what to do, from the provider's own hooks. */
  explained?: ExplainedCause | undefined
  /** Response headers that belong to the refusal, e.g. Retry-After. */
  headers?: Record<string, string>
  /** For the operator's log alone; it is not serialised. */
  cause?: unknown
}

/**
 * Ends a request with a code of the one table. Thrown where the request is over, caught once in `http/`.
 * Two messages, never one: `message` is what the caller may read, `cause` is what the operator needs.
 */
export class Failure extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly issues: ErrorIssue[] | undefined
  readonly payload: unknown
  readonly explained: ExplainedCause | undefined
  readonly headers: Record<string, string>

  constructor(code: ErrorCode, details: Details = {}) {
    super(details.message ?? errors[code][1], { cause: details.cause })
    this.name = 'Failure'
    this.code = code
    this.status = details.status ?? errors[code][0]
    this.issues = details.issues
    this.payload = details.payload
    this.explained = details.explained
    this.headers = details.headers ?? {}
  }
}

/** Raised by the egress when somebody else's server could not be asked; `phase` says how far the request got. */
export class EgressError extends Error {
  readonly phase: 'refused' | 'unsent' | 'unanswered'
  readonly reason: 'too_large' | 'deadline' | 'withheld' | undefined

  constructor(phase: EgressError['phase'], message: string, cause?: unknown, reason?: EgressError['reason']) {
    super(message, { cause })
    this.name = 'EgressError'
    this.phase = phase
    this.reason = reason
  }
}
