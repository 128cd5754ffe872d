/**
 * What somebody has to do to use a provider. Its definition names pages of `providers/guides/`, where every `## heading` is a step; what
 * every provider has in common is made from the definition. A page's step of the same title adds to the one made. Pure but for reading
 * the pages; `docs/` renders it.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Hooks } from './hooks.ts'
import type { FormField, Provider, ProviderDefinition } from './schema.ts'

export interface Step {
  title: string
  kind: 'step' | 'reference'
  markdown: string
}

const folder = fileURLToPath(new URL('../../../providers/guides/', import.meta.url))

/** Of the pages a definition names, those that are not there. */
export const missingPages = ({ guide }: ProviderDefinition): string[] =>
  (guide?.pages ?? []).filter(name => !existsSync(`${folder}${name}.md`))

/** With placeholders still in it: `{{callback}}` and the like are the renderer's to fill in. */
export function guideSteps(provider: Provider): Step[] {
  const written = (provider.guide?.pages ?? []).flatMap(name => readPage(readFileSync(`${folder}${name}.md`, 'utf8')))
  const made = [...(written.some(({ kind }) => kind === 'step') ? [] : [preparation(provider)]), ...common(provider)]
  const titles = new Set(made.map(({ title }) => title))
  const steps = [
    ...written.filter(({ kind, title }) => kind === 'step' && !titles.has(title)),
    ...made.map(step => {
      const more = written.filter(({ title }) => title === step.title).map(({ markdown }) => markdown)
      return { ...step, markdown: [step.markdown, ...more].join('\n\n') }
    }),
  ]
  return [...steps, ...written.filter(({ kind }) => kind === 'reference'), ...facts(provider)]
}

/** `---\nkind: reference\n---` at the top makes every step of the page one to look up. */
function readPage(source: string): Step[] {
  const kind = /^---\nkind: reference\n---\n/.test(source) ? 'reference' : 'step'
  return source
    .split(/^## /m)
    .slice(1)
    .map(part => {
      const end = part.indexOf('\n')
      return { title: part.slice(0, end).trim(), kind, markdown: part.slice(end).trim() }
    })
}

// ── Made from the definition ────────────────────────────────────────────────────────────────────────────────────

const grants = new Set(['OAUTH1', 'OAUTH2'])

function preparation(provider: Provider): Step {
  const { display_name: name, docs, auth_mode: mode } = provider
  const where = docs ? ` [${name}'s documentation](${docs}) says where.` : ''
  const scopes = provider.default_scopes ?? []
  if (grants.has(mode))
    return {
      title: `Register an app with ${name}`,
      kind: 'step',
      markdown: [
        `Make an OAuth app in ${name}'s developer settings.${where} It asks for a callback URL (also called redirect URI); it must be this one to the letter:`,
        '```copy Callback URL\n{{callback}}\n```',
        ...(scopes.length > 0
          ? [
              `Let the app use these scopes:\n\n${scopes.map(scope => `- [x] **${scope}**: asked for by default`).join('\n')}`,
            ]
          : []),
        'Then copy its client id and client secret.',
      ].join('\n\n'),
    }
  const asked = Object.entries({ ...provider.integration_config, ...provider.credentials }).filter(visible)
  return {
    title: `Get what ${name} asks for`,
    kind: 'step',
    markdown: [
      `${name} has no sign-in page: each of your users gives what opens their account.${where}`,
      ...(asked.length > 0 ? [fieldTable(asked)] : []),
    ].join('\n\n'),
  }
}

function common(provider: Provider): Step[] {
  const client = grants.has(provider.auth_mode)
    ? `,\n  "credentials": { "type": "${provider.auth_mode}", "client_id": "<client id>", "client_secret": "<client secret>" }`
    : ''
  const path = provider.guide?.example ?? '/'
  return [
    {
      title: 'Tell Fairlead',
      kind: 'step',
      markdown: [
        `\`\`\`bash\ncurl {{url}}/integrations -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{\n  "provider": "${provider.name}",\n  "unique_key": "${provider.name}"${client}\n}'\n\`\`\``,
        '`$KEY` is the API key of your environment, shown once at the first start (or the one you pinned with `FAIRLEAD_SECRET_KEY_DEV`).',
      ].join('\n\n'),
    },
    {
      title: 'Connect',
      kind: 'step',
      markdown: [
        `\`\`\`bash\ncurl {{url}}/connect/sessions -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{\n  "end_user": { "id": "me" }, "allowed_integrations": ["${provider.name}"]\n}'\n\`\`\``,
        'Open the `connect_link` of the answer.',
      ].join('\n\n'),
    },
    {
      title: 'Make the first call',
      kind: 'step',
      markdown: `\`\`\`bash\ncurl "{{url}}/connections" -H "Authorization: Bearer $KEY"\ncurl '{{url}}/proxy${path}' \\\n  -H "Authorization: Bearer $KEY" -H 'Provider-Config-Key: ${provider.name}' -H "Connection-Id: <connection_id>"\n\`\`\``,
    },
  ]
}

function facts(provider: Provider): Step[] {
  const config = Object.entries(provider.connection_config ?? {})
  const rows: [string, string | undefined][] = [
    ['kind', `\`${provider.auth_mode}\``],
    ['calls go to', inline(provider.proxy?.base_url)],
    ['a user signs in at', inline(provider.authorization_url)],
    ['tokens come from', inline(typeof provider.token_url === 'string' ? provider.token_url : undefined)],
    ['scopes by default', inline(provider.default_scopes?.join(' '))],
    ['hosts a credential may be sent to', provider.allowed_hosts?.map(inline).join(' ')],
    [
      'connections are kept alive',
      provider.idle_limit_days && `unused ones end after ${provider.idle_limit_days} days`,
    ],
  ].map(([name, value]) => [name as string, value as string | undefined])
  return [
    {
      title: 'In short',
      kind: 'reference',
      markdown: [
        `| | |\n|---|---|\n${rows.flatMap(([name, value]) => (value ? [`| ${name} | ${value} |`] : [])).join('\n')}`,
        ...(config.length > 0
          ? [`What a connection knows about its account (\`connection_config\`):\n\n${fieldTable(config)}`]
          : []),
      ].join('\n\n'),
    },
  ]
}

/** What may go wrong, the likeliest reason of each: `{{troubleshooting}}`. */
export function troubleshooting(provider: Provider, { explain }: Hooks, redirectUri: string): string {
  const rows = (provider.guide?.errors ?? []).flatMap(({ where, error, description }) => {
    const said = { provider, where, error, description, config: {}, redirectUri, exits: [] }
    const cause = explain?.(said)
    const seen = [description && `*${description}*`, error && `\`${error}\``].filter(Boolean).join(' ') || cause?.title
    return (cause?.explanations ?? [])
      .slice(0, 2)
      .map(({ text, fix }, i) => `| ${i === 0 ? cell(seen ?? '') : ''} | ${cell(text)} | ${cell(fix)} |`)
  })
  return rows.length === 0 ? '' : ['| what you see | most likely | do |', '|---|---|---|', ...rows].join('\n')
}

const visible = ([, field]: [string, FormField]): boolean => !field.hidden && !field.automated

/** A `|` would end the cell, also within code. */
const cell = (text: string): string => text.replaceAll('|', '\\|')
const inline = (text: string | undefined): string | undefined => text && `\`${cell(text)}\``

const fieldTable = (fields: [string, FormField][]): string =>
  [
    '| field | | example |',
    '|---|---|---|',
    ...fields.map(([name, field]) => {
      const from = field.automated ? 'learned' : field.optional ? 'asked for, optional' : 'asked for'
      const words = [field.title, field.description].filter(text => text !== undefined).join(': ')
      return `| \`${name}\` | ${cell(words)} (${from}) | ${inline(field.example) ?? ''} |`
    }),
  ].join('\n')
