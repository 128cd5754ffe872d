import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, failing, json } from './fields.ts'

const egress = z
  .object({
    /** Public addresses of this server's own interfaces. Empty behind a NAT: ask whoever runs the network. */
    own: z.array(z.string()),
    /** The egress proxies. What a provider sees is normally one of their addresses. */
    proxies: z.array(z.object({ hosts: z.string().nullable(), proxy: z.string(), addresses: z.array(z.string()) })),
  })
  .openapi('Egress')

export const getEgress = createRoute({
  method: 'get',
  path: '/egress',
  summary: 'Names the addresses requests to providers leave by, for their lists of trusted addresses',
  security: anyKeyWith('environment:settings:read'),
  request: { query: z.strictObject({}) },
  responses: { 200: json(egress, 'As seen from this server.'), ...failing },
})
