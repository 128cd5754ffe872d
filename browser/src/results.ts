import type { ConnectResult, ErrorCode } from '@fairlead/contract'

/** A code of /docs/errors, or: the browser allowed no window; the page in the frame never came up. */
export type FailureCode = ErrorCode | 'popup_blocked' | 'not_loaded' | (string & {})

export type Outcome =
  | { status: 'connected'; provider_config_key: string; connection_id: string; is_pending: boolean }
  /** The person went away before the end. */
  | { status: 'closed' }
  /** The session ended. Make a new one. */
  | { status: 'expired' }
  | { status: 'failed'; code: FailureCode; message: string }

export interface Session {
  /** `token` of the connect session that your backend made. */
  sessionToken: string
  /** Where Fairlead is, e.g. https://connect.acme.com */
  baseUrl: string
}

/** One sign-in of the session that came to an end. */
export type Ended = ConnectResult

/** Longer than any session lives. */
const sessionMs = 31 * 60_000

export function outcomeOf({ error, connection_id, provider_config_key, is_pending }: Ended): Outcome {
  return error || connection_id === null
    ? { status: 'failed', code: error?.code ?? 'server_error', message: error?.description ?? '' }
    : { status: 'connected', provider_config_key, connection_id, is_pending }
}

/** Undefined while nobody answers, which is no end; 'expired' when the server says that there is no such session. */
export async function askResults({ baseUrl, sessionToken }: Session): Promise<Ended[] | 'expired' | undefined> {
  try {
    const answer = await fetch(`${baseUrl}/connect/session/results`, {
      headers: { Authorization: `Bearer ${sessionToken}` },
      credentials: 'omit',
      referrerPolicy: 'no-referrer',
      cache: 'no-store',
    })
    if (answer.status === 401) return 'expired'
    return answer.ok ? ((await answer.json()) as { data: Ended[] }).data : undefined
  } catch {
    return undefined
  }
}

interface Watch extends Session {
  everyMs: number
  /** Called with every answer; what it returns is the outcome. */
  look(ended: Ended[]): Outcome | undefined
  /** A window that somebody may close; undefined for a frame, which only we remove. */
  popup: Window | undefined
  /** Said in place of `closed`, when something is known. */
  ifClosed(): Outcome
  signal: AbortSignal | undefined
}

/** Asks until there is an outcome. `settle` is for whoever hears of one sooner. */
export function watch({ everyMs, look, popup, ifClosed, signal, ...session }: Watch) {
  let settle: (outcome: Outcome) => void = () => {}
  const outcome = new Promise<Outcome>(resolve => {
    settle = resolve
  })
  const stop = () => settle(ifClosed())
  const deadline = Date.now() + sessionMs
  let timer: ReturnType<typeof setTimeout> | undefined
  /**
   * A provider may cut its window off from this page (Cross-Origin-Opener-Policy), and then it looks closed while somebody types in it.
   * But then this page has no focus; when it has, three times in a row, the window is gone.
   */
  let missed = 0

  const ask = async (): Promise<void> => {
    const gone = missed >= 3
    const answer = await askResults(session)
    if (answer === 'expired') return settle({ status: 'expired' })
    const seen = answer && look(answer)
    if (seen) return settle(seen)
    if (gone) return stop()
    if (Date.now() > deadline) return settle({ status: 'expired' })
    missed = popup?.closed && document.hasFocus() ? missed + 1 : 0
    timer = setTimeout(ask, everyMs)
  }
  timer = setTimeout(ask)
  if (signal?.aborted) stop()
  signal?.addEventListener('abort', stop)
  void outcome.then(() => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', stop)
  })
  return { outcome, settle }
}

export function openPopup(url: string, name: string): Window | null {
  const [width, height] = [500, 700]
  const left = Math.max(0, screenX + (outerWidth - width) / 2)
  const top = Math.max(0, screenY + (outerHeight - height) / 3)
  return open(url, name, `popup,width=${width},height=${height},left=${left},top=${top}`)
}

export const blocked: Outcome = {
  status: 'failed',
  code: 'popup_blocked',
  message: 'The browser allowed no window. Call this inside a click, or let the person allow popups.',
}

/** A browser's `new URL` would take a relative one for a path of this page. */
export function baseOf(baseUrl: string): string {
  if (!/^https?:\/\//.test(baseUrl)) throw new TypeError('`baseUrl` must be an http or https URL.')
  return baseUrl.replace(/\/+$/, '')
}
