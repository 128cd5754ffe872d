import { createRoute, z } from '@hono/zod-openapi'
import { anyKeyWith, connectionId, failing, integrationKey, json } from './fields.ts'

/** `ok`: looked at and found well. `info`: good to know. `warning`: works today. `error`: this is why it does not work. */
export const severity = z.enum(['error', 'warning', 'info', 'ok'])
export type Severity = z.infer<typeof severity>

export const finding = z
  .object({
    code: z.string().openapi({ description: 'Stable within a provider.' }),
    severity,
    title: z.string(),
    detail: z.string(),
    fix: z.string().openapi({ description: 'What to do; empty when there is nothing to do.' }),
    link: z.string().optional().openapi({ description: "Where to do it: a page of this very account's Setup." }),
  })
  .openapi('Finding')
export type Finding = z.infer<typeof finding>

export const examineConnection = createRoute({
  method: 'get',
  path: '/connections/{connectionId}/doctor',
  summary:
    'Examines a connection: the app, the address, the scopes, the limits, and what will go wrong unless somebody acts',
  description:
    'Worst first. Asks the provider at most a dozen short questions, and none that counts against a daily budget that is nearly used up.',
  security: anyKeyWith('environment:connections:read', 'environment:connections:read_credentials'),
  request: {
    params: z.object({ connectionId }),
    query: z.strictObject({ provider_config_key: integrationKey }),
  },
  responses: { 200: json(z.object({ findings: z.array(finding) }), 'What was found.'), ...failing },
})

const usage = z
  .object({
    is_told: z.boolean().openapi({ description: 'Whether this provider says in its answers how much is used.' }),
    reserve_percent: z
      .number()
      .nullable()
      .openapi({ description: 'Of the limit: kept for calls that do not say `Fairlead-Priority: background`.' }),
    usage: z
      .object({
        used: z.number(),
        limit: z.number(),
        at: z.string().openapi({ description: 'When the provider said so.' }),
      })
      .nullable()
      .openapi({
        description: 'Null until a call through this server was answered, and when that was over an hour ago.',
      }),
  })
  .openapi('Usage')
export type Usage = z.infer<typeof usage>

export const getUsage = createRoute({
  method: 'get',
  path: '/connections/{connectionId}/usage',
  summary: "How much of its provider's limit of calls the account of a connection has used",
  description:
    'As the last answer to a call through this server said by itself, for instance in `Sforce-Limit-Info`; nobody is asked. All programs that call the account share the limit.',
  security: anyKeyWith('environment:connections:read', 'environment:connections:read_credentials'),
  request: {
    params: z.object({ connectionId }),
    query: z.strictObject({ provider_config_key: integrationKey }),
  },
  responses: { 200: json(usage, 'What is known.'), ...failing },
})
