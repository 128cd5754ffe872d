/**
 * Whether and when a call that failed is sent again. The caller asks for it with the wire contract's `Retries` and `Retry-On`; what is
 * sent twice must be harmless twice, so a POST that may have been processed is not repeated unless the caller said it may be.
 */
import { Failure } from '../errors.ts'
import { minutes, retryAfterMs, seconds, untilMs } from '../lib/time.ts'
import type { Provider } from '../provider/schema.ts'
import type { Held } from './forward.ts'
import { type Head, headerOf } from './headers.ts'

export interface RetryRules {
  /** Attempts after the first. */
  max: number
  /** Whether an answer of this status is worth another attempt. */
  status(status: number): boolean
  worth(outcome: Held | Failure): boolean
  /** Whether a request that may have been processed may be sent again (RFC 9110 §9.2.2, or the caller's Idempotency-Key). */
  repeatable: boolean
}

/** A longer wait than this is the caller's to wait: the answer goes out as it is, with what the provider said. */
const longestWait = minutes(1)
/** The wire contract knows no most, and a client that asks for twenty is not wrong: it gets these. */
const mostRetries = 10

/** Throws `invalid_headers` when `Retries` or `Retry-On` cannot be read. */
export function retryRules({ proxy }: Provider, method: string, head: Head): RetryRules {
  const repeatable = !/^(?:POST|PATCH|CONNECT)$/.test(method) || headerOf(head, 'idempotency-key') !== undefined
  const asked = headerOf(head, 'retries')
  if (asked === undefined) return repeatable ? noRetries : noRetriesOnce
  if (!/^\d{1,9}$/.test(asked)) throw unreadable('retries', 'a number; more than 10 are 10')
  const max = Math.min(Number(asked), mostRetries)

  const named = headerOf(head, 'retry-on') || undefined
  if (named !== undefined && !/^\d{3}(?: *, *\d{3})*$/.test(named))
    throw unreadable('retry-on', 'status codes, separated by commas')
  const also = new Set(named === undefined ? [] : named.split(',').map(Number))
  const listed = proxy?.retry?.error_code
  const worth = (status: number) =>
    listed ? listed.some(code => covers(code, status)) : status === 429 || (status >= 500 && status !== 501)
  // 429 says that nothing was done (RFC 6585 §4); after any other the request may have been carried out.
  const byStatus = (status: number) => also.has(status) || (worth(status) && (repeatable || status === 429))
  return {
    max,
    status: byStatus,
    worth: outcome => {
      if (!(outcome instanceof Failure)) return byStatus(outcome.status)
      const { code } = outcome
      return (
        code === 'upstream_unreachable' || (repeatable && (code === 'upstream_failed' || code === 'upstream_timeout'))
      )
    },
    repeatable,
  }
}

const never = { max: 0, status: () => false, worth: () => false }
const noRetries: RetryRules = { ...never, repeatable: true }
const noRetriesOnce: RetryRules = { ...never, repeatable: false }

const unreadable = (name: string, wanted: string): Failure =>
  new Failure('invalid_headers', {
    issues: [{ code: 'custom', message: `Must be ${wanted}.`, path: [name] }],
  })

/** "429", "5xx" or "500-504". */
function covers(code: string, status: number): boolean {
  const [from = code, to = from] = code.split('-')
  return status >= Number(from.replaceAll('x', '0')) && status <= Number(to.replaceAll('x', '9'))
}

/** Milliseconds until attempt `n` (1 is the first after the first); undefined: the caller is told instead. */
export function waitBefore(n: number, { proxy }: Provider, outcome: Held | Failure, now: number): number | undefined {
  const told = outcome instanceof Failure ? undefined : toldWait(proxy?.retry, outcome, now)
  if (told !== undefined) return told <= longestWait ? told : undefined
  // Doubling, with half of it left to chance so that those who failed together do not come back together.
  return Math.min(longestWait, seconds(1) * 2 ** (n - 1)) * (0.5 + Math.random() / 2)
}

/** What the answer says of when to come back. */
function toldWait(rules: NonNullable<Provider['proxy']>['retry'], held: Held, now: number): number | undefined {
  const header = (name: string | undefined) => (name ? [held.headers[name.toLowerCase()]].flat()[0] : undefined)
  const inBody = rules?.in_body && textIn(held.body, rules.in_body.path)?.match(new RegExp(rules.in_body.value))?.at(-1)
  const at = header(rules?.at) ?? (rules?.in_body?.strategy === 'at' ? inBody : undefined)
  if (at !== undefined) return untilMs(at, now)
  const after =
    header(rules?.after) ?? (rules?.in_body?.strategy === 'after' ? inBody : undefined) ?? header('retry-after')
  return retryAfterMs(after, now)
}

/** The member `path` names, e.g. "error.message", as text. */
function textIn(body: Buffer, path: string): string | undefined {
  try {
    const value = path
      .split('.')
      .reduce<unknown>(
        (at, name) =>
          typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? Reflect.get(at, name) : undefined,
        JSON.parse(body.toString('utf8')),
      )
    return value === undefined ? undefined : String(value)
  } catch {
    return undefined
  }
}
