// The life of tokens: approvals and their refresh tokens, sessions and their sliding end, codes. oauth.ts decides
// what to answer; this file decides what is still alive. All times are the world's virtual time.

import { createHmac } from 'node:crypto'
import type { Address } from './hosts.ts'
import { baseOf, communityUrl, genericHostOf } from './hosts.ts'
import { newAccessToken, newRefreshToken, randomText } from './ids.ts'
import type { App, Grant, Session, User, World } from './world.ts'
import { now, orgOf } from './world.ts'

export const givesRefreshToken = (scopes: string[]) =>
  scopes.includes('refresh_token') || scopes.includes('offline_access')

/** `full` includes api (fact sheet §4). */
export const allowsApi = (scopes: string[]) => scopes.includes('api') || scopes.includes('full')

/**
 * Records one more approval of this app by this user. Salesforce keeps five and silently revokes the oldest: its
 * owner learns only at the next refresh ("Max 5", fact sheet §3.1).
 */
export function openGrant(world: World, user: User, app: App, scopes: string[]): Grant {
  const live = world.grants.filter(g => g.user === user && g.app === app && grantEnd(world, g) === null)
  for (const oldest of live.slice(0, Math.max(0, live.length - world.settings.maxApprovals + 1))) {
    endGrant(world, oldest, 'evicted by a newer approval', world.settings.evictionEndsSessions)
    world.counters.evictions++
  }
  const at = now(world)
  const refreshToken = newRefreshToken()
  const id = randomText(12)
  const grant: Grant = {
    id,
    org: user.org,
    user,
    app,
    scopes,
    refreshToken,
    createdAt: at,
    lastUsedAt: at,
    ended: null,
  }
  world.grants.push(grant)
  world.refreshTokens.set(refreshToken, { grant, spent: false })
  return grant
}

/** Why a refresh token no longer works, or null while it does. */
export function grantEnd(world: World, grant: Grant): string | null {
  if (grant.ended) return grant.ended
  const policy = grant.app.refreshPolicy
  const day = 86_400_000
  if (policy.kind === 'immediatelyExpire') return 'policy: immediately expire'
  if (policy.kind === 'idle' && now(world) > grant.lastUsedAt + policy.days * day)
    return 'policy: not used for too long'
  if (policy.kind === 'lifetime' && now(world) > grant.createdAt + policy.days * day) return 'policy: lifetime over'
  return null
}

export function endGrant(world: World, grant: Grant, why: string, sessionsToo = true): void {
  grant.ended ??= why
  if (!sessionsToo) return
  for (const session of world.sessions.values()) if (session.grant === grant) session.ended ??= why
}

/** Replaces the refresh token; the old one is remembered as spent, so presenting it again is recognised as theft. */
export function rotate(world: World, grant: Grant): string {
  const old = world.refreshTokens.get(grant.refreshToken)
  if (old) old.spent = true
  grant.refreshToken = newRefreshToken()
  world.refreshTokens.set(grant.refreshToken, { grant, spent: false })
  world.counters.rotations++
  return grant.refreshToken
}

export function openSession(world: World, user: User, app: App, scopes: string[], grant: Grant | null): Session {
  const org = orgOf(world, user)
  const at = now(world)
  if (world.settings.sharedSessions) {
    const same = [...world.sessions.values()].find(
      s => s.user === user && s.app === app && s.scopes.join() === scopes.join() && isAlive(world, s),
    )
    if (same) return same
  }
  if (world.sessions.size > 20_000) {
    for (const [token, session] of world.sessions) if (!isAlive(world, session)) world.sessions.delete(token)
  }
  const session: Session = {
    token: newAccessToken(org.id),
    org: org.key,
    orgId: org.id,
    user,
    app,
    scopes,
    grant,
    issuedAt: at,
    windowStart: at,
    windowMs: (app.sessionMinutes ?? org.sessionMinutes) * 60_000,
    ended: null,
  }
  world.sessions.set(session.token, session)
  return session
}

export const sessionEnd = (session: Session): number => session.windowStart + session.windowMs

export const isAlive = (world: World, session: Session): boolean =>
  session.ended === null &&
  session.user.active &&
  session.orgId === orgOf(world, session).id &&
  now(world) < sessionEnd(session)

export function liveSession(world: World, token: string): Session | undefined {
  const session = world.sessions.get(token)
  return session && isAlive(world, session) ? session : undefined
}

/** Use slides the end, but last activity is only written once half the window has gone (fact sheet §3.3). */
export function useSession(world: World, session: Session): void {
  if (now(world) - session.windowStart >= session.windowMs / 2) session.windowStart = now(world)
}

/** Keeps the identity URL on the generic host even when the flow ran on My Domain (fact sheet §1.3). */
export const identityUrl = (world: World, address: Address, user: User): string => {
  const org = orgOf(world, user)
  return `${baseOf(address, genericHostOf(org))}/id/${org.id}/${user.id}`
}

/** The token success body, fact sheet §2.5. There is no expires_in: Salesforce sends none, so neither do we. */
export function tokenBody(world: World, address: Address, session: Session, refreshToken: string | null) {
  const id = identityUrl(world, address, session.user)
  const issued_at = String(now(world))
  return {
    access_token: session.token,
    ...(refreshToken === null ? {} : { refresh_token: refreshToken }),
    signature: createHmac('sha256', session.app.clientSecret)
      .update(id + issued_at)
      .digest('base64'),
    scope: session.scopes.join(' '),
    instance_url: baseOf(address, orgOf(world, session)),
    id,
    token_type: 'Bearer',
    issued_at,
    token_format: 'opaque',
    ...communityFacts(address),
  }
}

/** Where somebody signed in through a site, the answer says so (fact sheet §2.5). */
export function communityFacts(address: Address): Record<string, string> {
  const { site } = address
  if (site.kind !== 'org' || !site.community) return {}
  return { sfdc_community_url: communityUrl(address, site.org, site.community), sfdc_community_id: site.community.id }
}
