/**
 * A provider of our own around a server under test: an authorization server that consents at once, and an upstream that keeps
 * what arrived byte by byte and answers whatever a test says.
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import type { Readable } from 'node:stream'
import { Browser, type Fairlead, startFairlead } from '../support/fairlead.ts'

export interface Arrived {
  method: string
  url: string
  /** Names in the case they came in. */
  rawHeaders: string[]
  headers: IncomingMessage['headers']
  body: Buffer
}

type Answerer = (req: IncomingMessage, res: ServerResponse, arrived: Arrived) => void

export interface Upstream {
  url: string
  port: number
  arrived: Arrived[]
  /** Answers every request whose body came in whole. */
  answer: Answerer
  /** When set, gets the request before its body is read. */
  early: ((req: IncomingMessage, res: ServerResponse) => void) | undefined
}

export interface Issuer {
  url: string
  /** What the next token response says of the account. */
  instanceUrl: string
  /** Refreshes asked for. */
  refreshes: number
  /** When set, the answer to a refresh. */
  refuse: { status: number; body: object } | undefined
  /** Held until this resolves. */
  wait: Promise<unknown> | undefined
}

export interface World {
  fairlead: Fairlead
  upstream: Upstream
  issuer: Issuer
  /** The definitions, for a server of a test's own. */
  providers: string
  /** A connection whose API is at `instanceUrl`. */
  connect(integration?: string, instanceUrl?: string): Promise<string>
}

type Test = { after(work: () => Promise<void>): void }

const ok: Answerer = (_req, res) => void res.end('ok')

export async function startUpstream(t: Test): Promise<Upstream> {
  const server = createServer({ maxHeaderSize: 65_536 }, async (req, res) => {
    if (upstream.early) return upstream.early(req, res)
    const pieces: Buffer[] = []
    try {
      for await (const piece of req) pieces.push(piece)
    } catch {
      return
    }
    const { method = '', url = '', rawHeaders, headers } = req
    const arrived = { method, url, rawHeaders, headers, body: Buffer.concat(pieces) }
    upstream.arrived.push(arrived)
    upstream.answer(req, res, arrived)
  })
  const port = await listening(server)
  t.after(async () => {
    server.closeAllConnections()
    server.close()
  })
  const upstream: Upstream = { url: `http://127.0.0.1:${port}`, port, arrived: [], answer: ok, early: undefined }
  return upstream
}

export async function startIssuer(t: Test): Promise<Issuer> {
  const server = createServer(async (req, res) => {
    const url = new URL(req.url!, 'http://issuer')
    if (url.pathname === '/authorize') {
      const back = new URL(url.searchParams.get('redirect_uri')!)
      back.searchParams.set('code', 'code')
      back.searchParams.set('state', url.searchParams.get('state')!)
      return void res.writeHead(302, { location: back.href }).end()
    }
    let body = ''
    for await (const piece of req) body += piece
    const isRefresh = new URLSearchParams(body).get('grant_type') === 'refresh_token'
    if (isRefresh) issuer.refreshes++
    if (isRefresh) await issuer.wait
    const refused = isRefresh ? issuer.refuse : undefined
    res.writeHead(refused?.status ?? 200, { 'content-type': 'application/json' })
    res.end(
      JSON.stringify(
        refused?.body ?? {
          access_token: `token-${issuer.refreshes}`,
          refresh_token: `refresh-${serial++}`,
          token_type: 'Bearer',
          instance_url: issuer.instanceUrl,
        },
      ),
    )
  })
  const port = await listening(server)
  t.after(async () => {
    server.closeAllConnections()
    server.close()
  })
  let serial = 0
  const url = `http://127.0.0.1:${port}`
  const issuer: Issuer = { url, instanceUrl: '', refreshes: 0, refuse: undefined, wait: undefined }
  return issuer
}

/** `own`, and `own-extra`, whose definition adds headers and a query of its own. */
const providers = (issuer: string) => `
own:
  display_name: Own
  auth_mode: OAUTH2
  authorization_url: ${issuer}/authorize
  token_url: ${issuer}/token
  allowed_hosts: ['127.0.0.1']
  token_response_metadata: [instance_url]
  expired_token:
    - status: 401
      body_excludes: [not about the token]
    - status: 403
      body_equals: Bad_OAuth_Token
  proxy:
    base_url: \${connectionConfig.instance_url}
own-extra:
  alias: own
  proxy:
    base_url: \${connectionConfig.instance_url}
    headers:
      X-Set: by provider
      X-Where: \${connectionConfig.instance_url}
      X-Unknown: \${connectionConfig.nothing}
    query:
      api-version: '7 & 8'
`

/** `more`: definitions of a test's own, added to ours. */
export async function startWorld(
  t: Test,
  more = '',
  env: Record<string, string> = {},
  options: { replicas?: 1 } = {},
): Promise<World> {
  const issuer = await startIssuer(t)
  const upstream = await startUpstream(t)
  const definitions = providers(issuer.url) + more
  const fairlead = await startFairlead(t, { providers: definitions, env, turns: 'by connection', ...options })
  for (const name of ['own', 'own-extra'])
    await fairlead.call('POST', '/integrations', {
      provider: name,
      unique_key: name,
      credentials: { type: 'OAUTH2', client_id: 'id', client_secret: 'secret' },
    })
  return {
    fairlead,
    upstream,
    issuer,
    providers: definitions,
    async connect(integration = 'own', instanceUrl = upstream.url) {
      issuer.instanceUrl = instanceUrl
      return connectThrough(fairlead, integration)
    },
  }
}

/** Signs in through the real flow; the provider consents by itself. Returns the connection id. */
export async function connectThrough(fairlead: Fairlead, integration: string): Promise<string> {
  const user = crypto.randomUUID()
  const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: user } })
  const start = `${fairlead.app.url}/oauth/connect/${integration}?connect_session_token=${session.json.data.token}`
  const page = await new Browser().follow(start)
  if (page.status !== 200) throw new Error(`the sign-in ended in ${page.status}: ${page.text}`)
  const { json } = await fairlead.call('GET', `/connections?endUserId=${user}`)
  return json.connections[0].connection_id
}

export interface Call {
  method?: string
  /** The request target, not touched. */
  path: string
  /** A list of pairs keeps order, case and repetition. */
  headers?: Record<string, string> | string[]
  body?: Buffer | string | Readable
}

export interface Got {
  status: number
  statusText: string
  headers: IncomingMessage['headers']
  rawHeaders: string[]
  body: Buffer
  text: string
  trailers: string[]
  /** The code of an error of Fairlead's own; undefined when the answer is the provider's. */
  // biome-ignore lint/suspicious/noExplicitAny: a test reads members of whatever came back
  json: any
  ours: string | undefined
}

/** One call on a connection of its own, without anything a friendlier client would add or take away. */
export function send(base: string, call: Call): Promise<Got> {
  return new Promise((resolve, reject) => {
    open(base, call)
      .on('error', reject)
      .on('response', res => {
        const pieces: Buffer[] = []
        res.on('data', piece => pieces.push(piece))
        res.on('error', reject)
        res.on('end', () => {
          const body = Buffer.concat(pieces)
          const text = body.toString()
          resolve({
            status: res.statusCode!,
            statusText: res.statusMessage!,
            headers: res.headers,
            rawHeaders: res.rawHeaders,
            body,
            text,
            trailers: res.rawTrailers,
            json: parsed(text),
            ours: res.headers['fairlead-error'] as string | undefined,
          })
        })
      })
  })
}

/** The request of `send`, for a test that watches it on its way. */
export function open(base: string, { method = 'GET', path, headers = {}, body }: Call) {
  const { hostname, port, host } = new URL(base)
  const listed = Array.isArray(headers) ? ['Host', host, ...headers] : headers
  const req = request({ hostname, port, method, path, headers: listed as never, agent: false })
  if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) req.end(body)
  else body.pipe(req)
  return req
}

/** Headers that name a connection, for /proxy. */
export const naming = (world: World, connectionId: string, integration = 'own') => ({
  Authorization: `Bearer ${world.fairlead.key}`,
  'Provider-Config-Key': integration,
  'Connection-Id': connectionId,
})

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Writes `bytes` as they are and returns everything that came back until the server closed the connection. */
export function raw(base: string, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(base).port), '127.0.0.1', () => socket.write(bytes))
    let text = ''
    socket.setEncoding('latin1').on('data', piece => {
      text += piece
    })
    socket.on('close', () => resolve(text)).on('error', error => (text ? resolve(text) : reject(error)))
  })
}

export async function listening(server: {
  listen(port: number, host: string, done: () => void): unknown
  address(): AddressInfo | string | null
}): Promise<number> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

/** All values of a header among raw pairs. */
export const values = (pairs: readonly string[], name: string): string[] =>
  pairs.filter((_, i) => i % 2 === 1 && pairs[i - 1]!.toLowerCase() === name.toLowerCase())
