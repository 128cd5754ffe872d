import type { IntegrationView, ProviderView } from '@fairlead/contract'
import type { Client } from '../client.ts'
import { type Command, type Context, needed, type Option, type Values } from '../command.ts'
import { UsageFault } from '../faults.ts'
import { facts, instant, printable, type Screen, table } from '../output.ts'
import { secretFrom } from '../secret.ts'
import { listAll } from './connections.ts'

const pathOf = (key: string): string => `/integrations/${encodeURIComponent(key)}`

const text = (screen: Screen, one: IntegrationView): string =>
  facts([
    ['Integration', printable(one.unique_key)],
    ['Provider', printable(one.provider)],
    ['Name', printable(one.display_name)],
    ['Made', instant(one.created_at, screen.now())],
    ['Changed', instant(one.updated_at, screen.now())],
  ])

async function credentials(context: Context, provider: string) {
  const client_id = needed(context.values, 'client-id')
  return {
    type: await clientTypeOf(context.client, provider),
    client_id,
    client_secret: await secretFrom(context, 'client-secret-file', 'Client secret'),
    ...(context.values.scopes !== undefined && { scopes: context.values.scopes }),
  }
}

async function clientTypeOf(client: Client, provider: string): Promise<'OAUTH1' | 'OAUTH2'> {
  const { data } = await client.get<{ data: ProviderView }>(`/providers/${encodeURIComponent(provider)}`)
  return data.auth_mode === 'OAUTH1' ? 'OAUTH1' : 'OAUTH2'
}

/** Keys, passwords and the like need no app of the developer's. */
const appOptions: Option[] = ['client-id', 'client-secret-file', 'scopes']
const isApp = ({ values }: Context): boolean => appOptions.some(name => values[name] !== undefined)

const named = ({ name }: Values) => (name === undefined ? {} : { display_name: name })

export const integrations: Command[] = [
  {
    words: 'integrations list',
    usage: '',
    summary: 'Lists the integrations of the environment',
    options: [],
    args: { min: 0, max: 0 },
    async run({ client, screen }) {
      const { data } = await client.get<{ data: IntegrationView[] }>('/integrations')
      const rows = data.map(one => [
        printable(one.unique_key),
        printable(one.provider),
        printable(one.display_name),
        instant(one.created_at, screen.now()),
      ])
      return {
        json: data,
        text:
          rows.length === 0
            ? 'There are no integrations yet.'
            : table(['integration', 'provider', 'name', 'made'], rows),
      }
    },
  },
  {
    words: 'integrations get',
    usage: '<integration>',
    summary: 'Shows one integration. Not its secret',
    options: [],
    args: { min: 1, max: 1 },
    async run({ client, screen, args }) {
      const { data } = await client.get<{ data: IntegrationView }>(pathOf(args[0]!))
      return { json: data, text: text(screen, data) }
    },
  },
  {
    words: 'integrations create',
    usage: '<integration> --provider P [--client-id ID [--client-secret-file FILE] [--scopes a,b]] [--name NAME]',
    summary:
      'Registers a provider, with your OAuth app where it has one. The secret comes from a file, from standard input (-), or is asked for',
    example:
      'integrations create salesforce --provider salesforce --client-id 3MVG9 --client-secret-file ./secret --scopes api,refresh_token',
    options: ['provider', 'client-id', 'client-secret-file', 'scopes', 'name'],
    args: { min: 1, max: 1 },
    async run(context) {
      const { client, screen, values, args } = context
      const provider = needed(values, 'provider')
      const { data } = await client.post<{ data: IntegrationView }>('/integrations', {
        unique_key: args[0],
        provider,
        ...(isApp(context) && { credentials: await credentials(context, provider) }),
        ...named(values),
      })
      if (isApp(context)) screen.say(`Register this callback URL with the provider: ${client.url}/oauth/callback`)
      return { json: data, text: text(screen, data) }
    },
  },
  {
    words: 'integrations update',
    usage: '<integration> [--client-id ID [--client-secret-file FILE] [--scopes a,b]] [--name NAME]',
    summary: 'Changes its name, or its OAuth app: id, secret and scopes together',
    options: ['client-id', 'client-secret-file', 'scopes', 'name'],
    args: { min: 1, max: 1 },
    async run(context) {
      const { client, screen, values, args } = context
      const app = isApp(context)
      if (!app && values.name === undefined)
        throw new UsageFault('There is nothing to change: give --name or --client-id.')
      const now = app && (await client.get<{ data: IntegrationView }>(pathOf(args[0]!)))
      const { data } = await client.patch<{ data: IntegrationView }>(pathOf(args[0]!), {
        ...named(values),
        ...(now && { credentials: await credentials(context, now.data.provider) }),
      })
      return { json: data, text: text(screen, data) }
    },
  },
  {
    words: 'integrations delete',
    usage: '<integration> [--yes]',
    summary: 'Deletes it with all its connections, and revokes their tokens',
    options: ['yes'],
    args: { min: 1, max: 1 },
    async run({ client, args, ask }) {
      const [key] = args as [string]
      await client.get(pathOf(key))
      const { length } = await listAll(client, { integrationId: key })
      await ask.confirm(
        `Delete the integration ${printable(key)} at ${client.url}, with ${length} connection${length === 1 ? '' : 's'} on it? It cannot be undone.`,
      )
      const deleted = await client.delete<{ success: true }>(pathOf(key))
      return { json: deleted, text: 'Deleted.' }
    },
  },
]
