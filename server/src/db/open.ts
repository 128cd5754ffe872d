/**
 * The database seam over `pg`: a pool for statements and transactions, and one listening connection that mends itself.
 * Takes an address, embedded or somebody's own PostgreSQL, and makes no difference between them. Owns no table.
 *
 * What goes wrong between us and PostgreSQL becomes `database_unavailable`; what PostgreSQL says about a statement (a
 * unique violation, a fault in the SQL) stays the driver's error, because only the caller knows what it means.
 * Statements are unnamed: a named one breaks behind a pooler in transaction mode, and 15 µs are not worth two modes.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { Failure } from '../errors.ts'
import type { Db } from '../seams.ts'
import type { Connection } from './embedded.ts'
import { type Sql, sql } from './sql.ts'

/** A URL (`postgresql://user@/db?host=/folder` for a Unix socket) or the embedded server's address. */
export type Address = { url: string } | { connection: Connection }

export type OpenOptions = Address & {
  /** For LISTEN: an address that bypasses a pooler in transaction mode. Else the same one. */
  directUrl?: string | undefined
  poolMax?: number
  /** For a new connection, and for one of the pool's to become free. */
  connectTimeoutMs?: number
  /** How long to wait at the start for a database that is itself still starting. */
  startTimeoutMs?: number
  /** A statement without an answer for this long counts as lost, so a silent network does not hang requests. */
  queryTimeoutMs?: number
}

export interface Listener {
  onPayload(payload: string): void
  /**
   * Notifications may have been missed: drop what they keep fresh. Called when the connection is lost and again when it
   * listens anew, because what was read in between may be old as well.
   */
  onGap(): void
}

export interface OpenDb {
  db: Db
  /** Resolves once PostgreSQL listens; resolves to its end. */
  listen(channel: string, listener: Listener): Promise<() => Promise<void>>
  /** Throws `database_unavailable` unless a statement runs now. */
  ping(): Promise<void>
  /** Connections there are, those of them with nothing to do, and the statements that wait for one. */
  load(): { open: number; idle: number; waiting: number }
  /** Waits for the statements and transactions under way. */
  close(): Promise<void>
}

/** Connects once before it resolves, so a wrong address is known at the start. */
export async function openDb(options: OpenOptions): Promise<OpenDb> {
  const pool = quiet(
    new pg.Pool({
      ...clientConfig(options),
      max: options.poolMax ?? 10,
      connectionTimeoutMillis: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      idleTimeoutMillis: 30_000,
      query_timeout: options.queryTimeoutMs ?? QUERY_TIMEOUT_MS,
    }),
  )

  const listening = listenOn(options.directUrl ? { url: options.directUrl } : options)
  const ping = async () => {
    await pooled(pool, client => ask(client, sql`select 1`, true))
  }
  try {
    await untilStarted(ping, options.startTimeoutMs ?? 15_000)
  } catch (error) {
    await pool.end()
    throw error
  }

  let closed: Promise<unknown> | undefined
  return {
    db: {
      query: <Row extends object>(statement: Sql) =>
        pooled(pool, async client => (await ask<Row>(client, statement, false)).rows),
      transaction: work => pooled(pool, client => transact(client, work)),
    },
    listen: listening.listen,
    ping,
    load: () => ({ open: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    async close() {
      closed ??= Promise.all([listening.close(), pool.end()])
      await closed
    },
  }
}

const CONNECT_TIMEOUT_MS = 5_000

/** The driver's own pool, for the one party that brings its own statements and its own LISTEN: the job queue. */
export type DirectPool = pg.Pool

/** `direct` bypasses a pooler in transaction mode. Opens nothing before it is used; whoever opens it ends it. */
export function openDirectPool(direct: Address, max: number): DirectPool {
  return quiet(
    new pg.Pool({ ...clientConfig(direct), max, idleTimeoutMillis: 30_000, query_timeout: QUERY_TIMEOUT_MS }),
  )
}

const QUERY_TIMEOUT_MS = 30_000

function quiet(pool: pg.Pool): pg.Pool {
  // An idle connection that breaks is already out of the pool; without a listener the event would end the process.
  pool.on('error', () => {})
  // The same for one that breaks in our hands: the statement under way rejects, which is how we learn of it.
  pool.on('connect', client => client.on('error', () => {}))
  return pool
}

/** What every client of ours is made with; migrations use it too. */
export function clientConfig(address: Address): pg.ClientConfig {
  return {
    ...('url' in address ? { connectionString: address.url } : address.connection),
    application_name: 'fairlead',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: { getTypeParser },
  }
}

/** Whether a row already holds this value; `constraint` narrows it to one of the table's unique constraints. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  if (!(error instanceof pg.DatabaseError) || error.code !== '23505') return false
  return constraint === undefined || error.constraint === constraint
}

/** pg can parse it, but its types do not know it. */
const INT8_ARRAY = 1016 as typeof pg.types.builtins.INT8

/** int8 as a number: ids and counts stay below 2^53. The rest is the driver's own: timestamptz a Date, jsonb parsed. */
const parsers = new Map<number, (text: string) => unknown>([
  [pg.types.builtins.INT8, Number],
  [
    INT8_ARRAY,
    text =>
      pg.types
        .getTypeParser(INT8_ARRAY)(text)
        .map((item: string | null) => item && Number(item)),
  ],
])

// The driver calls it with both formats and types it for neither; only text is ever asked for here.
const getTypeParser: typeof pg.types.getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  parsers.get(oid) ?? pg.types.getTypeParser(oid, (format ?? 'text') as 'text')

/** One client from the pool, for one piece of work. One whose connection failed is not given back. */
async function pooled<T>(pool: pg.Pool, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
  let client: pg.PoolClient
  try {
    client = await pool.connect()
  } catch (error) {
    throw new Failure('database_unavailable', { cause: error })
  }
  let broken = false
  try {
    return await work(client)
  } catch (error) {
    broken = isUnavailable(error)
    throw error
  } finally {
    client.release(broken)
  }
}

/** Runs one statement; `undone` says that it cannot have lasting effect when its answer is missing. */
async function ask<Row extends object>(
  client: pg.ClientBase,
  statement: Sql,
  undone: boolean,
): Promise<pg.QueryResult<Row>> {
  try {
    return await client.query<Row>(statement.text, statement.values)
  } catch (error) {
    const loss = lossOf(error)
    if (!loss) throw error
    if (undone || loss === 'undone') throw new Failure('database_unavailable', { cause: error })
    throw new Failure('database_unavailable', { message: UNKNOWN_OUTCOME, cause: error })
  }
}

const UNKNOWN_OUTCOME =
  'The connection to the database broke before it answered. Whether this was saved is unknown; look before sending it again.'

function isUnavailable(error: unknown): boolean {
  return error instanceof Failure && error.code === 'database_unavailable'
}

/** A loss before COMMIT was sent changed nothing; only a COMMIT without an answer leaves doubt. */
async function transact<T>(client: pg.ClientBase, work: (tx: Db) => Promise<T>): Promise<T> {
  await ask(client, sql`begin`, true)
  let result: T
  try {
    result = await work(transactionOn(client))
  } catch (error) {
    // A lost connection is closed by `pooled`, which undoes the transaction as well.
    if (isUnavailable(error)) throw error
    await ask(client, sql`rollback`, true)
    throw error
  }
  const end = await ask(client, sql`commit`, false)
  // PostgreSQL answers a COMMIT after a failed statement with ROLLBACK and no error: the work swallowed one.
  if (end.command === 'ROLLBACK') throw new Error('A statement of this transaction failed and its error was swallowed.')
  return result
}

/**
 * The seam inside a transaction. Statements sent at once go one after the other, as the wire does it anyway. A
 * transaction within it is a savepoint: its throw undoes its own work, and the outer one may catch it and go on.
 * Each savepoint has its own name, so two at once, which PostgreSQL cannot do, fail loudly.
 */
function transactionOn(client: pg.ClientBase): Db {
  const inTurn = oneAtATime()
  const run = <Row extends object>(statement: Sql) => inTurn(() => ask<Row>(client, statement, true))
  let savepoints = 0
  const tx: Db = {
    query: async <Row extends object>(statement: Sql) => (await run<Row>(statement)).rows,
    async transaction(work) {
      const name = `nested_${++savepoints}`
      await run({ text: `savepoint ${name}`, values: [] })
      try {
        const result = await work(tx)
        await run({ text: `release savepoint ${name}`, values: [] })
        return result
      } catch (error) {
        if (!isUnavailable(error)) await run({ text: `rollback to savepoint ${name}`, values: [] })
        throw error
      }
    },
  }
  return tx
}

/** Runs what it is given in the order given. pg's own queue does the same, but is going away (pg 9). */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return work => {
    const turn = last.then(work)
    last = turn.catch(() => {})
    return turn
  }
}

/** SQLSTATEs by which the server ends the session with the statement undone. Class 08 is told by its prefix. */
const SESSION_ENDED = new Set(['57P01', '57P02', '57P03', '57P05', '53300', '25P03', '25P04'])

const SOCKET_FAILED = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT'],
  ...['EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN'],
])

/** pg has no codes for these. */
const DRIVER_SAYS =
  /^Connection terminated|^timeout expired|^timeout exceeded when trying to connect|^Query read timeout|not queryable$/

/** Whether an error means that the connection is lost, and if so what is known of the statement. */
function lossOf(error: unknown): 'undone' | 'unknown' | undefined {
  if (!(error instanceof Error)) return undefined
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (error instanceof pg.DatabaseError) return SESSION_ENDED.has(code) || code.startsWith('08') ? 'undone' : undefined
  return SOCKET_FAILED.has(code) || DRIVER_SAYS.test(error.message) ? 'unknown' : undefined
}

/** Waits out a database that is starting (57P03) or not up yet; a wrong password or name is said at once. */
async function untilStarted(ping: () => Promise<void>, timeoutMs: number): Promise<void> {
  const giveUp = performance.now() + timeoutMs
  for (;;) {
    try {
      return await ping()
    } catch (error) {
      const cause = error instanceof Failure ? error.cause : error
      if (!lossOf(cause) || performance.now() > giveUp) throw error
    }
    await sleep(50)
  }
}

interface Listening {
  listen: OpenDb['listen']
  close(): Promise<void>
}

/**
 * How often the listening connection is asked whether it is alive, and how long it may think: a half-open one is deaf without an error.
 * Together they stay under the five seconds in which a kill must reach every process.
 */
const HEARTBEAT_MS = 1_500
const HEARTBEAT_ANSWER_MS = 2_000

/** A client, and the order in which it is asked. */
interface Ear {
  client: pg.Client
  ask(text: string): Promise<unknown>
}

/** One connection for all channels, made at the first LISTEN and made again, with growing pauses, whenever it breaks. */
function listenOn(address: Address): Listening {
  const channels = new Map<string, Set<Listener>>()
  const closing = new AbortController()
  let current: Promise<Ear> | undefined
  /** The connection while it listens; nobody who is leaving waits for the next one. */
  let listening: Ear | undefined

  async function connect(): Promise<Ear> {
    const client = new pg.Client({ ...clientConfig(address), query_timeout: 10_000 })
    const inTurn = oneAtATime()
    const ear: Ear = { client, ask: text => inTurn(() => client.query(text)) }
    // pg reads `query_timeout` from a statement too; its types do not say so.
    const pulse: pg.QueryConfig & { query_timeout: number } = { text: 'select 1', query_timeout: HEARTBEAT_ANSWER_MS }
    let state: 'connecting' | 'listening' | 'lost' = 'connecting'
    let heartbeat: NodeJS.Timeout | undefined
    const lose = () => {
      clearInterval(heartbeat)
      if (listening === ear) listening = undefined
      const mends = state === 'listening' && !closing.signal.aborted
      state = 'lost'
      client.end().catch(() => {})
      if (mends) mend()
    }
    client.on('error', lose)
    client.on('end', lose)
    client.on('notification', ({ channel, payload }) => {
      for (const listener of channels.get(channel) ?? []) listener.onPayload(payload ?? '')
    })
    try {
      await client.connect()
      for (const channel of channels.keys()) await ear.ask(`listen ${client.escapeIdentifier(channel)}`)
    } catch (error) {
      lose()
      throw new Failure('database_unavailable', { cause: error })
    }
    state = 'listening'
    listening = ear
    heartbeat = setInterval(() => inTurn(() => client.query(pulse)).catch(lose), HEARTBEAT_MS).unref()
    return ear
  }

  function mend(): void {
    gap()
    current = (async () => {
      for (let wait = 50; ; wait = Math.min(wait * 2, 5_000)) {
        try {
          const ear = await connect()
          gap()
          return ear
        } catch (error) {
          if (closing.signal.aborted) throw error
          // A random part keeps replicas from returning to a restarted database in step.
          await sleep(wait * (0.5 + Math.random()), undefined, { signal: closing.signal })
        }
      }
    })()
    current.catch(() => {}) // only closing ends it; whoever waits on it gets the error too
  }

  function gap(): void {
    for (const listeners of channels.values()) for (const listener of listeners) listener.onGap()
  }

  async function listen(channel: string, listener: Listener): Promise<() => Promise<void>> {
    const listeners = channels.get(channel) ?? new Set()
    channels.set(channel, listeners.add(listener))
    try {
      // A connection under way may or may not have seen our channel; LISTEN twice is the same as once.
      current ??= connect()
      const ear = await current
      await ear.ask(`listen ${ear.client.escapeIdentifier(channel)}`)
    } catch (error) {
      listeners.delete(listener)
      if (listeners.size === 0) channels.delete(channel)
      if (channels.size === 0) current = undefined
      throw error instanceof Failure ? error : new Failure('database_unavailable', { cause: error })
    }
    return async () => {
      listeners.delete(listener)
      if (listeners.size > 0 || channels.get(channel) !== listeners) return
      channels.delete(channel)
      // When it fails, or there is none just now: the next connection does not ask for this channel.
      await listening?.ask(`unlisten ${listening.client.escapeIdentifier(channel)}`).catch(() => {})
    }
  }

  return {
    listen,
    async close() {
      closing.abort()
      const ear = await current?.catch(() => undefined)
      await ear?.client.end().catch(() => {})
    },
  }
}
