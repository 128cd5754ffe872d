import { createRoute, z } from '@hono/zod-openapi'
import { connectSessionToken, failing, json, providerName } from './fields.ts'

/** A provider definition as stored, with its name and logo. Connect UI builds its form from this object alone. */
export const providerView = z
  .looseObject({ name: z.string(), display_name: z.string(), auth_mode: z.string(), logo_url: z.string() })
  .openapi('Provider')
export type ProviderView = z.infer<typeof providerView>

const eitherCaller = [{ apiKey: [] }, connectSessionToken]

export const listProviders = createRoute({
  method: 'get',
  path: '/providers',
  summary: 'Lists the providers of this server',
  security: eitherCaller,
  request: { query: z.strictObject({ search: z.string().optional() }) },
  responses: { 200: json(z.object({ data: z.array(providerView) }), 'The providers, by name.'), ...failing },
})

/** Without a key, as the wire contract has it: which accounts a product can connect is no secret, and end users see it anyway. */
export const getCatalogue = createRoute({
  method: 'get',
  path: '/providers.json',
  summary: 'The whole catalogue, by name',
  security: [],
  request: { query: z.strictObject({}) },
  responses: {
    200: json(z.record(z.string(), providerView), 'Every provider, as `GET /providers` has them.'),
    ...failing,
  },
})

export const getProvider = createRoute({
  method: 'get',
  path: '/providers/{provider}',
  summary: 'Reads one provider',
  security: eitherCaller,
  request: { params: z.object({ provider: providerName }), query: z.strictObject({}) },
  responses: { 200: json(z.object({ data: providerView }), 'The provider.'), ...failing },
})
