// Driving the simulator: one table of commands, each a function of one object. Tests call them on `simulator.control`;
// everybody else as POST /__admin/<command> with a JSON object (GET also works for the ones that only read). They
// answer on loopback connections only, and never to a web page of another origin.

import type { Faults } from './faults.ts'
import {
  addDelay,
  addDrop,
  addFail,
  addRefuse,
  type DelayInput,
  type DropInput,
  type FailInput,
  type RefuseInput,
} from './faults.ts'
import type { Call, Reply } from './http.ts'
import { newClientSecret } from './ids.ts'
import { type OutboundInput, sendOutboundMessage } from './outbound.ts'
import {
  endGrant,
  givesRefreshToken,
  grantEnd,
  isAlive,
  openGrant,
  openSession,
  sessionEnd,
  tokenBody,
} from './tokens.ts'
import type { App, AppInput, Org, OrgInput, RequestEntry, Settings, User, UserInput, World } from './world.ts'
import {
  addApp,
  addOrg,
  addUser,
  BadInput,
  defined,
  findOrg,
  findUser,
  makeApp,
  newCounters,
  nextId,
  now,
  PLATFORM_CLI,
} from './world.ts'

/** Picks tokens; every given part must match. `token` is the exact token. */
export type TokenFilter = { org?: string; clientId?: string; username?: string; token?: string }
export type AppRef = { clientId: string; org?: string }

export type State = {
  now: string
  settings: Settings
  orgs: (Omit<Org, 'tables'> & { records: Record<string, number> })[]
  users: User[]
  apps: App[]
  grants: { id: string; org: string; username: string; clientId: string; refreshToken: string; ended: string | null }[]
  /** Live access tokens only. */
  sessions: { token: string; org: string; username: string; clientId: string; scopes: string[]; endsAt: string }[]
  faults: { id: number; kind: string; endpoint: string; left: number; when: string }[]
  counters: World['counters']
}

export type Control = ReturnType<typeof makeControl>

export function makeControl(world: World, faults: Faults, rebuild: () => void, authority: () => string) {
  const org = (key: string): Org => {
    const found = findOrg(world, key)
    if (!found) throw new BadInput(`unknown org ${key}`)
    return found
  }
  const user = (username: string): User => {
    const found = findUser(world, username)
    if (!found) throw new BadInput(`unknown user ${username}`)
    return found
  }
  const apps = (ref: AppRef): App[] => {
    const found = world.apps.filter(a => a.clientId === ref.clientId && (!ref.org || a.org === org(ref.org).key))
    if (found.length === 0) throw new BadInput('unknown app')
    return found
  }
  const matches = (filter: TokenFilter, token: string, of: { org: string; app: App; user: User }) =>
    (filter.token === undefined || filter.token === token) &&
    (filter.org === undefined || org(filter.org).key === of.org) &&
    (filter.clientId === undefined || filter.clientId === of.app.clientId) &&
    (filter.username === undefined || user(filter.username) === of.user)
  const killAll = (why: string, of: (owned: { app: App; user: User; org: string }) => boolean) => {
    for (const grant of world.grants) if (of(grant)) endGrant(world, grant, why)
    for (const session of world.sessions.values()) if (of(session)) session.ended ??= why
  }

  return {
    // Looking

    state: (): State => ({
      now: new Date(now(world)).toISOString(),
      settings: { ...world.settings },
      orgs: world.orgs.map(({ tables, ...rest }) => ({
        ...structuredClone(rest),
        records: Object.fromEntries([...tables].map(([name, rows]) => [name, rows.size])),
      })),
      users: structuredClone(world.users),
      apps: structuredClone(world.apps),
      grants: world.grants.map(g => ({
        id: g.id,
        org: g.org,
        username: g.user.username,
        clientId: g.app.clientId,
        refreshToken: g.refreshToken,
        ended: grantEnd(world, g),
      })),
      sessions: [...world.sessions.values()]
        .filter(s => isAlive(world, s))
        .map(s => ({
          token: s.token,
          org: s.org,
          username: s.user.username,
          clientId: s.app.clientId,
          scopes: s.scopes,
          endsAt: new Date(sessionEnd(s)).toISOString(),
        })),
      faults: faults.queue.map(({ id, kind, endpoint, left, when }) => ({ id, kind, endpoint, left, when })),
      counters: structuredClone(world.counters),
    }),
    counters: () => structuredClone(world.counters),
    /** The newest 1000 requests, oldest first. */
    requests: (): RequestEntry[] => structuredClone(world.requests),
    clearRequests: () => {
      world.requests = []
      world.counters = newCounters()
      return {}
    },

    // Tokens

    /**
     * A token response without a browser, as the code flow would have given it; URLs in path form. With the clientId PlatformCLI it
     * is what Salesforce's own CLI would hold, whatever apps the org has.
     */
    issueTokens: (input: { username: string; clientId?: string; scopes?: string[] }) => {
      const who = user(input.username)
      const app =
        input.clientId === PLATFORM_CLI
          ? makeApp(world, { org: who.org, name: 'Salesforce CLI', clientId: PLATFORM_CLI })
          : world.apps.find(a => a.org === who.org && (!input.clientId || a.clientId === input.clientId))
      if (!app) throw new BadInput('that user’s org has no such app')
      const scopes = input.scopes ?? app.scopes
      const grant = givesRefreshToken(scopes) ? openGrant(world, who, app, scopes) : null
      const session = openSession(world, who, app, scopes, grant)
      const address = {
        form: 'path' as const,
        authority: authority(),
        site: { kind: 'org' as const, org: org(who.org) },
      }
      return tokenBody(world, address, session, grant?.refreshToken ?? null)
    },
    /** Access tokens stop working now; refresh tokens are untouched. */
    expireAccessTokens: (filter: TokenFilter = {}) => {
      const hit = [...world.sessions.values()].filter(s => isAlive(world, s) && matches(filter, s.token, s))
      for (const session of hit) session.ended = 'expired by the admin API'
      return { count: hit.length }
    },
    /** Refresh tokens and their access tokens stop working, as when an admin revokes them in Setup. */
    revokeRefreshTokens: (filter: TokenFilter = {}) => {
      const hit = world.grants.filter(g => grantEnd(world, g) === null && matches(filter, g.refreshToken, g))
      for (const grant of hit) endGrant(world, grant, 'revoked by the admin API')
      return { count: hit.length }
    },

    // Orgs, apps, users

    addOrg: (input: OrgInput) => ({ id: addOrg(world, input).id }),
    addApp: (input: AppInput) => {
      const { clientId, clientSecret } = addApp(world, input)
      return { clientId, clientSecret }
    },
    addUser: (input: UserInput) => ({ id: addUser(world, input).id }),
    setApp: (input: AppRef & Partial<Omit<App, 'org' | 'clientId'>>) => {
      const { clientId, org: orgKey, ...change } = input
      for (const app of apps(orgKey === undefined ? { clientId } : { clientId, org: orgKey })) {
        assign(app, change, ['org', 'clientId'])
      }
      return {}
    },
    /** Applying rotated credentials revokes every token of the app, unless keepTokens (fact sheet §3.6). */
    rotateSecret: (input: AppRef & { clientSecret?: string; keepTokens?: boolean }) => {
      const clientSecret = input.clientSecret ?? newClientSecret()
      for (const app of apps(input)) {
        app.clientSecret = clientSecret
        if (!input.keepTokens) killAll('the app’s secret was rotated', owned => owned.app === app)
      }
      return { clientSecret }
    },
    /**
     * A new password ends all the user's tokens, deactivation the sessions (fact sheet §3.1). A deactivated user's
     * refresh tokens answer `inactive user` and work again after reactivation [R].
     */
    setUser: (input: { username: string } & Partial<Omit<User, 'id' | 'org' | 'username'>>) => {
      const { username, ...change } = input
      const found = user(username)
      const newPassword = change.password !== undefined && change.password !== found.password
      assign(found, change, ['id', 'org', 'username'])
      if (newPassword) killAll('password changed', owned => owned.user === found)
      if (!found.active) {
        for (const session of world.sessions.values()) if (session.user === found) session.ended ??= 'user deactivated'
      }
      return {}
    },
    setOrg: (
      input: { org: string } & Partial<
        Pick<
          Org,
          | 'sessionMinutes'
          | 'onlyMyDomainLogin'
          | 'secretsByRest'
          | 'apiVersionMax'
          | 'apiUsed'
          | 'apiMax'
          | 'instanceName'
          | 'name'
        >
      >,
    ) => {
      const { org: key, ...change } = input
      assign(org(key), change, ['key', 'domain', 'former', 'kind', 'id'])
      return {}
    },
    /**
     * The org leaves its My Domain: from now on token responses carry the new instance_url and the old host answers
     * 301 ('redirect') or 420 ('gone'). With oldOAuth (the default) the old host's OAuth endpoints keep working, so
     * a client that refreshes there learns the new address; false closes them too.
     */
    moveOrg: (input: { org: string; domain: string; answer?: 'redirect' | 'gone'; oldOAuth?: boolean }) => {
      const found = org(input.org)
      if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(input.domain)) throw new BadInput('domain must be a host label')
      const taken = world.orgs.some(o => o !== found && (o.domain === input.domain || o.key === input.domain))
      if (taken || ['login', 'test'].includes(input.domain)) throw new BadInput(`${input.domain} is taken`)
      found.former = found.former.filter(f => f.domain !== input.domain)
      if (found.domain !== input.domain) {
        found.former.push({
          domain: found.domain,
          answer: input.answer ?? 'redirect',
          oldOAuth: input.oldOAuth ?? true,
        })
      }
      found.domain = input.domain
      return { domain: found.domain }
    },
    /** New org id, tokens dead, local apps gone; users and My Domain stay (fact sheet §3.7). */
    refreshSandbox: (input: { org: string }) => {
      const found = org(input.org)
      if (found.kind !== 'sandbox') throw new BadInput(`${found.key} is not a sandbox`)
      killAll('the sandbox was refreshed', owned => owned.org === found.key)
      world.apps = world.apps.filter(app => app.org !== found.key)
      found.id = nextId(world, '00D')
      return { id: found.id }
    },

    /** What a flow with an Outbound Message does when it runs; once, where Salesforce would try again for a day. */
    sendOutboundMessage: (input: OutboundInput) => sendOutboundMessage(world, org(input.org), input),

    // Faults

    delay: (input: DelayInput) => addDelay(faults, input),
    drop: (input: DropInput) => addDrop(faults, input),
    fail: (input: FailInput) => addFail(faults, input),
    /** Any OAuth error Salesforce has, told as it tells it there. */
    refuse: (input: RefuseInput) => addRefuse(faults, input),
    clearFaults: () => {
      faults.queue = []
      return {}
    },

    // The whole

    set: (input: Partial<Settings>) => {
      assign(world.settings, input, [])
      return { ...world.settings }
    },
    /** Moves the simulator's own clock; session ends, code lives and policies follow. */
    skipClock: (input: { ms: number }) => {
      if (!Number.isFinite(input.ms)) throw new BadInput('ms must be a number')
      world.clockSkipMs += input.ms
      return { now: new Date(now(world)).toISOString() }
    },
    /** Everything as at the start. */
    reset: () => {
      rebuild()
      return {}
    },
  }
}

/** Refuses a field the target does not have: a typo in a test must not pass silently. */
function assign<T extends object>(target: T, change: Partial<T>, fixed: (keyof T)[]): void {
  const given = defined(change)
  for (const key of Object.keys(given) as (keyof T)[]) {
    if (!Object.hasOwn(target, key) || fixed.includes(key)) throw new BadInput(`cannot set ${String(key)}`)
    const [was, is] = [target[key], given[key]]
    if (was !== null && is !== null && !settable(was, is)) throw new BadInput(`${String(key)} has the wrong type`)
  }
  Object.assign(target, given)
}

const settable = (was: unknown, is: unknown) =>
  (typeof was === typeof is && Array.isArray(was) === Array.isArray(is)) ||
  // Settings.autoApprove is false, true or 'deny'.
  (typeof was === 'boolean' && is === 'deny') ||
  (was === 'deny' && typeof is === 'boolean')

const READING = ['state', 'counters', 'requests']

/** HTTP face of the commands. `remote` is the peer's address. */
export async function admin(control: Control, call: Call, remote: string | undefined): Promise<Reply> {
  const refuse = (status: number, error: string): Reply => ({ status, json: { error } })
  if (!/^(127\.|::1$|::ffff:127\.)/.test(remote ?? '')) return refuse(403, 'the admin API answers loopback only')
  // A page in a browser must not drive the simulator: neither cross-origin nor through a rebound host name.
  const host = (call.headers.host ?? '').replace(/:\d*$/, '').toLowerCase()
  if (!/^(127\.[\d.]+|\[::1\]|localhost|.+\.localhost)$/.test(host)) return refuse(403, 'host not allowed')
  const { origin } = call.headers
  if (origin !== undefined && origin !== `http://${call.headers.host}`) return refuse(403, 'origin not allowed')

  const name = call.path.slice('/__admin/'.length)
  if (name === '') return { status: 200, json: { commands: Object.keys(control), read: 'README.md of the simulator' } }
  if (!Object.hasOwn(control, name)) return refuse(404, `no command ${name}`)
  if (call.method !== 'POST' && !(call.method === 'GET' && READING.includes(name))) return refuse(405, 'use POST')
  let input: unknown = {}
  try {
    if (call.body.length > 0) input = JSON.parse(call.body.toString('utf8'))
  } catch {
    return refuse(400, 'the body is not JSON')
  }
  if (typeof input !== 'object' || input === null || Array.isArray(input))
    return refuse(400, 'the body must be an object')
  try {
    // The commands check what they use; a caller in another language gets BadInput rather than a type error.
    const run = control[name as keyof Control] as (input: unknown) => unknown
    return { status: 200, json: await run(input) }
  } catch (error) {
    if (error instanceof BadInput) return refuse(400, error.message)
    if (error instanceof TypeError) return refuse(400, `not a valid ${name}: ${error.message}`)
    throw error
  }
}
