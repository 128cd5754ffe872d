/**
 * The model provider: an authorization server of one of three kinds, which decides each request atomically at one instant, and the judge
 * of what must never happen to it. It knows every token it ever issued and who presented what.
 */
import type { World } from './world.ts'

export type Kind = 'plain' | 'grace' | 'penalty'
export const kinds: readonly Kind[] = ['plain', 'grace', 'penalty']

export interface Grant {
  id: number
  /** Why every token of it is dead. */
  dead: undefined | 'reuse' | 'admin'
}

export interface RefreshToken {
  value: string
  grant: Grant
  used: { at: number; by: string } | undefined
  revoked: boolean
}

export interface AccessToken {
  value: string
  grant: Grant
  /** Tokens issued later have a higher one. */
  order: number
  expiresAt: number
  revoked: boolean
}

export interface Issued {
  refresh: RefreshToken
  access: AccessToken
}

/** One token request, from the moment it left a process. */
export interface Presentation {
  token: RefreshToken | undefined
  who: string
  /** Allowed by the protocol although it is the second: the last try, or a grace provider's own retry. */
  deliberate: boolean
  sentAt: number
  /** When the same token was presented before. */
  previous: number | undefined
  /** Neither decided nor lost yet. */
  live: boolean
}

/** Somebody else who refreshes a token that was imported. */
export const stranger = 'stranger'

export class ModelProvider {
  readonly kind: Kind
  readonly introspects: boolean
  readonly graceMs: number
  readonly accessLifeMs: number
  readonly refreshTokens = new Map<string, RefreshToken>()
  readonly accessTokens = new Map<string, AccessToken>()
  tokenRequests = 0
  introspections = 0
  readonly #world: World
  readonly #processing = new Set<RefreshToken>()
  readonly #presentations: Presentation[] = []
  readonly #lastSent = new Map<RefreshToken, number>()
  readonly #seenActive = new Map<RefreshToken, number>()
  #ids = 0

  constructor(world: World, options: { kind: Kind; introspects: boolean; accessLifeMs: number; graceMs: number }) {
    this.#world = world
    this.kind = options.kind
    this.introspects = options.introspects
    this.accessLifeMs = options.accessLifeMs
    this.graceMs = options.graceMs
  }

  /** A sign-in: a new grant with its first tokens. */
  authorize(): Issued {
    return this.#issue({ id: ++this.#ids, dead: undefined })
  }

  #issue(grant: Grant, kept?: RefreshToken): Issued {
    const order = ++this.#ids
    const expiresAt = this.#world.now + this.accessLifeMs
    const access: AccessToken = { value: `at-${order}`, grant, order, expiresAt, revoked: false }
    const refresh = kept ?? { value: `rt-${++this.#ids}`, grant, used: undefined, revoked: false }
    this.accessTokens.set(access.value, access)
    this.refreshTokens.set(refresh.value, refresh)
    return { refresh, access }
  }

  refreshLive(token: RefreshToken): boolean {
    return !token.grant.dead && !token.revoked && (this.kind === 'plain' || token.used === undefined)
  }

  accessLive(token: AccessToken): boolean {
    return !token.grant.dead && !token.revoked && token.expiresAt > this.#world.now
  }

  /** The request left a process. Judged here, because a provider cannot see what was merely sent. */
  sent(value: string, who: string, deliberate: boolean): Presentation {
    this.tokenRequests++
    const token = this.refreshTokens.get(value)
    const previous = token && this.#lastSent.get(token)
    const presentation = { token, who, deliberate, sentAt: this.#world.now, previous, live: true }
    if (!token || this.kind === 'plain' || who === stranger) return presentation
    if (this.kind === 'penalty' && !deliberate) {
      if (previous !== undefined && !((this.#seenActive.get(token) ?? -1) > previous))
        this.#world.breach('I1a', `${value} presented again by ${who} without an active introspection in between`)
      const other = this.#presentations.find(each => each.live && each.token === token)
      if (other) this.#world.breach('I4', `two refreshes of ${value} in flight, by ${other.who} and ${who}`)
    }
    this.#lastSent.set(token, this.#world.now)
    this.#presentations.push(presentation)
    return presentation
  }

  /** Refused before it was looked at: as if it had never been presented. */
  turnedAway(presentation: Presentation): void {
    presentation.live = false
    const { token, previous } = presentation
    if (!token || this.#lastSent.get(token) !== presentation.sentAt) return
    if (previous === undefined) this.#lastSent.delete(token)
    else this.#lastSent.set(token, previous)
  }

  /** Takes the request in; false when the same token is being processed at this moment. */
  begin({ token }: Presentation): boolean {
    if (!token) return true
    if (this.#processing.has(token)) return false
    this.#processing.add(token)
    return true
  }

  /** Decides, atomically. */
  decide(presentation: Presentation): Issued | 'invalid_grant' {
    const { token, who, deliberate } = presentation
    presentation.live = false
    if (!token) return 'invalid_grant'
    this.#processing.delete(token)
    if (token.grant.dead || token.revoked) return 'invalid_grant'
    if (this.kind === 'plain') return this.#issue(token.grant, token)
    if (token.used === undefined) {
      token.used = { at: this.#world.now, by: who }
      return this.#issue(token.grant)
    }
    if (this.kind === 'grace' && this.#world.now - token.used.at <= this.graceMs) return this.#issue(token.grant)
    token.grant.dead = 'reuse'
    if (who === stranger || token.used.by === stranger) {
      this.#world.count('a family ended by a stranger')
      if (who !== stranger && !this.#seenActive.has(token))
        this.#world.breach('I1c', `${value(token)} was rotated by a stranger, and ${who} presented it without asking`)
    } else if (deliberate) this.#world.count('a family ended by a deliberate second presentation')
    else this.#world.breach('I1b', `family revoked: ${value(token)} used by ${token.used.by}, then by ${who}`)
    return 'invalid_grant'
  }

  introspect(text: string): boolean {
    this.introspections++
    const refresh = this.refreshTokens.get(text)
    if (refresh) {
      const active = this.refreshLive(refresh)
      if (active) this.#seenActive.set(refresh, this.#world.now)
      return active
    }
    const access = this.accessTokens.get(text)
    return access !== undefined && this.accessLive(access)
  }

  revoke(text: string): void {
    const token = this.refreshTokens.get(text) ?? this.accessTokens.get(text)
    if (token) token.revoked = true
  }
}

const value = (token: RefreshToken): string => token.value
