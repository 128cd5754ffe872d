import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { after, test } from 'node:test'
import { ConfigError, readConfig } from '../../src/config.ts'
import { parseRetention } from '../../src/lib/retention.ts'

const folder = mkdtempSync(join(tmpdir(), 'fairlead-config-'))
after(() => rmSync(folder, { recursive: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const key = randomBytes(32).toString('base64')
const key2 = randomBytes(32).toString('base64')
const databaseUrl = 'postgresql://fairlead:canary-password@db/fairlead'

function faultsOf(env: NodeJS.ProcessEnv): string[] {
  try {
    readConfig(env)
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    for (const fault of error.faults) assert.ok(error.message.includes(fault))
    return error.faults
  }
  return []
}

test('without any variable: loopback, port 3003, the embedded database', () => {
  assert.deepEqual(readConfig({}), {
    port: 3003,
    host: '127.0.0.1',
    url: 'http://localhost:3003',
    dataDir: resolve('.fairlead'),
    databaseUrl: undefined,
    databaseDirectUrl: undefined,
    encryptionKeys: [],
    aws: undefined,
    pinnedKeys: [],
    providersPath: undefined,
    egressAllow: [],
    egressProxies: [],
    trustedProxies: [],
    oidc: undefined,
    tracing: undefined,
    retention: parseRetention('').retention,
    logLevel: 'info',
    unknownVariables: [],
  })
})

test('an empty or blank variable is an unset one', () => {
  const names = [
    ...[
      'PORT',
      'HOST',
      'LOG_LEVEL',
      'DATABASE_URL',
      'FAIRLEAD_URL',
      'FAIRLEAD_DATA_DIR',
      'FAIRLEAD_DATABASE_DIRECT_URL',
    ],
    ...['FAIRLEAD_ENCRYPTION_KEY', 'FAIRLEAD_PROVIDERS', 'FAIRLEAD_EGRESS_ALLOW', 'FAIRLEAD_EGRESS_PROXY'],
    ...['FAIRLEAD_TRUSTED_PROXIES', 'FAIRLEAD_SECRET_KEY_DEV', 'FAIRLEAD_OIDC_ISSUER', 'FAIRLEAD_OIDC_CLIENT_ID'],
    ...['FAIRLEAD_OIDC_CLIENT_SECRET', 'FAIRLEAD_OIDC_NAME', 'FAIRLEAD_OIDC_NEWCOMERS'],
  ]
  for (const blank of ['', '  '])
    assert.deepEqual(readConfig(Object.fromEntries(names.map(name => [name, blank]))), readConfig({}))
})

test('what is given is taken, trimmed', () => {
  const config = readConfig({
    PORT: '8080',
    HOST: '0.0.0.0',
    FAIRLEAD_URL: 'https://connect.acme.com/fairlead//',
    FAIRLEAD_DATA_DIR: folder,
    DATABASE_URL: ` ${databaseUrl}\n`,
    FAIRLEAD_DATABASE_DIRECT_URL: 'postgres://direct/fairlead',
    FAIRLEAD_ENCRYPTION_KEY: `${key} , ${key2}`,
    FAIRLEAD_SECRET_KEY_DEV: 'k'.repeat(32),
    FAIRLEAD_SECRET_KEY_US_EAST_FILE: file('pinned', `${'m'.repeat(40)}\n`),
    FAIRLEAD_PROVIDERS: folder,
    FAIRLEAD_EGRESS_ALLOW: '10.0.0.0/8, *.acme.internal:8443',
    LOG_LEVEL: 'debug',
  })
  const { databaseUrl: url, databaseDirectUrl: direct, encryptionKeys, pinnedKeys, egressAllow, ...rest } = config
  assert.equal(url?.reveal(), databaseUrl)
  assert.equal(direct?.reveal(), 'postgres://direct/fairlead')
  assert.deepEqual(
    encryptionKeys.map(one => one.reveal()),
    [key, key2],
  )
  assert.deepEqual(
    pinnedKeys.map(({ variable, key }) => [variable, key.reveal()]),
    [
      ['DEV', 'k'.repeat(32)],
      ['US_EAST', 'm'.repeat(40)],
    ],
  )
  assert.equal(egressAllow.length, 2)
  assert.deepEqual(rest, {
    port: 8080,
    host: '0.0.0.0',
    url: 'https://connect.acme.com/fairlead',
    dataDir: folder,
    providersPath: folder,
    logLevel: 'debug',
    egressProxies: [],
    trustedProxies: [],
    oidc: undefined,
    tracing: undefined,
    retention: parseRetention('').retention,
    aws: undefined,
    unknownVariables: [],
  })
})

test('a key in AWS KMS is named by its ARN and comes with credentials', () => {
  const arn = 'aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'
  const { encryptionKeys, aws } = readConfig({
    FAIRLEAD_ENCRYPTION_KEY: `${arn},${key}`,
    AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
    AWS_SECRET_ACCESS_KEY_FILE: file('aws', 'secret\n'),
  })
  assert.deepEqual(
    encryptionKeys.map(one => one.reveal()),
    [arn, key],
  )
  assert.deepEqual(
    [aws?.accessKeyId, aws?.secretAccessKey.reveal(), aws?.sessionToken],
    ['AKIDEXAMPLE', 'secret', undefined],
  )
})

test('an identity provider has an issuer, a client and perhaps domains that may come in', () => {
  const { oidc } = readConfig({
    FAIRLEAD_OIDC_ISSUER: 'https://acme.okta.com',
    FAIRLEAD_OIDC_CLIENT_ID: 'fairlead',
    FAIRLEAD_OIDC_CLIENT_SECRET_FILE: file('oidc', 'secret\n'),
    FAIRLEAD_OIDC_NEWCOMERS: 'Acme.com=viewer, ops.acme.com=admin',
  })
  const { clientSecret, issuer, ...rest } = oidc!
  assert.equal(clientSecret?.reveal(), 'secret')
  assert.equal(issuer.href, 'https://acme.okta.com/')
  assert.deepEqual(rest, {
    clientId: 'fairlead',
    name: 'acme.okta.com',
    newcomers: [
      { domain: 'acme.com', role: 'viewer' },
      { domain: 'ops.acme.com', role: 'admin' },
    ],
  })
})

test('the public base follows the port unless it is given', () => {
  assert.equal(readConfig({ PORT: '4000' }).url, 'http://localhost:4000')
  assert.equal(readConfig({ PORT: '4000', FAIRLEAD_URL: 'https://a.example' }).url, 'https://a.example')
})

test('every secret has a file form', () => {
  const config = readConfig({
    DATABASE_URL_FILE: file('url', `${databaseUrl}\n`),
    FAIRLEAD_DATABASE_DIRECT_URL_FILE: file('direct', databaseUrl),
    FAIRLEAD_ENCRYPTION_KEY_FILE: file('key', `${key}\n`),
    FAIRLEAD_SECRET_KEY_PROD_FILE: file('prod', 'p'.repeat(32)),
  })
  assert.equal(config.databaseUrl?.reveal(), databaseUrl)
  assert.equal(config.databaseDirectUrl?.reveal(), databaseUrl)
  assert.equal(config.encryptionKeys[0]?.reveal(), key)
  assert.deepEqual(
    config.pinnedKeys.map(({ variable }) => variable),
    ['PROD'],
  )
  assert.deepEqual(config.unknownVariables, [])
})

// One fault each: a row that reports two would send its reader after something that is not wrong.
const faults: [string, NodeJS.ProcessEnv, RegExp][] = [
  ['a port that is no number', { PORT: 'http' }, /^PORT /],
  ['a port too high', { PORT: '65536' }, /^PORT /],
  ['half a port', { PORT: '3003.5' }, /^PORT /],
  ['a base without scheme', { FAIRLEAD_URL: 'connect.acme.com' }, /^FAIRLEAD_URL /],
  ['a base that is not http', { FAIRLEAD_URL: 'ftp://acme.com' }, /^FAIRLEAD_URL /],
  ['a base with a query', { FAIRLEAD_URL: 'https://acme.com/?a=1' }, /^FAIRLEAD_URL /],
  ['a base with a fragment', { FAIRLEAD_URL: 'https://acme.com/#a' }, /^FAIRLEAD_URL /],
  ['a base with a user', { FAIRLEAD_URL: 'https://u:canary-password@acme.com' }, /^FAIRLEAD_URL /],
  ['a base with a password alone', { FAIRLEAD_URL: 'https://:canary-password@acme.com' }, /^FAIRLEAD_URL /],
  [
    'another database',
    { DATABASE_URL: 'mysql://canary-password@db/x', FAIRLEAD_ENCRYPTION_KEY: key },
    /^DATABASE_URL /,
  ],
  [
    'a KMS key without credentials',
    { FAIRLEAD_ENCRYPTION_KEY: 'aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd' },
    /^A key in AWS KMS needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY/,
  ],
  [
    'a KMS alias',
    {
      FAIRLEAD_ENCRYPTION_KEY: 'aws-kms:arn:aws:kms:eu-central-1:111122223333:alias/fairlead',
      AWS_ACCESS_KEY_ID: 'a',
      AWS_SECRET_ACCESS_KEY: 'b',
    },
    /^FAIRLEAD_ENCRYPTION_KEY must name a key of AWS KMS by its ARN/,
  ],
  ['a database without a key', { DATABASE_URL: databaseUrl }, /^FAIRLEAD_ENCRYPTION_KEY is required with DATABASE_URL/],
  ['a direct URL alone', { FAIRLEAD_DATABASE_DIRECT_URL: databaseUrl }, /^FAIRLEAD_DATABASE_DIRECT_URL is set without/],
  ['a short key', { FAIRLEAD_ENCRYPTION_KEY: randomBytes(16).toString('base64') }, /32 bytes as base64.*has 16 bytes/],
  ['a long key', { FAIRLEAD_ENCRYPTION_KEY: randomBytes(33).toString('base64') }, /has 33 bytes/],
  ['a key in hex', { FAIRLEAD_ENCRYPTION_KEY: randomBytes(32).toString('hex') }, /32 bytes as base64/],
  ['a key in words', { FAIRLEAD_ENCRYPTION_KEY: 'correct horse battery staple' }, /32 bytes as base64/],
  ['a key of zeros', { FAIRLEAD_ENCRYPTION_KEY: Buffer.alloc(32).toString('base64') }, /is a placeholder/],
  ['a key of one letter', { FAIRLEAD_ENCRYPTION_KEY: Buffer.alloc(32, 'a').toString('base64') }, /is a placeholder/],
  ['a bad second key', { FAIRLEAD_ENCRYPTION_KEY: `${key},canary` }, /^FAIRLEAD_ENCRYPTION_KEY \(key 2\) must be/],
  ['a comma too many', { FAIRLEAD_ENCRYPTION_KEY: `${key},` }, /^FAIRLEAD_ENCRYPTION_KEY \(key 2\) must be/],
  ['a key file that is empty', { FAIRLEAD_ENCRYPTION_KEY_FILE: file('empty', '') }, /has 0 bytes/],
  ['a key file that is not there', { FAIRLEAD_ENCRYPTION_KEY_FILE: join(folder, 'nowhere') }, /_FILE names .*ENOENT/],
  // Somebody confused the two forms: the value is the secret itself.
  ['a key where its file belongs', { FAIRLEAD_ENCRYPTION_KEY_FILE: key }, /_FILE names a file that cannot be read/],
  [
    'both forms',
    { FAIRLEAD_ENCRYPTION_KEY: key, FAIRLEAD_ENCRYPTION_KEY_FILE: file('both', key) },
    /^FAIRLEAD_ENCRYPTION_KEY and FAIRLEAD_ENCRYPTION_KEY_FILE are both set/,
  ],
  ['a short API key', { FAIRLEAD_SECRET_KEY_DEV: 'canary' }, /^FAIRLEAD_SECRET_KEY_DEV must have at least 32/],
  [
    'one API key for two environments',
    { FAIRLEAD_SECRET_KEY_DEV: 'canary'.repeat(6), FAIRLEAD_SECRET_KEY_PROD: 'canary'.repeat(6) },
    /same value/,
  ],
  ['providers that are not there', { FAIRLEAD_PROVIDERS: join(folder, 'nowhere') }, /^FAIRLEAD_PROVIDERS /],
  ['egress to a URL', { FAIRLEAD_EGRESS_ALLOW: 'https://acme.com' }, /^FAIRLEAD_EGRESS_ALLOW: "https:\/\/acme.com"/],
  ['egress to anything', { FAIRLEAD_EGRESS_ALLOW: '*' }, /^FAIRLEAD_EGRESS_ALLOW: "\*"/],
  [
    'an egress proxy',
    { FAIRLEAD_EGRESS_PROXY: 'https://u:canary-password@proxy' },
    /^FAIRLEAD_EGRESS_PROXY: entry 1 is not a proxy/,
  ],
  ['an issuer without a client', { FAIRLEAD_OIDC_ISSUER: 'https://acme.okta.com' }, /^Signing in with OpenID Connect/],
  ['a client without an issuer', { FAIRLEAD_OIDC_CLIENT_SECRET: 'canary' }, /^Signing in with OpenID Connect/],
  [
    'an issuer that is none',
    { FAIRLEAD_OIDC_ISSUER: 'acme.okta.com', FAIRLEAD_OIDC_CLIENT_ID: 'a' },
    /^FAIRLEAD_OIDC_ISSUER must be/,
  ],
  [
    'newcomers who become owners',
    {
      FAIRLEAD_OIDC_ISSUER: 'https://acme.okta.com',
      FAIRLEAD_OIDC_CLIENT_ID: 'a',
      FAIRLEAD_OIDC_NEWCOMERS: 'acme.com=owner',
    },
    /^FAIRLEAD_OIDC_NEWCOMERS: "acme.com=owner"/,
  ],
  ['an unknown level', { LOG_LEVEL: 'loud' }, /^LOG_LEVEL must be one of trace, debug/],
]
for (const [what, env, says] of faults)
  test(`${what} is one fault, and no value is printed`, () => {
    const found = faultsOf(env)
    assert.equal(found.length, 1, found.join('\n'))
    assert.match(found[0]!, says)
    for (const secret of ['canary', key, databaseUrl]) assert.ok(!found.join().includes(secret), found.join())
  })

test('all faults are reported at once', () => {
  const found = faultsOf({
    PORT: 'http',
    FAIRLEAD_URL: 'acme.com',
    DATABASE_URL: 'mysql://db',
    FAIRLEAD_ENCRYPTION_KEY: `canary,${key},`,
    FAIRLEAD_SECRET_KEY_DEV: 'short',
    FAIRLEAD_PROVIDERS: join(folder, 'nowhere'),
    FAIRLEAD_EGRESS_ALLOW: '*,https://acme.com',
    FAIRLEAD_EGRESS_PROXY: 'proxy:3128',
    LOG_LEVEL: 'loud',
  })
  assert.deepEqual(
    found.map(fault => fault.split(/[ :]/)[0]),
    [
      'PORT',
      'FAIRLEAD_URL',
      'DATABASE_URL',
      'FAIRLEAD_ENCRYPTION_KEY',
      'FAIRLEAD_ENCRYPTION_KEY',
      'FAIRLEAD_SECRET_KEY_DEV',
      'FAIRLEAD_PROVIDERS',
      'FAIRLEAD_EGRESS_ALLOW',
      'FAIRLEAD_EGRESS_ALLOW',
      'FAIRLEAD_EGRESS_PROXY',
      'LOG_LEVEL',
    ],
  )
})

test('a variable that looks like ours and is not is named, not refused', () => {
  const { unknownVariables } = readConfig({
    FAIRLEAD_DATABASE_URL: databaseUrl,
    FAIRLEAD_ENCRYTION_KEY: key,
    FAIRLEAD_SECRET_KEY_dev: 'k'.repeat(32),
    FAIRLEAD_TRUSTED_PROXIES: '10.0.0.0/8',
    OTHER: '1',
  })
  assert.deepEqual(unknownVariables, ['FAIRLEAD_DATABASE_URL', 'FAIRLEAD_ENCRYTION_KEY', 'FAIRLEAD_SECRET_KEY_dev'])
})
