/**
 * GET|POST|PATCH|DELETE /environment/api-keys, GET|POST /environments and DELETE /environments/:id. A key belongs to one environment; what it may do
 * beyond it (`account:…`) is among its scopes.
 */
import {
  type ApiKeyView,
  changeApiKey,
  createApiKey,
  createEnvironment,
  deleteApiKey,
  deleteEnvironment,
  listApiKeys,
  listEnvironments as listRoute,
} from '@fairlead/contract'
import type { Audit } from '../../audit/audit.ts'
import { Failure } from '../../errors.ts'
import { api, type Guard } from '../../http/api.ts'
import { newId } from '../../lib/id.ts'
import type { Log } from '../../lib/log.ts'
import { isoZulu } from '../../lib/time.ts'
import type { Db } from '../../seams.ts'
import { actorOf, type Caller, environmentCaller, hasScope } from '../caller.ts'
import type { KeyedHash } from '../pepper.ts'
import { listEnvironments } from '../store.ts'
import { type ApiKey, addKey, addNamedEnvironment, limitKey, listKeys, removeEnvironment, removeKey } from './store.ts'

interface Deps {
  db: Db
  keyedHash: KeyedHash
  guard: Guard
  audit: Audit
  log: Log
}

export function keyRoutes({ db, keyedHash, guard, audit, log }: Deps) {
  const app = api()

  const view = (key: ApiKey): ApiKeyView => ({
    id: key.id,
    display_name: key.display_name,
    scopes: key.scopes,
    created_at: isoZulu(key.created_at),
    expires_at: key.expires_at && isoZulu(key.expires_at),
    last_used_at: key.last_used_at && isoZulu(key.last_used_at),
    requests_per_minute: key.requests_per_minute,
  })

  /** Its own, or the one that is named, to whoever may reach beyond their own. */
  const environmentOf = (caller: Caller, named: number | undefined, verb: 'create' | 'delete'): number => {
    const { environment } = environmentCaller(caller)
    const wanted = named ?? environment.id
    const needed =
      wanted === environment.id && hasScope(environmentCaller(caller), 'environment:api_keys:write')
        ? undefined
        : `account:environments:api_keys:${verb}`
    if (needed && !hasScope(environmentCaller(caller), needed))
      throw new Failure('forbidden', { message: `Keys of another environment need the scope ${needed}.` })
    return wanted
  }

  app.openapi(guard(listApiKeys), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    return c.json({ data: (await listKeys(db, environment.id)).map(view) }, 200)
  })

  app.openapi(guard(createApiKey), async c => {
    const caller = environmentCaller(c.get('caller'))
    const {
      environment_id,
      display_name,
      scopes = ['environment:*'],
      expires_at,
      requests_per_minute = null,
    } = c.req.valid('json')
    const environmentId = environmentOf(caller, environment_id, 'create')
    const own = environmentId === caller.environment.id
    // The right to make keys elsewhere is the right to make them whole.
    const beyond = scopes.filter(scope => !hasScope(caller, scope) && (own || !scope.startsWith('environment:')))
    if (beyond.length > 0)
      throw new Failure('forbidden', { message: `A key cannot give what it lacks: ${beyond.join(', ')}.` })
    const expiresAt = expires_at === undefined ? null : new Date(expires_at)
    if (expiresAt && expiresAt.getTime() <= Date.now())
      throw new Failure('invalid_body', {
        issues: [{ code: 'custom', path: ['expires_at'], message: 'Lies in the past.' }],
      })
    const secret = newId()
    const added = await addKey(db, {
      environmentId,
      displayName: display_name,
      lookup: keyedHash(secret),
      scopes,
      expiresAt,
      requestsPerMinute: requests_per_minute,
      audited: tx =>
        audit(tx, actorOf(c), { environmentId, action: 'api_key.created', target: display_name, detail: { scopes } }),
    })
    switch (added.kind) {
      case 'no_environment':
        throw new Failure('not_found', { message: 'There is no environment with this id.' })
      case 'taken':
        throw new Failure('conflict', { message: `There is a key named "${display_name}" already.` })
      case 'full':
        throw new Failure('resource_capped', { message: 'An environment has at most 50 keys. Delete one first.' })
      case 'added':
        log.info({ environment: environmentId, key: added.key.id, scopes }, 'an API key was made')
        return c.json({ data: { ...view(added.key), secret } }, 200)
    }
  })

  app.openapi(guard(changeApiKey), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const { key_id, requests_per_minute } = c.req.valid('json')
    const key = await limitKey(db, environment.id, key_id, requests_per_minute, (tx, name) =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'api_key.limited',
        target: name,
        detail: { requests_per_minute },
      }),
    )
    if (!key) throw new Failure('not_found', { message: 'This environment has no key with this id.' })
    return c.json({ data: view(key) }, 200)
  })

  app.openapi(guard(deleteApiKey), async c => {
    const { environment_id, key_id } = c.req.valid('json')
    const environmentId = environmentOf(c.get('caller'), environment_id, 'delete')
    const audited = (tx: Db, name: string) =>
      audit(tx, actorOf(c), { environmentId, action: 'api_key.deleted', target: name })
    if (!(await removeKey(db, environmentId, key_id, audited)))
      throw new Failure('not_found', { message: 'This environment has no key with this id.' })
    log.info({ environment: environmentId, key: key_id }, 'an API key was ended')
    return c.json({ success: true as const }, 200)
  })

  app.openapi(guard(listRoute), async c => {
    const data = (await listEnvironments(db)).map(({ id, name }) => ({ id, name }))
    return c.json({ data }, 200)
  })

  app.openapi(guard(createEnvironment), async c => {
    const { name } = c.req.valid('json')
    const data = await addNamedEnvironment(db, name, tx =>
      audit(tx, actorOf(c), { environmentId: null, action: 'environment.created', target: name }),
    )
    if (!data) throw new Failure('conflict', { message: `There is an environment named "${name}" already.` })
    log.info({ environment: name }, 'an environment was made')
    return c.json({ data }, 200)
  })

  app.openapi(guard(deleteEnvironment), async c => {
    const { id } = c.req.valid('param')
    const outcome = await removeEnvironment(db, id, (tx, name) =>
      audit(tx, actorOf(c), { environmentId: null, action: 'environment.deleted', target: name }),
    )
    if (outcome === 'unknown') throw new Failure('not_found', { message: 'There is no environment with this id.' })
    if (outcome === 'in_use')
      throw new Failure('conflict', {
        message:
          'This environment still has connections, or tokens on their way to being revoked. Delete its connections and wait for GET /revocations.',
      })
    log.warn({ environment: id }, 'an environment was deleted')
    return c.body(null, 204)
  })

  return app
}
