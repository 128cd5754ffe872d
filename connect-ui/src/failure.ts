/** Which words a failure has: what happened, why most likely, what to do now, and the one button that does it. */
import type { ConnectError } from '@fairlead/contract'
import type { Key } from './words/en.ts'

export interface Failed {
  code: string
  /** What the server or the provider said, in its own words. */
  description: string
  error?: ConnectError
}

type Story =
  | 'denied'
  | 'client'
  | 'host'
  | 'session'
  | 'noSession'
  | 'expired'
  | 'browser'
  | 'mismatch'
  | 'away'
  | 'provider'
  | 'input'
  | 'setup'
  | 'credentials'
  | 'offline'
  | 'frame'
  | 'unknown'

const stories: Record<string, Story> = {
  access_denied: 'denied',
  token_client_invalid: 'client',
  host_not_allowed: 'host',
  egress_refused: 'host',
  unknown_connect_session_token: 'session',
  invalid_connect_session_token_format: 'session',
  missing_public_key: 'session',
  no_session: 'noSession',
  sign_in_expired: 'expired',
  state_unknown: 'expired',
  state_missing: 'expired',
  browser_mismatch: 'browser',
  account_mismatch: 'mismatch',
  token_endpoint_unreachable: 'away',
  token_exchange_unanswered: 'away',
  provider_error: 'provider',
  token_exchange_refused: 'provider',
  callback_malformed: 'provider',
  code_missing: 'provider',
  connection_config_missing: 'input',
  connection_config_invalid: 'input',
  connection_config_automated: 'input',
  unknown_provider_config: 'setup',
  unknown_provider_template: 'setup',
  integration_not_allowed: 'setup',
  return_url_not_allowed: 'setup',
  integration_credentials_missing: 'setup',
  connection_test_failed: 'credentials',
  connection_validation_failed: 'credentials',
  client_credentials_fetch_error: 'credentials',
  offline: 'offline',
  frame_not_allowed: 'frame',
}

export interface Told {
  title: Key
  why: Key
  what: Key
  /** What the one button does; nothing when only another page helps. */
  button: 'again' | 'back' | 'reload' | 'none'
}

const buttons: Partial<Record<Story, Told['button']>> = {
  session: 'none',
  noSession: 'none',
  frame: 'none',
  input: 'back',
  credentials: 'back',
  host: 'back',
  offline: 'reload',
}

export function tell(failed: Failed): Told {
  const story = stories[failed.code] ?? 'unknown'
  return { title: `${story}Title`, why: `${story}Why`, what: `${story}Do`, button: buttons[story] ?? 'again' }
}
