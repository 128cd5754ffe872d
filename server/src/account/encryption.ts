/** The keys of the caller's environment: their ids and ages, and their rotation. Never a key. */
import { getEncryption, rotateEncryption } from '@fairlead/contract'
import type { Audit } from '../audit/audit.ts'
import { api, type Guard } from '../http/api.ts'
import { isoOffset } from '../lib/time.ts'
import type { Db } from '../seams.ts'
import type { Progress, Rotation } from '../vault/rotate.ts'
import { actorOf, environmentCaller } from './caller.ts'

interface Deps {
  db: Db
  guard: Guard
  audit: Audit
  rotation: Rotation
}

export function encryptionRoutes({ db, guard, audit, rotation }: Deps) {
  const app = api()
  app.openapi(guard(getEncryption), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    return c.json(view(await rotation.progress(environment.id)), 200)
  })
  app.openapi(guard(rotateEncryption), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    // Before it, because a rotation is many transactions: one that was begun is never missing here.
    await db.transaction(tx =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'data_keys.rotated',
        target: environment.name,
      }),
    )
    return c.json(view(await rotation.start(environment.id)), 202)
  })
  return app
}

const view = ({ kekId, keys, rowsLeft }: Progress) => ({
  kek_id: kekId,
  data_keys: keys.map(key => ({
    id: key.id.toString('hex'),
    created_at: isoOffset(key.createdAt),
    state: key.retiredAt ? ('retired' as const) : ('current' as const),
  })),
  rows_left: rowsLeft,
})
