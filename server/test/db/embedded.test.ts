import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { after, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { completeLinks, copyBinaries, findBinaries } from '../../src/db/binaries.ts'
import { type Connection, type EmbeddedOptions, startEmbedded } from '../../src/db/embedded.ts'
import { lockDataDir } from '../../src/db/lock.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from './until.ts'

const root = process.getuid?.() === 0
const base = await mkdtemp(join(tmpdir(), 'fairlead-embedded-'))
after(() => rm(base, { recursive: true, force: true }))

/** One cluster made once (1 s); the tests that need a cluster with a past take a copy of it. */
const pristine = join(base, 'pristine')
await (await start(pristine)).stop()

interface Held {
  pid: number
  /** Resolves with the rest of the first line that begins with this word. */
  said(word: string): Promise<string>
  kill(signal?: NodeJS.Signals): Promise<void>
}

/** Another process with the folder; see hold.ts. */
function hold(t: TestContext, ...args: string[]): Held {
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn(
    process.execPath,
    [join(import.meta.dirname, 'hold.ts'), ...args],
    { stdio: ['pipe', 'pipe', 'inherit'], detached: true },
  )
  const lines: string[] = []
  const reader = createInterface(child.stdout).on('line', line => lines.push(line))
  const ended = once(child, 'exit')
  const kill = async (signal: NodeJS.Signals = 'SIGKILL') => {
    child.kill(signal)
    await ended
    reader.close()
  }
  t.after(() => kill())
  return {
    pid: child.pid ?? 0,
    kill,
    async said(word) {
      const found = () => lines.find(line => line.startsWith(`${word} `) || line === word)
      await until(() => found() !== undefined || child.exitCode !== null)
      return found()?.slice(word.length + 1) ?? assert.fail(`ended without saying ${word}: ${lines}`)
    },
  }
}

async function start(dataDir: string, options: Partial<EmbeddedOptions> = {}) {
  const log: string[] = []
  const note = (fields: object, message: string) => void log.push(`${message} ${JSON.stringify(fields)}`)
  const embedded = await startEmbedded({ dataDir, log: { info: note, warn: note, error: note }, ...options })
  return { ...embedded, log }
}

async function copyOf(name: string): Promise<string> {
  const dataDir = join(base, name)
  await mkdir(dataDir, { mode: 0o700 })
  await cp(join(pristine, 'postgres'), join(dataDir, 'postgres'), { recursive: true })
  return dataDir
}

async function ask(connection: Connection, statement = sql`select 1 as n`): Promise<object[]> {
  const { db, close } = await openDb({ connection })
  return db.query(statement).finally(close)
}

async function postmasterOf(dataDir: string): Promise<number> {
  return Number((await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])
}

/** A zombie, which nobody has reaped yet, is dead. */
function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !existsSync('/proc/self/stat') || !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}

test('a data folder has one server: a second is told who and where, a dead one holds nothing', async t => {
  const dataDir = join(base, 'locked')
  const first = hold(t, 'lock', dataDir)
  await first.said('ready')
  await assert.rejects(lockDataDir(dataDir), error => {
    assert(error instanceof Error)
    return error.message.includes(`process ${first.pid}`) && error.message.includes(dataDir)
  })
  await first.kill()
  const lock = await lockDataDir(dataDir)
  const second = hold(t, 'lock', dataDir)
  assert.match(await second.said('refused'), new RegExp(`process ${process.pid}\\b`))
  await lock.release()
  await lock.release()
  await (await lockDataDir(dataDir)).release()
})

test('of servers that start at once exactly one gets the folder', async t => {
  const dataDir = join(base, 'contested')
  const all = Array.from({ length: 4 }, () => hold(t, 'lock', dataDir))
  const outcomes = await Promise.all(
    all.map(one => Promise.race([one.said('ready').then(() => 'ready'), one.said('refused').then(() => 'refused')])),
  )
  assert.deepEqual(outcomes.sort(), ['ready', 'refused', 'refused', 'refused'])
})

test('the folder is private, nothing listens on a port, and stop leaves nothing running', async () => {
  const dataDir = await copyOf('plain')
  const { connection, stop } = await start(dataDir)
  assert.equal((await stat(connection.host)).mode & 0o777, 0o700)
  assert.deepEqual(
    await ask(
      connection,
      sql`
      select current_setting('listen_addresses') as listens, current_setting('fsync') as fsync,
        current_setting('synchronous_commit') as commits, current_setting('server_encoding') as encoding`,
    ),
    [{ listens: '', fsync: 'on', commits: 'on', encoding: 'UTF8' }],
  )
  const postmaster = await postmasterOf(dataDir)
  assert(alive(postmaster))
  await Promise.all([stop(), stop()])
  assert(!alive(postmaster))
  await (await lockDataDir(dataDir)).release()
})

test('after kill -9 of the server the next one starts by itself and has what was committed', async t => {
  const dataDir = await copyOf('killed')
  for (let round = 1; round <= 3; round++) {
    const server = hold(t, 'start', dataDir)
    await server.said('ready')
    const connection: Connection = {
      host: join(dataDir, 'socket'),
      port: 5432,
      user: 'fairlead',
      database: 'postgres',
      ssl: false,
    }
    await ask(connection, sql`create table if not exists kept (round int)`)
    await ask(connection, sql`insert into kept values (${round})`)
    await server.kill()
    const next = await start(dataDir)
    assert.deepEqual(await ask(next.connection, sql`select count(*) as n from kept`), [{ n: round }])
    await next.stop()
  }
})

test('a PostgreSQL that outlived its server is replaced', async t => {
  const dataDir = await copyOf('orphan')
  // Without setpriv nothing tells PostgreSQL that its server died.
  const tools = join(base, 'tools')
  await mkdir(tools)
  if (root) await symlink('/usr/bin/unshare', join(tools, 'unshare'))
  const server = hold(t, 'start', dataDir, tools)
  await server.said('ready')
  const orphan = await postmasterOf(dataDir)
  await server.kill()
  assert(alive(orphan))

  const next = await start(dataDir)
  assert(!alive(orphan))
  assert.deepEqual(await ask(next.connection), [{ n: 1 }])
  assert.match(next.log.join(), /left by a killed server/)
  await next.stop()
})

test('the death of the server stops PostgreSQL', { skip: !existsSync('/usr/bin/setpriv') }, async t => {
  const dataDir = await copyOf('pdeathsig')
  const server = hold(t, 'start', dataDir)
  await server.said('ready')
  const postmaster = await postmasterOf(dataDir)
  await server.kill()
  await until(() => !alive(postmaster))
})

test('a signal to the process group of the server leaves PostgreSQL running', async t => {
  const dataDir = await copyOf('group')
  const server = hold(t, 'start', dataDir)
  await server.said('ready')
  const postmaster = await postmasterOf(dataDir)
  process.kill(-server.pid, 'SIGINT')
  await server.said('interrupted')
  assert(alive(postmaster))
  await server.kill()
  await until(() => !alive(postmaster) || !existsSync('/usr/bin/setpriv'))
  await (await start(dataDir)).stop()
})

test('a PostgreSQL that is killed is started again', async () => {
  const dataDir = await copyOf('revived')
  const { connection, stop, log } = await start(dataDir)
  const first = await postmasterOf(dataDir)
  process.kill(first, 'SIGKILL')
  await until(() => log.some(line => line.includes('runs again')))
  assert.deepEqual(await ask(connection), [{ n: 1 }])
  assert.notEqual(await postmasterOf(dataDir), first)
  await stop()
})

test('a first start killed at any moment leaves a folder that starts', async t => {
  const dataDir = join(base, 'first-start')
  for (const ms of [60, 150, 300, 500, 700, 900]) {
    const server = hold(t, 'start', dataDir)
    await sleep(ms)
    await server.kill()
  }
  const { connection, stop } = await start(dataDir)
  assert.deepEqual(await ask(connection), [{ n: 1 }])
  await stop()
  assert.deepEqual(
    (await readdir(dataDir)).filter(name => name.includes('tmp')),
    [],
  )
})

for (const [what, content] of [
  ['of a program that is not PostgreSQL', `${process.pid}\n`],
  ['of a process that is gone', '2147483646\n'],
  ['emptied by a power cut', ''],
] as const) {
  test(`a pid file ${what} does not stand in the way`, async () => {
    const dataDir = await copyOf(`stale-${content.trim() || 'empty'}`)
    const rest = `${join(dataDir, 'postgres')}\n1700000000\n5432\n${join(dataDir, 'socket')}\n\n  0  0\nready   \n`
    await writeFile(join(dataDir, 'postgres', 'postmaster.pid'), content && content + rest)
    await (await start(dataDir)).stop()
  })
}

test('a folder whose path is too long for a socket has its socket elsewhere', async () => {
  const dataDir = await copyOf('long-'.repeat(20))
  const { connection, stop } = await start(dataDir)
  assert(!connection.host.startsWith(dataDir))
  assert.equal((await stat(connection.host)).mode & 0o777, 0o700)
  assert.deepEqual(await ask(connection), [{ n: 1 }])
  await stop()
  assert(!existsSync(connection.host))
})

test('a setting PostgreSQL refuses is reported in its words', async () => {
  const dataDir = await copyOf('refused')
  await assert.rejects(start(dataDir, { settings: { shared_buffers: 'much' } }), /shared_buffers/)
  await (await start(dataDir)).stop()
})

test('root without user namespaces: PostgreSQL runs as nobody', { skip: !root }, async () => {
  const dataDir = join(base, 'nobody')
  const open = await mkdtemp(join(tmpdir(), 'fairlead-tools-'))
  await chmod(base, 0o711)
  for (let round = 0; round < 2; round++) {
    const { connection, stop } = await start(dataDir, { toolFolders: [open] })
    assert.equal((await stat(join(dataDir, 'postgres'))).uid, 65534)
    assert.deepEqual(await ask(connection), [{ n: 1 }])
    await stop()
  }
  // A folder root made before in a user namespace changes hands.
  const other = await copyOf('handed-over')
  await (await start(other, { toolFolders: [open] })).stop()
  await rm(open, { recursive: true })
})

const debian = '/usr/lib/postgresql/15/bin'
test('PostgreSQL 15 as Debian installs it', { skip: !existsSync(debian) }, async () => {
  const dataDir = join(base, 'debian')
  const { connection, stop } = await start(dataDir, { binaries: debian })
  assert.deepEqual(await ask(connection), [{ n: 1 }])
  await stop()
  await assert.rejects(
    start(pristine, { binaries: debian }),
    /No PostgreSQL that runs here .* version 15, but .* version 18/,
  )
})

test('missing library links are made, also by two at once; a copy has them too', async t => {
  const native = (await findBinaries())[0]?.movable
  if (!native) return t.skip('the npm package is not installed')
  const copy = join(base, 'package', 'native')
  await cp(native, copy, { recursive: true, filter: path => !path.endsWith('/share') })
  const isLink = async () =>
    (await readdir(join(copy, 'lib'), { withFileTypes: true })).filter(entry => entry.isSymbolicLink())
  for (const link of await isLink()) await rm(join(copy, 'lib', link.name))
  assert.deepEqual(await Promise.all([completeLinks(copy), completeLinks(copy)]), [true, true])
  assert((await isLink()).length > 10)
  const bins = await Promise.all([copyBinaries(copy, base), copyBinaries(copy, base)])
  assert.equal(bins[0], bins[1])
  assert(existsSync(join(dirname(bins[0] ?? ''), 'lib', 'libpq.so.5')))
})
