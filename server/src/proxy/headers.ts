/** Which headers cross the proxy, each way. Pairs in, pairs out: order and repetition survive. */
import type { IncomingHttpHeaders } from 'node:http'
import type { Live } from '../connection/live.ts'
import { Failure } from '../errors.ts'
import { configValues } from '../provider/endpoint.ts'
import { expand } from '../provider/template.ts'

/** RFC 9110 §7.6.1, with the historical ones. They speak of one hop and are made anew on the next. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Ours, the wire contract's, and what says where a call came from: never sent to a provider. */
const notUpstream = new Set([
  'host',
  'expect',
  'cookie',
  'authorization',
  'x-api-key',
  'provider-config-key',
  'connection-id',
  'retries',
  'retry-on',
  'base-url-override',
  'decompress',
  'forward-headers-on-redirect',
  'nango-activity-log-id',
  'nango-is-sync',
  'nango-is-script',
  'nango-is-dry-run',
  'forwarded',
  'via',
  'x-real-ip',
  'cf-connecting-ip',
  'true-client-ip',
])
const notUpstreamPrefixes = ['x-forwarded-', 'sec-', 'fairlead-']

const forced = /^(?:nango-proxy-|fairlead-proxy-)(.+)$/

/** Headers that must be single, or two servers along the way may each obey another one (request smuggling). */
const single = new Set(['host', 'content-length', 'authorization', 'provider-config-key', 'connection-id'])

/** Throws `proxy_header_conflict` when a header that must be single was sent twice. */
export function refuseConflicts(raw: readonly string[]): void {
  const seen = new Set<string>()
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase()
    if (!single.has(name)) continue
    if (seen.has(name)) throw new Failure('proxy_header_conflict', { message: `${raw[i]} was sent more than once.` })
    seen.add(name)
  }
}

/**
 * The request headers for the provider. Later wins: what the caller sent, what the provider's definition sets, what the caller forces
 * by prefix; last of all our credential, which nothing replaces.
 */
export function upstreamHeaders(live: Live, raw: readonly string[], headers: IncomingHttpHeaders): string[] {
  const dropped = namedByConnection(headers.connection)
  const out: string[] = []
  const force: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!
    const lower = name.toLowerCase()
    const wanted = forced.exec(lower)?.[1]
    if (wanted) {
      if (mayGoUp(wanted) && wanted !== 'content-length') force.push(wanted, raw[i + 1]!)
    } else if (mayGoUp(lower) && !dropped.has(lower)) out.push(name, raw[i + 1]!)
  }
  const values = configValues(live.credential.config)
  const set = Object.entries(live.provider.proxy?.headers ?? {}).flatMap(([name, source]) => {
    const value = expand(source, values)
    return value === undefined || lowerNames(force).has(name.toLowerCase()) ? [] : [name, value]
  })
  const replaced = lowerNames([...force, ...set])
  const kept: string[] = []
  for (let i = 0; i < out.length; i += 2) if (!replaced.has(out[i]!.toLowerCase())) kept.push(out[i]!, out[i + 1]!)
  return [...kept, ...set, ...force, 'authorization', `Bearer ${live.credential.accessToken.reveal()}`]
}

const mayGoUp = (name: string): boolean =>
  !hopByHop.has(name) && !notUpstream.has(name) && !notUpstreamPrefixes.some(prefix => name.startsWith(prefix))

/** A caller's `Connection: authorization` must not take anything from us: only its own headers are dropped by it. */
const namedByConnection = (connection: string | undefined): Set<string> =>
  new Set((connection ?? '').split(',').map(name => name.trim().toLowerCase()))

function lowerNames(pairs: readonly string[]): Set<string> {
  const names = new Set<string>()
  for (let i = 0; i < pairs.length; i += 2) names.add(pairs[i]!.toLowerCase())
  return names
}

/** A provider speaks for its own origin; these would speak for ours (security checklist SS9). */
const notDownstream = new Set([
  'set-cookie',
  'set-cookie2',
  'strict-transport-security',
  'alt-svc',
  'clear-site-data',
  'fairlead-error',
])

/** The provider's end-to-end headers, and two of ours so that its HTML can never act as a page of this origin. */
export function downstreamHeaders(headers: Record<string, string | string[] | undefined>): string[] {
  const dropped = namedByConnection([headers.connection].flat().join(','))
  const out: string[] = []
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase()
    if (value === undefined || hopByHop.has(lower) || notDownstream.has(lower) || dropped.has(lower)) continue
    if (
      lower.startsWith('access-control-') ||
      lower === 'content-security-policy' ||
      lower === 'x-content-type-options'
    )
      continue
    for (const one of Array.isArray(value) ? value : [value]) out.push(name, one)
  }
  out.push('Content-Security-Policy', 'sandbox', 'X-Content-Type-Options', 'nosniff')
  return out
}
