/**
 * The embedded PostgreSQL: a real server in the data folder, started and stopped by this process, reachable only through
 * a Unix socket in a folder that nobody else may enter. Owns `FAIRLEAD_DATA_DIR/postgres` (the cluster),
 * `postgres.log`, `socket/` and, through lock.ts, the right to any of it. What it hands over is an address; open.ts
 * connects to it as to any other PostgreSQL.
 *
 * It must start by itself whatever happened before: after kill -9 of the server, of PostgreSQL, of both, or of the
 * first start halfway. Each oddity below was met on a real machine. Measured on 2 cores (Debian 12, ext4): first start
 * 1.0–1.2 s, of which initdb 0.85 s; reopen 40–70 ms; stop 10 ms; idle 17 MB (PSS of its five processes).
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, closeSync, constants, openSync } from 'node:fs'
import {
  chmod,
  chown,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Binaries, completeLinks, copyBinaries, findBinaries } from './binaries.ts'
import { lockDataDir } from './lock.ts'

/** The part of a logger that is used here; pino's fits. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface EmbeddedOptions {
  dataDir: string
  log: Log
  /** Laid over the settings below; the tests turn fsync off. */
  settings?: Record<string, string>
  /** Called once either runs in a process of its own. */
  onUnderWay?: (what: 'initdb' | 'postgres') => void
  /** Use the programs in this folder and no others. */
  binaries?: string
  /** Where `unshare` and `setpriv` are looked for. */
  toolFolders?: string[]
}

/** What a pg client needs to connect. Everything is said, so that no PG… variable of the environment fills a gap. */
export interface Connection {
  host: string
  port: number
  user: string
  database: string
  ssl: false
}

export interface Embedded {
  connection: Connection
  /** Resolves when PostgreSQL is gone and the folder is free. Close every connection first. */
  stop(): Promise<void>
}

/** Only the name of a socket file: nothing listens on a port. */
const PORT = 5432
const USER = 'fairlead'
const NOBODY = 65534

/** A Unix socket's path has 108 bytes with the final zero (104 on macOS). */
const SOCKET_PATH_MAX = process.platform === 'darwin' ? 103 : 107

/**
 * PostgreSQL gets no variable of ours: the environment may hold the encryption key, and PG… variables would change
 * what it does. A set TZ also spares initdb its search for the machine's zone.
 */
const ENVIRONMENT = { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' }

const TOOL_FOLDERS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin', '/run/current-system/sw/bin']

/** Given on the command line at every start, so an old folder runs with this version's settings. */
function settingsFor(major: number, socketDir: string): Record<string, string> {
  return {
    listen_addresses: '',
    port: String(PORT),
    // A list: the quotes keep a comma or a space of the path from splitting it.
    unix_socket_directories: `"${socketDir.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    cluster_name: 'fairlead',
    max_connections: '50',
    // Idle memory: small buffers, and no process that one server on one machine has no use for.
    shared_buffers: '32MB',
    max_wal_size: '256MB',
    min_wal_size: '32MB',
    max_worker_processes: '2',
    max_parallel_workers_per_gather: '0',
    max_logical_replication_workers: '0',
    max_wal_senders: '0',
    wal_level: 'minimal',
    ...(major >= 18 ? { io_method: 'sync' } : {}),
    jit: 'off',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_checkpoints: 'off',
    // Terse leaves out DETAIL, which quotes the values of the row that failed.
    log_error_verbosity: 'terse',
    // Said although they are the defaults: a committed row survives a power cut.
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
  }
}

/** Starts PostgreSQL in the data folder, making it on the first start. Throws plain sentences. */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  if (process.platform === 'win32') {
    // Node has no Unix sockets there, and an open port would need a password kept somewhere.
    throw new Error('The embedded database does not run on Windows. Set DATABASE_URL, or run Fairlead under WSL.')
  }
  const lock = await lockDataDir(options.dataDir)
  try {
    const plan = await makePlan(options)
    await removeUnfinished(plan.dataDir)
    if (!(await exists(join(plan.cluster, 'PG_VERSION')))) await initialise(plan)
    return await supervise(plan, lock.release)
  } catch (error) {
    await lock.release()
    throw error
  }
}

/** Everything decided before anything is started. */
interface Plan {
  log: Log
  dataDir: string
  cluster: string
  logFile: string
  socketDir: string
  /** Programs that set up the process and then become PostgreSQL. */
  become: string[]
  onUnderWay: (what: 'initdb' | 'postgres') => void
  setpriv: string | undefined
  /** Set when root starts PostgreSQL as another user. */
  uid: number | undefined
  gid: number | undefined
  bin: string
  major: number
  settings: Record<string, string>
}

async function makePlan(options: EmbeddedOptions): Promise<Plan> {
  const dataDir = await realpath(options.dataDir)
  const cluster = join(dataDir, 'postgres')
  const tools = options.toolFolders ?? TOOL_FOLDERS
  const account = await chooseAccount(cluster, findTool('unshare', tools))
  // PostgreSQL as another user must pass through the folder; what lies in it stays as private as it is.
  if (account.uid !== undefined) await chmod(dataDir, ((await stat(dataDir)).mode & 0o777) | 0o011)

  const { bin, major } = await chooseBinaries(options, dataDir, cluster, account)
  const socketDir = await makeSocketDir(dataDir, account)
  return {
    log: options.log,
    dataDir,
    cluster,
    logFile: join(dataDir, 'postgres.log'),
    socketDir,
    ...account,
    onUnderWay: options.onUnderWay ?? (() => {}),
    setpriv: findTool('setpriv', tools),
    bin,
    major,
    settings: { ...settingsFor(major, socketDir), ...options.settings },
  }
}

type Account = Pick<Plan, 'become' | 'uid' | 'gid'>

/**
 * PostgreSQL refuses to run as root. A user namespace in which root is called "nobody" satisfies it and leaves the files
 * root's, so a folder inside root's home works too. Where containers forbid that, it runs as the real nobody.
 * A folder that already belongs to another user is served as that user.
 */
async function chooseAccount(cluster: string, unshare: string | undefined): Promise<Account> {
  const me = process.getuid?.()
  const owner = await stat(cluster).catch(() => undefined)
  if (me !== 0) {
    if (owner && owner.uid !== me) {
      throw new Error(
        `The database folder ${cluster} belongs to user ${owner.uid}, but this server runs as user ${me}. ` +
          'Start it as that user, or give the folder to this one.',
      )
    }
    return { become: [], uid: undefined, gid: undefined }
  }
  if (owner && owner.uid !== 0) return { become: [], uid: owner.uid, gid: owner.gid }

  if (unshare) {
    const become = [unshare, '--user', `--map-user=${NOBODY}`, `--map-group=${NOBODY}`]
    const allowed = await run([...become, '/bin/true'])
    if (allowed.code === 0) return { become, uid: undefined, gid: undefined }
  }
  if (owner) await giveAway(cluster, NOBODY)
  return { become: [], uid: NOBODY, gid: NOBODY }
}

async function chooseBinaries(
  options: EmbeddedOptions,
  dataDir: string,
  cluster: string,
  account: Account,
): Promise<{ bin: string; major: number }> {
  const made = Number.parseInt(await readFile(join(cluster, 'PG_VERSION'), 'utf8').catch(() => ''), 10)
  const found = options.binaries ? [{ folder: options.binaries, movable: undefined }] : await findBinaries()
  const reasons: string[] = []
  for (const candidate of found) {
    for (const bin of await placesOf(candidate, dataDir)) {
      const version = await run([...account.become, join(await bin(), 'postgres'), '--version'], account)
      const major = Number(/\(PostgreSQL\) (\d+)/.exec(version.output)?.[1])
      if (version.code !== 0 || !major) {
        reasons.push(version.output.trim())
      } else if (made && made !== major) {
        reasons.push(`${await bin()} is version ${major}, but the folder ${cluster} was made by version ${made}.`)
        break
      } else {
        return { bin: await bin(), major }
      }
    }
  }
  throw new Error(
    `No PostgreSQL that runs here was found for ${process.platform}-${process.arch}. Install the optional dependencies, ` +
      `or set DATABASE_URL. ${reasons.join(' ')}`.trimEnd(),
  )
}

/** Where it lies, and as a second try a copy in the data folder; the copy is made only when it is asked for. */
async function placesOf(candidate: Binaries, dataDir: string): Promise<(() => Promise<string>)[]> {
  const native = candidate.movable
  if (!native) return [async () => candidate.folder]
  const copy = () => copyBinaries(native, dataDir)
  return (await completeLinks(native)) ? [async () => candidate.folder, copy] : [copy]
}

function socketDirOf(dataDir: string): string {
  const hash = createHash('sha256').update(dataDir).digest('hex').slice(0, 16)
  const places = [join(dataDir, 'socket'), join(tmpdir(), `fairlead-${hash}`), `/tmp/fairlead-${hash}`]
  const folder = places.find(place => Buffer.byteLength(join(place, `.s.PGSQL.${PORT}`)) <= SOCKET_PATH_MAX)
  if (!folder) throw new Error(`The data folder ${dataDir} has too long a path for a Unix socket.`)
  return folder
}

const connectionIn = (socketDir: string): Connection => ({
  host: socketDir,
  port: PORT,
  user: USER,
  database: 'postgres',
  ssl: false,
})

/** Where the PostgreSQL of a data folder listens while another process has it running. */
export const runningIn = async (dataDir: string): Promise<Connection> =>
  connectionIn(socketDirOf(await realpath(dataDir)))

/** Whether there is a database in the folder. */
export const isInitialised = (dataDir: string): Promise<boolean> => exists(join(dataDir, 'postgres', 'PG_VERSION'))

async function makeSocketDir(dataDir: string, account: Account): Promise<string> {
  const folder = socketDirOf(dataDir)
  await mkdir(folder, { mode: 0o700 }).catch(error => {
    if (error.code !== 'EEXIST') throw error
  })
  // The folder is the whole access control, and /tmp is everybody's: it must be a folder, ours, and closed to others.
  const owner = account.uid ?? process.getuid?.()
  if (account.uid !== undefined && (await lstat(folder)).uid === process.getuid?.()) {
    await chown(folder, account.uid, account.gid ?? account.uid)
  }
  const found = await lstat(folder)
  if (!found.isDirectory() || found.uid !== owner) {
    throw new Error(`The folder ${folder} for the database's socket belongs to somebody else. Remove it.`)
  }
  if (found.mode & 0o077) await chmod(folder, 0o700)
  return folder
}

/** initdb into a folder of another name, renamed when complete: a first start killed halfway leaves nothing half-made. */
async function initialise(plan: Plan): Promise<void> {
  const unfinished = join(plan.dataDir, `postgres.tmp-${process.pid}-${Date.now()}`)
  await mkdir(unfinished, { mode: 0o700 })
  if (plan.uid !== undefined) await chown(unfinished, plan.uid, plan.gid ?? plan.uid)
  // C.UTF-8 sorts by code point on every machine, so an index never changes meaning with a libc or ICU update.
  const locale = plan.major >= 17 ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8'] : []
  // A thousand files: one syncfs(2) instead of an fsync for each, which took 0.1 s of an idle disk and 0.5 to 2 of a busy one.
  const sync = plan.major >= 17 && process.platform === 'linux' ? ['--sync-method=syncfs'] : []
  const making = run(
    [
      ...plan.become,
      ...diesWithUs(plan, 'KILL'),
      join(plan.bin, 'initdb'),
      ...['-D', unfinished, '-U', USER, '--encoding=UTF8', '--locale=C', ...locale, ...sync],
      // Whoever can enter the socket's folder is us; there is no network to authenticate.
      '--auth=trust',
      '--no-instructions',
    ],
    plan,
  )
  plan.onUnderWay('initdb')
  const made = await making
  if (made.code !== 0) {
    await rm(unfinished, { recursive: true, force: true })
    const who =
      plan.uid === undefined
        ? ''
        : ` PostgreSQL cannot run as root and runs as user ${plan.uid}, who must reach the folder.`
    const said = made.output.trim().split('\n').slice(-3).join('\n')
    throw new Error(`The database could not be created in ${plan.dataDir}.${who} initdb said: ${said}`)
  }
  await rename(unfinished, plan.cluster)
  await syncFolder(plan.dataDir)
}

/** An initdb that outlived its server may still be writing: its folder has its own name and may be removed next time. */
async function removeUnfinished(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!/^postgres(ql-[^/]*)?\.tmp-/.test(name)) continue
    await rm(join(dataDir, name), { recursive: true, force: true, maxRetries: 3 }).catch(() => {})
  }
}

/** Starts PostgreSQL, starts it again should it die, and stops it when asked. */
async function supervise(plan: Plan, released: () => Promise<void>): Promise<Embedded> {
  const stopping = new AbortController()
  let postgres = await launch(plan, stopping.signal)
  let revival: Promise<void> | undefined
  let stopped: Promise<void> | undefined

  function watch(): void {
    // A server that waits for nothing else may end; its death then stops PostgreSQL (setpriv), or the next start does.
    postgres.unref()
    postgres.once('exit', (code, signal) => {
      if (stopping.signal.aborted) return
      plan.log.error({ code, signal, logFile: plan.logFile }, 'PostgreSQL ended by itself; starting it again')
      revival = revive()
    })
  }

  async function revive(): Promise<void> {
    for (let wait = 100; !stopping.signal.aborted; wait = Math.min(wait * 2, 10_000)) {
      try {
        postgres = await launch(plan, stopping.signal)
        plan.log.info({ pid: postgres.pid }, 'PostgreSQL runs again')
        return watch()
      } catch (error) {
        if (stopping.signal.aborted) return
        plan.log.error({ err: error, retryInMs: wait }, 'PostgreSQL did not start')
        await sleep(wait, undefined, { signal: stopping.signal }).catch(() => {})
      }
    }
  }

  async function stop(): Promise<void> {
    stopping.abort()
    await revival
    await endProcess(postgres)
    if (!plan.socketDir.startsWith(plan.dataDir)) await rm(plan.socketDir, { recursive: true, force: true })
    await released()
  }

  watch()
  return {
    connection: connectionIn(plan.socketDir),
    stop() {
      stopped ??= stop()
      return stopped
    },
  }
}

/** One running, ready PostgreSQL in the cluster, whatever was there before. */
async function launch(plan: Plan, stopping: AbortSignal): Promise<ChildProcess> {
  const giveUp = performance.now() + 2_000
  for (;;) {
    await clearTheWay(plan)
    const attempt = await startOnce(plan, stopping)
    if (attempt.ready) return attempt.postgres
    // What a killed PostgreSQL held goes away by itself: its backends end within a second, a zombie when it is reaped.
    const held = /lock file|shared memory block|still in use/.test(attempt.said)
    if (stopping.aborted || !held || performance.now() > giveUp) {
      throw new Error(`PostgreSQL did not start in ${plan.cluster}. It said: ${attempt.said || 'nothing'}`)
    }
    await sleep(50)
  }
}

type Attempt = { ready: true; postgres: ChildProcess } | { ready: false; said: string }

async function startOnce(plan: Plan, stopping: AbortSignal): Promise<Attempt> {
  await turnLog(plan.logFile)
  const log = openSync(plan.logFile, 'a', 0o600)
  const from = (await stat(plan.logFile)).size
  const settings = Object.entries(plan.settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const [program = '', ...args] = [
    ...plan.become,
    ...diesWithUs(plan, 'INT'),
    join(plan.bin, 'postgres'),
    ...['-D', plan.cluster, ...settings],
  ]
  const postgres = spawn(program, args, {
    // Its own process group: a Ctrl-C or a supervisor's SIGTERM to ours must not stop it before the server has drained.
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
    env: ENVIRONMENT,
    ...identity(plan),
  })
  closeSync(log)
  plan.onUnderWay('postgres')
  let failed: Error | undefined
  postgres.once('error', error => {
    failed = error
  })

  // unshare and setpriv become PostgreSQL in place, so the child's pid is the postmaster's. It writes "ready" into its pid
  // file when it takes connections: exact, and cheaper to ask than by being refused with 57P03 during recovery.
  let waited = 0
  while (!failed && postgres.exitCode === null && postgres.signalCode === null) {
    const lines = await pidFile(plan.cluster)
    if (lines[0] === String(postgres.pid) && lines[7]?.trim() === 'ready') return { ready: true, postgres }
    if (stopping.aborted) await endProcess(postgres)
    if (++waited === 300)
      plan.log.info({ logFile: plan.logFile }, 'PostgreSQL is still recovering after an unclean end')
    await sleep(10)
  }
  return { ready: false, said: failed?.message ?? (await readFrom(plan.logFile, from)) }
}

/**
 * A PostgreSQL may be left from a server that was killed. With the data folder's lock in our hand nobody uses it, so it is
 * stopped and ours started (150 ms together) rather than adopted as it is: it has usually been told to stop already
 * (setpriv) and would vanish under us, it has the settings of another version, and it would outlive us too.
 */
async function clearTheWay(plan: Plan): Promise<void> {
  const begun = performance.now()
  for (let asked = 0; ; ) {
    const file = join(plan.cluster, 'postmaster.pid')
    const lines = await pidFile(plan.cluster)
    const pid = Number(lines[0])
    if (!(pid > 0)) return rm(file, { force: true }) // empty after a power cut; PostgreSQL would refuse it
    const what = await whatIs(pid, plan.cluster)
    if (what === 'nothing') return // PostgreSQL recognises a dead pid itself
    if (what === 'something else') {
      // A zombie, or a pid reused by another program, stops PostgreSQL with "lock file already exists". Naming a pid that
      // cannot exist, instead of removing the file, keeps its check for backends that still hold the shared memory.
      return writeFile(file, ['2147483647', ...lines.slice(1)].join('\n'))
    }
    const waited = performance.now() - begun
    if (waited > 30_000)
      throw new Error(`A PostgreSQL (process ${pid}) still runs in ${plan.cluster} and does not stop.`)
    if (asked === 0 || (asked === 1 && waited > 10_000)) {
      plan.log.warn({ pid }, 'a PostgreSQL left by a killed server is still running; stopping it')
      process.kill(pid, asked++ === 0 ? 'SIGINT' : 'SIGQUIT')
    }
    await sleep(10)
  }
}

/** What a pid from the cluster's pid file stands for now. */
async function whatIs(pid: number, cluster: string): Promise<'nothing' | 'our PostgreSQL' | 'something else'> {
  if (process.platform !== 'linux') {
    const shown = await run(['/bin/ps', '-o', 'stat=,command=', '-p', String(pid)])
    if (shown.code !== 0) return 'nothing'
    return shown.output.startsWith('Z') || !shown.output.includes(cluster) ? 'something else' : 'our PostgreSQL'
  }
  const status = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined)
  if (status === undefined) return 'nothing'
  // "pid (name) state …"; the name may itself hold parentheses.
  const state = status.slice(status.lastIndexOf(')') + 2, status.lastIndexOf(')') + 3)
  if (state === 'Z' || state === 'X' || !status.includes('(postgres)')) return 'something else'
  const [cwd, command] = await Promise.all([
    readlink(`/proc/${pid}/cwd`).catch(() => ''),
    readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''),
  ])
  return cwd === cluster || command.split('\0').includes(cluster) ? 'our PostgreSQL' : 'something else'
}

/** SIGINT is PostgreSQL's fast shutdown; after 30 s SIGQUIT, which costs a recovery at the next start but no data. */
async function endProcess(postgres: ChildProcess): Promise<void> {
  if (postgres.exitCode !== null || postgres.signalCode !== null || postgres.pid === undefined) return
  const gone = new Promise(resolve => postgres.once('exit', resolve))
  postgres.ref()
  postgres.kill('SIGINT')
  const impatience = setTimeout(() => postgres.kill('SIGQUIT'), 30_000)
  await gone
  clearTimeout(impatience)
}

/** The kernel sends the signal when we die, even by kill -9; without setpriv the next start finds the orphan. */
function diesWithUs(plan: Plan, signal: 'INT' | 'KILL'): string[] {
  return plan.setpriv ? [plan.setpriv, '--pdeathsig', signal] : []
}

function identity({ uid, gid }: Pick<Plan, 'uid' | 'gid'>): { uid?: number; gid?: number } {
  return { ...(uid === undefined ? {} : { uid }), ...(gid === undefined ? {} : { gid }) }
}

/** Runs a program to its end. */
function run(
  [program = '', ...args]: string[],
  as: Pick<Plan, 'uid' | 'gid'> = { uid: undefined, gid: undefined },
): Promise<{ code: number; output: string }> {
  return new Promise(resolve => {
    execFile(program, args, { env: ENVIRONMENT, cwd: '/', ...identity(as) }, (error, stdout, stderr) => {
      const output = stdout + stderr
      resolve(error ? { code: Number(error.code) || 1, output: output || error.message } : { code: 0, output })
    })
  })
}

function findTool(name: string, folders: string[]): string | undefined {
  if (process.platform !== 'linux') return undefined
  return folders
    .map(folder => join(folder, name))
    .find(path => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

async function pidFile(cluster: string): Promise<string[]> {
  return (await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
}

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined)) !== undefined
}

async function giveAway(folder: string, user: number): Promise<void> {
  const entries = await readdir(folder, { recursive: true })
  for (const entry of ['', ...entries]) await chown(join(folder, entry), user, user)
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder)
  await handle.sync()
  await handle.close()
}

/** The log is kept small by starting a new one; one old one stays. */
async function turnLog(path: string): Promise<void> {
  const size = (await stat(path).catch(() => undefined))?.size ?? 0
  if (size > 4 * 1024 * 1024) await rename(path, `${path}.old`)
}

async function readFrom(path: string, offset: number): Promise<string> {
  const text = await readFile(path)
  return text.subarray(offset).toString().trim().slice(-2_000)
}
