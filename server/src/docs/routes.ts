/**
 * The documentation. This room owns /docs/, /llms.txt, /openapi.json and GET /providers/:provider/guide: Markdown from `docs/`, rendered
 * with this server's own URLs filled in. `{{url}}` in a page is where this server is reached; what else may be filled in is listed in
 * `pages.ts`. Search runs in the browser, on an index from this origin.
 */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { getGuide } from '@fairlead/contract'
import type { Context } from 'hono'
import type { Variable } from '../config.ts'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { Html } from '../http/page.ts'
import type { Catalogue } from '../provider/catalogue.ts'
import { guideOf } from './guide.ts'
import { icon, layout, type Shown } from './layout.ts'
import { markdown, slug } from './markdown.ts'
import type { Document } from './openapi.ts'
import { llmsText, type Page, readPages, sectionsOf } from './pages.ts'
import { referencePage } from './reference.ts'

interface Deps {
  catalogue: Catalogue
  document: () => Document
  guard: Guard
  url: string
  /** What the page about the configuration is made from. */
  variables: Record<string, Variable>
}

const asset = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url))

/** Both made from the same options: the browser builds the index that these describe. */
const searchOptions = {
  fields: ['title', 'page', 'text'],
  storeFields: ['title', 'page'],
  searchOptions: { prefix: true, fuzzy: 0.15, boost: { title: 3, page: 2 } },
}

const reference: Omit<Page, 'markdown'> = {
  path: '/docs/api',
  title: 'API reference',
  section: 'Reference',
  order: 1,
  listed: true,
}

export function docsRoutes({ catalogue, document, guard, url, variables }: Deps) {
  const app = api()

  app.openapi(guard(getGuide), async c => {
    const provider = catalogue.get(c.req.valid('param').provider)
    if (!provider) throw new Failure('not_found', { message: 'There is no provider of this name.' })
    return c.json({ data: await guideOf(provider, catalogue.hooks(provider), url) }, 200)
  })

  // Read at the first page and kept: a new page comes with a new version. A failed reading is tried again.
  let reading: Promise<Page[]> | undefined
  const pages = (): Promise<Page[]> => {
    reading ??= readPages(catalogue, url, variables).catch(error => {
      reading = undefined
      throw error
    })
    return reading
  }
  const pageAt = async (path: string): Promise<Page> => {
    const page = (await pages()).find(one => one.path === path)
    if (!page) throw new Failure('not_found', { message: 'There is no such page.' })
    return page
  }

  app.get('/openapi.json', c => c.json(document()))
  app.get('/llms.txt', async c => c.text(llmsText(await pages(), url)))
  app.get('/docs', c => c.redirect('/docs/', 308))
  app.get('/docs/api', c => shown(c, { ...reference, body: referencePage(document()) }))
  app.get('/docs/assets/:file', async c => {
    const made = assets[c.req.param('file')]
    if (!made) throw new Failure('not_found')
    const [type, text] = await made()
    return c.body(text, 200, {
      'Content-Type': `${type}; charset=utf-8`,
      'Cache-Control': 'public, max-age=300',
      'X-Content-Type-Options': 'nosniff',
    })
  })
  app.get('/docs/*', async c => {
    const path = c.req.path
    if (path.endsWith('.md')) {
      const page = await pageAt(path.replace(/(^\/docs\/index)?\.md$/, (_, index) => (index ? '/docs/' : '')))
      return c.body(page.markdown, 200, { 'Content-Type': 'text/markdown; charset=utf-8' })
    }
    const page = await pageAt(path)
    return shown(c, { ...page, body: new Html((await markdown())(page.markdown)) })
  })

  async function shown(c: Context, page: Shown): Promise<Response> {
    const all = [...(await pages()), reference]
    return c.body(layout(all, page), 200, {
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy':
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-cache',
    })
  }

  const file = (path: string) => readFile(asset(path), 'utf8')
  const assets: Record<string, () => Promise<[type: string, text: string]>> = {
    'docs.css': async () => ['text/css', `${await file('theme/tokens.css')}\n${await file('docs/assets/docs.css')}`],
    'docs.js': async () => ['text/javascript', await file('docs/assets/docs.js')],
    'icon.svg': async () => ['image/svg+xml', icon],
    'minisearch.js': async () => [
      'text/javascript',
      (
        await readFile(
          createRequire(import.meta.url)
            .resolve('minisearch')
            .replace(/[^/\\]+[/\\][^/\\]+$/, 'es/index.js'),
          'utf8',
        )
      ).replace(/^\/\/# sourceMappingURL.*$/m, ''),
    ],
    'search.json': async () => [
      'application/json',
      JSON.stringify({
        options: searchOptions,
        sections: (await pages()).flatMap(page =>
          sectionsOf(page).map(({ heading, text }, i) => ({
            id: i === 0 ? page.path : `${page.path}#${slug(heading)}`,
            title: heading,
            page: page.title,
            text,
          })),
        ),
      }),
    ],
  }

  return app
}
