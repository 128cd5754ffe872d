/**
 * The doctor. This room owns GET /connections/:connectionId/doctor: it hands a provider's hooks what they need to look at one connection,
 * each question with a deadline, to hosts on the provider's list and a bounded number of times. And GET /connections/:connectionId/usage,
 * for which nobody is asked: what answers to calls said by themselves.
 */
import { examineConnection, getUsage } from '@fairlead/contract'
import { environmentCaller } from '../account/caller.ts'
import type { Connections } from '../connection/live.ts'
import { ask, askApi } from '../credential/ask.ts'
import type { Credentials } from '../credential/fresh.ts'
import { introspectToken } from '../credential/introspect.ts'
import type { Timing } from '../credential/timing.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import type { Log } from '../lib/log.ts'
import { isoZulu } from '../lib/time.ts'
import { type Catalogue, hostAllowed } from '../provider/catalogue.ts'
import type { Patient } from '../provider/hooks.ts'
import type { Egress } from '../seams.ts'

interface Deps {
  connections: Connections
  credentials: Pick<Credentials, 'fresh'>
  catalogue: Catalogue
  egress: Egress
  timing: Timing
  guard: Guard
  log: Log
  url: string
  exits(): Promise<string[]>
  /** What some answer said lately of the calls of a day. */
  usageOf(live: Awaited<ReturnType<Connections['live']>>): { used: number; limit: number; at: number } | undefined
}

/** Upstream, for one examination. */
const mostQuestions = 12

export function doctorRoutes(deps: Deps) {
  const { connections, credentials, catalogue, egress, guard } = deps
  const app = api()

  app.openapi(guard(examineConnection), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    const { provider, holder } = live
    const examine = catalogue.hooks(provider).examine
    if (!examine) return c.json({ findings: [] }, 200)

    // A connection that needs its owner is examined too, with what it has.
    const credential = await Promise.resolve(credentials.fresh(holder, live.credential)).catch((error: unknown) => {
      if (!(error instanceof Failure)) throw error
      return undefined
    })
    const { config, ...known } = credential ?? live.credential
    let left = mostQuestions
    const mayAsk = (url?: URL) => left-- > 0 && (!url || hostAllowed(provider, url.hostname))
    const askAccount = credential && askApi(egress, provider, config, credential.accessToken)
    const patient: Patient = {
      ...{ provider, config, grants: live.grants },
      ...{
        health: known.health,
        cause: known.cause,
        said: known.said,
        rotates: known.rotates,
        renewable: known.refreshToken !== undefined,
      },
      ...{ scopesRequested: known.scopesRequested, scopesGranted: known.scopesGranted },
      clientId: holder.client.id,
      redirectUri: `${deps.url}/oauth/callback`,
      usage: deps.usageOf(live),
      exits: await deps.exits(),
      api: async path => (mayAsk() ? askAccount?.(path) : undefined),
      open: async url => (mayAsk(url) ? ask(egress, { method: 'GET', url }) : undefined),
      asClient: async (url, form) =>
        mayAsk(url)
          ? ask(egress, {
              ...{ method: 'POST', url, headers: { 'content-type': 'application/x-www-form-urlencoded' } },
              body: new URLSearchParams({
                ...form,
                client_id: holder.client.id,
                ...(holder.client.secret && { client_secret: holder.client.secret.reveal() }),
              }).toString(),
            })
          : undefined,
      introspect: async token => {
        const presented = token === 'access_token' ? known.accessToken : known.refreshToken
        return presented && mayAsk()
          ? introspectToken(deps, holder, { ...known, config }, presented, token)
          : 'not_offered'
      },
    }
    return c.json({ findings: await examine(patient) }, 200)
  })

  app.openapi(guard(getUsage), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    const usage = deps.usageOf(live)
    const rule = live.provider.rate_limit
    return c.json(
      {
        is_told: rule !== undefined,
        reserve_percent: rule?.reserve_percent ?? null,
        usage: usage ? { used: usage.used, limit: usage.limit, at: isoZulu(new Date(usage.at)) } : null,
      },
      200,
    )
  })

  return app
}
