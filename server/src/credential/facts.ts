import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Secret } from '../lib/secret.ts'
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

/**
 * Hosts somebody gave that were the account's own, when the account is at another one by now: the next renewal, and whoever signs in again,
 * would otherwise ask at an address that is served for a while yet and then no more. `learned` has been checked.
 */
export function followingHosts(
  { connection_config: fields = {} }: Provider,
  before: ConnectionConfig,
  learned: ConnectionConfig,
): Record<string, string> {
  const hostOf = (fact: unknown) => (typeof fact === 'string' ? URL.parse(fact)?.hostname : undefined)
  const followed = Object.entries(fields).flatMap(([name, { follows }]) => {
    if (follows === undefined) return []
    const [was, is] = [hostOf(before[follows]), hostOf(learned[follows])]
    return was && is && was !== is && before[name] === was ? [[name, is]] : []
  })
  return Object.fromEntries(followed)
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

/**
 * Does the signature in a token response hold, at a provider that signs some members of it with the client's secret? A response without
 * one, and a client without a secret, prove nothing either way.
 */
export function isSigned(provider: Provider, raw: Record<string, unknown>, secret: Secret | null): boolean {
  const rule = provider.token_response_signature
  const given = rule && raw[rule.member]
  if (!rule || typeof given !== 'string' || given === '' || !secret) return true
  const text = rule.over.map(member => String(raw[member] ?? '')).join('')
  const expected = createHmac('sha256', secret.reveal()).update(text).digest()
  const actual = Buffer.from(given, 'base64')
  return actual.length === expected.length && timingSafeEqual(actual, expected)
}
