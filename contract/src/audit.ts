/** Who changed what: the audit trail. */
import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, failing, json } from './fields.ts'

const entry = z
  .object({
    sequence: z.number(),
    at: z.string(),
    environment: z.string().nullable().openapi({ description: 'Null: the installation.' }),
    actor: z.object({ kind: z.string(), id: z.string(), name: z.string() }),
    address: z.string().nullable().openapi({ description: 'Where the request came from.' }),
    action: z.string(),
    target: z.string(),
    detail: z.record(z.string(), z.unknown()).openapi({ description: 'What changed; never a secret.' }),
    hash: z.string().openapi({ description: 'Covers this entry and the hash of the one before it.' }),
  })
  .openapi('AuditEntry')
export type AuditEntry = z.infer<typeof entry>

const reading = anyKeyWith('environment:audit:read')

export const listAudit = createRoute({
  method: 'get',
  path: '/audit',
  summary: 'Lists who changed what, newest first: in this environment and in the installation',
  security: reading,
  request: {
    query: z.strictObject({
      action: z
        .string()
        .regex(/^[a-z_.]{1,60}$/, 'A noun, or a noun and a verb, such as "integration.updated".')
        .optional(),
      actor: z.string().max(255).optional(),
      before: z.coerce.number().int().min(1).optional().openapi({ description: '`next_before` of the page before.' }),
      limit: z.coerce.number().int().min(1).max(500).optional(),
    }),
  },
  responses: {
    200: json(z.object({ entries: z.array(entry), next_before: z.number().nullable() }), 'A page, 50 unless said.'),
    ...failing,
  },
})

export const verifyAudit = createRoute({
  method: 'post',
  path: '/audit/verify',
  summary: 'Walks the whole chain of entries and says whether it is whole',
  security: reading,
  request: { query: z.strictObject({}) },
  responses: {
    200: json(
      z.union([
        z.object({
          intact: z.literal(true),
          rows: z.number(),
          head: z.string().openapi({ description: 'Write it down elsewhere: it proves all entries until now.' }),
        }),
        z.object({ intact: z.literal(false), rows: z.number(), broken_at: z.number() }),
      ]),
      'The verdict.',
    ),
    ...failing,
  },
})
