/** Sends what a kind writes down: its requests one after the other, all within one deadline, none of them twice. */
import type { IncomingHttpHeaders } from 'node:http'
import { Secret } from '../lib/secret.ts'
import { endpoint, tokenUrlOf } from '../provider/endpoint.ts'
import type { Clock, Egress } from '../seams.ts'
import { type Exchange, type Given, missing } from './kinds/kind.ts'
import { kindNamed } from './kinds/kinds.ts'
import { type Client, readTokenAnswer, refreshGrant, type TokenAnswer, tokenRequest } from './kinds/oauth2-code.ts'
import type { Holder } from './refresh-deps.ts'
import type { Credential } from './store.ts'

export interface Exchanged {
  read: TokenAnswer
  /** Of the last answer. */
  headers: IncomingHttpHeaders
}

/** Far above any real token response (the largest seen is 12 KB), far below what would hurt. */
const maxTokenResponse = 1024 * 1024

interface Deps {
  egress: Pick<Egress, 'request'>
  clock: Clock
}

/** Throws what the egress throws, and what the kind throws that cannot write its request. `ready` is asked before the first byte of all. */
export async function exchange(
  { egress, clock }: Deps,
  steps: Exchange,
  { deadlineMs, ready }: { deadlineMs: number; ready?: () => Promise<boolean> },
): Promise<Exchanged> {
  const began = clock.now()
  let headers: IncomingHttpHeaders = {}
  let step = steps.next()
  for (let first = true; !step.done; first = false) {
    const { body, ...request } = step.value
    const answer = await egress.request({
      ...request,
      ...(body !== undefined && { body }),
      deadlineMs: Math.max(1, deadlineMs - (clock.now() - began)),
      maxBytes: maxTokenResponse,
      ...(first && ready && { ready }),
    })
    headers = answer.headers
    step = steps.next(answer)
  }
  return { read: step.value, headers }
}

/** The OAuth client a credential belongs to: that of what was given, by its owner or once for all connections, where one was. */
export const clientOf = (client: Client, given: Given): Client =>
  given.client_id
    ? { id: given.client_id, secret: given.client_secret ? new Secret(given.client_secret) : null }
    : client

/** What a renewal of this credential is. */
export function renewalOf(holder: Holder, credential: Credential, wallNow: number): Exchange {
  const { provider, client, settings = {} } = holder
  const { config, given } = credential
  const kind = kindNamed(credential.kind)
  if (kind.renewsFrom === 'given' && kind.obtain)
    return kind.obtain({ provider, client, settings, config, given, scopes: credential.scopesRequested, wallNow })
  return refreshing(holder, credential, wallNow)
}

/** RFC 6749 §6. */
function* refreshing({ provider, client }: Holder, credential: Credential, wallNow: number): Exchange {
  const { config, given, refreshToken } = credential
  const url = endpoint(provider, provider.refresh_url ?? tokenUrlOf(provider) ?? '', config)
  if (!url || !refreshToken) throw missing(provider, 'token_url')
  const request = tokenRequest(provider, clientOf(client, given), refreshGrant(refreshToken), config)
  const answer = yield { method: 'POST', url, ...request }
  return readTokenAnswer(provider, answer.status, answer.body, wallNow)
}
