/**
 * What happened: one record per call through the proxy, for people who ask what their integration did last night. This room owns the
 * tables `activity`, `activity_body` and `activity_dropped`, and GET /activity, GET /activity/:id and GET /activity/:id/bodies.
 *
 * The proxy fills in a `Call` while it is under way and hands it over when the response has ended. `record` puts it aside; when the event
 * loop has come round, all that ended meanwhile is counted and written into the columns of a batch, and a few times a second a batch is one
 * INSERT of up to 1,000 rows. No call ever waits for it: what a slow or absent database leaves no room for is dropped, counted, and the count
 * is written down.
 */
import type { CallOutcome } from '@fairlead/contract'
import { Failure } from '../errors.ts'
import type { Log } from '../lib/log.ts'
import { seconds } from '../lib/time.ts'
import { redactText } from '../net/redact.ts'
import type { Clock, Db, Vault } from '../seams.ts'
import { type Bodies, newBodies, shownBodies } from './bodies.ts'
import { addActivity, Batch, type NewActivity, type NewBodies, sealBodies } from './store.ts'
import { pathTemplate } from './template.ts'

/** One call, filled in by whoever carries it. Instants are on the monotonic clock. */
export interface Call {
  /** What its answer carries, for whoever asks about it. */
  requestId: string
  environmentId: number
  /** Null: an operator. */
  apiKeyId: number | null
  integration: string
  connection: string
  method: string
  /** As it was sent, query included; only its template is kept. */
  path: string
  /** With the port where it is not the scheme's own; undefined until it is known. */
  host: string | undefined
  /** Undefined: nothing was answered. */
  status: number | undefined
  outcome: CallOutcome
  /** Our code; undefined when we refused nothing. */
  error: string | undefined
  /** Of bodies, as they stood on the wire. */
  bytesUp: number
  bytesDown: number
  arrivedAt: number
  /** The request was handed to the provider, the last time it was; undefined: never. */
  sentAt: number | undefined
  /** The head of the provider's answer came, the last one. */
  answeredAt: number | undefined
  endedAt: number
  retries: number
  /** Its credential was renewed on the way. */
  refreshed: boolean
  /** The provider's answer holds the access token it was asked with. */
  repeatsToken: boolean
  bodies: Bodies | undefined
}

export interface Activity {
  /** Whoever hands it over changes it no more. Costs a push. */
  record(call: Call): void
  /** Where both bodies of a call are kept; undefined when enough were in this second. */
  keepBodies(): Bodies | undefined
  /** Writes what is waiting, for a few seconds at most. */
  drain(): Promise<void>
}

interface Deps {
  db: Db
  vault: Vault
  clock: Pick<Clock, 'now'>
  log: Log
  /** For the metrics: also what there is no room to record. */
  onCall(call: Call): void
  /** How many calls were not recorded, just now. */
  onDropped(calls: number): void
}

/** A row holds some 300 bytes: 3 MB. */
const mostWaiting = 10_000
/** Each statement costs its transaction: of 500, a proxied call takes 5 % more CPU. */
const mostAtOnce = 1_000
/** Somebody may be watching: what is written now is seen within a second (the dashboard's live tail asks twice a second). */
const flushEvery = 400
/** Redacting and sealing two bodies takes a millisecond or two, of which nobody's call may take many. */
const bodiesPerFlush = 8
const drainWithin = seconds(5)

export function createActivity({ db, vault, clock, log, onCall, onDropped }: Deps): Activity {
  let filling = new Batch()
  const full: Batch[] = []
  const spare: Batch[] = []
  /** Rows of all batches: they keep their place until they are written, so that the bound holds for them as well. */
  let waiting = 0
  let bodiesLeft = bodiesPerFlush
  let flushing: Promise<void> | undefined
  /** Calls that were dropped and are not yet written down, by environment. */
  const dropped = new Map<number, number>()

  const drop = (environmentIds: number[]): void => {
    onDropped(environmentIds.length)
    for (const id of environmentIds) dropped.set(id, (dropped.get(id) ?? 0) + 1)
  }

  async function write(batch: Batch): Promise<void> {
    const lost = [...dropped]
    await addActivity(db, batch, await sealBodies(vault, batch.bodies), lost, clock.now())
    for (const [environmentId, count] of lost) {
      const left = (dropped.get(environmentId) ?? 0) - count
      if (left > 0) dropped.set(environmentId, left)
      else dropped.delete(environmentId)
    }
    if (lost.length > 0) log.warn({ calls: lost.reduce((sum, [, n]) => sum + n, 0) }, 'calls were not recorded')
  }

  const close = (): void => {
    full.push(filling)
    filling = spare.pop() ?? new Batch()
  }

  /** What waits, and as long as whole batches come meanwhile those too: going on to the last one would be a statement for every few calls. */
  async function writeAll(): Promise<void> {
    if (full.length === 0 && (filling.rows > 0 || dropped.size > 0)) close()
    for (let batch = full[0]; batch; batch = full[0]) {
      let failure: unknown
      try {
        await write(batch)
      } catch (error) {
        // The next turn tries again; what comes meanwhile finds room or does not.
        if (error instanceof Failure && error.code === 'database_unavailable') throw error
        failure = error
      }
      full.shift()
      waiting -= batch.rows
      // What one batch fails with, it would fail with for good, and everything after it would be dropped.
      if (failure !== undefined) {
        log.error({ reason: String(failure) }, 'activity could not be recorded')
        drop(batch.environments)
      }
      batch.clear()
      spare.push(batch)
      if (failure !== undefined) return
    }
  }

  function flush(): Promise<void> {
    flushing ??= writeAll().finally(() => {
      flushing = undefined
    })
    return flushing
  }

  /** Calls that have ended and are not yet in a batch. */
  let over: Call[] = []

  /** Together, when the loop has come round: one after the other they find the processor's caches warm, and no caller behind them waits. */
  function note(): void {
    const calls = over
    over = []
    for (const call of calls) {
      onCall(call)
      if (waiting >= mostWaiting) {
        drop([call.environmentId])
        continue
      }
      waiting++
      filling.add(rowOf(call, filling.bodies), call.endedAt)
      if (filling.rows < mostAtOnce) continue
      close()
      // Only when one is full: while the database is away the timer alone tries, not every call.
      if (!flushing) quietly()
    }
  }

  const quietly = (): void => {
    flush().catch(error => log.debug({ reason: String(error) }, 'activity waits for the database'))
  }

  const timer = setInterval(() => {
    bodiesLeft = bodiesPerFlush
    quietly()
  }, flushEvery)
  timer.unref()

  return {
    record(call) {
      if (over.push(call) === 1) setImmediate(note)
    },

    keepBodies() {
      if (bodiesLeft === 0) return undefined
      bodiesLeft--
      return newBodies()
    },

    async drain() {
      clearInterval(timer)
      const late = Promise.withResolvers<void>()
      const giveUp = setTimeout(late.resolve, drainWithin)
      const all = (async () => {
        note()
        await flushing
        do await flush()
        while (waiting > 0)
      })()
      await Promise.race([all.catch(() => {}), late.promise])
      clearTimeout(giveUp)
      if (waiting > 0) log.warn({ calls: waiting }, 'the last calls were not recorded')
    },
  }
}

function rowOf(call: Call, bodies: NewBodies[]): NewActivity {
  const since = (at: number | undefined) => (at === undefined ? null : rounded(at - call.arrivedAt))
  const shown = call.bodies && shownBodies(call.bodies)
  const id = shown ? crypto.randomUUID() : null
  if (shown && id) bodies.push({ id, environmentId: call.environmentId, bodies: shown })
  return {
    request_id: call.requestId,
    environment_id: call.environmentId,
    api_key_id: call.apiKeyId,
    provider_config_key: nameIn(call, call.integration),
    connection_id: nameIn(call, call.connection),
    method: call.method,
    host: call.host ?? null,
    path: pathTemplate(call.path),
    status: call.status ?? null,
    outcome: call.outcome,
    error: call.error ?? null,
    bytes_up: call.bytesUp,
    bytes_down: call.bytesDown,
    sent_ms: since(call.sentAt),
    first_byte_ms: since(call.answeredAt),
    total_ms: rounded(call.endedAt - call.arrivedAt),
    retries: call.retries,
    refreshed: call.refreshed,
    repeats_token: call.repeatsToken,
    bodies: id,
  }
}

const rounded = (ms: number): number => Math.round(ms * 1000) / 1000

/** What was never sent anywhere may name what does not exist, and a header may hold anything. */
const nameIn = (call: Call, name: string): string => (call.host === undefined ? redactText(name).slice(0, 255) : name)
