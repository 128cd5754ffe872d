// A Salesforce to connect to without Salesforce: OAuth server, identity, and the data API of simulated orgs, on one
// loopback HTTP server, with an admin API to break it on purpose. Serves login.salesforce.localhost,
// test.salesforce.localhost and every org's My Domain, by host name or by path prefix (hosts.ts). It is used by
// tests and demos of OAuth clients; it imports nothing but node: built-ins, so it can be used without the rest of
// this repository. Behaviour follows docs and captured clients, cited where it is obeyed; what is only recalled is a
// Setting (world.ts).

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { admin, type Control, makeControl } from './admin.ts'
import type { Endpoint } from './faults.ts'
import { noFaults, takeFaults } from './faults.ts'
import { type Address, baseOf, type Form, locate } from './hosts.ts'
import type { Call, Reply } from './http.ts'
import { BadEncoding, formOf, html, readBody, render, restError, TooLarge, write } from './http.ts'
import { discovery, identity, keys, userinfo } from './identity.ts'
import { authorize, consent, introspect, login, refusal, revoke, token } from './oauth.ts'
import { edgePage, frontPage } from './pages.ts'
import { rest, versions } from './rest.ts'
import { type SeedOptions, seed } from './seeds.ts'
import type { App, RequestEntry, Settings, World } from './world.ts'
import { BadInput, count, emptyWorld, findOrg, orgOf } from './world.ts'

export type { Control, State, TokenFilter } from './admin.ts'
export type { DelayInput, DropInput, Endpoint, FailInput, RefuseInput } from './faults.ts'
export type { Form } from './hosts.ts'
export type { Outbound, OutboundInput } from './outbound.ts'
export { PASSWORD } from './seeds.ts'
export type { App, AppInput, Counters, Org, OrgInput, RequestEntry, Settings, User, UserInput } from './world.ts'
export { BadInput } from './world.ts'

export type SimulatorOptions = SeedOptions & {
  /** Default 0: any free port. */
  port?: number
  /** How many following ports to try when it is busy; default 0. */
  morePorts?: number
  /** Default 127.0.0.1. */
  host?: string
  /** Short for settings.autoApprove. */
  autoApprove?: boolean
  settings?: Partial<Settings>
}

export type Simulator = {
  port: number
  /** `http://127.0.0.1:port`, the front page; path-form bases hang below it. */
  url: string
  /** Base URL of 'login', 'test' or an org, by path (default, works everywhere) or by name (browsers). */
  base: (of: string, form?: Form) => string
  /** An org's first app, with its current secret. */
  app: (org: string) => App
  control: Control
  close: () => Promise<void>
}

// ── Every URL, once ─────────────────────────────────────────────────────────────────────────────────────────────

type Room = { endpoint: Endpoint; path: RegExp; handle: (world: World, call: Call) => Reply | Promise<Reply> }

const rooms: Room[] = [
  { endpoint: 'authorize', path: /^\/services\/oauth2\/authorize\/?$/, handle: authorize },
  { endpoint: 'pages', path: /^\/secur\/login$/, handle: login },
  { endpoint: 'pages', path: /^\/secur\/consent$/, handle: consent },
  { endpoint: 'token', path: /^\/services\/oauth2\/token\/?$/, handle: token },
  { endpoint: 'introspect', path: /^\/services\/oauth2\/introspect\/?$/, handle: introspect },
  { endpoint: 'revoke', path: /^\/services\/oauth2\/revoke\/?$/, handle: revoke },
  { endpoint: 'userinfo', path: /^\/services\/oauth2\/userinfo\/?$/, handle: userinfo },
  { endpoint: 'discovery', path: /^\/\.well-known\/openid-configuration$/, handle: discovery },
  { endpoint: 'discovery', path: /^\/id\/keys$/, handle: keys },
  { endpoint: 'identity', path: /^\/id\/[^/]+\/[^/]+$/, handle: identity },
  { endpoint: 'versions', path: /^\/services\/data\/?$/, handle: versions },
  { endpoint: 'rest', path: /^\/services\/data\//, handle: rest },
]

function roomFor(call: Call): Room {
  const room = rooms.find(r => r.path.test(call.path))
  const { site } = call.address
  switch (site.kind) {
    case 'generic':
    case 'org':
      return room ?? { endpoint: 'other', path: /^/, handle: lost }
    case 'lightning':
      // Only its token endpoint answers in OAuth terms (oauth.ts); the rest is a UI this is not.
      return room?.endpoint === 'token' ? room : { endpoint: 'other', path: /^/, handle: lost }
    case 'moved':
      return { endpoint: room?.endpoint ?? 'other', path: /^/, handle: moved }
    case 'front':
      return { endpoint: 'other', path: /^/, handle: front }
    case 'nowhere':
      return { endpoint: 'other', path: /^/, handle: nowhere }
  }
}

const lost = () => html(404, edgePage('Page not found', 'There is nothing at this address.'))
const nowhere = () => html(420, edgePage('Setting things up', 'No org is reachable at this host.'))

/** A My Domain the org has left (fact sheet §3.8). */
function moved(_world: World, call: Call): Reply {
  const { site } = call.address
  if (site.kind !== 'moved' || site.answer === 'gone') return nowhere()
  const search = call.query.size > 0 ? `?${call.query}` : ''
  const location = `${baseOf(call.address, site.org)}${call.path}${search}`
  return { ...html(301, edgePage('Moved', 'This My Domain was renamed.')), headers: { location } }
}

function front(world: World, call: Call): Reply {
  if (call.path !== '/') return lost()
  const { authority } = call.address
  const port = /:\d+$/.exec(authority)?.[0] ?? ''
  const hosts = (['login', 'test', ...world.orgs] as const).map(of => ({
    name: baseOf({ form: 'name', authority: `localhost${port}` }, of),
    path: baseOf({ form: 'path', authority }, of),
  }))
  return html(200, frontPage({ hosts, apps: world.apps, users: world.users }))
}

// ── One request ─────────────────────────────────────────────────────────────────────────────────────────────────

const TOKEN_PARAMETERS = ['oauth_token', 'access_token', 'token']

function record(world: World, call: Call, endpoint: Endpoint, grantType: string | null): RequestEntry {
  count(world.counters.requests, endpoint)
  if (grantType !== null) count(world.counters.grants, grantType)
  const search = new URLSearchParams(call.query)
  for (const name of TOKEN_PARAMETERS) if (search.has(name)) search.set(name, '***')
  const headers = Object.fromEntries(Object.entries(call.headers).map(([name, value]) => [name, String(value)]))
  if (headers.authorization) headers.authorization = headers.authorization.replace(/^(\S+) .*?(.{0,6})$/, '$1 …$2')
  if (headers.cookie) headers.cookie = '***'
  const entry: RequestEntry = {
    at: new Date().toISOString(),
    method: call.method,
    host: call.address.authority,
    form: call.address.form,
    path: call.path,
    search: search.size > 0 ? `?${search}` : '',
    endpoint,
    ...(grantType === null ? {} : { grantType }),
    headers,
    status: 0,
  }
  world.requests.push(entry)
  if (world.requests.length > 1000) world.requests.shift()
  return entry
}

async function answer(
  world: World,
  faults: ReturnType<typeof noFaults>,
  control: Control,
  request: IncomingMessage,
  response: ServerResponse,
) {
  const send = async (reply: Reply) => write(response, await render(reply, request), request.method === 'HEAD')
  // "URI > 16,384 bytes" (fact sheet §6.2).
  const target = request.url ?? '/'
  if (target.length > 16_384) return send(restError(414, 'URI_TOO_LONG', 'The URI exceeds 16384 bytes'))
  const authority = request.headers.host ?? ''
  if (!/^[A-Za-z0-9.:[\]-]+$/.test(authority) || !target.startsWith('/'))
    return send(html(400, edgePage('Bad request', 'No host.')))
  const query = target.indexOf('?')
  const rawPath = query < 0 ? target : target.slice(0, query)
  const { address, path } = viaToken(world, locate(world, authority, rawPath), request.headers.authorization)

  let body: Buffer
  try {
    body = await readBody(request)
  } catch (error) {
    if (error instanceof TooLarge) {
      response.setHeader('connection', 'close')
      return send(restError(413, 'REQUEST_TOO_LARGE', 'The request body is too large'))
    }
    if (error instanceof BadEncoding) return send(restError(400, 'INVALID_CONTENT_ENCODING', 'The body is not gzip'))
    throw error
  }
  const call: Call = {
    method: request.method ?? 'GET',
    address,
    path,
    query: new URLSearchParams(query < 0 ? '' : target.slice(query + 1)),
    headers: request.headers,
    body,
    remote: request.socket.remoteAddress ?? '',
  }
  if (rawPath.startsWith('/__admin/')) {
    return send(await admin(control, { ...call, path: rawPath }, request.socket.remoteAddress))
  }

  const room = roomFor(call)
  const grantType = room.endpoint === 'token' ? (formOf(call).get('grant_type') ?? '') : null
  const entry = record(world, call, room.endpoint, grantType)
  const incident = takeFaults(faults, { endpoint: room.endpoint, grantType, path, org: orgKeyOf(address) })
  const { decisive } = incident

  if (incident.delayBefore > 0) await sleep(incident.delayBefore, undefined, { ref: false })
  let reply: Reply
  if (decisive?.when === 'before') {
    // Nothing is processed: a dropped request never reached Salesforce, a failed one was turned away at the door.
    const { refuse } = decisive
    reply = refuse
      ? refusal(call, refuse.error, refuse.description, refuse.onPage)
      : (decisive.reply ?? { status: 200 })
  } else {
    reply = await room.handle(world, call)
    if (decisive?.kind === 'fail' && decisive.reply) reply = decisive.reply
  }
  if (incident.delayAfter > 0) await sleep(incident.delayAfter, undefined, { ref: false })

  if (decisive?.kind === 'drop') {
    if (!decisive.midway) return void request.socket.destroy()
    const { status, headers, body: bytes } = await render(reply, request)
    response.writeHead(status, headers)
    response.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => request.socket.destroy())
    return
  }
  entry.status = reply.status
  await send(reply)
}

/**
 * `/services/…` without an org before it means the org of the token: jsforce's Bulk API drops the path of its instance URL.
 */
function viaToken(world: World, located: ReturnType<typeof locate>, authorization = ''): ReturnType<typeof locate> {
  if (located.address.site.kind !== 'front' || !located.path.startsWith('/services/')) return located
  const session = world.sessions.get(/^\S+ +(\S+)$/.exec(authorization)?.[1] ?? '')
  if (!session) return located
  return { ...located, address: { ...located.address, site: { kind: 'org', org: orgOf(world, session) } } }
}

const orgKeyOf = ({ site }: Address): string | null => ('org' in site ? site.org.key : null)

// ── Start and stop ──────────────────────────────────────────────────────────────────────────────────────────────

export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const world = emptyWorld({})
  const faults = noFaults()
  const rebuild = () => {
    const settings = {
      ...options.settings,
      ...(options.autoApprove === undefined ? {} : { autoApprove: options.autoApprove }),
    }
    const fresh = emptyWorld(settings)
    seed(fresh, options)
    Object.assign(world, fresh)
    faults.queue = []
  }
  rebuild()

  const host = options.host ?? '127.0.0.1'
  let port = 0
  const authority = () => `${host.includes(':') ? `[${host}]` : host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`
  const control = makeControl(world, faults, rebuild, authority)

  const server = createServer({ maxHeaderSize: 65_536 }, (request, response) => {
    answer(world, faults, control, request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return void response.destroy()
      // A peer that hangs up mid-body ends here too; there is nobody to tell.
      if (request.destroyed && !request.complete) return
      process.stderr.write(`simulator: ${error instanceof Error ? error.stack : String(error)}\n`)
      response.writeHead(500, { 'content-type': 'application/json;charset=UTF-8' })
      response.end('[{"errorCode":"UNKNOWN_EXCEPTION","message":"An unexpected error occurred in the simulator"}]')
    })
  })
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')
    else socket.destroy()
  })
  port = await listen(server, host, options.port ?? 0, options.morePorts ?? 0)

  return {
    port,
    url: `http://${authority()}`,
    base: (of, form = 'path') => {
      const target = of === 'login' || of === 'test' ? of : findOrg(world, of)
      if (!target) throw new BadInput(`unknown org ${of}`)
      return baseOf({ form, authority: authority() }, target)
    },
    app: org => {
      const app = world.apps.find(a => a.org === findOrg(world, org)?.key)
      if (!app) throw new BadInput(`org ${org} has no app`)
      return app
    },
    control,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function listen(server: Server, host: string, first: number, more: number): Promise<number> {
  for (let port = first; ; port++) {
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(port, host, () => {
          server.off('error', reject)
          resolve()
        })
      })
      const address = server.address()
      return typeof address === 'object' && address ? address.port : port
    } catch (error) {
      const busy = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'
      if (!busy || port >= first + more) throw error
    }
  }
}
