/**
 * The dashboard: pages of /app/, built from the workspace dashboard/. This room owns / and /app/…, and no data: the pages ask the same API as
 * everybody, with the session of an operator (account/operator/). Every view is a URL, so every path below /app/ is the one page.
 */
import { join } from 'node:path'
import { api } from '../http/api.ts'
import { builtPage } from '../http/static.ts'

const folder = join(import.meta.dirname, '../../../dashboard/dist')

export function dashboardRoutes() {
  const app = api()
  // The connect page, in its settings.
  const built = builtPage(folder, { framesOwn: true })
  app.get('/', c => c.redirect('/app/', 302))
  app.get('/app', c => c.redirect('/app/', 308))
  app.get('/app/assets/:name', c => built.asset(c, c.req.param('name')))
  app.get('/app/*', c => built.html(c))
  return app
}
