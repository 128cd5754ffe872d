import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, failing, json } from './fields.ts'

export const encryption = z
  .object({
    /** The key-encryption key that wraps the data keys. */
    kek_id: z.string(),
    /** Of the environment and of the installation, oldest first. */
    data_keys: z.array(z.object({ id: z.string(), created_at: z.string(), state: z.enum(['current', 'retired']) })),
    /** Rows not yet sealed anew. */
    rows_left: z.number(),
  })
  .openapi('Encryption')
export type EncryptionView = z.infer<typeof encryption>

export const getEncryption = createRoute({
  method: 'get',
  path: '/encryption',
  summary: 'Names the keys of the environment and how far their rotation is',
  security: anyKeyWith('environment:encryption:read'),
  request: { query: z.strictObject({}) },
  responses: { 200: json(encryption, 'Ids only; a key never leaves the server.'), ...failing },
})

export const rotateEncryption = createRoute({
  method: 'post',
  path: '/encryption/rotate',
  summary: 'Gives the environment and the installation new data keys and seals every secret anew in the background',
  security: anyKeyWith('environment:encryption:rotate'),
  request: { query: z.strictObject({}) },
  responses: { 202: json(encryption, 'Begun. It is done when `rows_left` is 0.'), ...failing },
})
