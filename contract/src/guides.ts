import { createRoute, z } from '@hono/zod-openapi'
import { connectSessionToken, failing, json } from './fields.ts'

const guideStep = z.object({
  id: z.string().openapi({ description: 'Stable within the guide, e.g. to remember which steps are done.' }),
  title: z.string(),
  kind: z.enum(['step', 'reference']).openapi({
    description: '`step`: something to do, in order. `reference`: to look something up, below the steps.',
  }),
  markdown: z.string(),
  html: z.string().openapi({
    description: 'The same, rendered: only markup of this server’s own renderer, no scripts, no inline styles.',
  }),
  copy: z.array(z.object({ label: z.string(), value: z.string() })).openapi({
    description: 'What somebody copies in this step, with the real values of this server.',
  }),
  checks: z.array(z.object({ label: z.string(), checked: z.boolean(), reason: z.string() })).openapi({
    description: 'Checkboxes at the provider, how they should stand, and why. Markdown within a line.',
  }),
})

export const guide = z
  .object({
    provider: z.string(),
    title: z.string(),
    callback_url: z.string(),
    docs_url: z.string().openapi({ description: 'The same as a page.' }),
    steps: z.array(guideStep),
  })
  .openapi('Guide')
export type Guide = z.infer<typeof guide>
export type GuideStep = z.infer<typeof guideStep>

export const getGuide = createRoute({
  method: 'get',
  path: '/providers/{provider}/guide',
  summary: 'What to do to use a provider, step by step, with this server’s own URLs',
  security: [{ apiKey: [] }, connectSessionToken],
  request: { params: z.object({ provider: z.string() }), query: z.strictObject({}) },
  responses: { 200: json(z.object({ data: guide }), 'The guide.'), ...failing },
})
