import type { ErrorCode, ErrorIssue } from '@fairlead/contract'

/** What went wrong, as one class: `code` says what, `provider` says who. */
export class FairleadError extends Error {
  override readonly name = 'FairleadError'
  /**
   * One of the codes at /docs/errors; or `unreachable` (no answer), `not_fairlead` (an answer, but not from Fairlead) and
   * `provider_answer` (the provider's own answer is an error, where a page of data was expected).
   */
  readonly code: ErrorCode | 'unreachable' | 'not_fairlead' | 'provider_answer' | (string & {})
  /** Of the answer; 0 when there was none. */
  readonly status: number
  /** Whether the provider said it, and not Fairlead. */
  readonly provider: boolean
  /** Which members of a request are wrong. */
  readonly issues: ErrorIssue[]
  /** What else is known, as the code's documentation says. Of a provider's answer: its body as text. */
  readonly payload: unknown
  /** Seconds after which it is worth trying again, when the answer said so. */
  readonly retryAfter: number | undefined

  constructor(
    code: FairleadError['code'],
    message: string,
    known: {
      status?: number
      provider?: boolean
      issues?: ErrorIssue[] | undefined
      payload?: unknown
      retryAfter?: number | undefined
      cause?: unknown
    } = {},
  ) {
    super(message, known.cause === undefined ? undefined : { cause: known.cause })
    this.code = code
    this.status = known.status ?? 0
    this.provider = known.provider ?? false
    this.issues = known.issues ?? []
    this.payload = known.payload
    this.retryAfter = known.retryAfter
  }
}

/** `Retry-After` in seconds; a date is counted from now. */
export function retryAfterOf(headers: Headers): number | undefined {
  const said = headers.get('retry-after')
  if (said === null) return undefined
  const seconds = /^\d+$/.test(said) ? Number(said) : (Date.parse(said) - Date.now()) / 1000
  return Number.isNaN(seconds) ? undefined : Math.max(0, Math.ceil(seconds))
}
