/**
 * A process that renews one credential with the real engine and dies, or stops, at one point of it. Started by refresh-points.test.ts with
 * its instructions as JSON; says "stopped" before it stops, so that its parent knows when to wake it.
 */
import { openKeyedHash } from '../../src/account/pepper.ts'
import { createCredentials } from '../../src/credential/fresh.ts'
import { openJournal } from '../../src/credential/journal.ts'
import { retireLate } from '../../src/credential/revocation/store.ts'
import { createCredentialStore, loadCredential } from '../../src/credential/store.ts'
import type { Timing } from '../../src/credential/timing.ts'
import { watchIntents } from '../../src/credential/watch.ts'
import { openDb } from '../../src/db/open.ts'
import { Secret } from '../../src/lib/secret.ts'
import { systemClock } from '../../src/lib/time.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { createEgress } from '../../src/net/egress.ts'
import type { Provider } from '../../src/provider/schema.ts'
import { vaultOn } from '../support/vault.ts'

export type Point =
  | 'before the claim'
  | 'claimed'
  | 'intended'
  | 'sent'
  | 'answered'
  | 'journalled'
  | 'installed'
  | 'decided'
  | 'refused'

export interface Instructions {
  databaseUrl: string
  encryptionKey: string
  dataDir: string
  provider: Provider
  clientId: string
  clientSecret: string
  credentialId: string
  epoch: string
  timing: Timing
  point: Point
  /** Milliseconds after the request was written, for the point "sent". */
  sentMs: number
  signal: 'SIGKILL' | 'SIGSTOP'
}

const instructions = JSON.parse(process.argv[2]!) as Instructions
const { point, timing, signal } = instructions

let over = false
/** The end, or the long pause, when this is the point. */
async function at(here: Point): Promise<void> {
  if (here !== point || over) return
  over = true
  process.stdout.write('stopped\n')
  process.kill(process.pid, signal)
  // A signal to oneself may arrive a moment later; nothing else may happen in between.
  if (signal === 'SIGKILL') await new Promise(() => {})
}

const { db } = await openDb({ url: instructions.databaseUrl })
const vault = await vaultOn(db, instructions.encryptionKey)
const keyedHash = await openKeyedHash(db, vault)
const log = { debug() {}, info() {}, warn() {}, error() {} }
const stores = { db, vault, keyedHash, clock: systemClock, timing }
const store = createCredentialStore(stores)
const journal = await openJournal(instructions.dataDir, vault, log)
const egress = createEgress({ rules: parseEgressAllow('127.0.0.1').rules })
const client = { id: instructions.clientId, secret: new Secret(instructions.clientSecret) }
const holder = { provider: instructions.provider, client }

const credentials = createCredentials({
  clock: systemClock,
  timing,
  log,
  node: `refresher ${process.pid}`,
  epoch: { current: () => ({ name: instructions.epoch, since: 0 }), look: async () => {} },
  watch: watchIntents(systemClock, timing.quiet),
  revoke: (holder, late) => retireLate(stores.db, stores, holder, late),
  holderOf: async () => holder,
  onRenewed: () => {},
  onOutcome: () => {},
  store: {
    ...store,
    async claim(...args) {
      await at('before the claim')
      const claimed = await store.claim(...args)
      await at('claimed')
      return claimed
    },
    async intend(...args) {
      const intended = await store.intend(...args)
      await at('intended')
      return intended
    },
    async install(...args) {
      const installed = await store.install(...args)
      await at('installed')
      return installed
    },
    async refuse(...args) {
      await store.refuse(...args)
      await at('refused')
    },
  },
  journal: {
    ...journal,
    async append(successor) {
      await at('answered')
      const entry = await journal.append(successor)
      await at('journalled')
      return entry
    },
    async decide(...args) {
      await journal.decide(...args)
      await at('decided')
    },
  },
  egress: {
    check: egress.check,
    request: request =>
      egress.request({
        ...request,
        ...(request.ready && {
          ready: async () => {
            const go = await request.ready!()
            if (go) setTimeout(() => void at('sent'), instructions.sentMs)
            return go
          },
        }),
      }),
  },
})

const seen = await loadCredential(stores, instructions.credentialId)
await credentials.forced(holder, seen!).catch(() => {})
// Whoever was only paused finishes what it was about, as a server would.
await credentials.drain()
process.exit(0)
