/**
 * Webhooks out of this server. This room owns the tables `webhook_event`, `webhook_delivery`, `webhook_attempt` and `webhook_turn`, and
 * GET /webhooks/deliveries, GET /webhooks/deliveries/:id, POST /webhooks/deliveries/:id/replay, POST /webhooks/replay and
 * POST /webhooks/test. Nobody calls it to tell something: events are written by the database in the transaction of the change. What providers
 * send into this server comes by inbound/, and goes on by here.
 *
 * Every process works through the outbox. One process at a time serves a receiver, a few deliveries at once, so a receiver that is dead
 * or slow costs the others nothing: they are served beside it. That is also why a delivery is not a job of the queue: a job waiting for
 * a dead receiver would hold one of the queue's few places.
 */
import { addFirstSigningKey, signingKeys } from '../account/settings/store.ts'
import { EgressError, Failure } from '../errors.ts'
import { newId } from '../lib/id.ts'
import type { Log } from '../lib/log.ts'
import type { Secret } from '../lib/secret.ts'
import { minutes, retryAfterMs, seconds } from '../lib/time.ts'
import { redactUrl, withhold } from '../net/redact.ts'
import type { Clock, Db, Egress, Vault } from '../seams.ts'
import { bodyOf, type Providers } from './body.ts'
import { signatures } from './sign.ts'
import {
  type Attempt,
  type Due,
  dueDeliveries,
  endTurn,
  openEvent,
  type Receiver,
  recordAttempt,
  takeTurn,
  type Verdict,
  waitingReceivers,
} from './store.ts'

export interface DeliverDeps {
  db: Db
  vault: Vault
  egress: Pick<Egress, 'request'>
  clock: Clock
  catalogue: Providers
  log: Log
}

export interface Deliveries {
  /** Begins to serve whoever is waiting; resolves when nobody is left who could be served. Every few seconds, on every process. */
  sweep(): Promise<void>
  /** Something was just put in: do not wait for the next sweep. */
  kick(): void
  /** Begins nothing more. Does not wait for slow receivers: what they did not answer is sent again, with the same id. */
  drain(): Promise<void>
}

/** The wire contract's. */
const answerMs = seconds(20)
/** More is not read: the answer of a receiver is its status. */
const maxAnswerBytes = 256 * 1024
const keptAnswerBytes = 1024
/** Of one receiver, at once. */
const perReceiver = 4
/** Receivers this process serves at once: what it may hold of sockets. */
const receiversAtOnce = 100
/** After so long others get the place, when they are waiting. */
const turnMs = seconds(30)
const longestRetryAfter = minutes(24 * 60)
const drainMs = seconds(3)

export function createDeliveries(deps: DeliverDeps): Deliveries {
  const { db, clock, log } = deps
  const serving = new Map<string, Promise<void>>()
  let draining = false
  let again = false
  let running: Promise<void> | undefined

  async function serve(receiver: Receiver): Promise<void> {
    // A name for each turn: the end of one that was lost must not end another's.
    const holder = newId()
    const began = clock.now()
    while (!draining && clock.now() - began < turnMs && (await takeTurn(db, receiver, holder))) {
      const due = await dueDeliveries(db, receiver, perReceiver)
      if (due.length === 0) break
      const keys = await keysOf(receiver.environmentId)
      await Promise.all(due.map(one => deliver(deps, receiver, one, keys)))
    }
    await endTurn(db, receiver, holder)
    // Whatever was put in between the last look and the end of the turn found it taken.
    again = true
  }

  async function keysOf(environmentId: number): Promise<Secret[]> {
    const keys = await signingKeys(deps, environmentId)
    if (keys.length > 0) return keys
    // Connections with receivers of their own, in an environment without any: its owner makes a key to see by rotating this one.
    await addFirstSigningKey(deps, environmentId)
    return signingKeys(deps, environmentId)
  }

  async function work(): Promise<void> {
    while (!draining) {
      again = false
      const free = receiversAtOnce - serving.size
      // Those served by this process or another do not count as waiting.
      for (const receiver of free > 0 ? await waitingReceivers(db, free) : []) {
        const name = `${receiver.environmentId} ${receiver.name}`
        if (serving.has(name)) continue
        const turn = serve(receiver)
          .catch(error => log.warn({ reason: String(error) }, 'a receiver of webhooks waits for the next sweep'))
          .finally(() => serving.delete(name))
        serving.set(name, turn)
      }
      if (serving.size === 0 && !again) return
      // Whoever is done first makes room; a kick looks again at once.
      if (!again) await Promise.race([...serving.values(), kicked.promise])
      kicked = Promise.withResolvers<void>()
    }
  }
  let kicked = Promise.withResolvers<void>()

  const sweep = (): Promise<void> => {
    again = true
    kicked.resolve()
    running ??= work().finally(() => {
      running = undefined
    })
    return running
  }

  return {
    sweep,
    kick: () =>
      void sweep().catch((error: unknown) => log.warn({ reason: String(error) }, 'webhooks wait for the next sweep')),
    async drain() {
      draining = true
      kicked.resolve()
      const patience = new Promise(resolve => setTimeout(resolve, drainMs).unref())
      await Promise.race([Promise.all([running?.catch(() => {}), ...serving.values()]), patience])
    },
  }
}

async function deliver(deps: DeliverDeps, receiver: Receiver, due: Due, keys: Secret[]): Promise<void> {
  const { db, log } = deps
  const { attempt, verdict } = await tryOnce(deps, due, keys)
  await recordAttempt(db, due.id, attempt, verdict)
  const about = { delivery: due.id, event: due.event.name, environment: receiver.environmentId, status: attempt.status }
  if (verdict.kind === 'delivered') log.debug(about, 'a webhook was delivered')
  else log.info({ ...about, verdict: verdict.kind, reason: attempt.error }, 'a webhook was not delivered')
}

/** One attempt and what follows from it. Nothing of it is thrown: whatever goes wrong with a receiver is a result. */
async function tryOnce(
  deps: DeliverDeps,
  { event: stored, url }: Due,
  keys: Secret[],
): Promise<{ attempt: Attempt; verdict: Verdict }> {
  const began = deps.clock.now()
  const result = (verdict: Verdict, rest: Partial<Attempt>) => ({
    attempt: {
      url: url && redactUrl(url),
      status: null,
      ms: deps.clock.now() - began,
      error: null,
      answer: null,
      ...rest,
    },
    verdict,
  })
  const target = url === null ? null : URL.parse(url)
  if (!target) return result({ kind: 'failed' }, { error: 'The environment has taken this webhook URL away.' })
  const event = await openEvent(deps.vault, stored).catch((error: unknown) => {
    if (error instanceof Failure) return error
    throw error
  })
  // It stays unreadable, and must not keep what is behind it.
  if (event instanceof Failure) return result({ kind: 'failed' }, { error: event.message })
  const body = bodyOf(event, deps.catalogue)
  const clean = (text: string) =>
    withhold(
      text,
      keys.map(key => key.reveal()),
    )
  try {
    const answer = await deps.egress.request({
      method: 'POST',
      url: target,
      headers: {
        'content-type': 'application/json',
        ...signatures({ id: event.id, body }, keys, Math.floor(deps.clock.wall() / 1000)),
        'fairlead-event': event.name,
        'fairlead-sequence': String(event.sequence),
      },
      body,
      deadlineMs: answerMs,
      maxBytes: maxAnswerBytes,
    })
    const { status } = answer
    if (status >= 200 && status < 300) return result({ kind: 'delivered' }, { status })
    return result(judge(status, answer.headers['retry-after'], deps.clock.wall()), {
      status,
      error: status >= 300 && status < 400 ? 'Redirects are not followed.' : null,
      answer: storable(clean(answer.body.toString('utf8')), keptAnswerBytes),
    })
  } catch (error) {
    if (!(error instanceof EgressError)) throw error
    return result({ kind: 'again', waitMs: 0 }, { error: storable(clean(error.message), 500) })
  }
}

/** 410 says that nobody will ever take it. Everything else may pass, a wrong path as well: somebody corrects it. */
const judge = (status: number, retryAfter: string | undefined, wallNow: number): Verdict =>
  status === 410
    ? { kind: 'failed' }
    : { kind: 'again', waitMs: Math.min(retryAfterMs(retryAfter, wallNow) ?? 0, longestRetryAfter) }

/** Cut after it was cleaned: half of a secret has no shape. Without what PostgreSQL cannot store, or this attempt could not be written down. */
const storable = (text: string, bytes: number): string | null =>
  Buffer.from(text.replace(/[^\P{Cc}\n\t]|\p{Cs}/gu, '\u{fffd}'))
    .subarray(0, bytes)
    .toString('utf8')
    .replace(/\u{fffd}+$/u, '') || null
