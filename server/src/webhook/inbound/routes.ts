/** GET|POST|DELETE /connections/:connectionId/webhook-addresses: where a provider sends its webhooks for one connection. Called by a developer. */
import { endWebhookAddresses, listWebhookAddresses, makeWebhookAddress } from '@fairlead/contract'
import { actorOf, environmentCaller } from '../../account/caller.ts'
import type { KeyedHash } from '../../account/pepper.ts'
import type { Audit } from '../../audit/audit.ts'
import { type Connections, entryOf, requireConfirmed } from '../../connection/live.ts'
import { Failure } from '../../errors.ts'
import { api, type Guard } from '../../http/api.ts'
import { randomToken } from '../../lib/id.ts'
import { Secret } from '../../lib/secret.ts'
import { isoZulu } from '../../lib/time.ts'
import type { Catalogue } from '../../provider/catalogue.ts'
import type { Db } from '../../seams.ts'
import { endAddresses, listAddresses, replaceAddress } from './store.ts'

interface Deps {
  db: Db
  keyedHash: KeyedHash
  catalogue: Pick<Catalogue, 'hooks'>
  connections: Pick<Connections, 'live'>
  guard: Guard
  audit: Audit
  url: string
}

const defaultOverlapHours = 24

export function webhookAddressRoutes({ db, keyedHash, catalogue, connections, guard, audit, url }: Deps) {
  const app = api()

  app.openapi(guard(listWebhookAddresses), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    const addresses = (await listAddresses(db, live.connection.id)).map(row => ({
      id: row.id,
      created_at: isoZulu(row.created_at),
      state: row.retires_at ? ('retiring' as const) : ('current' as const),
      retires_at: row.retires_at && isoZulu(row.retires_at),
      received_at: row.received_at && isoZulu(row.received_at),
    }))
    return c.json({ addresses, is_offered: catalogue.hooks(live.provider).readWebhook !== undefined }, 200)
  })

  app.openapi(guard(makeWebhookAddress), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const { overlap_hours = defaultOverlapHours } = c.req.valid('json') ?? {}
    const live = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    requireConfirmed(live)
    if (!catalogue.hooks(live.provider).readWebhook) throw new Failure('webhooks_not_read')
    const address = new Secret(randomToken(256))
    const lookup = keyedHash(address.reveal())
    const replaced = await replaceAddress(db, live.connection.id, lookup, overlap_hours, tx =>
      audit(tx, actorOf(c), entryOf('webhook_address.made', live)),
    )
    if (!replaced) throw new Failure('not_found')
    const { previousUntil } = replaced
    return c.json(
      { url: `${url}/webhook/${address.reveal()}`, previous_until: previousUntil && isoZulu(previousUntil) },
      200,
    )
  })

  app.openapi(guard(endWebhookAddresses), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const key = c.req.valid('query').provider_config_key
    const live = await connections.live(environment.id, key, c.req.valid('param').connectionId, 'not_found')
    await endAddresses(db, live.connection.id, tx => audit(tx, actorOf(c), entryOf('webhook_address.ended', live)))
    return c.json({ success: true as const }, 200)
  })

  return app
}
