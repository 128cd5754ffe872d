/** The few calls this page makes, all to the server it came from, all with the session's token in a header. */
import type { ConnectError, ConnectSessionView, IntegrationView, ProviderView } from '@fairlead/contract'
import type { Field } from './form.ts'

/** A definition as this page reads it; the rest of it is the server's business. */
export interface Provider extends ProviderView {
  docs_connect?: string
  installation?: string
  connection_config?: Record<string, Field>
  credentials?: Record<string, Field>
  scope_descriptions?: Record<string, string | Record<string, string>>
}

export interface Result {
  attempt: string | null
  connection_id: string | null
  success: boolean
  is_pending: boolean
  operation: 'creation' | 'override' | null
  account: { label: string; details: { label: string; value: string }[] } | null
  /** Asked for and not granted. */
  missing_scopes: string[]
  error: ConnectError | null
}

/** An answer of the server that is an error, or `offline` when there was none. */
export class Refused extends Error {
  readonly code: string
  readonly payload: unknown

  constructor(code: string, message: string, payload?: unknown) {
    super(message)
    this.code = code
    this.payload = payload
  }
}

export interface Api {
  session(): Promise<ConnectSessionView>
  integrations(): Promise<IntegrationView[]>
  provider(name: string): Promise<Provider>
  /** What became of this session's sign-ins, and which of them are still at the provider. */
  results(): Promise<{ data: Result[]; under_way?: string[] }>
  post(path: string, body: unknown): Promise<{ connectionId: string; missing_scopes?: string[] }>
}

export function apiFor(token: string, language: string): Api {
  async function call<Answer>(path: string, init: RequestInit = {}): Promise<Answer> {
    const answer = await fetch(path, {
      ...init,
      headers: { ...init.headers, Authorization: `Bearer ${token}`, 'Accept-Language': language },
      referrerPolicy: 'no-referrer',
      credentials: 'same-origin',
    }).catch(() => {
      throw new Refused('offline', '')
    })
    const body: unknown = await answer.json().catch(() => undefined)
    if (answer.ok && body !== undefined) return body as Answer
    const { error } = (body ?? {}) as { error?: { code?: string; message?: string; payload?: unknown } }
    const { code = 'server_error', message = `HTTP ${answer.status}`, payload } = error ?? {}
    throw new Refused(code, message, payload)
  }
  const data = async <Answer>(path: string): Promise<Answer> => (await call<{ data: Answer }>(path)).data

  return {
    session: () => data('/connect/session'),
    integrations: () => data('/integrations'),
    provider: name => data(`/providers/${encodeURIComponent(name)}`),
    results: () => call('/connect/session/results'),
    post: (path, body) =>
      call(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
  }
}
