import { Failure } from '../errors.ts'
import { hostAllowed } from './catalogue.ts'
import type { Provider } from './schema.ts'
import { expandUrl, type Values } from './template.ts'

/** Facts about an account, as the wire calls them: `connection_config`. */
export type ConnectionConfig = Record<string, unknown>

/** What templates of provider data may read of an account: its facts, and nothing secret. */
export const configValues = (config: ConnectionConfig): Values =>
  new Map(
    Object.entries(config).flatMap(([name, value]): [string, string][] =>
      typeof value === 'string' || typeof value === 'boolean' ? [[`connectionConfig.${name}`, String(value)]] : [],
    ),
  )

/**
 * The URL a template means for this account; undefined when a fact it needs is missing. Throws `host_not_allowed` when it leads
 * to a host the provider's definition does not name: a credential is never sent elsewhere.
 */
export const endpoint = (provider: Provider, source: string, config: ConnectionConfig): URL | undefined =>
  endpointFrom(provider, source, configValues(config))

/** `endpoint`, of templates that may read more than the account's facts. */
export function endpointFrom(provider: Provider, source: string, values: Values): URL | undefined {
  const url = expandUrl(source, values)
  if (url && !hostAllowed(provider, url.hostname))
    throw new Failure('host_not_allowed', { cause: `${provider.name}: ${url.hostname} is not an allowed host` })
  return url
}

/** `token_url` may be a map by auth mode. */
export const tokenUrlOf = (provider: Provider): string | undefined =>
  typeof provider.token_url === 'object' ? provider.token_url[provider.auth_mode] : provider.token_url
