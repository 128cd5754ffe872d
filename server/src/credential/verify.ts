/**
 * Whether what somebody gave works: one cheap call that provider data names (`proxy.verification`), made as the proxy would make it, before
 * anything is stored.
 */
import { EgressError, Failure } from '../errors.ts'
import { withhold } from '../net/redact.ts'
import { endpointFrom } from '../provider/endpoint.ts'
import { expandUrl } from '../provider/template.ts'
import type { Clock, Egress } from '../seams.ts'
import { filled, filledTexts } from './kinds/kind.ts'
import { clip, parseMembers } from './kinds/oauth2-code.ts'
import { credentialValues, type Presentable, presented, presentedQuery } from './present.ts'
import type { Holder } from './refresh-deps.ts'

interface Deps {
  egress: Pick<Egress, 'request'>
  clock: Clock
}

const deadlineMs = 15_000

/** Throws `connection_test_failed` with the provider's words, `connection_test_unanswered` when it could not be asked. */
export async function verify(deps: Deps, holder: Holder, credential: Presentable): Promise<void> {
  const { provider } = holder
  const verification = provider.proxy?.verification
  if (!verification) return
  let refusal: Failure | undefined
  for (const endpoint of verification.endpoints) {
    const answer = await ask(deps, holder, credential, endpoint)
    if (answer.status >= 200 && answer.status < 300) return
    refusal = refused(answer.status, answer.body, credential)
  }
  if (refusal) throw refusal
}

async function ask(deps: Deps, holder: Holder, credential: Presentable, path: string) {
  const { provider } = holder
  const { method, base_url_override, headers, data } = provider.proxy!.verification!
  const values = credentialValues(credential)
  const below = (one: string) => `${one.replace(/\/+$/, '')}/${path.replace(/^\/+/, '')}`
  const base = base_url_override ?? provider.proxy!.base_url ?? ''
  const url = holder.baseUrl
    ? expandUrl(below(new URL(holder.baseUrl).href), values)
    : endpointFrom(provider, base.split(' || ').map(below).join(' || '), values)
  if (!url) throw new Failure('connection_config_missing', { cause: `${provider.name}: proxy.verification` })
  const query = presentedQuery(provider, credential)
  if (query) url.search += `${url.search ? '&' : ''}${query}`
  const body = data === undefined ? undefined : JSON.stringify(filled(data, values))
  const call = { method, origin: url.origin, path: url.pathname + url.search, form: undefined }
  const { plain, named, authorization } = presented(holder, credential, () => call)
  try {
    return await deps.egress.request({
      method,
      url,
      headers: {
        accept: 'application/json',
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...paired(plain),
        ...filledTexts(headers ?? {}, values),
        ...paired(named),
        ...(authorization !== undefined && { authorization }),
      },
      ...(body !== undefined && { body }),
      deadlineMs,
      maxBytes: 1024 * 1024,
    })
  } catch (error) {
    if (!(error instanceof EgressError)) throw error
    if (error.phase === 'refused') throw new Failure('egress_refused', { cause: error })
    throw new Failure('connection_test_unanswered', { cause: error })
  }
}

const paired = (pairs: readonly string[]): Record<string, string> =>
  Object.fromEntries(pairs.flatMap((name, i) => (i % 2 === 0 ? [[name.toLowerCase(), pairs[i + 1]!]] : [])))

function refused(status: number, body: Buffer, credential: Presentable): Failure {
  if (status >= 500 || status === 429)
    return new Failure('connection_test_unanswered', { cause: `the provider answered HTTP ${status}` })
  const said = saidIn(body, [credential.accessToken.reveal(), ...Object.values(credential.given)])
  return new Failure('connection_test_failed', {
    message: `The provider does not accept what was given. It answered ${status}${said && `: ${said}`}`,
    payload: { status, ...(said && { provider_said: said }) },
  })
}

/** The sentence of an error answer, wherever providers put it; not what was sent to them, which some repeat. */
export function saidIn(body: Buffer, sent: (string | undefined)[]): string {
  const answer = parseMembers(body)
  const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
  const inner = typeof answer?.error === 'object' && answer.error !== null ? Object.entries(answer.error) : []
  const found = [...inner, ...Object.entries(answer ?? {})]
    .filter(([name]) => /^(error_description|message|error_message|detail|title|error|code)$/i.test(name))
    .map(([, value]) => value)
    .find(isText)
  return clip(withhold(found ?? '', sent))
}
