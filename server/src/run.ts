import { appendFile, rm, writeFile } from 'node:fs/promises'
import { pino } from 'pino'
import { ConfigError, readConfig } from './config.ts'
import { beginDatabase } from './db/begin.ts'

/** Load balancers ask every few seconds whether a server is ready. */
const lingerMs = 5_000

/** Runs the server until SIGTERM or SIGINT. A start that fails says why in sentences and exits 1. */
export async function run(): Promise<void> {
  try {
    const config = readConfig(process.env)
    const log = pino({ level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime })
    for (const name of config.unknownVariables) log.warn({ name }, 'unknown variable; is it misspelt?')
    const begun = beginDatabase(config, log)
    // A first start's initdb takes 0.85 s, and reading our own modules about as long: both at the same time, and initdb first, because reading
    // leaves this process no time to start it.
    await begun.underWay
    const { generatedKeysFile, setupLinkFile, startApp } = await import('./app.ts')
    const app = await startApp(config, log, undefined, begun)
    for (const { environment, key } of app.generatedKeys) {
      const line = `FAIRLEAD API key for "${environment}": ${key.reveal()}`
      if (process.stdout.isTTY) process.stdout.write(`${line}   (shown once; keep it)\n`)
      else await appendFile(generatedKeysFile(config.dataDir), `${line}\n`, { mode: 0o600 })
    }
    if (app.generatedKeys.length > 0 && !process.stdout.isTTY)
      log.info({ file: generatedKeysFile(config.dataDir) }, 'API keys were generated; move them to a safe place')
    // The link is a secret until it is used; the file of an earlier start names one that is not the newest, or done with.
    await rm(setupLinkFile(config.dataDir), { force: true })
    if (app.setupLink && process.stdout.isTTY)
      process.stdout.write(`Set up the dashboard: ${app.setupLink.reveal()}   (works once)\n`)
    else if (app.setupLink) {
      await writeFile(setupLinkFile(config.dataDir), `${app.setupLink.reveal()}\n`, { mode: 0o600 })
      log.info({ file: setupLinkFile(config.dataDir) }, 'the dashboard has no operator yet; open the link in this file')
    }
    log.info({ url: app.url, port: app.port }, 'ready')

    let stopping = false
    const stop = async (signal: NodeJS.Signals) => {
      if (stopping) return
      stopping = true
      log.info({ signal }, 'stopping')
      await app.stop(lingerMs)
      log.info({}, 'stopped')
      process.exit(0)
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
  } catch (error) {
    const { CatalogueError } = await import('./provider/catalogue.ts')
    const expected = error instanceof ConfigError || error instanceof CatalogueError
    process.stderr.write(
      `${expected || !(error instanceof Error) ? String(error instanceof Error ? error.message : error) : explain(error)}\n`,
    )
    process.exit(1)
  }
}

const explain = (error: Error): string =>
  `Fairlead could not start: ${error.message}${error.cause instanceof Error ? `\n  because: ${error.cause.message}` : ''}`
