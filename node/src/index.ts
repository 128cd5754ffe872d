/**
 * `@fairlead/node`: a Fairlead server's API for your backend. On fetch and WebCrypto alone, so it runs wherever those are: Node 20 or
 * later, Bun, Deno, workers. Names of members are the wire's own; types come from the contract.
 *
 *   client.ts     new Fairlead({ url, apiKey }), and what hangs on it
 *   call.ts       one request to the API, and what its answer means
 *   proxy.ts      your customer's API, as fetch
 *   pages.ts      a provider's pages, one after the other
 *   webhooks.ts   is this really from Fairlead?
 */
export type {
  AuthWebhook,
  ConnectionView as Connection,
  ErrorCode,
  IntegrationView as Integration,
  ListedConnection,
  OwnWebhook,
  ProviderView as Provider,
  SessionOpened,
  Standing,
} from '@fairlead/contract'
export type { ConnectionName } from './call.ts'
export { type ConnectionFilter, Fairlead, type Settings } from './client.ts'
export { FairleadError } from './error.ts'
export type { Page, Paginate } from './pages.ts'
export type { ProxyInit } from './proxy.ts'
export { verifyWebhook, type WebhookEvent, WebhookRefused } from './webhooks.ts'
