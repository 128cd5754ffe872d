/**
 * Connect: from a session to a stored connection. This room owns the tables `connect_session`, `handshake` and `connect_result`, and
 * POST /connect/sessions, POST /connect/sessions/reconnect, GET|DELETE /connect/session, GET /connect/session/results, GET /connect/ (the hosted page), GET|POST /oauth/connect/:key, GET /oauth/callback.
 * It hands the finished account to `credential/` and `connection/` in one transaction and never hears of it again.
 */
import { fileURLToPath } from 'node:url'
import {
  type ConnectUi,
  connectTelemetry,
  createConnectSession,
  createReconnectSession,
  deleteConnectSession,
  getConnectSession,
  listConnectResults,
  submitApiKey,
  submitBasic,
  submitClientCredentials,
  submitJwt,
  submitNothing,
  submitTwoStep,
} from '@fairlead/contract'
import type { Context } from 'hono'
import { type Callers, environmentCaller, sessionCaller } from '../account/caller.ts'
import { framingOrigins, readSettings } from '../account/settings/store.ts'
import { endUserOf } from '../connection/routes.ts'
import type { Kind } from '../credential/kinds/kind.ts'
import { Failure } from '../errors.ts'
import { api, asFailure, errorHeader, type Guard, incomingOf, requestIdOf } from '../http/api.ts'
import { builtPage } from '../http/static.ts'
import { type Integration, listIntegrations } from '../integration/store.ts'
import type { Secret } from '../lib/secret.ts'
import { isoZulu, minutes } from '../lib/time.ts'
import type { AddressOf } from '../net/caller-address.ts'
import { browserOf, forgetBrowser } from './browser.ts'
import { attemptOf, type CallbackDeps, finishOAuth, stateOf, takeBack } from './callback.ts'
import { type Attempt, type Channel, tellFailure } from './notify.ts'
import { clickPage, isClicked, needsClick } from './opener.ts'
import { type Audience, connectedPage, failedPage, nobody } from './page.ts'
import { accountView, givenFacts, type Target, targetOf } from './reconnect.ts'
import { begunWith, openReconnectSession, openSession } from './session.ts'
import { BelongsElsewhere, readStartQuery, requestedScopes, startOAuth } from './start.ts'
import { attemptsUnderWay, type Begun, expireHandshakes, listResults, loadSession, removeSession } from './store.ts'
import { submit } from './submit.ts'

interface Deps extends CallbackDeps {
  callers: Callers
  guard: Guard
  channel: Channel
  addressOf: AddressOf
}

/** The looks as the page's own contract spells them. */
const looksView = (looks: ConnectUi) => ({
  theme: { light: { primary: looks.primary_light }, dark: { primary: looks.primary_dark } },
  defaultTheme: looks.default_theme,
  showWatermark: false,
  productName: looks.product_name,
  logo: looks.logo,
  radius: looks.radius,
  font: looks.font,
})

export function connectRoutes(deps: Deps) {
  const { callers, guard, url } = deps
  const app = api()
  const secure = url.startsWith('https:')
  const ui = builtPage(fileURLToPath(new URL('../../../connect-ui/dist/', import.meta.url)))

  const sessionView = ({ token, expiresAt }: { token: Secret; expiresAt: Date }) => ({
    token: token.reveal(),
    connect_link: `${url}/connect/?session_token=${token.reveal()}`,
    expires_at: isoZulu(expiresAt),
  })

  app.openapi(guard(createConnectSession), async c => {
    const caller = environmentCaller(c.get('caller'))
    callers.countSession(caller)
    const { environment } = caller
    return c.json({ data: sessionView(await openSession(deps, environment.id, c.req.valid('json'))) }, 201)
  })

  app.openapi(guard(createReconnectSession), async c => {
    const caller = environmentCaller(c.get('caller'))
    callers.countSession(caller)
    const { environment } = caller
    return c.json({ data: sessionView(await openReconnectSession(deps, environment.id, c.req.valid('json'))) }, 201)
  })

  app.openapi(guard(getConnectSession), async c => {
    const session = await loadSession(deps, sessionCaller(c.get('caller')).sessionId)
    if (!session) throw new Failure('unknown_connect_session_token')
    const target = await targetOf(deps.db, session)
    const settings = await readSettings(deps.db, session.environmentId)
    const defaults = Object.entries(session.integrationDefaults).map(([key, value]) => [
      key,
      { connection_config: value.connection_config ?? {}, authorization_params: value.authorization_params ?? {} },
    ])
    const integrations = await listIntegrations(deps, session.environmentId)
    const scopes = integrations
      .filter(({ key }) => session.allowedIntegrations.length === 0 || session.allowedIntegrations.includes(key))
      .flatMap(integration => {
        const provider = deps.catalogue.get(integration.provider)
        const given = session.integrationDefaults[integration.key] ?? {}
        return provider ? [[integration.key, requestedScopes(provider, integration, given)] as const] : []
      })
    const data = {
      endUser: endUserOf(
        session.endUser ?? target?.connection.endUser ?? null,
        session.organization ?? target?.connection.organization ?? null,
      ),
      connectUISettings: looksView(settings.connect_ui),
      ...(session.allowedIntegrations.length > 0 && { allowed_integrations: session.allowedIntegrations }),
      ...(defaults.length > 0 && { integrations_config_defaults: Object.fromEntries(defaults) }),
      ...(target && { isReconnecting: true as const, reconnect: expectedOf(target, integrations) }),
      ...(Object.keys(session.overrides).length > 0 && { overrides: session.overrides }),
      websocketsPath: '/',
      allowed_origins: settings.allowed_origins,
      return_urls: settings.return_urls,
      callback_url: `${url}/oauth/callback`,
      scopes: Object.fromEntries(scopes),
    }
    return c.json({ data }, 200)
  })

  app.openapi(guard(deleteConnectSession), async c => {
    await removeSession(deps, sessionCaller(c.get('caller')).sessionId)
    return c.body(null, 204)
  })

  app.openapi(connectTelemetry, async c => {
    const { token, event, timestamp, dimensions } = c.req.valid('json')
    if (Math.abs(timestamp.getTime() - Date.now()) > minutes(120))
      throw new Failure('invalid_body', {
        issues: [{ code: 'custom', path: ['timestamp'], message: 'More than two hours from now.' }],
      })
    const { environment } = await callers.bySessionToken(token)
    deps.log.debug({ environment: environment.name, event, ...dimensions }, 'on a connect page')
    return c.body(null, 204)
  })

  app.openapi(guard(listConnectResults), async c => {
    const { sessionId } = sessionCaller(c.get('caller'))
    await expireHandshakes(deps, sessionId)
    const results = await listResults(deps.db, sessionId)
    const underWay = await attemptsUnderWay(deps.db, sessionId)
    const data = results.map(result => ({
      attempt: result.attempt,
      provider_config_key: result.integrationKey,
      connection_id: result.connectionId,
      success: result.error === null,
      is_pending: result.isPending,
      operation: result.operation,
      account: result.account,
      missing_scopes: result.missingScopes,
      error: result.error,
      at: isoZulu(result.at),
    }))
    return c.json({ data, under_way: underWay }, 200)
  })

  app.get('/connect', c => c.redirect(`/connect/${new URL(c.req.url).search}`, 308))
  app.get('/connect/', async c => {
    const elsewhere = sameLoopback(c.req.url, url)
    if (elsewhere) return c.redirect(elsewhere, 302)
    return ui.html(c, await ancestorsOf(c.req.query('session_token'), c.req.query('preview') !== undefined))
  })
  app.get('/connect/assets/:name', c => ui.asset(c, c.req.param('name')))

  /** The account a reconnect is for, and what nobody is asked again. */
  function expectedOf({ connection, config }: Target, integrations: Integration[]) {
    const integration = integrations.find(({ id }) => id === connection.integrationId)
    const provider = integration && deps.catalogue.get(integration.provider)
    return {
      connection_id: connection.connectionId,
      account: provider ? accountView(provider, config) : null,
      known: provider ? Object.keys(givenFacts(provider, config)) : [],
    }
  }

  /**
   * Who may frame the page (security checklist UI4). A link names its session, and with that whose origins count: none, unless the
   * environment lists some. Without one the token comes from the framing page itself; whether that may have it is looked at where its
   * origin is known for certain, in the page, before anything is shown.
   */
  async function ancestorsOf(token: string | undefined, isPreview: boolean): Promise<string[]> {
    if (isPreview) return ["'self'"]
    if (token === undefined) return framingOrigins(deps.db)
    const session = await callers.bySessionToken(token).catch(() => undefined)
    return session ? (await readSettings(deps.db, session.environment.id)).allowed_origins : []
  }

  app.on(['GET', 'POST'], '/oauth/connect/:key', async c => {
    const elsewhere = sameLoopback(c.req.url, url)
    if (elsewhere) return c.redirect(elsewhere, 302)
    callers.countAddress('start', incomingOf(c))
    const { pathname, searchParams } = new URL(c.req.url)
    const key = c.req.param('key')
    const begun = await begunWith(deps, sessionTokenIn(searchParams), key)
    const { session } = begun
    const query = readStartQuery(searchParams)
    const { attempt } = query
    const opener = attempt && deps.channel.begun(attempt)
    const cookies = c.req.header('cookie')
    return asPage(
      c,
      async () => {
        if (c.req.method === 'POST') {
          if (!isClicked(searchParams.get('click'), cookies, secure)) throw new Failure('click_missing')
        } else {
          const header = (name: string) => c.req.header(name)
          const arriving = { header, browser: browserOf(deps.addressOf, incomingOf(c)), attempt, opener }
          if (needsClick(deps.keyedHash, arriving, new URL(url).origin, session.settled.allowedOrigins)) {
            // Whoever opens the button's address, as a mail scanner may, sees the button again.
            searchParams.delete('click')
            return clickPage({
              ...(await askFor(begun)),
              action: `${pathname}?${searchParams}`,
              cookies,
              secure,
            })
          }
        }
        const { location, setCookie } = await startOAuth(deps, begun, query, opener)
        return leave(location, c.req.method === 'POST' ? 303 : 302, setCookie)
      },
      { opener, isAwaited: attempt !== null },
      { sessionId: session.id, attempt, integrationKey: key, connectionId: null },
    )
  })

  /** What the click page says: where the sign-in will be, and for whom. */
  async function askFor({ session, integration }: Begun) {
    const provider = integration && deps.catalogue.get(integration.provider)
    if (!provider) throw new Failure('unknown_provider_config')
    const target = await targetOf(deps.db, session)
    const endUser = session.endUser ?? target?.connection.endUser
    const organization = session.organization ?? target?.connection.organization
    return {
      provider: provider.display_name,
      who: {
        name: endUser?.display_name ?? endUser?.email ?? endUser?.id ?? 'the product that sent you here',
        email: endUser?.email,
        organization: organization?.display_name ?? organization?.id,
      },
      plainOrigin: /^http:\/\/[^/\s$]+/.exec(provider.authorization_url ?? '')?.[0],
    }
  }

  app.get('/oauth/callback', c => {
    // HEAD is routed here too, and a link checker's HEAD must not use up the sign-in.
    if (c.req.method !== 'GET') throw new Failure('method_not_allowed')
    const search = new URL(c.req.url).searchParams
    return asPage(c, async () => {
      callers.countAddress('callback', incomingOf(c))
      const handshake = await takeBack(deps, search)
      const audience = { opener: handshake.opener, isAwaited: handshake.attempt !== null }
      const forget = forgetBrowser(stateOf(search) ?? '', secure)
      const last = await asPage(
        c,
        async () => connectedPage(await finishOAuth(deps, handshake, search, c.req.header('cookie')), audience),
        audience,
        attemptOf(handshake),
      )
      // How it ended is in the session's results: nothing rides in the URL. One that has to go on elsewhere has not ended.
      const goesOn = last.headers.get(errorHeader) === 'belongs_elsewhere'
      if (handshake.returnUrl !== null && !goesOn) return leave(handshake.returnUrl, 303, forget)
      last.headers.append('Set-Cookie', forget)
      return last
    })
  })

  /** Who is connecting, and what the query says; the session's token stands in it, as the wire contract has it. */
  const submitting = async (c: Context, type: Kind['type'], body: unknown) => {
    callers.countAddress('start', incomingOf(c))
    const search = new URL(c.req.url).searchParams
    const begun = await begunWith(deps, sessionTokenIn(search), c.req.param('providerConfigKey') ?? '')
    const query = readStartQuery(search)
    return submit(deps, begun, type, query, body as Record<string, unknown>)
  }
  app.openapi(submitApiKey, async c => c.json(await submitting(c, 'API_KEY', c.req.valid('json')), 200))
  app.openapi(submitBasic, async c => c.json(await submitting(c, 'BASIC', c.req.valid('json')), 200))
  app.openapi(submitClientCredentials, async c => c.json(await submitting(c, 'OAUTH2_CC', c.req.valid('json')), 200))
  app.openapi(submitTwoStep, async c => c.json(await submitting(c, 'TWO_STEP', c.req.valid('json')), 200))
  app.openapi(submitJwt, async c => c.json(await submitting(c, 'JWT', c.req.valid('json')), 200))
  app.openapi(submitNothing, async c => c.json(await submitting(c, 'NONE', {}), 200))
  /** Ends in a page either way: somebody is looking at it. A failure of an attempt is told to whoever waits for its end, too. */
  async function asPage(
    c: Context,
    render: () => Promise<Response>,
    audience: Audience = nobody,
    attempt?: Attempt,
  ): Promise<Response> {
    try {
      return await render()
    } catch (error) {
      const failure = asFailure(error, deps.log, requestIdOf(c))
      if (attempt)
        await tellFailure(deps.db, attempt, failure).catch(error =>
          deps.log.warn({ reason: String(error) }, 'a failed sign-in could not be written down'),
        )
      const response = failedPage(failure, audience)
      response.headers.set(errorHeader, failure.code)
      if (failure instanceof BelongsElsewhere && failure.instead)
        response.headers.append('Set-Cookie', failure.instead.setCookie)
      return response
    }
  }

  return app
}

function sessionTokenIn(search: URLSearchParams): string {
  const token = search.get('connect_session_token')
  if (!token) throw new Failure(search.has('public_key') ? 'deprecated_authentication' : 'missing_public_key')
  return token
}

function leave(location: string, status: 302 | 303, setCookie: string): Response {
  return new Response(null, {
    status,
    headers: {
      Location: location,
      'Set-Cookie': setCookie,
      'Cache-Control': 'no-store',
      'Referrer-Policy': 'no-referrer',
    },
  })
}

const loopback = new Set(['localhost', '127.0.0.1', '[::1]'])

/**
 * A sign-in begun at 127.0.0.1 would leave its cookie there and come back to localhost without it. Both are this machine, so the
 * browser is moved to the public name first; a proxy in front that rewrites Host is never second-guessed.
 */
function sameLoopback(requested: string, publicBase: string): string | undefined {
  const at = new URL(requested)
  const base = new URL(publicBase)
  if (at.hostname === base.hostname || !loopback.has(at.hostname) || !loopback.has(base.hostname)) return undefined
  return `${publicBase}${at.pathname}${at.search}`
}
