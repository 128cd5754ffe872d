import {
  type ActivityView,
  getActivity,
  getActivityBodies,
  listActivity as listRoute,
  summariseActivity,
} from '@fairlead/contract'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { isoZulu } from '../lib/time.ts'
import type { Db, Vault } from '../seams.ts'
import {
  type ActivityRow,
  countDropped,
  findActivity,
  findBodies,
  type Latencies,
  listActivity,
  type Place,
  summarise,
} from './store.ts'

interface Deps {
  db: Db
  vault: Vault
  guard: Guard
  keepDays: number
}

const pageSize = 50

export function activityRoutes({ db, vault, guard, keepDays }: Deps) {
  const app = api()

  const found = async (environmentId: number, id: string): Promise<ActivityRow> => {
    const row = await findActivity(db, environmentId, placeOf(id), keepDays)
    if (!row) throw new Failure('not_found', { message: 'There is no call with this id, or no longer.' })
    return row
  }

  app.openapi(guard(listRoute), async c => {
    const environmentId = environmentOf(c)
    const query = c.req.valid('query')
    const since = query.since === undefined ? undefined : new Date(query.since)
    const until = query.until === undefined ? undefined : new Date(query.until)
    const [{ rows, end }, dropped] = await Promise.all([
      listActivity(db, environmentId, {
        connection: query.connection_id,
        integration: query.provider_config_key,
        method: query.method,
        outcome: query.outcome,
        requestId: query.request_id,
        status: query.status === undefined ? undefined : statuses(query.status),
        since,
        until,
        after: query.cursor === undefined ? undefined : placeOf(query.cursor),
        limit: query.limit ?? pageSize,
        keepDays,
      }),
      countDropped(db, environmentId, { since, until }),
    ])
    return c.json({ activity: rows.map(view), next_cursor: end ? idOf(end) : null, dropped }, 200)
  })

  app.openapi(guard(summariseActivity), async c => {
    const { connection_id = null, provider_config_key = null, parts = 48, ...query } = c.req.valid('query')
    const since = new Date(query.since)
    const until = query.until === undefined ? new Date() : new Date(query.until)
    if (until <= since)
      throw new Failure('invalid_query_params', {
        issues: [{ code: 'custom', message: '`until` must be later than `since`.', path: ['until'] }],
      })
    const rows = await summarise(db, environmentOf(c), {
      connection: connection_id,
      integration: provider_config_key,
      since,
      until,
      parts,
    })
    const found = new Map(rows.map(({ part, ...latencies }) => [part, latencies]))
    const step = (until.getTime() - since.getTime()) / parts
    return c.json(
      {
        ...(found.get(null) ?? none),
        since: isoZulu(since),
        until: isoZulu(until),
        buckets: Array.from({ length: parts }, (_, part) => ({
          at: isoZulu(new Date(since.getTime() + part * step)),
          ...(found.get(part) ?? none),
        })),
      },
      200,
    )
  })

  app.openapi(guard(getActivity), async c => {
    return c.json(view(await found(environmentOf(c), c.req.valid('param').id)), 200)
  })

  app.openapi(guard(getActivityBodies), async c => {
    const environmentId = environmentOf(c)
    const { bodies } = await found(environmentId, c.req.valid('param').id)
    const both = bodies && (await findBodies({ db, vault }, environmentId, bodies))
    if (!both)
      throw new Failure('not_found', {
        message: 'No bodies of this call are kept. They are for a day, on integrations with capture_bodies.',
      })
    return c.json(both, 200)
  })

  return app
}

const none: Latencies = { calls: 0, errors: 0, refreshed: 0, p50_ms: null, p95_ms: null, p99_ms: null }

/** Who may call was settled by the guard, which left the caller there; this room knows callers no further. */
const environmentOf = (c: { get: (name: 'caller') => { environment: { id: number } } }): number =>
  c.get('caller').environment.id

const view = (row: ActivityRow): ActivityView => ({
  id: idOf(row),
  request_id: row.request_id,
  at: isoZulu(row.at),
  api_key_id: row.api_key_id,
  provider_config_key: row.provider_config_key,
  connection_id: row.connection_id,
  method: row.method,
  host: row.host,
  path: row.path,
  status: row.status,
  outcome: row.outcome,
  error: row.error,
  bytes_up: row.bytes_up,
  bytes_down: row.bytes_down,
  sent_ms: row.sent_ms,
  first_byte_ms: row.first_byte_ms,
  total_ms: row.total_ms,
  retries: row.retries,
  refreshed: row.refreshed,
  repeats_token: row.repeats_token,
  has_bodies: row.bodies !== null,
})

/** `404` or `4xx`. */
const statuses = (status: string): { from: number; to: number } => ({
  from: Number(status.replace('xx', '00')),
  to: Number(status.replace('xx', '99')),
})

/** On the wire: when it ended and its number, in base 36. Also the cursor: a page goes on behind the call it names. */
const idOf = ({ at, id }: Place): string => `${at.getTime().toString(36)}-${id.toString(36)}`

/** The contract lets nothing else through. */
function placeOf(text: string): Place {
  const [at = '', id = ''] = text.split('-')
  return { at: new Date(Number.parseInt(at, 36)), id: Number.parseInt(id, 36) }
}
