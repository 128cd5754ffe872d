import type { ProviderView } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { facts, printable, table } from '../output.ts'

const words = (value: unknown): string | undefined =>
  Array.isArray(value) ? printable(value.join(' ')) : typeof value === 'string' ? printable(value) : undefined

export const providers: Command[] = [
  {
    words: 'providers list',
    usage: '[--search TEXT]',
    summary: 'Lists the providers this server knows',
    options: ['search'],
    args: { min: 0, max: 0 },
    async run({ client, values }) {
      const { data } = await client.get<{ data: ProviderView[] }>('/providers', { search: values.search })
      const rows = data.map(one => [printable(one.name), printable(one.display_name), printable(one.auth_mode)])
      return {
        json: data,
        text: rows.length === 0 ? 'No provider matches.' : table(['provider', 'name', 'kind'], rows),
      }
    },
  },
  {
    words: 'providers get',
    usage: '<provider>',
    summary: 'Shows one provider: what it asks for, where tokens may go. --json shows all of it',
    options: [],
    args: { min: 1, max: 1 },
    async run({ client, args }) {
      const { data } = await client.get<{ data: ProviderView }>(`/providers/${encodeURIComponent(args[0]!)}`)
      const form = Object.entries(
        (data.connection_config ?? {}) as Record<string, { automated?: boolean; title?: string }>,
      )
      return {
        json: data,
        text: facts([
          ['Provider', printable(data.name)],
          ['Name', printable(data.display_name)],
          ['Kind', printable(data.auth_mode)],
          ['Scopes', words(data.default_scopes)],
          ['Hosts', words(data.allowed_hosts)],
          ['Asked for', words(form.flatMap(([name, field]) => (field.automated ? [] : [name])))],
          ['Learned', words(form.flatMap(([name, field]) => (field.automated ? [name] : [])))],
          ['Documentation', words(data.docs)],
        ]),
      }
    },
  },
]
