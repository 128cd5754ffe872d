/**
 * What a provider definition cannot say as data: named hooks, in a module beside the definition's file and of the provider's name, as
 * `export const hooks: Hooks`. An `alias` has those of its base unless it has its own. Core calls them where they are named and knows
 * nothing of what they do; they get what they need, reach the provider only through what they are handed, and hold no state.
 */
import type { ExplainedCause, Finding, Health } from '@fairlead/contract'
import type { Provider } from './schema.ts'

/** Connection config: facts about an account. */
export type Facts = Readonly<Record<string, unknown>>

export interface Hooks {
  /** What sort of account a definition is for, when a sister is for another sort: two of one family tell them apart by this. */
  serves?: string

  /** What a person typed for a member of connection config, as facts in the provider's own spelling, or why it cannot be meant. */
  readFact?(provider: Provider, name: string, typed: string): FactRead | undefined

  /** Before the user leaves: is this an account of another sort already by what is known? */
  beforeSignIn?(leaving: Leaving): Elsewhere | undefined

  /** After the tokens came and before anything is stored. What it cannot find out is no reason to refuse. */
  checkAccount?(account: NewAccount): Promise<AccountChecked>

  /** An error of the provider, as a cause with what may be behind it. */
  explain?(said: Said): ExplainedCause | undefined

  /** The OAuth app one makes at the provider, as a project that its own tools deploy; or, in words, what cannot be made. */
  appProject?(wanted: AppProjectWanted): { archive: Uint8Array } | { faults: string[] }

  /** Worst first is the caller's business. */
  examine?(patient: Patient): Promise<Finding[]>

  /** What came to the address of one connection (webhook/inbound/). Whoever knows the address may have sent it. */
  readWebhook?(webhook: IncomingWebhook): Promise<WebhookRead>
}

export interface IncomingWebhook {
  /** Of the account it has to come from. */
  config: Facts
  body: string
}

export type WebhookRead =
  | {
      kind: 'read'
      /** An id stays the same when the provider sends its message again. */
      messages: { id: string; payload: Record<string, unknown> }[]
      /** What tells the provider that it was taken, sent once it is stored. */
      answer: { type: string; body: string }
    }
  /** A sentence about its form, without anything of what was sent. */
  | { kind: 'unreadable'; fault: string }
  /** Of another account than the connection's. */
  | { kind: 'stranger' }

export interface AppProjectWanted {
  name: string
  contact: string
  callback: string
  scopes: string[]
  /** Sign-in without a browser, which nothing here needs. */
  headless: boolean
  policies: boolean
  /** Addresses from which refresh tokens may be used, as `first-last`; none: from anywhere. */
  refreshIps: string[]
}

export type FactRead = { facts: Record<string, string> } | { fault: string }

export interface Leaving {
  provider: Provider
  config: Facts
  /** Whom the sign-in is for, as far as anybody said. */
  loginHint: string | undefined
  email: string | undefined
}

/** It belongs to a definition with this `serves`. */
export interface Elsewhere {
  serves: string
  cause: ExplainedCause
  /** What was learned and the other sign-in should start from. */
  params: Record<string, string>
}

/** A GET of a path below the account's base URL, with its access token. Undefined when there was no answer. */
export type AskApi = (path: string) => Promise<Reply | undefined>

export interface Reply {
  status: number
  headers: Record<string, string | string[] | undefined>
  /** Cut off at a length no answer to a hook's question has. */
  body: string
}

export interface NewAccount {
  provider: Provider
  /** Facts given and told, hosts checked. */
  config: Facts
  /** The token response without its tokens. */
  told: Record<string, unknown>
  scopesRequested: readonly string[]
  scopesGranted: readonly string[]
  api: AskApi
}

export type AccountChecked =
  | {
      kind: 'belongs'
      facts: Record<string, string>
      /** Asked for and not granted, as far as that limits anything. */
      missingScopes?: string[]
    }
  | { kind: 'elsewhere'; elsewhere: Elsewhere }

/** Where an error was met: on the way to the provider's page, at its token endpoint, in its API, or nowhere at all. */
export type Where = 'authorize' | 'token' | 'refresh' | 'reconnect' | 'api' | 'silence'

export interface Said {
  provider: Provider
  where: Where
  /** The code, as the provider spells it; empty for silence. */
  error: string
  description: string
  /** What is known of the account. */
  config: Facts
  /** The callback of this server. */
  redirectUri: string
  /** Addresses this server's requests come from, as far as they are known. */
  exits: readonly string[]
}

export interface Patient {
  provider: Provider
  config: Facts
  clientId: string
  redirectUri: string
  health: Health
  /** As `ConnectionState.cause`. */
  cause: string | null
  /** What the provider said with it: its error and its description. */
  said: readonly [error: string, description: string] | null
  scopesRequested: readonly string[]
  scopesGranted: readonly string[]
  renewable: boolean
  /** A renewal has brought a new refresh token before; undefined while none has shown it. */
  rotates: boolean | undefined
  grants: number
  /** Calls of a day used and allowed, when some answer said so lately. */
  usage: { used: number; limit: number } | undefined
  exits: readonly string[]
  /** With a fresh access token; undefined also when the connection has none that works. */
  api: AskApi
  /** A GET without credentials of a URL on an allowed host; redirects are not followed. */
  open(url: URL): Promise<Reply | undefined>
  /** A form to an endpoint on an allowed host, with the integration's client id and secret. */
  asClient(url: URL, form: Record<string, string>): Promise<Reply | undefined>
  /** Does the provider still know the token? */
  introspect(token: 'access_token' | 'refresh_token'): Promise<'active' | 'inactive' | 'unknown' | 'not_offered'>
}
