import { type connectSessionRequest, integrationKey, type reconnectSessionRequest } from '@fairlead/contract'
import type { z } from '@hono/zod-openapi'
import { requireSessionToken } from '../account/caller.ts'
import { acceptableWebhookUrl } from '../account/settings/webhook-url.ts'
import { type Connection, findConnection } from '../connection/store.ts'
import { lowerKeys, tagsOf } from '../connection/tags.ts'
import { secretNames } from '../credential/kinds/oauth2-code.ts'
import { Failure } from '../errors.ts'
import { findIntegration, listIntegrations } from '../integration/store.ts'
import type { Secret } from '../lib/secret.ts'
import type { Egress } from '../seams.ts'
import { addSession, type Begun, findBegun, type StoreDeps } from './store.ts'

type Request = z.infer<typeof connectSessionRequest>
type ReconnectRequest = z.infer<typeof reconnectSessionRequest>

type Opened = Promise<{ token: Secret; expiresAt: Date }>

/** The session this token is for, with the integration it asks for. `callers` knows the session too; here both are read at once. */
export async function begunWith(deps: StoreDeps, token: string, key: string): Promise<Begun> {
  requireSessionToken(token)
  const begun = await findBegun(deps, token, integrationKey.safeParse(key).success ? key : '')
  if (!begun) throw new Failure('unknown_connect_session_token')
  return begun
}

/** Opens a session for one end user. Every integration it names must exist, or it would fail in front of that user. */
export async function openSession(
  deps: StoreDeps & { egress: Pick<Egress, 'check'> },
  environmentId: number,
  request: Request,
): Opened {
  refuseSecrets(request)
  await refuseUnknown(deps, environmentId, [
    ...(request.allowed_integrations ?? []).map((key, i): Named => [['allowed_integrations', i], key]),
    ...namedIn(request),
  ])
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
    reconnects: null,
    anotherAccount: false,
  })
}

/** Opens a session that signs in to one connection again, and to nothing else. */
export async function openReconnectSession(deps: StoreDeps, environmentId: number, request: ReconnectRequest): Opened {
  refuseSecrets(request)
  await refuseUnknown(deps, environmentId, [[['integration_id'], request.integration_id], ...namedIn(request)])
  const integration = await findIntegration(deps, environmentId, request.integration_id)
  const connection = integration && (await findConnection(deps.db, integration.id, request.connection_id))
  if (!connection)
    throw new Failure('invalid_body', {
      issues: [
        {
          code: 'custom',
          path: ['connection_id'],
          message: `There is no connection "${request.connection_id}" on the integration "${request.integration_id}".`,
        },
      ],
    })
  return addSession(deps, {
    environmentId,
    endUser: request.end_user ?? null,
    organization: request.organization ?? null,
    allowedIntegrations: [request.integration_id],
    integrationDefaults: request.integrations_config_defaults ?? {},
    overrides: request.overrides ?? {},
    tags: ownersTags(request, connection),
    webhookUrlOverride: request.webhook_url_override ?? null,
    reconnects: connection.id,
    anotherAccount: request.another_account ?? false,
  })
}

/** Given tags replace all; a new owner changes those that name the owner. Empty: nothing changes. */
function ownersTags({ end_user, organization, tags }: ReconnectRequest, now: Connection): Record<string, string> {
  if (tags) return { ...tagsOf(end_user ?? now.endUser, organization ?? now.organization), ...lowerKeys(tags) }
  return end_user || organization ? { ...now.tags, ...tagsOf(end_user, organization) } : {}
}

type Named = [path: (string | number)[], key: string]

const namedIn = (request: Pick<Request, 'integrations_config_defaults' | 'overrides'>): Named[] => [
  ...Object.keys(request.integrations_config_defaults ?? {}).map(
    (key): Named => [['integrations_config_defaults', key], key],
  ),
  ...Object.keys(request.overrides ?? {}).map((key): Named => [['overrides', key], key]),
]

/** A session is kept in the clear. Left empty, the members say that the page asks for them. */
function refuseSecrets({ integrations_config_defaults = {} }: Pick<Request, 'integrations_config_defaults'>): void {
  const issues = Object.entries(integrations_config_defaults)
    .flatMap(([key, { connection_config = {} }]) =>
      secretNames.filter(name => connection_config[name]).map(name => [key, 'connection_config', name]),
    )
    .map(path => ({
      code: 'custom',
      path: ['integrations_config_defaults', ...path],
      message: 'Leave it empty: the page asks for it. A secret does not ride in a session.',
    }))
  if (issues.length > 0) throw new Failure('invalid_body', { issues })
}

async function refuseUnknown(deps: StoreDeps, environmentId: number, named: Named[]): Promise<void> {
  if (named.length === 0) return
  const existing = new Set((await listIntegrations(deps, environmentId)).map(integration => integration.key))
  const issues = named
    .filter(([, key]) => !existing.has(key))
    .map(([path, key]) => ({ code: 'custom', path, message: `There is no integration "${key}" in this environment.` }))
  if (issues.length > 0) throw new Failure('invalid_body', { issues })
}
