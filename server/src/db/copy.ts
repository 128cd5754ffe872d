/**
 * Whole tables, out of one database and into another, by COPY through the driver: no program of PostgreSQL has to stand anywhere. Its text
 * form is written and read alike by every supported version. What is read is one snapshot, however long it takes; what is written is in
 * the caller's transaction. Used by backup/.
 */
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { from, to } from 'pg-copy-streams'
import { seconds } from '../lib/time.ts'
import { type Address, clientConfig } from './open.ts'

/** One that holds rows: of a partitioned table each partition. */
export interface Table {
  name: string
  /** Without generated ones. */
  columns: string[]
  /** The primary key; empty when there is none. */
  key: { name: string; type: string }[]
}

/** Rows whose key is above `after` and not above `upTo`, as text; null: no end on that side. */
export interface Span {
  after: string[] | null
  upTo: string[] | null
}

export const everything: Span = { after: null, upTo: null }

export interface Digest {
  rows: number
  /** Of every column of every row, in order. */
  hash: string
}

export interface Reader {
  /** Parents before their children. */
  tables(): Promise<Table[]>
  migrations(): Promise<string[]>
  sequences(): Promise<Record<string, number>>
  /** That live: each says so every few seconds (job/), and one that stops takes its word back. */
  servers(): Promise<number>
  count(table: Table): Promise<number>
  digest(table: Table, span: Span): Promise<Digest>
  /** The span of the next `rows` rows after `after`. */
  next(table: Table, after: string[] | null, rows: number): Promise<Span>
  /** COPY's text form; `rowCount` is known when it has ended. */
  rows(table: Table, span: Span): AsyncIterable<Buffer> & { rowCount: number }
  close(): Promise<void>
}

export interface Writer extends Reader {
  /** Nobody else does so here while it runs; false when somebody does. */
  takeTurn(): Promise<boolean>
  transaction<T>(work: () => Promise<T>): Promise<T>
  /** Answers how many rows came. Triggers that tell of changes stay silent: what is brought in has happened already. */
  bring(table: Table, rows: AsyncIterable<Buffer>): Promise<number>
  /** Empties the table and whatever refers to it. */
  empty(table: Table): Promise<void>
  setSequences(values: Record<string, number>): Promise<void>
  run(text: string): Promise<Record<string, unknown>[]>
}

/** What belongs to the database it stands in, not to its data. */
const stays = ['migration', 'job_worker', 'move_under_way']

/** Rows read the same on both sides only if both write them the same way. */
const plainText = `
  set timezone to 'UTC'; set datestyle to 'ISO'; set intervalstyle to 'postgres'; set bytea_output to 'hex'; set extra_float_digits to 1;
  set statement_timeout to 0; set idle_in_transaction_session_timeout to 0; set client_min_messages to warning`

/** One moment of the database, until it is closed. */
export async function openReader(address: Address): Promise<Reader> {
  const client = await connect(address)
  await client.query('begin isolation level repeatable read, read only')
  return readerOn(client)
}

/** Any constant will do; it must never change. */
const LOCK = 7_246_013_773

export async function openWriter(direct: Address): Promise<Writer> {
  const client = await connect(direct)
  const run = async (text: string) => (await client.query<Record<string, unknown>>(text)).rows
  return {
    ...readerOn(client),
    run,
    async takeTurn() {
      // Of a run that was killed a moment ago the session lives on until PostgreSQL has ended its statement.
      const giveUp = performance.now() + seconds(10)
      for (;;) {
        const [row] = await run(`select pg_try_advisory_lock(${LOCK}) as ours`)
        if (row!.ours === true || performance.now() > giveUp) return row!.ours === true
        await sleep(100)
      }
    },
    async transaction(work) {
      await run('begin')
      try {
        const result = await work()
        await run('commit')
        return result
      } catch (error) {
        await run('rollback').catch(() => {})
        throw error
      }
    },
    async bring(table, rows) {
      await run(`alter table ${named(table)} disable trigger user`)
      const copy = client.query(from(`copy ${named(table)} (${listed(table)}) from stdin`))
      await pipeline(rows, copy)
      await run(`alter table ${named(table)} enable trigger user`)
      return copy.rowCount
    },
    async empty(table) {
      await run(`alter table ${named(table)} disable trigger user`)
      await run(`truncate ${named(table)} cascade`)
      await run(`alter table ${named(table)} enable trigger user`)
    },
    async setSequences(values) {
      for (const [name, value] of Object.entries(values))
        await client.query('select setval(quote_ident($1)::regclass, $2)', [name, value])
    },
  }
}

async function connect(address: Address): Promise<pg.Client> {
  const client = new pg.Client(clientConfig(address))
  // A break shows as the rejection of the statement under way.
  client.on('error', () => {})
  await client.connect()
  await client.query(plainText)
  return client
}

function readerOn(client: pg.Client): Reader {
  return {
    async tables() {
      const { rows } = await client.query<Table & { parents: string[] }>(`
        select c.relname::text as name,
          (select array_agg(a.attname::text order by a.attname) from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns,
          coalesce((select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, null)) order by k.place)
            from pg_index i, unnest(i.indkey) with ordinality k (attnum, place), pg_attribute a
            where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid and a.attnum = k.attnum), '[]') as key,
          coalesce((select array_agg(distinct p.relname::text) from pg_constraint f join pg_class p on p.oid = f.confrelid
            where f.conrelid = c.oid and f.contype = 'f' and p.oid <> c.oid), '{}') as parents
        from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname <> all ('{${stays.join(',')}}')
        order by c.relname`)
      return parentsFirst(rows)
    },
    async migrations() {
      const { rows } = await client.query<{ name: string }>('select name from migration order by name')
      return rows.map(row => row.name)
    },
    async sequences() {
      const { rows } = await client.query<{ name: string; value: number }>(`
        select sequencename::text as name, last_value::float8 as value from pg_sequences
        where schemaname = 'public' and last_value is not null order by 1`)
      return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
    },
    async servers() {
      const { rows } = await client.query<{ servers: number }>(
        `select count(*)::int as servers from job_worker where seen_at > clock_timestamp() - interval '1 minute'`,
      )
      return rows[0]!.servers
    },
    async count(table) {
      const { rows } = await client.query<{ rows: number }>(`select count(*)::int as rows from ${named(table)}`)
      return rows[0]!.rows
    },
    async digest(table, span) {
      const { where, values } = within(table, span)
      const order = table.key.length > 0 ? keyOf(table, 'r.').join(', ') : 'r::text collate "C"'
      const { rows } = await client.query<Digest>(
        `select count(*)::int as rows,
          coalesce(encode(sha256(string_agg(sha256(convert_to(r::text, 'UTF8')), ''::bytea order by ${order})), 'hex'), '') as hash
        from (select ${listed(table)} from ${named(table)} ${where}) r`,
        values,
      )
      return rows[0]!
    },
    async next(table, after, rows) {
      if (table.key.length === 0) return everything
      const { where, values } = within(table, { after, upTo: null })
      const { rows: found } = await client.query<{ key: string[] }>(
        `select array[${table.key.map(({ name }) => `${quoted(name)}::text`).join(', ')}] as key from ${named(table)} ${where}
        order by ${keyOf(table).join(', ')} offset ${rows - 1} limit 1`,
        values,
      )
      return { after, upTo: found[0]?.key ?? null }
    },
    rows(table, span) {
      const { where, values } = within(table, span)
      // COPY takes no parameters.
      const filled = where.replace(/\$(\d+)/g, (_, n) => pg.escapeLiteral(values[Number(n) - 1]!))
      return client.query(to(`copy (select ${listed(table)} from ${named(table)} ${filled}) to stdout`))
    },
    close: () => client.end(),
  }
}

const quoted = (name: string): string => pg.escapeIdentifier(name)
const named = ({ name }: Table): string => `public.${quoted(name)}`
const listed = ({ columns }: Table): string => columns.map(quoted).join(', ')

/** The two databases may sort text each in its own way, and a span must hold the same rows in both. */
const keyOf = ({ key }: Table, of = ''): string[] =>
  key.map(({ name, type }) => `${of}${quoted(name)}${type === 'text' ? ' collate "C"' : ''}`)

function within(table: Table, { after, upTo }: Span): { where: string; values: string[] } {
  const key = `(${keyOf(table).join(', ')})`
  const given = (from: number) => `(${table.key.map(({ type }, i) => `$${from + i + 1}::text::${type}`).join(', ')})`
  const conditions = [
    ...(after ? [`${key} > ${given(0)}`] : []),
    ...(upTo ? [`${key} <= ${given(after?.length ?? 0)}`] : []),
  ]
  return {
    where: conditions.length > 0 ? `where ${conditions.join(' and ')}` : '',
    values: [...(after ?? []), ...(upTo ?? [])],
  }
}

function parentsFirst(tables: (Table & { parents: string[] })[]): Table[] {
  const sorted: Table[] = []
  const place = ({ parents, ...table }: (typeof tables)[number]) => {
    if (sorted.some(({ name }) => name === table.name)) return
    for (const parent of tables) if (parents.includes(parent.name)) place(parent)
    sorted.push(table)
  }
  for (const table of tables) place(table)
  return sorted
}
