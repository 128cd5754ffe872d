import { baseOf, blocked, type Outcome, openPopup, outcomeOf, type Session, watch } from './results.ts'

export interface AuthOptions extends Session {
  /** Facts about the account that the provider needs, such as a host name. */
  params?: Record<string, string>
  /** More for the provider's authorization page. */
  authorizationParams?: Record<string, string>
  signal?: AbortSignal
}

/** One integration's sign-in in a popup. Call it inside a click, before any `await`: browsers open a window only then. */
export function auth(integration: string, options: AuthOptions): Promise<Outcome> {
  const { params = {}, authorizationParams = {}, sessionToken, signal } = options
  const baseUrl = baseOf(options.baseUrl)
  // By this name the server keeps the end of it, whatever becomes of the window.
  const attempt = newAttempt()
  const query = new URLSearchParams({ connect_session_token: sessionToken, ws_client_id: attempt })
  for (const [name, value] of Object.entries(params)) query.set(`params[${name}]`, value)
  for (const [name, value] of Object.entries(authorizationParams)) query.set(`authorization_params[${name}]`, value)
  const popup = openPopup(`${baseUrl}/oauth/connect/${encodeURIComponent(integration)}?${query}`, `fairlead-${attempt}`)
  if (!popup) return Promise.resolve(blocked)
  const { outcome } = watch({
    baseUrl,
    sessionToken,
    popup,
    signal,
    everyMs: 1000,
    look: ended => {
      const own = ended.find(one => one.attempt === attempt)
      return own && outcomeOf(own)
    },
    ifClosed: () => ({ status: 'closed' }),
  })
  // The last page says what went wrong; whoever reads it closes it.
  signal?.addEventListener('abort', () => popup.close())
  return outcome
}

/** RFC 9562 version 4. `crypto.randomUUID` is missing on plain http. */
function newAttempt(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return [...bytes]
    .map(byte => byte.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
