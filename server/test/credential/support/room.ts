/**
 * The credential room by itself: a real database, a real egress and the Salesforce simulator, no HTTP server of ours in front.
 * `process()` gives one more of them on the same database, as a second server would be.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { openKeyedHash } from '../../../src/account/pepper.ts'
import { addEnvironment, listEnvironments } from '../../../src/account/store.ts'
import { type Credentials, createCredentials } from '../../../src/credential/fresh.ts'
import { openJournal } from '../../../src/credential/journal.ts'
import { factsOf, readTokenAnswer, type TokenSet } from '../../../src/credential/kinds/oauth2-code.ts'
import type { Holder } from '../../../src/credential/refresh-deps.ts'
import { retire, retireLate } from '../../../src/credential/revocation/store.ts'
import { createRevocations, type Revocations } from '../../../src/credential/revocation.ts'
import {
  addCredential,
  type Credential,
  createCredentialStore,
  loadCredential,
  type StoreDeps,
} from '../../../src/credential/store.ts'
import { defaultTiming } from '../../../src/credential/timing.ts'
import { watchIntents } from '../../../src/credential/watch.ts'
import { sql } from '../../../src/db/sql.ts'
import { Failure } from '../../../src/errors.ts'
import { addIntegration } from '../../../src/integration/store.ts'
import { newId } from '../../../src/lib/id.ts'
import { Secret } from '../../../src/lib/secret.ts'
import { systemClock } from '../../../src/lib/time.ts'
import { parseEgressAllow } from '../../../src/net/allow.ts'
import { createEgress } from '../../../src/net/egress.ts'
import { loadCatalogue } from '../../../src/provider/catalogue.ts'
import type { Provider } from '../../../src/provider/schema.ts'
import { type TestDatabase, testDatabase } from '../../support/database.ts'
import { newEncryptionKey, vaultOn } from '../../support/vault.ts'

/** Everything but what each process of the room has for itself. */
export type RoomDeps = StoreDeps & Omit<Parameters<typeof createCredentials>[0], 'watch' | 'onRenewed' | 'onOutcome'>

const epoch = 'test'

export interface Room {
  simulator: Simulator
  db: TestDatabase['db']
  databaseUrl: string
  deps: RoomDeps
  holder: Holder
  environmentId: number
  integrationId: number
  credentials: Credentials
  /** The worker of the outbox. Nobody sweeps but the test and a late answer. */
  revocations: Revocations
  /** What was handed to caches, newest last. */
  renewed: Credential[]
  process(deps?: Partial<RoomDeps>): Credentials
  /** Stores a grant of a fresh approval. `leftMs`: how long its two-hour access token has left; null: nobody knows. */
  connect(leftMs?: number | null): Promise<Credential>
  load(id: string): Promise<Credential>
  /** Sets what is left of the access token. */
  age(id: string, leftMs: number | null): Promise<Credential>
  /** The back-off is over. */
  letTry(id: string): Promise<Credential>
  row(id: string): Promise<{ intent_claim: string | null; claim_id: string | null; lease_until: Date | null }>
  /** Ends the grant as deleting its last connection does. */
  deleteRow(id: string): Promise<void>
  /** Times a refresh token was presented. */
  presented(): number
}

/** One database for the file; every room has an integration of its own in it. */
let database: Promise<TestDatabase> | undefined
export const encryptionKey = newEncryptionKey()

type Test = { after(work: () => Promise<void>): void }

export const sandbox = 'acme--uat'
export const hours = (n: number): number => n * 3_600_000
export const lapsed = -1_000

export async function openRoom(
  t: Test,
  options: { rotation?: boolean; provider?: Partial<Provider> } = {},
): Promise<Room> {
  database ??= testDatabase()
  const { db, url: databaseUrl } = await database
  const simulator = await startSimulator()
  const { clientId, clientSecret } = simulator.app(sandbox)
  if (options.rotation) simulator.control.setApp({ clientId, rotation: true })

  const { rules } = parseEgressAllow('127.0.0.1')
  const egress = createEgress({ rules })
  const vault = await vaultOn(db, encryptionKey)
  const keyedHash = await openKeyedHash(db, vault)
  await addEnvironment(db, 'dev')
  const environmentId = (await listEnvironments(db))[0]!.id
  const added = await addIntegration(
    { db, vault },
    {
      environmentId,
      key: newId(),
      provider: 'salesforce-sandbox',
      displayName: null,
      clientId,
      clientSecret,
      scopes: null,
      forwardWebhooks: true,
      captureBodies: false,
      baseUrlHosts: [],
    },
  )
  const integrationId = added!.id
  const provider = { ...simulatedSandbox(simulator, rules), ...options.provider }
  const holder: Holder = { provider, client: { id: clientId, secret: new Secret(clientSecret) } }

  const logged: object[] = []
  const note = (fields: object, message: string) => void logged.push({ ...fields, message })
  const log = { debug: note, info: note, warn: note, error: note }
  const stores = { db, vault, keyedHash, clock: systemClock, timing: defaultTiming }
  const journalFolder = mkdtempSync(join(tmpdir(), 'fairlead-journal-'))
  const journal = await openJournal(journalFolder, vault, log)
  const deps: RoomDeps = {
    ...stores,
    store: createCredentialStore(stores),
    journal,
    egress,
    log,
    node: 'test',
    epoch: { current: () => ({ name: epoch, since: 0 }), look: async () => {} },
    revoke: async (holder, late) => {
      await retireLate(db, stores, holder, late)
      await room.revocations.sweep()
    },
    // Other rooms share the database, not the simulator.
    holderOf: async id => (id === integrationId ? holder : undefined),
  }
  const renewed: Credential[] = []
  const all: Credentials[] = []
  const room: Room = {
    simulator,
    db,
    databaseUrl,
    deps,
    holder,
    environmentId,
    integrationId,
    credentials: undefined as never,
    revocations: undefined as never,
    renewed,
    process(other = {}) {
      const clock = other.clock ?? deps.clock
      const timing = other.timing ?? deps.timing
      const watch = watchIntents(clock, timing.quiet)
      const store = createCredentialStore({ ...stores, timing })
      const made = createCredentials({
        ...deps,
        store,
        watch,
        ...other,
        onRenewed: credential => void renewed.push(credential),
        onOutcome: () => {},
      })
      all.push(made)
      return made
    },
    async connect(leftMs = hours(1)) {
      const { id } = await addCredential(deps, {
        environmentId,
        integrationId,
        ...grantOf(room),
        scopesRequested: ['api', 'refresh_token'],
        scopesGranted: ['api', 'refresh_token'],
        epoch,
      })
      return room.age(id, leftMs)
    },
    async load(id) {
      const credential = await loadCredential(deps, id)
      assert.ok(credential)
      return credential
    },
    async age(id, leftMs) {
      await db.query(sql`
        update credential set expires_at = clock_timestamp() + ${leftMs}::float8 * interval '1 millisecond',
          obtained_at = clock_timestamp() + ${(leftMs ?? 0) - hours(2)}::float8 * interval '1 millisecond'
        where id = ${id}`)
      return room.load(id)
    },
    async letTry(id) {
      await db.query(sql`update credential set next_try_at = null where id = ${id}`)
      return room.load(id)
    },
    async row(id) {
      const [row] = await db.query<Awaited<ReturnType<Room['row']>>>(sql`select * from credential where id = ${id}`)
      return row!
    },
    async deleteRow(id) {
      const ended = [{ credentialId: id, connectionIds: [`of-${id}`] }]
      await db.transaction(tx => retire(stores, tx, added!, ended, null))
    },
    presented: () => simulator.control.counters().grants.refresh_token ?? 0,
  }
  room.credentials = room.process()
  room.revocations = createRevocations({
    ...stores,
    egress,
    log,
    providerOf: () => holder.provider,
    clientOf: async () => holder.client,
  })

  t.after(async () => {
    await Promise.all(all.map(credentials => credentials.drain()))
    await simulator.close()
    await egress.close()
    await journal.close()
    rmSync(journalFolder, { recursive: true })
    // Whatever a test broke: no token, and no client secret, in the log.
    const text = JSON.stringify(logged)
    for (const { refreshToken } of simulator.control.state().grants) assert.ok(!text.includes(refreshToken))
    assert.ok(!text.includes(clientSecret) && !text.includes('00D'), text)
  })
  return room
}

/** The built-in sandbox definition with the three keys that point it at the simulator, by path. */
function simulatedSandbox(simulator: Simulator, egressAllow: Parameters<typeof loadCatalogue>[0]['egressAllow']) {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-providers-'))
  try {
    const overlayPath = join(folder, 'providers.yaml')
    writeFileSync(overlayPath, simulatorOverlay(simulator))
    return loadCatalogue({ overlayPath, egressAllow }).get('salesforce-sandbox')!
  } finally {
    rmSync(folder, { recursive: true })
  }
}

export const simulatorOverlay = (simulator: Simulator): string => `salesforce-sandbox:
  authorization_url: ${simulator.base('test')}/services/oauth2/authorize
  token_url: ${simulator.base('test')}/services/oauth2/token
  allowed_hosts: ['127.0.0.1']
`

/** A new approval of Ada's, as the code exchange would have returned it. */
export function grantOf({ simulator, holder }: Pick<Room, 'simulator' | 'holder'>): {
  tokens: TokenSet
  config: Record<string, unknown>
} {
  const body = simulator.control.issueTokens({ username: 'ada@acme.com.uat' })
  const read = readTokenAnswer(holder.provider, 200, Buffer.from(JSON.stringify(body)), Date.now())
  assert.equal(read.kind, 'tokens')
  if (read.kind !== 'tokens') throw new Error('unreachable')
  return { tokens: read.tokens, config: factsOf(holder.provider, read.tokens.raw) }
}

/** The Failure a call ends with; anything else fails the test. */
export async function failureOf(call: Promise<unknown>): Promise<Failure> {
  const error = await call.then(
    () => assert.fail('it should have failed'),
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof Failure)) throw error
  return error
}
