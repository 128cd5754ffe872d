/** GET|PATCH /environment/settings and POST /environment/webhook-signing-key/rotate: what the owner of the caller's environment decides. */
import { changeSettings, getSettings, rotateSigningKey, type Settings, type SettingsChange } from '@fairlead/contract'
import type { Audit } from '../../audit/audit.ts'
import { api, type Guard } from '../../http/api.ts'
import type { Log } from '../../lib/log.ts'
import type { Secret } from '../../lib/secret.ts'
import { isoZulu } from '../../lib/time.ts'
import type { Db, Egress, Vault } from '../../seams.ts'
import { actorOf, environmentCaller } from '../caller.ts'
import { readable } from './contrast.ts'
import { addFirstSigningKey, listSigningKeys, readSettings, replaceSigningKey, writeSettings } from './store.ts'
import { acceptableWebhookUrl } from './webhook-url.ts'

interface Deps {
  db: Db
  vault: Vault
  egress: Pick<Egress, 'check'>
  guard: Guard
  audit: Audit
  log: Log
}

const defaultOverlapHours = 24

export function settingsRoutes(deps: Deps) {
  const { db, egress, guard, audit, log } = deps
  const app = api()

  const view = async (environmentId: number, settings: Settings, made?: Secret) => ({
    ...settings,
    signing_keys: (await listSigningKeys(db, environmentId)).map(key => ({
      id: key.id,
      created_at: isoZulu(key.created_at),
      state: key.retires_at ? ('retiring' as const) : ('current' as const),
      retires_at: key.retires_at && isoZulu(key.retires_at),
    })),
    ...(made && { webhook_signing_key: made.reveal() }),
  })

  app.openapi(guard(getSettings), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    return c.json(await view(environment.id, await readSettings(db, environment.id)), 200)
  })

  app.openapi(guard(changeSettings), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const change: SettingsChange = { ...c.req.valid('json') }
    for (const name of ['webhook_url', 'webhook_url_secondary'] as const)
      if (change[name]) change[name] = acceptableWebhookUrl(egress, change[name], name)
    if (change.connect_ui) {
      const { primary_light: light, primary_dark: dark } = change.connect_ui
      change.connect_ui = {
        ...change.connect_ui,
        ...(light && { primary_light: readable(light, 'light') }),
        ...(dark && { primary_dark: readable(dark, 'dark') }),
      }
    }
    const after = await writeSettings(db, environment.id, change, tx =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'settings.changed',
        target: environment.name,
        detail: { changed: Object.keys(change) },
      }),
    )
    const made =
      after.webhook_url || after.webhook_url_secondary ? await addFirstSigningKey(deps, environment.id) : undefined
    log.info({ environment: environment.name, changed: Object.keys(change) }, 'settings were changed')
    return c.json(await view(environment.id, after, made), 200)
  })

  app.openapi(guard(rotateSigningKey), async c => {
    const { environment } = environmentCaller(c.get('caller'))
    const { overlap_hours = defaultOverlapHours } = c.req.valid('json') ?? {}
    const { key, previousUntil } = await replaceSigningKey(deps, environment.id, overlap_hours, tx =>
      audit(tx, actorOf(c), {
        environmentId: environment.id,
        action: 'signing_key.rotated',
        target: environment.name,
        detail: { overlap_hours },
      }),
    )
    log.info({ environment: environment.name, overlap_hours }, 'a new signing key for webhooks')
    const data = { webhook_signing_key: key.reveal(), previous_until: previousUntil && isoZulu(previousUntil) }
    return c.json({ data }, 200)
  })

  return app
}
