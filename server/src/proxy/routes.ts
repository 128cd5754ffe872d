/**
 * The proxy: a customer's API as if it were yours. This room owns ALL /proxy/* (the connection named by headers) and
 * ALL /via/:provider_config_key/:connection_id/* (named by the path, so that a vendor's own SDK needs only a base URL and our key).
 * It stands before the API's router on the raw request, because a body must go through untouched and a call must stay cheap:
 * key → caller → connection → token → target → stream out, stream back. In the steady state no SQL, no lock, no extra call.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { bearerToken, type Callers, hasScope, type KeyCaller } from '../account/caller.ts'
import type { Connections, Live } from '../connection/live.ts'
import type { Credentials } from '../credential/fresh.ts'
import { Failure } from '../errors.ts'
import { asFailure, envelope, errorHeader } from '../http/api.ts'
import type { Log } from '../lib/log.ts'
import type { Egress } from '../seams.ts'
import { type Ask, forward, type Held, sendHeld } from './forward.ts'
import { refuseConflicts, upstreamHeaders } from './headers.ts'
import { targetOf } from './target.ts'

interface Deps {
  callers: Callers
  connections: Connections
  credentials: Credentials
  egress: Egress
  log: Log
}

/** Bodies up to this size are kept until the answer is in, so that a call whose token had ended can be sent again. */
const maxReplay = 64 * 1024

export const isProxied = (url: string): boolean => url.startsWith('/proxy/') || url.startsWith('/via/')

export function createProxy(deps: Deps): (req: IncomingMessage, res: ServerResponse) => Promise<void> {
  return async (req, res) => {
    try {
      await proxied(deps, req, res)
    } catch (error) {
      const failure = asFailure(error, deps.log)
      if (res.headersSent) return void res.destroy()
      const body = JSON.stringify(envelope(failure))
      res.writeHead(failure.status, {
        ...failure.headers,
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
        [errorHeader]: failure.code,
        // What is left of an unread body would be taken for the next request.
        ...(!req.complete && { Connection: 'close' }),
      })
      res.end(body)
    }
  }
}

async function proxied(deps: Deps, req: IncomingMessage, res: ServerResponse): Promise<void> {
  refuseConflicts(req.rawHeaders)
  const method = req.method ?? 'GET'
  if (method === 'CONNECT' || method === 'TRACE' || req.headers.upgrade !== undefined)
    throw new Failure('proxy_method_refused')
  const named = req.url!.startsWith('/proxy/') ? namedByHeaders(req) : namedByPath(req)

  const caller = await deps.callers.byKey(named.key)
  if (!hasScope(caller, 'environment:proxy'))
    throw new Failure('forbidden', { message: 'This API key needs the scope environment:proxy.' })

  const live = await freshLive(deps, caller, named)
  const target = targetOf(live, named.rest)
  const body = await bodyOf(req)
  const ask = (by: Live): Ask => ({ method, target, headers: upstreamHeaders(by, req.rawHeaders, req.headers), body })

  const mayMeanExpired = (status: number) => expiryRules(live).some(rule => rule.status === status)
  const first = await forward(deps.egress, ask(live), res, mayMeanExpired)
  if (!first) return
  if (!meansExpired(live, first)) return sendHeld(first, res)

  // The refresh is worth its while even when this call cannot be sent again: the next one will work.
  const renewal = deps.credentials.renewed(live.holder, live.credential)
  if (body !== null && !Buffer.isBuffer(body)) {
    renewal.catch(() => {})
    return sendHeld(first, res)
  }
  const credential = await renewal.catch(() => undefined)
  if (!credential) return sendHeld(first, res)
  const newer = { ...live, credential }
  // A new instance_url moves the call with it.
  const second = await forward(deps.egress, { ...ask(newer), target: targetOf(newer, named.rest) }, res, mayMeanExpired)
  if (!second) return
  if (meansExpired(newer, second)) deps.credentials.distrust(credential)
  sendHeld(second, res)
}

interface Named {
  key: string
  integrationKey: string
  connectionId: string
  /** Path and query for the provider, verbatim. */
  rest: string
}

function namedByHeaders(req: IncomingMessage): Named {
  const key = bearerToken(req.headers.authorization)
  const integrationKey = req.headers['provider-config-key']
  const connectionId = req.headers['connection-id']
  const missing = [...(integrationKey ? [] : ['provider-config-key']), ...(connectionId ? [] : ['connection-id'])]
  if (typeof integrationKey !== 'string' || typeof connectionId !== 'string' || missing.length > 0)
    throw new Failure('invalid_headers', {
      message: `Name the connection with the headers Provider-Config-Key and Connection-Id.`,
      issues: missing.map(name => ({ code: 'invalid_type', message: 'Required', path: [name] })),
    })
  if (req.headers['base-url-override']) throw new Failure('base_url_override_disabled')
  return { key, integrationKey, connectionId, rest: req.url!.slice('/proxy/'.length) }
}

function namedByPath(req: IncomingMessage): Named {
  const [, integrationKey, connectionId, rest] = /^\/via\/([^/?]+)\/([^/?]+)(?:\/|(?=\?)|$)(.*)$/s.exec(req.url!) ?? []
  if (!integrationKey || !connectionId)
    throw new Failure('invalid_uri_params', {
      message: 'The path reads /via/<provider_config_key>/<connection_id>/<path>.',
    })
  try {
    return {
      key: vendorKey(req),
      integrationKey: decodeURIComponent(integrationKey),
      connectionId: decodeURIComponent(connectionId),
      rest: rest ?? '',
    }
  } catch (error) {
    throw error instanceof URIError ? new Failure('invalid_uri_params') : error
  }
}

/** Our key wherever a vendor's SDK puts its secret: Bearer, Basic (as user or as password), x-api-key. */
function vendorKey(req: IncomingMessage): string {
  const apiKey = req.headers['x-api-key']
  const header = req.headers.authorization
  if (!header && typeof apiKey === 'string' && apiKey) return apiKey
  const basic = /^basic +([A-Za-z0-9+/=]+)$/i.exec(header ?? '')?.[1]
  if (!basic) return bearerToken(header)
  const [user, ...password] = Buffer.from(basic, 'base64').toString('utf8').split(':')
  // The longer half: SDKs leave the other one empty or fill it with a word such as "x".
  const candidates = [user ?? '', password.join(':')].sort((a, b) => b.length - a.length)
  return candidates[0]!
}

async function freshLive(deps: Deps, caller: KeyCaller, { integrationKey, connectionId }: Named): Promise<Live> {
  const live = await deps.connections.live(caller.environment.id, integrationKey, connectionId, 'unknown_connection')
  const credential = await deps.credentials.fresh(live.holder, live.credential)
  return credential === live.credential ? live : { ...live, credential }
}

/** Small bodies of known length are read first, so that they can be sent again; every other streams through. */
async function bodyOf(req: IncomingMessage): Promise<Ask['body']> {
  const length = req.headers['content-length']
  if (req.headers['transfer-encoding'] !== undefined) return req
  if (length === undefined || Number(length) === 0) return null
  if (Number(length) > maxReplay) return req
  const pieces: Buffer[] = []
  for await (const piece of req) pieces.push(piece)
  return Buffer.concat(pieces)
}

const expiryRules = ({ provider }: Live) => provider.expired_token ?? [{ status: 401 }]

function meansExpired(live: Live, { status, body }: Held): boolean {
  const text = body.toString('utf8')
  return expiryRules(live).some(
    rule =>
      rule.status === status &&
      (rule.body_equals === undefined || text.trim() === rule.body_equals) &&
      !(rule.body_excludes ?? []).some(excluded => text.includes(excluded)),
  )
}
