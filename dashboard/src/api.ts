/**
 * The API, as the dashboard asks it: the cookie says who, a header says which environment. What shows or makes a secret is refused until its
 * reader has shown again who they are; then the dialog asks, and the request is sent once more, with the header that asks for secrets.
 */
import type { ErrorEnvelope } from '@fairlead/contract'

export class ApiError extends Error {
  readonly status: number
  readonly code: string
  readonly issues: NonNullable<ErrorEnvelope['error']['errors']>

  constructor(status: number, { error }: ErrorEnvelope) {
    super(error.message)
    this.status = status
    this.code = error.code
    this.issues = error.errors ?? []
  }
}

let environment = localStorage.getItem('environment') ?? 'dev'
export const currentEnvironment = (): string => environment
export function chooseEnvironment(name: string): void {
  environment = name
  localStorage.setItem('environment', name)
}

/** Asks the person; resolves once they are confirmed. Set by the dialog. */
let confirm: () => Promise<void> = () => Promise.reject(new Error('not ready'))
export const setConfirm = (ask: () => Promise<void>): void => {
  confirm = ask
}
let signedOut: () => void = () => {}
export const setSignedOut = (tell: () => void): void => {
  signedOut = tell
}

interface Options {
  method?: string
  body?: unknown
  headers?: Record<string, string>
  /** Wants what only somebody confirmed is given. */
  reveal?: boolean
}

export async function ask<T>(
  path: string,
  { method = 'GET', body, headers = {}, reveal = false }: Options = {},
): Promise<T> {
  const send = (revealing: boolean) =>
    fetch(path, {
      method,
      headers: {
        'Fairlead-Environment': environment,
        ...(revealing && { 'Fairlead-Reveal': 'true' }),
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  let answer = await send(reveal)
  if (answer.headers.get('fairlead-error') === 'confirmation_required') {
    // Signed in a moment ago: the header alone is missing.
    if (!reveal) answer = await send(true)
    if (answer.headers.get('fairlead-error') === 'confirmation_required') {
      await confirm()
      answer = await send(true)
    }
  }
  if (answer.ok) return answer.status === 204 ? (undefined as T) : ((await answer.json()) as T)
  const error = new ApiError(answer.status, await envelopeOf(answer))
  if (error.code === 'not_signed_in') signedOut()
  throw error
}

async function envelopeOf(answer: Response): Promise<ErrorEnvelope> {
  try {
    return (await answer.json()) as ErrorEnvelope
  } catch {
    return { error: { code: 'unreadable', message: `The server answered ${answer.status} without saying why.` } }
  }
}

export const post = <T>(path: string, body: unknown = {}): Promise<T> => ask<T>(path, { method: 'POST', body })

/** A path's segment or a query's value. */
export const enc = encodeURIComponent
