/** Where a proxied call goes. The path is taken as it was written and never re-encoded; it can only go below the connection's base URL. */
import type { Live } from '../connection/live.ts'
import { presentedQuery } from '../credential/present.ts'
import type { Credential } from '../credential/store.ts'
import { Failure } from '../errors.ts'
import type { Integration } from '../integration/store.ts'
import { hostAllowed } from '../provider/catalogue.ts'
import { configValues, endpoint } from '../provider/endpoint.ts'

export interface Target extends Base {
  /** Path and query, verbatim. */
  path: string
}

/** The base URL of a connection's API, taken apart: scheme, host and port, and a path without a slash at its end. */
interface Base {
  origin: string
  prefix: string
}

/** What the caller said of where its call goes. */
interface Asked {
  /** Path and query as they came over the wire, behind `/proxy/` or `/via/<key>/<id>/`. */
  rest: string
  /** The wire contract's Base-Url-Override. */
  override?: string | undefined
  /** By path, `${…}` is an SDK's own text; by headers it is the wire contract's. */
  via?: string | undefined
}

/** A credential's facts never change (a refresh makes a new one), so neither does the base URL built and checked from them. */
const bases = new WeakMap<Credential | Integration, Base>()

/** Checked against the provider's hosts; where the developer named a base URL for the integration (the wire's `custom`), that alone counts. */
function baseOf({ provider, holder, integration, credential }: Live): Base {
  const own = holder.baseUrl
  const known = bases.get(own ? integration : credential)
  if (known) return known
  if (own) {
    const base = apart(new URL(own))
    bases.set(integration, base)
    return base
  }
  const url = provider.proxy?.base_url && endpoint(provider, provider.proxy.base_url, credential.config)
  if (!url) throw new Failure('proxy_base_unknown')
  const base = apart(url)
  bases.set(credential, base)
  return base
}

const apart = (url: URL): Base => ({ origin: url.origin, prefix: url.pathname.replace(/\/+$/, '') })

/** The credential goes where the caller says, so only to hosts that the integration names. The scheme is the egress policy's to judge. */
function overriding({ integration }: Live, override: string): Base {
  if (integration.baseUrlHosts.length === 0) throw new Failure('base_url_override_disabled')
  const url = URL.parse(override)
  const isPlain = url && /^https?:$/.test(url.protocol) && !/[\s\\@?#]/.test(override)
  if (!isPlain || !integration.baseUrlHosts.includes(url.host)) throw new Failure('base_url_override_not_allowed')
  return apart(url)
}

/** Throws the Failure a call ends with that must not go there. */
export function targetOf(live: Live, asked: Asked): Target {
  const { origin, prefix } = asked.override === undefined ? baseOf(live) : overriding(live, asked.override)
  const rest = asked.via === undefined && asked.rest.includes('$') ? interpolated(live, asked.rest) : asked.rest
  const cut = rest.indexOf('?')
  const path = belowBase(cut < 0 ? rest : rest.slice(0, cut), `${origin}${prefix}`)
  checkPath(path)
  return { origin, prefix, path: `${prefix}/${path}${withProviderQuery(live, cut < 0 ? '' : rest.slice(cut))}` }
}

/**
 * `${connectionConfig.x}` in the caller's path or query, also with its braces escaped, as URL libraries leave them. Facts of the account
 * alone, never a credential; what names none of them stays as it is. A fact that begins the path may be a whole URL, as in provider data;
 * any other is percent-encoded, so that it can neither add nor remove a segment.
 */
function interpolated({ credential }: Live, rest: string): string {
  const values = configValues(credential.config)
  return rest.replace(/\$(?:\{|%7B)(connectionConfig\.[\w.-]+)(?:\}|%7D)/gi, (token, name: string, at: number) => {
    const value = values.get(name)
    if (value === undefined) return token
    return at === 0 ? value.replace(/\/+$/, '') : encodeURIComponent(value.toWellFormed())
  })
}

/**
 * Where a redirect leads that is followed here: to a host the provider's definition lets credentials go to, never from TLS to clear text
 * (security checklist SS5). Undefined: the caller gets the redirect.
 */
export function redirected({ provider }: Live, from: Target, location: unknown): Target | undefined {
  const url = typeof location === 'string' ? URL.parse(location, from.origin + from.path) : null
  if (!url || url.username || url.password || !hostAllowed(provider, url.hostname)) return undefined
  if (url.protocol !== 'https:' && url.protocol !== new URL(from.origin).protocol) return undefined
  return { origin: url.origin, prefix: '', path: url.pathname + url.search }
}

/** Clients may send the whole URL of a resource the provider named; below the base URL it is its path, elsewhere it is refused. */
function belowBase(path: string, base: string): string {
  if (path === base) return ''
  if (path.startsWith(`${base}/`)) return path.slice(base.length + 1)
  // One slash suffices: servers in front of us merge two. `documents:search` is a path.
  if (/^[a-z][a-z0-9+.-]*:\//i.test(path)) throw new Failure('proxy_path_absolute')
  return path
}

/** Escaped any number of times: a server behind the provider's gateway may decode once more than the gateway did. */
const escaped = (character: string, hex: string): string => `(?:${character}|%(?:25)*${hex})`
const dot = escaped('\\.', '2e')
const slash = escaped('/', '2f')
/** `..;x` is a segment some Java servers read as `..`. */
const semicolon = escaped(';', '3b')
const traversal = new RegExp(`(?:^|${slash})${dot}{1,2}(?:$|${slash}|${semicolon})`, 'i')
/** Also what cannot stand in a request target at all (RFC 3986 §3.3): spaces, `#`, bytes beyond ASCII. */
const malformed = /[^\x21-\x7e]|[#\\]|%(?![0-9a-f]{2})|%(?:25)*(?:[01][0-9a-f]|7f|5c)/i

/** The connection's address on this server, as the caller wrote it: `path` reads `/via/<key>/<id>`, or `/proxy` where headers name it. */
export interface Mount {
  origin: string
  path: string
}

/**
 * An address of the provider as the caller reaches it here (Apache calls this ProxyPassReverse): an absolute one below the base URL, or
 * a path that begins there. Any other comes back as it is, and so does one that could leave the mount: to a client that resolves it,
 * `/via/a/1/../../b/2` is another connection.
 */
export function mounted({ origin, prefix }: Base, mount: Mount, address: string): string {
  const [, absolute = '', rest] = /^(https?:\/\/[\w.:[\]-]+(?=[/?#]|$))?(.*)$/is.exec(address) ?? []
  if (rest === undefined || (absolute ? URL.parse(absolute)?.origin !== origin : !rest.startsWith('/'))) return address
  const below = rest.slice(prefix.length)
  if (!rest.startsWith(prefix) || !/^(?:$|[/?#])/.test(below)) return address
  try {
    checkPath(/^\/?([^?#]*)/.exec(below)![1]!)
  } catch {
    return address
  }
  return `${absolute && mount.origin}${mount.path}${below}`
}

function checkPath(path: string): void {
  if (path.startsWith('/') || malformed.test(path)) throw new Failure('proxy_path_malformed')
  if (traversal.test(path)) throw new Failure('proxy_path_traversal')
  if (!path.includes('%')) return
  try {
    // Overlong forms such as %C0%AE are dots to a careless decoder; U+0080–U+009F are control characters, too.
    if (/\p{Cc}/u.test(decodeURIComponent(path))) throw new Failure('proxy_path_malformed')
  } catch {
    throw new Failure('proxy_path_malformed')
  }
}

/** `query` begins with its "?" or is empty; it stays as it was written, what the provider's definition adds comes after it. */
function withProviderQuery({ provider, credential }: Live, query: string): string {
  if (!provider.proxy?.query) return query
  const added = presentedQuery(provider, credential)
  if (added === '') return query
  return `${query.length > 1 ? `${query}&` : '?'}${added}`
}
