/** PATCH /connections/:connectionId, POST|PATCH /connections/metadata and POST|PATCH /connections/:connectionId/metadata: what a developer writes on a connection. */
import { patchConnection, setMetadata, setMetadataOf, updateMetadata, updateMetadataOf } from '@fairlead/contract'
import { actorOf, environmentCaller } from '../account/caller.ts'
import { acceptableWebhookUrl } from '../account/settings/webhook-url.ts'
import type { Audit } from '../audit/audit.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { findIntegration } from '../integration/store.ts'
import type { Db, Egress, Vault } from '../seams.ts'
import type { Connections } from './live.ts'
import { type Edit, editConnection, findConnection, writeMetadata } from './store.ts'
import { lowerKeys, tagsOf } from './tags.ts'

interface Deps {
  db: Db
  vault: Vault
  egress: Pick<Egress, 'check'>
  connections: Pick<Connections, 'forgetCredential'>
  guard: Guard
  audit: Audit
}

export function editRoutes(deps: Deps) {
  const { db, connections, guard, audit } = deps
  const app = api()

  const write = async (
    environmentId: number,
    key: string,
    ids: string | string[],
    metadata: Record<string, unknown>,
    mode: 'replace' | 'merge',
  ) => {
    const integration = await findIntegration(deps, environmentId, key)
    const named = [...new Set([ids].flat())]
    const written = integration && (await writeMetadata(db, integration.id, named, metadata, mode))
    if (!written)
      throw new Failure('unknown_connection', {
        status: 404,
        message: 'Not all of these connections exist on this integration. Nothing was changed.',
      })
    for (const credentialId of written) connections.forgetCredential(credentialId)
  }

  app.openapi(guard(setMetadata), async c => {
    const body = c.req.valid('json')
    const { environment } = environmentCaller(c.get('caller'))
    await write(environment.id, body.provider_config_key, body.connection_id, body.metadata, 'replace')
    return c.json(body, 201)
  })

  app.openapi(guard(updateMetadata), async c => {
    const body = c.req.valid('json')
    const { environment } = environmentCaller(c.get('caller'))
    await write(environment.id, body.provider_config_key, body.connection_id, body.metadata, 'merge')
    return c.json(body, 200)
  })

  app.openapi(guard(setMetadataOf), async c => {
    const metadata = c.req.valid('json')
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('header')['provider-config-key']
    await write(environment.id, key, c.req.valid('param').connectionId, metadata, 'replace')
    return c.json(metadata, 201)
  })

  app.openapi(guard(updateMetadataOf), async c => {
    const metadata = c.req.valid('json')
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('header')['provider-config-key']
    await write(environment.id, key, c.req.valid('param').connectionId, metadata, 'merge')
    return c.json(metadata, 200)
  })

  // Behind /connections/metadata, which its path matches, too.
  app.openapi(guard(patchConnection), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const { end_user, tags, webhook_url_override: url } = c.req.valid('json')
    const integration = await findIntegration(deps, environment.id, c.req.valid('query').provider_config_key)
    if (!integration) throw new Failure('unknown_provider_config')
    const connection = await findConnection(db, integration.id, c.req.valid('param').connectionId)
    if (!connection)
      throw new Failure('not_found', { message: 'No connection with this id exists on this integration.' })
    const edit: Edit = {
      endUser: end_user,
      // Who it belongs to is among its tags, too.
      tags: tags ? lowerKeys(tags) : end_user && { ...connection.tags, ...tagsOf(end_user, connection.organization) },
      webhookUrlOverride: url
        ? acceptableWebhookUrl(deps.egress, url, 'webhook_url_override')
        : url === ''
          ? null
          : url,
    }
    await editConnection(db, connection, edit, tx =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'connection.changed',
        target: `${integration.key}/${connection.connectionId}`,
        detail: { changed: Object.keys(c.req.valid('json')) },
      }),
    )
    connections.forgetCredential(connection.credentialId)
    return c.json({ success: true as const }, 200)
  })

  return app
}
