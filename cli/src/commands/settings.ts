import type { SettingsView } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { UsageFault } from '../faults.ts'
import { facts, instant, printable, type Screen } from '../output.ts'

const shown = (value: unknown): string =>
  value === null || (Array.isArray(value) && value.length === 0)
    ? '–'
    : printable(Array.isArray(value) ? value.join(' ') : String(value))

function text(screen: Screen, { signing_keys, webhook_signing_key, ...decided }: SettingsView): string {
  const { connect_ui: looks, ...plain } = decided
  return facts([
    ...Object.entries(plain).map(([name, value]): [string, string] => [name, shown(value)]),
    ...Object.entries(looks).map(([name, value]): [string, string] => [`connect_ui.${name}`, shown(value)]),
    ...signing_keys.map((key): [string, string] => [
      'signing key',
      `${key.id}, ${key.state}, made ${instant(key.created_at, screen.now())}`,
    ]),
    // The answer that made it is the only one that has it.
    ['shown once', webhook_signing_key],
  ])
}

/** `on_auth_creation=false`, `webhook_url=https://…`, `webhook_url=null`: JSON where it is JSON, else text. */
function change(arg: string): [name: string, value: unknown] {
  const [, name, value] = /^([a-z_]+)=(.*)$/s.exec(arg) ?? []
  if (name === undefined || value === undefined)
    throw new UsageFault(`"${printable(arg)}" is not a setting: write it as name=value, e.g. on_auth_creation=false.`)
  try {
    return [name, JSON.parse(value)]
  } catch {
    return [name, value]
  }
}

export const settings: Command[] = [
  {
    words: 'settings get',
    usage: '',
    summary: 'Shows the settings of the environment',
    options: [],
    args: { min: 0, max: 0 },
    async run({ client, screen }) {
      const now = await client.get<SettingsView>('/environment/settings')
      return { json: now, text: text(screen, now) }
    },
  },
  {
    words: 'settings set',
    usage: '<name=value>…',
    summary: 'Changes what is named. The first webhook URL makes a signing key, which is shown this once',
    example: 'settings set webhook_url=https://crm.acme.com/hooks confirm_connections=true',
    options: [],
    args: { min: 1, max: 20 },
    async run({ client, screen, args }) {
      const now = await client.patch<SettingsView>('/environment/settings', Object.fromEntries(args.map(change)))
      return { json: now, text: text(screen, now) }
    },
  },
]
