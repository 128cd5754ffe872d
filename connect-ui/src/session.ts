/**
 * Where the session's token comes from, and who may be told what became of it. The token leaves the address at once, so that it stays in no
 * history and is shown to nobody; it lives in this entry of the tab's history, and a reload finds it there.
 */

export interface Opened {
  token: string
  /** Who framed this page, as an origin; undefined when nobody did. */
  parent: string | undefined
}

export type Opening = { kind: 'opened'; opened: Opened } | { kind: 'none' }

export const isFramed = (): boolean => window.parent !== window

const tokenForm = /^nango_connect_session_[0-9a-f]{64}$/
const waitForParentMs = 10_000

/** Who frames this page, as far as the browser says so. */
function framedBy(): string | undefined {
  const [nearest] = location.ancestorOrigins ?? []
  if (nearest) return nearest
  return document.referrer ? new URL(document.referrer).origin : undefined
}

export function openSession(): Promise<Opening> {
  const url = new URL(location.href)
  const kept = (history.state as { token?: unknown } | null)?.token
  const token = url.searchParams.get('session_token') ?? (typeof kept === 'string' ? kept : undefined)
  if (token) {
    url.searchParams.delete('session_token')
    history.replaceState({ token }, '', `${url.pathname}${url.search}`)
    return Promise.resolve({ kind: 'opened', opened: { token, parent: isFramed() ? framedBy() : undefined } })
  }
  if (!isFramed()) return Promise.resolve({ kind: 'none' })
  return fromParent()
}

/** The wire contract's handshake: `ready` goes out, `session_token` comes back. It is the parent's own word, so its origin is known. */
function fromParent(): Promise<Opening> {
  return new Promise(resolve => {
    const end = (opening: Opening) => {
      clearTimeout(timer)
      window.removeEventListener('message', listen)
      resolve(opening)
    }
    const listen = (event: MessageEvent<unknown>) => {
      if (event.source !== window.parent || event.origin === 'null') return
      const { type, sessionToken } = (event.data ?? {}) as { type?: unknown; sessionToken?: unknown }
      if (type !== 'session_token' || typeof sessionToken !== 'string' || !tokenForm.test(sessionToken)) return
      end({ kind: 'opened', opened: { token: sessionToken, parent: event.origin } })
    }
    const timer = setTimeout(() => end({ kind: 'none' }), waitForParentMs)
    window.addEventListener('message', listen)
    // Says nothing but that this page is there, so it may go to a parent whose origin the browser keeps to itself.
    window.parent.postMessage({ type: 'ready' }, framedBy() ?? '*')
  })
}

export type Message =
  | { type: 'close' }
  | { type: 'connect'; payload: { providerConfigKey: string; connectionId: string; isPending: boolean } }
  | { type: 'error'; payload: { errorType: string; errorMessage: string } }

/** Tells the page that framed or opened this one, at origins that are known; a browser drops what is for another. */
export function tellerTo(parent: string | undefined, allowed: readonly string[]): (message: Message) => void {
  return message => {
    if (parent) window.parent.postMessage(message, parent)
    else if (window.opener && window.opener !== window)
      for (const origin of allowed) (window.opener as Window).postMessage(message, origin)
  }
}

/** An empty list allows every site, as the server's own policy does. */
export const mayFrame = (parent: string | undefined, allowed: readonly string[]): boolean =>
  parent === undefined || allowed.length === 0 || parent === location.origin || allowed.includes(parent)

/** Where the browser goes when all is done: what the link says, which must be one of the environment's addresses, to the letter. */
export function returnUrlOf(allowed: readonly string[]): { url: string | undefined; isRefused: boolean } {
  const asked = isFramed() ? null : new URL(location.href).searchParams.get('return_url')
  if (asked === null) return { url: undefined, isRefused: false }
  return allowed.includes(asked) ? { url: asked, isRefused: false } : { url: undefined, isRefused: true }
}
