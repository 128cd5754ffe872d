/**
 * The four seams: what the rooms are handed instead of importing it, because a test or a deployment
 * puts something else there. Everything that is not one of these is imported and called.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'
import type { Sql } from './db/sql.ts'

/** PostgreSQL. A transaction is never held across a network call. */
export interface Db {
  /** Runs one statement and returns its rows. */
  query<Row extends object>(statement: Sql): Promise<Row[]>
  /** Runs `work` in one transaction; a throw rolls back. */
  transaction<T>(work: (tx: Db) => Promise<T>): Promise<T>
}

/** How far a request to somebody else's server got before it failed: the difference between "try again" and doubt. */
export type EgressPhase =
  /** The policy refused the address or the scheme; no socket was opened. */
  | 'refused'
  /** DNS, TCP or TLS failed, or `ready` declined: not one byte of the request was written. */
  | 'unsent'
  /** At least one byte may have been written; whether it was processed is unknown. */
  | 'unanswered'

export interface EgressRequest {
  method: 'GET' | 'POST'
  url: URL
  headers?: Record<string, string>
  body?: string
  /** From the first byte written to the last byte read, in milliseconds. The socket is then reset. */
  deadlineMs: number
  /** The most bytes of answer body that are read; more is an `unreadable` answer, not memory. */
  maxBytes: number
  /**
   * Asked once the connection stands (DNS, TCP, TLS) and before the first byte. `false` means: write nothing.
   * A refresh writes its intent here (refresh-protocol.md §5 step 3).
   */
  ready?: () => Promise<boolean>
  /** It does no harm twice (a GET, an introspection): it may go out on a connection that another one has used. Not with `ready`. */
  repeatable?: boolean
}

export interface EgressAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

/** The only way out. Knows the SSRF policy; follows no redirect and retries nothing. */
export interface Egress {
  /** Throws `EgressError('refused')` when policy forbids the URL as written; resolves nothing, opens nothing. */
  check(url: URL): void
  /** One small request, answer read whole. Throws `EgressError`. */
  request(request: EgressRequest): Promise<EgressAnswer>
  /** The proxy's data path: undici's dispatcher behind the same policy. */
  dispatcher: Pick<Dispatcher, 'dispatch'>
  close(): Promise<void>
}

/** Runs `work` as a named step of whatever is being traced. Absent where nobody collects traces: a step is then merely done. */
export type Trace = <T>(
  name: string,
  attributes: Record<string, string | number | boolean | undefined>,
  work: () => Promise<T>,
) => Promise<T>

/** Time, handed over so that a simulation can own it. */
export interface Clock {
  /** Milliseconds on this process's monotonic clock. A wall clock jumps, so no window, wait or lifetime is measured by one. */
  now(): number
  /** Milliseconds since the epoch by the wall clock: for what a provider says in epoch time, and to notice a machine that was frozen. */
  wall(): number
  sleep(ms: number): Promise<void>
}

/** What a sealed value is bound to: moved to another row, column or environment it does not open (AES-GCM associated data). */
export interface SealedPlace {
  table: string
  column: string
  /** Environment id, or 0 for what belongs to the whole installation. */
  environment: number
  row: string
}

/** Seals and opens bytes. Knows keys, not credentials. */
export interface Vault {
  /**
   * Runs `work`, which seals or opens and does nothing else. Keys are in memory; when one is needed that another server made a moment ago,
   * or the environment has none yet, it is loaded or made and `work` runs again.
   */
  withKeys<T>(work: () => T): Promise<T>
  /** Within `withKeys`. */
  seal(plain: string, place: SealedPlace): Buffer
  /** Within `withKeys`. Throws `Failure('sealed_value_unreadable')` when the key is gone or the value is not from this place. */
  open(sealed: Buffer, place: SealedPlace): string
}
