/**
 * Putting integrations and connections into an environment, from wherever they come. Every step looks first at what is there, so that it
 * can be stopped anywhere and run again, and running it twice changes nothing.
 */
import { isDeepStrictEqual } from 'node:util'
import type { IntegrationWithSecrets, ListedConnection } from '@fairlead/contract'
import type { Client } from './client.ts'
import { listAll } from './commands/connections.ts'
import { Refused } from './faults.ts'
import { bar, type Screen } from './output.ts'

export type Credentials = Record<string, unknown> & { type?: string }

export interface IncomingIntegration {
  unique_key: string
  provider: string
  display_name?: string | undefined
  credentials?: object | undefined
}

/** What any list of connections says of one. */
export type Listing = Pick<ListedConnection, 'connection_id' | 'provider_config_key' | 'end_user' | 'tags' | 'metadata'>

export interface Incoming {
  listing: Listing
  /** Its tokens and facts, read at the last moment. Undefined when they do not come along. */
  read(): Promise<{ credentials: Credentials; connection_config: Record<string, unknown> } | undefined>
}

export interface Step {
  what: 'integration' | 'connection'
  name: string
  did: 'made' | 'changed' | 'replaced' | 'left' | 'failed'
  why?: string
}

interface Options {
  /** Says what it would do, and asks for nothing that could change anything. */
  dryRun: boolean
  /** Tokens that another server still owns: what is stored here is paused, so that nothing here renews them. */
  hold: boolean
  /** Brings the tokens anew and lets the connection be used: from now on they are ours. */
  takeOver: boolean
}

/** The members of an import, by kind (wire contract, §14.3). A kind that is not here cannot be brought along. */
const importable: Record<string, string[]> = {
  OAUTH2: ['type', 'access_token', 'refresh_token', 'expires_at', 'config_override'],
  OAUTH2_CC: ['type', 'token', 'client_id', 'client_secret', 'client_certificate', 'client_private_key', 'expires_at'],
  OAUTH1: ['type', 'oauth_token', 'oauth_token_secret'],
  BASIC: ['type', 'username', 'password'],
  API_KEY: ['type', 'apiKey'],
  TBA: ['type', 'token_id', 'token_secret', 'config_override'],
  NONE: ['type'],
}

const withoutNulls = (value: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null && member !== undefined))

const pathOf = ({ connection_id }: Listing) => `/connections/${encodeURIComponent(connection_id)}`
const nameOf = ({ provider_config_key, connection_id }: Listing) => `${provider_config_key}/${connection_id}`

export async function place(
  { client, screen }: { client: Client; screen: Screen },
  integrations: IncomingIntegration[],
  connections: Incoming[],
  options: Options,
): Promise<Step[]> {
  const steps: Step[] = []
  const total = integrations.length + connections.length
  const attempt = async (what: Step['what'], name: string, work: () => Promise<Pick<Step, 'did' | 'why'>>) => {
    screen.progress(bar(steps.length, total))
    try {
      steps.push({ what, name, ...(await work()) })
    } catch (error) {
      // One that cannot be brought along stops none of the others.
      if (!(error instanceof Refused)) throw error
      steps.push({ what, name, did: 'failed', why: [`${error.message} (${error.code})`, ...error.details].join(' ') })
    }
  }
  for (const one of integrations)
    await attempt('integration', one.unique_key, () => placeIntegration(client, one, options))
  const here = new Map((await listAll(client)).map(one => [nameOf(one), one]))
  for (const one of connections) {
    const name = nameOf(one.listing)
    await attempt('connection', name, () => placeConnection(client, one, here.get(name), options))
  }
  screen.progress('')
  return steps
}

async function placeIntegration(
  client: Client,
  { unique_key, provider, display_name, credentials }: IncomingIntegration,
  { dryRun }: Options,
): Promise<Pick<Step, 'did' | 'why'>> {
  const path = `/integrations/${encodeURIComponent(unique_key)}`
  const found = await client
    .get<{ data: IntegrationWithSecrets }>(path, { include: 'credentials' })
    .catch((error: unknown) => {
      if (error instanceof Refused && error.status === 404) return undefined
      throw error
    })
  const named = display_name === undefined ? {} : { display_name }
  const client_ = credentials === undefined ? {} : { credentials: withoutNulls(credentials) }
  if (!found) {
    if (!dryRun) await client.post('/integrations', { unique_key, provider, ...named, ...client_ })
    return { did: 'made' }
  }
  if (found.data.provider !== provider)
    return { did: 'failed', why: `An integration of this name is here, of the provider ${found.data.provider}.` }
  const known = found.data.credentials && withoutNulls(found.data.credentials)
  const change = {
    ...(display_name !== undefined && display_name !== found.data.display_name && named),
    ...(credentials !== undefined && !isDeepStrictEqual(known, withoutNulls(credentials)) && client_),
  }
  if (Object.keys(change).length === 0) return { did: 'left' }
  if (!dryRun) await client.patch(path, change)
  return { did: 'changed' }
}

async function placeConnection(
  client: Client,
  incoming: Incoming,
  here: ListedConnection | undefined,
  { dryRun, hold, takeOver }: Options,
): Promise<Pick<Step, 'did' | 'why'>> {
  const { listing } = incoming
  if (here && !takeOver) return placeNotes(client, listing, here, dryRun)
  // Taken over before. To read it there once more would have that server renew with a refresh token that is used up here.
  if (here && here.state.name !== 'paused') return { did: 'left', why: 'It is not paused here, so it was taken over.' }
  if (dryRun) return { did: here ? 'replaced' : 'made' }
  const full = await incoming.read()
  if (!full) return here ? { did: 'left' } : { did: 'failed', why: 'It is not here, and its tokens do not come along.' }
  const members = importable[full.credentials.type ?? 'NONE']
  if (!members)
    return { did: 'failed', why: `Credentials of the kind ${full.credentials.type} cannot be brought along.` }
  const { end_user, metadata, tags, connection_id, provider_config_key } = listing
  const credentials = Object.fromEntries(
    members.filter(name => full.credentials[name] !== undefined).map(name => [name, full.credentials[name]]),
  )
  const { organization = null, ...owner } = end_user ?? {}
  await client.post('/connections', {
    provider_config_key,
    connection_id,
    credentials: { type: 'NONE', ...credentials },
    connection_config: full.connection_config,
    ...(metadata && { metadata }),
    ...(end_user && { end_user: withoutNulls(owner) }),
    ...(organization && { organization: withoutNulls(organization) }),
    tags,
    // In the same request: what is renewed here would end at the server that still owns it.
    ...(hold && { paused: true }),
  })
  if (takeOver && here) await client.post(`${pathOf(listing)}/resume`, undefined, { provider_config_key })
  return { did: here ? 'replaced' : 'made' }
}

/** Of one that is here its tokens are left alone: whose they are is not for this program to guess. */
async function placeNotes(
  client: Client,
  listing: Listing,
  here: ListedConnection,
  dryRun: boolean,
): Promise<Pick<Step, 'did' | 'why'>> {
  const { provider_config_key, connection_id, metadata, tags } = listing
  const tagsDiffer = !isDeepStrictEqual(tags ?? {}, here.tags)
  const notesDiffer = metadata !== null && !isDeepStrictEqual(metadata, here.metadata)
  if (!tagsDiffer && !notesDiffer) return { did: 'left' }
  if (!dryRun && tagsDiffer)
    await client.patch(`${pathOf(listing)}?provider_config_key=${encodeURIComponent(provider_config_key)}`, { tags })
  if (!dryRun && notesDiffer)
    await client.post('/connections/metadata', { connection_id, provider_config_key, metadata })
  return { did: 'changed' }
}
