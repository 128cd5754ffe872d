/**
 * Credentials: the sealed secret of a grant and its life. This room owns the table `credential`, the journal, the refresh, and the kinds of
 * credential (pure, in `kinds/`). No URLs. Connections and the proxy ask it for a token that works now; connect asks it to store one.
 */
import { Failure } from '../errors.ts'
import { createCache } from '../lib/cache.ts'
import { singleFlight } from '../lib/single-flight.ts'
import { minutes, seconds } from '../lib/time.ts'
import type { Trace } from '../seams.ts'
import { type Endless, learnLifetime, learnRenewed } from './introspect.ts'
import type { Entry } from './journal.ts'
import { installDecided, isAlive, type Reason, type RefreshOutcome, refreshOnce } from './refresh.ts'
import type { Holder, RefreshDeps } from './refresh-deps.ts'
import type { Credential, Installed } from './store.ts'

export interface Credentials {
  /** Whether it works as it is, as far as anybody knows: what `fresh` would find out too, a promise later. */
  isFresh(credential: Credential): boolean
  /** A credential whose access token works as far as anybody knows. Throws `invalid_credentials`, `refresh_unavailable`, `connection_paused`. */
  fresh(holder: Holder, credential: Credential): Promise<Credential>
  /**
   * After the provider called `credential`'s access token expired. Undefined when there is no newer one to be had. `blind`: the call that
   * was refused cannot be sent again, so nothing shows at once whether the new token works; until one does, it is not renewed for a call
   * once more.
   */
  renewed(holder: Holder, credential: Credential, how?: { blind: boolean }): Promise<Credential | undefined>
  /** The provider took its access token. */
  works(credential: Credential): void
  /** The provider called even the renewed token expired: renewing is not the cure, so `renewed` leaves this version alone. */
  distrust(credential: Credential): void
  /** What another server told with `tell`. */
  heard(payload: string): void
  /** Renewed whether it is needed or not. Throws like `fresh`. */
  forced(holder: Holder, credential: Credential): Promise<Credential>
  /**
   * Renewed although nobody asked, because its provider would let it die of idleness. Undefined when it is not the time: somebody renewed
   * it since `tokenVersion`, or it waits after a failure.
   */
  keepAlive(id: string, integrationId: number, tokenVersion: number): Promise<RefreshOutcome | undefined>
  /** Asks in the background when a token just stored ends; the row says that somebody does (`asksLifetime`). */
  learn(holder: Holder, credential: Endless): void
  /**
   * Looks at every unsettled presentation: watches the new ones, settles the ripe ones. Then asks again for those a policy blocked, whose
   * wait is over. Every half minute.
   */
  sweep(): Promise<void>
  /** Another process changed this credential: whoever waits for it looks again. */
  changed(credentialId: string): void
  /**
   * Installs what the journal holds: on start, when the database is back, when another process asks for one credential. `retained` are
   * decided entries whose commit a failover may have lost. False when one of them waits for what another journal holds.
   */
  replay(credentialId?: string, retained?: Entry[]): Promise<boolean>
  /** No new attempt from here on; resolves when those under way have been written down. */
  drain(): Promise<void>
}

type Deps = Omit<RefreshDeps, 'draining'> & {
  /** A newer credential than a cache may hold. */
  onRenewed: (credential: Credential) => void
  /** How an attempt ended; `cause` is one of ours or the provider's error code. */
  onOutcome: (outcome: RefreshOutcome, credential: Credential) => void
  trace?: Trace | undefined
  /**
   * To every server: which tokens are distrusted or have not been seen to work. Each would find out by a renewal of its own, and that makes a
   * token which the others do not know: they would renew in turns for as long as the provider refuses.
   */
  tell?: (payload: string) => void
  /** Undefined when the integration or its provider is gone. */
  holderOf: (integrationId: number) => Promise<Holder | undefined>
}

interface Renewal {
  credential: Credential | undefined
  outcome: RefreshOutcome
}

/** How often a waiter looks by itself; a notification usually wakes it within a millisecond. */
const pollMs = 250

export function createCredentials(given: Deps): Credentials {
  let draining = false
  const deps = { ...given, draining: () => draining }
  const { store, clock, timing } = deps
  const oneAtATime = singleFlight<Renewal>()
  /** By credential, the version of its tokens. */
  const distrusted = createCache<number>({ max: 10_000, maxAgeMs: minutes(10) })
  const unproven = createCache<number>({ max: 10_000, maxAgeMs: minutes(10) })
  const underWay = new Set<Promise<unknown>>()
  const waiting = wakeable()

  /** `drain` waits for it; whoever else awaits it hears of its failure. */
  const track = <Result>(work: Promise<Result>): Promise<Result> => {
    const done = () => void underWay.delete(tracked)
    const tracked: Promise<void> = work.then(done, done)
    underWay.add(tracked)
    return work
  }
  const inBackground = (work: Promise<unknown>, what: string) =>
    void track(work).catch((error: Error) => deps.log.warn({ reason: error.message }, what))

  const alive = (credential: Credential) => isAlive(credential, clock)

  /** Callers of this process that saw the same token share one attempt; processes share it through the claim. */
  const renew = (holder: Holder, seen: Credential, reason: Reason): Promise<Renewal> => {
    if (draining) return Promise.resolve({ credential: seen, outcome: { kind: 'unavailable', cause: 'shutting_down' } })
    // Tracked even while a caller awaits it: the caller may hang up, and the answer must still be saved before we stop.
    return track(oneAtATime(`${seen.id} ${seen.tokenVersion} ${reason}`, () => traced(holder, seen, reason)))
  }

  const traced = (holder: Holder, seen: Credential, reason: Reason): Promise<Renewal> => {
    const work = () => attempt(holder, seen, reason)
    if (!deps.trace) return work()
    const about = {
      'fairlead.provider': holder.provider.name,
      'fairlead.credential': seen.id,
      'fairlead.reason': reason,
    }
    return deps.trace('refresh', about, work)
  }

  async function attempt(holder: Holder, seen: Credential, reason: Reason): Promise<Renewal> {
    const deadline = clock.now() + timing.sendWindow + timing.answer
    const outcome = await refreshOnce(deps, holder, seen, reason)
    deps.onOutcome(outcome, seen)
    for (;;) {
      const credential = await store.load(seen.id)
      const moved = credential !== undefined && credential.tokenVersion > seen.tokenVersion
      if (moved) {
        deps.onRenewed(credential)
        if (credential.expiresAt === null)
          inBackground(learnRenewed(deps, holder, credential), 'a lifetime could not be learned')
      }
      const somebodyElse = outcome.kind === 'not_claimed' && !moved && credential?.leaseHeld === true
      if (!somebodyElse || clock.now() >= deadline) return { credential, outcome }
      await Promise.race([clock.sleep(pollMs), waiting.until(seen.id)])
    }
  }

  const distrust = ({ id, tokenVersion }: Credential) => {
    distrusted.set(id, tokenVersion)
    deps.tell?.(`distrusted ${id} ${tokenVersion}`)
  }

  /** The newer credential, or the reason there is none. */
  const renewedOrThrow = async (holder: Holder, seen: Credential, reason: Reason): Promise<Credential> => {
    const { credential, outcome } = await renew(holder, seen, reason)
    if (credential && credential.tokenVersion > seen.tokenVersion) return credential
    if (!credential) throw new Failure('unknown_connection')
    if (outcome.kind === 'refused' || credential.health === 'needs_reauth') throw ended(credential.cause)
    if (!alive(credential)) await store.exhaust(credential, canAsk(holder))
    throw unavailable(credential.cause, credential.nextTryAt - clock.now())
  }

  const isDue = ({ freshUntil }: Credential): boolean => freshUntil !== undefined && clock.now() >= freshUntil
  const isFresh = (credential: Credential): boolean =>
    !credential.paused && credential.health !== 'needs_reauth' && !isDue(credential)

  const refuseUnusable = (credential: Credential) => {
    if (credential.paused) throw new Failure('connection_paused')
    const dead = credential.health === 'needs_reauth' && (credential.aliveUntil === undefined || !alive(credential))
    if (dead) throw ended(credential.cause)
  }

  /** Without a caller. Undefined when it is over, still waits, or is not what `wanted` says. */
  async function renewUnasked(id: string, integrationId: number, wanted: (credential: Credential) => boolean) {
    const [credential, holder] = await Promise.all([store.load(id), deps.holderOf(integrationId)])
    if (!credential || !holder || credential.health === 'needs_reauth' || clock.now() < credential.nextTryAt) return
    return wanted(credential) ? (await renew(holder, credential, 'asked')).outcome : undefined
  }

  /** One unsettled presentation whose quiet time is over: ask, and renew if that is how it stands. */
  const settle = (id: string, integrationId: number) => renewUnasked(id, integrationId, () => true)

  return {
    isFresh,

    async fresh(holder, credential) {
      if (isFresh(credential)) return credential
      refuseUnusable(credential)
      if (!isDue(credential) || !credential.fingerprint) return credential
      if (!alive(credential)) return renewedOrThrow(holder, credential, 'due')
      // Still alive: nobody waits for the renewal, and nobody fails when it fails.
      if (credential.health !== 'needs_reauth' && clock.now() >= credential.nextTryAt)
        inBackground(renew(holder, credential, 'due'), 'renewal in the background failed')
      return credential
    },

    async renewed(holder, credential, { blind } = { blind: false }) {
      if (!credential.fingerprint || credential.health === 'needs_reauth') return undefined
      const { id, tokenVersion } = credential
      if (distrusted.get(id) === tokenVersion) return undefined
      if (unproven.get(id) === tokenVersion) return void distrust(credential)
      if (blind) {
        // Named before it is here: the next call may meet it before anybody has heard that it came.
        unproven.set(id, tokenVersion + 1)
        deps.tell?.(`unproven ${id} ${tokenVersion + 1}`)
      }
      const { credential: newer } = await renew(holder, credential, 'access_token_dead')
      if (newer && newer.tokenVersion > credential.tokenVersion) return newer
      if (newer) await store.exhaust(newer, canAsk(holder))
      return undefined
    },

    works({ id }) {
      if (unproven.get(id) === undefined) return
      unproven.delete(id)
      deps.tell?.(`proven ${id}`)
    },

    distrust,

    heard(payload) {
      const [what, id = '', version] = payload.split(' ')
      if (what === 'distrusted') distrusted.set(id, Number(version))
      if (what === 'unproven') unproven.set(id, Number(version))
      if (what === 'proven') unproven.delete(id)
    },

    async forced(holder, credential) {
      if (credential.paused) throw new Failure('connection_paused')
      if (!credential.fingerprint) return credential
      if (credential.health === 'needs_reauth') throw ended(credential.cause)
      return renewedOrThrow(holder, credential, 'asked')
    },

    keepAlive: (id, integrationId, tokenVersion) =>
      track(renewUnasked(id, integrationId, credential => credential.tokenVersion === tokenVersion)),

    learn: (holder, credential) =>
      inBackground(learnLifetime(deps, holder, credential), 'a lifetime could not be learned'),

    async sweep() {
      const open = await store.openIntents()
      deps.watch.saw(open.map(intent => intent.intentClaim))
      const ripe = new Set(deps.watch.ripe())
      for (const { id, integrationId, intentClaim } of open)
        if (ripe.has(intentClaim) && !draining) await track(settle(id, integrationId))
      // In the background: a slow provider among them must not keep the next sweep from watching.
      for (const { id, integrationId } of draining ? [] : await store.blockedDue())
        inBackground(settle(id, integrationId), 'a blocked credential could not be asked for again')
    },

    changed: credentialId => waiting.wake(credentialId),

    async replay(credentialId, retained = []) {
      const wanted = (entry: Entry) => !credentialId || entry.credentialId === credentialId
      const inOrder = [...deps.journal.pending().filter(wanted), ...retained].sort(byVersion)
      const last = new Map(inOrder.map(entry => [entry.credentialId, entry]))
      const installed: Installed[] = []
      for (const entry of inOrder) {
        // Revoked, when its row is gone: of a chain that was decided before only the end.
        const ends = last.get(entry.credentialId) === entry || !retained.includes(entry)
        const holder = ends ? await deps.holderOf(entry.integrationId) : undefined
        installed.push(await track(installDecided(deps, holder, entry, entry)))
      }
      return !installed.includes('ahead')
    },

    async drain() {
      draining = true
      while (underWay.size > 0) await Promise.all(underWay)
    },
  }
}

/** A chain of answers, from whichever part of the journal. */
const byVersion = (a: Entry, b: Entry): number => a.tokenVersion - b.tokenVersion

const canAsk = ({ provider }: Holder): boolean =>
  provider.introspection_url !== undefined && provider.introspects !== false

const ended = (cause: string | null): Failure => new Failure('invalid_credentials', { payload: { cause } })

function unavailable(cause: string | null, waitMs: number): Failure {
  const retryAfter = Math.max(1, Math.ceil(waitMs / seconds(1)))
  return new Failure('refresh_unavailable', { payload: { cause }, headers: { 'Retry-After': String(retryAfter) } })
}

/** Promises by name that are kept until somebody calls the name. */
function wakeable() {
  const sleepers = new Map<string, PromiseWithResolvers<void>>()
  return {
    until(name: string): Promise<void> {
      const sleeper = sleepers.get(name) ?? Promise.withResolvers<void>()
      sleepers.set(name, sleeper)
      return sleeper.promise
    },
    wake(name: string): void {
      sleepers.get(name)?.resolve()
      sleepers.delete(name)
    },
  }
}
