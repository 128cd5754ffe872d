/** One server process around the real engine, put together as `app.ts` puts it together: its credentials, its cache, its sweep, what it hears of. */
import { createCatchUp } from '../../src/credential/catch-up.ts'
import { followEpoch } from '../../src/credential/epoch.ts'
import { type Credentials, createCredentials } from '../../src/credential/fresh.ts'
import type { Holder } from '../../src/credential/refresh-deps.ts'
import { revokeToken } from '../../src/credential/revocation.ts'
import type { Credential, CredentialStore } from '../../src/credential/store.ts'
import type { Timing } from '../../src/credential/timing.ts'
import { watchIntents } from '../../src/credential/watch.ts'
import type { Egress } from '../../src/seams.ts'
import type { Process } from './machine.ts'

export interface Node {
  process: Process
  credentials: Credentials
  /** A connection's credential as the proxy has it: from the cache, else from the row. */
  live(id: string): Promise<Credential | undefined>
  /** A notification of the database. */
  hears(payload: string): void
  /** The database was away. */
  gap(): void
  /** The newest access token it has handed out, by credential. */
  served: Map<string, number>
}

const cacheMs = 60_000

interface Surroundings {
  store: CredentialStore
  egress: Pick<Egress, 'request' | 'check'>
  holder: Holder
  timing: Timing
  readEpoch: () => Promise<string>
  /** How long until the next sweep. */
  sweepIn: () => number | undefined
  log: (text: string) => void
}

export async function startNode(process: Process, around: Surroundings): Promise<Node> {
  const { clock, journal } = process
  const { store, egress, holder, timing } = around
  const epoch = await followEpoch(around.readEpoch, clock)
  const note = (fields: object, message: string) => around.log(`${process.name}: ${message} ${JSON.stringify(fields)}`)
  const log = { debug: note, info: note, warn: note, error: note }

  const cache = new Map<string, { credential: Credential; until: number }>()
  let forgotten = 0
  const forget = (id: string) => {
    forgotten++
    cache.delete(id)
  }
  const credentials = createCredentials({
    store,
    egress,
    clock,
    timing,
    log,
    journal,
    watch: watchIntents(clock, timing.quiet),
    node: process.name,
    epoch,
    // The outbox is a table of its own and no part of what is simulated: its work, without it.
    revoke: async (of, { config, facts, tokens: { refreshToken } }) => {
      for (let tries = 0; refreshToken && tries < 6; tries++) {
        const said = await revokeToken(
          { egress, clock, timing },
          of,
          { ...config, ...facts },
          refreshToken,
          'refresh_token',
        ).catch(() => undefined)
        if (said && said.kind !== 'later') return
        await clock.sleep(1_000 * 2 ** tries)
      }
    },
    onOutcome: () => {},
    onRenewed: credential => {
      const cached = cache.get(credential.id)
      if (cached && cached.credential.tokenVersion < credential.tokenVersion) forget(credential.id)
    },
    holderOf: async () => holder,
  })

  const catching = createCatchUp({ credentials, journal, epoch })
  let sweeping = false
  const sweepLater = (): void => {
    const ms = around.sweepIn()
    if (ms === undefined) return
    process.timer(ms, () => {
      sweepLater()
      if (sweeping) return
      sweeping = true
      const done = () => {
        sweeping = false
      }
      catching.sweep().then(done, done)
    })
  }
  sweepLater()
  void catching.catchUp().catch(() => {})

  return {
    process,
    credentials,
    served: new Map(),
    async live(id) {
      const cached = cache.get(id)
      if (cached && cached.until > clock.now()) return cached.credential
      const before = forgotten
      const credential = await store.load(id)
      if (credential && forgotten === before) cache.set(id, { credential, until: clock.now() + cacheMs })
      return credential
    },
    hears(payload) {
      const [what, id = ''] = payload.split(' ')
      if (what === 'credential') forget(id)
      if (what === 'pull') void catching.offer(id).catch(() => {})
    },
    gap() {
      forgotten++
      cache.clear()
      void catching.catchUp().catch(() => {})
    },
  }
}
