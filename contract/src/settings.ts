/** What an environment's owner decides. */
import { createRoute, z } from '@hono/zod-openapi'
import { connectUi, connectUiChange } from './connect-ui.ts'
import { anyKeyWith, failing, json, jsonBody, webhookUrl } from './fields.ts'

const loopback = new Set(['localhost', '127.0.0.1', '[::1]'])

/** A page of the developer's own: https, or plain http on this machine. */
function isPage(text: string, spelling: (url: URL) => string): boolean {
  const url = URL.parse(text)
  if (!url) return false
  if (url.username !== '' || url.password !== '' || url.hash !== '') return false
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && loopback.has(url.hostname))) return false
  // One spelling each, because they are compared as text: no `https:evil`, no `/\evil`, no upper case, no Unicode host.
  return spelling(url) === text
}

const origin = z
  .string()
  .max(2048)
  .refine(text => isPage(text, url => url.origin), {
    message: 'An origin reads https://app.example.com: lower case, no path, no final slash; http only on this machine.',
  })

const returnUrl = z
  .string()
  .max(2048)
  .refine(text => isPage(text, url => url.href), {
    message:
      'A return URL is written out as a browser would send it (https://app.example.com/done): no user, no fragment; http only on this machine.',
  })

const list = <Item extends z.ZodType<string>>(item: Item) =>
  z
    .array(item)
    .max(100)
    .refine(items => new Set(items).size === items.length, { message: 'Says the same thing twice.' })

/** The families of events that can be switched off. */
export const webhookSwitches = {
  on_auth_creation: 'A connection was created.',
  on_auth_refresh_error: 'A connection needs its owner to sign in again.',
  on_connection_health: 'A connection is in trouble, is blocked by a policy, or recovered.',
  on_connection_lifecycle: 'A connection was paused, resumed or deleted.',
} as const
export type WebhookSwitch = keyof typeof webhookSwitches

const switches = Object.fromEntries(
  Object.entries(webhookSwitches).map(([name, description]) => [name, z.boolean().openapi({ description })]),
) as Record<WebhookSwitch, z.ZodBoolean>

/** Of an environment or a key. */
export const requestsPerMinute = z.number().int().min(1).max(10_000_000).openapi({
  description: 'How many requests it may send in a minute, to all servers together; null: as many as it likes.',
})

const decided = {
  webhook_url: webhookUrl.nullable(),
  webhook_url_secondary: webhookUrl.nullable(),
  ...switches,
  allowed_origins: list(origin).openapi({ description: 'Where the connect page may be embedded and report to.' }),
  return_urls: list(returnUrl).openapi({
    description: 'Where the connect page may send the browser, compared exactly.',
  }),
  connect_ui: connectUi.openapi({
    description:
      'How the connect page looks. A colour that could not be read is moved, as little as possible, until it can; the answer shows it.',
  }),
  requests_per_minute: requestsPerMinute.nullable(),
  confirm_connections: z.boolean().openapi({
    description:
      'Whether your backend confirms each new connection, with POST /connections/{connectionId}/confirm, before it can be used. One that is not confirmed within ten minutes is deleted and its tokens are revoked.',
  }),
}

const settings = z.strictObject(decided)
export type Settings = z.infer<typeof settings>

const settingsChange = settings.partial().extend({ connect_ui: connectUiChange.optional() })
export type SettingsChange = z.infer<typeof settingsChange>

const signingKey = z.object({
  id: z.string(),
  created_at: z.string(),
  state: z.enum(['current', 'retiring']),
  retires_at: z.string().nullable().openapi({ description: 'Until then it signs beside the current one.' }),
})

const newKey = z
  .string()
  .openapi({ description: 'The signing key. Shown by the answer that made it, and never again.' })

export const settingsView = z
  .object({ ...decided, signing_keys: z.array(signingKey), webhook_signing_key: newKey.optional() })
  .openapi('EnvironmentSettings')
export type SettingsView = z.infer<typeof settingsView>

export const getSettings = createRoute({
  method: 'get',
  path: '/environment/settings',
  summary: 'Reads the settings of the environment',
  security: anyKeyWith('environment:settings:read'),
  request: { query: z.strictObject({}) },
  responses: { 200: json(settingsView, 'The settings; of signing keys their ids and ages.'), ...failing },
})

export const changeSettings = createRoute({
  method: 'patch',
  path: '/environment/settings',
  summary: 'Changes what is named; the rest stays',
  description: 'Null takes a webhook URL away. The first one makes a signing key, which this answer shows.',
  security: anyKeyWith('environment:settings:update'),
  request: { query: z.strictObject({}), body: jsonBody(settingsChange, { webhook_url: 'https://app.acme.com/hooks' }) },
  responses: { 200: json(settingsView, 'The settings as they are now.'), ...failing },
})

export const rotateSigningKey = createRoute({
  method: 'post',
  path: '/environment/webhook-signing-key/rotate',
  summary: 'Makes a new signing key; the previous one signs beside it for a while',
  security: anyKeyWith('environment:webhook_signing_key:rotate'),
  request: {
    query: z.strictObject({}),
    body: {
      required: false,
      content: {
        'application/json': {
          example: { overlap_hours: 24 },
          schema: z.strictObject({
            overlap_hours: z
              .number()
              .int()
              .min(0)
              .max(168)
              .optional()
              .openapi({ description: 'How long the previous key signs on. 24 unless said; 0 for a key that leaked.' }),
          }),
        },
      },
    },
  },
  responses: {
    200: json(
      z.object({ data: z.object({ webhook_signing_key: newKey, previous_until: z.string().nullable() }) }),
      'The new key.',
    ),
    ...failing,
  },
})
