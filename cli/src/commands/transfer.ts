/** Taking an environment along: to a file and back, or over from a server that speaks the same wire. */
import { createCipheriv, createDecipheriv, randomBytes, scryptSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { ConnectionView, IntegrationView, IntegrationWithSecrets, ListedConnection } from '@fairlead/contract'
import { type Client, createClient } from '../client.ts'
import { type Command, type Context, needed, type Result } from '../command.ts'
import { addressIn, keyThere } from '../config.ts'
import { Refused, UsageFault } from '../faults.ts'
import { bar, printable, type Screen, table } from '../output.ts'
import { type Credentials, type Incoming, type IncomingIntegration, place, type Step } from '../place.ts'
import { secretFrom } from '../secret.ts'
import { listAll } from './connections.ts'

interface Secrets {
  integrations: Record<string, object>
  connections: Record<string, { credentials: Credentials; connection_config: Record<string, unknown> }>
}

interface Sealed {
  kdf: 'scrypt'
  salt: string
  iv: string
  tag: string
  data: string
}

interface Exported {
  format: 'fairlead-export'
  version: 1
  integrations: Pick<IntegrationView, 'unique_key' | 'provider' | 'display_name'>[]
  connections: Incoming['listing'][]
  secrets?: Sealed
}

/** RFC 7914; 64 MB and a few tenths of a second for each passphrase somebody tries. */
const keyOf = (passphrase: string, salt: Buffer): Buffer =>
  scryptSync(passphrase, salt, 32, { N: 65_536, r: 8, p: 1, maxmem: 128 * 1024 * 1024 })

function seal(secrets: Secrets, passphrase: string): Sealed {
  const [salt, iv] = [randomBytes(16), randomBytes(12)]
  const cipher = createCipheriv('aes-256-gcm', keyOf(passphrase, salt), iv)
  const data = Buffer.concat([cipher.update(JSON.stringify(secrets), 'utf8'), cipher.final()])
  const text = (bytes: Buffer) => bytes.toString('base64')
  return { kdf: 'scrypt', salt: text(salt), iv: text(iv), tag: text(cipher.getAuthTag()), data: text(data) }
}

function unseal({ salt, iv, tag, data }: Sealed, passphrase: string): Secrets {
  const bytes = (text: string) => Buffer.from(text, 'base64')
  const key = keyOf(passphrase, bytes(salt))
  const decipher = createDecipheriv('aes-256-gcm', key, bytes(iv), { authTagLength: 16 }).setAuthTag(bytes(tag))
  try {
    return JSON.parse(Buffer.concat([decipher.update(bytes(data)), decipher.final()]).toString('utf8')) as Secrets
  } catch {
    throw new UsageFault('The secrets do not open: another passphrase, or the file was changed.')
  }
}

const secretName = ({ provider_config_key, connection_id }: Incoming['listing']) =>
  `${provider_config_key}/${connection_id}`

async function toFile({ client, screen, values, args, ask }: Context): Promise<Result> {
  const [file] = args as [string]
  const passphrase = values.secrets ? await secretFrom({ values, ask }, 'passphrase-file', 'Passphrase') : undefined
  const { data: integrations } = await client.get<{ data: IntegrationView[] }>('/integrations')
  const listed = await listAll(client)
  const secrets: Secrets = { integrations: {}, connections: {} }
  let left = 0
  if (passphrase !== undefined) {
    for (const { unique_key } of integrations) {
      const credentials = await credentialsOf(client, unique_key)
      if (credentials) secrets.integrations[unique_key] = credentials
    }
    for (const [done, one] of listed.entries()) {
      screen.progress(bar(done, listed.length))
      const full = await readFull(client, one)
      if (full) secrets.connections[secretName(one)] = full
      else left++
    }
    screen.progress('')
  }
  const exported: Exported = {
    format: 'fairlead-export',
    version: 1,
    integrations: integrations.map(({ unique_key, provider, display_name }) => ({
      unique_key,
      provider,
      display_name,
    })),
    connections: listed.map(({ connection_id, provider_config_key, end_user, tags, metadata }) => ({
      ...{ connection_id, provider_config_key, end_user, tags, metadata },
    })),
    ...(passphrase !== undefined && { secrets: seal(secrets, passphrase) }),
  }
  writeFileSync(file, `${JSON.stringify(exported, null, 2)}\n`, { mode: 0o600 })
  if (left > 0) screen.say(`${left} connections hand out no tokens just now (paused, or over); they are in it without.`)
  if (passphrase !== undefined)
    screen.say('Whoever imports it holds the same tokens: use one of the two from then on, or renewals end the other.')
  const counts = {
    integrations: integrations.length,
    connections: listed.length,
    with_secrets: passphrase !== undefined,
  }
  return {
    json: { file, ...counts },
    text: `${counts.integrations} integrations and ${counts.connections} connections are in ${printable(file)}${counts.with_secrets ? ', with their secrets sealed.' : ', without any secret.'}`,
  }
}

async function fromFile(context: Context): Promise<Result> {
  const { values, args, ask } = context
  const exported = readExport(args[0]!)
  const secrets =
    exported.secrets && unseal(exported.secrets, await secretFrom({ values, ask }, 'passphrase-file', 'Passphrase'))
  const integrations = exported.integrations.map(one => ({
    ...one,
    credentials: secrets?.integrations[one.unique_key],
  }))
  const connections = exported.connections.map(listing => ({
    listing,
    read: async () => secrets?.connections[secretName(listing)],
  }))
  const options = { dryRun: values['dry-run'] ?? false, hold: false, takeOver: false }
  return told(context.screen, await place(context, integrations, connections, options), options.dryRun)
}

function readExport(file: string): Exported {
  let exported: Partial<Exported>
  try {
    exported = JSON.parse(readFileSync(file, 'utf8')) as Partial<Exported>
  } catch (error) {
    throw new UsageFault(`${printable(file)} cannot be read: ${(error as Error).message}`)
  }
  if (exported.format !== 'fairlead-export' || exported.version !== 1)
    throw new UsageFault(`${printable(file)} is no export of this program.`)
  return exported as Exported
}

/** The other server: the same wire, its own address and key. */
async function sourceOf({ values, ask }: Context): Promise<Client> {
  const url = addressIn(needed(values, 'url'), '--url')
  const key = keyThere(process.env) ?? (await secretFrom({ values, ask }, 'key-file', 'API key there'))
  return createClient({ url, setting: '--url', key: () => key })
}

/** It counts calls by the minute and says how long to wait. */
async function patiently<Body>(work: () => Promise<Body>): Promise<Body> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 429) throw error
      await sleep((error.retryAfter ?? 5) * 1000)
    }
  }
}

async function credentialsOf(client: Client, key: string): Promise<object | undefined> {
  const { data } = await patiently(() =>
    client.get<{ data: IntegrationWithSecrets }>(`/integrations/${encodeURIComponent(key)}`, {
      include: 'credentials',
    }),
  )
  return data.credentials ?? undefined
}

/** Never forced: if a renewal is due there, it is that server's own, and its answer is what comes along. */
async function readFull(client: Client, one: Incoming['listing']) {
  try {
    const { credentials, connection_config } = await patiently(() =>
      client.get<ConnectionView>(`/connections/${encodeURIComponent(one.connection_id)}`, {
        provider_config_key: one.provider_config_key,
        refresh_token: 'true',
      }),
    )
    return { credentials: credentials as Credentials, connection_config }
  } catch (error) {
    if (error instanceof Refused && error.status !== 403) return undefined
    throw error
  }
}

/**
 * What is here of a connection that may be read at the other server, too. Not of one whose refresh token is ours by now: asked for it, that
 * server would renew with one that is used up, and the provider might end the grant. A paused one is that server's own, and shown without tokens.
 */
async function readHere(client: Client, ours: ListedConnection) {
  if (ours.state.name !== 'paused') {
    const full = await readFull(client, ours)
    return full && 'refresh_token' in full.credentials ? undefined : full
  }
  const { connection_config } = await client.get<ConnectionView>(
    `/connections/${encodeURIComponent(ours.connection_id)}`,
    { provider_config_key: ours.provider_config_key, credentials: 'false' },
  )
  return { connection_config, credentials: undefined }
}

async function fromNango(context: Context): Promise<Result> {
  const { client, values, screen, ask } = context
  const source = await sourceOf(context)
  const dryRun = values['dry-run'] ?? false
  const takeOver = values['cut-over'] ?? false
  if (takeOver && !dryRun)
    await ask.confirm(
      `Take over from ${source.url}? From now on tokens are renewed at ${client.url}; nothing may use ${source.url} any more.`,
    )
  const { data } = await patiently(() => source.get<{ data: IntegrationView[] }>('/integrations'))
  const wanted = data.filter(({ unique_key }) => !values.integration || unique_key === values.integration)
  if (values.integration && wanted.length === 0)
    throw new UsageFault(`There is no integration "${printable(values.integration)}" at ${source.url}.`)
  const integrations: IncomingIntegration[] = []
  for (const { unique_key, provider, display_name } of wanted)
    integrations.push({ unique_key, provider, display_name, credentials: await credentialsOf(source, unique_key) })
  const listed = await patiently(() => listAll(source, { integrationId: values.integration }))
  const connections = listed.map(listing => ({
    listing,
    read: async () => {
      const full = await readFull(source, listing)
      if (!full) throw new Refused(424, 'unreadable_there', 'The other server does not hand out its tokens.')
      return full
    },
  }))
  const steps = await place(context, integrations, connections, { dryRun, hold: !takeOver, takeOver })
  if (!dryRun && !takeOver)
    screen.say('What came is paused here, so that nothing renews what the other server owns. To switch: --cut-over.')
  return told(screen, steps, dryRun)
}

/** What two servers may say differently of one connection without anything being wrong. */
const theirOwn = [
  'id',
  'errors',
  'created',
  'created_at',
  'updated_at',
  'last_fetched_at',
  'health',
  'state',
  'warnings',
  'scopes',
]

interface Difference {
  connection: string
  field: string
  there: unknown
  here: unknown
}

async function shadow(context: Context): Promise<Result> {
  const { client, screen, values } = context
  const source = await sourceOf(context)
  const filter = { integrationId: values.integration }
  const nameOf = (one: ListedConnection) => secretName(one)
  const here = new Map((await listAll(client, filter)).map(one => [nameOf(one), one]))
  const there = await patiently(() => listAll(source, filter))
  const differences: Difference[] = []
  let unread = 0
  for (const [done, theirs] of there.entries()) {
    screen.progress(bar(done, there.length))
    const connection = nameOf(theirs)
    const ours = here.get(connection)
    if (!ours) {
      differences.push({ connection, field: '', there: 'there', here: 'not here' })
      continue
    }
    compare(connection, '', theirs, ours, differences)
    const own = await readHere(client, ours)
    const full = own && (await readFull(source, theirs))
    if (full)
      compare(connection, '', own.credentials ? full : { connection_config: full.connection_config }, own, differences)
    else unread++
  }
  screen.progress('')
  if (unread > 0)
    screen.say(
      `Of ${unread} connections only what lists show was compared: they are renewed here, so the old server must not be asked for them, or it hands nothing out.`,
    )
  const rows = differences.map(one => [
    printable(one.connection),
    one.field,
    shown(one, one.there),
    shown(one, one.here),
  ])
  return {
    json: {
      compared: there.length,
      unread,
      differences: differences.map(one => ({ ...one, there: shown(one, one.there), here: shown(one, one.here) })),
    },
    text:
      rows.length === 0
        ? `${there.length} connections, no difference.`
        : table(['connection', 'field', 'there', 'here'], rows),
    isBad: rows.length > 0,
  }
}

/** Tokens are said to differ and never shown. */
const shown = ({ field }: Difference, value: unknown): string =>
  field.startsWith('credentials.')
    ? '[secret]'
    : printable(typeof value === 'string' ? value : (JSON.stringify(value) ?? '–'))

/** Field by field; what one side has none of and the other leaves empty is the same. */
function compare(connection: string, at: string, there: object, here: object, found: Difference[]): void {
  const empty = (value: unknown) => value === undefined || value === null
  for (const name of new Set([...Object.keys(there), ...Object.keys(here)])) {
    const field = at ? `${at}.${name}` : name
    // The raw token response is kept for people; each server keeps its own.
    if ((at === '' && theirOwn.includes(name)) || field === 'credentials.raw') continue
    const [a, b] = [(there as Record<string, unknown>)[name], (here as Record<string, unknown>)[name]]
    if (empty(a) && empty(b)) continue
    const isInstant = name === 'expires_at' && Date.parse(String(a)) === Date.parse(String(b))
    if (isInstant || isDeepStrictEqual(a, b)) continue
    if (isObject(a) && isObject(b)) compare(connection, field, a, b, found)
    else found.push({ connection, field, there: a, here: b })
  }
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function told(screen: Screen, steps: Step[], dryRun: boolean): Result {
  const of = (did: Step['did']) => steps.filter(step => step.did === did)
  const counts = (['made', 'changed', 'replaced', 'left', 'failed'] as const).map(did => `${of(did).length} ${did}`)
  const lines = steps
    .filter(({ did }) => did === 'failed' || (dryRun && did !== 'left'))
    .map(
      ({ did, what, name, why }) =>
        `${did === 'failed' ? screen.colour('red', did) : did}  ${what} ${printable(name)}${why ? `: ${printable(why)}` : ''}`,
    )
  return {
    json: steps,
    text: [...lines, `${dryRun ? 'Nothing was changed. It would be: ' : ''}${counts.join(', ')}.`].join('\n'),
    isBad: of('failed').length > 0,
  }
}

export const transfer: Command[] = [
  {
    words: 'export',
    usage: '<file> [--secrets [--passphrase-file FILE]]',
    summary:
      'Writes the integrations and connections of the environment to a file. Secrets only with --secrets, sealed with a passphrase',
    example: 'export dev.json --secrets',
    options: ['secrets', 'passphrase-file'],
    args: { min: 1, max: 1 },
    run: toFile,
  },
  {
    words: 'import',
    usage: '<file> [--passphrase-file FILE] [--dry-run]',
    summary:
      'Brings in what an export holds. Can be stopped and run again; what is there already is left as it is but for tags and metadata',
    example: 'import dev.json --env prod --dry-run',
    options: ['passphrase-file', 'dry-run'],
    args: { min: 1, max: 1 },
    run: fromFile,
  },
  {
    words: 'import nango',
    usage: '--url URL [--key-file FILE] [--integration K] [--dry-run] [--cut-over] [--yes]',
    summary:
      'Copies integrations and connections, tokens included, from a Nango server and keeps them paused; --cut-over fetches the tokens anew and switches. Its key comes from NANGO_SECRET_KEY, a file, or is asked for',
    example: 'import nango --url https://api.nango.dev --key-file ./nango-key --integration salesforce --dry-run',
    options: ['url', 'key-file', 'integration', 'dry-run', 'cut-over', 'yes'],
    args: { min: 0, max: 0 },
    run: fromNango,
  },
  {
    words: 'shadow',
    usage: '--url URL [--key-file FILE] [--integration K]',
    summary:
      'Compares every connection with the same one at a Nango server, field by field. Exit code 1 when something differs',
    example: 'shadow --url https://api.nango.dev --key-file ./nango-key --json',
    options: ['url', 'key-file', 'integration'],
    args: { min: 0, max: 0 },
    run: shadow,
  },
]
