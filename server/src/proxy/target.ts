/** Where a proxied call goes. The path is taken as it was written and never re-encoded; it can only go below the connection's base URL. */
import type { Live } from '../connection/live.ts'
import type { Credential } from '../credential/store.ts'
import { Failure } from '../errors.ts'
import { configValues, endpoint } from '../provider/endpoint.ts'
import { expand } from '../provider/template.ts'

export interface Target {
  /** Scheme, host and port. */
  origin: string
  /** Path and query, verbatim. */
  path: string
}

/** The base URL of a connection's API, taken apart. `prefix` has no slash at its end. */
interface Base {
  origin: string
  prefix: string
}

/** A credential's facts never change (a refresh makes a new one), so neither does the base URL built and checked from them. */
const bases = new WeakMap<Credential, Base>()

/** Checked against the provider's hosts. */
function baseOf({ provider, credential }: Live): Base {
  const known = bases.get(credential)
  if (known) return known
  const url = provider.proxy?.base_url && endpoint(provider, provider.proxy.base_url, credential.config)
  if (!url) throw new Failure('proxy_base_unknown')
  const base = { origin: url.origin, prefix: url.pathname.replace(/\/+$/, '') }
  bases.set(credential, base)
  return base
}

/** `rest` is what follows `/proxy/` or `/via/<key>/<id>/`, query included, as it came over the wire. */
export function targetOf(live: Live, rest: string): Target {
  const { origin, prefix } = baseOf(live)
  const cut = rest.indexOf('?')
  const path = belowBase(cut < 0 ? rest : rest.slice(0, cut), `${origin}${prefix}`)
  checkPath(path)
  return { origin, path: `${prefix}/${path}${withProviderQuery(live, cut < 0 ? '' : rest.slice(cut))}` }
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

/** The connection's address on this server, as the caller wrote it: `path` reads `/via/<key>/<id>`. */
export interface Mount {
  origin: string
  path: string
}

/**
 * An address of the provider as the caller reaches it here (Apache calls this ProxyPassReverse): an absolute one below the base URL, or
 * a path that begins there. Any other comes back as it is, and so does one that could leave the mount: to a client that resolves it,
 * `/via/a/1/../../b/2` is another connection.
 */
export function mounted(live: Live, mount: Mount, address: string): string {
  const { origin, prefix } = baseOf(live)
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
  const values = configValues(credential.config)
  const added = Object.entries(provider.proxy.query).flatMap(([name, source]) => {
    const value = expand(source, values)
    return value === undefined ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`]
  })
  if (added.length === 0) return query
  return `${query.length > 1 ? `${query}&` : '?'}${added.join('&')}`
}
