/**
 * The composition root: opens the database, makes the seams, lists every room once. Whatever opens pushes its closer;
 * stopping runs them from last to first, PostgreSQL at the very end.
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { getHealth, getReady } from '@fairlead/contract'
import { getRequestListener } from '@hono/node-server'
import { type Callers, createCallers, secured } from './account/caller.ts'
import { egressRoutes } from './account/egress.ts'
import { encryptionRoutes } from './account/encryption.ts'
import { prepareEnvironments } from './account/first-run.ts'
import { keyRoutes } from './account/keys/routes.ts'
import { createOidc } from './account/operator/oidc.ts'
import { operatorRoutes } from './account/operator/routes.ts'
import { createOperators } from './account/operator/session.ts'
import { newSetupLink } from './account/operator/sign-in.ts'
import { pruneOperators, sealedTotp } from './account/operator/store.ts'
import { openKeyedHash } from './account/pepper.ts'
import { settingsRoutes } from './account/settings/routes.ts'
import { sealedSigningKeys } from './account/settings/store.ts'
import { announceChange, sealedSettings } from './account/store.ts'
import { type Activity, createActivity } from './activity/activity.ts'
import { observe } from './activity/metrics.ts'
import { activityRoutes } from './activity/routes.ts'
import { retainActivity } from './activity/store.ts'
import { createAudit, pruneAudit } from './audit/audit.ts'
import { auditRoutes } from './audit/routes.ts'
import { type Config, variables } from './config.ts'
import { type Channel, createChannel } from './connect/notify.ts'
import { connectRoutes } from './connect/routes.ts'
import { expireHandshakes, findSessionCaller, pruneSessions, sealedVerifiers } from './connect/store.ts'
import { confirmRoutes, endUnconfirmed } from './connection/confirm.ts'
import { editRoutes } from './connection/edit.ts'
import { importRoutes } from './connection/import.ts'
import { type Connections, createConnections, holderOf } from './connection/live.ts'
import { connectionRoutes } from './connection/routes.ts'
import { endIntegration } from './connection/store.ts'
import { type CatchUp, createCatchUp } from './credential/catch-up.ts'
import { followEpoch } from './credential/epoch.ts'
import { type Credentials, createCredentials } from './credential/fresh.ts'
import { openJournal } from './credential/journal.ts'
import { createKeepAlive } from './credential/keep-alive.ts'
import { pruneReceipts, retireLate, sealedJobs } from './credential/revocation/store.ts'
import { createRevocations } from './credential/revocation.ts'
import {
  type CredentialStore,
  countInDoubt,
  countRenewals,
  countUnwell,
  createCredentialStore,
  pruneCredentials,
  type RenewalCount,
  readEpoch,
  sealedTokens,
  tellTrust,
} from './credential/store.ts'
import { checkTiming, defaultTiming, shutdownGrace, type Timing } from './credential/timing.ts'
import { watchIntents } from './credential/watch.ts'
import { dashboardRoutes } from './dashboard/routes.ts'
import { type Begun, beginDatabase } from './db/begin.ts'
import { migrate, migrationsFolder } from './db/migrate.ts'
import { type Address, type DirectPool, type OpenDb, openDb, openDirectPool } from './db/open.ts'
import { createOutage, outageMs, within } from './db/outage.ts'
import { openApi } from './docs/openapi.ts'
import { docsRoutes } from './docs/routes.ts'
import { doctorRoutes } from './doctor/routes.ts'
import { endUserRoutes } from './end-user/routes.ts'
import { Failure } from './errors.ts'
import { absentRoutes } from './http/absent.ts'
import { api, type Guard, jsonOnly, limitBody, onError, onNotFound, openToPages, requestIdHeader } from './http/api.ts'
import { currentPath } from './http/older.ts'
import { isWatching, shed, watchOverload } from './http/overload.ts'
import { type Listening, listen } from './http/server.ts'
import { integrationRoutes } from './integration/routes.ts'
import {
  findIntegrationById,
  type Integration,
  listIntegrationsOf,
  sealedClientSecrets,
  sealedIntegrationSettings,
} from './integration/store.ts'
import { readLag } from './job/store.ts'
import { type Jobs, jobsAtOnce, migrateJobs, readQueue, startJobs, type Task } from './job/worker.ts'
import { newRequestId } from './lib/id.ts'
import type { Log } from './lib/log.ts'
import { Secret } from './lib/secret.ts'
import { minutes, seconds, systemClock } from './lib/time.ts'
import { createLimits as createRequestLimits } from './limit/limits.ts'
import { parseEgressAllow } from './net/allow.ts'
import { createAddressOf } from './net/caller-address.ts'
import { createEgress } from './net/egress.ts'
import { addressesOf, exitsOf } from './net/exits.ts'
import { loadCatalogue } from './provider/catalogue.ts'
import { createExplain } from './provider/explain.ts'
import { providerRoutes } from './provider/routes.ts'
import { createLimits } from './proxy/limits.ts'
import { createProxy, isProxied } from './proxy/routes.ts'
import type { Db, Trace } from './seams.ts'
import type { TracingSettings } from './trace/settings.ts'
import type { Tracing } from './trace/tracing.ts'
import { readKeyFile, writeKeyFile } from './vault/key-file.ts'
import { kmsKey } from './vault/kms.ts'
import { configuredKeys } from './vault/provider.ts'
import { openRing, type Ring } from './vault/ring.ts'
import { createRotation, type SealedColumn } from './vault/rotate.ts'
import { createKeyStore, hasDataKeys } from './vault/store.ts'
import { createVault } from './vault/vault.ts'
import { createDeliveries, type Deliveries } from './webhook/deliver.ts'
import { receivingRoutes } from './webhook/inbound/receive.ts'
import { webhookAddressRoutes } from './webhook/inbound/routes.ts'
import { webhookRoutes } from './webhook/routes.ts'
import { openPayload, pruneDeliveries, readBacklog, sealedPayloads } from './webhook/store.ts'

export interface App {
  /** Where it is reached, e.g. http://localhost:3003. */
  url: string
  port: number
  /** API keys generated on this start: shown now or never. */
  generatedKeys: { environment: string; key: Secret }[]
  /** Where the first operator is made; undefined when there is one. */
  setupLink: Secret | undefined
  /** `lingerMs`: how long it may serve on for those who have not seen yet that it is not ready. */
  stop(lingerMs?: number): Promise<void>
}

const version = '0.1.0'

/** `begun`: the data folder and its database, where they are begun already. It is stopped with the rest, also when the start fails. */
export async function startApp(
  config: Config,
  log: Log,
  timing: Timing = defaultTiming,
  begun: Begun = beginDatabase(config, log),
): Promise<App> {
  checkTiming(timing)
  const closers: (() => Promise<unknown>)[] = []
  let linger = 0
  const stop = async (lingerMs = 0) => {
    linger = lingerMs
    for (const close of closers.splice(0).reverse())
      await close().catch(error => log.error({ error: String(error) }, 'could not close'))
  }
  closers.push(async () => begun.database.then(({ stop }) => stop()).catch(() => {}))
  try {
    const catalogue = loadCatalogue({ overlayPath: config.providersPath, egressAllow: config.egressAllow })
    const beyond = catalogue.list().filter(provider => provider.unsupported)
    if (beyond.length > 0)
      log.warn(
        { providers: Object.fromEntries(beyond.map(provider => [provider.name, provider.unsupported])) },
        'provider definitions ask for what this version cannot do; connections of these are not made here',
      )
    const { database, jobPool } = await openDatabase(config, log, closers, begun)
    const tracing = config.tracing && (await startTracing(config.tracing, log, n => observed.untold(n), closers))
    const db = tracing?.db(database.db) ?? database.db
    const keyStore = createKeyStore(db)
    const wayOut = createEgress({ rules: config.egressAllow, proxies: config.egressProxies })
    const egress = tracing?.egress(wayOut) ?? wayOut
    closers.push(() => egress.close())
    const keys = configuredKeys(await encryptionKeys(config, database), arn => kmsKey(egress, config.aws!, arn))
    const ring = await openRing(keyStore, keys)
    const vault = createVault(ring)
    const keyedHash = await openKeyedHash(db, vault)
    const generatedKeys = await prepareEnvironments({ db, keyedHash }, config.pinnedKeys)

    const { retention } = config
    const rotation = createRotation({
      db,
      store: keyStore,
      ring,
      vault,
      columns: sealedColumns(db),
      log,
      keepDays: retention.retired_keys,
    })

    const clock = systemClock
    const stores = { db, vault, keyedHash, clock, timing }
    const epoch = await followEpoch(() => readEpoch(db), clock)
    const journal = await openJournal(config.dataDir, vault, log, retention.journal)
    closers.push(() => journal.close())
    const outage = createOutage()
    const connections = createConnections({ ...stores, catalogue, outage })
    const refreshing = { egress, clock, timing, log }
    const revocations = createRevocations({
      ...refreshing,
      db,
      vault,
      providerOf: name => catalogue.get(name),
      clientOf: async id => {
        const integration = await findIntegrationById(stores, id)
        return integration && { id: integration.clientId ?? '', secret: integration.clientSecret }
      },
    })
    closers.push(every(seconds(5), log, () => revocations.sweep()))
    closers.push(() => revocations.drain())
    const deliveries = createDeliveries({ db, vault, egress, clock, catalogue, log })
    closers.push(every(seconds(5), log, async () => deliveries.kick()))
    closers.push(() => deliveries.drain())
    const observed = observe({
      unwell: () => countUnwell(db),
      inDoubt: () => countInDoubt(db),
      webhooks: () => readBacklog(db),
      jobLag: () => readLag(db),
      pool: database.load,
      caches: () => ({ callers: callers.lookups, connections: connections.lookups }),
    })
    const recorder = createActivity({ db, vault, clock, log, onCall: observed.call, onDropped: observed.dropped })
    closers.push(() => recorder.drain())
    const activity: Activity = {
      ...recorder,
      record(call) {
        tracing?.annotate({
          'fairlead.integration': call.integration,
          'fairlead.connection': call.connection,
          'fairlead.outcome': call.outcome,
          'fairlead.retries': call.retries,
          'fairlead.refreshed': call.refreshed,
          'error.type': call.error,
        })
        recorder.record(call)
      },
    }
    closers.push(
      every(minutes(10), log, async () => {
        await pruneCredentials(db, retention.replaced_tokens)
        await pruneOperators(db)
      }),
    )
    let renewals = new Map<string, RenewalCount>()
    closers.push(
      every(seconds(1), log, async () => {
        if (renewals.size === 0) return
        const counted = [...renewals.values()]
        renewals = new Map()
        await countRenewals(db, counted)
      }),
    )
    const credentials = createCredentials({
      ...refreshing,
      store: tracing ? inSteps(createCredentialStore(stores), tracing.trace) : createCredentialStore(stores),
      trace: tracing?.trace,
      journal,
      watch: watchIntents(clock, timing.quiet),
      node: `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`,
      epoch,
      revoke: async (holder, late) => {
        await retireLate(db, stores, holder, late)
        revocations.kick()
      },
      onOutcome(outcome, { environmentId }) {
        observed.refresh(outcome)
        const { kind } = outcome
        if (kind !== 'not_claimed') {
          const key = `${environmentId} ${kind}`
          renewals.set(key, { environmentId, outcome: kind, n: (renewals.get(key)?.n ?? 0) + 1 })
        }
        tracing?.annotate({ 'fairlead.outcome': kind })
      },
      onRenewed: credential => connections.credentialRenewed(credential.id),
      // Lost with the database away; then each server finds out for itself.
      tell: payload => void tellTrust(db, payload).catch(() => {}),
      holderOf: async id => {
        const integration = await findIntegrationById(stores, id)
        return integration && holderOf(catalogue, integration).holder
      },
    })
    closers.push(() => credentials.drain())
    const catching = createCatchUp({ credentials, journal, epoch })
    closers.push(every(timing.sweep, log, catching.sweep))
    const audit = createAudit(keyedHash)
    const operators = createOperators({ db, keyedHash, url: config.url })
    const addressOf = createAddressOf(config.trustedProxies)
    const requests = createRequestLimits({ db, now: () => Date.now() })
    closers.push(every(seconds(1), log, () => requests.flush()))
    const callers = createCallers({
      ...{ db, keyedHash, operators, addressOf, outage, limits: requests },
      findSession: token => findSessionCaller(stores, token),
    })
    const channel = createChannel({ db, keyedHash, addressOf, log })
    closers.push(every(minutes(1), log, async () => void (await expireHandshakes(stores))))
    closers.push(await followChanges(database, ring, connections, callers, credentials, catching, deliveries, channel))
    // Whoever began a rotation may have died in the middle of it.
    closers.push(every(seconds(30), log, () => rotation.sweep()))
    closers.push(() => rotation.close())
    void rotation.sweep().catch(error => log.warn({ reason: String(error) }, 'a rotation could not be taken up yet'))
    void catching.catchUp().catch(error => log.warn({ reason: String(error) }, 'the journal could not be replayed yet'))

    const exits = async () => addressesOf(await exitsOf(config.egressProxies))
    const explain = createExplain({
      catalogue,
      redirectUri: `${config.url}/oauth/callback`,
      exits,
    })
    const guard: Guard = route => secured(route, callers)
    const changed = (environmentId: number) =>
      announceChange(db, environmentId).then(() => connections.forgetEnvironment(environmentId))
    const endGrants = (tx: Db, integration: Integration) => endIntegration(stores, tx, integration)
    const shared = {
      ...stores,
      egress,
      catalogue,
      connections,
      credentials,
      revocations,
      callers,
      guard,
      audit,
      activity,
      log,
      epoch,
      channel,
      explain,
      addressOf,
      url: config.url,
    }

    closers.push(every(seconds(20), log, () => endUnconfirmed(shared)))

    const routes = api()
    routes.onError(onError(log))
    routes.notFound(onNotFound)
    // Before what holds for callers who speak JSON: providers send what they like.
    routes.route('/', receivingRoutes({ ...shared, deliveries }))
    routes.use(openToPages, jsonOnly, limitBody, (c, next) => {
      c.set('addressOf', addressOf)
      return next()
    })
    if (tracing) routes.use(tracing.naming)
    routes.openapi(getHealth, c => c.json({ result: 'ok' as const }, 200))
    let stopping = false
    let reached = performance.now()
    routes.openapi(getReady, async c => {
      if (stopping) throw new Failure('not_ready', { message: 'This server is shutting down.' })
      try {
        await within(seconds(1), database.ping())
        reached = performance.now()
        return c.json({ result: 'ok' as const }, 200)
      } catch (error) {
        // Every server has lost it: not being ready would take all of them from their callers, whose tokens are warm.
        if (performance.now() - reached > outageMs) throw error
        return c.json({ result: 'ok' as const, database: 'away' as const }, 200)
      }
    })
    routes.get('/metrics', async c =>
      c.text(await observed.text(), 200, { 'Content-Type': 'text/plain; version=0.0.4' }),
    )
    const oidc = config.oidc && createOidc({ ...shared, ...config.oidc })
    routes.route('/', operatorRoutes({ ...shared, operators, oidc, host: config.host }))
    routes.route('/', auditRoutes(shared))
    routes.route('/', encryptionRoutes({ ...shared, rotation }))
    routes.route('/', settingsRoutes(shared))
    routes.route('/', keyRoutes(shared))
    routes.route('/', egressRoutes({ guard, exits: () => exitsOf(config.egressProxies) }))
    routes.route('/', providerRoutes(shared))
    routes.route('/', integrationRoutes({ ...shared, changed, endGrants }))
    routes.route('/', confirmRoutes(shared))
    routes.route('/', editRoutes(shared))
    routes.route('/', connectionRoutes(shared))
    routes.route('/', importRoutes(shared))
    routes.route(
      '/',
      endUserRoutes({
        ...shared,
        openPayload: (environment, event, sealed) => openPayload(vault, environment, event, sealed),
      }),
    )
    const limits = createLimits(clock)
    routes.route('/', doctorRoutes({ ...shared, exits, usageOf: limits.usageOf }))
    routes.route('/', connectRoutes(shared))
    routes.route('/', activityRoutes({ ...shared, keepDays: retention.activity }))
    routes.route('/', webhookAddressRoutes(shared))
    routes.route('/', webhookRoutes({ ...shared, deliveries }))
    routes.route('/', dashboardRoutes())
    const document = () => openApi(routes, config.url, version)
    routes.route('/', docsRoutes({ ...shared, document, variables }))
    routes.route('/', absentRoutes())

    const proxy = createProxy({ ...shared, limits })
    const listener = getRequestListener(routes.fetch)
    const overload = watchOverload()
    closers.push(async () => overload.close())
    const serve = (req: IncomingMessage, res: ServerResponse, requestId: string): Promise<void> => {
      // The proxy writes its heads whole: a header set beforehand would cost each of them a merge.
      if (isProxied(req.url ?? '')) return proxy(req, res, requestId)
      res.setHeader(requestIdHeader, requestId)
      return listener(req, res)
    }
    const served = tracing?.serving(serve) ?? serve
    const handler = (req: IncomingMessage, res: ServerResponse) => {
      req.url = currentPath(req.method, req.url ?? '')
      const requestId = newRequestId()
      if (overload.isOver() && !isWatching(req.url)) return shed(res, requestId)
      void served(req, res, requestId)
    }
    const server: Listening = await listen(handler, config, channel.sockets)
    let jobs: Jobs | undefined
    closers.push(async () => {
      stopping = true
      // At the same time: both have the one grace.
      await Promise.all([server.stop(shutdownGrace, linger), jobs?.stop()])
    })
    const keepAlive = createKeepAlive({
      db,
      clock,
      log,
      credentials,
      watched: async () => {
        const limited = catalogue.list().filter(provider => provider.idle_limit_days !== undefined)
        const found = await listIntegrationsOf(
          db,
          limited.map(provider => provider.name),
        )
        return found.map(({ id, provider }) => ({ integrationId: id, provider: catalogue.get(provider)! }))
      },
    })
    const tasks: Record<string, Task> = {
      keep_alive: (_, { signal }) => keepAlive.run(signal),
      retain_activity: () => retainActivity(db, retention),
      retain: async (_, { signal }) => {
        while (!signal.aborted && (await pruneDeliveries(db, retention))) {}
        await pruneSessions(db, retention.sessions)
        await pruneReceipts(db, retention.receipts)
      },
      retain_audit: async () => {
        if (retention.audit !== undefined) await pruneAudit(db, keyedHash, retention.audit)
      },
    }
    const cron = [
      { task: 'keep_alive', pattern: '* * * * *' },
      { task: 'retain_activity', pattern: '* * * * *' },
      { task: 'retain', pattern: '*/10 * * * *' },
      { task: 'retain_audit', pattern: '23 3 * * *' },
    ]
    const setup = await newSetupLink(stores)
    jobs = await startJobs({ db, pool: jobPool, clock, log }, { tasks, cron })
    const setupLink = setup && new Secret(`${config.url}/app/setup#${setup.reveal()}`)
    return { url: config.url, port: server.port, generatedKeys, setupLink, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Every place where something sealed stands for longer than a day. */
export const sealedColumns = (db: Db): SealedColumn[] => [
  sealedSettings(db),
  sealedTotp(db),
  sealedClientSecrets(db),
  sealedIntegrationSettings(db),
  sealedVerifiers(db),
  sealedTokens(db),
  sealedJobs(db),
  sealedSigningKeys(db),
  sealedPayloads(db),
]

/** The queue's tables, in a database no server has open. */
export async function migrateHere(direct: Address, log: Log): Promise<void> {
  const { db, close } = await openDb(direct)
  const pool = openDirectPool(direct, 1)
  await migrateJobs({ db, pool, log }).finally(() => Promise.all([close(), pool.end()]))
}

/** Imported only when somebody asked. The collector is the operator's own, so it may be a private address, and is no proxy's business. */
async function startTracing(
  settings: TracingSettings,
  log: Log,
  onDropped: (spans: number) => void,
  closers: (() => Promise<unknown>)[],
): Promise<Tracing> {
  const [{ createTracing }, { createExporter }] = await Promise.all([
    import('./trace/tracing.ts'),
    import('./trace/export.ts'),
  ])
  const egress = createEgress({ rules: parseEgressAllow(settings.url.host).rules, proxies: [] })
  closers.push(() => egress.close())
  const tracing = createTracing(settings, createExporter({ egress, settings, version, log, onDropped }))
  closers.push(() => tracing.close())
  return tracing
}

/** What a refresh spends its time on beside the provider. */
const inSteps = (store: CredentialStore, trace: Trace): CredentialStore => ({
  ...store,
  claim: (...given) => trace('refresh.claim', {}, () => store.claim(...given)),
  intend: (...given) => trace('refresh.intent', {}, () => store.intend(...given)),
  install: (...given) => trace('refresh.install', {}, () => store.install(...given)),
})

async function openDatabase(
  config: Config,
  log: Log,
  closers: (() => Promise<unknown>)[],
  begun: Begun,
): Promise<{ database: OpenDb; jobPool: DirectPool }> {
  const directUrl = config.databaseDirectUrl?.reveal()
  if ((await begun.underWay) === 'initdb') await readQueue()
  const { address } = await begun.database
  const database = await openDb({ ...address, directUrl })
  closers.push(() => database.close())
  const direct = directUrl ? { url: directUrl } : address
  const jobPool = openDirectPool(direct, jobsAtOnce)
  closers.push(() => jobPool.end())
  const { unknown } = await migrate(direct, migrationsFolder, {
    also: () => migrateJobs({ db: database.db, pool: jobPool, log }),
  })
  if (unknown.length > 0) log.warn({ migrations: unknown }, 'the database is newer than this server')
  return { database, jobPool }
}

/** The configured ring, or the key in the data folder, made when nothing was ever sealed here. */
async function encryptionKeys(config: Config, { db }: OpenDb): Promise<Secret[]> {
  if (config.encryptionKeys.length > 0) return config.encryptionKeys
  const kept = await readKeyFile(config.dataDir)
  if (kept) return [kept]
  if (await hasDataKeys(db))
    throw new Error(
      `encryption.key is missing from ${config.dataDir}. The database there was sealed with it: put it back, or set FAIRLEAD_ENCRYPTION_KEY. Without it nothing stored can be opened.`,
    )
  return [await writeKeyFile(config.dataDir)]
}

/** Other servers on this database change things too; a notification may be lost with the connection, so a gap forgets everything. */
function followChanges(
  database: OpenDb,
  ring: Ring,
  connections: Connections,
  callers: Callers,
  credentials: Credentials,
  catching: CatchUp,
  deliveries: Deliveries,
  channel: Channel,
): Promise<() => Promise<void>> {
  return database.listen('fairlead_changed', {
    onPayload: payload => {
      const [what, id = ''] = payload.split(' ')
      if (what === 'credential') {
        connections.forgetCredential(id)
        credentials.changed(id)
      }
      if (what === 'renewed') {
        connections.credentialRenewed(id)
        credentials.changed(id)
      }
      if (what === 'trust') credentials.heard(payload.slice('trust '.length))
      if (what === 'callers') callers.forget()
      if (what === 'environment') connections.forgetEnvironment(Number(id))
      // Sooner is better; `withKeys` finds a key that this missed.
      if (what === 'keys') void ring.load().catch(() => {})
      if (what === 'webhook') deliveries.kick()
      if (what === 'attempt') void channel.ended(id).catch(() => {})
      if (what === 'begun') void channel.asked(id).catch(() => {})
      if (what === 'pull') void catching.offer(id).catch(() => {})
    },
    onGap: () => {
      connections.doubtAll()
      void ring.load().catch(() => {})
      callers.doubt()
      void channel.missed().catch(() => {})
      // Called on the loss as well as on the return; what fails is tried again by the return and by the next sweep.
      void catching.catchUp().catch(() => {})
    },
  })
}

/** Calls `work` again and again, one after the other, until closed. */
function every(ms: number, log: Log, work: () => Promise<void>): () => Promise<void> {
  let running = Promise.resolve()
  let busy = false
  const timer = setInterval(() => {
    if (busy) return
    busy = true
    running = work()
      .catch(error => log.warn({ reason: String(error) }, 'a sweep failed'))
      .finally(() => {
        busy = false
      })
  }, ms)
  timer.unref()
  return () => {
    clearInterval(timer)
    return running
  }
}

export const generatedKeysFile = (dataDir: string): string => join(dataDir, 'api-keys.txt')
export const setupLinkFile = (dataDir: string): string => join(dataDir, 'setup-link.txt')
