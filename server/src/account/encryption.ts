/** The keys of the caller's environment: their ids and ages, and their rotation. Never a key. */
import { getEncryption, rotateEncryption } from '@fairlead/contract'
import { api, type Guard } from '../http/api.ts'
import { isoOffset } from '../lib/time.ts'
import type { Progress, Rotation } from '../vault/rotate.ts'
import { keyCaller } from './caller.ts'

export function encryptionRoutes({ guard, rotation }: { guard: Guard; rotation: Rotation }) {
  const app = api()
  app.openapi(guard(getEncryption), async c => {
    const { environment } = keyCaller(c.get('caller'))
    return c.json(view(await rotation.progress(environment.id)), 200)
  })
  app.openapi(guard(rotateEncryption), async c => {
    const { environment } = keyCaller(c.get('caller'))
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
