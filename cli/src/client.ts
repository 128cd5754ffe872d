/** The server's HTTP API, and nothing else: what a command knows it has asked for. */
import type { ErrorEnvelope } from '@fairlead/contract'
import type { Config } from './config.ts'
import { Refused, Unreachable } from './faults.ts'

type Query = Record<string, string | number | undefined>

export interface Client {
  url: string
  /** With another token than the key, where it is another's to read. */
  get<Body>(path: string, query?: Query, token?: string): Promise<Body>
  post<Body>(path: string, body?: object, query?: Query): Promise<Body>
  patch<Body>(path: string, body: object): Promise<Body>
  delete<Body>(path: string, query?: Query, body?: object): Promise<Body>
  /** Whatever the answer is, with its body still to be read. */
  answer(method: string, path: string, headers: Headers, body?: RequestInit['body']): Promise<Response>
  /** Without a key, and whatever the status. */
  probe(path: string): Promise<{ status: number; body: unknown }>
}

export function createClient(config: Config): Client {
  function send(method: string, path: string, query: Query, body?: object, key?: string): Promise<Response> {
    const url = new URL(`${config.url}${path}`)
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(name, String(value))
    return reach(url, {
      method,
      headers: {
        Accept: 'application/json',
        ...(key !== undefined && { Authorization: `Bearer ${key}` }),
        ...(body && { 'Content-Type': 'application/json' }),
      },
      ...(body && { body: JSON.stringify(body) }),
    })
  }

  async function reach(url: URL, init: RequestInit): Promise<Response> {
    try {
      // A key goes to the address it was meant for and nowhere else.
      return await fetch(url, { ...init, redirect: 'manual' })
    } catch (error) {
      throw new Unreachable(
        `There is no answer from ${config.url} (${reasonOf(error)}). Start the server there, or set ${config.setting} to where it is.`,
      )
    }
  }

  // The shapes are the contract's, which the server's own tests hold it to.
  const call = async <Body>(
    method: string,
    path: string,
    query: Query = {},
    body?: object,
    token = config.key(),
  ): Promise<Body> => {
    const answer = await send(method, path, query, body, token)
    const text = await answer.text()
    const json = parse(text)
    if (answer.ok && json !== undefined) return json as Body
    throw refusal(config, answer, json)
  }

  return {
    url: config.url,
    get: (path, query, token) => call('GET', path, query, undefined, token),
    post: (path, body, query) => call('POST', path, query, body),
    patch: (path, body) => call('PATCH', path, {}, body),
    delete: (path, query, body) => call('DELETE', path, query, body),
    answer(method, path, headers, body) {
      headers.set('Authorization', `Bearer ${config.key()}`)
      return reach(new URL(`${config.url}${path}`), { method, headers, ...(body !== undefined && { body }) })
    },
    async probe(path) {
      const answer = await send('GET', path, {})
      return { status: answer.status, body: parse(await answer.text()) }
    },
  }
}

/** `undici` says "fetch failed"; what happened stands in the cause. */
function reasonOf(error: unknown): string {
  const { cause } = error as { cause?: unknown }
  const from = cause instanceof AggregateError ? cause.errors[0] : cause
  const { code, message } = (from ?? error) as { code?: string; message?: string }
  return code ?? message ?? 'no connection'
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function refusal({ url: base, setting }: Config, answer: Response, json: unknown): Refused {
  const error = (json as Partial<ErrorEnvelope> | undefined)?.error
  if (typeof error?.code !== 'string') {
    const to = answer.headers.get('location')
    return new Refused(
      answer.status,
      'not_fairlead',
      `${base} answered ${answer.status}${to ? `, which leads to ${to},` : ''} and not as a Fairlead server does. Check ${setting}.`,
    )
  }
  const { cause } = (error.payload ?? {}) as { cause?: unknown }
  const details = [
    ...(error.errors ?? []).map(({ path, message }) => `${path.join('.') || 'body'}: ${message}`),
    ...(typeof cause === 'string' ? [`cause: ${cause}`] : []),
  ]
  const after = Number(answer.headers.get('retry-after') ?? Number.NaN)
  // A server that speaks the wire contract may leave the sentence out.
  const sentence = error.message ?? `${base} answered ${answer.status}.`
  // With two servers in a command, whose answer it is.
  const message = setting === '--url' && error.message ? `${base}: ${sentence}` : sentence
  return new Refused(answer.status, error.code, message, details, Number.isNaN(after) ? undefined : after)
}
