/**
 * Connect: from a session to a stored connection. This room owns the tables `connect_session` and `handshake`, and
 * POST /connect/sessions, POST /connect/sessions/reconnect, GET|DELETE /connect/session, GET /connect/ (the hosted page), GET /oauth/connect/:key, GET /oauth/callback.
 * It hands the finished account to `credential/` and `connection/` in one transaction and never hears of it again.
 */
import {
  createConnectSession,
  createReconnectSession,
  deleteConnectSession,
  getConnectSession,
} from '@fairlead/contract'
import { type Callers, keyCaller, sessionCaller } from '../account/caller.ts'
import { endUserOf } from '../connection/routes.ts'
import { Failure } from '../errors.ts'
import { api, asFailure, errorHeader, type Guard } from '../http/api.ts'
import { listIntegrations } from '../integration/store.ts'
import type { Secret } from '../lib/secret.ts'
import { isoZulu } from '../lib/time.ts'
import { forgetBrowser } from './browser.ts'
import { type CallbackDeps, finishOAuth, stateOf } from './callback.ts'
import { choosePage, connectedPage, failedPage, reconnectPage } from './page.ts'
import { targetOf } from './reconnect.ts'
import { openReconnectSession, openSession } from './session.ts'
import { readStartQuery, startOAuth } from './start.ts'
import { loadSession, removeSession } from './store.ts'

interface Deps extends CallbackDeps {
  callers: Callers
  guard: Guard
}

/** What any page of ours says of itself until an environment has settings of its own. */
const connectUISettings = {
  theme: { light: { primary: '#0b6b75' }, dark: { primary: '#56c2cc' } },
  defaultTheme: 'system' as const,
  showWatermark: false,
}

export function connectRoutes(deps: Deps) {
  const { callers, guard, url } = deps
  const app = api()

  const sessionView = ({ token, expiresAt }: { token: Secret; expiresAt: Date }) => ({
    token: token.reveal(),
    connect_link: `${url}/connect/?session_token=${token.reveal()}`,
    expires_at: isoZulu(expiresAt),
  })

  app.openapi(guard(createConnectSession), async c => {
    const { environment } = keyCaller(c.get('caller'))
    return c.json({ data: sessionView(await openSession(deps, environment.id, c.req.valid('json'))) }, 201)
  })

  app.openapi(guard(createReconnectSession), async c => {
    const { environment } = keyCaller(c.get('caller'))
    return c.json({ data: sessionView(await openReconnectSession(deps, environment.id, c.req.valid('json'))) }, 201)
  })

  app.openapi(guard(getConnectSession), async c => {
    const session = await loadSession(deps, sessionCaller(c.get('caller')).sessionId)
    if (!session) throw new Failure('unknown_connect_session_token')
    const target = await targetOf(deps.db, session)
    const defaults = Object.entries(session.integrationDefaults).map(([key, value]) => [
      key,
      { connection_config: value.connection_config ?? {}, authorization_params: value.authorization_params ?? {} },
    ])
    const data = {
      endUser: endUserOf(
        session.endUser ?? target?.connection.endUser ?? null,
        session.organization ?? target?.connection.organization ?? null,
      ),
      connectUISettings,
      ...(session.allowedIntegrations.length > 0 && { allowed_integrations: session.allowedIntegrations }),
      ...(defaults.length > 0 && { integrations_config_defaults: Object.fromEntries(defaults) }),
      ...(target && { isReconnecting: true as const }),
      ...(Object.keys(session.overrides).length > 0 && { overrides: session.overrides as Record<string, string> }),
      websocketsPath: '/',
    }
    return c.json({ data }, 200)
  })

  app.openapi(guard(deleteConnectSession), async c => {
    await removeSession(deps, sessionCaller(c.get('caller')).sessionId)
    return c.body(null, 204)
  })

  app.get('/connect', c => c.redirect(`/connect/${new URL(c.req.url).search}`, 308))
  app.get('/connect/', async c => {
    const elsewhere = sameLoopback(c.req.url, url)
    if (elsewhere) return c.redirect(elsewhere, 302)
    return asPage(async () => {
      const token = c.req.query('session_token') ?? ''
      const caller = await callers.bySessionToken(token)
      const session = await loadSession(deps, caller.sessionId)
      if (!session) throw new Failure('unknown_connect_session_token')
      const target = await targetOf(deps.db, session)
      const choices = (await listIntegrations(deps, caller.environment.id))
        .filter(({ key }) => caller.allowedIntegrations.length === 0 || caller.allowedIntegrations.includes(key))
        .flatMap(integration => {
          const provider = deps.catalogue.get(integration.provider)
          return provider ? [{ integration, provider }] : []
        })
      const endUser = session.endUser ?? target?.connection.endUser
      const who = endUser?.display_name ?? endUser?.email
      const [choice] = choices
      return target && choice ? reconnectPage(choice, target, token, who) : choosePage(choices, token, who)
    })
  })

  app.get('/oauth/connect/:key', async c => {
    const elsewhere = sameLoopback(c.req.url, url)
    if (elsewhere) return c.redirect(elsewhere, 302)
    const search = new URL(c.req.url).searchParams
    const token = search.get('connect_session_token')
    if (!token)
      throw new Failure(search.has('public_key') ? 'deprecated_authentication' : 'missing_connect_session_token')
    const caller = await callers.bySessionToken(token)
    const query = readStartQuery(search)
    return asPage(async () => {
      const { location, setCookie } = await startOAuth(deps, caller, c.req.param('key'), query)
      return new Response(null, {
        status: 302,
        headers: {
          Location: location,
          'Set-Cookie': setCookie,
          'Cache-Control': 'no-store',
          'Referrer-Policy': 'no-referrer',
        },
      })
    })
  })

  app.get('/oauth/callback', c => {
    // HEAD is routed here too, and a link checker's HEAD must not use up the sign-in.
    if (c.req.method !== 'GET') throw new Failure('method_not_allowed')
    const search = new URL(c.req.url).searchParams
    return asPage(async () => {
      const response = connectedPage(await finishOAuth(deps, search, c.req.header('cookie')))
      response.headers.append('Set-Cookie', forgetBrowser(stateOf(search) ?? '', url.startsWith('https:')))
      return response
    })
  })

  /** Ends in a page either way: somebody is looking at it. */
  async function asPage(render: () => Promise<Response>): Promise<Response> {
    try {
      return await render()
    } catch (error) {
      const failure = asFailure(error, deps.log)
      const response = failedPage(failure)
      response.headers.set(errorHeader, failure.code)
      return response
    }
  }

  return app
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
