import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type App, startApp } from '../../src/app.ts'
import { type Config, readConfig } from '../../src/config.ts'
import type { TestDatabase } from '../support/database.ts'

type Test = { after(work: () => Promise<void>): void }

const quiet = { debug() {}, info() {}, warn() {}, error() {} }

/** A server on a database that exists, with nothing pinned unless `env` does. */
export async function serverOn(
  t: Test,
  database: TestDatabase,
  env: Record<string, string> = {},
  change: (config: Config) => Config = config => config,
): Promise<App> {
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-account-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const config = readConfig({ PORT: '0', FAIRLEAD_DATA_DIR: dataDir, DATABASE_URL: database.url, ...env })
  const app = await startApp(change(config), quiet)
  t.after(() => app.stop())
  return app
}
