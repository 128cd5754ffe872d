/**
 * Integrations: a provider configured by you, with your OAuth client. This room owns the table `integration` and
 * GET|POST /integrations, GET|PATCH|DELETE /integrations/:uniqueKey. The client secret is sealed on the way in and leaves only
 * for a key that may read credentials. Connections, connect sessions and the proxy look integrations up here.
 */
import {
  createIntegration,
  deleteIntegration,
  getIntegration,
  listIntegrations as listRoute,
  updateIntegration,
} from '@fairlead/contract'
import { type Caller, hasScope, keyCaller } from '../account/caller.ts'
import { isUniqueViolation } from '../db/open.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { Secret } from '../lib/secret.ts'
import { isoZulu } from '../lib/time.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import type { Db } from '../seams.ts'
import {
  addIntegration,
  findIntegration,
  hasConnections,
  type Integration,
  listIntegrations,
  removeIntegration,
  type Deps as StoreDeps,
  saveIntegration,
} from './store.ts'

interface Deps extends StoreDeps {
  catalogue: Catalogue
  guard: Guard
  url: string
  /** Told after a change, so that caches elsewhere let go of what they know. */
  changed: (environmentId: number) => Promise<void>
  /** Ends every grant of an integration within the transaction that deletes it. Connections stand above this room. */
  endGrants: (tx: Db, integration: Integration) => Promise<void>
}

const needsClient = new Set(['OAUTH1', 'OAUTH2', 'APP', 'CUSTOM'])

const refuse = (path: string, message: string): never => {
  throw new Failure('invalid_body', { message, issues: [{ code: 'custom', message, path: [path] }] })
}

export function integrationRoutes(deps: Deps) {
  const { catalogue, guard, url } = deps
  const app = api()

  const view = (integration: Integration) => ({
    unique_key: integration.key,
    provider: integration.provider,
    display_name: integration.displayName ?? catalogue.get(integration.provider)?.display_name ?? integration.provider,
    logo: `${url}/images/template-logos/${integration.provider}.svg`,
    forward_webhooks: integration.forwardWebhooks,
    capture_bodies: integration.captureBodies,
    base_url_hosts: integration.baseUrlHosts,
    created_at: isoZulu(integration.createdAt),
    updated_at: isoZulu(integration.updatedAt),
  })

  const known = async (environmentId: number, key: string): Promise<Integration> => {
    const integration = await findIntegration(deps, environmentId, key)
    if (!integration) throw new Failure('not_found', { message: 'There is no integration with this unique_key.' })
    return integration
  }

  app.openapi(guard(listRoute), async c => {
    const caller: Caller = c.get('caller')
    const allowed = caller.kind === 'session' ? caller.allowedIntegrations : []
    const all = await listIntegrations(deps, caller.environment.id)
    const shown = all.filter(integration => allowed.length === 0 || allowed.includes(integration.key))
    return c.json({ data: shown.map(view) }, 200)
  })

  app.openapi(guard(createIntegration), async c => {
    const { environment } = keyCaller(c.get('caller'))
    const body = c.req.valid('json')
    const provider = catalogue.get(body.provider)
    if (!provider) return refuse('provider', `There is no provider "${body.provider}".`)
    if (provider.auth_mode !== 'OAUTH2')
      return refuse('provider', `Providers of kind ${provider.auth_mode} are not supported by this version.`)
    if (needsClient.has(provider.auth_mode) && !body.credentials)
      return refuse('credentials', `${provider.display_name} needs the client id and secret of your OAuth app.`)
    const added = await addIntegration(deps, {
      environmentId: environment.id,
      key: body.unique_key,
      provider: body.provider,
      displayName: body.display_name ?? null,
      clientId: body.credentials?.client_id ?? null,
      clientSecret: body.credentials?.client_secret ?? null,
      scopes: body.credentials?.scopes ?? null,
      forwardWebhooks: body.forward_webhooks ?? true,
      captureBodies: body.capture_bodies ?? false,
      baseUrlHosts: body.base_url_hosts ?? [],
    })
    if (!added) return refuse('uniqueKey', `An integration "${body.unique_key}" exists already.`)
    return c.json({ data: view(added) }, 200)
  })

  app.openapi(guard(getIntegration), async c => {
    const caller = keyCaller(c.get('caller'))
    const integration = await known(caller.environment.id, c.req.valid('param').uniqueKey)
    const include = [c.req.valid('query').include ?? []].flat()
    if (include.includes('credentials') && !hasScope(caller, 'environment:integrations:read_credentials'))
      throw new Failure('forbidden', {
        message: 'This API key needs the scope environment:integrations:read_credentials to include credentials.',
      })
    return c.json(
      {
        data: {
          ...view(integration),
          ...(include.includes('webhook') && { webhook_url: null }),
          ...(include.includes('credentials') && {
            credentials: integration.clientId
              ? {
                  type: 'OAUTH2' as const,
                  client_id: integration.clientId,
                  client_secret: integration.clientSecret?.reveal() ?? null,
                  scopes: integration.scopes,
                }
              : null,
          }),
        },
      },
      200,
    )
  })

  app.openapi(guard(updateIntegration), async c => {
    const { environment } = keyCaller(c.get('caller'))
    const body = c.req.valid('json')
    const integration = await known(environment.id, c.req.valid('param').uniqueKey)
    const renamed = body.unique_key !== undefined && body.unique_key !== integration.key
    if (renamed && (await hasConnections(deps, integration.id)))
      return refuse(
        'unique_key',
        'An integration with connections cannot be renamed: your code names it in every call.',
      )
    try {
      const saved = await saveIntegration(deps, {
        ...integration,
        key: body.unique_key ?? integration.key,
        displayName: body.display_name ?? integration.displayName,
        clientId: body.credentials?.client_id ?? integration.clientId,
        clientSecret: body.credentials ? new Secret(body.credentials.client_secret) : integration.clientSecret,
        scopes: body.credentials?.scopes ?? integration.scopes,
        forwardWebhooks: body.forward_webhooks ?? integration.forwardWebhooks,
        captureBodies: body.capture_bodies ?? integration.captureBodies,
        baseUrlHosts: body.base_url_hosts ?? integration.baseUrlHosts,
      })
      if (!saved) throw new Failure('not_found')
      await deps.changed(environment.id)
      return c.json({ data: view(saved) }, 200)
    } catch (error) {
      if (isUniqueViolation(error)) return refuse('unique_key', `An integration "${body.unique_key}" exists already.`)
      throw error
    }
  })

  app.openapi(guard(deleteIntegration), async c => {
    const { environment } = keyCaller(c.get('caller'))
    const integration = await known(environment.id, c.req.valid('param').uniqueKey)
    await deps.db.transaction(async tx => {
      await deps.endGrants(tx, integration)
      await removeIntegration({ ...deps, db: tx }, integration.id)
    })
    await deps.changed(environment.id)
    return c.json({ success: true as const }, 200)
  })

  return app
}
