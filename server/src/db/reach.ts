/** The configured database for a program beside the server: an external one, the embedded one of a running server, or one started for it. */
import { Failure } from '../errors.ts'
import type { Secret } from '../lib/secret.ts'
import { isInitialised, type Log, runningIn, startEmbedded } from './embedded.ts'
import { DataDirInUse } from './lock.ts'
import type { Address } from './open.ts'

interface Where {
  databaseUrl: Secret | undefined
  databaseDirectUrl: Secret | undefined
  dataDir: string
}

export interface Reached {
  /** Bypasses a pooler: a snapshot and a lock last longer than a transaction. */
  direct: Address
  /** Nobody else can be using it: the data folder is ours until `close`. */
  alone: boolean
  close(): Promise<void>
}

/** `make`: an embedded database that is not there yet is made; else it is a mistake to name it. */
export async function reachDatabase(where: Where, log: Log, { make }: { make: boolean }): Promise<Reached> {
  const url = where.databaseDirectUrl ?? where.databaseUrl
  if (url) return { direct: { url: url.reveal() }, alone: false, close: async () => {} }
  if (!make && !(await isInitialised(where.dataDir)))
    throw new Failure('database_unavailable', {
      message: `There is no database in ${where.dataDir}. Set FAIRLEAD_DATA_DIR to the server's data folder, or DATABASE_URL.`,
    })
  try {
    const { connection, stop } = await startEmbedded({ dataDir: where.dataDir, log })
    return { direct: { connection }, alone: true, close: stop }
  } catch (error) {
    if (make || !(error instanceof DataDirInUse)) throw error
    return { direct: { connection: await runningIn(where.dataDir) }, alone: false, close: async () => {} }
  }
}
