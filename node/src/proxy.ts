import type { ProviderView } from '@fairlead/contract'
import { addQuery, type ConnectionName, errorOf, type Query, send } from './call.ts'
import { FairleadError } from './error.ts'
import { type Page, type Paginate, pagesOf, type Step } from './pages.ts'

/** As of fetch, with what a proxied call may have beside it. */
export interface ProxyInit extends Omit<RequestInit, 'method'> {
  /** Added to the query of the path. */
  query?: Query
  /** Sent as the body, with the content type of JSON. */
  json?: unknown
  /** How often Fairlead tries again, 0 to 10. */
  retries?: number
  /** Statuses that are worth another attempt as well. */
  retryOn?: number[]
  /** Another base URL for this call; its host must be one of `base_url_hosts` of the integration. */
  baseUrl?: string
}

type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** Your customer's API as fetch: the token is added and kept fresh there; the answer is the provider's, whatever its status. */
export function createProxy(base: string, apiKey: string, providerOf: (key: string) => Promise<ProviderView>) {
  async function proxied(
    connection: ConnectionName,
    path: string,
    { query = {}, json, retries, retryOn, baseUrl, ...init }: ProxyInit & { method?: string } = {},
  ): Promise<Response> {
    const headers = new Headers(init.headers)
    headers.set('Authorization', `Bearer ${apiKey}`)
    headers.set('Provider-Config-Key', connection.provider_config_key)
    headers.set('Connection-Id', connection.connection_id)
    if (retries !== undefined) headers.set('Retries', String(retries))
    if (retryOn) headers.set('Retry-On', retryOn.join(','))
    if (baseUrl) headers.set('Base-Url-Override', baseUrl)
    if (json !== undefined && !headers.has('Content-Type')) headers.set('Content-Type', 'application/json')
    const url = urlOf(base, path)
    addQuery(url, query)
    const answer = await send(url, { ...init, headers, ...(json !== undefined && { body: JSON.stringify(json) }) })
    if (answer.headers.has('Fairlead-Error')) throw errorOf(answer, await answer.text())
    return answer
  }

  const by = (method: Method) => (connection: ConnectionName, path: string, init?: ProxyInit) =>
    proxied(connection, path, { ...init, method })

  /** How a provider pages, by integration; a definition that could not be read is asked for again. */
  const known = new Map<string, Promise<Paginate | undefined>>()
  function paginateOf(key: string): Promise<Paginate | undefined> {
    const asked =
      known.get(key) ??
      providerOf(key).then(provider => (provider.proxy as { paginate?: Paginate } | undefined)?.paginate)
    known.set(key, asked)
    asked.catch(() => known.delete(key))
    return asked
  }

  return {
    /** Throws FairleadError for what Fairlead itself answers; an answer of the provider is returned as it is. */
    fetch: proxied,
    get: by('GET'),
    head: by('HEAD'),
    post: by('POST'),
    put: by('PUT'),
    patch: by('PATCH'),
    delete: by('DELETE'),

    /**
     * Page after page until there is none, as the provider's definition says it pages, or `paginate`. An answer of the provider that
     * is an error is thrown as `provider_answer`.
     */
    async *pages<Item = unknown>(
      connection: ConnectionName,
      path: string,
      { paginate, ...init }: ProxyInit & { method?: string; paginate?: Paginate } = {},
    ): AsyncGenerator<Page<Item>, void, undefined> {
      const how = paginate ?? (await paginateOf(connection.provider_config_key))
      if (!how)
        throw new TypeError(
          `The provider of "${connection.provider_config_key}" does not say how it pages: say it with \`paginate\`.`,
        )
      const ask = async (step: Step): Promise<Response> => {
        const answer = await proxied(connection, step.path, step.init)
        if (answer.ok) return answer
        throw new FairleadError('provider_answer', `The provider answered ${answer.status}.`, {
          status: answer.status,
          provider: true,
          payload: await answer.text(),
        })
      }
      yield* pagesOf<Item>(how, { path, init }, ask)
    },
  }
}

/** A URL would resolve `..`, and leave the proxy by it with the key in hand. */
function urlOf(base: string, path: string): URL {
  const [plain = ''] = path.split(/[?#]/, 1)
  if (/(^|[/\\])(\.|%2e){1,2}([/\\]|$)/i.test(plain))
    throw new FairleadError(
      'proxy_path_traversal',
      'The path holds a "." or ".." segment. Write out the path you mean.',
      {
        status: 400,
      },
    )
  return new URL(`${base}/proxy/${path.replace(/^\//, '')}`)
}
