/** Where requests leave from, for operators. Here and not in net/, which has no URLs. */
import { getEgress } from '@fairlead/contract'
import { api, type Guard } from '../http/api.ts'
import type { Exits } from '../net/exits.ts'

export function egressRoutes({ guard, exits }: { guard: Guard; exits: () => Promise<Exits> }) {
  const app = api()
  app.openapi(guard(getEgress), async c => c.json(await exits(), 200))
  return app
}
