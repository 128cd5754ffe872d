import { userInfo } from 'node:os'
import type { SessionOpened } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { linkText } from './connections.ts'

export const connect: Command[] = [
  {
    words: 'connect',
    usage: '<integration> [--end-user ID] [--name NAME] [--email ADDRESS]',
    summary: 'Prints a link under which somebody connects an account. Without --end-user that is you',
    options: ['end-user', 'name', 'email'],
    args: { min: 1, max: 1 },
    async run({ client, screen, values, args }) {
      const { data } = await client.post<{ data: SessionOpened }>('/connect/sessions', {
        allowed_integrations: args,
        end_user: {
          id: values['end-user'] ?? userInfo().username,
          ...(values.name !== undefined && { display_name: values.name }),
          ...(values.email !== undefined && { email: values.email }),
        },
      })
      return { json: data, text: linkText(screen, data) }
    },
  },
]
