/**
 * One table of cases, run on PostgreSQL and on its twin: every statement must give the same answer and leave the same row. Time passes by
 * moving the instants of the row into the past. Events for webhooks are not compared: triggers write them, no statement answers with them.
 */

import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { openKeyedHash } from '../../src/account/pepper.ts'
import { addEnvironment, listEnvironments } from '../../src/account/store.ts'
import type { TokenSet } from '../../src/credential/kinds/oauth2-code.ts'
import { successorOf } from '../../src/credential/refresh.ts'
import {
  type Attempt,
  addCredential,
  type Credential,
  type CredentialStore,
  createCredentialStore,
  type Installing,
  type Successor,
} from '../../src/credential/store.ts'
import { defaultTiming } from '../../src/credential/timing.ts'
import { sql } from '../../src/db/sql.ts'
import { addIntegration } from '../../src/integration/store.ts'
import { newId } from '../../src/lib/id.ts'
import { Secret } from '../../src/lib/secret.ts'
import { systemClock } from '../../src/lib/time.ts'
import { testDatabase } from '../support/database.ts'
import { newEncryptionKey, vaultOn } from '../support/vault.ts'
import { type Row, Twin, twinStore } from './twin.ts'

const minutes = 60_000
const hour = 60 * minutes
const epoch = 'first'

const tokens = (name: string, lifeMs: number | undefined = hour): TokenSet => ({
  accessToken: new Secret(`access ${name}`),
  refreshToken: new Secret(`refresh ${name}`),
  tokenType: 'Bearer',
  lifeMs,
  scopes: undefined,
  raw: { name },
})

/** What is compared of a row: instants as whole seconds from now, tokens by the access token. */
interface Seen {
  [column: string]: unknown
}

/** One credential in one of the two stores. */
interface Rig {
  store: CredentialStore
  id: string
  load(): Promise<Credential>
  seen(): Promise<Seen | undefined>
  /** Moves every instant of the row into the past. */
  pass(ms: number): Promise<void>
  set(values: { paused?: boolean; gone?: boolean; suspect?: boolean; lastTried?: boolean }): Promise<void>
  signInAgain(next: TokenSet): Promise<void>
}

type Open = (first: TokenSet) => Promise<Rig>

const claims = { first: newId(), second: newId(), third: newId() }
const due = { forced: false, rotates: true, ripe: [] as string[] }
const asked = { ...due, forced: true }
const intent = { node: 'A', settled: null, lastTry: false }

const answerTo = (credential: Credential, next: TokenSet): Successor =>
  successorOf(credential, next, { instance_url: 'https://fact.test' }, epoch)

/** A claim that must succeed. */
async function claimed(rig: Rig, claim: string, options: typeof asked = asked): Promise<Attempt> {
  const credential = await rig.store.claim(await rig.load(), claim, options)
  assert.ok(credential, 'the claim was refused')
  return { credential, claim }
}

async function intended(rig: Rig, claim = claims.first): Promise<Attempt> {
  const attempt = await claimed(rig, claim)
  assert.equal(await rig.store.intend(attempt, intent), true)
  return attempt
}

type Case = [
  name: string,
  life: number | undefined,
  steps: (rig: Rig, say: (answer: unknown) => void) => Promise<unknown>,
]

const took = (credential: Credential | undefined) => credential && [credential.tokenVersion, credential.leaseHeld]

const cases: Case[] = [
  [
    'a claim of a fresh token is refused unless it is asked for',
    hour,
    async (rig, say) => {
      const seen = await rig.load()
      say(took(await rig.store.claim(seen, claims.first, due)))
      say(took(await rig.store.claim(seen, claims.first, asked)))
    },
  ],
  [
    'a claim near the end',
    hour,
    async (rig, say) => {
      await rig.pass(50 * minutes)
      say(took(await rig.store.claim(await rig.load(), claims.first, due)))
    },
  ],
  [
    'a claim of a token without an end',
    undefined,
    async (rig, say) => {
      say(took(await rig.store.claim(await rig.load(), claims.first, due)))
    },
  ],
  [
    'a claim with another version',
    hour,
    async (rig, say) => {
      const seen = await rig.load()
      say(took(await rig.store.claim({ ...seen, tokenVersion: 2 }, claims.first, asked)))
    },
  ],
  [
    'a lease keeps others out, then ends',
    hour,
    async (rig, say) => {
      const seen = await rig.load()
      await claimed(rig, claims.first)
      say((await rig.load()).leaseHeld)
      say(took(await rig.store.claim(seen, claims.second, asked)))
      await rig.pass(89_000)
      say(took(await rig.store.claim(seen, claims.second, asked)))
      await rig.pass(2_000)
      say(took(await rig.store.claim(seen, claims.second, asked)))
    },
  ],
  [
    'nobody claims what is paused',
    hour,
    async (rig, say) => {
      await rig.set({ paused: true })
      say(took(await rig.store.claim(await rig.load(), claims.first, asked)))
    },
  ],
  [
    'nobody claims what is gone',
    hour,
    async (rig, say) => {
      const seen = await rig.load()
      await rig.set({ gone: true })
      say(took(await rig.store.claim(seen, claims.first, asked)))
      say(await rig.store.load(rig.id))
    },
  ],
  [
    'an unsettled intent forbids a claim until it is ripe by both clocks',
    hour,
    async (rig, say) => {
      await intended(rig)
      await rig.pass(2 * minutes)
      const seen = await rig.load()
      const ripe = [claims.first]
      say(took(await rig.store.claim(seen, claims.second, { ...asked, ripe })))
      await rig.pass(4 * minutes)
      say(took(await rig.store.claim(seen, claims.second, asked)))
      say(took(await rig.store.claim(seen, claims.second, { ...asked, ripe: [claims.third] })))
      say(took(await rig.store.claim(seen, claims.second, { ...asked, ripe })))
    },
  ],
  [
    'an intent forbids nothing where nothing rotates',
    hour,
    async (rig, say) => {
      await intended(rig)
      await rig.pass(91_000)
      say(took(await rig.store.claim(await rig.load(), claims.second, { ...asked, rotates: false })))
    },
  ],
  [
    'an intent needs its own claim',
    hour,
    async (rig, say) => {
      const attempt = await claimed(rig, claims.first)
      say(await rig.store.intend({ ...attempt, claim: claims.second }, intent))
      say(await rig.store.intend({ ...attempt, credential: { ...attempt.credential, tokenVersion: 2 } }, intent))
      say(await rig.store.intend(attempt, { ...intent, settled: claims.third }))
      say(await rig.store.intend(attempt, { ...intent, lastTry: true }))
      say(await rig.store.intend(attempt, intent))
      say(await rig.store.intend(attempt, { ...intent, settled: claims.first }))
    },
  ],
  [
    'an intent needs lease enough for the whole request',
    hour,
    async (rig, say) => {
      const attempt = await claimed(rig, claims.first)
      await rig.pass(62_000)
      say(await rig.store.intend(attempt, intent))
    },
  ],
  [
    'an intent of a paused or ended row is refused',
    hour,
    async (rig, say) => {
      const attempt = await claimed(rig, claims.first)
      await rig.set({ paused: true })
      say(await rig.store.intend(attempt, intent))
      await rig.set({ paused: false, gone: true })
      say(await rig.store.intend(attempt, intent))
    },
  ],
  [
    'a settled intent gives way to the next',
    hour,
    async (rig, say) => {
      await intended(rig)
      await rig.pass(6 * minutes)
      const attempt = await claimed(rig, claims.second, { ...asked, ripe: [claims.first] })
      say(await rig.store.intend(attempt, { ...intent, settled: claims.first }))
    },
  ],
  [
    'an install ends everything that was under way',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      say(await rig.store.install(answerTo(attempt.credential, tokens('next'))))
      say(await rig.store.install(answerTo(attempt.credential, tokens('next'))))
      say(await rig.store.install(answerTo(attempt.credential, tokens('other'))))
    },
  ],
  [
    'an install is not an owner’s privilege',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.pass(10 * minutes)
      await claimed(rig, claims.second, { ...asked, ripe: [claims.first] })
      say(await rig.store.install({ ...answerTo(attempt.credential, tokens('late')), epoch: 'second' }))
    },
  ],
  [
    'an install that keeps the refresh token, of this history and of another',
    hour,
    async (rig, say) => {
      const credential = await rig.load()
      const kept = answerTo(credential, { ...tokens('next'), refreshToken: credential.refreshToken })
      say(await rig.store.install({ ...kept, presentedEpoch: 'second' }))
      say(await rig.store.install({ ...kept, presentedEpoch: undefined }))
      say(await rig.store.install({ ...kept, epoch: 'second' }))
    },
  ],
  [
    'an install without an end, with scopes',
    hour,
    async (rig, say) => {
      const next = { ...tokens('next', undefined), lifeMs: undefined, scopes: ['a', 'b'] }
      say(await rig.store.install(answerTo(await rig.load(), next)))
    },
  ],
  [
    'an install of another lineage',
    hour,
    async (rig, say) => {
      const successor = answerTo(await rig.load(), tokens('next'))
      say(await rig.store.install({ ...successor, presented: Buffer.from('other') }))
      say(await rig.store.install({ ...successor, tokenVersion: 2 }))
    },
  ],
  [
    'an install on a row without a refresh token',
    hour,
    async (rig, say) => {
      const credential = await rig.load()
      say(await rig.store.install(answerTo(credential, { ...tokens('next'), refreshToken: undefined })))
      const next = await rig.load()
      say(await rig.store.install({ ...answerTo(credential, tokens('more')), tokenVersion: next.tokenVersion }))
    },
  ],
  [
    'an install after a new sign-in is an orphan’s',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.signInAgain(tokens('again'))
      say(await rig.store.install(answerTo(attempt.credential, tokens('next'))))
    },
  ],
  [
    'an install on what is gone',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.set({ gone: true })
      say(await rig.store.install(answerTo(attempt.credential, tokens('next'))))
      const nobody = { ...answerTo(attempt.credential, tokens('next')), credentialId: newId() }
      say(await rig.store.install(nobody))
    },
  ],
  [
    'an install does not un-pause',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.set({ paused: true })
      say(await rig.store.install(answerTo(attempt.credential, tokens('next'))))
    },
  ],
  [
    'a verdict by lineage',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.pass(6 * minutes)
      await claimed(rig, claims.second, { ...asked, ripe: [claims.first] })
      await rig.store.refuse(attempt, 'invalid_grant', false, ['invalid_grant', 'expired'])
      say(took(await rig.store.claim(await rig.load(), claims.third, asked)))
      say(await rig.store.install(answerTo(attempt.credential, tokens('healed'))))
    },
  ],
  [
    'a verdict on what moved on',
    hour,
    async rig => {
      const attempt = await intended(rig)
      await rig.store.install(answerTo(attempt.credential, tokens('next')))
      await rig.store.refuse(attempt, 'invalid_grant', true)
      await rig.store.markSpent(attempt)
    },
  ],
  [
    'a verdict when the access token is dead',
    hour,
    async rig => rig.store.refuse(await intended(rig), 'invalid_grant', true),
  ],
  [
    'a verdict when nobody knows the end',
    undefined,
    async rig => rig.store.refuse(await intended(rig), 'invalid_grant', true),
  ],
  [
    'used up, then nothing is left',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.store.markSpent(attempt)
      say(took(await rig.store.claim(await rig.load(), claims.second, asked)))
      await rig.store.exhaust(await rig.load(), true)
    },
  ],
  [
    'doubt stays',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.store.leaveInDoubt({ ...attempt, claim: claims.second }, 'in_doubt', 5_000)
      say(await rig.seen())
      await rig.store.leaveInDoubt(attempt, 'in_doubt', 5_000, ['invalid_grant', ''])
      say(took(await rig.store.claim(await rig.load(), claims.second, { ...asked, rotates: false })))
      await rig.pass(6_000)
      say(took(await rig.store.claim(await rig.load(), claims.second, { ...asked, rotates: false })))
    },
  ],
  [
    'an own intent is withdrawn',
    hour,
    async rig => rig.store.withdraw(await intended(rig), 'active', 'refresh_withheld', 5_000),
  ],
  [
    'a claim without an intent is given back',
    hour,
    async rig =>
      rig.store.withdraw(await claimed(rig, claims.first), 'blocked_by_policy', 'policy', 5_000, [
        'invalid_grant',
        'ip',
      ]),
  ],
  [
    'an intent is withdrawn when somebody else has the claim',
    hour,
    async (rig, say) => {
      const attempt = await intended(rig)
      await rig.pass(6 * minutes)
      await claimed(rig, claims.second, { ...asked, ripe: [claims.first] })
      await rig.store.withdraw(attempt, 'active', 'late', 5_000)
      say((await rig.load()).leaseHeld)
    },
  ],
  [
    'a foreign intent is not withdrawn',
    hour,
    async rig => {
      await intended(rig)
      await rig.pass(6 * minutes)
      const attempt = await claimed(rig, claims.second, { ...asked, ripe: [claims.first] })
      await rig.store.withdraw(attempt, 'degraded', 'in_doubt', 5_000)
    },
  ],
  [
    'nothing of somebody else’s is withdrawn',
    hour,
    async rig => {
      const attempt = await intended(rig)
      await rig.store.withdraw({ ...attempt, claim: claims.second }, 'active', 'x', 5_000)
    },
  ],
  [
    'a withdrawn last try may be made again',
    hour,
    async rig => {
      const attempt = await claimed(rig, claims.first)
      await rig.store.intend(attempt, { ...intent, lastTry: true })
      await rig.store.withdraw(attempt, 'degraded', 'x', 5_000)
    },
  ],
  [
    'exhausted only when degraded',
    hour,
    async rig => {
      await intended(rig)
      await rig.store.exhaust(await rig.load(), false)
    },
  ],
  [
    'exhausted only after the quiet time of the last try',
    hour,
    async (rig, say) => {
      const attempt = await claimed(rig, claims.first)
      await rig.store.intend(attempt, { ...intent, lastTry: true })
      await rig.store.leaveInDoubt(attempt, 'in_doubt', 1_000)
      await rig.store.exhaust(await rig.load(), false)
      say((await rig.load()).health)
      await rig.pass(6 * minutes)
      await rig.store.exhaust(await rig.load(), true)
      say((await rig.load()).health)
      await rig.store.exhaust({ ...(await rig.load()), tokenVersion: 2 }, false)
      say((await rig.load()).health)
      await rig.store.exhaust(await rig.load(), false)
    },
  ],
  [
    'not exhausted without a last try',
    hour,
    async rig => {
      const attempt = await intended(rig)
      await rig.store.leaveInDoubt(attempt, 'in_doubt', 1_000)
      await rig.pass(6 * minutes)
      await rig.store.exhaust(await rig.load(), false)
    },
  ],
  [
    'open intents are listed, unless paused or gone',
    hour,
    async (rig, say) => {
      const open = async () =>
        (await rig.store.openIntents())
          .filter(each => each.id === rig.id)
          .map(each => each.intentClaim === claims.first)
      say(await open())
      await intended(rig)
      say(await open())
      await rig.set({ paused: true })
      say(await open())
      await rig.set({ paused: false, gone: true })
      say(await open())
    },
  ],
  [
    'what a policy blocked is due once its wait is over, unless paused or gone',
    hour,
    async (rig, say) => {
      const due = async () => say((await rig.store.blockedDue()).some(each => each.id === rig.id))
      await due()
      await rig.store.withdraw(await intended(rig), 'blocked_by_policy', 'policy', 15 * minutes)
      await due()
      await rig.pass(16 * minutes)
      await due()
      await rig.set({ paused: true })
      await due()
      await rig.set({ paused: false, gone: true })
      await due()
    },
  ],
  [
    'the end of a token is asked for once',
    undefined,
    async (rig, say) => {
      const credential = await rig.load()
      say(await rig.store.askLifetimeOnce(credential))
      say(await rig.store.askLifetimeOnce(credential))
      await rig.store.saveLifetime(credential, 10 * minutes)
      await rig.store.saveLifetime(credential, 20 * minutes)
      await rig.store.install(answerTo(credential, { ...tokens('next'), lifeMs: undefined }))
      say(await rig.store.askLifetimeOnce(credential))
      await rig.store.saveLifetime(credential, 10 * minutes)
      say(await rig.store.askLifetimeOnce(await rig.load()))
    },
  ],
  [
    'an installation gives the grant its next turn, a sign-in leaves that open, and who does not know the limit changes nothing',
    hour,
    async (rig, say) => {
      const installed = async (name: string, limit: Installing) => {
        say(await rig.store.install(answerTo(await rig.load(), tokens(name)), limit))
        say((await rig.seen())!.keepAliveAt)
      }
      await installed('limited', { idleLimitMs })
      await installed('unknown', {})
      await installed('unlimited', { idleLimitMs: null })
      await installed('limited again', { idleLimitMs })
      await rig.signInAgain(tokens('new'))
      say((await rig.seen())!.keepAliveAt)
    },
  ],
  ['a known end is not asked for', hour, async (rig, say) => say(await rig.store.askLifetimeOnce(await rig.load()))],
]

const wholeSeconds = (ms: number | null): number | null => (ms === null ? null : Math.round(ms / 1000))

const idleLimitMs = 30 * 24 * hour

/** Which moment of its window a row gets is its own; the two stores number their rows differently. */
const inWindow = (ms: number | null) =>
  ms === null ? null : ms > idleLimitMs / 10 - 1_000 && ms < (6 * idleLimitMs) / 10 ? 'in its window' : 'elsewhere'

describe('the twin and PostgreSQL', () => {
  let openPostgres: Open

  const openTwin: Open = async first => {
    const twin = new Twin({ now: () => performance.now(), timing: defaultTiming })
    const id = twin.add({ id: newId(), integrationId: 1, tokens: first, epoch })
    const store = twinStore(twin, systemClock, defaultTiming, async (_name, statement) => statement())
    const row = () => twin.rows.get(id)!
    return {
      store,
      id,
      load: async () => (await store.load(id))!,
      async seen() {
        const { tokens: held, tokenFp, ...columns } = row()
        const now = performance.now()
        const instants = Object.fromEntries(
          (['obtainedAt', 'expiresAt', 'leaseUntil', 'intentAt', 'nextTryAt', 'goneAt'] as const).map(name => [
            name,
            wholeSeconds(columns[name] === null ? null : columns[name] - now),
          ]),
        )
        const { environmentId: _e, integrationId: _i, id: _id, ...rest } = columns
        const keepAliveAt = inWindow(columns.keepAliveAt === null ? null : columns.keepAliveAt - now)
        return { ...rest, ...instants, keepAliveAt, access: held.accessToken.reveal(), known: tokenFp !== null }
      },
      async pass(ms) {
        const now = row()
        for (const name of ['obtainedAt', 'expiresAt', 'leaseUntil', 'intentAt', 'nextTryAt'] as const)
          if (now[name] !== null) now[name] -= ms
      },
      async set({ paused, gone, suspect }) {
        if (paused !== undefined) twin.pause(id, paused)
        if (gone) twin.kill(id)
        if (suspect !== undefined) row().suspect = suspect
      },
      async signInAgain(next) {
        twin.reconnect(id, next, epoch)
      },
    }
  }

  before(async () => {
    const { db } = await testDatabase()
    const vault = await vaultOn(db, newEncryptionKey())
    const keyedHash = await openKeyedHash(db, vault)
    await addEnvironment(db, 'dev')
    const environmentId = (await listEnvironments(db))[0]!.id
    const deps = { db, vault, keyedHash, clock: systemClock, timing: defaultTiming }
    const store = createCredentialStore(deps)
    openPostgres = async first => {
      const integration = await addIntegration(
        { db, vault },
        {
          environmentId,
          key: newId(),
          provider: 'salesforce-sandbox',
          displayName: null,
          clientId: 'client',
          clientSecret: 'secret',
          scopes: null,
          forwardWebhooks: false,
          captureBodies: false,
          baseUrlHosts: [],
        },
      )
      const integrationId = integration!.id
      const added = { environmentId, integrationId, config: {}, scopesRequested: [], scopesGranted: [], epoch }
      const { id } = await addCredential(deps, { ...added, tokens: first })
      return {
        store,
        id,
        load: async () => (await store.load(id))!,
        async seen() {
          const [row] = await db.query<Record<string, unknown> & { token_fp: Buffer | null }>(sql`
            select *,
              extract(epoch from obtained_at - clock_timestamp())::float8 * 1000 as obtained,
              extract(epoch from expires_at - clock_timestamp())::float8 * 1000 as expires,
              extract(epoch from lease_until - clock_timestamp())::float8 * 1000 as lease,
              extract(epoch from intent_at - clock_timestamp())::float8 * 1000 as intent,
              extract(epoch from next_try_at - clock_timestamp())::float8 * 1000 as next_try,
              extract(epoch from gone_at - clock_timestamp())::float8 * 1000 as gone,
              extract(epoch from keep_alive_at - clock_timestamp())::float8 * 1000 as keep_alive
            from credential where id = ${id}`)
          if (!row) return undefined
          const place = { table: 'credential', column: 'sealed', environment: environmentId, row: id }
          const sealed = await vault.withKeys(() => vault.open(row.sealed as Buffer, place))
          const instant = (name: string) => wholeSeconds(row[name] as number | null)
          return {
            config: row.config,
            tokenVersion: row.token_version,
            grantNumber: row.grant_number,
            obtainedAt: instant('obtained'),
            expiresAt: instant('expires'),
            lifetimeAsked: row.lifetime_asked,
            rotates: row.rotates,
            scopesRequested: row.scopes_requested,
            scopesGranted: row.scopes_granted,
            claimId: row.claim_id,
            leaseUntil: instant('lease'),
            intentClaim: row.intent_claim,
            intentAt: instant('intent'),
            intentNode: row.intent_node,
            lastTried: row.last_tried,
            nextTryAt: instant('next_try'),
            failures: row.failures,
            spent: row.spent,
            suspect: row.suspect,
            health: row.health,
            cause: row.cause,
            said: row.said,
            paused: row.paused,
            goneAt: instant('gone'),
            epoch: row.db_epoch,
            keepAliveAt: inWindow(row.keep_alive as number | null),
            access: (JSON.parse(sealed) as { access_token: string }).access_token,
            known: row.token_fp !== null,
          } satisfies Record<
            Exclude<keyof Row, 'id' | 'environmentId' | 'integrationId' | 'tokens' | 'tokenFp'>,
            unknown
          > &
            Seen
        },
        async pass(ms) {
          await db.query(sql`
            with by as (select ${ms}::float8 * interval '1 millisecond' as ms)
            update credential set obtained_at = obtained_at - ms, expires_at = expires_at - ms,
              lease_until = lease_until - ms, intent_at = intent_at - ms, next_try_at = next_try_at - ms
            from by where id = ${id}`)
        },
        async set({ paused, gone, suspect }) {
          if (paused !== undefined) await db.query(sql`update credential set paused = ${paused} where id = ${id}`)
          if (suspect !== undefined) await db.query(sql`update credential set suspect = ${suspect} where id = ${id}`)
          if (gone)
            await db.query(sql`
              update credential set gone_at = clock_timestamp(), claim_id = null, lease_until = null where id = ${id}`)
        },
        async signInAgain(next) {
          // A sign-in that brings a token already known joins its row: made known here, then joined.
          const [known] = await db.query<{ token_fp: Buffer }>(sql`
            update credential set token_fp = ${keyedHash(`refresh token ${next.refreshToken!.reveal()}`)} where id = ${id}
            returning token_fp`)
          assert.ok(known)
          assert.equal((await addCredential(deps, { ...added, tokens: next })).id, id)
        },
      }
    }
  })

  for (const [name, life, steps] of cases)
    test(name, async () => {
      const told: unknown[] = []
      for (const open of [openTwin, openPostgres]) {
        const rig = await open({ ...tokens('first'), lifeMs: life })
        const said: unknown[] = []
        await steps(rig, answer => void said.push(answer))
        told.push({ said, row: await rig.seen() })
      }
      assert.deepEqual(told[1], told[0])
    })
})
