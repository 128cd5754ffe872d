import type { ConnectionView, ErrorEnvelope } from '@fairlead/contract'
import { FairleadError, retryAfterOf } from './error.ts'

/** How a connection is named everywhere: the pair a list, a webhook and your own database hold. */
export type ConnectionName = Pick<ConnectionView, 'provider_config_key' | 'connection_id'>

export type Query = Record<string, string | number | boolean | undefined>

/** Sends one request to the API. Throws FairleadError unless the answer is what was asked for. */
export type Call = <Answer>(method: string, path: string, sent?: { query?: Query; body?: object }) => Promise<Answer>

/** Sends as fetch does; no answer at all is `unreachable`. An abort stays what it is. */
export async function send(url: URL, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init)
  } catch (error) {
    if (init.signal?.aborted) throw error
    throw new FairleadError('unreachable', `There is no answer from ${url.origin}. Is this where Fairlead is?`, {
      cause: error,
    })
  }
}

export function createCall(base: string, apiKey: string): Call {
  return async (method, path, { query = {}, body } = {}) => {
    const url = new URL(`${base}${path}`)
    addQuery(url, query)
    const answer = await send(url, {
      method,
      // The key goes where it was meant to go and nowhere else.
      redirect: 'manual',
      headers: {
        Accept: 'application/json',
        Authorization: `Bearer ${apiKey}`,
        ...(body && { 'Content-Type': 'application/json' }),
      },
      ...(body && { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    const json = parse(text)
    if (answer.ok && json !== undefined) return json as never
    throw errorOf(answer, text)
  }
}

export function addQuery(url: URL, query: Query): void {
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value))
}

/** An answer of Fairlead that says no, as what is thrown. */
export function errorOf(answer: Response, text: string): FairleadError {
  const { status } = answer
  const said = (parse(text) as Partial<ErrorEnvelope> | undefined)?.error
  if (typeof said?.code !== 'string')
    return new FairleadError(
      'not_fairlead',
      `${answer.url} answered ${status}, and not as Fairlead does. Check the URL.`,
      { status },
    )
  return new FairleadError(said.code, said.message, {
    status,
    issues: said.errors,
    payload: said.payload,
    retryAfter: retryAfterOf(answer.headers),
  })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
