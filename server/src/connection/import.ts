/**
 * POST /connections: a connection brought along. Its credentials are tried where the provider has a cheap way, and stored as a sign-in's are:
 * a refresh token that is here already joins the row that holds it, so that nobody presents it twice.
 */
import { type ImportedCredentials, importConnection } from '@fairlead/contract'
import { actorOf, environmentCaller } from '../account/caller.ts'
import { acceptableWebhookUrl } from '../account/settings/webhook-url.ts'
import type { Audit } from '../audit/audit.ts'
import { accountOf } from '../credential/facts.ts'
import { kindOf } from '../credential/kinds/kinds.ts'
import type { TokenSet } from '../credential/kinds/oauth2-code.ts'
import type { RefreshDeps } from '../credential/refresh-deps.ts'
import { addCredential, markSuspect, type StoreDeps } from '../credential/store.ts'
import { verify } from '../credential/verify.ts'
import { isUniqueViolation } from '../db/open.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { findIntegration } from '../integration/store.ts'
import { newId } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import { untilMs } from '../lib/time.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import type { Egress } from '../seams.ts'
import { type Connections, holderOf } from './live.ts'
import { fullView } from './routes.ts'
import { addConnection, writeMetadata } from './store.ts'
import { lowerKeys, tagsOf } from './tags.ts'

interface Deps extends StoreDeps {
  egress: Egress
  catalogue: Catalogue
  connections: Connections
  epoch: RefreshDeps['epoch']
  guard: Guard
  audit: Audit
}

export function importRoutes(deps: Deps) {
  const { guard, audit, connections } = deps
  const app = api()

  app.openapi(guard(importConnection), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const body = c.req.valid('json')
    const integration = await findIntegration(deps, environment.id, body.provider_config_key)
    if (!integration) throw new Failure('unknown_provider_config', { status: 404 })
    const { provider, holder } = holderOf(deps.catalogue, integration)
    const kind = kindOf(provider)
    if (!kind || kind.type !== body.credentials.type) {
      const message = `Connections of this integration are of type ${provider.auth_mode}.`
      throw new Failure('invalid_body', {
        message,
        issues: [{ code: 'custom', message, path: ['credentials', 'type'] }],
      })
    }

    const tokens = tokensOf(body.credentials, deps.clock.wall())
    const { oauth_scopes_override: scopes = [], ...config } = body.connection_config ?? {}
    const { accessToken, refreshToken, raw, given = {} } = tokens
    const tried = { kind: kind.name, config, accessToken, refreshToken, given, raw, expiresAt: null }
    await verify(deps, holder, tried)

    const connectionId = body.connection_id ?? newId()
    await deps.db
      .transaction(async tx => {
        const id = await addCredential(
          { ...deps, db: tx },
          {
            ...{ environmentId: environment.id, integrationId: integration.id, kind: kind.name, tokens, config },
            account: accountOf(provider, config),
            ...{ scopesRequested: scopes, scopesGranted: scopes, epoch: deps.epoch.current().name },
          },
        )
        if (refreshToken) await markSuspect(tx, id)
        await addConnection(tx, {
          environmentId: environment.id,
          integrationId: integration.id,
          credentialId: id,
          connectionId,
          endUser: body.end_user ?? null,
          organization: null,
          tags: { ...tagsOf(body.end_user, null), ...lowerKeys(body.tags ?? {}) },
          webhookUrlOverride: body.webhook_url_override
            ? acceptableWebhookUrl(deps.egress, body.webhook_url_override, 'webhook_url_override')
            : null,
        })
        await audit(tx, actorOf(c), {
          environmentId: environment.id,
          action: 'connection.created',
          target: connectionId,
          detail: { integration: integration.key },
        })
      })
      .catch((error: unknown) => {
        if (isUniqueViolation(error))
          throw new Failure('conflict', { message: 'A connection with this id exists already.' })
        throw error
      })
    if (body.metadata) await writeMetadata(deps.db, integration.id, [connectionId], body.metadata, 'replace')
    const live = await connections.live(environment.id, integration.key, connectionId, 'not_found')
    const { credential } = live
    const shown = { credential, lastFetchedAt: connections.fetched(live), reveals: true, withRefreshToken: true }
    return c.json(fullView(live, shown), 201)
  })

  return app
}

/** As a provider's answer would have brought it. */
function tokensOf(credentials: ImportedCredentials, wallNow: number): TokenSet {
  const endsAt = 'expires_at' in credentials ? credentials.expires_at : undefined
  // What has ended is renewed at its next use.
  const lifeMs = endsAt === undefined ? undefined : Math.max(1, untilMs(String(endsAt), wallNow) ?? 1)
  const known = { tokenType: 'Bearer', lifeMs, scopes: undefined, raw: { ...credentials }, refreshToken: undefined }
  switch (credentials.type) {
    case 'OAUTH2':
      return {
        ...known,
        accessToken: new Secret(credentials.access_token),
        refreshToken: credentials.refresh_token ? new Secret(credentials.refresh_token) : undefined,
        ...(credentials.config_override && { given: credentials.config_override }),
      }
    case 'OAUTH2_CC': {
      const { type: _, token, expires_at: __, ...given } = credentials
      const texts = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Record<
        string,
        string
      >
      return { ...known, accessToken: new Secret(token), given: texts }
    }
    case 'OAUTH1':
      return {
        ...known,
        accessToken: new Secret(credentials.oauth_token),
        given: { oauth_token_secret: credentials.oauth_token_secret },
      }
    case 'BASIC': {
      const { username, password } = credentials
      return { ...known, accessToken: new Secret(password), given: { username, password } }
    }
    case 'API_KEY':
      return { ...known, accessToken: new Secret(credentials.apiKey), given: { apiKey: credentials.apiKey } }
    case 'NONE':
      return { ...known, accessToken: new Secret(''), given: {} }
  }
}
