/**
 * The lock of a data folder: one server process at a time. It is held by the process that owns the folder, not by
 * PostgreSQL, so that a PostgreSQL left behind by a killed server can be told from one that a living server uses.
 *
 * A pid in a file cannot be made safe: pids are reused, a container sees other pids than its host, and taking over a
 * dead holder's file is a race. So the kernel holds the lock: an exclusive SQLite transaction on an empty file, which is
 * a POSIX record lock on every system Node runs on. It ends with the process however that dies, and two servers
 * starting at once cannot both have it. Node brings SQLite (4 ms to load, 0.3 ms to lock); nothing is ever written there.
 * The pid beside it only makes the refusal readable. Nothing else in this process may open `server.lock`: closing any
 * handle of a file gives up a POSIX lock on it, so whatever copies a data folder leaves that file out.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface DataDirLock {
  release(): Promise<void>
}

/** Another process has the folder. */
export class DataDirInUse extends Error {}

/** Throws a plain sentence naming the holder when another process has the folder. */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const pidFile = join(dataDir, 'server.pid')
  // Loaded here: a server with DATABASE_URL has no data folder to lock and should not pay for it.
  const { DatabaseSync } = await import('node:sqlite')
  let file: InstanceType<typeof DatabaseSync> | undefined
  try {
    file = new DatabaseSync(join(dataDir, 'server.lock'), { timeout: 0 })
    file.exec('begin exclusive')
    await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 })
  } catch (error) {
    file?.close()
    if (!isBusy(error)) {
      throw new Error(`The data folder ${dataDir} cannot be used by the user this server runs as.`, { cause: error })
    }
    const holder = await holderOf(pidFile)
    throw new DataDirInUse(
      `Another Fairlead server${holder ? ` (process ${holder})` : ''} is running on the data folder ${dataDir}. ` +
        'Stop it first, or give this one its own folder with FAIRLEAD_DATA_DIR.',
    )
  }
  const locked = file
  held.add(locked)

  return {
    async release() {
      if (!held.delete(locked)) return
      // The pid goes first: after the unlock it may already be the next holder's.
      await rm(pidFile, { force: true })
      locked.close()
    },
  }
}

/** Keeps the handles from the garbage collector, which would close them and with that give up the lock. */
const held = new Set<object>()

function isBusy(error: unknown): boolean {
  const SQLITE_BUSY = 5
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY
}

/** The holder writes its pid a moment after it has the lock: look again for 200 ms before saying nothing. */
async function holderOf(pidFile: string): Promise<string | undefined> {
  for (let attempt = 0; attempt < 10; attempt++) {
    const text = await readFile(pidFile, 'utf8').catch(() => '')
    if (isAlive(Number(text))) return text.trim()
    await sleep(20)
  }
  return undefined
}

function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
