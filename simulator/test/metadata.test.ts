import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32, deflateRawSync } from 'node:zlib'
import type { Simulator } from '../src/index.ts'
import { BadXml, readXml } from '../src/xml.ts'
import { BadZip, readZip } from '../src/zip.ts'
import { ADA, askToken, CALLBACK, exchange, type Json, newCode, refresh, rest, simulate, text } from './support.ts'

/** Deflated, as other people's tools pack. */
function pack(files: Record<string, string>): Buffer {
  const bodies: Buffer[] = []
  const entries: Buffer[] = []
  let offset = 0
  for (const [path, content] of Object.entries(files)) {
    const name = Buffer.from(path)
    const data = deflateRawSync(Buffer.from(content))
    const facts = Buffer.alloc(26)
    facts.writeUInt16LE(8, 4)
    facts.writeUInt32LE(crc32(content), 10)
    facts.writeUInt32LE(data.length, 14)
    facts.writeUInt32LE(Buffer.byteLength(content), 18)
    facts.writeUInt16LE(name.length, 22)
    const tail = Buffer.alloc(14)
    tail.writeUInt32LE(offset, 10)
    const body = Buffer.concat([Buffer.from('PK\x03\x04'), facts, name, data])
    entries.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), facts, tail, name]))
    bodies.push(body)
    offset += body.length
  }
  const end = Buffer.alloc(18)
  end.writeUInt16LE(entries.length, 6)
  end.writeUInt32LE(offset, 12)
  return Buffer.concat([...bodies, ...entries, Buffer.from('PK\x05\x06'), end])
}

const documentOf = (type: string, inner: string) =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<!-- x -->\n<${type} xmlns="http://soap.sforce.com/2006/04/metadata">${inner}</${type}>`
const PARENT = '<externalClientApplication>Acme_Connect</externalClientApplication>'

type Files = Record<string, string>
const app = (changes: Files = {}): Files => ({
  'package.xml': documentOf(
    'Package',
    `${[
      'ExternalClientApplication',
      'ExtlClntAppGlobalOauthSettings',
      'ExtlClntAppOauthSettings',
      'ExtlClntAppOauthConfigurablePolicies',
      'ExtlClntAppOauthSecuritySettings',
      'ExternalClientAppSettings',
    ]
      .map(name => `<types><members>*</members><name>${name}</name></types>`)
      .join('')}<version>66.0</version>`,
  ),
  'externalClientApps/Acme_Connect.eca': documentOf(
    'ExternalClientApplication',
    '<contactEmail>ops@acme.com</contactEmail><distributionState>Local</distributionState><label>Acme &amp; Co</label>',
  ),
  'extlClntAppGlobalOauthSets/Acme_g.ecaGlblOauth': documentOf(
    'ExtlClntAppGlobalOauthSettings',
    `<callbackUrl>${CALLBACK}\nhttps://acme.com/cb</callbackUrl>${PARENT}`,
  ),
  'extlClntAppOauthSettings/Acme_o.ecaOauth': documentOf(
    'ExtlClntAppOauthSettings',
    `<commaSeparatedOauthScopes>Api, RefreshToken</commaSeparatedOauthScopes>${PARENT}`,
  ),
  ...changes,
})

const GLOBAL = 'extlClntAppGlobalOauthSets/Acme_g.ecaGlblOauth'
const SCOPES = 'extlClntAppOauthSettings/Acme_o.ecaOauth'
const SETTINGS = 'settings/ExternalClientApp.settings'
const secretsByRest = documentOf(
  'ExternalClientAppSettings',
  '<enableClientSecretInRestApiAccess>true</enableClientSecretInRestApiAccess>',
)

async function start(tokens: Json, archive: Buffer, options: object = {}) {
  const form = new FormData()
  form.set('json', new Blob([JSON.stringify({ deployOptions: options })], { type: 'application/json' }))
  form.set('file', new Blob([new Uint8Array(archive)], { type: 'application/zip' }), 'deploy.zip')
  const response = await fetch(`${text(tokens, 'instance_url')}/services/data/v66.0/metadata/deployRequest`, {
    method: 'POST',
    headers: { authorization: `Bearer ${text(tokens, 'access_token')}` },
    body: form,
  })
  return { status: response.status, json: (await response.json()) as Json }
}

type Result = { status: string; success: boolean; details: { componentFailures: Json[]; componentSuccesses: Json[] } }

async function deploy(tokens: Json, files: Files | Buffer, options: object = {}): Promise<Result> {
  const { status, json } = await start(tokens, Buffer.isBuffer(files) ? files : pack(files), options)
  assert.equal(status, 201, JSON.stringify(json))
  const path = `/v66.0/metadata/deployRequest/${text(json, 'id')}?includeDetails=true`
  const first = (await rest(tokens, path)).json as { deployResult: { status: string; done: boolean } }
  assert.deepEqual([first.deployResult.status, first.deployResult.done], ['InProgress', false])
  return ((await rest(tokens, path)).json as { deployResult: Result }).deployResult
}

const admin = (simulator: Simulator): Json => simulator.control.issueTokens({ username: ADA })
const deployed = (simulator: Simulator) =>
  simulator.control.state().apps.find(({ developerName }) => developerName === 'Acme_Connect')

test('a deployed app works at once, with the settings it was given', async t => {
  const simulator = await simulate(t)
  const tokens = admin(simulator)
  const result = await deploy(tokens, app({ [SETTINGS]: secretsByRest }))
  assert.deepEqual([result.status, result.success], ['Succeeded', true], JSON.stringify(result))
  assert.equal(result.details.componentSuccesses.length, 4)
  const made = deployed(simulator)
  assert.ok(made)
  assert.deepEqual(
    [made.name, made.callbacks, made.scopes, made.pkceRequired, made.secretRequired, made.rotation],
    ['Acme & Co', [CALLBACK, 'https://acme.com/cb'], ['api', 'refresh_token'], true, true, false],
  )
  const { clientId: client_id, clientSecret: client_secret } = made
  const code = await newCode(simulator, { client_id })
  const connected = (await exchange(simulator, code, { client_id, client_secret })).json
  assert.equal(connected.scope, 'api refresh_token')

  // A second deployment changes the same app; rotating its secret is a warning first, and ends its tokens.
  const rotating = app({
    [GLOBAL]: documentOf(
      'ExtlClntAppGlobalOauthSettings',
      `<callbackUrl>${CALLBACK}</callbackUrl>${PARENT}<isRefreshTokenRotationEnabled>true</isRefreshTokenRotationEnabled><shouldRotateConsumerSecret>true</shouldRotateConsumerSecret>`,
    ),
  })
  const warned = await deploy(tokens, rotating)
  assert.equal(warned.details.componentFailures[0]?.problemType, 'Warning')
  assert.equal(deployed(simulator)?.clientSecret, client_secret, 'nothing was applied')
  assert.equal((await deploy(tokens, rotating, { ignoreWarnings: true })).status, 'Succeeded')
  const now = deployed(simulator)
  assert.deepEqual([now?.clientId, now?.rotation, now?.clientSecret === client_secret], [client_id, true, false])
  const dead = await refresh(simulator, text(connected, 'refresh_token'), {
    client_id,
    client_secret: now?.clientSecret ?? '',
  })
  assert.equal(dead.json.error_description, 'expired access/refresh token')
})

test('policies and refresh IP ranges have their effect', async t => {
  const simulator = await simulate(t)
  const tokens = admin(simulator)
  await deploy(
    tokens,
    app({
      'extlClntAppOauthPolicies/Acme_p.ecaOauthPlcy': documentOf(
        'ExtlClntAppOauthConfigurablePolicies',
        `${PARENT}<permittedUsersPolicyType>AdminApprovedPreAuthorized</permittedUsersPolicyType><refreshTokenPolicyType>SpecificInactivity</refreshTokenPolicyType><refreshTokenValidityPeriod>48</refreshTokenValidityPeriod><refreshTokenValidityUnit>Hours</refreshTokenValidityUnit>`,
      ),
      'extlClntAppOauthSecuritySettings/Acme_s.ecaOauthSecurity': documentOf(
        'ExtlClntAppOauthSecuritySettings',
        `${PARENT}<tokenIpRanges><endIpAddress>10.0.0.9</endIpAddress><startIpAddress>10.0.0.1</startIpAddress></tokenIpRanges>`,
      ),
    }),
  )
  const made = deployed(simulator)
  assert.deepEqual([made?.refreshPolicy, made?.adminApproved], [{ kind: 'idle', days: 2 }, true])
  const { clientId: client_id = '', clientSecret: client_secret = '' } = made ?? {}
  const { json } = await exchange(simulator, await newCode(simulator, { client_id }), { client_id, client_secret })
  const elsewhere = await refresh(simulator, text(json, 'refresh_token'), { client_id, client_secret })
  assert.equal(elsewhere.json.error_description, 'ip restricted')
})

test('what does not deploy says why, and changes nothing', async t => {
  const simulator = await simulate(t)
  const tokens = admin(simulator)
  const global = (inner: string) => ({ [GLOBAL]: documentOf('ExtlClntAppGlobalOauthSettings', inner + PARENT) })
  const eca = (inner: string) => ({
    'externalClientApps/Acme_Connect.eca': documentOf('ExternalClientApplication', inner),
  })
  const table: [Files, RegExp][] = [
    [
      global('<isPkceRequried>true</isPkceRequried>'),
      /Element isPkceRequried invalid at this location in type ExtlClntAppGlobalOauthSettings/,
    ],
    [global('<isPkceRequired>yes</isPkceRequired>'), /'yes' is not a valid value for the type boolean/],
    [global('<isPkceRequired>true</isPkceRequired><isPkceRequired>true</isPkceRequired>'), /duplicated/],
    [global('<callbackUrl>http://acme.com/cb</callbackUrl>'), /Invalid callback URL/],
    [global('<callbackUrl><b>x</b></callbackUrl>'), /Element b invalid/],
    [
      eca('<contactEmail>a@b.c</contactEmail><distributionState>Lokal</distributionState><label>x</label>'),
      /'Lokal' is not a valid value for the enum 'DistributionState'/,
    ],
    [
      eca('<contactEmail>a@b.c</contactEmail><distributionState>Packaged</distributionState><label>x</label>'),
      /sandbox/,
    ],
    [eca('<distributionState>Local</distributionState><label>x</label>'), /Required field is missing: contactEmail/],
    [
      {
        [SCOPES]: documentOf(
          'ExtlClntAppOauthSettings',
          `<commaSeparatedOauthScopes>Api,Everything</commaSeparatedOauthScopes>${PARENT}`,
        ),
      },
      /'Everything' is not a valid value for the enum 'ConnectedAppOauthAccessScope'/,
    ],
    [
      {
        [SCOPES]: documentOf(
          'ExtlClntAppOauthSettings',
          '<externalClientApplication>Nobody</externalClientApplication>',
        ),
      },
      /no ExternalClientApplication named Nobody found/,
    ],
    [{ [SCOPES]: documentOf('Wrong', PARENT) }, /Invalid root element/],
    [{ [SCOPES]: '<!DOCTYPE x><x/>' }, /Error parsing file/],
    [{ 'externalClientApps/Acme_Connect.ecaGlobalOauth': 'x' }, /no known metadata type/],
    [{ 'package.xml': documentOf('Package', '<version>66.0</version>') }, /Not in package.xml/],
    [{ 'package.xml': documentOf('Package', '<types/>') }, /version is missing/],
  ]
  for (const [change, problem] of table) {
    const result = await deploy(tokens, app(change))
    assert.deepEqual([result.status, result.success], ['Failed', false], String(problem))
    assert.match(JSON.stringify(result.details.componentFailures.map(failure => failure.problem)), problem)
    assert.equal(deployed(simulator), undefined, 'it applies whole or not at all')
  }
  assert.match(JSON.stringify(await deploy(tokens, Buffer.from('no zip'))), /not a zip archive/)
  assert.equal((await deploy(tokens, app(), { checkOnly: true })).status, 'Succeeded')
  assert.equal(deployed(simulator), undefined, 'a dry run makes nothing')

  const ben = simulator.control.issueTokens({ username: 'ben@acme.com.uat' })
  assert.equal((await start(ben, pack(app()))).status, 403)
  const { json } = await start(tokens, pack(app()))
  const path = `/v66.0/metadata/deployRequest/${text(json, 'id')}`
  assert.equal(
    (await rest(tokens, path, { method: 'PATCH', body: { deployResult: { status: 'Canceling' } } })).status,
    202,
  )
  assert.equal(((await rest(tokens, path)).json as { deployResult: Result }).deployResult.status, 'Canceled')
  assert.equal(deployed(simulator), undefined)
})

test('key and secret over REST: gated by the org’s setting and the user’s permission', async t => {
  const simulator = await simulate(t)
  const tokens = admin(simulator)
  await deploy(tokens, app())
  type Apps = { apps: { developerName: string; identifier: string }[] }
  const { apps } = (await rest(tokens, '/v66.0/apps/oauth/usage')).json as Apps
  const found = apps.find(({ developerName }) => developerName === 'Acme_Connect')
  assert.match(found?.identifier ?? '', /^0xI/)
  const path = `/v66.0/apps/oauth/credentials/${found?.identifier}`
  assert.equal((await rest(tokens, path)).status, 403, 'the toggle is off')
  simulator.control.setOrg({ org: 'acme--uat', secretsByRest: true })
  const ben = simulator.control.issueTokens({ username: 'ben@acme.com.uat' })
  assert.equal((await rest(ben, path)).status, 403, 'not everybody may see secrets')
  const { consumers } = (await rest(tokens, path)).json as { consumers: { id: string }[] }
  const consumer = `${path}/${consumers[0]?.id}`
  const read = async (part: string) => (await rest(tokens, `${consumer}?part=${part}`)).json as Json
  const made = deployed(simulator)
  assert.deepEqual(await read('keyandsecret'), {
    id: consumers[0]?.id,
    key: made?.clientId,
    secret: made?.clientSecret,
  })
  assert.deepEqual(Object.keys(await read('key')), ['id', 'key'])

  // Staged credentials do nothing until they are applied, and then the old secret is over.
  const staged = (await rest(tokens, `${consumer}/staged`, { method: 'POST', body: {} })).json as {
    stagedCredentials: { id: string; secret: string }[]
  }
  const next = staged.stagedCredentials[0]
  assert.equal(deployed(simulator)?.clientSecret, made?.clientSecret)
  const applied = await rest(tokens, `${consumer}/staged/${next?.id}`, { method: 'PATCH', body: { command: 'rotate' } })
  assert.equal(applied.status, 200)
  assert.equal(deployed(simulator)?.clientSecret, next?.secret)
  const old = await askToken(simulator, {
    grant_type: 'refresh_token',
    refresh_token: 'x',
    client_id: made?.clientId ?? '',
    client_secret: made?.clientSecret ?? '',
  })
  assert.equal(old.json.error, 'invalid_client')

  // A refreshed sandbox has forgotten the app.
  simulator.control.refreshSandbox({ org: 'acme--uat' })
  assert.equal(deployed(simulator), undefined)
})

test('archives and documents that are none', () => {
  const good = pack({ 'a/b.txt': 'x'.repeat(1000), 'c.txt': '' })
  assert.deepEqual(
    [...readZip(good)],
    [
      ['a/b.txt', 'x'.repeat(1000)],
      ['c.txt', ''],
    ],
  )
  for (let cut = 0; cut < good.length; cut += 7) {
    assert.throws(() => readZip(good.subarray(0, cut)), BadZip, `cut at ${cut}`)
  }
  const altered = Buffer.from(good)
  altered[40] = (altered[40] ?? 0) ^ 0xff
  assert.throws(() => readZip(altered), BadZip)
  assert.throws(() => readZip(pack({ bomb: '0'.repeat(5_000_000) })), BadZip)

  for (const bad of [
    '',
    'text',
    '<a>',
    '<a></b>',
    '<a/><b/>',
    '<a>&nope;</a>',
    '<a>x<b/></a>',
    '<a x=y/>',
    `${'<a>'.repeat(30)}`,
  ]) {
    assert.throws(() => readXml(bad), BadXml, bad)
  }
  assert.equal(readXml('<a b="c"><d>&#x41;&#66;&lt;</d></a>').children[0]?.text, 'AB<')
})
