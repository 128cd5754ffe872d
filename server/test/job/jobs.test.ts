/** A job exists when what it is about was committed, runs although its server died, and is not lost when the database stumbles. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { openDirectPool } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { addJob, freeJobsOfTheDead, schemaRevision } from '../../src/job/store.ts'
import { currentRevision, defaultJobTiming, type Jobs, jobsAtOnce, startJobs, type Task } from '../../src/job/worker.ts'
import { systemClock } from '../../src/lib/time.ts'
import { until } from '../db/until.ts'
import { migrateAll, type TestDatabase, testDatabase } from '../support/database.ts'
import { lastFirst } from '../support/last-first.ts'

type Test = { after(work: () => Promise<void>): void }

const timing = { ...defaultJobTiming, poll: 100, beat: 100, dead: 1_000, giveUp: 200 }

async function room(t: Test) {
  const opened = lastFirst(t)
  const database = await testDatabase(opened)
  await database.db.query(
    sql`create table note (name text not null, pid integer not null, attempt integer not null, at timestamptz not null default clock_timestamp())`,
  )
  const lines: string[] = []
  const say = (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`)
  const log = { debug: say, info: say, warn: say, error: say }
  const worker = async (given: Record<string, Task>): Promise<Jobs> => {
    const pool = openDirectPool({ url: database.url }, jobsAtOnce)
    opened.after(() => pool.end())
    const jobs = await startJobs({ db: database.db, pool, clock: systemClock, log }, { tasks: given }, timing)
    opened.after(() => jobs.stop())
    return jobs
  }
  return { database, worker, lines, opened }
}

const open = async ({ db }: TestDatabase): Promise<number> => {
  const [row] = await db.query<{ n: number }>(sql`select count(*)::int as n from graphile_worker.jobs`)
  return row!.n
}

test('a job of a transaction that was rolled back never runs; one of a committed one runs once, two workers or not', async t => {
  const { database, worker } = await room(t)
  const { db } = database
  const ran: string[] = []
  const note: Task = async payload => void ran.push((payload as { name: string }).name)
  await worker({ note })
  await worker({ note })

  await assert.rejects(
    db.transaction(async tx => {
      await addJob(tx, 'note', { name: 'undone' })
      throw new Error('changed its mind')
    }),
  )
  const names = Array.from({ length: 50 }, (_, i) => `job ${i}`)
  await db.transaction(async tx => {
    for (const name of names) await addJob(tx, 'note', { name })
  })
  await until(async () => (await open(database)) === 0)
  assert.deepEqual(ran.sort(), names.sort())
})

test('a job that throws is tried again, later each time, and given up after its last attempt; its payload is in no log', async t => {
  const { database, worker, lines } = await room(t)
  const attempts: { attempt: number; maxAttempts: number }[] = []
  await worker({
    fails: async (_, { attempt, maxAttempts }) => {
      attempts.push({ attempt, maxAttempts })
      throw new Error('no luck')
    },
  })
  await addJob(database.db, 'fails', { secret: 'xyzzy-payload' }, { maxAttempts: 3 })
  for (const n of [1, 2, 3]) {
    await until(() => attempts.length === n)
    const row = () =>
      database.db
        .query<{ waits: number; locked: boolean }>(
          sql`select extract(epoch from run_at - now())::float8 as waits, locked_at is not null as locked from graphile_worker.jobs`,
        )
        .then(rows => rows[0]!)
    await until(async () => !(await row()).locked)
    const { waits } = await row()
    assert.ok(waits > Math.exp(n) - 1.5 && waits < Math.exp(n) + 0.1, `${waits} s after attempt ${n}`)
    await database.db.query(sql`update graphile_worker._private_jobs set run_at = now()`)
  }
  assert.deepEqual(
    attempts.map(({ attempt, maxAttempts }) => `${attempt}/${maxAttempts}`),
    ['1/3', '2/3', '3/3'],
  )
  assert.equal(lines.filter(line => line.startsWith('a job failed and is tried again')).length, 2)
  assert.equal(lines.filter(line => line.startsWith('a job failed for good')).length, 1)
  assert.ok(!lines.join('\n').includes('xyzzy-payload'))
})

test('a newer job with the same key takes the place of one that has not started', async t => {
  const { database, worker } = await room(t)
  const ran: unknown[] = []
  await addJob(database.db, 'note', { name: 'old' }, { key: 'one', runAt: new Date(Date.now() + 3_600_000) })
  await addJob(database.db, 'note', { name: 'new' }, { key: 'one' })
  await worker({ note: async payload => void ran.push(payload) })
  await until(async () => (await open(database)) === 0)
  assert.deepEqual(ran, [{ name: 'new' }])
})

test('jobs of one queue run one after the other', async t => {
  const { database, worker } = await room(t)
  let now = 0
  let most = 0
  const queued: Task = async () => {
    most = Math.max(most, ++now)
    await systemClock.sleep(5)
    now--
  }
  await worker({ queued })
  await worker({ queued })
  for (let i = 0; i < 10; i++) await addJob(database.db, 'queued', {}, { queue: 'narrow' })
  await until(async () => (await open(database)) === 0)
  assert.equal(most, 1)
})

test('kill -9 in the middle of a job brings it back, to another server', async t => {
  const { database, opened } = await room(t)
  const processes: ChildProcess[] = []
  opened.after(async () => {
    for (const child of processes) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    }
  })
  const start = async (what: string) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'worker-process.ts'), database.url, what], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    processes.push(child)
    await once(child.stdout!, 'data')
    return child
  }
  const notes = () =>
    database.db.query<{ pid: number; attempt: number }>(sql`select pid, attempt from note order by at`)

  const first = await start('hangs')
  await addJob(database.db, 'note', { name: 'survives' }, { queue: 'its own' })
  await until(async () => (await notes()).length === 1)
  const second = await start('ends')
  // The first one lives, however long it takes: nobody takes its job away. Twice the time after which it would count as dead.
  await until(async () => {
    const [beats] = await database.db.query<{ live: number; age: number }>(sql`
      select count(*) filter (where seen_at > clock_timestamp() - interval '1 second')::int as live,
        extract(epoch from clock_timestamp() - (select min(at) from note))::float8 as age from job_worker`)
    return beats!.live === 2 && beats!.age > 2
  })
  assert.equal((await notes()).length, 1)

  const exited = once(first, 'exit')
  first.kill('SIGKILL')
  await exited
  await until(async () => (await notes()).length === 2 && (await open(database)) === 0)
  assert.deepEqual(
    (await notes()).map(({ pid, attempt }) => [pid, attempt]),
    [
      [first.pid, 1],
      [second.pid, 2],
    ],
  )
})

test('a database that ends every connection in the middle of jobs costs no job and not the process', async t => {
  const { database, worker } = await room(t)
  const ran = new Set<string>()
  const cut = Promise.withResolvers<void>()
  await worker({
    note: async payload => {
      const { name, after } = payload as { name: string; after: number }
      ran.add(name)
      await cut.promise
      // Some end while their connection is already gone, some when there is a new one.
      await systemClock.sleep(after)
    },
  })
  for (let i = 0; i < jobsAtOnce; i++) await addJob(database.db, 'note', { name: `in hand ${i}`, after: i * 7 })
  await until(() => ran.size === jobsAtOnce)
  await database.db
    .query(sql`
      select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
    .catch(() => {})
  cut.resolve()
  const added = () =>
    addJob(database.db, 'note', { name: 'afterwards', after: 0 }).then(
      () => true,
      () => false,
    )
  await until(added)
  await until(async () => ran.has('afterwards') && (await open(database)) === 0)
})

test('a job that never ends does not keep a queue that gave up from being started again', async t => {
  const { database, worker, lines } = await room(t)
  const { db } = database
  const ran: string[] = []
  const rest = Promise.withResolvers<void>()
  const jobs = await worker({
    endless: () => {
      ran.push('endless')
      return rest.promise
    },
    // Its end cannot be written, which is what makes graphile-worker give up.
    unwritten: async () => {
      await db.query(sql`alter table graphile_worker._private_jobs rename to elsewhere`)
    },
    note: async () => void ran.push('note'),
  })
  await addJob(db, 'endless', {})
  await until(() => ran.includes('endless'))
  await addJob(db, 'unwritten', {})
  await until(() => lines.some(line => line.includes('Failed to complete jobs')))
  await db.query(sql`alter table graphile_worker.elsewhere rename to _private_jobs`)
  await addJob(db, 'note', {})
  await until(() => ran.includes('note'))
  rest.resolve()
  await jobs.stop()
})

test('a server that stops tells its jobs, waits for them, and takes no more', async t => {
  const { database, worker } = await room(t)
  const ran: string[] = []
  const jobs = await worker({
    note: async (_, { signal }) => {
      ran.push('began')
      await once(signal, 'abort')
      await systemClock.sleep(50)
      ran.push('ended')
    },
  })
  await addJob(database.db, 'note', {})
  await until(() => ran.length === 1)
  await jobs.stop()
  await addJob(database.db, 'note', {})
  assert.deepEqual(ran, ['began', 'ended'])
  const rows = await database.db.query<{ attempts: number; locked_at: Date | null }>(
    sql`select attempts, locked_at from graphile_worker.jobs`,
  )
  assert.deepEqual(rows, [{ attempts: 0, locked_at: null }])
  assert.deepEqual(await database.db.query(sql`select id from job_worker`), [])
})

test('a job is taken from a worker that has been silent long enough, and from no other', async t => {
  const { database } = await room(t)
  const { db } = database
  const held = async (worker: string, silentSeconds: number | null, lockedSeconds: number) => {
    await addJob(db, 'note', { name: worker })
    await db.query(sql`
      update graphile_worker._private_jobs set locked_by = ${worker}, locked_at = clock_timestamp() - ${lockedSeconds}::float8 * interval '1 second'
      where payload ->> 'name' = ${worker}`)
    if (silentSeconds !== null)
      await db.query(
        sql`insert into job_worker values (${worker}, clock_timestamp() - ${silentSeconds}::float8 * interval '1 second')`,
      )
  }
  await held('lives', 1, 3_000)
  await held('is dead', 61, 3_000)
  await held('is dead, its job is young', 61, 1)
  await held('was never heard', null, 61)
  await held('is about to be heard', null, 1)
  assert.deepEqual((await freeJobsOfTheDead(db, 60_000)).sort(), ['is dead', 'was never heard'])
})

test('two servers bring an empty database up at once', async t => {
  const database = await testDatabase(t, { empty: true })
  const log = { debug() {}, info() {}, warn: (_: object, message: string) => assert.fail(message), error() {} }
  const start = () => migrateAll(database.url, log).then(() => addJob(database.db, 'note', {}))
  await Promise.all([start(), start(), start()])
  assert.equal(await open(database), 3)
  assert.equal(await schemaRevision(database.db), currentRevision)
})
