import type { connectSessionRequest, EndUser, Organization } from '@fairlead/contract'
import type { z } from '@hono/zod-openapi'
import { acceptableWebhookUrl } from '../account/settings/webhook-url.ts'
import { Failure } from '../errors.ts'
import { listIntegrations } from '../integration/store.ts'
import type { Secret } from '../lib/secret.ts'
import type { Egress } from '../seams.ts'
import { addSession, type StoreDeps } from './store.ts'

type Request = z.infer<typeof connectSessionRequest>

/** Opens a session for one end user. Every integration it names must exist, or it would fail in front of that user. */
export async function openSession(
  deps: StoreDeps & { egress: Pick<Egress, 'check'> },
  environmentId: number,
  request: Request,
): Promise<{ token: Secret; expiresAt: Date }> {
  const existing = new Set((await listIntegrations(deps, environmentId)).map(integration => integration.key))
  const named: [path: (string | number)[], key: string][] = [
    ...(request.allowed_integrations ?? []).map((key, i): [(string | number)[], string] => [
      ['allowed_integrations', i],
      key,
    ]),
    ...Object.keys(request.integrations_config_defaults ?? {}).map((key): [string[], string] => [
      ['integrations_config_defaults', key],
      key,
    ]),
    ...Object.keys(request.overrides ?? {}).map((key): [string[], string] => [['overrides', key], key]),
  ]
  const issues = named
    .filter(([, key]) => !existing.has(key))
    .map(([path, key]) => ({ code: 'custom', path, message: `There is no integration "${key}" in this environment.` }))
  if (issues.length > 0) throw new Failure('invalid_body', { issues })

  return addSession(deps, {
    environmentId,
    endUser: request.end_user ?? null,
    organization: request.organization ?? null,
    allowedIntegrations: request.allowed_integrations ?? [],
    integrationDefaults: request.integrations_config_defaults ?? {},
    overrides: request.overrides ?? {},
    tags: { ...tagsOf(request.end_user, request.organization), ...lowerKeys(request.tags ?? {}) },
    webhookUrlOverride: request.webhook_url_override
      ? acceptableWebhookUrl(deps.egress, request.webhook_url_override, 'webhook_url_override')
      : null,
  })
}

const lowerKeys = (tags: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(tags).map(([key, value]) => [key.toLowerCase(), value]))

/** The end user as tags, by the wire contract's names; the end user's own tags only when all of them fit into ten. */
function tagsOf(endUser: EndUser | undefined, organization: Organization | undefined): Record<string, string> {
  const derived = {
    end_user_id: endUser?.id,
    end_user_email: endUser?.email,
    end_user_display_name: endUser?.display_name,
    organization_id: organization?.id,
    organization_display_name: organization?.display_name,
  }
  const base = Object.fromEntries(
    Object.entries(derived).filter((entry): entry is [string, string] => Boolean(entry[1])),
  )
  const own = Object.fromEntries(
    Object.entries(lowerKeys(endUser?.tags ?? {})).map(([key, value]) => [key, value.slice(0, 255)]),
  )
  const all = { ...base, ...own }
  return Object.keys(all).length <= 10 ? all : base
}
