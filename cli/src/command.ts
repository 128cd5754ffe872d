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
  contact: { type: 'string' },
  out: { type: 'string' },
  callback: { type: 'string' },
  policies: { type: 'boolean' },
  'refresh-ips': { type: 'string' },
  headless: { type: 'boolean' },
  deploy: { type: 'boolean' },
  'instance-url': { type: 'string' },
  'admin-token-file': { type: 'string' },
  header: { type: 'string', short: 'H', multiple: true },
  data: { type: 'string', short: 'd' },
  until: { type: 'string' },
  once: { type: 'boolean' },
  secrets: { type: 'boolean' },
  'passphrase-file': { type: 'string' },
  url: { type: 'string' },
  'key-file': { type: 'string' },
  'dry-run': { type: 'boolean' },
  'cut-over': { type: 'boolean' },
  to: { type: 'string' },
  organization: { type: 'string' },
  open: { type: 'boolean' },
} as const satisfies ParseArgsOptionsConfig

export type Option = keyof typeof options
export type Values = {
  [Name in Option]?: (typeof options)[Name] extends { multiple: true }
    ? string[]
    : (typeof options)[Name]['type'] extends 'boolean'
      ? boolean
      : string
}

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
  /** Read without showing it; where nobody can be asked, the option is what to give instead. */
  secret(what: string, option: Option): Promise<string>
}

/** What a command has to say: the JSON of it, and the text of it. The dispatcher prints one of the two. */
export interface Result {
  json: unknown
  text: string
  /** Said and done, and what was looked at is not well: exit code 1. */
  isBad?: boolean
}

export interface Command {
  /** `connections list` */
  words: string
  /** `<id>` and options, as help shows them. */
  usage: string
  summary: string
  /** What somebody might type, without `fairlead`. */
  example?: string
  options: Option[]
  /** How many arguments follow its words. */
  args: { min: number; max: number }
  /** Undefined when it has printed everything itself. */
  run(context: Context): Promise<Result | undefined>
}

/** The one value of an option that must be there. */
export function needed(values: Values, name: Option & string): string {
  const value = values[name]
  if (typeof value !== 'string' || value === '') throw new UsageFault(`--${name} is needed.`)
  return value
}
