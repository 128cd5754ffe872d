/**
 * Signing in at an identity provider of the operators' own: OpenID Connect Core 1.0, code flow with PKCE, state and nonce. What the protocol
 * demands is `oauth4webapi`'s to check; here is how it is asked, and by what one sign-in hangs together. Who the identity is here, and
 * whether it may come in, is decided in sign-in.ts.
 */
import type * as Oauth from 'oauth4webapi'
import type { OidcConfig } from '../../config.ts'
import { EgressError, Failure } from '../../errors.ts'
import { randomToken } from '../../lib/id.ts'
import { minutes, seconds } from '../../lib/time.ts'
import type { Clock, Egress } from '../../seams.ts'
import type { KeyedHash } from '../pepper.ts'
import { confirmedMinutes } from './store.ts'

/** Who the identity provider says came. */
export interface Identity {
  /** Issuer and subject: an issuer has no fragment, so it reads one way. */
  subject: string
  email: string | undefined
  isEmailVerified: boolean
  name: string | undefined
  /** When they last showed who they are, as far as it tells. */
  authenticatedAt: Date | undefined
}

/** What one sign-in hangs together by. All of it is made from the cookie, so another browser knows none of it and the database neither. */
export interface Flow {
  state: string
  nonce: string
  verifier: string
}

export interface Oidc {
  name: string
  newcomers: OidcConfig['newcomers']
  /** Where the browser goes. `confirms`: somebody who is signed in there shows it again. */
  authorizeUrl(flow: Flow, confirms: boolean): Promise<string>
  /** What the browser came back with. */
  identityOf(flow: Flow, query: URLSearchParams, confirms: boolean): Promise<Identity>
}

export const newFlowCookie = (): string => randomToken(256)

export function flowOf(keyedHash: KeyedHash, cookie: string): Flow {
  const part = (name: string) => keyedHash(`operator oidc ${name} ${cookie}`).toString('base64url')
  return { state: part('state'), nonce: part('nonce'), verifier: part('verifier') }
}

type Options = Oauth.HttpRequestOptions<'GET' | 'POST', URLSearchParams | undefined>

const patience = { deadlineMs: seconds(10), maxBytes: 256 * 1024 }

interface Deps extends OidcConfig {
  egress: Egress
  clock: Pick<Clock, 'now'>
  url: string
}

export function createOidc({ egress, clock, url, issuer, clientId, clientSecret, name, newcomers }: Deps): Oidc {
  const redirectUri = `${url}/app/oidc`
  const client: Oauth.Client = { client_id: clientId }
  let known: { server: Oauth.AuthorizationServer; until: number } | undefined

  /** The library is read when somebody signs in this way, not by every start. */
  async function withLibrary<T>(work: (oauth: typeof Oauth, options: Options) => Promise<T>): Promise<T> {
    const oauth = await import('oauth4webapi')
    try {
      return await work(oauth, {
        // Through the egress, whose policy decides about plain http.
        [oauth.customFetch]: (target: string, { method, headers, body }) => ask(target, method, headers, body),
        [oauth.allowInsecureRequests]: true,
      })
    } catch (error) {
      if (error instanceof Failure) throw error
      const egressError = error instanceof EgressError ? error : (error as Error).cause
      if (egressError instanceof EgressError) throw new Failure('oidc_unreachable', { cause: egressError })
      if (error instanceof oauth.AuthorizationResponseError)
        throw new Failure('oidc_refused', {
          message: `The identity provider ended the sign-in (${error.error.slice(0, 64)}). Begin it again.`,
          cause: error.error,
        })
      // Only its code: what else it holds may be what was sent.
      const { code = 'unknown', message } = error as Error & { code?: string }
      throw new Failure('oidc_failed', { cause: `${code}: ${message}` })
    }
  }

  async function ask(
    target: string,
    method: string,
    headers: Record<string, string>,
    sent: URLSearchParams | undefined,
  ) {
    const {
      status,
      headers: answered,
      body,
    } = await egress.request({
      method: method === 'POST' ? 'POST' : 'GET',
      url: new URL(target),
      headers,
      ...(sent && { body: sent.toString() }),
      ...patience,
    })
    const type = answered['content-type']
    return new Response(body.length > 0 ? new Uint8Array(body) : null, {
      status,
      ...(type && { headers: { 'content-type': type } }),
    })
  }

  async function discovered(oauth: typeof Oauth, options: Options) {
    const now = clock.now()
    if (known && known.until > now) return known.server
    // Its `issuer` must be the configured one, to the letter (OpenID Connect Discovery §4.3).
    const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options))
    known = { server, until: now + minutes(60) }
    return server
  }

  return {
    name,
    newcomers,

    authorizeUrl: ({ state, nonce, verifier }, confirms) =>
      withLibrary(async (oauth, options) => {
        const server = await discovered(oauth, options)
        const target = URL.parse(server.authorization_endpoint ?? '')
        if (!target) throw new Failure('oidc_failed', { cause: 'no authorization_endpoint was discovered' })
        egress.check(target)
        for (const [name, value] of Object.entries({
          response_type: 'code',
          client_id: clientId,
          redirect_uri: redirectUri,
          scope: 'openid email profile',
          state,
          nonce,
          code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
          code_challenge_method: 'S256',
          ...(confirms && { prompt: 'login', max_age: '0' }),
        }))
          target.searchParams.set(name, value)
        return target.href
      }),

    identityOf: ({ state, nonce, verifier }, query, confirms) =>
      withLibrary(async (oauth, options) => {
        const server = await discovered(oauth, options)
        const parameters = oauth.validateAuthResponse(server, client, query, state)
        const methods = server.token_endpoint_auth_methods_supported ?? ['client_secret_basic']
        const secret = clientSecret?.reveal()
        const authentication =
          secret === undefined
            ? oauth.None()
            : methods.includes('client_secret_basic')
              ? oauth.ClientSecretBasic(secret)
              : oauth.ClientSecretPost(secret)
        const asked = [server, client, authentication, parameters, redirectUri, verifier, options] as const
        const answer = await oauth.authorizationCodeGrantRequest(...asked)
        // Issuer, audience, times and nonce (Core §3.1.3.7); of a confirmation also when they last showed who they are.
        const tokens = await oauth.processAuthorizationCodeResponse(server, client, answer, {
          expectedNonce: nonce,
          requireIdToken: true,
          ...(confirms && { maxAge: confirmedMinutes * 60 }),
        })
        // The token came over TLS from the issuer itself; its signature is checked all the same.
        await oauth.validateApplicationLevelSignature(server, answer, options)
        const claims = oauth.getValidatedIdTokenClaims(tokens)!
        const told =
          claims.email === undefined ? await userInfo(oauth, server, tokens.access_token, claims.sub, options) : {}
        const { email, email_verified: verified, name: called } = { ...told, ...claims }
        const spelled = typeof email === 'string' ? email.toLowerCase() : undefined
        return {
          subject: `${server.issuer}#${claims.sub}`,
          email: spelled,
          isEmailVerified: spelled !== undefined && verified === true,
          name: typeof called === 'string' && called.trim() !== '' ? called.trim().slice(0, 255) : undefined,
          authenticatedAt: claims.auth_time === undefined ? undefined : new Date(claims.auth_time * 1000),
        }
      }),
  }

  /** Where the address is, when the token leaves it out (Core §5.4). */
  async function userInfo(
    oauth: typeof Oauth,
    server: Oauth.AuthorizationServer,
    token: string,
    subject: string,
    options: Options,
  ): Promise<Partial<Oauth.UserInfoResponse>> {
    if (!server.userinfo_endpoint) return {}
    const answer = await oauth.userInfoRequest(server, client, token, options)
    return oauth.processUserInfoResponse(server, client, subject, answer)
  }
}
