/**
 * LG1, the canary method: every secret of a whole life of a connection is a text that occurs nowhere else, and afterwards it is
 * looked for in everything that was logged, answered and stored. Where one may stand is said at the answer that may hold it.
 */
// First, so that its hook runs before the database's.
import '../connect/support/scope.ts'

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { clientId, openSession, startUrl } from '../connect/support/journey.ts'
import { type Asked, overlay, sendJson, startProvider, tokens } from '../connect/support/provider.ts'
import { scope } from '../connect/support/scope.ts'
import { until } from '../db/until.ts'
import { Browser, request, startFairlead } from '../support/fairlead.ts'
import { invited, newOwner } from '../support/operator.ts'
import { startReceiver } from '../webhook/support/receiver.ts'

const canary = (what: string): string => `canary-${what}-${randomBytes(12).toString('hex')}`

const encryptionKey = randomBytes(32).toString('base64')
const secrets = {
  encryptionKey,
  clientSecret: canary('client-secret'),
  newClientSecret: canary('new-client-secret'),
  code: canary('code'),
  failingCode: canary('failing-code'),
  idToken: canary('id-token'),
  access1: canary('access-1'),
  refresh1: canary('refresh-1'),
  access2: canary('access-2'),
  refresh2: canary('refresh-2'),
  inQuery: canary('in-query'),
  inPath: canary('in-path'),
  inBody: canary('in-body'),
}
type Made = 'apiKey' | 'session' | 'state' | 'cookie' | 'verifier' | 'failingVerifier' | 'signingKey' | 'newSigningKey'
type Name = keyof typeof secrets | Made
/** Filled as the flow makes them. */
const canaries = new Map<Name, string>(Object.entries(secrets) as [Name, string][])

const provider = await startProvider(scope)
const fairlead = await startFairlead(scope, {
  env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey },
  providers: overlay('mock', `${provider.url}/token`),
})
canaries.set('apiKey', fairlead.key)
const receiver = await startReceiver(scope)
const { db, close } = await openDb({ url: fairlead.databaseUrl })
scope.after(close)

/** A canary as it may lie around: as it is, or in one of the usual wrappings. */
function spellings(value: string): string[] {
  const bytes = Buffer.from(value)
  const base64 = bytes.toString('base64').replace(/=+$/, '')
  return [
    value,
    encodeURIComponent(value),
    bytes.toString('hex'),
    base64,
    base64.replaceAll('+', '-').replaceAll('/', '_'),
  ]
}

function found(where: string): Name[] {
  const lower = where.toLowerCase()
  return [...canaries]
    .filter(([, value]) => spellings(value).some(text => where.includes(text) || lower.includes(text.toLowerCase())))
    .map(([name]) => name)
}

/** An answer may hold exactly these. */
function holds(answer: { text: string; headers: Headers }, ...allowed: Name[]): void {
  const whole = `${answer.text}\n${JSON.stringify([...answer.headers])}`
  assert.deepEqual(found(whole).sort(), allowed.sort(), whole)
}

const grant = (access: string, refresh: string) =>
  tokens(provider, { access_token: access, refresh_token: refresh, id_token: secrets.idToken })
const echo = ({ form, headers }: Asked) => ({
  error: 'invalid_grant',
  error_description: `${form.get('client_secret')} ${form.get('code')} ${form.get('code_verifier')} ${form.get('refresh_token')} ${headers.authorization}`,
})

async function start(browser: Browser, session: string): Promise<URL> {
  const answer = await browser.open(startUrl(fairlead, 'mock', session))
  const authorize = new URL(answer.location ?? '')
  canaries.set('state', authorize.searchParams.get('state') ?? '')
  canaries.set('cookie', /=([\w-]{43});/.exec(answer.headers.getSetCookie().join())?.[1] ?? '')
  holds(answer, 'state', 'cookie')
  const callback = new URL(authorize.searchParams.get('redirect_uri') ?? '')
  callback.searchParams.set('state', authorize.searchParams.get('state') ?? '')
  return callback
}

test('no secret leaves but where it is asked for', async t => {
  const { call } = fairlead
  const { clientSecret, newClientSecret, code, failingCode } = secrets

  await t.test('the integration', async () => {
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    const body = { provider: 'mock', unique_key: 'mock', credentials }
    holds(await call('POST', '/integrations', body))
    holds(await call('POST', '/integrations', body)) // taken
    holds(await call('POST', '/integrations', { ...body, credentials: { ...credentials, secret: clientSecret } }))
    holds(await call('POST', '/integrations', { ...body, credentials: clientSecret }))
    holds(await call('GET', '/integrations'))
    holds(await call('GET', '/integrations/mock'))
    holds(await call('GET', '/integrations/mock?include=credentials'), 'clientSecret')
    const broken = await request(`${fairlead.url}/integrations`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${fairlead.key}`, 'Content-Type': 'application/json' },
      body: `{"client_secret":"${clientSecret}`,
    })
    assert.equal(broken.status, 400)
    holds(broken)
  })

  await t.test('the settings', async () => {
    const changed = await call('PATCH', '/environment/settings', { webhook_url: receiver.url })
    canaries.set('signingKey', changed.json.webhook_signing_key)
    holds(changed, 'signingKey')
    const rotated = await call('POST', '/environment/webhook-signing-key/rotate')
    canaries.set('newSigningKey', rotated.json.data.webhook_signing_key)
    holds(rotated, 'newSigningKey')
    holds(await call('GET', '/environment/settings'))
    // It repeats all it was sent and the keys it verifies with.
    const keys = [canaries.get('signingKey'), canaries.get('newSigningKey')]
    receiver.answer = (res, { headers, body }) =>
      res.writeHead(500).end(`${keys.join(' ')} ${JSON.stringify(headers)} ${body}`)
  })

  const session = await openSession(fairlead)
  canaries.set('session', session)
  await t.test('the session', async () => {
    const bearer = { Authorization: `Bearer ${session}` }
    const other = await call('POST', '/connect/sessions', { end_user: { id: 'b' } })
    assert.notEqual(other.json.data.token, session)
    holds(other)
    holds(await call('GET', '/connect/session', undefined, bearer))
    holds(await call('GET', '/integrations', undefined, bearer))
    holds(await call('GET', '/connections', undefined, bearer)) // 403
    // The contract's link carries it; the page reads it from there.
    holds(await request(`${fairlead.url}/connect/?session_token=${session}`))
    holds(await request(startUrl(fairlead, 'mock', session, '&unknown=1')))
    holds(await request(startUrl(fairlead, 'none', session)))
  })

  await t.test('a sign-in that succeeds', async () => {
    const browser = new Browser()
    const callback = await start(browser, session)
    callback.searchParams.set('code', code)
    provider.answer = (res, asked) => {
      canaries.set('verifier', asked.form.get('code_verifier') ?? '')
      sendJson(200, grant(secrets.access1, secrets.refresh1))(res, asked)
    }
    holds(await new Browser().open(`${callback.origin}${callback.pathname}?state=${'A'.repeat(43)}&code=${code}`))
    const done = await browser.open(callback.href)
    assert.equal(done.status, 200, done.text)
    holds(done)
    holds(await browser.open(callback.href)) // a second time
  })

  const { json } = await call('GET', '/connections')
  const id: string = json.connections[0].connection_id
  const path = `/connections/${id}?provider_config_key=mock`
  const proxied = { 'Provider-Config-Key': 'mock', 'Connection-Id': id }
  await t.test('the connection and a call through it', async () => {
    holds(await call('GET', '/connections'))
    holds(await call('GET', path), 'access1', 'idToken')
    holds(await call('GET', `${path}&refresh_token=true`), 'access1', 'refresh1', 'idToken')
    const called = await call('GET', '/proxy/services/data/v66.0/limits', undefined, proxied)
    assert.deepEqual(called.json, { hello: 'world' })
    holds(called)
    const upstream = provider.otherRequests.at(-1)!
    assert.deepEqual(found(JSON.stringify(upstream)), ['access1'], 'and our key stays with us')
  })

  await t.test('calls whose every part holds a secret, and what is recorded of them', async () => {
    assert.equal((await call('PATCH', '/integrations/mock', { capture_bodies: true })).json.data.capture_bodies, true)
    const { inQuery, inPath, inBody, access1, refresh1 } = secrets
    const key = canaries.get('apiKey')!
    // It repeats whatever it was sent, in several wrappings, and adds what it knows.
    provider.api = (res, { headers, body }) => {
      const said = {
        authorization: headers.authorization,
        was: body,
        refresh_token: refresh1,
        note: `${access1}/${key}`,
      }
      const text = JSON.stringify({
        ...said,
        base64: Buffer.from(`ada:${access1}`).toString('base64'),
        nested: JSON.stringify(said),
      })
      res.writeHead(200, { 'Content-Type': 'application/json' }).end(text)
    }
    const path = `/proxy/tokens/${inPath}/revoke?q=${inQuery}&session=${inQuery}`
    const answered = await call(
      'POST',
      path,
      { password: inBody, nested: { client_secret: inBody }, key, token: access1 },
      proxied,
    )
    assert.equal(answered.status, 200)
    provider.api = undefined
    holds(await call('GET', `/proxy/tokens/${inPath}?${inQuery}`, undefined, { ...proxied, 'Connection-Id': key }))
    holds(await call('GET', `/via/mock/${key}/tokens/${inPath}`))
    const listed = async () => (await call('GET', '/activity')).json.activity
    await until(async () => (await listed()).length >= 4)
    holds(await call('GET', '/activity'))
    for (const { id: one, has_bodies } of await listed()) {
      holds(await call('GET', `/activity/${one}`))
      if (has_bodies) holds(await call('GET', `/activity/${one}/bodies`))
    }
    const kept = (await listed()).filter((one: { has_bodies: boolean }) => one.has_bodies)
    assert.equal(kept.length, 1)
    const bodies = await call('GET', `/activity/${kept[0].id}/bodies`)
    assert.match(bodies.json.request.text, /"password":"\[redacted\]"/)
    assert.match(bodies.json.answer.text, /"note":"/)
  })

  await t.test('a refresh that succeeds', async () => {
    provider.answer = (res, asked) => sendJson(200, grant(secrets.access2, secrets.refresh2))(res, asked)
    holds(await call('GET', `${path}&force_refresh=true`), 'access2', 'idToken')
  })

  await t.test('a refresh whose answer repeats what it was sent', async () => {
    for (const status of [400, 500]) {
      provider.answer = (res, asked) => sendJson(status, echo(asked))(res, asked)
      const failed = await call('GET', `${path}&force_refresh=true`)
      assert.ok(failed.status >= 400, failed.text)
      holds(failed)
      await db.query(
        sql`update credential set next_try_at = null, lease_until = null, claim_id = null, health = 'active'`,
      )
    }
    holds(await call('GET', '/connections'))
  })

  await t.test('sign-ins that fail', async () => {
    provider.answer = (res, asked) => {
      canaries.set('failingVerifier', asked.form.get('code_verifier') ?? '')
      sendJson(400, echo(asked))(res, asked)
    }
    const browser = new Browser()
    const ways: ((url: URL) => void)[] = [
      url => url.searchParams.set('code', failingCode),
      url => {
        for (const one of [failingCode, code]) url.searchParams.append('code', one)
      },
      url => url.searchParams.set('error', 'access_denied'),
    ]
    for (const change of ways) {
      const callback = await start(browser, session)
      change(callback)
      const failed = await browser.open(callback.href)
      assert.equal(failed.status, 400)
      holds(failed)
    }
    assert.ok(canaries.get('failingVerifier'))
  })

  await t.test('webhooks', async () => {
    const events = ['connection.created', 'connection.degraded', 'connection.recovered']
    await until(() => events.every(name => receiver.taken.some(({ headers }) => headers['fairlead-event'] === name)))
    for (const { headers, body } of receiver.taken)
      assert.deepEqual(found(`${JSON.stringify(headers)} ${body}`), [], body)
    await until(async () => {
      const listed = await call('GET', '/webhooks/deliveries')
      holds(listed)
      return listed.json.deliveries.every((one: { attempts: number }) => one.attempts > 0)
    })
    for (const { id } of (await call('GET', '/webhooks/deliveries')).json.deliveries) {
      const one = await call('GET', `/webhooks/deliveries/${id}`)
      assert.match(one.json.history[0].answer, /webhook-id/)
      holds(one)
    }
  })

  await t.test('callers that are refused', async () => {
    const presented = canary('wrong-key')
    for (const header of [`Bearer ${presented}`, `Basic ${presented}`, `Bearer ${presented} ${presented}`]) {
      const refused = await call('GET', '/connections', undefined, { Authorization: header })
      assert.equal(refused.status, 401)
      assert.ok(!refused.text.includes(presented) && !fairlead.log().includes(presented))
    }
  })

  await t.test('a viewer who asks for everything there is, and for its secrets', async () => {
    const owner = await newOwner(fairlead)
    const viewer = await invited(fairlead, owner, 'viewer')
    const { activity } = (await call('GET', '/activity')).json
    const [delivery] = (await call('GET', '/webhooks/deliveries')).json.deliveries
    const known: Record<string, string> = {
      connectionId: id,
      providerConfigKey: 'mock',
      uniqueKey: 'mock',
      provider: 'mock',
      id: activity[0].id,
    }
    const document = (await call('GET', '/openapi.json')).json as {
      paths: Record<string, Record<string, { requestBody?: { content: Record<string, { example?: unknown }> } }>>
    }
    const allowed: string[] = []
    let exported = ''
    const walk: [method: string, path: string, body?: unknown][] = [
      ['GET', `${path}&refresh_token=true&force_refresh=true`],
      ['GET', '/integrations/mock?include=credentials'],
      ['GET', `/webhooks/deliveries/${delivery.id}`],
      ['GET', '/environment/api-keys'],
      ['GET', '/proxy/services/data/v66.0/limits'],
      ['GET', `/via/mock/${id}/services/data/v66.0/limits`],
      ['GET', '/metrics'],
      ['POST', '/end-users/export', { end_user_id: json.connections[0].end_user.id }],
    ]
    for (const [template, methods] of Object.entries(document.paths))
      for (const [method, { requestBody }] of Object.entries(methods)) {
        // What is about the viewer's own sign-in, and what is an end user's.
        if (/^\/(operator\/|oauth|auth|api-auth|connect\/session)/.test(template)) continue
        const filled = template.replace(/\{(\w+)\}/g, (_, name: string) => known[name] ?? id)
        const named = template.startsWith('/connection') ? '?provider_config_key=mock' : ''
        walk.push([method.toUpperCase(), `${filled}${named}`, requestBody?.content['application/json']?.example])
      }
    assert.ok(walk.length > 60)
    for (const [method, asked, body] of walk) {
      const answer = await viewer.call(method, asked, body, { 'Fairlead-Reveal': 'true', ...proxied })
      assert.deepEqual(found(`${answer.text}\n${JSON.stringify([...answer.headers])}`), [], `${method} ${asked}`)
      if (method !== 'GET' && answer.status < 300) allowed.push(`${method} ${asked}`)
      if (asked === '/end-users/export' && !exported) exported = answer.text
    }
    assert.ok(exported.includes(id), 'and it was a whole one')
    assert.deepEqual(new Set(allowed), new Set(['POST /end-users/export', 'POST /audit/verify']), 'and changes nothing')
  })

  await t.test('a fault of our own', async () => {
    await call('PATCH', '/integrations/mock', {
      credentials: { type: 'OAUTH2', client_id: clientId, client_secret: newClientSecret },
    })
    await db.query(
      sql`update credential set sealed = set_byte(sealed, length(sealed) - 1, get_byte(sealed, length(sealed) - 1) # 1)`,
    )
    const broken = await call('GET', path)
    assert.equal(broken.status, 500)
    holds(broken)
    assert.match(fairlead.log(), /sealed_value_unreadable/)
  })

  await t.test('no canary in the log', () => {
    assert.match(fairlead.log(), /connected/)
    assert.match(fairlead.log(), /token_exchange_refused/)
    assert.match(fairlead.log(), /refresh refused/)
    assert.deepEqual(found(fairlead.log()), [], fairlead.log())
  })

  await t.test('no canary in any column of any table', async () => {
    // A sign-in under way and a session that lives, so that no table is empty by chance.
    const last = await openSession(fairlead)
    canaries.set('session', last)
    await start(new Browser(), last)
    const tables = await db.query<{ name: string }>(
      sql`select table_name as name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'`,
    )
    const empty: string[] = []
    for (const { name } of tables) {
      const rows = await db.query<Record<string, unknown>>({ text: `select * from "${name}"`, values: [] })
      if (rows.length === 0) empty.push(name)
      for (const row of rows)
        for (const [column, value] of Object.entries(row)) {
          const texts = Buffer.isBuffer(value)
            ? [value.toString('latin1'), value.toString('utf8'), value.toString('hex'), value.toString('base64')]
            : [typeof value === 'string' ? value : JSON.stringify(value)]
          for (const text of texts) assert.deepEqual(found(text), [], `${name}.${column}`)
        }
    }
    assert.ok(tables.length >= 8, 'the schema was read')
    assert.deepEqual(
      empty.filter(name =>
        [
          ...['credential', 'connection', 'integration', 'handshake', 'connect_session', 'api_key', 'setting'],
          ...['webhook_key', 'webhook_event', 'webhook_delivery', 'webhook_attempt', 'activity', 'activity_body'],
        ].includes(name),
      ),
      [],
    )
  })

  await t.test('the search finds what is there', () => {
    for (const [name, value] of canaries)
      for (const text of spellings(value)) assert.ok(found(`x${text}y`).includes(name))
    assert.equal(canaries.size, 21)
    assert.deepEqual(found(randomUUID()), [])
  })
})
