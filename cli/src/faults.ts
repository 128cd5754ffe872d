/** The three ways a command can fail, each with an exit code of its own, so that a script can tell them apart. */

/** 2: what was typed is not a command of ours, or something it needs is missing. Nothing was sent. */
export class UsageFault extends Error {}

/** 1: somebody was asked and said no. */
export class Declined extends Error {}

/** 3: nobody answers at the server's address. */
export class Unreachable extends Error {}

/** 1: the server answered, and the answer is no. */
export class Refused extends Error {
  readonly status: number
  readonly code: string
  /** The sentences beneath: which member of a request is wrong, or what caused it. */
  readonly details: string[]
  /** Seconds, when the answer said that it is a matter of waiting. */
  readonly retryAfter: number | undefined

  constructor(status: number, code: string, message: string, details: string[] = [], retryAfter?: number) {
    super(message)
    this.retryAfter = retryAfter
    this.status = status
    this.code = code
    this.details = details
  }
}

export const exitCodeOf = (error: unknown): number =>
  error instanceof UsageFault ? 2 : error instanceof Unreachable ? 3 : 1
