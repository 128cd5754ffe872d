/**
 * The documentation. This room owns /docs/: Markdown from `docs/`, rendered with this server's own URLs filled in.
 * `{{url}}` in a page is where this server is reached, `{{errors}}` the table of every error code,
 * `{{states}}`, `{{causes}}` and `{{warnings}}` those of a connection's states, of their causes and of its warnings,
 * `{{webhook_events}}` that of what webhooks tell.
 */
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { causes, errors, states, warnings, webhookEvents } from '@fairlead/contract'
import { Failure } from '../errors.ts'
import { api } from '../http/api.ts'
import { Html, html, page } from '../http/page.ts'

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

export function docsRoutes({ url }: { url: string }) {
  const app = api()
  app.get('/docs', c => c.redirect('/docs/', 308))
  app.get('/docs/', () => show('index'))
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
    // Imported here: 30 ms that no start should wait for.
    const { default: MarkdownIt } = await import('markdown-it')
    const body = new Html(new MarkdownIt({ html: false, linkify: false }).render(source))
    const title = /^# (.+)$/m.exec(source)?.[1] ?? name
    const nav = name === 'index' ? html`` : html`<p class="soft"><a href="/docs/">Documentation</a></p>`
    return page({ title: `${title} · Fairlead`, status: 200, body: html`${nav}${body}` }, 'doc')
  }
  return app
}
