/**
 * Every page of the documentation: the Markdown of `docs/`, with what is generated filled in, and a guide for every provider. A page
 * says where it stands in its front matter (`section`, `order`); one that does not stands among the guides.
 */
import { readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { causes, errors, states, warnings, webhookEvents } from '@fairlead/contract'
import type { Variable } from '../config.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { guideMarkdown, guideOf } from './guide.ts'

export const sections = ['Start', 'Guides', 'Providers', 'Operate', 'Reference'] as const
type Section = (typeof sections)[number]

export interface Page {
  /** `/docs/proxy` */
  path: string
  title: string
  section: Section
  order: number
  /** Shown beside every page; the guides of most providers are reached by their list. */
  listed: boolean
  markdown: string
}

const folder = fileURLToPath(new URL('../../../docs/', import.meta.url))

const errorTable = [
  '| code | status | |',
  '|---|---|---|',
  ...Object.entries(errors).map(([code, [status, message]]) => `| \`${code}\` | ${status} | ${message} |`),
].join('\n')

const sentences = (table: Record<string, string>): string =>
  ['| code | |', '|---|---|', ...Object.entries(table).map(([code, sentence]) => `| \`${code}\` | ${sentence} |`)].join(
    '\n',
  )

const eventTable = [
  '| event | `type` | switched by | |',
  '|---|---|---|---|',
  ...Object.entries(webhookEvents).map(([name, { type, family, means }]) => {
    return `| \`${name}\` | \`${type === 'own' ? name : type}\` | ${family ? `\`${family}\`` : ''} | ${means} |`
  }),
].join('\n')

const variableTable = (variables: Record<string, Variable>): string =>
  [
    '| variable | default | meaning |',
    '|---|---|---|',
    ...Object.entries(variables).map(
      ([name, { default: otherwise, meaning, secret }]) =>
        `| \`${name}\`${secret ? ' ◆' : ''} | ${otherwise ?? '–'} | ${meaning} |`,
    ),
  ].join('\n')

const generated: Record<string, string> = {
  errors: errorTable,
  states: sentences(states),
  causes: sentences(causes),
  webhook_events: eventTable,
  warnings: sentences(warnings),
}

export async function readPages(
  catalogue: Catalogue,
  url: string,
  variables: Record<string, Variable>,
): Promise<Page[]> {
  const filled = { ...generated, variables: variableTable(variables) }
  const names = (await readdir(folder)).filter(name => name.endsWith('.md'))
  const written = await Promise.all(names.map(name => readPage(`${folder}${name}`, url, filled)))
  const guides = await Promise.all(
    catalogue.list().map(async (provider): Promise<Page> => {
      const guide = await guideOf(provider, catalogue.hooks(provider), url)
      return {
        path: `/docs/providers/${provider.name}`,
        title: provider.display_name,
        section: 'Providers',
        order: 50,
        listed: provider.guide?.pages !== undefined,
        markdown: guideMarkdown(guide),
      }
    }),
  )
  return [...written, ...guides, providerList(guides)].toSorted(
    (a, b) =>
      sections.indexOf(a.section) - sections.indexOf(b.section) || a.order - b.order || (a.title < b.title ? -1 : 1),
  )
}

async function readPage(file: string, url: string, filled: Record<string, string>): Promise<Page> {
  const name = basename(file, '.md')
  const source = await readFile(file, 'utf8')
  const [, front = '', text = source] = /^---\n([\s\S]*?)\n---\n([\s\S]*)$/.exec(source) ?? []
  const said = new Map(front.split('\n').map(line => line.split(': ', 2) as [string, string]))
  const section = sections.find(one => one === said.get('section')) ?? 'Guides'
  const markdown = text
    .trim()
    .replaceAll('{{url}}', url)
    // A link that holds in the repository leads to the same page here.
    .replace(/\]\(([a-z-]+)\.md(#[^)]*)?\)/g, (_, page: string, anchor = '') => `](/docs/${page}${anchor})`)
    .replace(/\{\{(\w+)\}\}/g, (whole, key: string) => filled[key] ?? whole)
  return {
    path: name === 'index' ? '/docs/' : `/docs/${name}`,
    title: /^# (.+)$/m.exec(markdown)?.[1] ?? name,
    section,
    order: Number(said.get('order') ?? 50),
    listed: name !== 'index',
    markdown,
  }
}

const providerList = (guides: Page[]): Page => ({
  path: '/docs/catalogue',
  title: 'All providers',
  section: 'Providers',
  order: 99,
  listed: true,
  markdown: `# All providers\n\nEach with what to register there, what it asks for, and a first call.\n\n${guides
    .map(({ title, path }) => `- [${title}](${path})`)
    .join('\n')}`,
})

/** A page cut at its headings: what search answers with. */
export function sectionsOf({ title, markdown }: Page): { heading: string; text: string }[] {
  return markdown.split(/^## /m).map((part, i) => {
    if (i === 0) return { heading: title, text: part.replace(/^# .*$/m, '').trim() }
    const end = part.indexOf('\n')
    return { heading: end < 0 ? part : part.slice(0, end), text: end < 0 ? '' : part.slice(end).trim() }
  })
}

/** https://llmstxt.org: the pages with a sentence each, and the same pages as Markdown. */
export const llmsText = (pages: Page[], url: string): string =>
  [
    '# Fairlead',
    '> Connects products to their customers’ accounts: sign-in, tokens that stay fresh, and a proxy to call the API through.',
    ...sections.map(section => {
      const inside = pages.filter(page => page.section === section && page.listed)
      return [
        `## ${section}`,
        ...inside.map(page => `- [${page.title}](${url}${page.path}.md): ${firstSentence(page)}`),
      ].join('\n')
    }),
    `## Optional\n- [OpenAPI 3.1](${url}/openapi.json): every operation`,
  ].join('\n\n')

const firstSentence = (page: Page): string =>
  sectionsOf(page)
    .map(({ text }) => text.replaceAll('\n', ' '))
    .map(text => /^[^#|`\-\d[>].*?[.:](?= |$)/.exec(text)?.[0])
    .find(sentence => sentence !== undefined) ?? page.title
