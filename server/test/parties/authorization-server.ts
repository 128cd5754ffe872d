/**
 * An authorization server none of us wrote (`oidc-provider`), on loopback: code + PKCE, rotating refresh tokens whose reuse revokes
 * the whole grant, introspection, revocation, and a userinfo endpoint that stands for an API. Its user consents or denies at once.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Context, Provider } from 'oidc-provider'

export interface AuthorizationServer {
  issuer: string
  /** Whether the user at the consent page allows or denies from now on. */
  decision: 'allow' | 'deny'
  /** Leaves `expires_in` out of token responses, as Salesforce does. */
  hideLifetime: boolean
  /** What was asked of the token endpoint, in order. */
  grants: { type: string; client: string; authentication: 'basic' | 'post' }[]
  /** What it called wrong or ended: `grant.error`, `grant.revoked`, `authorization.error`, `server_error`, each with its reason. */
  alarms: string[]
  /** Tokens asked about at the introspection endpoint. */
  introspected: string[]
  /** Forgets one access token; its grant lives on. */
  expire(accessToken: string): Promise<void>
  /** Presents `token` as the posting client itself would, which ends its grant (RFC 7009). */
  revoke(token: string): Promise<void>
}

export const clients = {
  post: { id: 'client that posts', secret: 'secret of the posting client: 1234567890' },
  // Characters that RFC 6749 §2.3.1 wants form-encoded before they are joined and encoded.
  basic: { id: 'client:with colon', secret: 'secret & of the+basic% client: 1234567890' },
}

/** `redirectUris` is asked for once the first request arrives: who redirects is started after this server. */
export async function startAuthorizationServer(
  t: { after(work: () => Promise<void>): void },
  redirectUri: () => string,
): Promise<AuthorizationServer> {
  let provider: Provider | undefined
  const server = createServer((req, res) => {
    provider ??= makeProvider(state, redirectUri())
    const answered = req.url?.startsWith('/interaction/')
      ? interact(provider, state, req, res)
      : Promise.resolve(provider.callback()(req, res))
    answered.catch((error: unknown) => {
      state.alarms.push(`interaction: ${error}`)
      res.destroy()
    })
  })
  const state: AuthorizationServer = {
    issuer: await listening(server),
    decision: 'allow',
    hideLifetime: false,
    grants: [],
    alarms: [],
    introspected: [],
    async expire(accessToken) {
      await (await provider?.AccessToken.find(accessToken))?.destroy()
    },
    async revoke(token) {
      const body = new URLSearchParams({ token, client_id: clients.post.id, client_secret: clients.post.secret })
      const answer = await fetch(`${state.issuer}/token/revocation`, { method: 'POST', body })
      if (answer.status !== 200) throw new Error(`revocation answered ${answer.status}: ${await answer.text()}`)
    },
  }
  t.after(
    () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  )
  return state
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function makeProvider(state: AuthorizationServer, redirectUri: string): Provider {
  const client = ({ id, secret }: { id: string; secret: string }, method: string) => ({
    client_id: id,
    client_secret: secret,
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: method,
  })
  // It warns of the memory it keeps things in and of its ready-made keys, which are what a test wants.
  const { warn } = console
  console.warn = () => {}
  const provider = new Provider(state.issuer, {
    clients: [client(clients.post, 'client_secret_post'), client(clients.basic, 'client_secret_basic')],
    features: {
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: async () => true },
      revocation: { enabled: true, allowedPolicy: async () => true },
    },
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async () => true,
    findAccount: async (_ctx: Context, sub: string) => ({ accountId: sub, claims: async () => ({ sub }) }),
    interactions: { url: (_ctx: Context, interaction: { uid: string }) => `/interaction/${interaction.uid}` },
    cookies: { keys: ['only for tests'] },
    ttl: {
      AccessToken: 3600,
      AuthorizationCode: 60,
      Grant: 86_400,
      IdToken: 3600,
      Interaction: 600,
      RefreshToken: 86_400,
      Session: 3600,
    },
  })
  console.warn = warn
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route === 'introspection') state.introspected.push(ctx.oidc.params?.token ?? '')
    if (ctx.oidc?.route !== 'token') return
    state.grants.push({
      type: ctx.oidc.params?.grant_type ?? '',
      client: ctx.oidc.client?.clientId ?? '',
      authentication: ctx.headers.authorization ? 'basic' : 'post',
    })
    if (state.hideLifetime && ctx.status === 200) {
      const { expires_in: _, ...body } = ctx.body as Record<string, unknown>
      ctx.body = body
    }
  })
  for (const event of ['grant.error', 'authorization.error', 'server_error'] as const)
    provider.on(event, (_ctx, error) => state.alarms.push(`${event}: ${reasonOf(error)}`))
  provider.on('grant.revoked', () => state.alarms.push('grant.revoked'))
  return provider
}

/** `error_detail` is what the provider keeps from the client and tells its operator. */
const reasonOf = (error: Error & { error_detail?: string }): string =>
  [error.message, error.error_detail].filter(Boolean).join(': ')

/** The log-in and the consent page, answered by a user who never hesitates. */
async function interact(
  provider: Provider,
  state: AuthorizationServer,
  ...exchange: Parameters<Provider['interactionDetails']>
): Promise<void> {
  const { prompt, params, session } = await provider.interactionDetails(...exchange)
  const finish = (result: object) =>
    provider.interactionFinished(...exchange, result, { mergeWithLastSubmission: false })
  if (prompt.name === 'login') return finish({ login: { accountId: 'ada' } })
  if (state.decision === 'deny') return finish({ error: 'access_denied', error_description: '<b>Ada</b> said no' })
  const grant = new provider.Grant({ accountId: session?.accountId ?? '', clientId: params.client_id })
  grant.addOIDCScope(params.scope ?? '')
  return finish({ consent: { grantId: await grant.save() } })
}
