import { createRoute, z } from '@hono/zod-openapi'
import { connectSessionToken, failing, json } from './fields.ts'

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

export const getProvider = createRoute({
  method: 'get',
  path: '/providers/{provider}',
  summary: 'Reads one provider',
  security: eitherCaller,
  request: { params: z.object({ provider: z.string() }), query: z.strictObject({}) },
  responses: { 200: json(z.object({ data: providerView }), 'The provider.'), ...failing },
})
