/** Statements of the queue. What graphile-worker offers in SQL is called as documented; its tables are read through its views. */
import { sql } from '../db/sql.ts'
import type { Db } from '../seams.ts'

export interface JobOptions {
  /** A job that has not started is replaced by a newer one with the same key. */
  key?: string
  /** Not before this. */
  runAt?: Date
  /** Jobs of one queue run one after the other, cluster-wide. */
  queue?: string
  /** 25 unless said: with the back-off of e^attempt seconds, up to six hours, that is about four days. */
  maxAttempts?: number
  /** Smaller is sooner; 0 unless said. */
  priority?: number
}

/** Within the caller's transaction: a job exists when, and only when, what it is about was committed. Runs at least once. */
export async function addJob(db: Db, name: string, payload: object, options: JobOptions = {}): Promise<void> {
  const { key, runAt, queue, maxAttempts, priority } = options
  await db.query(sql`
    select from graphile_worker.add_job(
      identifier => ${name}::text, payload => ${JSON.stringify(payload)}::json, queue_name => ${queue ?? null}::text,
      run_at => ${runAt ?? null}::timestamptz, max_attempts => ${maxAttempts ?? null}::int, job_key => ${key ?? null}::text,
      priority => ${priority ?? null}::int)`)
}

/** Which of graphile-worker's migrations the database has; undefined when it has none of its schema. */
export async function schemaRevision(db: Db): Promise<number | undefined> {
  const [schema] = await db.query<{ there: boolean }>(
    sql`select to_regclass('graphile_worker.migrations') is not null as there`,
  )
  if (!schema!.there) return undefined
  const [row] = await db.query<{ revision: number }>(sql`select max(id) as revision from graphile_worker.migrations`)
  return row!.revision
}

/** For how many seconds the job that has been due longest has been so. */
export async function readLag(db: Db): Promise<number> {
  const [row] = await db.query<{ lag: number | null }>(sql`
    select extract(epoch from clock_timestamp() - min(run_at))::float8 as lag from graphile_worker.jobs
    where locked_at is null and attempts < max_attempts`)
  return Math.max(0, row!.lag ?? 0)
}

/** This worker lives. */
export const beat = (db: Db, worker: string): Promise<object[]> =>
  db.query(sql`
    insert into job_worker (id, seen_at) values (${worker}, clock_timestamp())
    on conflict (id) do update set seen_at = excluded.seen_at`)

/** This worker has stopped: what it still holds may be given to others. */
export const leave = (db: Db, worker: string): Promise<object[]> =>
  db.query(sql`delete from job_worker where id = ${worker}`)

/**
 * Frees the jobs of workers that have said nothing for `deadMs`: a killed server's. By itself graphile-worker waits four hours. Returns the
 * dead workers' ids.
 */
export async function freeJobsOfTheDead(db: Db, deadMs: number): Promise<string[]> {
  const rows = await db.query<{ id: string }>(sql`
    with dead as (
      select distinct locked_by as id from graphile_worker.jobs
      where locked_at < clock_timestamp() - ${deadMs}::float8 * interval '1 millisecond'
        and not exists (
          select from job_worker
          where id = locked_by and seen_at > clock_timestamp() - ${deadMs}::float8 * interval '1 millisecond')
    )
    select id, graphile_worker.force_unlock_workers(array[id]) from dead`)
  await db.query(sql`
    delete from job_worker where seen_at < clock_timestamp() - ${deadMs}::float8 * interval '1 millisecond'`)
  return rows.map(row => row.id)
}

/** A job that failed for good is looked at by people for a week. */
export const forgetFailedJobs = (db: Db): Promise<object[]> =>
  db.query(sql`
    select from graphile_worker.complete_jobs(array(
      select id from graphile_worker.jobs
      where attempts >= max_attempts and locked_at is null and run_at < now() - interval '7 days' limit 1000))`)
