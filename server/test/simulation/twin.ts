/**
 * The table `credential` in memory: every statement of `credential/store.ts` and what people do to the row, with the conditions of the
 * SQL, on a clock that a simulation owns. `twin.conformance.test.ts` holds it to the answers of PostgreSQL, so a schedule that the twin
 * survives says something about the database.
 */
import type { Health } from '@fairlead/contract'
import type { TokenSet } from '../../src/credential/kinds/oauth2-code.ts'
import type {
  Attempt,
  Credential,
  CredentialStore,
  Installing,
  ProviderSaid,
  Successor,
} from '../../src/credential/store.ts'
import { margin, type Timing } from '../../src/credential/timing.ts'
import type { Secret } from '../../src/lib/secret.ts'
import type { ConnectionConfig } from '../../src/provider/endpoint.ts'
import type { Clock } from '../../src/seams.ts'

export interface Row {
  id: string
  environmentId: number
  integrationId: number
  config: ConnectionConfig
  /** What is sealed in the real table. */
  tokens: TokenSet
  tokenFp: Buffer | null
  tokenVersion: number
  grantNumber: number
  /** Instants are milliseconds on the database's clock. */
  obtainedAt: number
  expiresAt: number | null
  lifetimeAsked: number
  rotates: boolean | null
  scopesRequested: string[]
  scopesGranted: string[]
  claimId: string | null
  leaseUntil: number | null
  intentClaim: string | null
  intentAt: number | null
  intentNode: string | null
  lastTried: boolean
  nextTryAt: number | null
  failures: number
  spent: boolean
  suspect: boolean
  health: Health
  cause: string | null
  said: ProviderSaid | null
  paused: boolean
  goneAt: number | null
  epoch: string | null
  keepAliveAt: number | null
}

/** A row as a statement returns it: its instants measured from the database's now, as the SQL does. */
export interface Returned extends Row {
  lifeMs: number | null
  leftMs: number | null
  leaseHeld: boolean
  backOffMs: number | null
}

export interface NewRow {
  id: string
  integrationId: number
  tokens: TokenSet
  epoch: string
}

export const printOf = (refreshToken: Secret | undefined): Buffer | null =>
  refreshToken ? Buffer.from(`refresh token ${refreshToken.reveal()}`) : null

const same = (a: Buffer | null, b: Buffer | null | undefined): boolean => a !== null && b != null && a.equals(b)

/** What an INSTALL, a verdict or a reconnect ends. */
const nobodys = { claimId: null, leaseUntil: null, intentClaim: null, intentAt: null, intentNode: null }

export class Twin {
  readonly rows = new Map<string, Row>()
  readonly #now: () => number
  readonly #timing: Timing
  readonly #changed: (after: Row, before: Row | undefined, statement: string) => void
  readonly #notify: (payload: string) => void

  constructor(options: {
    now: () => number
    timing: Timing
    /** Every committed change of a row. `after` is the row itself. */
    changed?: (after: Row, before: Row | undefined, statement: string) => void
    notify?: (payload: string) => void
  }) {
    this.#now = options.now
    this.#timing = options.timing
    this.#changed = options.changed ?? (() => {})
    this.#notify = options.notify ?? (() => {})
  }

  #set(row: Row, statement: string, values: Partial<Row>, notify = true): void {
    const before = { ...row }
    Object.assign(row, values)
    this.#changed(row, before, statement)
    if (notify) this.#notify(`credential ${row.id}`)
  }

  /** The row, when it is there and not gone. */
  #live(id: string): Row | undefined {
    const row = this.rows.get(id)
    return row && row.goneAt === null ? row : undefined
  }

  /** The row, when it still holds what this attempt saw. */
  #held({ credential }: { credential: Pick<Credential, 'id' | 'tokenVersion'> }): Row | undefined {
    const row = this.#live(credential.id)
    return row?.tokenVersion === credential.tokenVersion ? row : undefined
  }

  #returned(row: Row): Returned {
    const now = this.#now()
    return {
      ...row,
      lifeMs: row.expiresAt === null ? null : row.expiresAt - row.obtainedAt,
      leftMs: row.expiresAt === null ? null : row.expiresAt - now,
      leaseHeld: row.leaseUntil !== null && row.leaseUntil > now,
      backOffMs: row.nextTryAt === null ? null : row.nextTryAt - now,
    }
  }

  load(id: string): Returned | undefined {
    const row = this.#live(id)
    return row && this.#returned(row)
  }

  claim(
    seen: Credential,
    claim: string,
    { forced, rotates, ripe }: Parameters<CredentialStore['claim']>[2],
  ): Returned | undefined {
    const now = this.#now()
    const row = this.#held({ credential: seen })
    if (!row || row.paused || row.spent || row.health === 'needs_reauth') return undefined
    if (row.leaseUntil !== null && row.leaseUntil >= now) return undefined
    if (row.nextTryAt !== null && row.nextTryAt >= now) return undefined
    const early = seen.aliveUntil === undefined || seen.freshUntil === undefined ? 0 : seen.aliveUntil - seen.freshUntil
    if (!forced && row.expiresAt !== null && row.expiresAt >= now + early) return undefined
    const ripened =
      row.intentClaim !== null && ripe.includes(row.intentClaim) && row.intentAt! < now - this.#timing.quiet
    if (row.intentClaim !== null && rotates && !ripened) return undefined
    this.#set(row, 'claim', { claimId: claim, leaseUntil: now + this.#timing.lease }, false)
    return this.#returned(row)
  }

  intend(attempt: Attempt, { node, settled, lastTry }: Parameters<CredentialStore['intend']>[1]): boolean {
    const now = this.#now()
    const row = this.#held(attempt)
    if (!row || row.claimId !== attempt.claim || row.paused) return false
    if (row.leaseUntil === null || row.leaseUntil <= now + this.#timing.sendWindow + this.#timing.answer) return false
    if (row.intentClaim !== settled) return false
    const intent = { intentClaim: attempt.claim, intentAt: now, intentNode: node, lastTried: lastTry }
    this.#set(row, 'intend', intent, false)
    return true
  }

  /** The UPDATE of INSTALL; when it found nothing, the store looks at the row in a second statement. */
  install(successor: Successor, { idleLimitMs }: Installing = {}): boolean {
    const now = this.#now()
    const { tokens } = successor
    const row = this.#live(successor.credentialId)
    if (row?.tokenVersion !== successor.tokenVersion || !same(row.tokenFp, successor.presented)) return false
    if (!successor.rotated && row.epoch !== (successor.presentedEpoch ?? null)) return false
    this.#set(row, 'install', {
      tokens,
      tokenFp: printOf(tokens.refreshToken),
      tokenVersion: row.tokenVersion + 1,
      obtainedAt: now,
      expiresAt: tokens.lifeMs === undefined ? null : now + tokens.lifeMs,
      config: { ...row.config, ...successor.facts },
      rotates: successor.rotated,
      epoch: successor.epoch,
      scopesGranted: tokens.scopes ?? row.scopesGranted,
      spent: false,
      suspect: false,
      // Somewhere in the window: the row's own place in it is of no matter here.
      ...(idleLimitMs !== undefined && { keepAliveAt: idleLimitMs === null ? null : now + idleLimitMs / 3 }),
      health: 'active',
      cause: null,
      said: null,
      nextTryAt: null,
      failures: 0,
      lastTried: false,
      ...nobodys,
    })
    return true
  }

  /** Why INSTALL found nothing. */
  missed(successor: Successor): Exclude<Awaited<ReturnType<CredentialStore['install']>>, 'installed'> {
    const row = this.rows.get(successor.credentialId)
    if (!row || row.goneAt !== null) return 'gone'
    if (row.grantNumber !== successor.grantNumber) return 'orphaned'
    if (row.tokenVersion < successor.tokenVersion) return 'ahead'
    const print = printOf(successor.tokens.refreshToken)
    return row.tokenVersion === successor.tokenVersion + 1 && same(row.tokenFp, print)
      ? 'already_installed'
      : 'superseded'
  }

  refuse({ credential }: Attempt, cause: string, accessDead: boolean, said: ProviderSaid | null = null): void {
    const row = this.#held({ credential })
    if (!row || !same(row.tokenFp, credential.fingerprint)) return
    const expiresAt = accessDead ? Math.min(row.expiresAt ?? Number.POSITIVE_INFINITY, this.#now()) : row.expiresAt
    this.#set(row, 'refuse', { health: 'needs_reauth', cause, said, expiresAt, ...nobodys })
  }

  markSpent({ credential }: Attempt): void {
    const row = this.#held({ credential })
    if (!row || !same(row.tokenFp, credential.fingerprint)) return
    this.#set(row, 'markSpent', {
      spent: true,
      health: 'degraded',
      cause: 'refresh_response_lost',
      said: null,
      ...nobodys,
    })
    this.#notify(`pull ${row.id}`)
  }

  leaveInDoubt(
    { credential, claim }: Attempt,
    cause: string,
    backOffMs: number,
    said: ProviderSaid | null = null,
  ): void {
    // Not fenced by `gone_at`, as the statement is not.
    const row = this.rows.get(credential.id)
    if (row?.claimId !== claim || row.tokenVersion !== credential.tokenVersion) return
    this.#set(row, 'leaveInDoubt', {
      health: 'degraded',
      cause,
      said,
      leaseUntil: null,
      claimId: null,
      failures: row.failures + 1,
      nextTryAt: this.#now() + backOffMs,
    })
  }

  withdraw(
    { credential, claim }: Attempt,
    health: Health,
    cause: string,
    backOffMs: number,
    said: ProviderSaid | null = null,
  ): void {
    const row = this.rows.get(credential.id)
    if (row?.tokenVersion !== credential.tokenVersion) return
    const claimed = row.claimId === claim
    const intended = row.intentClaim === claim
    if (!claimed && !intended) return
    this.#set(row, 'withdraw', {
      health,
      cause,
      said,
      failures: row.failures + 1,
      nextTryAt: this.#now() + backOffMs,
      ...(intended && { intentAt: null, intentNode: null, intentClaim: null, lastTried: false }),
      ...(claimed && { leaseUntil: null, claimId: null }),
    })
  }

  exhaust(credential: Credential, introspects: boolean): void {
    const row = this.#held({ credential })
    if (row?.health !== 'degraded') return
    const tried = row.intentClaim !== null && !introspects && row.lastTried
    if (!row.spent && !(tried && row.intentAt! < this.#now() - this.#timing.quiet)) return
    this.#set(row, 'exhaust', { health: 'needs_reauth', cause: 'answer_lost', said: null })
  }

  blockedDue(): { id: string; integrationId: number }[] {
    const now = this.#now()
    return [...this.rows.values()]
      .filter(row => row.health === 'blocked_by_policy' && row.goneAt === null && !row.paused)
      .filter(row => row.nextTryAt !== null && row.nextTryAt < now)
      .sort((a, b) => a.nextTryAt! - b.nextTryAt!)
      .slice(0, 20)
      .map(row => ({ id: row.id, integrationId: row.integrationId }))
  }

  openIntents(): { id: string; integrationId: number; intentClaim: string }[] {
    return [...this.rows.values()]
      .filter(row => row.intentClaim !== null && row.goneAt === null && !row.paused)
      .sort((a, b) => a.intentAt! - b.intentAt!)
      .map(row => ({ id: row.id, integrationId: row.integrationId, intentClaim: row.intentClaim! }))
  }

  askLifetimeOnce(credential: Pick<Credential, 'id' | 'tokenVersion'>): boolean {
    const row = this.#held({ credential })
    if (!row || row.lifetimeAsked === row.tokenVersion || row.expiresAt !== null) return false
    this.#set(row, 'askLifetimeOnce', { lifetimeAsked: row.tokenVersion }, false)
    return true
  }

  saveLifetime(credential: Pick<Credential, 'id' | 'tokenVersion'>, leftMs: number): void {
    const row = this.rows.get(credential.id)
    if (row?.tokenVersion !== credential.tokenVersion || row.expiresAt !== null) return
    this.#set(row, 'saveLifetime', { expiresAt: this.#now() + leftMs })
  }

  // What people do.

  /** Stores a grant; a refresh token that is already known joins the row that owns it. */
  add({ id, integrationId, tokens, epoch }: NewRow): string {
    const now = this.#now()
    const tokenFp = printOf(tokens.refreshToken)
    const tokenColumns = {
      tokens,
      tokenFp,
      obtainedAt: now,
      expiresAt: tokens.lifeMs === undefined ? null : now + tokens.lifeMs,
      epoch,
      lastTried: false,
      spent: false,
      suspect: false,
      health: 'active' as const,
      cause: null,
      said: null,
      nextTryAt: null,
      failures: 0,
      ...nobodys,
    }
    for (const known of this.rows.values())
      if (known.integrationId === integrationId && same(known.tokenFp, tokenFp) && known.goneAt === null) {
        this.#set(known, 'join', {
          ...tokenColumns,
          tokenVersion: known.tokenVersion + 1,
          grantNumber: known.grantNumber + 1,
          keepAliveAt: null,
        })
        return known.id
      }
    const row: Row = {
      id,
      environmentId: 1,
      integrationId,
      config: {},
      tokenVersion: 1,
      grantNumber: 1,
      lifetimeAsked: 0,
      rotates: null,
      scopesRequested: [],
      scopesGranted: [],
      paused: false,
      goneAt: null,
      keepAliveAt: null,
      ...tokenColumns,
    }
    this.rows.set(id, row)
    this.#changed(row, undefined, 'add')
    return id
  }

  /** The owner signed in again: a new grant on the same row. Answers with the refresh token that is nobody's now. */
  reconnect(id: string, tokens: TokenSet, epoch: string): Secret | undefined {
    const row = this.#live(id)
    if (!row) return undefined
    const old = row.tokens.refreshToken
    const now = this.#now()
    this.#set(row, 'reconnect', {
      tokens,
      tokenFp: printOf(tokens.refreshToken),
      tokenVersion: row.tokenVersion + 1,
      grantNumber: row.grantNumber + 1,
      keepAliveAt: null,
      obtainedAt: now,
      expiresAt: tokens.lifeMs === undefined ? null : now + tokens.lifeMs,
      epoch,
      lastTried: false,
      spent: false,
      suspect: false,
      health: 'active',
      cause: null,
      said: null,
      nextTryAt: null,
      failures: 0,
      ...nobodys,
    })
    return old
  }

  pause(id: string, paused: boolean): void {
    const row = this.#live(id)
    if (row) this.#set(row, 'pause', { paused })
  }

  /** Killed: the row stays, nothing may be done with it. */
  kill(id: string): void {
    const row = this.#live(id)
    if (row) this.#set(row, 'kill', { goneAt: this.#now(), claimId: null, leaseUntil: null })
  }

  delete(id: string): void {
    const row = this.rows.get(id)
    this.rows.delete(id)
    if (row) {
      const before = { ...row }
      row.goneAt = this.#now()
      this.#changed(row, before, 'delete')
      this.#notify(`credential ${id}`)
    }
  }

  /** Sealed under another key: the same tokens, as they were read a moment ago. */
  reseal(id: string, read: Row): void {
    const row = this.#live(id)
    if (row?.tokenVersion !== read.tokenVersion || row.tokens !== read.tokens) return
    this.#set(row, 'reseal', { tokens: read.tokens }, false)
  }
}

/** A row as the engine sees it, its instants moved to the process's own monotonic clock at the moment the answer arrived. */
export function opened(row: Returned, clock: Clock, timing: Timing): Credential {
  const aliveUntil = row.leftMs === null ? undefined : clock.now() + row.leftMs
  return {
    id: row.id,
    environmentId: row.environmentId,
    integrationId: row.integrationId,
    config: row.config,
    accessToken: row.tokens.accessToken,
    kind: 'oauth2-code',
    given: {},
    refreshToken: row.tokens.refreshToken,
    tokenType: row.tokens.tokenType,
    raw: row.tokens.raw,
    tokenVersion: row.tokenVersion,
    aliveUntil,
    freshUntil: aliveUntil === undefined ? undefined : aliveUntil - margin(row.lifeMs ?? 0, timing),
    expiresAt: row.expiresAt === null ? null : new Date(row.expiresAt),
    scopesRequested: row.scopesRequested,
    scopesGranted: row.scopesGranted,
    rotates: row.rotates ?? undefined,
    grantNumber: row.grantNumber,
    fingerprint: row.tokenFp ?? undefined,
    spent: row.spent,
    suspect: row.suspect,
    epoch: row.epoch ?? undefined,
    lastTried: row.lastTried,
    health: row.health,
    cause: row.cause,
    said: row.said,
    paused: row.paused,
    stateSince: new Date(0),
    intentClaim: row.intentClaim,
    leaseHeld: row.leaseHeld,
    nextTryAt: clock.now() + (row.backOffMs ?? 0),
    failures: row.failures,
  }
}

/** Carries one statement to the database and its answer back, or fails as a database does. */
export type Carry = <Answer>(name: string, statement: () => Answer) => Promise<Answer>

export function twinStore(twin: Twin, clock: Clock, timing: Timing, carry: Carry): CredentialStore {
  const open = (row: Returned | undefined) => row && opened(row, clock, timing)
  return {
    load: async id => open(await carry('load', () => twin.load(id))),
    claim: async (seen, claim, options) => open(await carry('claim', () => twin.claim(seen, claim, options))),
    intend: (attempt, options) => carry('intend', () => twin.intend(attempt, options)),
    install: async (successor, installing) =>
      (await carry('install', () => twin.install(successor, installing)))
        ? 'installed'
        : carry('look', () => twin.missed(successor)),
    refuse: (attempt, cause, accessDead, said) => carry('refuse', () => twin.refuse(attempt, cause, accessDead, said)),
    markSpent: attempt => carry('markSpent', () => twin.markSpent(attempt)),
    leaveInDoubt: (attempt, cause, backOffMs, said) =>
      carry('doubt', () => twin.leaveInDoubt(attempt, cause, backOffMs, said)),
    withdraw: (attempt, health, cause, backOffMs, said) =>
      carry('withdraw', () => twin.withdraw(attempt, health, cause, backOffMs, said)),
    exhaust: (credential, introspects) => carry('exhaust', () => twin.exhaust(credential, introspects)),
    openIntents: () => carry('openIntents', () => twin.openIntents()),
    blockedDue: () => carry('blockedDue', () => twin.blockedDue()),
    askLifetimeOnce: credential => carry('askLifetime', () => twin.askLifetimeOnce(credential)),
    saveLifetime: (credential, leftMs) => carry('saveLifetime', () => twin.saveLifetime(credential, leftMs)),
  }
}
