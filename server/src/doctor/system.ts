/**
 * What is wrong with an installation: configuration, clock, database, key, disk, and what answers at its public address. Run by `fairlead doctor
 * system` (maintain.ts), beside a server or without one; it changes nothing. Codes are stable; docs/doctor.md has them all.
 */
import { randomUUID } from 'node:crypto'
import { stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Finding, Severity } from '@fairlead/contract'
import type { Config } from '../config.ts'
import { migrationNames, migrationsFolder } from '../db/migrate.ts'
import type { OpenDb } from '../db/open.ts'
import { seconds } from '../lib/time.ts'
import type { Egress } from '../seams.ts'
import { appliedMigrations, type DatabaseFacts, notify, readDatabase } from './store.ts'

const found = (severity: Severity, code: string, title: string, detail: string, fix = ''): Finding => ({
  code,
  severity,
  title,
  detail,
  fix,
})

export interface System {
  config: Pick<Config, 'url' | 'host' | 'dataDir' | 'databaseUrl' | 'databaseDirectUrl' | 'trustedProxies'>
  /** Reaches the public address, whatever the policy says of it: it is our own. */
  egress: Pick<Egress, 'request'>
  /** Undefined: it could not be reached, and `unreachable` says why. */
  database: OpenDb | undefined
  unreachable: string
  /** Opens every data key with the configured keys; throws what is wrong. */
  openKeys(): Promise<{ keys: number }>
  now(): number
}

const order: Severity[] = ['error', 'warning', 'info', 'ok']

/** Worst first. */
export async function examineSystem(system: System): Promise<Finding[]> {
  const findings = [
    ...examineUrl(system.config),
    ...(await examinePublicUrl(system)),
    ...(await examineDatabase(system)),
    ...(await examineDisk(system.config)),
  ]
  return findings.toSorted((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity))
}

const isLocal = (hostname: string): boolean => /^(localhost|127\.[\d.]+|\[::1\])$|\.localhost$/.test(hostname)

export function examineUrl({ url, host, trustedProxies }: Pick<Config, 'url' | 'host' | 'trustedProxies'>): Finding[] {
  const { protocol, hostname } = new URL(url)
  const findings: Finding[] = []
  if (protocol === 'https:')
    findings.push(found('ok', 'url_https', 'The public address is https', `FAIRLEAD_URL is ${url}.`))
  else if (isLocal(hostname))
    findings.push(
      found(
        'info',
        'url_local',
        'The public address is this machine',
        `FAIRLEAD_URL is ${url}: good for trying, and nobody else can sign in.`,
        'Set FAIRLEAD_URL to the https address people use.',
      ),
    )
  else
    findings.push(
      found(
        'error',
        'url_not_https',
        'The public address is plain http',
        `FAIRLEAD_URL is ${url}. Providers refuse such callbacks, and browsers refuse the cookies that bind a sign-in.`,
        'Put a TLS proxy in front and set FAIRLEAD_URL to its https address.',
      ),
    )
  if (protocol === 'https:' && trustedProxies.length === 0)
    findings.push(
      found(
        'warning',
        'proxy_not_trusted',
        'The TLS proxy is not trusted',
        'Something in front of this server ends TLS, and FAIRLEAD_TRUSTED_PROXIES is empty: every caller has the address of the proxy, in limits and in the audit trail.',
        'Set FAIRLEAD_TRUSTED_PROXIES to the CIDRs of the proxy.',
      ),
    )
  if (protocol === 'http:' && !isLocal(host))
    findings.push(
      found(
        'warning',
        'listens_in_the_open',
        'Plain http on a public interface',
        `HOST is ${host}, and FAIRLEAD_URL is not https: keys and tokens pass the network as they are.`,
        'Set HOST to 127.0.0.1, or to an interface that only the TLS proxy reaches.',
      ),
    )
  return findings
}

/** Further apart, one-time codes and signed tokens begin to fail; a minute is what providers forgive at most. */
const clockWarns = seconds(5)
const clockFails = seconds(60)

export function examineClock(code: string, source: string, apartMs: number): Finding {
  const apart = Math.abs(apartMs)
  const said = `This machine is ${(apart / 1000).toFixed(1)} s ${apartMs > 0 ? 'ahead of' : 'behind'} ${source}.`
  if (apart < clockWarns) return found('ok', code, 'The clock is right', said)
  return found(
    apart < clockFails ? 'warning' : 'error',
    code,
    'The clock is off',
    `${said} One-time codes, signed tokens and the ends of tokens are judged by it.`,
    'Have both set by NTP (chrony or systemd-timesyncd).',
  )
}

async function examinePublicUrl({ config, egress, now }: System): Promise<Finding[]> {
  const ask = (path: string) =>
    egress.request({
      method: 'GET',
      url: new URL(`${config.url}${path}`),
      deadlineMs: seconds(5),
      maxBytes: 1024 * 1024,
    })
  try {
    const answer = await ask('/health')
    const findings: Finding[] = []
    if (answer.status !== 200 || !answer.body.toString('utf8').includes('"result"'))
      return [
        found(
          'error',
          'public_url_foreign',
          'Something else answers at the public address',
          `GET ${config.url}/health answered ${answer.status}, and not as Fairlead does.`,
          'Have the proxy pass every path of this host on, unchanged, or correct FAIRLEAD_URL.',
        ),
      ]
    findings.push(
      found('ok', 'public_url_answers', 'The public address leads here', `GET ${config.url}/health answers.`),
    )
    // To the second (RFC 9110, 5.6.7), hence half of one.
    const date = Date.parse(String(answer.headers.date))
    if (Number.isFinite(date))
      findings.push(examineClock('clock_public', `what answers at ${config.url}`, now() - date - 500))
    const page = await ask('/connect/')
    if (page.headers['x-frame-options'] !== undefined)
      findings.push(
        found(
          'warning',
          'framing_blocked',
          'Connect UI cannot be shown in a frame',
          `The answer of ${config.url}/connect/ carries X-Frame-Options, which Fairlead does not send there: the proxy adds it.`,
          'Have the proxy leave X-Frame-Options out below /connect/; Content-Security-Policy says who may frame it.',
        ),
      )
    return findings
  } catch (error) {
    return [
      found(
        'warning',
        'public_url_silent',
        'Nothing answers at the public address',
        `GET ${config.url}/health: ${error instanceof Error ? error.message : String(error)}. Either no server runs, or this machine does not reach it by that name.`,
        'Start the server; check DNS, TLS and the proxy in front of it.',
      ),
    ]
  }
}

async function examineDatabase(system: System): Promise<Finding[]> {
  const { database, unreachable, config, now } = system
  if (!database)
    return [
      found(
        'error',
        'database_unreachable',
        'The database cannot be reached',
        unreachable,
        config.databaseUrl
          ? 'Check DATABASE_URL (and FAIRLEAD_DATABASE_DIRECT_URL), the network and the password.'
          : 'Check FAIRLEAD_DATA_DIR; postgres.log in it says what PostgreSQL says.',
      ),
    ]
  const { db } = database
  const from = now()
  const facts = await readDatabase(db)
  const apart = (from + now()) / 2 - facts.now
  return [
    examineClock('clock_database', 'the database', apart),
    ...judgeDatabase(facts),
    await examineListening(database, config),
    ...(facts.has_migrations
      ? judgeMigrations(await migrationNames(migrationsFolder), await appliedMigrations(db))
      : []),
    ...(facts.has_migrations ? [await examineKeys(system)] : []),
  ]
}

export function judgeDatabase(facts: DatabaseFacts): Finding[] {
  const findings: Finding[] = []
  if (facts.version_number < 150_000)
    findings.push(
      found(
        'error',
        'database_too_old',
        'PostgreSQL is too old',
        `It is ${facts.version}; Fairlead needs 15 or later.`,
        'Upgrade PostgreSQL.',
      ),
    )
  else findings.push(found('ok', 'database_version', 'PostgreSQL is new enough', `It is ${facts.version}.`))
  if (facts.read_only)
    findings.push(
      found(
        'error',
        'database_read_only',
        'The database takes no writes',
        'It is a replica, or default_transaction_read_only is on.',
        'Point DATABASE_URL at the primary.',
      ),
    )
  if (!facts.may_create)
    findings.push(
      found(
        'error',
        'database_permissions',
        'The user may not make tables',
        'Migrations make tables in the schema public, and the queue a schema of its own.',
        'GRANT CREATE ON DATABASE … and ON SCHEMA public to the user of DATABASE_URL, or make it the owner.',
      ),
    )
  if (!facts.may_read_timeline)
    findings.push(
      found(
        'error',
        'database_timeline',
        'The user may not read the timeline',
        'A failover that lost commits would go unnoticed: pg_control_checkpoint() is refused.',
        'GRANT EXECUTE ON FUNCTION pg_control_checkpoint() to the user of DATABASE_URL.',
      ),
    )
  if (facts.move_under_way)
    findings.push(
      found(
        'error',
        'move_unfinished',
        'A move into this database is not finished',
        'No server starts on it: what is here may be older than the source.',
        'Stop every server of the source and run "fairlead db move" once more.',
      ),
    )
  if (!facts.has_migrations)
    findings.push(
      found(
        'info',
        'migrations_none',
        'The database is new',
        'No server has started on it yet. The first one makes the tables.',
      ),
    )
  return findings
}

/** Behind a pooler in transaction mode LISTEN succeeds and hears nothing. */
async function examineListening({ listen, db }: OpenDb, config: System['config']): Promise<Finding> {
  const said = randomUUID()
  const channel = 'fairlead_doctor'
  const heard = Promise.withResolvers<boolean>()
  const stop = await listen(channel, { onPayload: payload => payload === said && heard.resolve(true), onGap() {} })
  await notify(db, channel, said)
  const done = new AbortController()
  const hears = await Promise.race([
    heard.promise,
    sleep(seconds(3), false, { signal: done.signal }).catch(() => false),
  ])
  done.abort()
  await stop()
  if (hears)
    return found('ok', 'database_listen', 'Changes are heard at once', 'A notification came back through LISTEN.')
  return found(
    'error',
    'database_deaf',
    'Changes are not heard',
    `LISTEN heard nothing for 3 s: ${config.databaseDirectUrl ? 'FAIRLEAD_DATABASE_DIRECT_URL' : 'DATABASE_URL'} leads to a pooler in transaction mode. Jobs, migrations and other servers' changes need a session.`,
    'Set FAIRLEAD_DATABASE_DIRECT_URL to an address that bypasses the pooler. DATABASE_URL may keep it: Fairlead sends no named statements.',
  )
}

export function judgeMigrations(known: string[], applied: string[]): Finding[] {
  const pending = known.filter(name => !applied.includes(name))
  const newer = applied.filter(name => !known.includes(name))
  if (pending.length === 0 && newer.length === 0)
    return [
      found('ok', 'migrations_done', 'The tables are of this version', `${applied.length} migrations are applied.`),
    ]
  return [
    ...(pending.length > 0
      ? [
          found(
            'warning',
            'migrations_pending',
            'The tables are of an older version',
            `Not applied yet: ${pending.join(', ')}.`,
            'Back up, then start a server of this version: it applies them. One that fails leaves nothing of itself, and the old version running.',
          ),
        ]
      : []),
    ...(newer.length > 0
      ? [
          found(
            'info',
            'migrations_newer',
            'The tables are of a newer version',
            `Unknown here: ${newer.join(', ')}. That is well while servers are being updated.`,
            'Update this one too.',
          ),
        ]
      : []),
  ]
}

async function examineKeys({ openKeys }: System): Promise<Finding> {
  try {
    const { keys } = await openKeys()
    return found('ok', 'encryption_key', 'The encryption key is the right one', `It opens each of ${keys} data keys.`)
  } catch (error) {
    return found(
      'error',
      'encryption_key_wrong',
      'The encryption key does not open this database',
      error instanceof Error ? error.message : String(error),
      'Set FAIRLEAD_ENCRYPTION_KEY to the key it was sealed with, or put encryption.key back into the data folder.',
    )
  }
}

const megabyte = 1024 ** 2

async function examineDisk({ dataDir }: Pick<Config, 'dataDir'>): Promise<Finding[]> {
  const space = await statfs(dataDir).catch(() => undefined)
  if (!space)
    return [
      found(
        'warning',
        'data_folder_missing',
        'There is no data folder',
        `${dataDir} is not there, or not ours to read. The journal of token answers goes there.`,
        'Start the server, which makes it, or set FAIRLEAD_DATA_DIR to a folder on a disk that outlives the process.',
      ),
    ]
  return [judgeSpace(dataDir, (space.bavail * space.bsize) / megabyte), ...(await examineKeyFile(dataDir))]
}

export function judgeSpace(dataDir: string, free: number): Finding {
  const said = `${Math.floor(free)} MB are free on the disk of ${dataDir}.`
  if (free >= 1024) return found('ok', 'disk_space', 'There is room on the disk', said)
  return found(
    free < 200 ? 'error' : 'warning',
    'disk_space',
    'The disk is nearly full',
    `${said} A token answer that cannot be journalled is lost if the database is away at that moment.`,
    'Make room, or move FAIRLEAD_DATA_DIR to a larger disk.',
  )
}

async function examineKeyFile(dataDir: string): Promise<Finding[]> {
  const file = await stat(join(dataDir, 'encryption.key')).catch(() => undefined)
  if (!file || (file.mode & 0o077) === 0) return []
  return [
    found(
      'error',
      'encryption_key_open',
      'Others may read the encryption key',
      `encryption.key in ${dataDir} has the mode ${(file.mode & 0o777).toString(8)}.`,
      `chmod 600 ${join(dataDir, 'encryption.key')}. Then rotate: who could read it may have.`,
    ),
  ]
}
