import {
  askResults,
  baseOf,
  blocked,
  type Ended,
  type Outcome,
  openPopup,
  outcomeOf,
  type Session,
  watch,
} from './results.ts'

export type ConnectEvent =
  | { type: 'ready' | 'close' }
  | { type: 'connect'; payload: { providerConfigKey: string; connectionId: string; isPending?: boolean } }
  | { type: 'error'; payload: { errorType: string; errorMessage: string } }

export interface ConnectOptions extends Session {
  /** `redirect` leaves this page; `connectReturned` tells the outcome on the page it comes back to. */
  mode?: 'iframe' | 'popup' | 'redirect'
  theme?: 'light' | 'dark' | 'system'
  lang?: string
  /** With `redirect`: where to come back to. One of the environment's `return_urls`, to the letter. */
  returnUrl?: string
  /** Everything Connect says, for those who want more than the end. */
  onEvent?: (event: ConnectEvent) => void
  signal?: AbortSignal
}

/**
 * Opens Connect for the session. Settles with the first account that is connected (Connect stays until the person closes it), or when it
 * was closed, failed for good, or the session ended. For a popup, call it inside a click, before any `await`.
 */
export function openConnect(options: ConnectOptions): Promise<Outcome> {
  const { mode = 'iframe', sessionToken, theme, lang } = options
  const baseUrl = baseOf(options.baseUrl)
  const url = new URL(`${baseUrl}/connect/`)
  if (theme) url.searchParams.set('theme', theme)
  if (lang) url.searchParams.set('lang', lang)
  // A frame is handed the token by message, which is in no history and no log.
  if (mode !== 'iframe') url.searchParams.set('session_token', sessionToken)
  if (mode === 'redirect') return leave(url, { baseUrl, sessionToken }, options.returnUrl)

  const frame = mode === 'iframe' ? showFrame(url.href) : undefined
  const popup = frame ? undefined : openPopup(url.href, 'fairlead-connect')
  if (popup === null) return Promise.resolve(blocked)
  const target = () => frame?.element.contentWindow ?? popup

  /** What had ended before: a session may be opened again. */
  let before: Set<string> | undefined
  let lastFailure: Outcome | undefined
  const nameOf = ({ attempt, at }: Ended) => `${attempt} ${at}`
  const { outcome, settle } = watch({
    baseUrl,
    sessionToken,
    popup,
    signal: options.signal,
    everyMs: 2000,
    look: ended => {
      before ??= new Set(ended.map(nameOf))
      const since = ended.filter(one => !before?.has(nameOf(one))).map(outcomeOf)
      // A failure is not the end: Connect offers another try.
      lastFailure ??= since.find(one => one.status === 'failed')
      return since.find(one => one.status === 'connected')
    },
    ifClosed: () => lastFailure ?? { status: 'closed' },
  })

  const remove = () => {
    removeEventListener('message', listen)
    clearTimeout(arrival)
    frame?.remove()
  }
  /** Who speaks is known by its window and its origin; anything else on the page may speak, too. */
  function listen({ source, origin, data }: MessageEvent<unknown>): void {
    if (source !== target() || origin !== url.origin) return
    const event = eventOf(data)
    if (!event) return
    options.onEvent?.(event)
    if (event.type === 'ready') {
      clearTimeout(arrival)
      frame?.element.contentWindow?.postMessage({ type: 'session_token', sessionToken }, url.origin)
    } else if (event.type === 'connect') {
      const { providerConfigKey, connectionId, isPending = false } = event.payload
      settle({
        status: 'connected',
        provider_config_key: providerConfigKey,
        connection_id: connectionId,
        is_pending: isPending,
      })
    } else if (event.type === 'error') {
      lastFailure = { status: 'failed', code: event.payload.errorType, message: event.payload.errorMessage }
    } else {
      settle(lastFailure ?? { status: 'closed' })
      remove()
      popup?.close()
    }
  }
  addEventListener('message', listen)
  const arrival = frame
    ? setTimeout(() => {
        const message = 'Connect did not come up. Is this origin one of allowed_origins of the environment?'
        settle({ status: 'failed', code: 'not_loaded', message })
      }, 15_000)
    : undefined
  void outcome.then(({ status }) => {
    // After a success Connect has a last word to the person, and says itself when it is done.
    if (status !== 'connected') remove()
    if (status === 'closed') popup?.close()
  })
  return outcome
}

function eventOf(data: unknown): ConnectEvent | undefined {
  const { type, payload } = (data ?? {}) as { type?: unknown; payload?: Record<string, unknown> }
  const hasTexts = (...names: string[]) => names.every(name => typeof payload?.[name] === 'string')
  const isEvent =
    type === 'ready' ||
    type === 'close' ||
    (type === 'connect' && hasTexts('providerConfigKey', 'connectionId')) ||
    (type === 'error' && hasTexts('errorType', 'errorMessage'))
  return isEvent ? (data as ConnectEvent) : undefined
}

/** Over the whole page; the page behind does not scroll, and has the focus again when it is gone. */
function showFrame(src: string) {
  const focused = document.activeElement
  const { overflow } = document.body.style
  const element = document.createElement('iframe')
  element.src = src
  element.id = 'fairlead-connect'
  element.title = 'Connect'
  element.allow = 'clipboard-write'
  element.style.cssText =
    'position:fixed;inset:0;width:100%;height:100%;border:0;z-index:2147483647;background:transparent;color-scheme:auto'
  document.body.style.overflow = 'hidden'
  document.body.append(element)
  element.focus()
  return {
    element,
    remove() {
      if (!element.isConnected) return
      element.remove()
      document.body.style.overflow = overflow
      if (focused instanceof HTMLElement) focused.focus()
    },
  }
}

const kept = 'fairlead-connect'

function leave(url: URL, session: Session, returnUrl: string | undefined): Promise<Outcome> {
  if (returnUrl !== undefined) url.searchParams.set('return_url', returnUrl)
  sessionStorage.setItem(kept, JSON.stringify(session))
  location.assign(url)
  // The page is left, so nothing hears of this; but "back" may bring it to life again as it was.
  return new Promise(resolve =>
    addEventListener('pageshow', async () => resolve((await connectReturned()) ?? { status: 'closed' }), {
      once: true,
    }),
  )
}

/** On the page that `redirect` comes back to: how it ended. Undefined where nothing was begun. */
export async function connectReturned(): Promise<Outcome | undefined> {
  const text = sessionStorage.getItem(kept)
  if (text === null) return undefined
  sessionStorage.removeItem(kept)
  const ended = await askResults(JSON.parse(text) as Session)
  if (ended === 'expired') return { status: 'expired' }
  // Newest first.
  const outcomes = (ended ?? []).map(outcomeOf)
  return outcomes.find(one => one.status === 'connected') ?? outcomes[0] ?? { status: 'closed' }
}
