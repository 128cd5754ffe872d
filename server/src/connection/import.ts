/**
 * POST /connections, and its older spelling POST /connection: a connection brought along. Its credentials are tried where the provider has a
 * cheap way, and stored as a sign-in's are: a refresh token that is here already joins the row that holds it, so that nobody presents it
 * twice. A connection of this id that is here already gets the credentials in the place of those it has (wire contract §9, "override").
 */
import {
  type FlatConnection,
  type ImportedCredentials,
  type ImportRequest,
  importConnection,
  importedCredentials,
  importFlatConnection,
} from '@fairlead/contract'
import { actorOf, environmentCaller } from '../account/caller.ts'
import { acceptableWebhookUrl } from '../account/settings/webhook-url.ts'
import type { Actor, Audit } from '../audit/audit.ts'
import { accountOf } from '../credential/facts.ts'
import { kindOf } from '../credential/kinds/kinds.ts'
import { secretNames, type TokenSet } from '../credential/kinds/oauth2-code.ts'
import type { RefreshDeps } from '../credential/refresh-deps.ts'
import { buryCredential } from '../credential/revocation/store.ts'
import {
  addCredential,
  fingerprintOf,
  holderOfSuccessor,
  lockGrants,
  type NewCredential,
  readConfig,
  replaceGrant,
  type StoreDeps,
  setPaused,
} from '../credential/store.ts'
import { verify } from '../credential/verify.ts'
import { isUniqueViolation } from '../db/open.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { findIntegration } from '../integration/store.ts'
import { newId } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import { untilMs } from '../lib/time.ts'
import { beginsUrl, type Catalogue, hostAllowed } from '../provider/catalogue.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import type { Egress } from '../seams.ts'
import { type Connections, holderOf } from './live.ts'
import { fullView } from './routes.ts'
import { addConnection, type Connection, findConnection, moveConnections, saveOwner, writeMetadata } from './store.ts'
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
    const { integration, connectionId } = await put(environment.id, actorOf(c), body)
    const live = await connections.live(environment.id, integration.key, connectionId, 'not_found')
    const { credential } = live
    const shown = { credential, lastFetchedAt: connections.fetched(live), reveals: true, withRefreshToken: true }
    return c.json(fullView(live, shown), 201)
  })

  app.openapi(guard(importFlatConnection), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const body = c.req.valid('json')
    const { provider_config_key, connection_id, connection_config, metadata } = body
    const integration = await findIntegration(deps, environment.id, provider_config_key)
    if (!integration) throw new Failure('unknown_provider_config', { status: 404 })
    const mode = holderOf(deps.catalogue, integration).provider.auth_mode
    const read = importedCredentials.safeParse(withoutAbsent(structured(mode, body)))
    if (!read.success) {
      const issues = read.error.issues.map(({ code = 'custom', message, path }) => ({
        code,
        message,
        path: path.map(String),
      }))
      throw new Failure('invalid_body', { issues })
    }
    await put(environment.id, actorOf(c), {
      ...{ provider_config_key, credentials: read.data },
      ...withoutAbsent({ connection_id, connection_config, metadata }),
    })
    return c.json(body, 201)
  })

  /** Tried, then stored in one transaction; answers with the name it has. */
  async function put(environmentId: number, actor: Actor, body: ImportRequest) {
    const integration = await findIntegration(deps, environmentId, body.provider_config_key)
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
    const webhookUrlOverride = body.webhook_url_override
      ? acceptableWebhookUrl(deps.egress, body.webhook_url_override, 'webhook_url_override')
      : null
    const organization = body.organization ?? null
    const tags = { ...tagsOf(body.end_user, organization), ...lowerKeys(body.tags ?? {}) }
    const owner = { endUser: body.end_user ?? null, organization, tags, webhookUrlOverride }

    const tokens = tokensOf(body.credentials, deps.clock.wall())
    const { oauth_scopes_override: scopes = [], ...config } = body.connection_config ?? {}
    checkConfig(provider, config)
    const { accessToken, refreshToken, raw, given = {} } = tokens
    const connectionId = body.connection_id ?? newId()
    const before = await findConnection(deps.db, integration.id, connectionId)
    const known = before && (await readConfig(deps.db, before.credentialId))
    const tried = {
      kind: kind.name,
      config: { ...known, ...config },
      accessToken,
      refreshToken,
      given,
      raw,
      expiresAt: null,
    }
    await verify(deps, holder, tried)

    const added: NewCredential = {
      ...{ environmentId, integrationId: integration.id, kind: kind.name, tokens, config },
      account: accountOf(provider, config),
      ...{ scopesRequested: scopes, scopesGranted: scopes, epoch: deps.epoch.current().name },
      suspect: refreshToken !== undefined,
    }
    const store = () =>
      deps.db.transaction(async tx => {
        const stores = { ...deps, db: tx }
        const existing = await findConnection(tx, integration.id, connectionId)
        const id = existing ? await inPlaceOf(stores, existing, added) : (await addCredential(stores, added)).id
        if (existing) await saveOwner(tx, existing.id, owner)
        else
          await addConnection(tx, {
            ...{ environmentId, integrationId: integration.id, credentialId: id, connectionId },
            ...owner,
          })
        if (body.paused) await setPaused(tx, [id], true)
        await audit(tx, actor, {
          environmentId,
          action: existing ? 'connection.reconnected' : 'connection.created',
          target: connectionId,
          detail: { integration: integration.key },
        })
        return [id, ...(existing ? [existing.credentialId] : [])]
      })
    const changed = await store().catch((error: unknown) => {
      // Somebody else brought it along this very moment: then it is here now.
      if (isUniqueViolation(error)) return store()
      throw error
    })
    if (body.metadata) await writeMetadata(deps.db, integration.id, [connectionId], body.metadata, 'replace')
    for (const id of changed) connections.forgetCredential(id)
    return { integration, connectionId }
  }

  return app
}

/** What no sign-in would have stored: a secret among the facts, and facts that lead where no credential of this provider may go. */
function checkConfig(provider: Provider, config: ConnectionConfig): void {
  const refuse = (name: string, message: string): never => {
    throw new Failure('invalid_body', { issues: [{ code: 'custom', message, path: ['connection_config', name] }] })
  }
  for (const name of secretNames)
    if (config[name])
      refuse(
        name,
        'A secret is no fact of an account. An OAuth client of its own goes into credentials.config_override.',
      )
  for (const [name, value] of Object.entries(config)) {
    const url = beginsUrl(provider, name) && typeof value === 'string' ? URL.parse(value) : undefined
    if (url === null || (url && !hostAllowed(provider, url.hostname)))
      refuse(name, `${provider.name} does not allow credentials to go there (allowed_hosts of its definition).`)
  }
}

/**
 * Credentials in the place of those a connection has. The old ones are not revoked: most often they are the same grant's, renewed by another
 * server since, and a provider that hears of a used refresh token may end the grant.
 */
async function inPlaceOf(deps: StoreDeps, { credentialId }: Connection, added: NewCredential): Promise<string> {
  const { db, keyedHash } = deps
  const print = fingerprintOf(keyedHash, credentialId, added)
  const { held, owner = credentialId } = await lockGrants(db, added.integrationId, credentialId, print)
  if (!held) throw new Failure('unknown_connection')
  if (owner !== credentialId) {
    await replaceGrant(deps, owner, added)
    await moveConnections(db, credentialId, owner)
    await buryCredential(db, credentialId)
    return owner
  }
  const successor = await holderOfSuccessor(db, added.integrationId, print)
  if (successor) throw new Failure('refresh_token_superseded')
  await replaceGrant(deps, credentialId, added)
  return credentialId
}

const withoutAbsent = <Members extends object>(members: Members): Partial<Members> =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Partial<Members>

/** The older spelling names no type: the integration's says which members count. */
function structured(type: string, flat: FlatConnection): object {
  switch (type) {
    case 'OAUTH2':
      return {
        ...{ type, access_token: flat.access_token, refresh_token: flat.refresh_token },
        expires_at: flat.no_expiration ? undefined : flat.expires_at,
      }
    case 'OAUTH2_CC':
      return { type, token: flat.token, client_id: flat.client_id, client_secret: flat.client_secret }
    case 'OAUTH1':
      return { type, oauth_token: flat.oauth_token, oauth_token_secret: flat.oauth_token_secret }
    case 'BASIC':
      return { type, username: flat.username ?? '', password: flat.password ?? '' }
    case 'API_KEY':
      return { type, apiKey: flat.api_key }
    default:
      return { type }
  }
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
