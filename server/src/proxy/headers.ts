/** Which headers cross the proxy, each way. Pairs in, pairs out: order and repetition survive. */
import type { Live } from '../connection/live.ts'
import type { Signed } from '../credential/kinds/kind.ts'
import { presented } from '../credential/present.ts'
import { Failure } from '../errors.ts'
import { requestIdHeader } from '../http/api.ts'

/** RFC 9110 §7.6.1, with the historical ones. They speak of one hop and are made anew on the next. */
const hopByHop = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'http2-settings',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]

/** Hop-by-hop, ours, the wire contract's, and what says where a call came from: never sent to a provider. */
const notUpstream = new Set([
  ...hopByHop,
  'host',
  'expect',
  'cookie',
  'cookie2',
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
  'x-client-ip',
  'x-cluster-client-ip',
  'x-original-forwarded-for',
  'x-envoy-external-address',
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  'fastly-client-ip',
  'true-client-ip',
])
/** A caller's own tracing is nobody else's business: sent only when it says so, by prefix (W3C Trace Context, Baggage). */
const tracing = new Set(['traceparent', 'tracestate', 'baggage', 'sentry-trace'])
const notUpstreamPrefixes = ['x-forwarded-', 'sec-', 'fairlead-']

const forcing = /^(?:nango-proxy-|fairlead-proxy-)(?=.)/i

/** Headers that must be single, or two servers along the way may each obey another one (request smuggling). */
const single = ['host', 'content-length', 'authorization', 'x-api-key', 'provider-config-key', 'connection-id']

/** A request's headers in pairs, as they came. Node's object of them is not asked for: making it costs 2 µs, a few looks a tenth. */
export interface Head {
  raw: readonly string[]
  /** Of each pair. */
  names: readonly Traits[]
  /** A bit for each length of a name: most of what is looked for is not there, and so is told without looking. */
  lengths: number
}

/** Throws `proxy_header_conflict` when a header that must be single was sent twice. */
export function headOf(raw: readonly string[]): Head {
  const names: Traits[] = []
  let seen = 0
  let lengths = 0
  for (let i = 0; i < raw.length; i += 2) {
    const traits = traitsOf(raw[i]!)
    lengths |= 1 << traits.lower.length
    if ((seen & traits.single) !== 0)
      throw new Failure('proxy_header_conflict', { message: `${raw[i]} was sent more than once.` })
    seen |= traits.single
    names.push(traits)
  }
  return { raw, names, lengths }
}

/** All that was sent under this name, which is in lower case (RFC 9110 §5.3). */
export function headerOf({ raw, names, lengths }: Head, name: string): string | undefined {
  // A shift is by the count modulo 32 (ECMA-262 §6.1.6.1.9), here as where the bits were set.
  if ((lengths & (1 << name.length)) === 0) return undefined
  let value: string | undefined
  for (let i = 0; i < names.length; i++)
    if (names[i]!.lower === name) value = value === undefined ? raw[2 * i + 1]! : `${value}, ${raw[2 * i + 1]}`
  return value
}

/** What a request header's name alone decides. */
export interface Traits {
  /** As it is written. */
  name: string
  lower: string
  /** A bit of its own when it must be single, else 0. */
  single: number
  /** `X_Api_Key` and `X-Api-Key` are one variable to a CGI-like server (oauth2-proxy CVE-2025-64484), so they are one name here. */
  plain: string
  goesUp: boolean
  /** The name it goes up under; not the one it came with when it was forced by prefix. */
  upstream: string
  forced: boolean
}

/**
 * By length, because the same few dozen names come with every call, each time as a string nobody has seen: a Map would hash it first, and to
 * compare it with those of its length takes a third of that. Bounded, for the names are the caller's to choose.
 */
const known: Traits[][] = Array.from({ length: 48 }, () => [])
const mostOfOneLength = 16

function traitsOf(name: string): Traits {
  const alike = known[name.length]
  if (alike) for (let i = 0; i < alike.length; i++) if (alike[i]!.name === name) return alike[i]!
  const upstream = name.replace(forcing, '')
  const forced = upstream !== name
  const plain = plainName(upstream)
  const twin = plain !== upstream.toLowerCase()
  const goesUp =
    !notUpstream.has(plain) &&
    (forced || !tracing.has(plain)) &&
    !notUpstreamPrefixes.some(prefix => plain.startsWith(prefix)) &&
    !forcing.test(plainName(name.replace(forcing, ''))) &&
    !(plain === 'content-length' && (forced || twin))
  const lower = name.toLowerCase()
  const traits = {
    name,
    lower,
    single: single.includes(lower) ? 1 << single.indexOf(lower) : 0,
    plain,
    goesUp,
    upstream,
    forced,
  }
  if (alike) {
    if (alike.length === mostOfOneLength) alike.length = 0
    alike.push(traits)
  }
  return traits
}

const plainName = (name: string): string => name.toLowerCase().replaceAll('_', '-')

/**
 * The request headers for the provider. Later wins: what the caller sent, what the provider's definition sets, what the caller forces
 * by prefix; last of all our credential, which nothing replaces. `key` is the caller's API key: whatever header holds it stays here.
 */
export function upstreamHeaders(live: Live, head: Head, key: string, call: () => Signed): string[] {
  const { raw, names } = head
  const dropped = namedByConnection(headerOf(head, 'connection'))
  const sent: string[] = []
  const forced: string[] = []
  for (let i = 0; i < names.length; i++) {
    const value = raw[2 * i + 1]!
    const name = names[i]!
    // A caller's `Connection: authorization` takes nothing from us: only its own headers are dropped by it.
    if (!name.goesUp || dropped?.has(name.lower) || value.includes(key)) continue
    if (name.forced) forced.push(name.upstream, value)
    else sent.push(name.upstream, value)
  }
  const { plain, named, authorization } = presented(live.holder, live.credential, call)
  const set = without(plain, forced)
  const theirs = without(replaced(replaced(sent, set), forced), named)
  theirs.push(...named)
  if (authorization !== undefined) theirs.push('authorization', authorization)
  return theirs
}

/** Headers about a body that is not the caller's any more; its length is counted anew by who sends it. */
export function describing(pairs: string[], body: Buffer | null): string[] {
  const described = new Set([
    'content-length',
    ...(body ? [] : ['content-type', 'content-encoding', 'content-language']),
  ])
  const left = pairs.filter((_, i) => !described.has(pairs[i - (i % 2)]!.toLowerCase()))
  const isNamed = left.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'content-type')
  return body && !isNamed ? [...left, 'content-type', 'application/json'] : left
}

const replaced = (pairs: string[], replacing: readonly string[]): string[] =>
  replacing.length === 0 ? pairs : [...without(pairs, replacing), ...replacing]

/** The pairs whose names are not among those of `replacing`. */
function without<Pairs extends readonly string[]>(pairs: Pairs, replacing: readonly string[]): Pairs | string[] {
  if (replacing.length === 0) return pairs
  const names = new Set(replacing.filter((_, i) => i % 2 === 0).map(plainName))
  return pairs.filter((_, i) => !names.has(plainName(pairs[i - (i % 2)]!)))
}

/** RFC 9110 §7.6.1: what `Connection` names is hop-by-hop, too. Undefined when it names no header, which is nearly always. */
function namedByConnection(connection: string | undefined): Set<string> | undefined {
  if (connection === undefined || /^(?:keep-alive|close)$/i.test(connection)) return undefined
  return new Set(connection.split(',').map(name => name.trim().toLowerCase()))
}

/** Hop-by-hop, and what speaks for an origin: a provider speaks for its own, these would speak for ours (security checklist SS9). */
const notDownstream = new Set([
  ...hopByHop,
  'set-cookie',
  'set-cookie2',
  'strict-transport-security',
  'public-key-pins',
  'alt-svc',
  'clear-site-data',
  'nel',
  'report-to',
  'reporting-endpoints',
  'service-worker-allowed',
  'accept-ch',
  'origin-agent-cluster',
  'content-security-policy',
  'x-content-type-options',
  'fairlead-error',
  'fairlead-request-id',
])

export type Received = Record<string, string | string[] | undefined>

/** The headers that name addresses of the provider, each rewritten by `rewrite`: `Link` holds them in angle brackets (RFC 8288 §3). */
export function withAddresses(headers: Received, rewrite: (address: string) => string): Received {
  const out = { ...headers }
  for (const name of ['location', 'content-location']) if (typeof out[name] === 'string') out[name] = rewrite(out[name])
  if (out.link !== undefined)
    out.link = [out.link].flat().map(line => line.replace(/<([^<>]*)>/g, (_all, address) => `<${rewrite(address)}>`))
  return out
}

/** The provider's end-to-end headers, two of ours so that its HTML can never act as a page of this origin, and the call's id. */
export function downstreamHeaders(headers: Received, requestId: string): string[] {
  const pairs = endToEnd(headers)
  pairs.push('Content-Security-Policy', 'sandbox', 'X-Content-Type-Options', 'nosniff', requestIdHeader, requestId)
  return pairs
}

/** RFC 9110 §6.5.1: a trailer must not say what its sender could not have said in a header. */
export function downstreamTrailers(trailers: Received): [string, string][] {
  const flat = endToEnd(trailers)
  return flat.flatMap((name, i): [string, string][] => (i % 2 === 0 ? [[name, flat[i + 1]!]] : []))
}

function endToEnd(headers: Received): string[] {
  const { connection } = headers
  const dropped = namedByConnection(Array.isArray(connection) ? connection.join(',') : connection)
  const out: string[] = []
  // undici gives the names in lower case, in an object of its own making.
  for (const name in headers) {
    const value = headers[name]
    if (value === undefined || notDownstream.has(name) || dropped?.has(name)) continue
    if (name.startsWith('access-control-')) continue
    if (Array.isArray(value)) for (const one of value) out.push(name, one)
    else out.push(name, value)
  }
  return out
}
