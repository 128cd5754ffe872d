/**
 * POST /webhook/:address: what a provider sends of its own accord, for one connection. It is read by the provider's hook, stored as events of
 * the outbox, and only then acknowledged: a provider that hears nothing sends it again, and what is here already is not told twice.
 *
 * The address is the only thing that says who sends; the one place where a secret has to ride in a URL, because providers such as those that
 * speak of SOAP send no header one could choose. So it is each connection's own: whoever has it can make up messages of that account, and
 * of no other. Nothing of a request is logged.
 */
import { receiveWebhook } from '@fairlead/contract'
import type { KeyedHash } from '../../account/pepper.ts'
import { Failure } from '../../errors.ts'
import { api, limitBody } from '../../http/api.ts'
import { newId } from '../../lib/id.ts'
import type { Catalogue } from '../../provider/catalogue.ts'
import type { WebhookRead } from '../../provider/hooks.ts'
import type { Db, Vault } from '../../seams.ts'
import type { Deliveries } from '../deliver.ts'
import { payloadPlace } from '../store.ts'
import { findAddressee, markReceived, type SealedMessage, tellForwarded } from './store.ts'

interface Deps {
  db: Db
  vault: Vault
  keyedHash: KeyedHash
  catalogue: Pick<Catalogue, 'get' | 'hooks'>
  deliveries: Pick<Deliveries, 'kick'>
}

export function receivingRoutes(deps: Deps) {
  const { db, keyedHash, catalogue, deliveries } = deps
  const app = api()

  app.openapi({ ...receiveWebhook, middleware: limitBody }, async c => {
    const { address } = c.req.valid('param')
    // 256 bits as base64url; anything else was not made here and costs no query.
    const lookup = /^[A-Za-z0-9_-]{43}$/.test(address) ? keyedHash(address) : undefined
    const addressee = lookup && (await findAddressee(db, lookup))
    const provider = addressee && catalogue.get(addressee.provider)
    const readWebhook = provider && catalogue.hooks(provider).readWebhook
    if (!lookup || !addressee || !readWebhook) throw new Failure('webhook_address_unknown')

    const read = await readWebhook({ config: addressee.config, body: textOf(await c.req.arrayBuffer()) })
    if (read.kind === 'unreadable')
      throw new Failure('webhook_unreadable', {
        message: `This is no webhook of ${provider.display_name}. ${read.fault}`,
      })
    if (read.kind === 'stranger') throw new Failure('webhook_of_another_account')

    if (addressee.forwards) {
      const sealed = await sealAll(deps.vault, addressee.environmentId, read.messages)
      // Not the sender's mistake, and it may be mended before the sender gives up.
      if (!(await tellForwarded(db, addressee.connection, sealed)))
        throw new Failure('webhook_url_missing', { status: 503 })
      deliveries.kick()
    }
    // Off the path: no acknowledgement waits for it or fails with it.
    void markReceived(db, lookup).catch(() => {})
    return c.body(read.answer.body, 200, { 'Content-Type': read.answer.type })
  })

  return app
}

function textOf(body: ArrayBuffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch {
    throw new Failure('webhook_unreadable', { message: 'This is no webhook: its body is no text in UTF-8.' })
  }
}

const sealAll = (
  vault: Vault,
  environmentId: number,
  messages: Extract<WebhookRead, { kind: 'read' }>['messages'],
): Promise<SealedMessage[]> =>
  vault.withKeys(() =>
    messages.map(({ id: source, payload }) => {
      const id = newId()
      return { id, source, sealed: vault.seal(JSON.stringify(payload), payloadPlace(environmentId, id)) }
    }),
  )
