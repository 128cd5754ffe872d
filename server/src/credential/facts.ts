import { beginsUrl, hostAllowed } from '../provider/catalogue.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import type { Egress } from '../seams.ts'

/**
 * Facts a provider told us about an account, with every host among them checked before anything is sent there: a URL or host name
 * must be on the provider's list and be one the egress policy would reach. URLs lose their trailing slash.
 */
export function checkFacts(
  provider: Provider,
  facts: ConnectionConfig,
  egress: Pick<Egress, 'check'>,
): { facts: ConnectionConfig; refused: string[] } {
  const safe: ConnectionConfig = {}
  const refused: string[] = []
  for (const [name, value] of Object.entries(facts)) {
    const format = provider.connection_config?.[name]?.format
    const saysHost = format === 'uri' || format === 'hostname' || beginsUrl(provider, name)
    if (typeof value !== 'string' || !(saysHost || /^https?:\/\//i.test(value))) {
      safe[name] = value
      continue
    }
    const url = URL.parse(format === 'hostname' ? `https://${value}` : value)
    if (
      !url ||
      !/^https?:$/.test(url.protocol) ||
      url.username ||
      !hostAllowed(provider, url.hostname) ||
      !reachable(egress, url)
    ) {
      refused.push(url?.hostname ?? name)
      continue
    }
    safe[name] = format === 'hostname' ? url.hostname : `${url.origin}${url.pathname}`.replace(/\/+$/, '')
  }
  return { facts: safe, refused }
}

/** Whose account it is, by the facts provider data calls its identity; null where data names none or the provider told not all of them. */
export function accountOf(provider: Provider, facts: ConnectionConfig): string | null {
  const told = (provider.identity ?? []).map(name => facts[name])
  return told.length > 0 && told.every(value => typeof value === 'string' && value !== '') ? JSON.stringify(told) : null
}

function reachable(egress: Pick<Egress, 'check'>, url: URL): boolean {
  try {
    egress.check(url)
    return true
  } catch {
    return false
  }
}
