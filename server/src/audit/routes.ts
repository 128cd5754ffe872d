import { listAudit, verifyAudit } from '@fairlead/contract'
import { api, type Guard } from '../http/api.ts'
import { isoZulu } from '../lib/time.ts'
import type { Db } from '../seams.ts'
import { type Chain, verify } from './audit.ts'
import { listRows } from './store.ts'

const pageSize = 50

export function auditRoutes({ db, guard, keyedHash }: { db: Db; guard: Guard; keyedHash: Chain }) {
  const app = api()

  app.openapi(guard(listAudit), async c => {
    const { action, actor, before, limit = pageSize } = c.req.valid('query')
    const rows = await listRows(db, { environment: environmentOf(c), action, actor, before, limit })
    return c.json(
      {
        entries: rows.map(row => ({
          sequence: row.sequence,
          at: isoZulu(row.at),
          environment: row.environment,
          actor: { kind: row.actor_kind, id: row.actor_id, name: row.actor_name },
          address: row.address,
          action: row.action,
          target: row.target,
          detail: row.detail,
          hash: row.hash.toString('hex'),
        })),
        next_before: rows.length === limit ? rows.at(-1)!.sequence : null,
      },
      200,
    )
  })

  app.openapi(guard(verifyAudit), async c => c.json(await verify(db, keyedHash), 200))

  return app
}

/** Who may call was settled by the guard, which left the caller there; this room knows callers no further. */
const environmentOf = (c: { get: (name: 'caller') => { environment: { name: string } } }): string =>
  c.get('caller').environment.name
