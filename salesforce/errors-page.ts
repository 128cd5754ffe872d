/** Writes docs/salesforce-errors.md from the table of errors: `npm run salesforce-errors`. A test holds the page to the table. */
import { writeFile } from 'node:fs/promises'
import { catalogue, explain, type Where } from './errors.ts'

export const errorsPagePath = new URL('../docs/salesforce-errors.md', import.meta.url)

const places: Record<Where, string> = {
  authorize: 'on the way back from the log-in, or on a page of Salesforce',
  token: 'at the token endpoint',
  refresh: 'at a renewal',
  reconnect: 'when the account is looked at',
  api: 'in the API',
  silence: 'nothing arrives here',
}

const code = (text: string): string => `\`${text}\``

export function errorsPage(): string {
  const context = { login: 'sandbox', org: undefined, callback: '{{url}}/oauth/callback', exits: [] } as const
  const sections = catalogue.map(({ code: name, title, seen }) => {
    const met = seen.map(([where, error, description = '']) => ({ where, error, description }))
    const shown = met.map(
      ({ where, error, description }) =>
        `- ${[error && code(error), description && code(description)].filter(Boolean).join(' — ') || 'No answer at all'}: ${places[where]}`,
    )
    // The same error means different things in different places; here all of it is said once.
    const all = new Map(
      met.flatMap(one => explain(one, context).explanations).map(({ text, fix }) => [text, fix] as const),
    )
    const reasons = [...all].map(([text, fix], i) => `${i + 1}. ${text}\n   **${fix}**`)
    return [
      `## ${title}`,
      `Cause ${code(name)}. What it looks like:`,
      shown.join('\n'),
      'Likeliest first:',
      reasons.join('\n'),
    ].join('\n\n')
  })
  return `---
section: Providers
order: 20
---

# Salesforce: what went wrong

Salesforce gives few reasons and the same one for many. This is every error we know of, what may be behind it, and what to do. The page a
sign-in ends on, \`error.cause\` in its result, \`GET /connections/:id\` and the doctor use these words and these codes.

${sections.join('\n\n')}

## Anything else

Cause ${code('unknown')}: an error that is not in this table is shown as Salesforce said it.
`
}

if (import.meta.main) await writeFile(errorsPagePath, errorsPage())
