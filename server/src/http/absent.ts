/** Parts of the wire contract that are not here: a client that calls one learns so in the envelope it knows. Mounted last, so what is built is served. */
import { Failure } from '../errors.ts'
import { api } from './api.ts'

const absent = [
  '/action/*',
  '/app-auth/connect',
  '/auth/*',
  '/cli/telemetry',
  '/environment-variables',
  '/functions/*',
  '/integrations/quickstart',
  '/integrations/:key/functions/*',
  '/mcp',
  '/oauth/client-metadata/*',
  '/providers/:provider/templates',
  '/records/*',
  '/scripts/config',
  '/sync/*',
  '/v1/*',
  '/webhook/*',
]

export function absentRoutes() {
  const app = api()
  for (const path of absent)
    app.all(path, c => {
      throw new Failure('not_implemented', { message: `${c.req.method} ${c.req.path} is not part of this server.` })
    })
  return app
}
