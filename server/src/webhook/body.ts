/** What a receiver reads. Pure: an event gives the same bytes at every attempt. */
import {
  type AuthWebhook,
  type ConnectionState,
  type EndUser,
  type ForwardWebhook,
  type Health,
  type Organization,
  type OwnWebhook,
  stateOf,
  type WebhookEventName,
  webhookEvents,
} from '@fairlead/contract'
import { isoZulu } from '../lib/time.ts'
import type { Catalogue } from '../provider/catalogue.ts'

export interface WebhookEvent {
  id: string
  sequence: number
  environment: string
  name: WebhookEventName
  connectionId: string | null
  providerConfigKey: string | null
  /** The connection as it was at that moment. Empty for what concerns none. */
  about: About | Record<string, never>
  /** What a provider sent, of one that is sent on. */
  payload: Record<string, unknown> | null
  createdAt: Date
}

export interface About {
  provider: string
  tags: Record<string, string>
  end_user: EndUser | null
  organization: Organization | null
  health: Health
  cause: string | null
  /** What the provider said with it: its error and its description. */
  said: [error: string, description: string] | null
  paused: boolean
  /** As PostgreSQL writes it in JSON. */
  since: string
}

const isAbout = (about: WebhookEvent['about']): about is About => 'provider' in about

export type Providers = Pick<Catalogue, 'get' | 'hooks'>

export function bodyOf(event: WebhookEvent, providers: Providers): string {
  const { about } = event
  const { type } = webhookEvents[event.name]
  if (type === 'auth' && isAbout(about)) return JSON.stringify(authBody(event, about, providers))
  if (type === 'forward' && isAbout(about)) return JSON.stringify(forwardBody(event, about))
  return JSON.stringify(ownBody(event, providers))
}

/** The state as it was, in the words the API has for it. Nothing that may change between two attempts goes into it, so no addresses and no links. */
function stateIn(about: About, providers: Providers): ConnectionState {
  const provider = providers.get(about.provider)
  const [error, description] = about.said ?? []
  const met = { where: 'refresh', error: error ?? '', description: description ?? '', config: {} } as const
  const explained =
    about.said && provider && providers.hooks(provider).explain?.({ provider, ...met, redirectUri: '', exits: [] })
  return stateOf({ ...about, since: isoZulu(new Date(about.since)) }, explained ?? undefined)
}

const operations = {
  'connection.created': 'creation',
  'connection.reauthorised': 'override',
  'connection.needs_reauth': 'refresh',
} as const

/** Members in the wire contract's order: clients hash what they parsed and wrote out again. */
function authBody(event: WebhookEvent, about: About, providers: Providers): AuthWebhook {
  const operation = operations[event.name as keyof typeof operations]
  // A pause hides what is told here.
  const { cause, message, explained } = stateIn({ ...about, paused: false }, providers)
  return {
    from: 'nango',
    type: 'auth',
    connectionId: event.connectionId ?? '',
    providerConfigKey: event.providerConfigKey ?? '',
    authMode: providers.get(about.provider)?.auth_mode ?? '',
    provider: about.provider,
    environment: event.environment,
    operation,
    success: operation !== 'refresh',
    tags: about.tags,
    ...(about.end_user && {
      endUser: {
        endUserId: about.end_user.id,
        ...(about.end_user.email !== undefined && { endUserEmail: about.end_user.email }),
        ...(about.organization && { organizationId: about.organization.id }),
        tags: about.end_user.tags ?? {},
      },
    }),
    ...(operation === 'refresh' && {
      error: { type: cause ?? 'provider_error', description: message, ...(explained && { cause: explained }) },
    }),
  }
}

const forwardBody = (event: WebhookEvent, about: About): ForwardWebhook => ({
  from: about.provider,
  type: 'forward',
  providerConfigKey: event.providerConfigKey ?? '',
  connectionId: event.connectionId ?? '',
  payload: event.payload,
})

function ownBody(event: WebhookEvent, providers: Providers): OwnWebhook {
  const { about } = event
  return {
    from: 'fairlead',
    type: event.name,
    id: event.id,
    sequence: event.sequence,
    timestamp: isoZulu(event.createdAt),
    environment: event.environment,
    data: {
      ...(event.connectionId !== null && { connection_id: event.connectionId }),
      ...(event.providerConfigKey !== null && { provider_config_key: event.providerConfigKey }),
      ...(isAbout(about) && {
        provider: about.provider,
        state: stateIn(about, providers),
        ...(about.end_user && { end_user_id: about.end_user.id }),
        tags: about.tags,
      }),
    },
  }
}
