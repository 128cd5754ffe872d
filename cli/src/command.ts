/** What a command is. Every command is one object in one list; help, the documentation's page and the dispatcher read the same list. */
import type { ParseArgsOptionsConfig } from 'node:util'
import type { Client } from './client.ts'
import { UsageFault } from './faults.ts'
import type { Screen } from './output.ts'

/** One name means one thing in every command. */
export const options = {
  json: { type: 'boolean' },
  env: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
  yes: { type: 'boolean' },
  state: { type: 'string' },
  integration: { type: 'string' },
  search: { type: 'string' },
  connection: { type: 'string' },
  'end-user': { type: 'string' },
  environment: { type: 'boolean' },
  reason: { type: 'string' },
  wait: { type: 'boolean' },
  email: { type: 'string' },
  name: { type: 'string' },
  provider: { type: 'string' },
  'client-id': { type: 'string' },
  'client-secret-file': { type: 'string' },
  scopes: { type: 'string' },
  event: { type: 'string' },
  since: { type: 'string' },
  status: { type: 'string' },
  follow: { type: 'boolean' },
} as const satisfies ParseArgsOptionsConfig

export type Option = keyof typeof options
export type Values = { [Name in Option]?: (typeof options)[Name]['type'] extends 'boolean' ? boolean : string }

/** Those every command takes. */
export const common: Option[] = ['json', 'env', 'help', 'version']

export interface Context {
  client: Client
  screen: Screen
  values: Values
  /** What follows the command's words. */
  args: string[]
  /** Asks a person. Throws UsageFault where nobody can be asked. */
  ask: Ask
}

export interface Ask {
  /** Resolves when the answer is yes; throws Declined otherwise. Not asked with --yes. */
  confirm(question: string): Promise<void>
  /** Read without showing it. */
  secret(question: string): Promise<string>
}

/** What a command has to say: the JSON of it, and the text of it. The dispatcher prints one of the two. */
export interface Result {
  json: unknown
  text: string
}

export interface Command {
  /** `connections list` */
  words: string
  /** `<id>` and options, as help shows them. */
  usage: string
  summary: string
  options: Option[]
  /** How many arguments follow its words. */
  args: { min: number; max: number }
  run(context: Context): Promise<Result>
}

/** The one value of an option that must be there. */
export function needed(values: Values, name: Option & string): string {
  const value = values[name]
  if (typeof value !== 'string' || value === '') throw new UsageFault(`--${name} is needed.`)
  return value
}
