/**
 * The documentation. This room owns /docs/, /openapi.json and GET /providers/:provider/guide: Markdown from `docs/`, rendered with this server's own URLs filled in.
 * `{{url}}` in a page is where this server is reached, `{{errors}}` the table of every error code,
 * `{{states}}`, `{{causes}}` and `{{warnings}}` those of a connection's states, of their causes and of its warnings,
 * `{{webhook_events}}` that of what webhooks tell.
 */
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { causes, errors, getGuide, states, warnings, webhookEvents } from '@fairlead/contract'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { Html, html, page } from '../http/page.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { guideMarkdown, guideOf } from './guide.ts'
import { markdown } from './markdown.ts'
import type { Document } from './openapi.ts'
import { referencePage } from './reference.ts'

interface Deps {
  catalogue: Catalogue
  document: () => Document
  guard: Guard
  url: string
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
    return `| \`${name}\` | \`${type === 'auth' ? 'auth' : name}\` | ${family ? `\`${family}\`` : ''} | ${means} |`
  }),
].join('\n')

export function docsRoutes({ catalogue, document, guard, url }: Deps) {
  const app = api()

  const guideFor = (name: string) => {
    const provider = catalogue.get(name)
    if (!provider) throw new Failure('not_found', { message: 'There is no provider of this name.' })
    return guideOf(provider, catalogue.hooks(provider), url)
  }

  app.openapi(guard(getGuide), async c => c.json({ data: await guideFor(c.req.valid('param').provider) }, 200))

  app.get('/openapi.json', c => c.json(document()))
  app.get('/docs/providers/:name', async c => shown(guideMarkdown(await guideFor(c.req.param('name'))), 'provider'))
  app.get('/docs', c => c.redirect('/docs/', 308))
  app.get('/docs/', () => show('index'))
  app.get('/docs/api', () => framed('API reference', referencePage(document())))
  app.get('/docs/:name', c => show(c.req.param('name')))

  async function show(name: string): Promise<Response> {
    // A page is a name in the folder; anything else never becomes a path.
    if (!(await readdir(folder)).includes(`${name}.md`))
      throw new Failure('not_found', { message: 'There is no such page.' })
    const source = (await readFile(`${folder}${name}.md`, 'utf8'))
      .replaceAll('{{url}}', url)
      .replaceAll('{{errors}}', errorTable)
      .replaceAll('{{states}}', sentences(states))
      .replaceAll('{{causes}}', sentences(causes))
      .replaceAll('{{webhook_events}}', eventTable)
      .replaceAll('{{warnings}}', sentences(warnings))
    return shown(source, name)
  }

  async function shown(source: string, name: string): Promise<Response> {
    const body = new Html((await markdown())(source))
    const title = /^# (.+)$/m.exec(source)?.[1] ?? name
    return name === 'index' ? framed(title, body, html``) : framed(title, body)
  }

  const back = html`<p class="soft"><a href="/docs/">Documentation</a></p>`
  const framed = (title: string, body: Html, nav = back): Response =>
    page({ title: `${title} · Fairlead`, status: 200, body: html`${nav}${body}` }, 'doc')

  return app
}
