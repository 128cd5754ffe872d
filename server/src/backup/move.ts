/**
 * `db move`: one database into another, span by span, in the order in which rows refer to one another. It remembers nothing: it looks at
 * what is there. A span that reads the same on both sides is done, so a move that was killed goes on where it was, and one that is run
 * again brings what changed. The source is only read, in one snapshot, and serves on.
 *
 * What servers write to the source after the snapshot is not in the copy. So a copy of a source that is being served is a first one, and
 * stays marked as unfinished: no server starts on it. The last one is made with every server of the source stopped, and is exact; therefore
 * it is the same history (refresh-protocol: nothing was lost that a token could have become).
 */
import { openReader, openWriter, type Reader, type Table, type Writer } from '../db/copy.ts'
import { migrate, migrationsFolder } from '../db/migrate.ts'
import type { Address } from '../db/open.ts'
import { Failure } from '../errors.ts'
import { refuseUnlessEmpty, refuseUnlessSame } from './backup.ts'

export interface Moved {
  tables: Record<string, number>
  rows: number
  /** Rows that were copied now; the others were there already. */
  copied: number
  /** Servers that write to the source. Unless it is 0 the move has to be run again. */
  servers: number
}

/** Small enough that a killed move has little to do again; 20 MB of the widest rows. */
const spanRows = 5_000

interface Ends {
  source: { direct: Address; alone: boolean }
  target: Address
}

/** `also` migrates in the target what is not ours. `check` looks at the copy before it is called finished; it throws what is wrong. */
export async function move(
  { source, target }: Ends,
  also: () => Promise<void>,
  check: () => Promise<void>,
  progress: (table: string, rows: number, total: number) => void,
): Promise<Moved> {
  const reader = await openReader(source.direct)
  try {
    const writer = await openWriter(target)
    try {
      if (!(await writer.takeTurn())) throw new Failure('target_in_use')
      const tables = await prepare(reader, writer, target, also)
      const before = source.alone ? 0 : await serversOn(source.direct)
      const copied = await copyAll(reader, writer, tables, progress)
      const moved = { ...(await countAll(reader, writer, tables)), copied }
      await check()
      // One that started meanwhile has written too.
      const servers = source.alone ? 0 : Math.max(before, await serversOn(source.direct))
      if (servers === 0) await writer.run('drop table move_under_way')
      return { ...moved, servers }
    } finally {
      await writer.close()
    }
  } finally {
    await reader.close()
  }
}

async function prepare(reader: Reader, writer: Writer, target: Address, also: () => Promise<void>): Promise<Table[]> {
  const tables = await reader.tables()
  const [marked] = await writer.run(`select to_regclass('public.move_under_way') is not null as there`)
  if (!marked!.there) {
    await refuseUnlessEmpty(writer)
    await migrate(target, migrationsFolder, { also })
    await writer.run('create table move_under_way (since timestamptz not null default now())')
  } else await migrate(target, migrationsFolder, { also, moving: true })
  const there = { tables: await writer.tables(), migrations: await writer.migrations() }
  if (JSON.stringify(there.migrations) !== JSON.stringify(await reader.migrations()))
    throw new Failure('schema_differs')
  refuseUnlessSame(tables, there.tables)
  return tables
}

async function copyAll(
  reader: Reader,
  writer: Writer,
  tables: Table[],
  progress: (table: string, rows: number, total: number) => void,
): Promise<number> {
  let total = 0
  for (const table of tables) total += await reader.count(table)
  let copied = 0
  let done = 0
  for (const table of tables) {
    let seen = 0
    for (let span = await reader.next(table, null, spanRows); ; ) {
      const theirs = await reader.digest(table, span)
      const ours = await writer.digest(table, span)
      if (theirs.hash !== ours.hash) {
        if (ours.rows > 0) {
          // Older than the source is now. Rows that replace others one by one could clash with those still to be replaced; from the beginning they cannot.
          await writer.transaction(() => writer.empty(table))
          seen = 0
          span = await reader.next(table, null, spanRows)
          continue
        }
        copied += await writer.transaction(() => writer.bring(table, reader.rows(table, span)))
        if ((await writer.digest(table, span)).hash !== theirs.hash) throw incomplete(table, 'other contents')
      }
      seen += theirs.rows
      progress(table.name, done + seen, total)
      if (!span.upTo) break
      span = await reader.next(table, span.upTo, spanRows)
    }
    done += seen
  }
  // Numbers given out are not part of any snapshot: read last, they are never below one that is in use.
  await writer.setSequences(await reader.sequences())
  return copied
}

/** After everything was written. Each span read the same; together they are all there is. */
async function countAll(reader: Reader, writer: Writer, tables: Table[]): Promise<Pick<Moved, 'tables' | 'rows'>> {
  const counted: Record<string, number> = {}
  for (const table of tables) {
    const [theirs, ours] = [await reader.count(table), await writer.count(table)]
    if (theirs !== ours) throw incomplete(table, `${ours} rows instead of ${theirs}`)
    counted[table.name] = ours
  }
  return { tables: counted, rows: Object.values(counted).reduce((sum, rows) => sum + rows, 0) }
}

const incomplete = ({ name }: Table, found: string): Failure =>
  new Failure('move_incomplete', {
    message: `The copy of ${name} has ${found}. Run the same command again; the source is as it was.`,
  })

/** Those that said within the last minute that they live (job/); one that stops takes its word back. */
async function serversOn(source: Address): Promise<number> {
  const reader = await openReader(source)
  try {
    return await reader.servers()
  } finally {
    await reader.close()
  }
}
