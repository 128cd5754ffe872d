import {
  getDelivery,
  listDeliveries as listRoute,
  replayDeliveries,
  replayDelivery,
  testWebhook,
} from '@fairlead/contract'
import { environmentCaller, hasScope } from '../account/caller.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { isoZulu } from '../lib/time.ts'
import type { Db, Vault } from '../seams.ts'
import { bodyOf, type Providers } from './body.ts'
import type { Deliveries } from './deliver.ts'
import { addTestEvent, findDelivery, listDeliveries, openEvent, replay, replayFailed } from './store.ts'

interface Deps {
  db: Db
  vault: Vault
  catalogue: Providers
  deliveries: Pick<Deliveries, 'kick'>
  guard: Guard
}

const pageSize = 50

export function webhookRoutes({ db, vault, catalogue, deliveries, guard }: Deps) {
  const app = api()

  const found = async (environmentId: number, id: string) => {
    const one = await findDelivery(db, environmentId, id)
    if (!one) throw new Failure('not_found', { message: 'There is no delivery with this id.' })
    return one
  }

  app.openapi(guard(listRoute), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const { state, event, connection_id: connectionId, cursor, limit = pageSize } = c.req.valid('query')
    const after = cursor === undefined ? undefined : readCursor(cursor)
    // One more than asked for tells whether there is a next page.
    const listed = await listDeliveries(db, environment.id, { state, event, connectionId, after, limit: limit + 1 })
    const page = listed.slice(0, limit)
    const last = page.at(-1)
    const next_cursor = last && listed.length > limit ? writeCursor(last.event.sequence, last.id) : null
    return c.json({ deliveries: page, next_cursor }, 200)
  })

  app.openapi(guard(getDelivery), async c => {
    const caller = environmentCaller(c.get('caller'))
    const { delivery, event: stored, attempts } = await found(caller.environment.id, c.req.valid('param').id)
    const event = hasScope(caller, 'environment:connections:read_credentials')
      ? await openEvent(vault, stored)
      : { ...stored, payload: null }
    const body = bodyOf(event, catalogue)
    const history = attempts.map(attempt => ({ ...attempt, at: isoZulu(attempt.at) }))
    return c.json({ ...delivery, body, history }, 200)
  })

  app.openapi(guard(replayDelivery), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const { id } = c.req.valid('param')
    await replay(db, environment.id, id)
    const { delivery } = await found(environment.id, id)
    deliveries.kick()
    return c.json(delivery, 202)
  })

  app.openapi(guard(replayDeliveries), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const replayed = await replayFailed(db, environment.id, new Date(c.req.valid('json').since))
    deliveries.kick()
    return c.json({ replayed }, 202)
  })

  app.openapi(guard(testWebhook), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const ids = await addTestEvent(db, environment.id)
    if (ids.length === 0) throw new Failure('webhook_url_missing')
    const added = await Promise.all(ids.map(id => found(environment.id, id)))
    deliveries.kick()
    return c.json({ deliveries: added.map(one => one.delivery) }, 202)
  })

  return app
}

const writeCursor = (sequence: number, id: string): string => Buffer.from(`${sequence} ${id}`).toString('base64url')

function readCursor(cursor: string): { sequence: number; id: string } {
  const [, sequence, id] = /^(\d{1,15}) ([0-9a-f-]{36})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (!sequence || !id || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id))
    throw new Failure('invalid_query_params', {
      issues: [{ code: 'custom', path: ['cursor'], message: 'Send `next_cursor` of the page before as it came.' }],
    })
  return { sequence: Number(sequence), id }
}
