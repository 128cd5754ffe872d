/**
 * Keeps grants alive that nobody uses: a provider with an idle limit ends them otherwise. Every grant has a turn (`keep_alive_at`), moved by
 * each installation of tokens to half the limit later, at a minute of its own; the turns are spread so evenly that a million connections
 * imported at once are a steady trickle. Once a minute one process of the cluster takes what is due and renews it the way a caller would,
 * with the same claim, intent and journal. A kind of credential that is to be renewed ahead of time gets turns of its own.
 *
 * Callers come first: their renewals do not pass through here, and what does is capped, at each host of a token endpoint, for each
 * integration and in all. Only what can be worked on now is taken. A host that does not answer, or an integration whose client is
 * wrong, is left alone for longer and longer; what is put off comes back by itself after an hour or two, days before its limit.
 */
import { Failure } from '../errors.ts'
import type { Log } from '../lib/log.ts'
import { minutes, seconds } from '../lib/time.ts'
import type { Provider } from '../provider/schema.ts'
import type { Clock, Db } from '../seams.ts'
import type { Credentials } from './fresh.ts'
import { type DueGrant, giveTurns, takeDue } from './keep-alive/store.ts'
import { endpointOf, idleLimitOf, notTheToken, type RefreshOutcome } from './refresh.ts'

export interface KeepAlive {
  /** Renews what is due, for less than a minute. After `signal` nothing is begun; resolves when what is under way has ended. */
  run(signal: AbortSignal): Promise<void>
}

export interface Watched {
  integrationId: number
  provider: Provider
}

interface Deps {
  db: Db
  clock: Clock
  log: Log
  credentials: Pick<Credentials, 'keepAlive'>
  /** Integrations whose providers end idle grants. */
  watched: () => Promise<Watched[]>
}

export interface Pace {
  /** Renewals at a time: in all, for one integration, and at one host unless provider data says otherwise. */
  atOnce: number
  perIntegration: number
  perHost: number
  /** A run begins nothing after this. */
  run: number
  /** A grant that was taken is nobody else's for this long, or up to twice as long. */
  hold: number
}

export const defaultPace: Pace = { atOnce: 24, perIntegration: 8, perHost: 4, run: seconds(45), hold: minutes(60) }

/** Grants of an integration taken at a time; doubles while all of them have to be put off, so that a dead host's backlog is passed quickly. */
const fewest = 8
const most = 512
/** Grants waiting in memory, of all integrations; one statement may go beyond it once. */
const inHand = 128
/** Grants given a turn by one statement. */
const turnsAtOnce = 5_000

export function createKeepAlive(deps: Deps, pace: Pace = defaultPace): KeepAlive {
  const { db, clock, log } = deps
  /** What was learned about hosts and integrations outlives a run: the next one goes on being careful. */
  const hosts = createLanes(clock, { patience: 3, shortest: minutes(1), longest: minutes(30) })
  const integrations = createLanes(clock, { patience: 8, shortest: minutes(1), longest: minutes(60) })

  async function run(signal: AbortSignal): Promise<void> {
    const began = clock.now()
    const over = () => signal.aborted || clock.now() - began >= pace.run
    const watched = await deps.watched()
    // A third of the time at most: a great import must not keep what is due from being renewed.
    await giveAllTurns(watched, () => signal.aborted || clock.now() - began >= pace.run / 3)

    /** Integrations that may have something due, and what was taken of theirs and waits for room. */
    const queues = new Map(watched.map(one => [one.integrationId, { ...one, size: fewest, waiting: [] as DueGrant[] }]))
    const underWay = new Set<Promise<void>>()
    const counts = { renewed: 0, refused: 0, failed: 0, putOff: 0 }
    let broken: Failure | undefined

    const take = async () => {
      let held = [...queues.values()].reduce((sum, queue) => sum + queue.waiting.length, 0)
      const hungry = []
      for (const queue of queues.values()) {
        if (held >= inHand) break
        if (queue.waiting.length > 0 || integrations.room(queue.integrationId, pace.perIntegration) < 1) continue
        hungry.push(queue)
        held += queue.size
      }
      for (const queue of hungry) {
        // To the end of the line, so that a few with a backlog do not keep the others from their turn.
        queues.delete(queue.integrationId)
        queues.set(queue.integrationId, queue)
      }
      for (const [size, group] of Map.groupBy(hungry, queue => queue.size)) {
        const ids = group.map(queue => queue.integrationId)
        for (const grant of await takeDue(db, ids, size, pace.hold))
          queues.get(grant.integrationId)!.waiting.push(grant)
        // Nothing due: not asked again in this run.
        for (const { integrationId, waiting } of group) if (waiting.length === 0) queues.delete(integrationId)
      }
    }

    const begin = (grant: DueGrant, host: string) => {
      const leaveHost = hosts.enter(host)
      const leaveIntegration = integrations.enter(grant.integrationId)
      const work = deps.credentials
        .keepAlive(grant.id, grant.integrationId, grant.tokenVersion)
        .then(outcome => {
          const said = judge(outcome)
          leaveHost(said.host)
          leaveIntegration(said.integration)
          if (outcome?.kind === 'renewed') counts.renewed++
          else if (outcome?.kind === 'refused') counts.refused++
          else if (outcome?.kind === 'unavailable') counts.failed++
        })
        .catch((error: unknown) => {
          leaveHost('says nothing')
          leaveIntegration('says nothing')
          if (error instanceof Failure && error.code === 'database_unavailable') broken = error
          // One that cannot be opened, say, is no reason to let the others die.
          else {
            counts.failed++
            log.warn({ credential: grant.id, reason: String(error) }, 'an idle connection could not be renewed')
          }
        })
        .finally(() => underWay.delete(work))
      underWay.add(work)
    }

    /** Begins whatever has room. A grant whose host is full waits and lets those behind it pass; one whose host is left alone is put off. */
    const beginAll = () => {
      for (const queue of queues.values()) {
        let putOff = 0
        const before = queue.waiting.length
        queue.waiting = queue.waiting.filter(grant => {
          const host = hostOf(queue.provider, grant)
          if (hosts.rests(host) || integrations.rests(queue.integrationId)) {
            putOff++
            return false
          }
          const room =
            underWay.size < pace.atOnce &&
            integrations.room(queue.integrationId, pace.perIntegration) > 0 &&
            hosts.room(host, queue.provider.keep_alive_at_once ?? pace.perHost) > 0
          if (room) begin(grant, host)
          return !room
        })
        counts.putOff += putOff
        if (before > 0) queue.size = putOff === before ? Math.min(most, queue.size * 2) : fewest
      }
    }

    while (!over() && !broken) {
      if (underWay.size < pace.atOnce) await take()
      beginAll()
      const waiting = [...queues.values()].some(queue => queue.waiting.length > 0)
      const more = [...queues.keys()].some(id => !integrations.rests(id))
      if (underWay.size > 0) await Promise.race(underWay)
      else if (!waiting && !more) break
    }
    await Promise.all(underWay)
    if (Object.values(counts).some(count => count > 0))
      log.info({ ...counts, ms: Math.round(clock.now() - began) }, 'idle connections were renewed')
    if (broken) throw broken
  }

  async function giveAllTurns(watched: Watched[], over: () => boolean): Promise<void> {
    const ids = watched.map(one => one.integrationId)
    const limits = watched.map(one => idleLimitOf(one.provider)!)
    while (!over() && (await giveTurns(db, ids, limits, turnsAtOnce)) > 0);
  }

  return { run }
}

/** Where the renewal would go. Those that can go nowhere are counted by their integration. */
function hostOf(provider: Provider, grant: DueGrant): string {
  const url = endpointOf({ provider }, grant)
  return typeof url === 'string' ? `integration ${grant.integrationId}` : url.origin
}

type Verdict = 'well' | 'in trouble' | 'wrong' | 'says nothing'

/** What an outcome says about the host, and about the integration. */
function judge(outcome: RefreshOutcome | undefined): { host: Verdict; integration: Verdict } {
  if (!outcome || outcome.kind === 'not_claimed') return { host: 'says nothing', integration: 'says nothing' }
  if (outcome.kind !== 'unavailable') return { host: 'well', integration: 'well' }
  if (notTheToken.test(outcome.cause)) return { host: 'well', integration: 'wrong' }
  // Ours, or this connection's alone.
  if (/^(database_unavailable|shutting_down|refresh_withheld|no_refresh_token|policy)$/.test(outcome.cause))
    return { host: 'says nothing', integration: 'says nothing' }
  return { host: 'in trouble', integration: 'in trouble' }
}

interface Lane {
  running: number
  /** In a row. */
  failures: number
  restsUntil: number
}

/**
 * Lanes by name, each with what runs in it and how it has been going. After `patience` failures in a row, or one that says it is wrong, a
 * lane rests, twice as long each time; then one goes ahead, and only its success opens the lane again.
 */
function createLanes<Name>(clock: Clock, wait: { patience: number; shortest: number; longest: number }) {
  const lanes = new Map<Name, Lane>()
  const rests = (lane: Lane | undefined) => lane !== undefined && clock.now() < lane.restsUntil
  return {
    rests: (name: Name): boolean => rests(lanes.get(name)),
    room(name: Name, cap: number): number {
      const lane = lanes.get(name)
      if (!lane) return cap
      if (rests(lane)) return 0
      return (lane.failures >= wait.patience ? 1 : cap) - lane.running
    },
    /** Returns what is to be called at its end. */
    enter(name: Name): (verdict: Verdict) => void {
      const lane = lanes.get(name) ?? { running: 0, failures: 0, restsUntil: 0 }
      lanes.set(name, lane)
      lane.running++
      return verdict => {
        lane.running--
        if (verdict === 'well') lane.failures = 0
        // Several that were under way when it broke down are one failure, not many.
        if ((verdict === 'wrong' || verdict === 'in trouble') && !rests(lane)) {
          lane.failures = Math.max(lane.failures + 1, verdict === 'wrong' ? wait.patience : 0)
          if (lane.failures >= wait.patience)
            lane.restsUntil = clock.now() + Math.min(wait.longest, wait.shortest * 2 ** (lane.failures - wait.patience))
        }
        if (lane.running === 0 && lane.failures === 0) lanes.delete(name)
      }
    },
  }
}
