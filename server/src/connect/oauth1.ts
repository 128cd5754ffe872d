/**
 * OAuth 1.0a around the redirect (RFC 5849 §2): temporary credentials before it, those of the account after it. What a handshake keeps between
 * the two stands where OAuth 2.0 keeps its code verifier. Who may begin, and what is stored in the end, is as for every sign-in.
 */
import type { Pair } from '../credential/kinds/oauth1.ts'
import { readAnswer, temporaryRequest, tokenRequest } from '../credential/kinds/oauth1.ts'
import { clip, parseMembers, type TokenSet } from '../credential/kinds/oauth2-code.ts'
import type { Holder } from '../credential/refresh-deps.ts'
import { Failure } from '../errors.ts'
import { withhold } from '../net/redact.ts'
import { type ConnectionConfig, endpoint, tokenUrlOf } from '../provider/endpoint.ts'
import { type AskDeps, accepted, askOnce } from './answer.ts'
import type { Handshake } from './store.ts'

/** Asks for temporary credentials. `callback` carries the state, because nothing else of ours comes back. */
export async function beginOAuth1(
  deps: AskDeps,
  holder: Holder,
  config: ConnectionConfig,
  callback: string,
): Promise<Pair> {
  const { provider, client } = holder
  const url = endpoint(provider, provider.request_url ?? '', config)
  if (!url) throw new Failure('connection_config_missing')
  const answer = await askOnce(deps, temporaryRequest({ provider, client, config, url }, callback))
  const said = readAnswer(answer.status, answer.body)
  // Nobody but us has said anything yet: who is not recognised is the client.
  if (said.kind === 'error' && said.status === 401) {
    const words = withhold(said.description || said.error, [client.secret?.reveal()])
    throw new Failure('token_client_invalid', { payload: { provider_said: words }, cause: `HTTP 401: ${words}` })
  }
  const tokens = await accepted(deps, holder, config, said, [])
  // §2.1: without it this is OAuth 1.0, whose sign-in can be finished by somebody else than who began it.
  if (parseMembers(answer.body)?.oauth_callback_confirmed !== 'true')
    throw new Failure('token_response_incomplete', { cause: `${provider.name}: oauth_callback_confirmed is not true` })
  return { key: tokens.accessToken.reveal(), secret: tokens.given?.oauth_token_secret ?? '' }
}

/** As the handshake keeps them. */
export const written = ({ key, secret }: Pair): string => new URLSearchParams([[key, secret]]).toString()

const read = (text: string): Pair => {
  const [[key, secret] = ['', '']] = new URLSearchParams(text)
  return { key, secret }
}

/** Presents what the browser brought, once. */
export async function finishOAuth1(
  deps: AskDeps,
  holder: Holder,
  handshake: Handshake,
  search: URLSearchParams,
): Promise<TokenSet> {
  const { provider, client } = holder
  const { config } = handshake
  const temporary = read(handshake.verifier.reveal())
  const verifier = verifierOf(search, temporary.key)
  const url = endpoint(provider, tokenUrlOf(provider) ?? '', config)
  if (!url) throw new Failure('connection_config_missing')
  const answer = await askOnce(deps, tokenRequest({ provider, client, config, url }, temporary, verifier))
  return accepted(deps, holder, config, readAnswer(answer.status, answer.body), [
    temporary.key,
    temporary.secret,
    verifier,
  ])
}

/** §2.2: the verifier, for the temporary credentials this sign-in began with. */
function verifierOf(search: URLSearchParams, key: string): string {
  const names = ['state', 'oauth_token', 'oauth_verifier', 'oauth_problem', 'denied', 'error']
  if (names.some(name => search.getAll(name).length > 1)) throw new Failure('callback_malformed')
  const problem = search.get('oauth_problem') ?? search.get('error')
  const verifier = search.get('oauth_verifier')
  if (verifier && problem) throw new Failure('callback_malformed')
  if (search.has('denied') || /^(user_refused|permission_denied|access_denied)$/.test(problem ?? ''))
    throw new Failure('access_denied')
  if (problem !== null) throw new Failure('provider_error', { payload: { provider_said: clip(problem) } })
  if (!verifier) throw new Failure('code_missing')
  if (search.get('oauth_token') !== key) throw new Failure('callback_malformed')
  return verifier
}
