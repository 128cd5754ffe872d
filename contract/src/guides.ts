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
    app_project_url: z.string().nullable().openapi({
      description:
        'GET answers the OAuth app as a project to download (`name` and `contact` as query); null when the provider has none.',
    }),
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

const flag = z.enum(['true', 'false']).transform(text => text === 'true')

export const getAppProject = createRoute({
  method: 'get',
  path: '/providers/{provider}/app-project',
  summary:
    'The OAuth app to make at a provider, as a project that its own tools deploy, with this server’s callback URL',
  security: [{ apiKey: [] }],
  request: {
    params: z.object({ provider: z.string() }),
    query: z.strictObject({
      name: z.string().max(255).openapi({ description: 'API name, e.g. `Acme_Connect`.' }),
      contact: z.string().max(255).openapi({ description: 'An e-mail address somebody reads.' }),
      scopes: z.string().max(8192).optional().openapi({ description: 'Separated by commas; the provider’s defaults.' }),
      headless: flag.optional().openapi({
        description:
          'Sign-in without a browser. Off unless asked for: it lets whoever holds the secret sign users in with passwords.',
      }),
      policies: flag.optional().openapi({ description: 'Also write policies, as a second step.' }),
      refresh_ips: z.string().max(8192).optional().openapi({
        description: 'Where refresh tokens may be used from: `first-last`, separated by commas.',
      }),
    }),
  },
  responses: {
    200: { description: 'A zip archive.', content: { 'application/zip': { schema: z.string() } } },
    ...failing,
  },
})
