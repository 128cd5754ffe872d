/** GET|PATCH /environment/settings and the signing key. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultConnectUi } from '@fairlead/contract'
import { contrast } from '../../src/account/settings/contrast.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'

const path = '/environment/settings'
const defaults = {
  webhook_url: null,
  webhook_url_secondary: null,
  on_auth_creation: true,
  on_auth_refresh_error: true,
  on_connection_health: true,
  on_connection_lifecycle: true,
  allowed_origins: [],
  return_urls: [],
  connect_ui: defaultConnectUi,
  confirm_connections: false,
  requests_per_minute: null,
  signing_keys: [],
}

const change = async (server: Fairlead, body: object) => {
  const answer = await server.call('PATCH', path, body)
  assert.equal(answer.status, 200, answer.text)
  return answer.json
}

test('settings are read, changed member by member, and kept apart by environment', async t => {
  const prod = 'p'.repeat(40)
  const server = await startFairlead(t, { env: { FAIRLEAD_SECRET_KEY_PROD: prod } })
  const asProd = { Authorization: `Bearer ${prod}` }
  assert.deepEqual((await server.call('GET', path)).json, defaults)

  const given = {
    on_connection_health: false,
    allowed_origins: ['https://app.example.com', 'http://localhost:5173'],
    return_urls: ['https://app.example.com/done?from=connect', 'http://127.0.0.1:5173/'],
    confirm_connections: true,
  }
  assert.deepEqual(await change(server, given), { ...defaults, ...given })
  assert.deepEqual(await change(server, {}), { ...defaults, ...given })
  assert.deepEqual(await change(server, { return_urls: [] }), { ...defaults, ...given, return_urls: [] })
  assert.deepEqual((await server.call('GET', path, undefined, asProd)).json, defaults)
})

test('the looks of the connect page change one by one, and their colours until they can be read', async t => {
  const server = await startFairlead(t)
  const logo = 'data:image/png;base64,iVBORw0KGgo='
  const named = await change(server, { connect_ui: { product_name: 'Beacon CRM', logo, radius: 'round' } })
  assert.deepEqual(named.connect_ui, { ...defaultConnectUi, product_name: 'Beacon CRM', logo, radius: 'round' })

  for (const [light, dark] of [
    ['#ffd400', '#1a1a66'],
    ['#ffffff', '#000000'],
    ['#0b6b75', '#56c2cc'],
    ['#FF0000', '#00ff00'],
  ] as const) {
    const { connect_ui: looks } = await change(server, { connect_ui: { primary_light: light, primary_dark: dark } })
    assert.ok(contrast(looks.primary_light, '#edf1f3') >= 4.5, `${light} became ${looks.primary_light}`)
    assert.ok(contrast(looks.primary_dark, '#1b272f') >= 4.5, `${dark} became ${looks.primary_dark}`)
    assert.equal(looks.product_name, 'Beacon CRM', 'the rest stays')
    const { json } = await server.call('GET', path)
    assert.deepEqual(json.connect_ui, looks)
  }
  const { connect_ui: fine } = await change(server, { connect_ui: { primary_light: '#0b6b75' } })
  assert.equal(fine.primary_light, '#0b6b75', 'what can be read stays as it is')

  for (const wrong of [
    { logo: 'https://cdn.example.com/logo.png' },
    { logo: 'data:text/html;base64,PGI+' },
    { logo: `data:image/png;base64,${'A'.repeat(100_000)}` },
    { primary_light: 'red' },
    { primary_dark: '#56c2cc;background:url(//evil.example)' },
    { radius: '6px' },
    { font: 'Comic Sans' },
    { product_name: '' },
    { default_theme: 'blue' },
    { css: '*{display:none}' },
  ]) {
    const refused = await server.call('PATCH', path, { connect_ui: wrong })
    assert.equal(refused.json.error.code, 'invalid_body', JSON.stringify(wrong))
  }
})

test('a webhook URL makes a signing key, shown once; a rotation makes another and the old one signs on for a while', async t => {
  const server = await startFairlead(t)
  const first = await change(server, { webhook_url: 'https://hooks.example.com/a b' })
  assert.equal(first.webhook_url, 'https://hooks.example.com/a%20b', 'in its one spelling')
  assert.match(first.webhook_signing_key, /^whsec_[A-Za-z0-9+/]{43}=$/)
  const again = await change(server, { webhook_url_secondary: 'https://hooks.example.com/b' })
  const read = await server.call('GET', path)
  for (const { webhook_signing_key } of [again, read.json]) assert.equal(webhook_signing_key, undefined)
  assert.ok(!read.text.includes(first.webhook_signing_key))
  assert.deepEqual(
    read.json.signing_keys.map((key: { state: string }) => key.state),
    ['current'],
  )

  const rotate = (body?: object) => server.call('POST', '/environment/webhook-signing-key/rotate', body)
  const second = await rotate()
  assert.equal(second.status, 200, second.text)
  const { webhook_signing_key, previous_until } = second.json.data
  assert.notEqual(webhook_signing_key, first.webhook_signing_key)
  const hours = (Date.parse(previous_until) - Date.now()) / 3_600_000
  assert.ok(hours > 23.9 && hours < 24.1)
  const states = async () =>
    (await server.call('GET', path)).json.signing_keys.map((key: { state: string }) => key.state)
  assert.deepEqual(await states(), ['current', 'retiring'])

  // A key that leaked takes with it what is still signing from before.
  const third = await rotate({ overlap_hours: 0 })
  assert.equal(third.json.data.previous_until, null)
  assert.deepEqual(await states(), ['current'])
  for (const overlap_hours of [-1, 169, 1.5, '1'])
    assert.equal((await rotate({ overlap_hours })).json.error.code, 'invalid_body')

  const { db, close } = await openDb({ url: server.databaseUrl })
  const rows = await db.query<{ row: string }>(sql`select to_jsonb(webhook_key)::text as row from webhook_key`)
  await close()
  for (const key of [first.webhook_signing_key, webhook_signing_key, third.json.data.webhook_signing_key])
    assert.ok(!rows.some(({ row }) => row.includes(key)) && !server.log().includes(key))
})

test('of many first URLs at once one makes the key', async t => {
  const server = await startFairlead(t)
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, n) => change(server, { webhook_url: `https://hooks.example.com/${n}` })),
  )
  assert.equal(answers.filter(answer => answer.webhook_signing_key).length, 1)
})

test('a webhook URL the egress policy forbids is refused, here and on a session', async t => {
  const server = await startFairlead(t, { env: { FAIRLEAD_EGRESS_ALLOW: 'internal.example.com' } })
  for (const webhook_url of [
    'http://hooks.example.com/',
    'https://10.0.0.1/',
    'https://169.254.169.254/latest/meta-data',
    'https://[::ffff:127.0.0.2]/',
    'https://localhost/',
    'https://vault/',
    'https://user:password@hooks.example.com/',
    'https://hooks.example.com:22/',
    'https://0x7f.2/',
    `https://hooks.example.com/${'ü'.repeat(1000)}`,
  ]) {
    const refused = await server.call('PATCH', path, { webhook_url })
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'webhook_url_refused'], webhook_url)
    assert.deepEqual(refused.json.error.errors[0].path, ['webhook_url'])
    const session = await server.call('POST', '/connect/sessions', {
      end_user: { id: 'a' },
      webhook_url_override: webhook_url,
    })
    assert.deepEqual([session.status, session.json.error.code], [400, 'webhook_url_refused'], webhook_url)
  }
  for (const webhook_url of ['ftp://hooks.example.com/', 'hooks', '', 7, `https://a.example/${'x'.repeat(2048)}`])
    assert.equal((await server.call('PATCH', path, { webhook_url })).json.error.code, 'invalid_body')
  assert.deepEqual((await server.call('GET', path)).json, defaults, 'nothing of all that was kept')
  // What the operator permits may be asked without TLS.
  await change(server, { webhook_url: 'http://internal.example.com/hook', webhook_url_secondary: null })
})

test('what is compared as text later is taken in one spelling only', async t => {
  const server = await startFairlead(t)
  const urls = [
    'https:evil.example',
    '//evil.example/',
    '/\\evil.example',
    'https://app.example.com',
    'https://APP.example.com/',
    'https://app.example.com/a/../b',
    'https://user@app.example.com/',
    'https://app.example.com/#done',
    'https://äpp.example.com/',
    'http://app.example.com/',
    'javascript:alert(1)',
    'https://app.example.com/ ',
    'https://app.example.com:443/',
  ]
  const origins = [
    'https://app.example.com/',
    'https://*.example.com',
    'null',
    '*',
    'http://app.example.com',
    'HTTPS://a.b',
  ]
  for (const [member, values] of [
    ['return_urls', urls],
    ['allowed_origins', origins],
  ] as const)
    for (const value of values) {
      const refused = await server.call('PATCH', path, { [member]: ['https://fine.example/', value] })
      assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_body'], value)
    }
  const twice = ['https://a.example', 'https://a.example']
  for (const body of [{ allowed_origins: twice }, { unknown: 1 }, { on_auth_creation: 'yes' }, { return_urls: null }])
    assert.equal((await server.call('PATCH', path, body)).json.error.code, 'invalid_body')
  assert.deepEqual((await server.call('GET', path)).json, defaults)
})
