import { sql } from '../db/sql.ts'
import type { Db } from '../seams.ts'

export interface CountRow {
  name: string
  /** Since 1970. */
  minute: number
  n: number
}

/** Adds to what every server has counted and returns the sums. In the order of their names, so that two servers wait and do not deadlock. */
export const addCounts = (db: Db, rows: CountRow[]): Promise<CountRow[]> => {
  const sorted = rows.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  return db.query<CountRow>(sql`
    insert into request_count (name, minute, n)
    select * from unnest(${sorted.map(row => row.name)}::text[], ${sorted.map(row => row.minute)}::int[], ${sorted.map(row => row.n)}::int[])
    on conflict (name, minute) do update set n = request_count.n + excluded.n
    returning name, minute, n`)
}

export const forgetCounts = (db: Db, upTo: number): Promise<object[]> =>
  db.query(sql`delete from request_count where minute <= ${upTo}`)
