/**
 * Integrations: a provider configured by you, with your OAuth client. This room owns the table `integration` and
 * GET|POST /integrations, GET|PATCH|DELETE /integrations/:uniqueKey, GET /config/:uniqueKey. The client secret is sealed on the way in and leaves only
 * for a key that may read credentials. Connections, connect sessions and the proxy look integrations up here.
 */
import {
  createIntegration,
  deleteIntegration,
  getConfig,
  getIntegration,
  listIntegrations as listRoute,
  updateIntegration,
} from '@fairlead/contract'
import { actorOf, type Caller, type EnvironmentCaller, environmentCaller, requireScope } from '../account/caller.ts'
import type { Actor, Audit } from '../audit/audit.ts'
import { isUniqueViolation } from '../db/open.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { Secret } from '../lib/secret.ts'
import { isoZulu } from '../lib/time.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { fieldFault } from '../provider/form.ts'
import type { Provider } from '../provider/schema.ts'
import type { Db, Egress } from '../seams.ts'
import {
  addIntegration,
  findIntegration,
  hasConnections,
  type Integration,
  listIntegrations,
  noSettings,
  removeIntegration,
  type Settings,
  type Deps as StoreDeps,
  saveIntegration,
} from './store.ts'

interface Deps extends StoreDeps {
  catalogue: Catalogue
  egress: Pick<Egress, 'check'>
  guard: Guard
  audit: Audit
  url: string
  /** Told after a change, so that caches elsewhere let go of what they know. */
  changed: (environmentId: number) => Promise<void>
  /** Ends every grant of an integration within the transaction that deletes it. Connections stand above this room. */
  endGrants: (tx: Db, integration: Integration) => Promise<void>
}

const needsClient = new Set(['OAUTH1', 'OAUTH2'])

const refuse = (path: string, message: string): never => {
  throw new Failure('invalid_body', { message, issues: [{ code: 'custom', message, path: [path] }] })
}

/** The wire's `preconfigured_credentials`: fields of the connect form that the integration answers already. */
function preconfigured(provider: Provider | undefined, { config }: Settings): { preconfigured_credentials?: string[] } {
  const names = Object.keys(config).filter(name => Object.hasOwn(provider?.credentials ?? {}, name))
  return names.length > 0 ? { preconfigured_credentials: names } : {}
}

function checkCredentials({ auth_mode, display_name }: Provider, credentials: { type: string } | undefined): void {
  if (!credentials || credentials.type === auth_mode) return
  const message = needsClient.has(auth_mode)
    ? `${display_name} takes credentials of type ${auth_mode}.`
    : `${display_name} takes no credentials here: each connection brings its own.`
  refuse('credentials', message)
}

interface Sent {
  integration_config?: Record<string, string> | undefined
  custom?: Record<string, string> | undefined
}

/** Checked against the provider's form. Members sent replace those that were there; an empty text removes one. */
function settingsOf({ egress }: Pick<Deps, 'egress'>, provider: Provider, now: Settings, sent: Sent): Settings {
  const form = { ...provider.credentials, ...provider.integration_config }
  for (const [name, value] of Object.entries(sent.integration_config ?? {})) {
    const fault = Object.hasOwn(form, name)
      ? value !== '' && fieldFault(form[name], value, 8192)
      : 'is not a field of this provider.'
    if (fault) refuse('integration_config', `${name} ${fault}`)
  }
  const baseUrl = sent.custom?.baseUrl
  if (baseUrl) {
    // The wire contract's rule; a setting nothing reads would look as if it had worked.
    if (!provider.integration_config)
      refuse('custom', 'baseUrl is for providers with integration_config. For others name the host in base_url_hosts.')
    const url = URL.parse(baseUrl)
    if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash)
      refuse('custom', 'baseUrl must be a URL without user and query.')
    try {
      egress.check(url!)
    } catch (error) {
      refuse('custom', `baseUrl: ${(error as Error).message}`)
    }
  }
  return { config: merged(now.config, sent.integration_config), custom: merged(now.custom, sent.custom) }
}

const merged = (now: Readonly<Record<string, string>>, sent: Record<string, string> = {}): Record<string, string> =>
  Object.fromEntries(Object.entries({ ...now, ...sent }).filter(([, value]) => value !== ''))

export function integrationRoutes(deps: Deps) {
  const { audit, catalogue, guard, url } = deps
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
    ...preconfigured(catalogue.get(integration.provider), integration.settings),
  })

  const known = async (environmentId: number, key: string): Promise<Integration> => {
    const integration = await findIntegration(deps, environmentId, key)
    if (!integration) throw new Failure('not_found', { message: 'There is no integration with this unique_key.' })
    return integration
  }

  /** Whoever cannot be written down reads no secret. */
  const mayReadSecret = (caller: EnvironmentCaller, actor: Actor, { key }: Integration): Promise<void> => {
    requireScope(caller, ['environment:integrations:read_credentials'])
    const entry = { environmentId: caller.environment.id, action: 'integration.secret_read', target: key }
    return deps.db.transaction(tx => audit(tx, actor, entry))
  }

  app.openapi(guard(listRoute), async c => {
    const caller: Caller = c.get('caller')
    const allowed = caller.kind === 'session' ? caller.allowedIntegrations : []
    const all = await listIntegrations(deps, caller.environment.id)
    const shown = all.filter(integration => allowed.length === 0 || allowed.includes(integration.key))
    return c.json({ data: shown.map(view) }, 200)
  })

  app.openapi(guard(createIntegration), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const body = c.req.valid('json')
    const provider = catalogue.get(body.provider)
    if (!provider) return refuse('provider', `There is no provider "${body.provider}".`)
    if (provider.unsupported)
      throw new Failure('provider_unsupported', {
        message: `This version cannot do what ${body.provider} needs: ${provider.unsupported.join('; ')}.`,
        payload: { unsupported: provider.unsupported },
      })
    if (needsClient.has(provider.auth_mode) && !body.credentials)
      return refuse('credentials', `${provider.display_name} needs the client id and secret of your OAuth app.`)
    checkCredentials(provider, body.credentials)
    const settings = settingsOf(deps, provider, noSettings, body)
    const added = await deps.db.transaction(async tx => {
      const made = await addIntegration(
        { ...deps, db: tx },
        {
          environmentId: environment.id,
          key: body.unique_key,
          provider: body.provider,
          displayName: body.display_name ?? null,
          clientId: body.credentials?.client_id ?? null,
          clientSecret: body.credentials?.client_secret ?? null,
          scopes: body.credentials?.scopes ?? null,
          settings,
          forwardWebhooks: body.forward_webhooks ?? true,
          captureBodies: body.capture_bodies ?? false,
          baseUrlHosts: body.base_url_hosts ?? [],
        },
      )
      if (made)
        await audit(tx, actorOf(c), {
          environmentId: environment.id,
          action: 'integration.created',
          target: made.key,
          detail: { provider: made.provider },
        })
      return made
    })
    if (!added) return refuse('uniqueKey', `An integration "${body.unique_key}" exists already.`)
    return c.json({ data: view(added) }, 200)
  })

  app.openapi(guard(getIntegration), async c => {
    const caller = environmentCaller(c.get('caller'))
    const integration = await known(caller.environment.id, c.req.valid('param').uniqueKey)
    const include = [c.req.valid('query').include ?? []].flat()
    if (include.includes('credentials')) await mayReadSecret(caller, actorOf(c), integration)
    return c.json(
      {
        data: {
          ...view(integration),
          ...(include.includes('webhook') && { webhook_url: null }),
          ...(include.includes('credentials') && {
            credentials: integration.clientId
              ? {
                  type:
                    catalogue.get(integration.provider)?.auth_mode === 'OAUTH1'
                      ? ('OAUTH1' as const)
                      : ('OAUTH2' as const),
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

  app.openapi(guard(getConfig), async c => {
    const caller = environmentCaller(c.get('caller'))
    const integration = await known(caller.environment.id, c.req.valid('param').uniqueKey)
    const { key, provider, clientId, clientSecret, scopes } = integration
    const config = { unique_key: key, provider, syncs: [], actions: [] }
    if (c.req.valid('query').include_creds !== 'true') return c.json({ config }, 200)
    await mayReadSecret(caller, actorOf(c), integration)
    const auth_mode = catalogue.get(provider)?.auth_mode ?? ''
    const client = { client_id: clientId, client_secret: clientSecret?.reveal() ?? null, scopes }
    return c.json({ config: { ...config, auth_mode, ...client } }, 200)
  })

  app.openapi(guard(updateIntegration), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const body = c.req.valid('json')
    const integration = await known(environment.id, c.req.valid('param').uniqueKey)
    const renamed = body.unique_key !== undefined && body.unique_key !== integration.key
    if (renamed && (await hasConnections(deps, integration.id)))
      return refuse(
        'unique_key',
        'An integration with connections cannot be renamed: your code names it in every call.',
      )
    const provider = catalogue.get(integration.provider)
    if (provider) checkCredentials(provider, body.credentials)
    const settings = provider ? settingsOf(deps, provider, integration.settings, body) : integration.settings
    try {
      const saved = await deps.db.transaction(async tx => {
        const changed = await saveIntegration(
          { ...deps, db: tx },
          {
            ...integration,
            key: body.unique_key ?? integration.key,
            displayName: body.display_name ?? integration.displayName,
            clientId: body.credentials?.client_id ?? integration.clientId,
            clientSecret: body.credentials ? new Secret(body.credentials.client_secret) : integration.clientSecret,
            scopes: body.credentials?.scopes ?? integration.scopes,
            settings,
            forwardWebhooks: body.forward_webhooks ?? integration.forwardWebhooks,
            captureBodies: body.capture_bodies ?? integration.captureBodies,
            baseUrlHosts: body.base_url_hosts ?? integration.baseUrlHosts,
          },
        )
        if (changed)
          await audit(tx, actorOf(c), {
            environmentId: environment.id,
            action: 'integration.updated',
            target: integration.key,
            detail: { changed: Object.keys(body) },
          })
        return changed
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
    const { environment } = environmentCaller(c.get('caller'))
    const integration = await known(environment.id, c.req.valid('param').uniqueKey)
    await deps.db.transaction(async tx => {
      await deps.endGrants(tx, integration)
      await removeIntegration({ ...deps, db: tx }, integration.id)
      await audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'integration.deleted',
        target: integration.key,
        detail: { provider: integration.provider },
      })
    })
    await deps.changed(environment.id)
    return c.json({ success: true as const }, 200)
  })

  return app
}
