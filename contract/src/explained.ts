import { z } from '@hono/zod-openapi'

/** One thing that may be behind a failure, most likely first: what it is, what to do, and where. */
export const explanation = z
  .object({
    text: z.string(),
    fix: z.string(),
    link: z
      .string()
      .optional()
      .openapi({ description: "A page at the provider, in this account's own Setup where it is known." }),
  })
  .openapi('Explanation')
export type Explanation = z.infer<typeof explanation>

/**
 * What a provider's error means to the person who has to do something about it. `code` is stable within a provider; the page of
 * that provider's errors lists them.
 */
export const explainedCause = z
  .object({ code: z.string(), title: z.string(), explanations: z.array(explanation) })
  .openapi('ExplainedCause')
export type ExplainedCause = z.infer<typeof explainedCause>

/** The `code` of what no table knows: its only explanation repeats the provider's words. */
export const unexplained = 'unknown'
