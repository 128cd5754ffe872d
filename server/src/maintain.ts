/**
 * What is done beside the server, on its database: backup, restore, db move, doctor system. A program of its own, with the server's configuration; the
 * command line starts it, because that one knows the HTTP API alone and these must work while no server does. Says its result on standard
 * output and everything else on standard error. Exit codes as the command line's: 0 done, 1 refused, 2 misunderstood, 3 no database.
 */
import { mkdir } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { migrateHere, sealedColumns } from './app.ts'
import { backUp, restore } from './backup/backup.ts'
import type { Keys } from './backup/envelope.ts'
import { move } from './backup/move.ts'
import { openEverySecret } from './backup/secrets.ts'
import { type Config, ConfigError, readConfig } from './config.ts'
import { type Address, type OpenDb, openDb } from './db/open.ts'
import { reachDatabase } from './db/reach.ts'
import { examineSystem } from './doctor/system.ts'
import { Failure } from './errors.ts'
import { seconds } from './lib/time.ts'
import { parseEgressAllow } from './net/allow.ts'
import { createEgress } from './net/egress.ts'
import { readKeyFile } from './vault/key-file.ts'
import { kmsKey } from './vault/kms.ts'
import { configuredKeys } from './vault/provider.ts'
import { openRing } from './vault/ring.ts'
import { createKeyStore } from './vault/store.ts'
import { createVault } from './vault/vault.ts'

/** What the database and the launcher log is for whoever asked; progress is drawn over itself where somebody looks. */
const say = (text: string) => void process.stderr.write(`${text}\n`)
const log = {
  debug() {},
  info() {},
  warn: (_: object, text: string) => say(text),
  error: (_: object, text: string) => say(text),
}
const draw = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[2K${text}`))

/** On a terminal a bar; elsewhere a line for every tenth. */
function createBar(): (table: string, rows: number, total: number) => void {
  let said = 0
  return (table, rows, total) => {
    const part = Math.min(1, rows / Math.max(1, total))
    const filled = Math.floor(part * 24)
    draw(`[${'#'.repeat(filled)}${'.'.repeat(24 - filled)}] ${rows} of ${total} rows (${table})`)
    if (process.stderr.isTTY || Math.floor(part * 10) === said) return
    said = Math.floor(part * 10)
    say(`${said * 10} %: ${rows} of ${total} rows (${table})`)
  }
}

interface Answer {
  json: object
  text: string
  isBad?: boolean
}

async function keysOf(config: Config): Promise<Keys> {
  const kept = config.encryptionKeys.length === 0 ? await readKeyFile(config.dataDir) : undefined
  const egress = createEgress({ rules: config.egressAllow, proxies: config.egressProxies })
  return { configured: kept ? [kept] : config.encryptionKeys, kms: arn => kmsKey(egress, config.aws!, arn) }
}

async function backup(config: Config, path: string): Promise<Answer | undefined> {
  const { direct, close } = await reachDatabase(config, log, { make: false })
  try {
    const done = await backUp(direct, await keysOf(config), path, (table, rows) => draw(`${rows} rows (${table})`))
    draw('')
    const text = `${done.rows} rows of ${Object.keys(done.tables).length} tables, ${done.bytes} bytes. It opens with the encryption key of this server; keep that one apart from it.`
    if (path !== '-') return { json: done, text: `${path}: ${text}` }
    say(text)
    return undefined
  } finally {
    await close()
  }
}

async function restoreFrom(config: Config, path: string): Promise<Answer> {
  const keys = await keysOf(config)
  if (keys.configured.length === 0)
    throw new Failure('backup_key_missing', {
      message: `There is no encryption key here. Put encryption.key of the old server into ${config.dataDir}, or set FAIRLEAD_ENCRYPTION_KEY. Nothing was written.`,
    })
  await mkdir(config.dataDir, { recursive: true, mode: 0o700 })
  const { direct, close } = await reachDatabase(config, log, { make: true })
  try {
    const done = await restore(
      direct,
      keys,
      path,
      () => migrateHere(direct, log),
      (table, rows) => draw(`${rows} rows (${table})`),
    )
    const secrets = await openAll(direct, keys)
    draw('')
    return {
      json: { taken_at: done.taken_at, tables: done.tables, rows: done.rows, secrets },
      text: `${done.rows} rows of a backup of ${done.taken_at}. ${secretsSaid(secrets)} Start the server: it asks providers about tokens before it presents them again.`,
      isBad: secrets.unreadable.length > 0,
    }
  } finally {
    await close()
  }
}

/** `to`: a URL, or - to read it from standard input, where neither `ps` nor a shell's history shows its password. */
async function moveTo(config: Config, to: string): Promise<Answer> {
  const url = to === '-' ? (await text(process.stdin)).trim() : to
  if (!/^postgres(ql)?:\/\//.test(url))
    throw new ConfigError(['--to must be a PostgreSQL URL: postgresql://user:password@host:5432/database.'])
  const target = { url }
  const keys = await keysOf(config)
  const source = await reachDatabase(config, log, { make: false })
  const bar = createBar()
  try {
    let secrets = 0
    const moved = await move(
      { source, target },
      () => migrateHere(target, log),
      async () => {
        const { opened, unreadable } = await openAll(target, keys)
        if (unreadable.length > 0)
          throw new Failure('sealed_value_unreadable', {
            message: `${unreadable.length} sealed values do not open with this encryption key, e.g. ${unreadable[0]}. The source is as it was.`,
          })
        secrets = opened
      },
      bar,
    )
    draw('')
    const counts = `${moved.rows} rows of ${Object.keys(moved.tables).length} tables are the same on both sides, ${moved.copied} of them copied now. Each of ${secrets} secrets opens.`
    const isFinished = moved.servers === 0
    const next = isFinished
      ? 'Finished: start the servers with DATABASE_URL set to the new database and the same encryption key, never again with the old one.'
      : `${moved.servers === 1 ? 'A server is' : `${moved.servers} servers are`} still writing to the source, so this is a first copy. Stop every server and run the same command again: it brings what changed.`
    return { json: { ...moved, secrets, finished: isFinished }, text: `${counts}\n${next}` }
  } finally {
    await source.close()
  }
}

async function openAll(direct: Address, keys: Keys) {
  const { db, close } = await openDb(direct)
  try {
    const store = createKeyStore(db)
    const vault = createVault(await openRing(store, configuredKeys(keys.configured, keys.kms)))
    return await openEverySecret({ keys: store, vault, columns: sealedColumns(db) }, opened =>
      draw(`${opened} secrets opened`),
    )
  } finally {
    await close()
  }
}

const secretsSaid = ({ opened, unreadable }: { opened: number; unreadable: string[] }): string =>
  unreadable.length === 0
    ? `Each of ${opened} secrets opens.`
    : `${opened} secrets open, ${unreadable.length} do not, as they did not before: ${unreadable.slice(0, 5).join(', ')}.`

async function examine(config: Config): Promise<Answer> {
  const egress = createEgress({
    // Its own public address, which may well be a private one.
    rules: parseEgressAllow(new URL(config.url).host).rules,
    proxies: [],
  })
  const closers: (() => Promise<unknown>)[] = [() => egress.close()]
  try {
    let database: OpenDb | undefined
    let unreachable = ''
    try {
      const { direct, close } = await reachDatabase(config, log, { make: false })
      closers.push(close)
      // As the server does it: statements through DATABASE_URL, LISTEN past a pooler.
      const address = config.databaseUrl ? { url: config.databaseUrl.reveal() } : direct
      const directUrl = config.databaseDirectUrl?.reveal()
      database = await openDb({ ...address, directUrl, startTimeoutMs: seconds(5) })
      closers.push(database.close)
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : ''
      unreachable = `${error instanceof Error ? error.message : String(error)}${cause}`
    }
    const findings = await examineSystem({
      config,
      egress,
      database,
      unreachable,
      now: Date.now,
      async openKeys() {
        const { configured, kms } = await keysOf(config)
        if (configured.length === 0) throw new Error(`There is no encryption key, and none in ${config.dataDir}.`)
        // Opening a ring wraps its keys anew where that is due; an examination changes nothing.
        const store = { ...createKeyStore(database!.db), rewrap: async () => {} }
        await openRing(store, configuredKeys(configured, kms))
        return { keys: (await store.list()).length }
      },
    })
    const text = findings
      .map(({ severity, code, title, detail, fix }) =>
        [`${severity}  ${title} (${code})`, detail, fix].filter(Boolean).join('\n  '),
      )
      .join('\n\n')
    return { json: findings, text, isBad: findings.some(({ severity }) => severity === 'error') }
  } finally {
    for (const close of closers.reverse()) await close().catch(() => {})
  }
}

const commands: Record<string, (config: Config, args: string[]) => Promise<Answer | undefined>> = {
  backup: (config, [path = '-']) => backup(config, path),
  restore: (config, [path = '']) => restoreFrom(config, path),
  move: (config, [to = '']) => moveTo(config, to),
  doctor: examine,
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options: { json: { type: 'boolean' } }, allowPositionals: true })
  const [name = '', ...args] = positionals
  const command = commands[name]
  if (!command) throw new ConfigError([`"${name}" is not one of ${Object.keys(commands).join(', ')}`])
  const answer = await command(readConfig(process.env), args)
  if (!answer) return
  process.stdout.write(`${values.json ? JSON.stringify(answer.json, null, 2) : answer.text}\n`)
  if (answer.isBad) process.exitCode = 1
}

main().catch((error: unknown) => {
  draw('')
  process.exitCode =
    error instanceof ConfigError ? 2 : error instanceof Failure && error.code === 'database_unavailable' ? 3 : 1
  if (error instanceof Failure) say(`${error.message} (${error.code})`)
  else say(error instanceof Error ? error.message : String(error))
})
