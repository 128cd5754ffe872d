/** A hook's way to the provider: short questions, with a deadline, to hosts on the provider's list, and an answer or none. */
import { EgressError, Failure } from '../errors.ts'
import type { Secret } from '../lib/secret.ts'
import { seconds } from '../lib/time.ts'
import { type ConnectionConfig, endpoint } from '../provider/endpoint.ts'
import type { AskApi, Reply } from '../provider/hooks.ts'
import type { Provider } from '../provider/schema.ts'
import type { Egress } from '../seams.ts'

const patience = seconds(10)
const longestAnswer = 256 * 1024

type Question = Omit<Parameters<Egress['request']>[0], 'deadlineMs' | 'maxBytes' | 'ready' | 'repeatable'>

export async function ask(egress: Egress, question: Question): Promise<Reply | undefined> {
  try {
    const { status, headers, body } = await egress.request({
      ...question,
      repeatable: true,
      deadlineMs: patience,
      maxBytes: longestAnswer,
    })
    return { status, headers, body: body.toString('utf8') }
  } catch (error) {
    if (error instanceof EgressError) return undefined
    throw error
  }
}

/** Questions to the account's own API. A path that leads elsewhere than below its base URL is not asked. */
export const askApi =
  (egress: Egress, provider: Provider, config: ConnectionConfig, token: Secret): AskApi =>
  async path => {
    const base = baseUrlOf(provider, config)
    const url = base && URL.parse(`${base.href.replace(/\/+$/, '')}${path}`)
    if (!url || url.origin !== base.origin || !path.startsWith('/')) return undefined
    const headers = { accept: 'application/json', authorization: `Bearer ${token.reveal()}` }
    return ask(egress, { method: 'GET', url, headers })
  }

/** Where the account's API is; undefined when that is not known, or not on the provider's list. */
export function baseUrlOf(provider: Provider, config: ConnectionConfig): URL | undefined {
  try {
    return provider.proxy?.base_url ? endpoint(provider, provider.proxy.base_url, config) : undefined
  } catch (failure) {
    if (failure instanceof Failure) return undefined
    throw failure
  }
}
