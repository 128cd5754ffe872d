import type {
  ConnectionView,
  ListedConnection,
  NewWebhookAddress,
  Receipt,
  SessionOpened,
  Standing,
} from '@fairlead/contract'
import type { Client } from '../client.ts'
import type { Command, Context } from '../command.ts'
import { Refused, UsageFault } from '../faults.ts'
import { facts, instant, printable, type Screen, state, table } from '../output.ts'
import { receiptTable } from './revocations.ts'

interface Filter extends Record<string, string | number | undefined> {
  connectionId?: string | undefined
  integrationId?: string | undefined
  endUserId?: string | undefined
  search?: string | undefined
  state?: string | undefined
}

const pageSize = 2000

/** All of them, page by page: the server lists 10,000 at once at most. */
export async function listAll(client: Client, filter: Filter = {}): Promise<ListedConnection[]> {
  const all: ListedConnection[] = []
  for (let page = 0; ; page++) {
    const { connections } = await client.get<{ connections: ListedConnection[] }>('/connections', {
      ...filter,
      limit: pageSize,
      page,
    })
    all.push(...connections)
    if (connections.length < pageSize) return all
  }
}

/** The one connection an id means. An id may stand on several integrations; then the caller says which. */
export async function resolve({ client, args, values }: Context): Promise<ListedConnection> {
  const [id] = args as [string]
  const found = await listAll(client, { connectionId: id, integrationId: values.integration })
  const [one, ...others] = found
  if (!one)
    throw new Refused(
      404,
      'not_found',
      `There is no connection "${printable(id)}"${values.integration ? ` on the integration "${printable(values.integration)}"` : ' in this environment'}.`,
    )
  if (others.length > 0)
    throw new UsageFault(
      `"${printable(id)}" stands on several integrations. Say which: ${found.map(each => `--integration ${each.provider_config_key}`).join(' or ')}.`,
    )
  return one
}

export const pathOf = ({ connection_id }: Pick<ListedConnection, 'connection_id'>): string =>
  `/connections/${encodeURIComponent(connection_id)}`

const ownerOf = ({ end_user }: Pick<ListedConnection, 'end_user'>): string =>
  printable(end_user?.display_name ?? end_user?.email ?? end_user?.id ?? '–')

const describeState = (screen: Screen, now: ListedConnection['state']): string =>
  `${state(screen, now.name)}${now.cause ? ` (${now.cause})` : ''}, since ${instant(now.since, screen.now())}`

const standingText = (screen: Screen, standing: Standing): string =>
  facts([
    ['Connection', printable(standing.connection_id)],
    ['Integration', printable(standing.provider_config_key)],
    ['State', describeState(screen, standing.state)],
    ['', printable(standing.state.message)],
    ['Token ends', standing.expires_at ? instant(standing.expires_at, screen.now()) : 'nobody said when'],
  ])

/** Tokens are for programs: what shows a connection shows everything else. */
const withoutCredentials = ({ credentials: _, ...rest }: ConnectionView): Omit<ConnectionView, 'credentials'> => rest

async function get(context: Context) {
  const { client, screen } = context
  const listed = await resolve(context)
  // A connection that is paused or over hands out nothing, and is the one people look at: its state is known from the list.
  let read: Omit<ConnectionView, 'credentials'> | undefined
  let refused: Refused | undefined
  try {
    read = withoutCredentials(
      await client.get<ConnectionView>(pathOf(listed), { provider_config_key: listed.provider_config_key }),
    )
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    refused = error
  }
  const now = read?.state ?? listed.state
  const config = Object.entries(read?.connection_config ?? {})
  const text = facts([
    ['Connection', printable(listed.connection_id)],
    ['Integration', `${printable(listed.provider_config_key)} (${printable(listed.provider)})`],
    ['End user', ownerOf(listed)],
    ['State', describeState(screen, now)],
    ['', printable(now.message)],
    ['Connected', instant(listed.created, screen.now())],
    ...(read
      ? ([
          ['Last used', instant(read.last_fetched_at, screen.now())],
          ['Scopes', printable(read.scopes.granted.join(' ') || '–')],
        ] as [string, string][])
      : []),
    ...config.map(([name, value]): [string, string] => [printable(name), printable(String(value))]),
    ...Object.entries(listed.tags).map(([name, value]): [string, string] => [
      `tag ${printable(name)}`,
      printable(value),
    ]),
    ...(read?.warnings ?? []).map(({ code, message }): [string, string] => [
      screen.colour('yellow', 'Warning'),
      `${message} (${code})`,
    ]),
    ['Credentials', refused ? `${refused.message} (${refused.code})` : undefined],
  ])
  const error = refused && { code: refused.code, message: refused.message }
  return { json: { ...listed, ...read, ...(error && { error }) }, text }
}

const operation = (verb: 'refresh' | 'pause' | 'resume', summary: string): Command => ({
  words: `connections ${verb}`,
  usage: '<id> [--integration K]',
  summary,
  options: ['integration'],
  args: { min: 1, max: 1 },
  async run(context) {
    const { provider_config_key, ...one } = await resolve(context)
    const standing = await context.client.post<Standing>(`${pathOf(one)}/${verb}`, undefined, { provider_config_key })
    return { json: standing, text: standingText(context.screen, standing) }
  },
})

/** A link is the answer: alone on its line, so that a script can take it. */
export const linkText = (screen: Screen, { connect_link, expires_at }: SessionOpened): string => {
  screen.say(`Open this, or send it to whoever owns the account. It works until ${instant(expires_at, screen.now())}.`)
  return connect_link
}

export const connections: Command[] = [
  {
    words: 'connections list',
    usage: '[--state S] [--integration K] [--end-user ID] [--search TEXT]',
    summary: 'Lists connections, newest first',
    example: 'connections list --state needs_reauth --integration salesforce',
    options: ['state', 'integration', 'end-user', 'search'],
    args: { min: 0, max: 0 },
    async run({ client, screen, values }) {
      const listed = await listAll(client, {
        state: values.state,
        integrationId: values.integration,
        endUserId: values['end-user'],
        search: values.search,
      })
      const rows = listed.map(one => [
        printable(one.connection_id),
        printable(one.provider_config_key),
        ownerOf(one),
        state(screen, one.state.name),
        instant(one.state.since, screen.now()),
        one.state.cause ?? '',
      ])
      const text =
        rows.length === 0
          ? 'No connection matches.'
          : table(['connection', 'integration', 'end user', 'state', 'since', 'cause'], rows)
      return { json: listed, text }
    },
  },
  {
    words: 'connections get',
    usage: '<id> [--integration K]',
    summary: 'Shows one connection: its state and why, its account, its warnings. No token',
    options: ['integration'],
    args: { min: 1, max: 1 },
    run: get,
  },
  operation('refresh', 'Renews its tokens now'),
  operation('pause', 'Stops it from being used and renewed, with everything that shares its grant'),
  operation('resume', 'Lets it be used again'),
  {
    words: 'connections reconnect',
    usage: '<id> [--integration K]',
    summary: 'Prints a link under which its owner signs in again',
    options: ['integration'],
    args: { min: 1, max: 1 },
    async run(context) {
      const { connection_id, provider_config_key } = await resolve(context)
      const { data } = await context.client.post<{ data: SessionOpened }>('/connect/sessions/reconnect', {
        connection_id,
        integration_id: provider_config_key,
      })
      return { json: data, text: linkText(context.screen, data) }
    },
  },
  {
    words: 'connections webhook-address',
    usage: '<id> [--integration K]',
    summary: 'Makes the address its provider sends webhooks to, shown once; the previous one works on for a day',
    options: ['integration'],
    args: { min: 1, max: 1 },
    async run(context) {
      const { provider_config_key, ...one } = await resolve(context)
      const made = await context.client.post<NewWebhookAddress>(`${pathOf(one)}/webhook-addresses`, undefined, {
        provider_config_key,
      })
      context.screen.say('Give it to the provider and to nobody else: who knows it can send. It is not shown again.')
      return { json: made, text: made.url }
    },
  },
  {
    words: 'connections delete',
    usage: '<id> [--integration K] [--yes]',
    summary: 'Deletes it; the last one on a grant has its tokens revoked at the provider',
    options: ['integration', 'yes'],
    args: { min: 1, max: 1 },
    async run(context) {
      const { client, ask } = context
      const one = await resolve(context)
      await ask.confirm(
        `Delete the connection ${printable(one.connection_id)} of ${ownerOf(one)} on ${printable(one.provider_config_key)}? Its owner would have to connect it again.`,
      )
      const { provider_config_key } = one
      const deleted = await client.delete<{ success: true }>(pathOf(one), { provider_config_key })
      return { json: deleted, text: 'Deleted. `fairlead revocations` tells how its tokens ended.' }
    },
  },
  {
    words: 'kill',
    usage: '(--connection ID | --end-user ID | --integration K | --environment) [--reason TEXT] [--yes]',
    summary: 'Deletes and revokes everything that matches, at once',
    example: "kill --end-user ada --reason 'left the company'",
    options: ['connection', 'end-user', 'integration', 'environment', 'reason', 'yes'],
    args: { min: 0, max: 0 },
    run: kill,
  },
]

async function kill(context: Context) {
  const { client, screen, values, ask } = context
  const { connection, integration, environment } = values
  const endUser = values['end-user']
  const named = [
    connection !== undefined,
    endUser !== undefined,
    integration !== undefined && connection === undefined,
    environment === true,
  ].filter(Boolean).length
  if (named !== 1)
    throw new UsageFault(
      'A kill takes exactly one of --connection, --end-user, --integration and --environment. (--connection may have --integration beside it.)',
    )

  const one = connection === undefined ? undefined : await resolve({ ...context, args: [connection] })
  const matching = one ? [one] : await listAll(client, { endUserId: endUser, integrationId: integration })
  const what = one
    ? `the connection ${printable(one.connection_id)} on ${printable(one.provider_config_key)}`
    : endUser !== undefined
      ? `everything of the end user ${printable(endUser)}`
      : integration !== undefined
        ? `everything on the integration ${printable(integration)}`
        : 'everything in this environment'
  await ask.confirm(
    `Kill ${what} at ${client.url}: ${count(matching.length)}, and whatever shares a grant with one? It cannot be undone.`,
  )
  const target = one
    ? { connection_id: one.connection_id, provider_config_key: one.provider_config_key }
    : endUser !== undefined
      ? { end_user_id: endUser }
      : integration !== undefined
        ? { provider_config_key: integration }
        : { environment: true }
  const { revocations } = await client.post<{ revocations: Receipt[] }>('/kill', {
    ...target,
    ...(values.reason !== undefined && { reason: values.reason }),
  })
  screen.say(
    `${count(revocations.length)} ended. Their tokens are being revoked; \`fairlead revocations\` tells how that goes.`,
  )
  return { json: revocations, text: receiptTable(screen, revocations) }
}

const count = (n: number): string => (n === 1 ? '1 connection' : `${n} connections`)
