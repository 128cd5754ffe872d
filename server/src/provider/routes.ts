import { getProvider, listProviders } from '@fairlead/contract'
import { Failure } from '../errors.ts'
import { api, type Guard } from '../http/api.ts'
import { type Catalogue, providerView } from './catalogue.ts'
import { letterMark } from './logo.ts'

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

  app.openapi(guard(getProvider), c => {
    const provider = catalogue.get(c.req.valid('param').provider)
    if (!provider) throw new Failure('not_found', { message: 'There is no provider of this name.' })
    return c.json({ data: providerView(provider, url) }, 200)
  })

  app.get('/images/template-logos/:file', c => {
    const provider = catalogue.get(c.req.param('file').replace(/\.svg$/, ''))
    if (!provider) throw new Failure('not_found')
    return c.body(letterMark(provider), 200, {
      'Content-Type': 'image/svg+xml',
      'Cache-Control': 'public, max-age=3600',
      'Content-Security-Policy': "default-src 'none'; sandbox",
      'X-Content-Type-Options': 'nosniff',
    })
  })

  return app
}
