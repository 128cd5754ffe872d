import type {
  ConnectionView,
  ConnectSessionRequest,
  IntegrationChange,
  IntegrationView,
  IntegrationWithSecrets,
  ListedConnection,
  NewIntegration,
  ProviderView,
  ReconnectSessionRequest,
  SessionOpened,
  Standing,
  StateName,
} from '@fairlead/contract'
import { type Call, type ConnectionName, createCall } from './call.ts'
import { createProxy } from './proxy.ts'
import { type ReceivedHeaders, verifyWebhook, type WebhookEvent } from './webhooks.ts'

export interface Settings {
  /** Where the server is, e.g. https://connect.acme.com */
  url: string
  /** A key of one environment. It belongs to your backend and never into a browser. */
  apiKey: string
  /** Needed by `webhooks.verify` alone. */
  webhookSigningKey?: string
}

export interface ConnectionFilter {
  connectionId?: string
  integrationId?: string
  endUserId?: string
  endUserOrganizationId?: string
  /** A part of its id, or of its owner's name or e-mail address. */
  search?: string
  state?: StateName
  tags?: Record<string, string>
}

export class Fairlead {
  readonly connectSessions
  readonly connections
  readonly integrations
  readonly providers
  readonly proxy
  readonly webhooks

  constructor({ url, apiKey, webhookSigningKey }: Settings) {
    const base = baseOf(url)
    const call = createCall(base, apiKey)
    this.connectSessions = connectSessions(call)
    this.connections = connections(call)
    this.integrations = integrations(call)
    this.providers = providers(call)
    this.proxy = createProxy(base, apiKey, async key => {
      const { provider } = await this.integrations.get(key)
      return this.providers.get(provider)
    })
    this.webhooks = {
      /** Throws WebhookRefused unless Fairlead sent it, lately and unchanged. `body`: as it was received, not parsed. */
      verify(body: string | Uint8Array, headers: ReceivedHeaders): Promise<WebhookEvent> {
        if (!webhookSigningKey) throw new TypeError('webhooks.verify needs webhookSigningKey in `new Fairlead({ … })`.')
        return verifyWebhook(body, headers, webhookSigningKey)
      },
    }
  }
}

function baseOf(url: string): string {
  if (!/^https?:\/\//.test(url))
    throw new TypeError('`url` must be an http or https URL, e.g. https://connect.acme.com.')
  return url.replace(/\/+$/, '')
}

const connectSessions = (call: Call) => ({
  /** For one end user of yours: send `connect_link`, or give `token` to @fairlead/browser. It lives for 30 minutes. */
  async create(request: ConnectSessionRequest): Promise<SessionOpened> {
    return (await call<{ data: SessionOpened }>('POST', '/connect/sessions', { body: request })).data
  },

  /** For the owner of one connection to sign in again. The connection keeps its id. */
  async reconnect(
    { connection_id, provider_config_key }: ConnectionName,
    request: Omit<ReconnectSessionRequest, 'connection_id' | 'integration_id'> = {},
  ): Promise<SessionOpened> {
    const body = { ...request, connection_id, integration_id: provider_config_key }
    return (await call<{ data: SessionOpened }>('POST', '/connect/sessions/reconnect', { body })).data
  },
})

const pageSize = 500

const connections = (call: Call) => {
  const pathOf = ({ connection_id }: ConnectionName) => `/connections/${encodeURIComponent(connection_id)}`
  const query = ({ provider_config_key }: ConnectionName) => ({ provider_config_key })
  const operation = (verb: string) => (connection: ConnectionName) =>
    call<Standing>('POST', `${pathOf(connection)}/${verb}`, { query: query(connection) })

  return {
    /**
     * All that match, newest first, fetched as you go on. Deleting on the way moves later ones up a page, past you: gather them all
     * first if that is what you are about to do.
     */
    async *list({ tags = {}, ...filter }: ConnectionFilter = {}): AsyncGenerator<ListedConnection, void, undefined> {
      const wanted = Object.fromEntries(Object.entries(tags).map(([name, value]) => [`tags[${name}]`, value]))
      for (let page = 0; ; page++) {
        const { connections: found } = await call<{ connections: ListedConnection[] }>('GET', '/connections', {
          query: { ...filter, ...wanted, limit: pageSize, page },
        })
        yield* found
        if (found.length < pageSize) return
      }
    },

    /** With fresh credentials, if the key may read them. */
    get: (
      connection: ConnectionName,
      options: { refresh_token?: boolean; force_refresh?: boolean } = {},
    ): Promise<ConnectionView> => call('GET', pathOf(connection), { query: { ...query(connection), ...options } }),

    /** Renews its tokens now, whether that is due or not. */
    refresh: operation('refresh'),
    pause: operation('pause'),
    resume: operation('resume'),

    /** The last connection on a grant has its tokens revoked at the provider. */
    async delete(connection: ConnectionName): Promise<void> {
      await call('DELETE', pathOf(connection), { query: query(connection) })
    },
  }
}

const integrations = (call: Call) => {
  const pathOf = (key: string) => `/integrations/${encodeURIComponent(key)}`
  const data = async <Data>(answer: Promise<{ data: Data }>) => (await answer).data
  return {
    list: (): Promise<IntegrationView[]> => data(call('GET', '/integrations')),
    /** `include: 'credentials'` needs a key that may read them. */
    get: (key: string, options: { include?: 'credentials' | 'webhook' } = {}): Promise<IntegrationWithSecrets> =>
      data(call('GET', pathOf(key), { query: options })),
    create: (integration: NewIntegration): Promise<IntegrationView> =>
      data(call('POST', '/integrations', { body: integration })),
    /** Changes what is named; the rest stays. */
    update: (key: string, change: IntegrationChange): Promise<IntegrationView> =>
      data(call('PATCH', pathOf(key), { body: change })),
    /** With all its connections, whose tokens are revoked. */
    async delete(key: string): Promise<void> {
      await call('DELETE', pathOf(key))
    },
  }
}

const providers = (call: Call) => ({
  async list(options: { search?: string } = {}): Promise<ProviderView[]> {
    return (await call<{ data: ProviderView[] }>('GET', '/providers', { query: options })).data
  },
  async get(name: string): Promise<ProviderView> {
    return (await call<{ data: ProviderView }>('GET', `/providers/${encodeURIComponent(name)}`)).data
  },
})
