/** Rotation as an operator lives it: real servers on a real database, with callers on them. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openKeyedHash } from '../../src/account/pepper.ts'
import { sealedSettings } from '../../src/account/store.ts'
import { addHandshake, addSession, sealedVerifiers } from '../../src/connect/store.ts'
import { addConnection } from '../../src/connection/store.ts'
import { sealedJobs } from '../../src/credential/revocation/store.ts'
import { addCredential, loadCredential, sealedTokens } from '../../src/credential/store.ts'
import { defaultTiming } from '../../src/credential/timing.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { addIntegration, sealedClientSecrets } from '../../src/integration/store.ts'
import { Secret } from '../../src/lib/secret.ts'
import { systemClock } from '../../src/lib/time.ts'
import type { Db } from '../../src/seams.ts'
import { createRotation } from '../../src/vault/rotate.ts'
import { createKeyStore } from '../../src/vault/store.ts'
import { createVault } from '../../src/vault/vault.ts'
import { until } from '../db/until.ts'
import { startUpstream } from '../proxy/world.ts'
import { testDatabase } from '../support/database.ts'
import { freePort, request, startFairlead } from '../support/fairlead.ts'
import { newEncryptionKey, ringOn, vaultOn } from '../support/vault.ts'

const definitions = `
own:
  display_name: Own
  auth_mode: OAUTH2
  authorization_url: http://127.0.0.1:1/authorize
  token_url: http://127.0.0.1:1/token
  allowed_hosts: ['127.0.0.1']
  token_response_metadata: [instance_url]
  proxy:
    base_url: \${connectionConfig.instance_url}
`
const tokenOf = (n: number): string => `canary-token-${n}-${'x'.repeat(100)}`
const nobody = { endUser: null, organization: null, tags: {}, webhookUrlOverride: null }

async function databaseAt(t: { after(work: () => Promise<void>): void }, url: string): Promise<Db> {
  const open = await openDb({ url })
  t.after(() => open.close())
  return open.db
}

/** What stores need to write as a server with this key would; its ring hears of nothing by itself. */
async function storesOn(db: Db, encryptionKey: string) {
  const vault = await vaultOn(db, encryptionKey)
  const keyedHash = await openKeyedHash(db, vault)
  return { db, vault, keyedHash, clock: systemClock, timing: defaultTiming }
}
type Stores = Awaited<ReturnType<typeof storesOn>>

async function addIntegrationRow(stores: Stores): Promise<{ environmentId: number; integrationId: number }> {
  const [environment] = await stores.db.query<{ id: number }>(sql`select id from environment where name = 'dev'`)
  const added = await addIntegration(stores, {
    environmentId: environment!.id,
    key: 'own',
    provider: 'own',
    displayName: null,
    clientId: 'id',
    clientSecret: 'canary-client-secret',
    scopes: null,
    forwardWebhooks: true,
    captureBodies: false,
    baseUrlHosts: [],
  })
  return { environmentId: environment!.id, integrationId: added!.id }
}

/** One connection, named `c<n>`, whose access token is `tokenOf(n)`. */
async function addRow(stores: Stores, at: { environmentId: number; integrationId: number }, n: number, url: string) {
  const { id: credentialId } = await addCredential(stores, {
    ...at,
    tokens: {
      accessToken: new Secret(tokenOf(n)),
      refreshToken: undefined,
      tokenType: 'Bearer',
      lifeMs: 3_600_000,
      scopes: undefined,
      raw: {},
    },
    config: { instance_url: url },
    scopesRequested: [],
    scopesGranted: [],
    epoch: 'test',
  })
  await addConnection(stores.db, { ...at, credentialId, connectionId: `c${n}`, ...nobody })
  return credentialId
}

async function seed(stores: Stores, rows: number, url = 'http://127.0.0.1:1') {
  const at = await addIntegrationRow(stores)
  const ids: string[] = []
  for (let n = 0; n < rows; n += 10)
    ids.push(...(await Promise.all(Array.from({ length: 10 }, (_, i) => addRow(stores, at, n + i, url)))))
  return { ...at, ids }
}

/** Key id → values sealed with it, read from the sealed bytes themselves. */
async function keysInUse(db: Db): Promise<Map<string, number>> {
  const rows = await db.query<{ key: string; rows: number }>(sql`
    select encode(substring(sealed from 2 for 8), 'hex') as key, count(*)::int as rows from (
      select sealed from credential union all select client_secret_sealed from integration
      union all select verifier_sealed from handshake union all select sealed from revocation
      union all select sealed from setting) s
    where sealed is not null group by 1`)
  return new Map(rows.map(({ key, rows }) => [key, rows]))
}

interface Encryption {
  kek_id: string
  data_keys: { id: string; created_at: string; state: string }[]
  rows_left: number
}
const idsOf = ({ data_keys }: Encryption, state: string) =>
  data_keys
    .filter(key => key.state === state)
    .map(key => key.id)
    .sort()

test('rotation under 200 calls a second: no error, and no row is left under a retired key', async t => {
  const upstream = await startUpstream(t)
  // Backwards: an answer that repeats a token is worth a warning, and there must be none here.
  const backwards = (text = '') => [...text].reverse().join('')
  upstream.answer = (req, res) => void res.end(backwards(req.headers.authorization))
  const encryptionKey = newEncryptionKey()
  const fairlead = await startFairlead(t, {
    env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey, LOG_LEVEL: 'info' },
    providers: definitions,
  })
  const db = await databaseAt(t, fairlead.databaseUrl)
  const stores = await storesOn(db, encryptionKey)
  const rows = 3_000
  const { environmentId, integrationId } = await seed(stores, rows, upstream.url)
  const { token } = await addSession(stores, {
    environmentId,
    ...nobody,
    allowedIntegrations: [],
    integrationDefaults: {},
    overrides: {},
    reconnects: null,
    anotherAccount: false,
  })
  const [session] = await db.query<{ id: number }>(sql`select id from connect_session`)
  assert.ok(token && session)
  await addHandshake(stores, 'state', {
    environmentId,
    integrationId,
    sessionId: session.id,
    connectionId: 'later',
    browserHash: Buffer.alloc(32),
    verifier: new Secret('canary-verifier'),
    redirectUri: '',
    config: {},
    scopesRequested: [],
    attempt: null,
    client: null,
    refreshToken: null,
    opener: null,
    returnUrl: null,
  })
  const before = await keysInUse(db)
  assert.equal(
    [...before.values()].reduce((sum, count) => sum + count),
    rows + 3,
  )

  const wrong: string[] = []
  const times: number[] = []
  async function callOne(call: number): Promise<void> {
    const n = (call * 7919) % rows
    const proxied = call % 2 === 1
    const began = performance.now()
    const id = `c${n}`
    const answer = await (proxied
      ? fairlead.call('GET', '/proxy/x', undefined, { 'Provider-Config-Key': 'own', 'Connection-Id': id })
      : fairlead.call('GET', `/connections/${id}?provider_config_key=own`))
    times[call] = performance.now() - began
    const got = proxied ? backwards(answer.text) : `Bearer ${answer.json?.credentials?.access_token}`
    if (answer.status !== 200 || got !== `Bearer ${tokenOf(n)}`) wrong.push(`${answer.status} ${answer.text}`)
  }
  const calls: Promise<void>[] = []
  const seconds = 5
  const began = performance.now()
  let rotated: Promise<number> | undefined
  for (let n = 0; n < seconds * 200; n++) {
    const ahead = began + n * 5 - performance.now()
    if (ahead > 0) await sleep(ahead)
    calls.push(callOne(n))
    if (n === 200)
      rotated = (async () => {
        const start = performance.now()
        const begun = await fairlead.call('POST', '/encryption/rotate')
        assert.equal(begun.status, 202, begun.text)
        while ((await fairlead.call('GET', '/encryption')).json.rows_left > 0) await sleep(100)
        return performance.now() - start
      })()
  }
  await Promise.all(calls)
  const duration = await rotated!

  assert.deepEqual(wrong, [])
  const shown: Encryption = (await fairlead.call('GET', '/encryption')).json
  const after = await keysInUse(db)
  assert.deepEqual([...after.keys()].sort(), idsOf(shown, 'current'))
  assert.deepEqual([...before.keys()].sort(), idsOf(shown, 'retired'))
  // Sealing anew is not an installation.
  const [moved] = await db.query<{ rows: number }>(
    sql`select count(*)::int as rows from credential where token_version <> 1`,
  )
  assert.equal(moved!.rows, 0)
  for (const text of [fairlead.log(), JSON.stringify(shown)]) {
    assert.ok(!text.includes('canary'))
    assert.ok(!text.includes(encryptionKey))
  }
  assert.doesNotMatch(fairlead.log(), /"level":(40|50)/)
  t.diagnostic(
    `${rows + 3} values sealed anew in ${Math.round(duration)} ms (${Math.round((duration * 1000) / rows)} µs each) under load`,
  )
  const figures = (some: number[]) => {
    const sorted = some.toSorted((a, b) => a - b)
    const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)]!.toFixed(1)
    return `median ${at(0.5)}, p99 ${at(0.99)}, worst ${at(1)}`
  }
  t.diagnostic(`${times.length} calls at 200/s, 0 errors`)
  t.diagnostic(
    `ms before the rotation: ${figures(times.slice(0, 200))}; from its beginning: ${figures(times.slice(200))}`,
  )
})

test('killed or stopped in the middle of a rotation: the next start goes on, and everything opens at every moment', async t => {
  const database = await testDatabase(t)
  const { db } = database
  const encryptionKey = newEncryptionKey()
  const key = randomUUID()
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-rotate-'))
  await writeFile(join(folder, 'providers.yaml'), definitions)
  const port = await freePort()
  let server: ChildProcess | undefined
  let said = ''
  async function end(signal: 'SIGKILL' | 'SIGTERM') {
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    const ended = once(server, 'exit')
    server.kill(signal)
    await ended
  }
  t.after(async () => {
    await end('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })
  async function start() {
    server = spawn(process.execPath, [join(import.meta.dirname, '../../src/main.ts')], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH,
        PORT: String(port),
        DATABASE_URL: database.url,
        FAIRLEAD_DATA_DIR: folder,
        FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
        FAIRLEAD_SECRET_KEY_DEV: key,
        FAIRLEAD_PROVIDERS: join(folder, 'providers.yaml'),
        FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
      },
    })
    for (const stream of [server.stdout!, server.stderr!])
      stream.setEncoding('utf8').on('data', text => {
        said += text
      })
    await until(async () => {
      assert.equal(server!.exitCode, null, said)
      return (await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined))?.status === 200
    })
  }
  const call = (method: string, path: string) =>
    request(`http://127.0.0.1:${port}${path}`, { method, headers: { Authorization: `Bearer ${key}` } })

  await start()
  const stores = await storesOn(db, encryptionKey)
  const rows = 2_000
  const { ids } = await seed(stores, rows)
  const [old] = [...(await keysInUse(db))].sort((a, b) => b[1] - a[1])[0]!
  const left = async () => (await keysInUse(db)).get(old) ?? 0
  const opensEverything = async () => {
    for (const [n, id] of ids.entries())
      assert.equal((await loadCredential(stores, id))!.accessToken.reveal(), tokenOf(n))
  }

  const cuts: number[] = []
  assert.equal((await call('POST', '/encryption/rotate')).status, 202)
  for (const [share, signal] of [
    [0.85, 'SIGKILL'],
    [0.6, 'SIGTERM'],
    [0.3, 'SIGKILL'],
  ] as const) {
    await until(async () => (await left()) < rows * share)
    const began = performance.now()
    await end(signal)
    // Stopping waits for a batch, not for the rotation.
    assert.ok(performance.now() - began < 5_000, signal)
    await sleep(50)
    cuts.push(await left())
    assert.ok(cuts.at(-1)! > 0, 'it was over before it was killed')
    await opensEverything()
    assert.equal(await left(), cuts.at(-1))
    await start()
  }
  await until(async () => (await call('GET', '/encryption')).json.rows_left === 0)
  assert.equal(await left(), 0)
  await opensEverything()
  for (const n of [0, rows - 1]) {
    const read = await call('GET', `/connections/c${n}?provider_config_key=own`)
    assert.equal(read.json.credentials.access_token, tokenOf(n))
  }
  await end('SIGTERM')
  assert.ok(!said.includes('canary') && !said.includes(encryptionKey))
  t.diagnostic(
    `kill -9, SIGTERM and kill -9 with ${cuts.join(', ')} of ${rows} rows left; each time the next start went on by itself`,
  )
})

test('two servers on one database: whoever rotates, the other opens everything at any time', async t => {
  const database = await testDatabase(t)
  const { db } = database
  const encryptionKey = newEncryptionKey()
  const key = randomUUID()
  const env = {
    DATABASE_URL: database.url,
    FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
    FAIRLEAD_SECRET_KEY_DEV: key,
  }
  const [one, two] = await Promise.all([1, 2].map(() => startFairlead(t, { env, providers: definitions })))
  const as = { Authorization: `Bearer ${key}` }
  // A third process that hears nothing: it finds a key when it meets it, and seals with the old one for as long as it can.
  const deaf = await storesOn(db, encryptionKey)
  const { ids, ...at } = await seed(deaf, 200)
  let rotating = true
  let reads = 0
  const wrong: string[] = []
  const readThrough = async (read: (n: number) => Promise<string | undefined>) => {
    while (rotating)
      for (let n = 0; n < ids.length && rotating; n++, reads++) {
        const got = await read(n).catch(error => String(error))
        if (got !== tokenOf(n)) wrong.push(String(got))
      }
  }
  const readers = [
    readThrough(async n => {
      // Read anew every time: a change of the environment makes servers forget what they hold.
      if (n % 20 === 0) await db.query(sql`select pg_notify('fairlead_changed', ${`environment ${at.environmentId}`})`)
      const answer = await two!.call('GET', `/connections/c${n}?provider_config_key=own`, undefined, as)
      return answer.json.credentials?.access_token ?? answer.text
    }),
    readThrough(async n => (await loadCredential(deaf, ids[n]!))?.accessToken.reveal()),
    readThrough(async n => (await loadCredential(await storesOn(db, encryptionKey), ids[n]!))?.accessToken.reveal()),
  ]
  const written: string[] = []
  const writer = (async () => {
    for (let n = 1_000; rotating; n++) {
      written.push(await addRow(deaf, at, n, 'http://127.0.0.1:1'))
      await sleep(5)
    }
  })()

  const rotations = 4
  for (let n = 0; n < rotations; n++) {
    const begun = await one!.call('POST', '/encryption/rotate', undefined, as)
    assert.equal(begun.status, 202, begun.text)
    await sleep(300)
  }
  rotating = false
  await Promise.all([...readers, writer])
  assert.deepEqual(wrong, [])

  // What the deaf one wrote under a retired key is taken along by the next sweep, whichever server makes it.
  assert.equal((await two!.call('POST', '/encryption/rotate', undefined, as)).status, 202)
  await until(async () => (await one!.call('GET', '/encryption', undefined, as)).json.rows_left === 0)
  const shown: Encryption = (await one!.call('GET', '/encryption', undefined, as)).json
  assert.deepEqual(idsOf(shown, 'retired').length, 2 * (rotations + 1))
  assert.deepEqual([...(await keysInUse(db)).keys()].sort(), idsOf(shown, 'current'))
  for (const id of [...ids, ...written]) assert.ok(await loadCredential(deaf, id))
  t.diagnostic(`${rotations + 1} rotations, ${reads} reads by three processes, ${written.length} writes, 0 errors`)
})

test('the keys of an environment are shown to a key for all of it, ids alone, and rotate without touching another’s', async t => {
  const encryptionKey = newEncryptionKey()
  const keys = { dev: randomUUID(), prod: randomUUID() }
  const fairlead = await startFairlead(t, {
    env: {
      FAIRLEAD_ENCRYPTION_KEY: encryptionKey,
      FAIRLEAD_SECRET_KEY_DEV: keys.dev,
      FAIRLEAD_SECRET_KEY_PROD: keys.prod,
    },
    providers: definitions,
  })
  const db = await databaseAt(t, fairlead.databaseUrl)
  const call = (environment: keyof typeof keys, method: string, path: string, body?: object) =>
    fairlead.call(method, path, body, { Authorization: `Bearer ${keys[environment]}` })
  const credentials = { type: 'OAUTH2', client_id: 'id', client_secret: 'canary' }
  for (const environment of ['dev', 'prod'] as const)
    assert.equal(
      (await call(environment, 'POST', '/integrations', { provider: 'own', unique_key: 'own', credentials })).status,
      200,
    )
  const [dev, prod] = [(await call('dev', 'GET', '/encryption')).json, (await call('prod', 'GET', '/encryption')).json]
  for (const shown of [dev, prod]) {
    assert.deepEqual(Object.keys(shown).sort(), ['data_keys', 'kek_id', 'rows_left'])
    assert.match(shown.kek_id, /^[0-9a-f]{16}$/)
    assert.equal(shown.rows_left, 0)
    for (const one of shown.data_keys) {
      assert.deepEqual(Object.keys(one).sort(), ['created_at', 'id', 'state'])
      assert.match(one.id, /^[0-9a-f]{16}$/)
    }
    assert.equal(idsOf(shown, 'current').length, 2)
  }
  const begun = await call('dev', 'POST', '/encryption/rotate')
  assert.equal(begun.status, 202)
  assert.equal(idsOf(begun.json, 'retired').length, 2)
  await until(async () => (await call('dev', 'GET', '/encryption')).json.rows_left === 0)
  // The installation's key is everybody's; prod's own is what it was.
  const later = (await call('prod', 'GET', '/encryption')).json
  assert.equal(idsOf(later, 'current').filter(id => idsOf(prod, 'current').includes(id)).length, 1)
  for (const environment of ['dev', 'prod'] as const) {
    const { json } = await call(environment, 'GET', '/integrations/own?include=credentials')
    assert.equal(json.data.credentials.client_secret, 'canary')
  }

  await db.query(sql`update api_key set scopes = ${['environment:connections:*', 'environment:integrations:*']}`)
  const limited = await startFairlead(t, {
    env: { DATABASE_URL: fairlead.databaseUrl, FAIRLEAD_ENCRYPTION_KEY: encryptionKey },
    providers: definitions,
  })
  for (const [method, path] of [
    ['GET', '/encryption'],
    ['POST', '/encryption/rotate'],
  ] as const) {
    const answer = await limited.call(method, path)
    assert.deepEqual([answer.status, answer.json.error.code], [403, 'forbidden'], answer.text)
  }
})

test('a damaged value stops nobody; a key goes a month after it retired, and never while something is sealed with it', async t => {
  const { db } = await testDatabase(t)
  const encryptionKey = newEncryptionKey()
  await db.query(sql`insert into environment (name) values ('dev'), ('prod')`)
  const stores = await storesOn(db, encryptionKey)
  const { ids, environmentId } = await seed(stores, 250)
  const logged: object[] = []
  const note = (fields: object) => void logged.push(fields)
  const store = createKeyStore(db)
  const ring = await ringOn(store, encryptionKey)
  const vault = createVault(ring)
  const columns = [sealedSettings(db), sealedClientSecrets(db), sealedVerifiers(db), sealedTokens(db), sealedJobs(db)]
  const log = { debug: note, info: note, warn: note, error: note }
  const rotation = createRotation({ db, store, ring, vault, columns, log, keepDays: 30 })
  const [damaged] = ids
  await db.query(
    sql`update credential set sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) where id = ${damaged}`,
  )
  const old = ring.current(environmentId)!.id
  assert.equal((await rotation.start(environmentId)).keys.length, 4)
  await rotation.sweep()
  assert.equal((await rotation.progress(environmentId)).rowsLeft, 1)
  const [complaint] = logged.filter(fields => 'row' in fields)
  assert.deepEqual(
    { ...complaint, reason: '' },
    {
      table: 'credential',
      column: 'sealed',
      environment: environmentId,
      row: damaged,
      reason: '',
    },
  )

  const all = async () => (await store.list()).map(key => key.id.toString('hex'))
  await rotation.sweep()
  assert.equal((await all()).length, 4)
  await db.query(sql`update data_key set retired_at = retired_at - interval '29 days' where retired_at is not null`)
  await rotation.sweep()
  assert.equal((await all()).length, 4)
  await db.query(sql`update data_key set retired_at = retired_at - interval '2 days' where retired_at is not null`)
  await rotation.sweep()
  assert.equal((await all()).length, 3)
  assert.ok((await all()).includes(old.toString('hex')))
  // Not even by hand; nor is a value taken whose key is not there.
  await assert.rejects(db.query(sql`delete from data_key where id = ${old}`), /violates foreign key constraint/)
  await assert.rejects(
    db.query(sql`update credential set sealed = ${Buffer.alloc(60)} where id = ${damaged}`),
    /violates foreign key constraint/,
  )
  await db.query(sql`delete from credential where id = ${damaged}`)
  await rotation.sweep()
  assert.equal((await all()).length, 2)
  // An environment takes its keys along: what was sealed in it is nobody's any more, in every backup made from here on.
  await db.query(sql`delete from environment where id = ${environmentId}`)
  assert.equal((await all()).length, 1)
  await rotation.close()
})
