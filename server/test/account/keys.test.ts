import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { createCallers, hasScope, type KeyCaller, secured } from '../../src/account/caller.ts'
import { prepareEnvironments } from '../../src/account/first-run.ts'
import { createOperators } from '../../src/account/operator/session.ts'
import { openKeyedHash } from '../../src/account/pepper.ts'
import { listEnvironments } from '../../src/account/store.ts'
import { createOutage } from '../../src/db/outage.ts'
import { sql } from '../../src/db/sql.ts'
import { Failure } from '../../src/errors.ts'
import { Secret } from '../../src/lib/secret.ts'
import { createLimits } from '../../src/limit/limits.ts'
import { testDatabase } from '../support/database.ts'
import { request } from '../support/fairlead.ts'
import { newEncryptionKey, vaultOn } from '../support/vault.ts'
import { serverOn } from './support.ts'

const ask = (port: number, key: string | undefined, path = '/integrations') =>
  request(`http://127.0.0.1:${port}${path}`, key === undefined ? {} : { headers: { Authorization: key } })

test('two servers that start at once on one database generate one key per environment, and each shows only its own', async t => {
  const database = await testDatabase()
  const env = { FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey() }
  const servers = await Promise.all([
    serverOn(t, database, env),
    serverOn(t, database, env),
    serverOn(t, database, env),
  ])
  const shown = servers.flatMap(server => server.generatedKeys)
  assert.deepEqual(shown.map(({ environment }) => environment).sort(), ['dev', 'prod'])
  // Whoever made it, every server knows it: one pepper won.
  for (const { port } of servers)
    for (const { key } of shown) assert.equal((await ask(port, `Bearer ${key.reveal()}`)).status, 200)

  // Shown once: a later start has nothing to show, and the database has nothing to show it from.
  const later = await serverOn(t, database, env)
  assert.deepEqual(later.generatedKeys, [])
  const dump = await database.db.query<{ text: string }>(
    sql`select (select jsonb_agg(a) from api_key a)::text || (select jsonb_agg(s) from setting s)::text as text`,
  )
  for (const { key } of shown) {
    assert.ok(!dump[0]!.text.includes(key.reveal()))
    assert.ok(!dump[0]!.text.includes(Buffer.from(key.reveal()).toString('hex')))
    assert.match(key.reveal(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    assert.equal(`${key}`, '[secret]')
  }
})

test('servers that start at once with the same pinned key all start, and it is there once', async t => {
  const { db } = await testDatabase(t)
  const vault = await vaultOn(db, newEncryptionKey())
  const keyedHash = await openKeyedHash(db, vault)
  await prepareEnvironments({ db, keyedHash }, [])
  for (let round = 0; round < 20; round++) {
    await db.query(sql`delete from api_key`)
    const pins = [{ variable: 'DEV', key: new Secret(randomUUID()) }]
    await Promise.all(Array.from({ length: 8 }, () => prepareEnvironments({ db, keyedHash }, pins)))
    const keys = await db.query<{ lookup: Buffer }>(
      sql`select lookup from api_key k join environment e on e.id = environment_id where e.name = 'dev'`,
    )
    assert.deepEqual(
      keys.map(({ lookup }) => lookup),
      [keyedHash(pins[0]!.key.reveal())],
    )
  }
})

test('a pinned key replaces the generated one, and only for its environment', async t => {
  const database = await testDatabase()
  const env = { FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey() }
  const first = await serverOn(t, database, env)
  const [dev, prod] = ['dev', 'prod'].map(
    name => `Bearer ${first.generatedKeys.find(made => made.environment === name)!.key.reveal()}`,
  )
  const pinned = 'a pinned key needs not be a UUID but long'.replaceAll(' ', '-')
  const second = await serverOn(t, database, { ...env, FAIRLEAD_SECRET_KEY_DEV: pinned })
  assert.deepEqual(second.generatedKeys, [])
  assert.equal((await ask(second.port, `Bearer ${pinned}`)).status, 200)
  assert.equal((await ask(second.port, dev)).status, 401)
  assert.equal((await ask(second.port, prod)).status, 200)
  const [{ keys } = { keys: 0 }] = await database.db.query<{ keys: number }>(
    sql`select count(*)::int as keys from api_key`,
  )
  assert.equal(keys, 2)
})

test('a pinned key for an environment that does not exist refuses to start and names those that do', async t => {
  const database = await testDatabase()
  const env = { FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey(), FAIRLEAD_SECRET_KEY_STAGING: 'canary'.repeat(6) }
  await assert.rejects(serverOn(t, database, env), (error: Error) => {
    assert.match(error.message, /FAIRLEAD_SECRET_KEY_STAGING names no environment; there are dev, prod\./)
    assert.ok(!error.message.includes('canary'))
    return true
  })
})

const key = '11111111-2222-4333-8444-555555555555'
const presentations: [string, string | undefined, string][] = [
  ['nothing', undefined, 'missing_auth_header'],
  ['an empty header', '', 'missing_auth_header'],
  ['a bare key', key, 'malformed_auth_header'],
  ['another scheme', `Basic ${key}`, 'malformed_auth_header'],
  ['a scheme without key', 'Bearer', 'malformed_auth_header'],
  ['two keys', `Bearer ${key} ${key}`, 'malformed_auth_header'],
  ['a UUID nobody has', `Bearer ${randomUUID()}`, 'unknown_account'],
  ['a key in capitals', `Bearer ${'AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE'}`, 'unknown_account'],
  ['a key cut short', `Bearer ${key.slice(0, -1)}`, 'invalid_secret_key_format'],
  ['a word', 'Bearer sesame', 'invalid_secret_key_format'],
  ['SQL', "Bearer '%20or%201=1--", 'invalid_secret_key_format'],
  ['a session token', `Bearer nango_connect_session_${'0'.repeat(64)}`, 'unknown_connect_session_token'],
  ['a session token cut short', 'Bearer nango_connect_session_0', 'invalid_connect_session_token_format'],
]
test('what is not a key is refused with a code of its own and never repeated', async t => {
  const database = await testDatabase()
  const { port } = await serverOn(t, database, {
    FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey(),
    FAIRLEAD_SECRET_KEY_DEV: key,
  })
  for (const [what, header, code] of presentations) {
    const answer = await ask(port, header)
    assert.deepEqual([answer.status, answer.json.error.code], [401, code], what)
    const presented = header?.split(' ')[1]
    if (presented) assert.ok(!answer.text.includes(presented), what)
  }
  assert.equal((await ask(port, `bearer   ${key} `)).status, 200)
  // A key that exists and one that does not are refused alike where no key is taken.
  const session = await ask(port, `Bearer ${key}`, '/connect/session')
  assert.equal(session.json.error.code, 'invalid_connect_session_token_format')
})

const scopes: [held: string[], asked: string, has: boolean][] = [
  [['environment:*'], 'environment:connections:read', true],
  [['environment:connections:*'], 'environment:connections:read_credentials', true],
  [['environment:connections:read'], 'environment:connections:read', true],
  [['environment:connections:read'], 'environment:connections:read_credentials', false],
  [['environment:connections:read_credentials'], 'environment:connections:read', false],
  [['environment:connections:*'], 'environment:connectionsX:read', false],
  [['environment:connect:*'], 'environment:connections:read', false],
  [['environment:connections*'], 'environment:connections:read', false],
  [['*'], 'environment:connections:read', false],
  [[':*'], 'environment:connections:read', false],
  [['environment'], 'environment:connections:read', false],
  [['other:*', 'environment:proxy'], 'environment:proxy', true],
  [[], 'environment:proxy', false],
]
for (const [held, asked, has] of scopes)
  test(`a key with [${held}] ${has ? 'has' : 'lacks'} ${asked}`, () => {
    const caller: KeyCaller = {
      kind: 'key',
      environment: { id: 1, name: 'dev', uuid: '' },
      keyId: 1,
      keyName: 'default',
      scopes: held,
      limits: { key: null, environment: null },
    }
    assert.equal(hasScope(caller, asked), has)
  })

test('a route asks for what the contract says about it, and any one of its scopes suffices', async t => {
  const { db } = await testDatabase(t)
  const vault = await vaultOn(db, newEncryptionKey())
  const keyedHash = await openKeyedHash(db, vault)
  await prepareEnvironments({ db, keyedHash }, [{ variable: 'DEV', key: new Secret(key) }])
  const operators = createOperators({ db, keyedHash, url: 'http://localhost' })
  const limits = createLimits({ db, now: Date.now })
  const addressOf = () => '127.0.0.1'
  const outage = createOutage()
  const deps = { db, keyedHash, findSession: async () => undefined, operators, limits, addressOf, outage }
  const callers = createCallers(deps)
  const route = { security: [{ apiKey: ['environment:a:read'] }, { apiKey: ['environment:a:list'] }] }
  const codeWith = async (held: string[]) => {
    await db.query(sql`update api_key set scopes = ${held} where lookup = ${keyedHash(key)}`)
    callers.forget()
    const context = { req: { method: 'GET', header: () => `Bearer ${key}` }, set: () => {}, env: {} }
    try {
      await secured(route, callers).middleware(context as never, async () => {})
      return undefined
    } catch (error) {
      return error instanceof Failure ? error.code : error
    }
  }
  assert.equal(await codeWith(['environment:a:read']), undefined)
  assert.equal(await codeWith(['environment:a:list']), undefined)
  assert.equal(await codeWith(['environment:a:*']), undefined)
  assert.equal(await codeWith(['environment:b:*']), 'forbidden')
  assert.equal(await codeWith([]), 'forbidden')
})

test('rotating the encryption key breaks no API key; only before the first start with both does the new one alone not do', async t => {
  const database = await testDatabase()
  const [old, next] = [newEncryptionKey(), newEncryptionKey()]
  const first = await serverOn(t, database, { FAIRLEAD_ENCRYPTION_KEY: old, FAIRLEAD_SECRET_KEY_DEV: key })
  assert.equal((await ask(first.port, `Bearer ${key}`)).status, 200)

  const everything = () =>
    database.db.query(sql`
      select (select jsonb_agg(k order by id) from api_key k) as keys, (select jsonb_agg(s) from setting s) as settings,
        (select jsonb_agg(d order by id) from data_key d) as data_keys`)
  async function refusedWith(encryptionKey: string): Promise<void> {
    const before = await everything()
    await assert.rejects(serverOn(t, database, { FAIRLEAD_ENCRYPTION_KEY: encryptionKey }), (error: Error) => {
      assert.match(error.message, /^This database was sealed with another encryption key\. Start with that key/)
      assert.ok(!error.message.includes(next) && !error.message.includes(old))
      return true
    })
    // A refused start changes nothing.
    assert.deepEqual(await everything(), before)
  }
  await refusedWith(next)
  const rotated = await serverOn(t, database, { FAIRLEAD_ENCRYPTION_KEY: `${next},${old}` })
  assert.equal((await ask(rotated.port, `Bearer ${key}`)).status, 200)
  assert.deepEqual(rotated.generatedKeys, [])

  const after = await serverOn(t, database, { FAIRLEAD_ENCRYPTION_KEY: next })
  assert.equal((await ask(after.port, `Bearer ${key}`)).status, 200)
  // The server that was there before and knows the old one alone still serves.
  assert.equal((await ask(first.port, `Bearer ${key}`)).status, 200)
  await refusedWith(old)
  await refusedWith(newEncryptionKey())
})

test('a data folder that lost its key is refused, not given a new one', async t => {
  const database = await testDatabase()
  const config = { FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey() }
  await serverOn(t, database, config)
  // As with the embedded database: no key configured, so it must be in the data folder, which is new.
  await assert.rejects(
    serverOn(t, database, config, read => ({ ...read, encryptionKeys: [] })),
    /^Error: encryption\.key is missing from .*put it back, or set FAIRLEAD_ENCRYPTION_KEY/,
  )
})

test('a fresh data folder gets a key, and the next start finds it', async t => {
  const database = await testDatabase()
  let folder = ''
  const keep = (config: Parameters<NonNullable<Parameters<typeof serverOn>[3]>>[0]) => {
    folder ||= config.dataDir
    return { ...config, dataDir: folder, encryptionKeys: [] }
  }
  const env = { FAIRLEAD_ENCRYPTION_KEY: newEncryptionKey() }
  const first = await serverOn(t, database, env, keep)
  const [made] = first.generatedKeys
  const second = await serverOn(t, database, env, keep)
  assert.deepEqual(second.generatedKeys, [])
  assert.equal((await ask(second.port, `Bearer ${made!.key.reveal()}`)).status, 200)
  assert.equal((await listEnvironments(database.db)).length, 2)
})
