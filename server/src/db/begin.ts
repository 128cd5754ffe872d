/** The data folder, and the embedded database in it unless another is configured: begun before what uses them is read. */
import { mkdir } from 'node:fs/promises'
import type { Config } from '../config.ts'
import type { Log } from '../lib/log.ts'
import { startEmbedded } from './embedded.ts'
import type { Address } from './open.ts'

export interface Begun {
  /** `stop` is for when every connection is closed, and leaves alone a database that is somebody else's. */
  database: Promise<{ address: Address; stop(): Promise<void> }>
  /**
   * Which of PostgreSQL's own programs is at work, unless it is somebody else's, or failed: what keeps this process busy from here on keeps
   * nobody waiting.
   */
  underWay: Promise<'initdb' | 'postgres' | undefined>
}

export function beginDatabase({ dataDir, databaseUrl }: Pick<Config, 'dataDir' | 'databaseUrl'>, log: Log): Begun {
  const underWay = Promise.withResolvers<'initdb' | 'postgres' | undefined>()
  const start = async () => {
    await mkdir(dataDir, { recursive: true, mode: 0o700 })
    if (databaseUrl) return { address: { url: databaseUrl.reveal() }, stop: async () => {} }
    const { connection, stop } = await startEmbedded({ dataDir, log, onUnderWay: underWay.resolve })
    return { address: { connection }, stop }
  }
  const database = start()
  // Whoever needs it hears of its failure.
  database.catch(() => {}).finally(() => underWay.resolve(undefined))
  return { database, underWay: underWay.promise }
}
