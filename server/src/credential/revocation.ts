/**
 * Ends grants at their provider (RFC 7009): what was deleted or killed, and late answers of those. Works through the outbox in the
 * background, on every process; a job is leased, so a process that dies leaves it to another. The refresh token goes first, because with
 * it the provider ends what was made of it; then the access token; then the provider is asked whether both are dead.
 */
import { EgressError, Failure } from '../errors.ts'
import type { Log } from '../lib/log.ts'
import type { Secret } from '../lib/secret.ts'
import { minutes, retryAfterMs } from '../lib/time.ts'
import { type ConnectionConfig, endpoint } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import type { Clock, Db, Egress, Vault } from '../seams.ts'
import { introspectToken, type TokenHint } from './introspect.ts'
import { type Client, tokenRequest } from './kinds/oauth2-code.ts'
import type { Holder } from './refresh-deps.ts'
import { claimRevocations, endRevocation, type Job, postponeRevocation, type Result } from './revocation/store.ts'
import { backOff, type Timing } from './timing.ts'

interface Deps {
  db: Db
  vault: Vault
  egress: Pick<Egress, 'request'>
  clock: Clock
  timing: Timing
  log: Log
  /** Undefined when the catalogue has it no more. */
  providerOf: (name: string) => Provider | undefined
  /** The integration's OAuth client as it is now; undefined when the integration is gone. */
  clientOf: (integrationId: number) => Promise<Client | undefined>
}

/** `draining`: this process is about to stop. */
type Working = Deps & { draining: () => boolean }

export interface Revocations {
  /** Works until nothing is due. Every few seconds, on every process. */
  sweep(): Promise<void>
  /** Something was just put in: do not wait for the next sweep. */
  kick(): void
  /** Takes nothing more; resolves when what is in hand has been written down. */
  drain(): Promise<void>
}

/** In hand at a time, so that a kill of many leaves calls and refreshes room. */
const atOnce = 8
/** After this many tries an introspection that does not answer is not waited for any more. */
const patientTries = 6
const longestRetryAfter = minutes(6 * 60)

export function createRevocations(deps: Deps): Revocations {
  let draining = false
  let running: Promise<void> | undefined
  let again = false

  async function work(): Promise<void> {
    do {
      again = false
      for (;;) {
        const jobs = draining ? [] : await claimRevocations(deps.db, deps.vault, atOnce)
        if (jobs.length === 0) break
        await Promise.all(jobs.map(job => perform({ ...deps, draining: () => draining }, job)))
      }
    } while (again && !draining)
  }

  const sweep = (): Promise<void> => {
    // Whoever comes while one is running wants what was put in since it last looked.
    again = true
    running ??= work().finally(() => {
      running = undefined
    })
    return running
  }

  return {
    sweep,
    kick: () =>
      void sweep().catch((error: unknown) =>
        deps.log.warn({ reason: String(error) }, 'revocations wait for the sweep'),
      ),
    async drain() {
      draining = true
      await running?.catch(() => {})
    },
  }
}

type Step =
  | { kind: 'end'; result: Result; verified: boolean }
  | { kind: 'again'; result: Result | null; waitMs: number; reason: string }

async function perform(deps: Working, job: Job): Promise<void> {
  try {
    const step = await attempt(deps, job).catch((error: unknown): Step => {
      const known = error instanceof EgressError || error instanceof Failure
      return { kind: 'again', result: job.result, waitMs: 0, reason: known ? error.message : String(error) }
    })
    const about = {
      revocation: job.id,
      connections: job.connectionIds.length,
      provider: job.provider,
      tries: job.tries,
    }
    if (step.kind === 'end' || (job.overdue && job.quietMs === 0)) {
      const end = step.kind === 'end' ? step : { result: step.result ? ('unverified' as const) : ('given_up' as const) }
      await endRevocation(deps.db, job.id, end.result, step.kind === 'end' && step.verified)
      const done = end.result === 'given_up' || end.result === 'unverified' ? deps.log.warn : deps.log.info
      done.call(deps.log, { ...about, result: end.result }, 'a grant was ended')
      return
    }
    deps.log.info({ ...about, reason: step.reason }, 'a revocation is tried again')
    await postponeRevocation(deps.db, job.id, step.result, Math.max(step.waitMs, backOff(job.tries - 1)))
  } catch (error) {
    // The lease runs out and the next sweep takes it.
    deps.log.warn({ revocation: job.id, reason: String(error) }, 'the outcome of a revocation could not be written yet')
  }
}

/** One try, top to bottom: revoke → wait until nothing can be under way → ask whether it is dead. */
async function attempt(deps: Working, job: Job): Promise<Step> {
  const provider = deps.providerOf(job.provider)
  if (!provider) return { kind: 'again', result: job.result, waitMs: 0, reason: 'the provider is not in the catalogue' }
  // A secret that was corrected meanwhile is the right one; a client that was replaced is not the one these tokens belong to.
  const current = await deps.clientOf(job.integrationId)
  const holder = { provider, client: current?.id === job.client.id ? current : job.client }
  const tokens: [Secret, TokenHint][] = [
    ...(job.refreshToken ? [[job.refreshToken, 'refresh_token'] as [Secret, TokenHint]] : []),
    ...(job.accessToken ? [[job.accessToken, 'access_token'] as [Secret, TokenHint]] : []),
  ]

  if (tokens.length === 0) return { kind: 'end', result: 'not_offered', verified: false }

  const said: Revoked[] = []
  for (const [token, hint] of tokens) {
    if (deps.draining()) return { kind: 'again', result: job.result, waitMs: 0, reason: 'this server is stopping' }
    const revoked = await revokeToken(deps, holder, job.config, token, hint)
    if (revoked.kind === 'later') return { ...revoked, kind: 'again', result: job.result }
    said.push(revoked)
  }
  const result = job.result ?? resultOf(said)

  if (job.quietMs > 0)
    return { kind: 'again', result, waitMs: job.quietMs, reason: 'a refresh was under way; its answer may turn up' }

  const states = await Promise.all(tokens.map(([token, hint]) => introspectToken(deps, holder, job, token, hint)))
  const verified = states.every(state => state === 'inactive')
  // Whether the refresh that was under way left a token nobody knows cannot be asked.
  if (job.intentOpen) return { kind: 'end', result: 'unverified', verified: false }
  if (result === 'not_offered') return { kind: 'end', result: verified ? 'already_dead' : 'not_offered', verified }
  if (states.includes('active')) return { kind: 'again', result, waitMs: 0, reason: 'a revoked token is still active' }
  if (states.includes('unknown'))
    return job.tries < patientTries
      ? { kind: 'again', result, waitMs: 0, reason: 'introspection does not answer' }
      : { kind: 'end', result: 'unverified', verified: false }
  return { kind: 'end', result, verified }
}

function revocationUrl(provider: Provider, config: ConnectionConfig): URL | undefined {
  try {
    return provider.revocation_url === undefined ? undefined : endpoint(provider, provider.revocation_url, config)
  } catch (failure) {
    // A host that is not on the provider's list (any more) gets no token.
    if (failure instanceof Failure && failure.code === 'host_not_allowed') return undefined
    throw failure
  }
}

export type Revoked =
  | { kind: 'ended' }
  /** Already where we want it (RFC 7009 §2.2; Salesforce and others say 400 to it). */
  | { kind: 'unknown_token' }
  | { kind: 'not_offered' }
  | { kind: 'later'; waitMs: number; reason: string }

const resultOf = (said: Revoked[]): Result =>
  said.some(one => one.kind === 'ended')
    ? 'revoked'
    : said.some(one => one.kind === 'unknown_token')
      ? 'already_dead'
      : 'not_offered'

/** One request (RFC 7009 §2.1). Throws what the egress throws. */
export async function revokeToken(
  deps: Pick<Deps, 'egress' | 'clock' | 'timing'>,
  { provider, client }: Holder,
  config: ConnectionConfig,
  token: Secret,
  hint: TokenHint,
): Promise<Revoked> {
  const url = revocationUrl(provider, config)
  if (!url) return { kind: 'not_offered' }
  const asForm = { ...provider, token_params: {}, body_format: 'form' as const }
  const request = tokenRequest(asForm, client, { token: token.reveal(), token_type_hint: hint }, config)
  const { status, headers, body } = await deps.egress.request({
    method: 'POST',
    url,
    ...request,
    deadlineMs: deps.timing.introspection,
    maxBytes: 64 * 1024,
  })
  if (status >= 200 && status < 300) return { kind: 'ended' }
  const error = status === 400 ? errorOf(body) : undefined
  if (error === 'invalid_token') return { kind: 'unknown_token' }
  if (error === 'unsupported_token_type') return { kind: 'not_offered' }
  // Everything else may pass: an outage, a limit, a client secret that will be corrected.
  const waitMs = Math.min(retryAfterMs(headers['retry-after'], deps.clock.wall()) ?? 0, longestRetryAfter)
  return { kind: 'later', waitMs, reason: `the provider answered ${status}` }
}

function errorOf(body: Buffer): unknown {
  try {
    const answer: unknown = JSON.parse(body.toString('utf8'))
    return typeof answer === 'object' && answer !== null && 'error' in answer ? answer.error : undefined
  } catch {
    return undefined
  }
}
