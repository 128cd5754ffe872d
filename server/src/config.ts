/**
 * The only reader of the environment. Everything is read once and checked whole: a start that must fail names every fault at once.
 * Each secret also has a `…_FILE` form naming a file that holds it.
 */
import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseRetention, type Retention } from './lib/retention.ts'
import { Secret } from './lib/secret.ts'
import { type EgressRules, parseEgressAllow } from './net/allow.ts'
import { parseTrustedProxies } from './net/caller-address.ts'
import { type EgressProxy, parseEgressProxies } from './net/tunnel.ts'
import { readTracing, type TracingSettings } from './trace/settings.ts'
import { type AwsCredentials, kmsArn } from './vault/kms.ts'
import { kmsPrefix } from './vault/provider.ts'

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

export interface Config {
  port: number
  host: string
  /** The public base without a trailing slash. The OAuth callback is `${url}/oauth/callback`. */
  url: string
  dataDir: string
  /** Undefined: the embedded PostgreSQL in `dataDir`. */
  databaseUrl: Secret | undefined
  databaseDirectUrl: Secret | undefined
  /**
   * Key-encryption keys: the first wraps, all unwrap. Each is base64 of 32 bytes, or `aws-kms:` and the ARN of a key. Empty: use the key
   * generated into `dataDir` (embedded database only).
   */
  encryptionKeys: Secret[]
  /** Set whenever a key-encryption key is in AWS KMS. */
  aws: AwsCredentials | undefined
  /** API keys pinned per environment; `variable` is the upper-case name taken from FAIRLEAD_SECRET_KEY_<ENV>. */
  pinnedKeys: { variable: string; key: Secret }[]
  providersPath: string | undefined
  egressAllow: EgressRules
  egressProxies: EgressProxy[]
  /** In front of this server: what they say of a request's origin is believed. */
  trustedProxies: string[]
  /** Where traces go; undefined: nowhere, and nothing is loaded for it. */
  tracing: TracingSettings | undefined
  /** Where operators may sign in instead of with a password. */
  oidc: OidcConfig | undefined
  /** For how many days what is kept. */
  retention: Retention
  logLevel: (typeof logLevels)[number]
  /** Names that look like ours and are not: most likely misspelt. Said in the log, not refused. */
  unknownVariables: string[]
}

export interface OidcConfig {
  issuer: URL
  clientId: string
  /** Undefined: a public client, which PKCE alone protects. */
  clientSecret: Secret | undefined
  /** As people call it. */
  name: string
  /** Who may come in without an invitation, by the domain of their e-mail address, and as what. */
  newcomers: { domain: string; role: 'admin' | 'viewer' }[]
}

export class ConfigError extends Error {
  readonly faults: string[]

  constructor(faults: string[]) {
    super(`Fairlead cannot start with this configuration:\n${faults.map(fault => `  - ${fault}`).join('\n')}`)
    this.name = 'ConfigError'
    this.faults = faults
  }
}

export interface Variable {
  /** As a page shows it; absent: none. */
  default?: string
  /** Markdown. */
  meaning: string
  /** Has a form ending in `_FILE`. */
  secret?: true
}

/** Every variable there is. What is not here cannot be read: the names are types. The page about the configuration is made from it. */
export const variables = {
  PORT: {
    default: '`3003`',
    meaning: 'the port it listens on',
  },
  HOST: {
    default: '`127.0.0.1`',
    meaning: 'the address it listens on; `0.0.0.0` for all',
  },
  FAIRLEAD_URL: {
    default: '`http://localhost:$PORT`',
    meaning: 'how it is reached from outside; the OAuth callback is this and `/oauth/callback`',
  },
  FAIRLEAD_DATA_DIR: {
    default: '`./.fairlead`',
    meaning:
      'the embedded database, the generated key, and the journal of token answers: keep it on a disk that outlives the process',
  },
  DATABASE_URL: {
    meaning: 'use this PostgreSQL (15 or later) instead of the embedded one',
    secret: true,
  },
  FAIRLEAD_DATABASE_DIRECT_URL: {
    default: '`DATABASE_URL`',
    meaning:
      'the same database without a transaction-mode pooler in between, for LISTEN, background jobs and migrations',
    secret: true,
  },
  FAIRLEAD_ENCRYPTION_KEY: {
    default: 'generated into the data folder; **required** with `DATABASE_URL`',
    meaning:
      'the key-encryption key, 32 bytes as base64; a comma-separated list rotates: the first wraps the data keys, all unwrap them. Each may also be a key in AWS KMS, see below',
    secret: true,
  },
  FAIRLEAD_PROVIDERS: {
    meaning: 'a file or folder of provider definitions laid over the built-in ones, key by key',
  },
  FAIRLEAD_EGRESS_ALLOW: {
    meaning:
      'hosts, `*.suffix`, addresses or CIDRs that may be reached although the egress policy refuses them; without a port, every port and plain http',
  },
  FAIRLEAD_EGRESS_PROXY: {
    meaning:
      '`http://host:port` or `socks5://host:port`, with `user:password@` if it asks: everything that leaves goes through it. `host=proxy` or `*.suffix=proxy` for some hosts alone; several, separated by commas. Names are resolved here and checked, the proxy gets the address. `GET /egress` names the addresses to put on a provider’s list',
    secret: true,
  },
  FAIRLEAD_TRUSTED_PROXIES: {
    meaning:
      'addresses and CIDRs of the proxies in front, e.g. `10.0.0.0/8`: their `X-Forwarded-For` says whose request it is, for limits by address and for the audit trail. Nobody else’s is believed',
  },
  FAIRLEAD_OIDC_ISSUER: {
    meaning:
      'operators may sign in to the dashboard at this identity provider, [see below](#signing-in-at-an-identity-provider)',
  },
  FAIRLEAD_OIDC_CLIENT_ID: {
    meaning: 'the client you registered there',
  },
  FAIRLEAD_OIDC_CLIENT_SECRET: {
    meaning: 'its secret; none: a public client',
    secret: true,
  },
  FAIRLEAD_OIDC_NAME: {
    default: 'the issuer’s host',
    meaning: 'what it is called on the button',
  },
  FAIRLEAD_OIDC_NEWCOMERS: {
    meaning:
      'domains whose people may come in without an invitation, and as what: `acme.com=viewer,ops.acme.com=admin`',
  },
  FAIRLEAD_RETENTION: {
    meaning:
      'for how many days what is kept, e.g. `activity=30,audit=400`, [see below](#what-is-kept-and-for-how-long)',
  },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    meaning:
      'where [traces](/docs/metrics#traces) go: a collector’s HTTP port, e.g. `http://collector:4318`. None: no traces',
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: {
    meaning: 'the same with its path, e.g. `http://collector:4318/v1/traces`',
  },
  OTEL_EXPORTER_OTLP_HEADERS: {
    meaning: 'headers for it: `key=value,key=value`',
    secret: true,
  },
  OTEL_EXPORTER_OTLP_PROTOCOL: {
    default: '`http/json`',
    meaning: 'traces leave as JSON over HTTP, which collectors take beside `http/protobuf`; `grpc` is refused',
  },
  OTEL_SERVICE_NAME: {
    default: '`fairlead`',
    meaning: 'what the collector calls these servers',
  },
  OTEL_RESOURCE_ATTRIBUTES: {
    meaning: 'what else it hears of them: `key=value,key=value`',
  },
  OTEL_TRACES_SAMPLER: {
    default: '`parentbased_always_on`',
    meaning: '`always_on`, `always_off` or `traceidratio`, each also after `parentbased_`',
  },
  OTEL_TRACES_SAMPLER_ARG: {
    default: '`1`',
    meaning: 'of `traceidratio`: from 0 to 1',
  },
  OTEL_TRACES_EXPORTER: {
    meaning: '`none`: no traces',
  },
  OTEL_SDK_DISABLED: {
    meaning: '`true`: no traces',
  },
  FAIRLEAD_TRACE_PROVIDERS: {
    default: '`false`',
    meaning: 'whether providers are sent a `traceparent`',
  },
  AWS_ACCESS_KEY_ID: {
    meaning: 'of whoever may use an encryption key that stays in AWS KMS, [see below](#rotating-keys)',
  },
  AWS_SECRET_ACCESS_KEY: {
    meaning: 'its secret',
    secret: true,
  },
  AWS_SESSION_TOKEN: {
    meaning: 'for temporary credentials',
    secret: true,
  },
  LOG_LEVEL: {
    default: '`info`',
    meaning: 'JSON lines on standard output: trace, debug, info, warn, error, fatal, silent',
  },
} as const satisfies Record<string, Variable>

type Name = keyof typeof variables
type SecretName = { [N in Name]: (typeof variables)[N] extends { secret: true } ? N : never }[Name]
/** Pins the API key of an environment. */
type PinnedName = `FAIRLEAD_SECRET_KEY_${string}`

const isKnown = (name: string): boolean => {
  const bare = name.replace(/_FILE$/, '')
  const variable: Variable | undefined = Object.hasOwn(variables, bare) ? variables[bare as Name] : undefined
  return variable !== undefined && (bare === name || variable.secret === true)
}
const pinnedKeyName = /^FAIRLEAD_SECRET_KEY_([A-Z0-9_]+?)(_FILE)?$/

export function readConfig(env: NodeJS.ProcessEnv): Config {
  const faults: string[] = []
  const value = (name: Name | `${SecretName}_FILE` | PinnedName): string | undefined => env[name]?.trim() || undefined

  const secret = (name: SecretName | PinnedName): Secret | undefined => {
    const file = value(`${name}_FILE`)
    const inline = value(name)
    if (file && inline) faults.push(`${name} and ${name}_FILE are both set; set one of them.`)
    if (!file) return inline === undefined ? undefined : new Secret(inline)
    try {
      return new Secret(readFileSync(file, 'utf8').trim())
    } catch (error) {
      // Its value stays out of the sentence: whoever confuses the two forms has put the secret itself there.
      faults.push(`${name}_FILE names a file that cannot be read (${(error as NodeJS.ErrnoException).code}).`)
      return undefined
    }
  }

  const port = Number(value('PORT') ?? 3003)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) faults.push('PORT must be a number from 0 to 65535.')

  const givenUrl = value('FAIRLEAD_URL')
  const url = givenUrl === undefined ? `http://localhost:${port}` : publicBase(givenUrl, faults)

  const databaseUrl = postgresUrl('DATABASE_URL', secret('DATABASE_URL'), faults)
  const databaseDirectUrl = postgresUrl('FAIRLEAD_DATABASE_DIRECT_URL', secret('FAIRLEAD_DATABASE_DIRECT_URL'), faults)
  if (databaseDirectUrl && !databaseUrl) faults.push('FAIRLEAD_DATABASE_DIRECT_URL is set without DATABASE_URL.')

  const encryptionKeys = keyRing(secret('FAIRLEAD_ENCRYPTION_KEY'), faults)
  if (databaseUrl && encryptionKeys.length === 0)
    faults.push(
      'FAIRLEAD_ENCRYPTION_KEY is required with DATABASE_URL: 32 random bytes as base64, e.g. from "openssl rand -base64 32". Keep it apart from the database backup.',
    )

  const usesKms = encryptionKeys.some(key => key.reveal().startsWith(kmsPrefix))
  const accessKeyId = value('AWS_ACCESS_KEY_ID')
  const secretAccessKey = usesKms ? secret('AWS_SECRET_ACCESS_KEY') : undefined
  const sessionToken = usesKms ? secret('AWS_SESSION_TOKEN') : undefined
  const aws = accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey, sessionToken } : undefined
  if (usesKms && !aws)
    faults.push(
      'A key in AWS KMS needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if temporary).',
    )

  const pinnedVariables = new Set<string>()
  const unknownVariables: string[] = []
  for (const name of Object.keys(env).filter(name => name.startsWith('FAIRLEAD_'))) {
    const pinned = pinnedKeyName.exec(name)?.[1]
    if (pinned) pinnedVariables.add(pinned)
    else if (!isKnown(name)) unknownVariables.push(name)
  }
  const pinnedKeys = [...pinnedVariables].flatMap(variable => {
    const key = secret(`FAIRLEAD_SECRET_KEY_${variable}`)
    if (!key) return []
    if (key.reveal().length < 32) faults.push(`FAIRLEAD_SECRET_KEY_${variable} must have at least 32 characters.`)
    return [{ variable, key }]
  })
  if (new Set(pinnedKeys.map(({ key }) => key.reveal())).size < pinnedKeys.length)
    faults.push('Two FAIRLEAD_SECRET_KEY_<ENV> have the same value; a key belongs to one environment.')

  const providersPath = value('FAIRLEAD_PROVIDERS')
  if (providersPath && !statSync(providersPath, { throwIfNoEntry: false }))
    faults.push(`FAIRLEAD_PROVIDERS names a file or folder that does not exist: ${providersPath}.`)

  const egress = parseEgressAllow(value('FAIRLEAD_EGRESS_ALLOW') ?? '')
  faults.push(...egress.faults.map(fault => `FAIRLEAD_EGRESS_ALLOW: ${fault}`))

  const proxies = parseEgressProxies(secret('FAIRLEAD_EGRESS_PROXY')?.reveal() ?? '')
  faults.push(...proxies.faults.map(fault => `FAIRLEAD_EGRESS_PROXY: ${fault}`))

  const trusted = parseTrustedProxies(value('FAIRLEAD_TRUSTED_PROXIES') ?? '')
  faults.push(...trusted.faults.map(fault => `FAIRLEAD_TRUSTED_PROXIES: ${fault}`))

  const kept = parseRetention(value('FAIRLEAD_RETENTION') ?? '')
  faults.push(...kept.faults.map(fault => `FAIRLEAD_RETENTION: ${fault}`))

  const tracing = readTracing(value, secret, faults)

  const oidc = identityProvider(value, secret('FAIRLEAD_OIDC_CLIENT_SECRET'), faults)

  const logLevel = (value('LOG_LEVEL') ?? 'info') as Config['logLevel']
  if (!logLevels.includes(logLevel)) faults.push(`LOG_LEVEL must be one of ${logLevels.join(', ')}.`)

  if (faults.length > 0) throw new ConfigError(faults)
  return {
    port,
    host: value('HOST') ?? '127.0.0.1',
    url,
    dataDir: resolve(value('FAIRLEAD_DATA_DIR') ?? './.fairlead'),
    databaseUrl,
    databaseDirectUrl,
    encryptionKeys,
    aws,
    pinnedKeys,
    providersPath: providersPath && resolve(providersPath),
    egressAllow: egress.rules,
    egressProxies: proxies.proxies,
    trustedProxies: trusted.networks,
    tracing,
    oidc,
    retention: kept.retention,
    logLevel,
    unknownVariables,
  }
}

function publicBase(text: string, faults: string[]): string {
  const url = URL.parse(text)
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    faults.push(
      'FAIRLEAD_URL must be an http or https URL without user, query or fragment, e.g. https://connect.acme.com.',
    )
    return ''
  }
  return url.href.replace(/\/+$/, '')
}

function identityProvider(
  value: (name: Name) => string | undefined,
  clientSecret: Secret | undefined,
  faults: string[],
): OidcConfig | undefined {
  const [issuerText, clientId] = [value('FAIRLEAD_OIDC_ISSUER'), value('FAIRLEAD_OIDC_CLIENT_ID')]
  const rest = [value('FAIRLEAD_OIDC_NAME'), value('FAIRLEAD_OIDC_NEWCOMERS')]
  if (!issuerText && !clientId && !clientSecret && !rest.some(Boolean)) return undefined
  if (!issuerText || !clientId)
    faults.push('Signing in with OpenID Connect needs FAIRLEAD_OIDC_ISSUER and FAIRLEAD_OIDC_CLIENT_ID, both.')
  const issuer = issuerText ? URL.parse(issuerText) : undefined
  if (issuerText && (!issuer || !/^https?:$/.test(issuer.protocol) || issuer.search || issuer.hash || issuer.username))
    faults.push('FAIRLEAD_OIDC_ISSUER must be the issuer as the provider spells it, e.g. https://login.acme.com.')
  const newcomers = (rest[1] ?? '')
    .split(',')
    .filter(part => part.trim() !== '')
    .flatMap(part => {
      const found = /^([a-z0-9-]+(?:\.[a-z0-9-]+)+)=(admin|viewer)$/.exec(part.trim().toLowerCase())
      if (found) return [{ domain: found[1]!, role: found[2] as 'admin' | 'viewer' }]
      faults.push(`FAIRLEAD_OIDC_NEWCOMERS: "${part.trim()}" must read acme.com=viewer or acme.com=admin.`)
      return []
    })
  if (!issuer || !clientId) return undefined
  return { issuer, clientId, clientSecret, name: rest[0] ?? issuer.host, newcomers }
}

function postgresUrl(name: string, secret: Secret | undefined, faults: string[]): Secret | undefined {
  if (secret && !/^postgres(ql)?:\/\//.test(secret.reveal()))
    faults.push(`${name} must be a PostgreSQL URL: postgresql://user:password@host:5432/database.`)
  return secret
}

/** A key of one repeated byte (all zeros above all) is a placeholder somebody meant to replace (security checklist CR5). */
function keyRing(secret: Secret | undefined, faults: string[]): Secret[] {
  if (!secret) return []
  return secret
    .reveal()
    .split(',')
    .map((part, index) => {
      const text = part.trim()
      const which = index === 0 ? 'FAIRLEAD_ENCRYPTION_KEY' : `FAIRLEAD_ENCRYPTION_KEY (key ${index + 1})`
      if (text.startsWith(kmsPrefix)) {
        if (!kmsArn.test(text.slice(kmsPrefix.length)))
          faults.push(`${which} must name a key of AWS KMS by its ARN: ${kmsPrefix}arn:aws:kms:REGION:ACCOUNT:key/ID.`)
        return new Secret(text)
      }
      const bytes = Buffer.from(text, 'base64')
      if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text) || bytes.length !== 32)
        faults.push(`${which} must be 32 bytes as base64 (44 characters); this one has ${bytes.length} bytes.`)
      else if (new Set(bytes).size < 8)
        faults.push(`${which} is a placeholder, not a random key. Use "openssl rand -base64 32".`)
      return new Secret(text)
    })
}
