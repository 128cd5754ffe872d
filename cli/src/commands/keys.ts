import type { ApiKeyView } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { UsageFault } from '../faults.ts'
import { instant, printable, type Screen, table } from '../output.ts'

const keyTable = (screen: Screen, keys: ApiKeyView[]): string =>
  table(
    ['id', 'name', 'scopes', 'made', 'used', 'ends'],
    keys.map(key => [
      String(key.id),
      printable(key.display_name),
      key.scopes.join(' '),
      instant(key.created_at, screen.now()),
      instant(key.last_used_at, screen.now()),
      key.expires_at ? instant(key.expires_at, screen.now()) : 'never',
    ]),
  )

export const keys: Command[] = [
  {
    words: 'keys list',
    usage: '',
    summary: 'Lists the API keys of the environment: what each may and when it was used. Never a key',
    options: [],
    args: { min: 0, max: 0 },
    async run({ client, screen }) {
      const { data } = await client.get<{ data: ApiKeyView[] }>('/environment/api-keys')
      return { json: data, text: keyTable(screen, data) }
    },
  },
  {
    words: 'keys create',
    usage: '<name> [--scopes a,b] [--until INSTANT]',
    summary: 'Makes an API key and prints it, this once. It may everything unless --scopes says less',
    example:
      'keys create nightly-export --scopes environment:connections:list,environment:proxy --until 2027-06-30T00:00:00Z',
    options: ['scopes', 'until'],
    args: { min: 1, max: 1 },
    async run({ client, screen, values, args }) {
      const { data } = await client.post<{ data: ApiKeyView & { secret: string } }>('/environment/api-keys', {
        display_name: args[0],
        ...(values.scopes !== undefined && { scopes: values.scopes.split(',') }),
        ...(values.until !== undefined && { expires_at: values.until }),
      })
      screen.say(`Key ${data.id} may ${data.scopes.join(', ')}. It is shown now and never again.`)
      return { json: data, text: data.secret }
    },
  },
  {
    words: 'keys delete',
    usage: '<id> [--yes]',
    summary: 'Ends an API key at once',
    options: ['yes'],
    args: { min: 1, max: 1 },
    async run({ client, args, ask }) {
      const id = Number(args[0])
      if (!Number.isInteger(id)) throw new UsageFault('A key is named by its number; "fairlead keys list" shows it.')
      await ask.confirm(`End the key ${id} at ${client.url}? Whoever uses it is refused from then on.`)
      const ended = await client.delete<{ success: true }>('/environment/api-keys', {}, { key_id: id })
      return { json: ended, text: 'Ended.' }
    },
  },
]
