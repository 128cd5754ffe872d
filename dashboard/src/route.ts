/** Every view is a URL: the path below /app names the page, the query what is shown of it. A link is an <a> that keeps the page. */
import { useSyncExternalStore } from 'react'

const base = '/app'
const changed = new EventTarget()

const subscribe = (listener: () => void) => {
  changed.addEventListener('change', listener)
  addEventListener('popstate', listener)
  return () => {
    changed.removeEventListener('change', listener)
    removeEventListener('popstate', listener)
  }
}

export interface Route {
  /** `/connections/…`, without the base. */
  path: string
  /** Its segments, decoded. */
  parts: string[]
  query: URLSearchParams
}

export function useRoute(): Route {
  const href = useSyncExternalStore(subscribe, () => location.pathname + location.search)
  const url = new URL(href, location.origin)
  const path = url.pathname.slice(base.length) || '/'
  return { path, parts: path.split('/').filter(Boolean).map(decodeURIComponent), query: url.searchParams }
}

export const hrefOf = (path: string): string => base + path

export function navigate(path: string, { replace = false } = {}): void {
  history[replace ? 'replaceState' : 'pushState'](null, '', hrefOf(path))
  changed.dispatchEvent(new Event('change'))
  if (!replace) scrollTo(0, 0)
}

/** Names and values into a query; what is empty is left out. */
export function withQuery(path: string, values: Record<string, string | undefined>): string {
  const query = new URLSearchParams(Object.entries(values).filter((entry): entry is [string, string] => !!entry[1]))
  return query.size > 0 ? `${path}?${query}` : path
}

/** A filter in the address: replaces rather than adds to the history, so that "back" leaves the list. */
export function setQuery(change: Record<string, string | undefined>): void {
  const query = new URLSearchParams(location.search)
  for (const [name, value] of Object.entries(change)) {
    if (value) query.set(name, value)
    else query.delete(name)
  }
  navigate(`${location.pathname.slice(base.length)}${query.size > 0 ? `?${query}` : ''}`, { replace: true })
}
