/**
 * Credentials: the sealed secret of a grant and its life. This room owns the table `credential`, the refresh, and the kinds of
 * credential (pure, in `kinds/`). No URLs. Connections and the proxy ask it for a token that works now; connect asks it to store one.
 */
import { Failure } from '../errors.ts'
import { createCache } from '../lib/cache.ts'
import { singleFlight } from '../lib/single-flight.ts'
import { minutes } from '../lib/time.ts'
import { learnLifetimeQuietly } from './lifetime.ts'
import { type Holder, type RefreshDeps, type RefreshOutcome, refreshOnce } from './refresh.ts'
import { type Credential, loadCredential } from './store.ts'

export interface Credentials {
  /** A credential whose access token works as far as anybody knows. Throws `invalid_credentials`, `refresh_unavailable`, `connection_paused`. */
  fresh(holder: Holder, credential: Credential): Promise<Credential>
  /** After the provider called `credential`'s access token expired. Undefined when there is no newer one to be had. */
  renewed(holder: Holder, credential: Credential): Promise<Credential | undefined>
  /** The provider called even the renewed token expired: renewing is not the cure, so `renewed` leaves this version alone. */
  distrust(credential: Credential): void
  /** Renewed whether it is needed or not. Throws like `fresh`. */
  forced(holder: Holder, credential: Credential): Promise<Credential>
  /** Asks in the background when a token just stored ends. */
  learn(holder: Holder, credential: Credential): void
  /** Waits for refreshes and questions under way. */
  drain(): Promise<void>
}

type Deps = RefreshDeps & {
  /** A newer credential than a cache may hold. */
  onRenewed: (credential: Credential) => void
}

interface Renewal {
  credential: Credential | undefined
  outcome: RefreshOutcome
}

export function createCredentials(deps: Deps): Credentials {
  const oneAtATime = singleFlight<Renewal>()
  const background = new Set<Promise<unknown>>()
  const distrusted = createCache<number>({ max: 10_000, maxAgeMs: minutes(10) })
  /** `drain` waits for it; whoever else awaits it hears of its failure. */
  const track = <Result>(work: Promise<Result>): Promise<Result> => {
    const done = () => void background.delete(tracked)
    const tracked: Promise<void> = work.then(done, done)
    background.add(tracked)
    return work
  }

  const alive = (credential: Credential) => credential.aliveUntil === undefined || deps.now() < credential.aliveUntil

  /** Callers of this process that saw the same token share one attempt; processes share it through the claim. */
  const renew = (holder: Holder, seen: Credential, forced: boolean): Promise<Renewal> =>
    // Tracked even while a caller awaits it: the caller may hang up, and the answer must still be saved before we stop.
    track(
      oneAtATime(`${seen.id} ${seen.tokenVersion} ${forced}`, async () => {
        const deadline = deps.now() + deps.timing.sendWindow + deps.timing.answer
        const outcome = await refreshOnce(deps, holder, seen, forced)
        for (;;) {
          const credential = await loadCredential(deps, seen.id)
          const moved = credential !== undefined && credential.tokenVersion > seen.tokenVersion
          if (credential && moved) {
            deps.onRenewed(credential)
            void track(learnLifetimeQuietly(deps, holder, credential))
          }
          const waiting =
            outcome.kind === 'not_claimed' && !moved && credential?.leaseHeld === true && deps.now() < deadline
          if (!waiting) return { credential, outcome }
          await new Promise(resolve => setTimeout(resolve, 100))
        }
      }),
    )

  /** The newer credential, or the reason there is none. */
  const renewedOrThrow = async (holder: Holder, seen: Credential, forced: boolean): Promise<Credential> => {
    const { credential, outcome } = await renew(holder, seen, forced)
    if (credential && credential.tokenVersion > seen.tokenVersion) return credential
    if (!credential) throw new Failure('unknown_connection')
    throw outcome.kind === 'refused' || credential.health === 'needs_reauth'
      ? new Failure('invalid_credentials', { payload: { cause: credential.cause } })
      : unavailable(credential.cause, credential.nextTryAt - deps.now())
  }

  const refuseUnusable = (credential: Credential) => {
    if (credential.paused) throw new Failure('connection_paused')
    const ended = credential.health === 'needs_reauth' && (credential.aliveUntil === undefined || !alive(credential))
    if (ended) throw new Failure('invalid_credentials', { payload: { cause: credential.cause } })
  }

  return {
    async fresh(holder, credential) {
      refuseUnusable(credential)
      const due = credential.freshUntil !== undefined && deps.now() >= credential.freshUntil
      if (!due || !credential.refreshToken) return credential
      if (!alive(credential)) return renewedOrThrow(holder, credential, false)
      // Still alive: nobody waits for the renewal, and nobody fails when it fails.
      if (credential.health !== 'needs_reauth' && deps.now() >= credential.nextTryAt)
        renew(holder, credential, false).catch((error: Error) =>
          deps.log.warn({ credential: credential.id, reason: error.message }, 'renewal in the background failed'),
        )
      return credential
    },

    async renewed(holder, credential) {
      if (!credential.refreshToken || credential.health === 'needs_reauth') return undefined
      if (distrusted.get(credential.id) === credential.tokenVersion) return undefined
      const newer = await renew(holder, credential, true).then(result => result.credential)
      return newer && newer.tokenVersion > credential.tokenVersion ? newer : undefined
    },

    distrust: credential => distrusted.set(credential.id, credential.tokenVersion),

    async forced(holder, credential) {
      if (credential.paused) throw new Failure('connection_paused')
      if (!credential.refreshToken) return credential
      if (credential.health === 'needs_reauth')
        throw new Failure('invalid_credentials', { payload: { cause: credential.cause } })
      return renewedOrThrow(holder, credential, true)
    },

    learn: (holder, credential) => void track(learnLifetimeQuietly(deps, holder, credential)),

    async drain() {
      while (background.size > 0) await Promise.all(background)
    },
  }
}

function unavailable(cause: string | null, waitMs: number): Failure {
  const seconds = Math.max(1, Math.ceil(waitMs / 1000))
  return new Failure('refresh_unavailable', {
    payload: { cause },
    headers: { 'Retry-After': String(seconds) },
  })
}
