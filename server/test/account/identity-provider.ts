/**
 * Two identity providers for operators, on loopback: one none of us wrote (`oidc-provider`), whose user logs in at once, and one that
 * tells whatever a test has it tell.
 */
import { generateKeyPairSync, sign } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Context, Provider } from 'oidc-provider'

type Ends = { after(work: () => Promise<void>): void }

export const clientId = 'fairlead'
export const clientSecret = 'the secret of this server: 1234567890'

/** Who logs in, and what is told of them. */
export interface User {
  sub: string
  email?: string
  email_verified?: boolean
  name?: string
}

async function listening(t: Ends, server: Server): Promise<string> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(
    () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  )
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** `user` may be changed; the next log-in is that person's. `logIns` counts how often somebody had to log in. */
export async function startIdentityProvider(t: Ends, redirectUri: () => string) {
  const state = { issuer: '', user: { sub: 'ada' } as User, logIns: 0, alarms: [] as string[] }
  let provider: Provider | undefined
  const server = createServer((req, res) => {
    provider ??= makeProvider()
    const answered = req.url?.startsWith('/interaction/')
      ? interact(provider, req, res)
      : Promise.resolve(provider.callback()(req, res))
    answered.catch((error: unknown) => {
      state.alarms.push(String(error))
      res.destroy()
    })
  })
  state.issuer = await listening(t, server)

  function makeProvider(): Provider {
    const { warn } = console
    console.warn = () => {}
    const made = new Provider(state.issuer, {
      clients: [
        {
          client_id: clientId,
          client_secret: clientSecret,
          redirect_uris: [redirectUri()],
          grant_types: ['authorization_code'],
          response_types: ['code'],
        },
      ],
      claims: { email: ['email', 'email_verified'], profile: ['name'] },
      features: { devInteractions: { enabled: false } },
      pkce: { required: () => true },
      findAccount: async (_ctx: Context, sub: string) => ({
        accountId: sub,
        claims: async () => ({ ...state.user, sub }),
      }),
      interactions: { url: (_ctx: Context, interaction: { uid: string }) => `/interaction/${interaction.uid}` },
      cookies: { keys: ['only for tests'] },
      ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
    })
    console.warn = warn
    for (const event of ['grant.error', 'authorization.error', 'server_error'] as const)
      made.on(event, (_ctx, error) => state.alarms.push(`${event}: ${error.message}`))
    return made
  }

  async function interact(made: Provider, req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { prompt, params, session } = await made.interactionDetails(req, res)
    const finish = (result: object) => made.interactionFinished(req, res, result, { mergeWithLastSubmission: false })
    if (prompt.name === 'login') {
      state.logIns++
      return finish({ login: { accountId: state.user.sub } })
    }
    const grant = new made.Grant({ accountId: session?.accountId ?? '', clientId: params.client_id })
    grant.addOIDCScope(params.scope ?? '')
    return finish({ consent: { grantId: await grant.save() } })
  }

  return state
}

const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const { privateKey: anotherKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

function signed(header: object, claims: object, key = privateKey): string {
  const text = `${part({ typ: 'JWT', kid: 'one', ...header })}.${part(claims)}`
  return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`
}

export interface Lies {
  claims?: Record<string, unknown>
  /** Instead of a token with the claims. */
  token?: (claims: object) => string
}

export const byAnotherKey = (claims: object): string => signed({ alg: 'RS256' }, claims, anotherKey)
export const unsigned = (claims: object): string => `${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.`
/** The old trick: the public key as the secret of an HMAC. */
export const asHmac = (claims: object): string => signed({ alg: 'HS256' }, claims)

/** Answers any code. `state.nonce` is what the sign-in asked for. */
export async function startLiar(t: Ends) {
  const state = { issuer: '', nonce: '', lies: {} as Lies, tokenRequests: 0, metadata: {} as object }
  const json = (res: ServerResponse, body: object) => {
    res.writeHead(200, { 'content-type': 'application/json' })
    res.end(JSON.stringify(body))
  }
  const server = createServer((req, res) => {
    if (req.url === '/.well-known/openid-configuration')
      return json(res, {
        issuer: state.issuer,
        authorization_endpoint: `${state.issuer}/auth`,
        token_endpoint: `${state.issuer}/token`,
        jwks_uri: `${state.issuer}/keys`,
        ...state.metadata,
      })
    if (req.url === '/keys')
      return json(res, { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig', alg: 'RS256' }] })
    state.tokenRequests++
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      iss: state.issuer,
      aud: clientId,
      sub: 'eve',
      nonce: state.nonce,
      iat: now,
      exp: now + 300,
      email: 'owner@acme.com',
      email_verified: true,
      ...state.lies.claims,
    }
    const token = state.lies.token ?? (told => signed({ alg: 'RS256' }, told))
    return json(res, { access_token: 'opaque', token_type: 'Bearer', expires_in: 60, id_token: token(claims) })
  })
  state.issuer = await listening(t, server)
  return state
}
