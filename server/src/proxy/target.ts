/** Where a proxied call goes. The path is taken as it was written and never re-encoded; it can only go below the connection's base URL. */
import type { Live } from '../connection/live.ts'
import { Failure } from '../errors.ts'
import { configValues, endpoint } from '../provider/endpoint.ts'
import { expand } from '../provider/template.ts'

export interface Target {
  /** Scheme, host and port. */
  origin: string
  /** Path and query, verbatim. */
  path: string
}

/** The base URL of a connection's API, checked against the provider's hosts. */
export function baseUrlOf(live: Live): URL {
  const { provider, credential } = live
  const base = provider.proxy?.base_url && endpoint(provider, provider.proxy.base_url, credential.config)
  if (!base) throw new Failure('proxy_base_unknown')
  return base
}

/** `rest` is what follows `/proxy/` or `/via/<key>/<id>/`, query included, as it came over the wire. */
export function targetOf(live: Live, rest: string): Target {
  const base = baseUrlOf(live)
  const prefix = base.pathname.replace(/\/+$/, '')
  const cut = rest.indexOf('?')
  const path = belowBase(cut < 0 ? rest : rest.slice(0, cut), `${base.origin}${prefix}`)
  checkPath(path)
  const query = withProviderQuery(live, cut < 0 ? '' : rest.slice(cut + 1))
  return { origin: base.origin, path: `${prefix}/${path}${query ? `?${query}` : ''}` }
}

/** Clients may send the whole URL of a resource the provider named; below the base URL it is its path, elsewhere it is refused. */
function belowBase(path: string, base: string): string {
  if (path === base) return ''
  if (path.startsWith(`${base}/`)) return path.slice(base.length + 1)
  if (/^[a-z][a-z0-9+.-]*:/i.test(path)) throw new Failure('proxy_path_absolute')
  return path
}

function checkPath(path: string): void {
  if (path.startsWith('/') || /[\\\s#\p{Cc}]/u.test(path)) throw new Failure('proxy_path_malformed')
  let decoded = path
  // Twice: a server behind the provider's gateway may decode once more than the gateway did.
  for (let i = 0; i < 2; i++) {
    try {
      decoded = decodeURIComponent(decoded)
    } catch {
      if (i === 0) throw new Failure('proxy_path_malformed')
    }
  }
  if (/[\\\p{Cc}]/u.test(decoded)) throw new Failure('proxy_path_malformed')
  // `..;x` is a segment some Java servers read as `..`.
  if (decoded.split('/').some(segment => /^\.{1,2}(;.*)?$/.test(segment))) throw new Failure('proxy_path_traversal')
}

function withProviderQuery(live: Live, query: string): string {
  const values = configValues(live.credential.config)
  const added = Object.entries(live.provider.proxy?.query ?? {}).flatMap(([name, source]) => {
    const value = expand(source, values)
    return value === undefined ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`]
  })
  return [query, ...added].filter(Boolean).join('&')
}
