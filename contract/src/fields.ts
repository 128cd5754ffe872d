/** Field rules shared by every schema of the contract. */
import { z } from '@hono/zod-openapi'

/** What no text may hold, because PostgreSQL stores neither: U+0000 and half of a surrogate pair. */
export const unstorable = /[\0\p{Cs}]/u

export const integrationKey = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[a-zA-Z0-9~:.@ _-]+$/, 'Letters, digits, spaces and ~ : . @ _ - only.')

export const connectionId = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[a-zA-Z0-9,.;:=+~[\]|@${}"'\\/_ -]+$/, 'This id holds a character that connection ids must not have.')

export const providerName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[a-zA-Z0-9_-]+$/, 'Letters, digits, _ and - only.')

/** Comma-separated on the wire, as integrations store them. */
export const oauthScopes = z
  .string()
  .max(8192)
  .regex(/^([0-9a-zA-Z:/_.*-]+(,[0-9a-zA-Z:/_.*-]+)*)?$/, 'Scopes are separated by commas, without spaces.')

const tagKey = /^[a-zA-Z][a-zA-Z0-9_\-./]*$/

/** At most ten; keys are stored in lower case, so two that differ in case alone are refused. */
export const tags = z.record(z.string(), z.string().min(1).max(255)).superRefine((value, ctx) => {
  const keys = Object.keys(value)
  if (keys.length > 10) ctx.addIssue({ code: 'custom', message: 'At most 10 tags.' })
  const seen = new Set<string>()
  for (const key of keys) {
    if (key.length > 64 || !tagKey.test(key))
      ctx.addIssue({
        code: 'custom',
        path: [key],
        message: 'A tag key starts with a letter and has up to 64 letters, digits, _ - . or /.',
      })
    const lower = key.toLowerCase()
    if (seen.has(lower)) ctx.addIssue({ code: 'custom', path: [key], message: 'Two tag keys differ in case alone.' })
    seen.add(lower)
    if (lower === 'end_user_email' && !z.email().safeParse(value[key]).success)
      ctx.addIssue({ code: 'custom', path: [key], message: 'end_user_email must be an e-mail address.' })
  }
})

export const endUser = z.strictObject({
  id: z.string().min(1).max(255),
  email: z.email().optional(),
  display_name: z.string().max(255).optional(),
  tags: z.record(z.string(), z.string()).optional(),
})

export const organization = z.strictObject({
  id: z.string().min(1).max(255),
  display_name: z.string().max(255).optional(),
})

/** Where webhooks go: an absolute URL. Which hosts, and whether without TLS, is the egress policy's to say. */
export const webhookUrl = z.url({ protocol: /^https?$/ }).max(2048)

/** The empty string clears it. */
export const webhookUrlOverride = z.union([z.literal(''), webhookUrl])

export type EndUser = z.infer<typeof endUser>
export type Organization = z.infer<typeof organization>

/** The error envelope as a schema, for the descriptions of failing answers. */
export const errorEnvelope = z
  .object({
    error: z.object({
      code: z.string(),
      message: z.string(),
      errors: z
        .array(z.object({ code: z.string(), message: z.string(), path: z.array(z.union([z.string(), z.number()])) }))
        .optional(),
      payload: z.unknown().optional(),
    }),
  })
  .openapi('Error')

export const json = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  description,
  content: { 'application/json': { schema } },
})

export const jsonBody = <Schema extends z.ZodType>(schema: Schema, example: z.input<Schema>) => ({
  required: true,
  content: { 'application/json': { schema, example } },
})

/** Every operation can fail, and every failure has the same body. */
export const failing = { default: json(errorEnvelope, 'The error envelope; its code names the fault.') }

/** Any one of these scopes opens an operation; a trailing `:*` on a key's scope is a prefix match. */
export const anyKeyWith = (...scopes: string[]) => scopes.map(scope => ({ apiKey: [scope] }))

export const connectSessionToken = { connectSession: [] }
