/**
 * The only way out: assembles policy, dialling and the two ways of speaking HTTP into the `Egress` seam. Single requests
 * (tokens, webhooks) go through `exchange`, each on a fresh connection; questions that may be asked twice and the proxy's traffic
 * go through undici's pools. Both dial the same way, so neither can reach what the policy forbids.
 *
 * Never here: following redirects (the answer is the caller's to judge), retrying (a refresh token is single-use), and
 * HTTP_PROXY or NO_PROXY from the environment (an Agent with its own connector does not read them).
 */
import { createRequire } from 'node:module'
import type { Agent as AgentClass } from 'undici'
import { EgressError } from '../errors.ts'
import type { Egress, EgressPhase } from '../seams.ts'
import { watchAnswers } from './answers.ts'
import { type DialOptions, dialer } from './dial.ts'
import { exchange, maxHeaderBytes } from './exchange.ts'
import { checkUrl } from './policy.ts'
import { question } from './question.ts'

// The Agent alone loads in 27–39 ms, undici's index in 73–112 ms (Node 26, three runs each). The package has no export
// map, so the file is reachable; it is the same class the index exports. It has `dispatch`; the promise-returning methods
// (`request`, `stream`, …) are attached by the index and exist only where somebody imports that.
const Agent = createRequire(import.meta.url)('undici/lib/dispatcher/agent.js') as typeof AgentClass

const userAgent = 'fairlead/0.1.0'

/** Salesforce lets one API call run for ten minutes; half a minute more and nobody will answer. */
const silenceMs = 630_000

export function createEgress(options: DialOptions): Egress {
  const dial = dialer(options)
  const check = (url: URL): void => {
    const refusal = checkUrl(options.rules, url)
    if (refusal !== undefined) throw new EgressError('refused', refusal)
  }

  const agent = (keepAliveMs: number) =>
    new Agent({
      connect: ({ protocol, host, hostname }, callback) => {
        // undici's `servername` follows the Host header; ours follows the origin, so a header cannot choose the certificate.
        dial(new URL(`${protocol}//${host ?? hostname}`)).then(
          ({ socket }) => {
            watchAnswers(socket)
            callback(null, socket)
          },
          (error: Error) => callback(error, null),
        )
      },
      allowH2: false,
      // One request at a time per connection: a second one behind a slow answer would share its fate.
      pipelining: 1,
      connections: 1_024,
      // A shorter `Keep-Alive: timeout` is obeyed; the ceiling keeps a moved host's old address from being used for long.
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      headersTimeout: silenceMs,
      // Between two pieces of body, not for the whole of it: a download may take hours, a dead one must end.
      bodyTimeout: silenceMs,
      maxHeaderSize: maxHeaderBytes,
    })

  // A connection may be closed at its other end in the moment it is used again. A call that may be repeated then is; for one that may
  // not, no connection is used that idled long enough for that to happen: Node closes after 5 s, nginx after 75, AWS ALB after 60.
  const lasting = agent(30_000)
  const brief = agent(2_000)
  // Apart: a question has a deadline, and would spend it waiting for a place behind a host's calls that hang.
  const questions = agent(2_000)

  return {
    check,
    async request(ask) {
      if (!ask.repeatable) return exchange(await dial(ask.url), ask, userAgent)
      // A connection that is kept is not dialled again, so what `dial` looks at in the URL is looked at here.
      check(ask.url)
      return question(questions, ask, userAgent, egressPhaseOf)
    },
    dispatcher: {
      dispatch: (options, handler) => (mayRepeat.test(options.method) ? lasting : brief).dispatch(options, handler),
    },
    close: async () => {
      await Promise.all([lasting.close(), brief.close(), questions.close()])
    },
  }
}

/** Idempotent methods (RFC 9110 §9.2.2). */
const mayRepeat = /^(?:GET|HEAD|OPTIONS|PUT|DELETE)$/

/** Codes that undici or Node give only to requests that never began to be written. */
const unsentCodes = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_INVALID_ARG',
  'UND_ERR_CLOSED',
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
])
const certificateCode = /^(?:CERT_|ERR_TLS_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH)/

/**
 * How far a failed dispatch got. Failures of our connector arrive as the `EgressError` they are; everything else happened
 * on an open connection, where only what certainly precedes the first byte is `unsent`. The same errno may mean either
 * (an ICMP EHOSTUNREACH also ends an established connection), hence `syscall`. Unknown means doubt.
 */
export function egressPhaseOf(error: unknown): EgressPhase {
  for (let current = error, depth = 0; current instanceof Error && depth < 5; current = current.cause, depth++) {
    if (current instanceof EgressError) return current.phase
    const { code = '', syscall } = current as NodeJS.ErrnoException
    if (syscall === 'connect' || syscall === 'getaddrinfo') return 'unsent'
    if (unsentCodes.has(code) || certificateCode.test(code)) return 'unsent'
  }
  return 'unanswered'
}
