/** A server's worker in a process of its own, to be killed. Its one task writes down that it began, and ends only when told to. */
import { openDb, openDirectPool } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { defaultJobTiming, jobsAtOnce, startJobs } from '../../src/job/worker.ts'
import { systemClock } from '../../src/lib/time.ts'

const [url, hangs] = process.argv.slice(2) as [string, 'hangs' | 'ends']
const { db } = await openDb({ url })
const said = (fields: object, message: string) => console.error(message, fields)
const log = { debug() {}, info() {}, warn: said, error: said }

await startJobs(
  { db, pool: openDirectPool({ url }, jobsAtOnce), clock: systemClock, log },
  {
    tasks: {
      note: async (payload, { attempt }) => {
        const { name } = payload as { name: string }
        await db.query(sql`insert into note (name, pid, attempt) values (${name}, ${process.pid}, ${attempt})`)
        if (hangs === 'hangs') await new Promise(() => {})
      },
    },
  },
  { ...defaultJobTiming, poll: 200, beat: 100, dead: 1_000 },
)
process.stdout.write('ready\n')
