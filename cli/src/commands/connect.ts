import { spawn } from 'node:child_process'
import { userInfo } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConnectResult, SessionOpened } from '@fairlead/contract'
import type { Command, Context, Result } from '../command.ts'
import { facts, printable } from '../output.ts'
import { linkText } from './connections.ts'

export const connect: Command[] = [
  {
    words: 'connect',
    usage: '<integration> [--end-user ID] [--name NAME] [--email ADDRESS] [--open] [--wait]',
    summary:
      'Prints a link under which somebody connects an account. Without --end-user that is you. --open opens it in your browser; --wait waits for the end and prints the connection',
    example: 'connect salesforce --end-user ada --email ada@acme.com --wait',
    options: ['end-user', 'name', 'email', 'open', 'wait'],
    args: { min: 1, max: 1 },
    async run(context) {
      const { client, screen, values, args } = context
      const { data } = await client.post<{ data: SessionOpened }>('/connect/sessions', {
        allowed_integrations: args,
        end_user: {
          id: values['end-user'] ?? userInfo().username,
          ...(values.name !== undefined && { display_name: values.name }),
          ...(values.email !== undefined && { email: values.email }),
        },
      })
      const text = linkText(screen, data)
      if (values.open) openInBrowser(data.connect_link)
      if (!values.wait) return { json: data, text }
      screen.say(text)
      return ended(context, data.token)
    },
  },
]

/** What the system has for it. Where there is none the link stands on the screen. */
function openInBrowser(link: string): void {
  const [program, ...args] =
    process.platform === 'win32'
      ? ['rundll32', 'url.dll,FileProtocolHandler']
      : [process.platform === 'darwin' ? 'open' : 'xdg-open']
  spawn(program!, [...args, link], { stdio: 'ignore', detached: true })
    .on('error', () => {})
    .unref()
}

const pollMs = 1000

/** The connection. Who was refused may try again, so that is told and waited on; the session's end ends it as the server says it. */
async function ended({ client, screen }: Context, token: string): Promise<Result> {
  const told = new Set<string>()
  for (;;) {
    const now = await client.get<{ data: ConnectResult[]; under_way: string[] }>('/connect/session/results', {}, token)
    for (const { error, at } of now.data.toReversed()) {
      if (!error || told.has(at)) continue
      told.add(at)
      screen.progress('')
      screen.say(`${printable(error.description)} (${error.code})`)
    }
    const made = now.data.find(({ success }) => success)
    if (made) {
      screen.progress('')
      const { connection_id: id, provider_config_key: integration, account } = made
      const pairs = [['Connection', id ?? undefined] as const, ['Integration', integration] as const]
      const known = account?.details.map(({ label, value }) => [printable(label), printable(value)] as const) ?? []
      return { json: made, text: facts([...pairs, ...known].map(([label, value]) => [label, value])) }
    }
    screen.progress(now.under_way.length > 0 ? 'Somebody is signing in …' : 'Waiting for somebody to open it …')
    await sleep(pollMs)
  }
}
