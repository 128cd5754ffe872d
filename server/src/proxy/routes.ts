/**
 * The proxy: a customer's API as if it were yours. This room owns ALL /proxy/* (the connection named by headers) and
 * ALL /via/:provider_config_key/:connection_id/* (named by the path, so that a vendor's own SDK needs only a base URL and our key).
 * It stands before the API's router on the raw request, because a body must go through untouched and a call must stay cheap:
 * key → caller → connection → token → target → stream out, stream back. In the steady state no SQL, no lock, no extra call.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Transform } from 'node:stream'
import { bearerToken, type Callers, requireScope } from '../account/caller.ts'
import type { Asked } from '../account/operator/session.ts'
import type { Activity, Call as Recorded } from '../activity/activity.ts'
import { type Connections, type Live, requireConfirmed } from '../connection/live.ts'
import type { Credentials } from '../credential/fresh.ts'
import type { Credential } from '../credential/store.ts'
import { Failure } from '../errors.ts'
import { asFailure, sendFailure } from '../http/api.ts'
import { type Cache, createCache } from '../lib/cache.ts'
import type { Log } from '../lib/log.ts'
import { minutes } from '../lib/time.ts'
import { standingHeaders } from '../limit/limits.ts'
import { brokeInReuse } from '../net/answers.ts'
import type { Clock, Egress } from '../seams.ts'
import { mayMeanExpired, meansExpired } from './expiry.ts'
import { type Ask, type Downstream, downstream, forward, type Held, sendHeld } from './forward.ts'
import { describing, type Head, headerOf, headOf, upstreamHeaders, withAddresses } from './headers.ts'
import { createLanes, type Lane, type Lanes } from './lanes.ts'
import type { Limits } from './limits.ts'
import { bodyWithMembers, takesMembers } from './members.ts'
import { arrived, begun, capture, ended, identified, located, secretsOf, sending, up } from './record.ts'
import { type RetryRules, retryRules, waitBefore } from './retry.ts'
import { mounted, redirected, type Target, targetOf } from './target.ts'

interface Given {
  callers: Callers
  connections: Connections
  credentials: Credentials
  egress: Egress
  activity: Activity
  clock: Clock
  log: Log
  limits: Limits
  /** FAIRLEAD_URL. */
  url: string
}

interface Deps extends Given {
  lanes: Lanes
}

/** Bodies up to this size are kept until the answer is in, so that a call whose token had ended can be sent again. */
const maxReplay = 64 * 1024

/** As the configuration demands of a pinned key; a generated one, a UUID, is longer. */
const shortestKey = 32

export const isProxied = (url: string): boolean => url.startsWith('/proxy/') || url.startsWith('/via/')

export function createProxy(
  given: Given,
): (req: IncomingMessage, res: ServerResponse, requestId: string) => Promise<void> {
  const deps = { ...given, lanes: createLanes(given.clock) }
  const repeated = createCache<true>({ max: 1_000, maxAgeMs: minutes(60) })
  // Awaits what is a promise and nothing else: each `await` of a value already here would cost a turn of the microtask queue.
  return async (req, res, requestId) => {
    const recorded = arrived(req, deps.clock.now(), requestId)
    let lane: Lane | undefined
    try {
      const head = headOf(req.rawHeaders)
      const method = req.method ?? 'GET'
      if (method === 'TRACE' || wantsUpgrade(head)) throw new Failure('proxy_method_refused')
      const asked = { method, header: (name: string) => headerOf(head, name) }
      const named = req.url!.startsWith('/proxy/')
        ? namedByHeaders(req.url!, head, asked, deps.callers)
        : namedByPath(req.url!, head)

      const asking = named.isOperator ? deps.callers.operators.caller(asked) : deps.callers.byKey(named.key, req)
      const caller = asking instanceof Promise ? await asking : asking
      identified(recorded, caller, named)
      if (caller.kind === 'key') {
        const standing = deps.callers.count(caller)
        if (standing) for (const [name, value] of Object.entries(standingHeaders(standing))) res.setHeader(name, value)
      }
      requireScope(caller, ['environment:proxy'])

      const { integrationKey, connectionId } = named
      const { id } = caller.environment
      const finding = deps.connections.live(id, integrationKey, connectionId, 'unknown_connection', 404)
      const found = finding instanceof Promise ? await finding : finding
      located(recorded, found)
      requireConfirmed(found)
      const credential = deps.credentials.isFresh(found.credential)
        ? found.credential
        : await deps.credentials.fresh(found.holder, found.credential)
      recorded.refreshed = credential !== found.credential
      const live = credential === found.credential ? found : { ...found, credential }
      const target = targetOf(live, named)
      if (live.integration.captureBodies) capture(deps, recorded, head, named.key, live)
      const rules = retryRules(live.provider, method, head)
      deps.limits.check(live, target.path, isBackground(head))
      lane = deps.lanes.enter(target.origin)
      const isRemade = takesMembers(live, method, head)
      const reading = isRemade ? bodyWithMembers(live, req, recorded) : bodyOf(req, head, recorded)
      const body = reading instanceof Promise ? await reading : reading
      const down = downstream(res)
      await answered(deps, { head, method, named, live, target, body, isRemade, rules, lane, down, recorded })
    } catch (error) {
      if (!isGone(req, res)) refuse(res, asFailure(error, deps.log, requestId), recorded)
    } finally {
      lane?.leave()
      if (recorded.repeatsToken) sayRepeated(deps.log, repeated, recorded)
      if (recorded.environmentId !== 0) deps.activity.record(ended(recorded, req, res, deps.clock.now()))
      // An answer that came before the whole body: what is left is read and thrown away. Closing instead would reset the connection
      // under a caller that is still writing, and the answer would be lost with it (RFC 9112 §9.6).
      if (!req.complete) req.unpipe().resume()
    }
  }
}

/**
 * The caller hung up: nobody is there to be answered, and nothing of ours has failed. Node calls a request without a body destroyed from its
 * beginning (`optimizeEmptyRequests`); only one that broke off has an error.
 */
const isGone = (req: IncomingMessage, res: ServerResponse): boolean => res.destroyed || req.errored !== null

/** Every call counts in the metrics and its record; the log says it once an hour, for a provider that does this does it every time. */
function sayRepeated(log: Log, said: Cache<true>, { environmentId, integration, host }: Recorded): void {
  const name = `${environmentId} ${integration}`
  if (said.get(name)) return
  said.set(name, true)
  log.warn({ integration, host }, 'a provider repeated the access token it was sent')
}

function refuse(res: ServerResponse, failure: Failure, call: Recorded): void {
  call.outcome = res.headersSent ? 'cut' : 'refused'
  call.error = failure.code
  if (res.headersSent) return void res.destroy()
  call.status = failure.status
  sendFailure(res, failure, call.requestId)
}

interface Call {
  head: Head
  method: string
  named: Named
  live: Live
  target: Target
  body: Ask['body']
  /** The body is not the caller's, word for word. */
  isRemade: boolean
  rules: RetryRules
  lane: Lane
  down: Downstream
  recorded: Recorded
}

/** One attempt after the other until one of them is the answer. Nearly every call needs one. */
async function answered(deps: Deps, first: Call): Promise<void> {
  const { body, rules, lane, recorded } = first
  const { res } = first.down
  let call = first
  let hops = 0
  const isKept = body === null || Buffer.isBuffer(body)
  let { live, target } = call
  let isRenewed = false
  let retries = 0
  // A connection kept open may have been closed at its other end in the moment it was used again: once, that is no failure.
  let mayForgive = isKept && rules.repeatable
  for (;;) {
    const mayRetry = isKept && retries < rules.max
    const outcome = await attempt(deps, call, live, target, mayRetry)
    if (outcome instanceof Failure) {
      if (outcome.code !== 'egress_refused' && !res.destroyed) lane.failed()
      if (mayForgive && outcome.code === 'upstream_failed' && brokeInReuse(outcome.cause)) {
        mayForgive = false
        continue
      }
    } else if (outcome && meansExpired(live, outcome)) {
      if (isRenewed) deps.credentials.distrust(live.credential)
      const credential = isRenewed ? undefined : await renewed(deps, live, isKept)
      if (!credential) return sendHeld(outcome, res, recorded)
      isRenewed = true
      recorded.refreshed = true
      recorded.bodies?.secrets.push(...secretsOf(credential))
      live = { ...live, credential }
      // A new instance_url moves the call with it.
      if (hops === 0) target = targetOf(live, call.named)
      continue
    } else {
      const next = outcome && hops < mostHops ? hop(live, call, target, outcome) : undefined
      if (next) {
        hops++
        call = next
        target = next.target
        continue
      }
      deps.credentials.works(live.credential)
      if (!outcome) return
    }

    const wait =
      mayRetry && rules.worth(outcome) ? waitBefore(retries + 1, live.provider, outcome, deps.clock.wall()) : undefined
    if (wait === undefined || !lane.mayRepeat()) {
      if (outcome instanceof Failure) throw outcome
      return sendHeld(outcome, res, recorded)
    }
    retries++
    recorded.retries = retries
    await deps.clock.sleep(wait)
    if (res.destroyed) return
  }
}

/** Undefined: the answer went through. A short answer that may not be the last word is handed back, and so is the failure to get one. */
function attempt(
  { egress, limits, clock, url }: Deps,
  { head, method, named, target: first, body, isRemade, rules, lane, down, recorded }: Call,
  live: Live,
  target: Target,
  mayRetry: boolean,
): Promise<Held | Failure | undefined> {
  const wanted = wantedOf(named, live)
  const call = () => ({ method, ...target, form: formOf(head, body) })
  const sent = upstreamHeaders(live, head, named.key, call)
  const headers = isRemade ? describing(sent, body as Buffer | null) : sent
  const rewrite = wanted.follow ? undefined : rewriting(url, head, named, first)
  const token = live.credential.accessToken
  const ask = { method, target, headers, body, token, rewrite, decompress: wanted.decompress }
  sending(recorded, target, clock.now())
  return forward(egress, ask, down, recorded, (status, answer) => {
    lane.answered()
    begun(recorded, status, answer, clock.now())
    limits.learn(live, target.path, status, answer)
    return mayMeanExpired(live, status) || (mayRetry && rules.status(status)) || (wanted.follow && isRedirect(status))
  })
}

/** What a signature covers of the body: a form that was read whole (RFC 5849 §3.4.1.3.1). */
const formOf = (head: Head, body: Ask['body']): string | undefined =>
  Buffer.isBuffer(body) && headerOf(head, 'content-type')?.startsWith('application/x-www-form-urlencoded')
    ? body.toString('utf8')
    : undefined

/** What is done to the answer: by path nothing, an SDK does it itself; by headers what the caller says, else the provider's definition. */
const wantedOf = (named: Named, { provider: { proxy } }: Live) => ({
  decompress: named.decompress ?? (named.via === undefined && proxy?.decompress === true),
  follow: named.follow ?? (named.via === undefined && proxy?.forward_headers_on_redirect === true),
})

const isRedirect = (status: number): boolean => /^30[12378]$/.test(String(status))

/** As the wire contract's clients are used to. */
const mostHops = 5

/** The call a redirect asks for; undefined where it is the caller's to follow. The method changes as every client does it (Fetch §4.4). */
function hop(live: Live, call: Call, from: Target, { status, headers }: Held): Call | undefined {
  if (!isRedirect(status) || !wantedOf(call.named, live).follow) return undefined
  const target = redirected(live, from, headers.location)
  if (!target) return undefined
  const isGet = status === 303 ? call.method !== 'HEAD' : status < 303 && call.method === 'POST'
  if (isGet) return { ...call, target, method: 'GET', body: null, isRemade: true }
  // What was written for one host is not repeated to another, and a stream is gone.
  const { body } = call
  if (body !== null && (target.origin !== from.origin || !Buffer.isBuffer(body))) return undefined
  return { ...call, target }
}

/**
 * A vendor's SDK follows the addresses of `Link` and `Location` as they are, and takes our key along to wherever they lead: by path they
 * lead back here. By headers only a redirect does, for clients that follow it. Behind TLS only FAIRLEAD_URL is known to be reached by TLS;
 * without it, the caller's own way is.
 */
function rewriting(url: string, head: Head, { via }: Named, base: Target): Ask['rewrite'] {
  return (headers, status) => {
    if (via === undefined && !isRedirect(status)) return headers
    const host = headerOf(head, 'host')
    const origin = host && url.startsWith('http:') ? `http://${host}` : new URL(url).origin
    return withAddresses(headers, address => mounted(base, { origin, path: via ?? '/proxy' }, address))
  }
}

/**
 * A newer credential for the next attempt. The refresh is worth its while even when this call cannot be sent again: the next one will
 * work. Then nobody waits for it.
 */
async function renewed(
  { credentials, log }: Deps,
  { holder, credential }: Live,
  isKept: boolean,
): Promise<Credential | undefined> {
  const renewal = credentials.renewed(holder, credential, { blind: !isKept }).catch((error: unknown) => {
    log.warn({ credential: credential.id, reason: String(error) }, 'could not renew an ended token')
    return undefined
  })
  return isKept ? renewal : undefined
}

function isBackground(head: Head): boolean {
  const priority = headerOf(head, 'fairlead-priority')
  if (priority !== undefined && priority !== 'background' && priority !== 'interactive')
    throw new Failure('invalid_headers', {
      issues: [{ code: 'custom', message: 'Must be "interactive" or "background".', path: ['fairlead-priority'] }],
    })
  return priority === 'background'
}

/** Only clear-text HTTP/2 may be ignored (RFC 9110 §7.8): Java's client offers it with every first request and expects no answer. */
const wantsUpgrade = (head: Head): boolean => {
  const upgrade = headerOf(head, 'upgrade')
  return upgrade !== undefined && upgrade.toLowerCase() !== 'h2c'
}

interface Named {
  /** Stays here, whatever header holds it. */
  key: string
  /** `key` is an operator's session. */
  isOperator?: boolean
  integrationKey: string
  connectionId: string
  /** Path and query for the provider, verbatim. */
  rest: string
  /** Named by path: `/via/<key>/<id>` as it was written. */
  via?: string
  /** The wire contract's Base-Url-Override, Decompress and Forward-Headers-On-Redirect. */
  override?: string | undefined
  decompress?: boolean | undefined
  follow?: boolean | undefined
}

/** An operator in the dashboard sends no key: the cookie, and the header that no other site's page can send along. */
function namedByHeaders(url: string, head: Head, asked: Asked, { operators }: Callers): Named {
  const authorization = headerOf(head, 'authorization')
  const session = authorization === undefined ? operators.tokenOf(asked) : undefined
  const key = session ?? bearerToken(authorization)
  const integrationKey = headerOf(head, 'provider-config-key')
  const connectionId = headerOf(head, 'connection-id')
  if (!integrationKey || !connectionId) {
    const missing = [...(integrationKey ? [] : ['provider-config-key']), ...(connectionId ? [] : ['connection-id'])]
    throw new Failure('invalid_headers', {
      message: `Name the connection with the headers Provider-Config-Key and Connection-Id.`,
      issues: missing.map(name => ({ code: 'invalid_type', message: 'Required', path: [name] })),
    })
  }
  return {
    key,
    isOperator: session !== undefined,
    integrationKey,
    connectionId,
    rest: url.slice('/proxy/'.length),
    // Clients of the wire contract send every header they know, most of them empty.
    override: headerOf(head, 'base-url-override') || undefined,
    decompress: flag(head, 'decompress'),
    follow: flag(head, 'forward-headers-on-redirect'),
  }
}

function flag(head: Head, name: string): boolean | undefined {
  const value = headerOf(head, name)
  if (value === undefined || value === '') return undefined
  if (value !== 'true' && value !== 'false')
    throw new Failure('invalid_headers', {
      issues: [{ code: 'custom', message: 'Must be "true" or "false".', path: [name] }],
    })
  return value === 'true'
}

/**
 * A base URL with a slash at its end, as jsforce needs for bulk queries, becomes two when an SDK joins it with a path: they are one, as they are
 * behind any server that merges them.
 */
function namedByPath(url: string, head: Head): Named {
  const [, via, integrationKey, connectionId, rest] =
    /^(\/via\/([^/?]+)\/([^/?]+))(?:\/\/?|(?=\?)|$)(.*)$/s.exec(url) ?? []
  if (!integrationKey || !connectionId)
    throw new Failure('invalid_uri_params', {
      message: 'The path reads /via/<provider_config_key>/<connection_id>/<path>.',
    })
  return {
    key: vendorKey(head),
    integrationKey: decoded(integrationKey),
    connectionId: decoded(connectionId),
    rest: rest ?? '',
    via: via!,
  }
}

function decoded(segment: string): string {
  try {
    const text = decodeURIComponent(segment)
    if (!/\p{Cc}/u.test(text)) return text
  } catch {}
  throw new Failure('invalid_uri_params')
}

/**
 * Our key wherever a vendor's SDK puts its secret: behind Bearer or the vendor's own word for it (Octokit: `token`), alone, in Basic (as
 * user or as password), in x-api-key.
 */
function vendorKey(head: Head): string {
  const apiKey = headerOf(head, 'x-api-key')
  const header = headerOf(head, 'authorization')
  if (!header && apiKey) return apiKey
  const basic = /^basic +([A-Za-z0-9+/=]+)$/i.exec(header ?? '')?.[1]
  if (!basic) return /^(?:[a-z][\w-]* +(?:token=)?)?([^\s,"]+)$/i.exec(header ?? '')?.[1] ?? bearerToken(header)
  const [user, ...password] = Buffer.from(basic, 'base64').toString('utf8').split(':')
  // SDKs leave the password empty or fill it with a word such as "x" when the user is the key; no key is that short.
  const secret = password.join(':')
  return secret.length >= shortestKey ? secret : (user ?? '')
}

/** Small bodies of known length are read first, so that they can be sent again; every other streams through. */
function bodyOf(req: IncomingMessage, head: Head, recorded: Recorded): Ask['body'] | Promise<Buffer> {
  const length = Number(headerOf(head, 'content-length') ?? 0)
  if (headerOf(head, 'transfer-encoding') !== undefined || length > maxReplay) return apart(req, recorded)
  return length === 0 ? null : wholeOf(req, recorded)
}

async function wholeOf(req: IncomingMessage, recorded: Recorded): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of req) pieces.push(piece)
  const body = Buffer.concat(pieces)
  up(recorded, body)
  return body
}

/** undici destroys what it was sending when the answer comes first. That must not be the connection the caller awaits the answer on. */
function apart(req: IncomingMessage, recorded: Recorded): Transform {
  const body = new Transform({
    transform(piece: Buffer, _encoding, done) {
      up(recorded, piece)
      done(null, piece)
    },
  })
  req.once('error', error => body.destroy(error))
  return req.pipe(body)
}
