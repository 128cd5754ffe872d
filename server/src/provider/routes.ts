import { getAppProject, getCatalogue, getProvider, listProviders } from '@fairlead/contract'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { type Catalogue, providerView } from './catalogue.ts'
import { markOf } from './logo.ts'

interface Deps {
  catalogue: Catalogue
  guard: Guard
  url: string
}

export function providerRoutes({ catalogue, guard, url }: Deps) {
  const app = api()

  app.openapi(guard(listProviders), c => {
    const search = c.req.valid('query').search?.toLowerCase()
    const providers = catalogue.list().filter(provider => !search || provider.name.toLowerCase().includes(search))
    return c.json({ data: providers.map(provider => providerView(provider, url)) }, 200)
  })

  app.openapi(getCatalogue, c => {
    const providers = catalogue.list().map(provider => [provider.name, providerView(provider, url)])
    return c.json(Object.fromEntries(providers), 200)
  })

  app.openapi(guard(getProvider), c => {
    const provider = catalogue.get(c.req.valid('param').provider)
    if (!provider) throw new Failure('not_found', { message: 'There is no provider of this name.' })
    return c.json({ data: providerView(provider, url) }, 200)
  })

  app.openapi(guard(getAppProject), c => {
    const provider = catalogue.get(c.req.valid('param').provider)
    const make = provider && catalogue.hooks(provider).appProject
    if (!make) throw new Failure('not_found', { message: 'This provider has no app project.' })
    const { name, contact, scopes, headless, policies, refresh_ips } = c.req.valid('query')
    const made = make({
      name,
      contact,
      callback: `${url}/oauth/callback`,
      scopes: scopes === undefined ? (provider.default_scopes ?? []) : listed(scopes),
      headless: headless ?? false,
      policies: policies ?? false,
      refreshIps: listed(refresh_ips ?? ''),
    })
    if ('faults' in made)
      throw new Failure('invalid_query_params', {
        message: made.faults.join(' '),
        issues: made.faults.map(message => ({ code: 'custom', message, path: [] })),
      })
    // The name has passed as one of letters, digits and underscores.
    return c.body(new Uint8Array(made.archive), 200, {
      'Content-Type': 'application/zip',
      'Content-Disposition': `attachment; filename="${name}.zip"`,
    })
  })

  app.get('/images/template-logos/:file', async c => {
    const provider = catalogue.get(c.req.param('file').replace(/\.svg$/, ''))
    if (!provider) throw new Failure('not_found')
    return c.body(await markOf(provider), 200, {
      'Content-Type': 'image/svg+xml',
      'Cache-Control': 'public, max-age=3600',
      'Content-Security-Policy': "default-src 'none'; sandbox",
      'X-Content-Type-Options': 'nosniff',
    })
  })

  return app
}

const listed = (text: string): string[] => text.split(',').filter(Boolean)
