/**
 * Jobs: work that outlives the request that asked for it. A thin face over graphile-worker on the same PostgreSQL, which knows no job's
 * meaning; rooms bring their tasks, app.ts lists them. No URLs. `store.ts` adds a job, inside the caller's transaction where it wants;
 * this file runs them, on every server. A job runs at least once: whoever writes a task expects it twice.
 *
 * What graphile-worker does not do by itself, and is done here: a killed server's jobs come back after a minute instead of four hours, and
 * a queue that gave up (it does, when the database is away at the moment a job ends) is started again.
 */
import { EventEmitter } from 'node:events'
import type { LogFunctionFactory, Runner, WorkerEvents } from 'graphile-worker'
import type { DirectPool } from '../db/open.ts'
import type { Log } from '../lib/log.ts'
import { seconds } from '../lib/time.ts'
import type { Clock, Db } from '../seams.ts'
import { beat, forgetFailedJobs, freeJobsOfTheDead, leave, schemaRevision } from './store.ts'

/** Throws to be tried again later. `signal`: this server is stopping, or was when the job began; end soon, or it is run again elsewhere. */
export type Task = (
  payload: unknown,
  run: { attempt: number; maxAttempts: number; signal: AbortSignal },
) => Promise<void>

/** Run once per moment in the whole cluster and never twice at a time: moments that pass during a run become one more run. Not repeated when it fails. */
export interface Cron {
  /** Its payload says nothing of use. */
  task: string
  /** Five fields, UTC. */
  pattern: string
}

export interface Jobs {
  /** Takes no more; resolves when those in hand have ended, or after the grace. */
  stop(): Promise<void>
}

export interface JobTiming {
  /** A job that is due later, or again, is found by looking; one that is due now is heard of at once. */
  poll: number
  /** How often a worker says that it lives. */
  beat: number
  /** Silent for this long, it is dead. */
  dead: number
  /** How long `stop` waits for jobs in hand. */
  grace: number
  /** How long a queue that gave up may take to end its jobs in hand; then another one is started beside it. */
  giveUp: number
}

export const defaultJobTiming: JobTiming = {
  poll: seconds(5),
  beat: seconds(10),
  dead: seconds(60),
  grace: seconds(28),
  giveUp: seconds(30),
}

/** At a time, on one server; each takes a connection of the database now and then, and three servers must fit into PostgreSQL's hundred. */
export const jobsAtOnce = 5

interface Deps {
  db: Db
  /** For the queue's own statements and its LISTEN: one connection all the time, others while jobs begin and end. */
  pool: DirectPool
  clock: Clock
  log: Log
}

/** What the pinned graphile-worker would migrate to; a test holds the two together. */
export const currentRevision = 20

/** For a first start, which has time now and needs it before it listens. */
export async function readQueue(): Promise<void> {
  await import('graphile-worker')
}

/**
 * Under the lock of our own migrations, before anybody adds a job. Mostly there is nothing to do, and then graphile-worker is not imported
 * before the server listens: that takes 65 ms of an idle machine's time, 200 ms of a busy one's.
 */
export async function migrateJobs({ db, pool, log }: Pick<Deps, 'db' | 'pool' | 'log'>): Promise<void> {
  if ((await schemaRevision(db)) === currentRevision) return
  const { Logger, runMigrations } = await import('graphile-worker')
  await runMigrations({ pgPool: pool, logger: new Logger(logTo(log)) })
}

/** Resolves once this server takes jobs. */
export async function startJobs(
  deps: Deps,
  { tasks, cron = [] }: { tasks: Record<string, Task>; cron?: Cron[] },
  timing: JobTiming = defaultJobTiming,
): Promise<Jobs> {
  const { db, log } = deps
  const stopping = new AbortController()
  const stopped = new Promise(resolve => stopping.signal.addEventListener('abort', resolve))
  const begin = await prepare(
    deps,
    { ...tasks, forget_failed_jobs: async () => void (await forgetFailedJobs(db)) },
    [...cron, { task: 'forget_failed_jobs', pattern: '17 * * * *' }],
    timing,
    stopping.signal,
  )

  /** The worker that lives now; another one after the queue gave up. */
  let current = await begin()
  const running = (async () => {
    for (let failures = 0; !stopping.signal.aborted; ) {
      await current.ended.catch((error: unknown) => log.error({ reason: String(error) }, 'the job queue gave up'))
      await Promise.race([after(Math.min(seconds(30), seconds(1) * 2 ** failures++)), stopped])
      if (stopping.signal.aborted) return
      try {
        current = await begin()
        failures = 0
        if (stopping.signal.aborted) await current.stop()
      } catch (error) {
        log.warn({ reason: String(error) }, 'the job queue cannot start yet')
      }
    }
  })()

  const pulse = keepPulse(deps, timing, () => current.id)
  return {
    async stop() {
      stopping.abort()
      pulse.stop()
      const ended = await Promise.race([
        Promise.all([current.stop(), running]).then(() => true),
        after(timing.grace).then(() => false),
      ])
      if (!ended) log.warn({}, 'jobs in hand did not end in time; they will be run again')
      await pulse.stopped
      await leave(db, current.id).catch(() => {})
    },
  }
}

/** Does not keep a process alive that has nothing else to do. */
const after = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms).unref())

interface Worker {
  /** What its jobs are locked by. */
  id: string
  /** Rejects when it gave up. */
  ended: Promise<void>
  stop(): Promise<void>
}

async function prepare(
  { pool, log }: Deps,
  tasks: Record<string, Task>,
  cron: Cron[],
  timing: JobTiming,
  signal: AbortSignal,
): Promise<() => Promise<Worker>> {
  const { Logger, parseCronItems, run } = await import('graphile-worker')
  const taskList = Object.fromEntries(
    Object.entries(tasks).map(([name, task]) => [name, reporting(log, name, task, signal)]),
  )
  const parsedCronItems = parseCronItems(
    cron.map(({ task, pattern }) => ({
      task,
      match: pattern,
      options: { backfillPeriod: 0, maxAttempts: 1, jobKey: `cron ${task}`, queueName: `cron ${task}` },
    })),
  )

  return async () => {
    const events = new EventEmitter() as WorkerEvents
    const created = Promise.withResolvers<string>()
    events.on('pool:create', ({ workerPool }) => created.resolve(workerPool.id))
    const runner = await run({
      pgPool: pool,
      taskList,
      parsedCronItems,
      concurrency: jobsAtOnce,
      pollInterval: timing.poll,
      // Behind a pooler in transaction mode a named statement breaks; without LISTEN, jobs are still found by looking.
      noPreparedStatements: true,
      noHandleSignals: true,
      logger: new Logger(logTo(log)),
      events,
      // Unless it is batched, a job's end that cannot be written is a rejection nobody handles, which ends the process.
      preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
    })
    restartUnlessItFindsJobs(runner, events)
    // Its own end may never come: it waits for every job in hand, and, when the ends of two could not be written at once, for ever.
    const leftBehind = new Promise<void>((_, reject) =>
      events.once('pool:gracefulShutdown', async () => {
        if (signal.aborted) return
        await after(timing.giveUp)
        reject(new Error('it did not end by itself'))
        // Ends its cron, which would run on beside the next one's.
        await runner.stop().catch(() => {})
      }),
    )
    leftBehind.catch(() => {})
    return {
      id: await created.promise,
      ended: Promise.race([runner.promise, leftBehind]),
      stop: () => runner.stop().catch(() => {}),
    }
  }
}

/** It asks for its tasks' numbers once and keeps the answer, even when that is a failure: such a worker never finds a job. */
function restartUnlessItFindsJobs(runner: Runner, events: WorkerEvents): void {
  let looked = false
  const hasLooked = () => {
    looked = true
  }
  events.once('worker:getJob:empty', hasLooked)
  events.once('job:start', hasLooked)
  events.on('worker:getJob:error', () => {
    if (!looked) void runner.stop('could not look for jobs').catch(() => {})
  })
}

/** A task as graphile-worker calls it. What failed is said here, with fields; its own sentence about it holds the whole stack. */
function reporting(log: Log, name: string, task: Task, signal: AbortSignal) {
  return async (payload: unknown, { job }: { job: { id: string; attempts: number; max_attempts: number } }) => {
    const attempt = job.attempts
    const maxAttempts = job.max_attempts
    try {
      await task(payload, { attempt, maxAttempts, signal })
    } catch (error) {
      const last = attempt >= maxAttempts
      const about = { task: name, job: job.id, attempt, maxAttempts, reason: String(error) }
      if (last) log.error(about, 'a job failed for good')
      else log.warn(about, 'a job failed and is tried again')
      throw error
    }
  }
}

/** Its sentences, without the fields it offers beside them: those hold payloads. */
const logTo =
  (log: Log): LogFunctionFactory =>
  () =>
  (level, message, meta) => {
    const said = { queue: message }
    if (meta?.failure === true || level === 'info' || level === 'debug') log.debug(said, 'the job queue says')
    else if (level === 'warning') log.warn(said, 'the job queue says')
    else log.error(said, 'the job queue says')
  }

/**
 * Says that this worker lives, and frees the jobs of those that no longer do. When the database was away, everybody was silent: so a worker
 * judges only after it has itself been heard without a gap for as long as it takes to be called dead.
 */
function keepPulse({ db, clock, log }: Deps, timing: JobTiming, id: () => string) {
  let heardSince = clock.now()
  let lastHeard = clock.now()
  let judged = clock.now()
  let stopped = Promise.resolve()
  let busy = false

  async function pulse(): Promise<void> {
    await beat(db, id())
    const now = clock.now()
    if (now - lastHeard > timing.dead / 2) heardSince = now
    lastHeard = now
    if (now - heardSince < timing.dead || now - judged < timing.dead / 2) return
    judged = now
    for (const worker of await freeJobsOfTheDead(db, timing.dead))
      log.warn({ worker }, 'the jobs of a server that is gone were freed')
  }

  const tick = () => {
    if (busy) return
    busy = true
    stopped = pulse()
      .catch(error => log.warn({ reason: String(error) }, 'the job queue has no pulse'))
      .finally(() => {
        busy = false
      })
  }
  // The first one at once: whoever asks which servers work on this database must hear of one that has just begun.
  tick()
  const timer = setInterval(tick, timing.beat)
  timer.unref()
  return {
    stop: () => clearInterval(timer),
    get stopped() {
      return stopped
    },
  }
}
