import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, failing, json, jsonBody } from './fields.ts'

const id = z.string().min(1).max(255)

export const personTarget = z.union([z.strictObject({ end_user_id: id }), z.strictObject({ organization_id: id })])
export type PersonTarget = z.infer<typeof personTarget>

const rows = z.array(z.record(z.string(), z.unknown()))

export const personExport = z
  .object({
    subject: personTarget,
    exported_at: z.string(),
    connections: rows.openapi({
      description:
        'With the facts about the account, tags and metadata. No tokens: whose they are is asked at the provider.',
    }),
    connect_sessions: rows,
    activity: rows.openapi({ description: 'Calls made for these connections, newest first.' }),
    activity_is_complete: z.boolean().openapi({ description: 'False when there are more than 100,000 calls.' }),
    webhook_events: rows,
    revocations: rows,
    audit: rows.openapi({ description: 'Entries of the audit trail that name the person or a connection of theirs.' }),
  })
  .openapi('PersonExport')
export type PersonExport = z.infer<typeof personExport>

export const erasure = z
  .object({
    subject: z.string().openapi({
      description:
        'A keyed hash of who it was, and the target of the audit entry. The same person has the same one; nobody can read it back.',
    }),
    erased_at: z.string(),
    deleted: z.record(z.string(), z.number()).openapi({ description: 'Rows that are gone, by table.' }),
    stripped: z.record(z.string(), z.number()).openapi({
      description:
        'Rows that stay without anything about the person, by table: receipts of revocations, events not delivered yet.',
    }),
    revocations_queued: z.number().openapi({ description: 'Grants whose tokens are being ended at their provider.' }),
    audit_entries_kept: z.number().openapi({
      description:
        'Entries of the audit trail from before that name the person. They are chained and cannot be taken out.',
    }),
  })
  .openapi('Erasure')
export type Erasure = z.infer<typeof erasure>

export const exportPerson = createRoute({
  method: 'post',
  path: '/end-users/export',
  summary: 'Exports everything stored about an end user or an organization (GDPR, articles 15 and 20)',
  security: anyKeyWith('environment:connections:read', 'environment:connections:read_credentials'),
  request: { body: jsonBody(personTarget, { end_user_id: 'ada' }) },
  responses: { 200: json(personExport, 'Everything but secrets.'), ...failing },
})

export const erasePerson = createRoute({
  method: 'post',
  path: '/end-users/erase',
  summary: 'Erases everything stored about an end user or an organization (GDPR, article 17), and revokes their tokens',
  description:
    'Ends their connections as POST /kill does, with whatever shares a grant with one. May be sent again: it erases what there still is. ' +
    'That an erasure happened stays in the audit trail, under a keyed hash.',
  security: anyKeyWith('environment:connections:delete'),
  request: { body: jsonBody(personTarget, { end_user_id: 'ada' }) },
  responses: { 200: json(erasure, 'The receipt.'), ...failing },
})
