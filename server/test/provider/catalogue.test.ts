import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Failure } from '../../src/errors.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { CatalogueError, hostAllowed, loadCatalogue } from '../../src/provider/catalogue.ts'
import { endpoint, tokenUrlOf } from '../../src/provider/endpoint.ts'
import { manyDefinitions, manyEntries } from './many.ts'

const folder = mkdtempSync(join(tmpdir(), 'fairlead-catalogue-'))
after(() => rmSync(folder, { recursive: true }))
let files = 0

/** Overlays `text`, or the files of a folder. */
function load(text?: string | Record<string, string>, allow = '') {
  let overlayPath: string | undefined
  if (typeof text === 'string') {
    overlayPath = join(folder, `${++files}.yaml`)
    writeFileSync(overlayPath, text)
  } else if (text) {
    overlayPath = join(folder, String(++files))
    mkdirSync(overlayPath)
    for (const [name, content] of Object.entries(text)) writeFileSync(join(overlayPath, name), content)
  }
  return loadCatalogue({ overlayPath, egressAllow: parseEgressAllow(allow).rules })
}

function faultsOf(text: string | Record<string, string>, allow?: string): string[] {
  try {
    load(text, allow)
  } catch (error) {
    assert.ok(error instanceof CatalogueError)
    return error.faults.map(fault => fault.replaceAll(`${folder}/`, '').replace(/^\d+\.yaml/, 'FILE'))
  }
  return []
}

const whole = `  display_name: Acme
  auth_mode: OAUTH2
  authorization_url: https://acme.example/authorize
  token_url: https://acme.example/token
`

test('the built-in catalogue loads without a fault', () => {
  const { list, get } = load()
  assert.ok(list().length >= 2)
  for (const provider of list()) assert.equal(get(provider.name), provider)
  assert.equal(get('constructor'), undefined)
  assert.equal(get('__proto__'), undefined)
})

test('three keys point a built-in provider elsewhere and leave every other key as it was', () => {
  const before = load().get('salesforce-sandbox')!
  const after = load(
    `salesforce-sandbox:
  authorization_url: http://sim.localhost:4500/authorize
  token_url: http://sim.localhost:4500/token
  allowed_hosts: ['*.sim.localhost']
`,
    '127.0.0.1',
  )
  const changed = after.get('salesforce-sandbox')!
  assert.equal(tokenUrlOf(changed), 'http://sim.localhost:4500/token')
  const { authorization_url: _a, token_url: _t, allowed_hosts: _h, ...rest } = changed
  const { authorization_url: _1, token_url: _2, allowed_hosts: _3, ...was } = before
  assert.deepEqual(rest, was)
  // The list is replaced, not added to: the real hosts are no longer allowed.
  assert.equal(hostAllowed(changed, 'acme.my.salesforce.com'), false)
  assert.equal(hostAllowed(changed, 'acme.sim.localhost'), true)
  // Neither the original nor its sibling moved.
  assert.deepEqual(after.get('salesforce'), load().get('salesforce'))
  // Endpoints nobody named follow the account's own address.
  const config = { instance_url: 'http://acme.sim.localhost:4500' }
  const introspect = endpoint(changed, changed.introspection_url!, config)
  assert.equal(introspect?.href, 'http://acme.sim.localhost:4500/services/oauth2/introspect')
})

test('a new provider, an alias of one, and an alias of that', () => {
  const { get } = load(`acme:
${whole}acme-eu:
  alias: acme
  token_url: https://eu.acme.example/token
acme-test:
  alias: acme-eu
  display_name: Acme Test
`)
  assert.equal(get('acme-test')?.display_name, 'Acme Test')
  assert.equal(get('acme-test')?.token_url, 'https://eu.acme.example/token')
  assert.equal(get('acme-test')?.authorization_url, 'https://acme.example/authorize')
  assert.equal(get('acme')?.token_url, 'https://acme.example/token')
  assert.equal('alias' in get('acme-test')!, false)
})

test('a folder is laid over file by file, in the order of its names, and other files in it are not read', () => {
  const { get } = load({
    '10-acme.yaml': `acme:\n${whole}`,
    '20-acme.yml': 'acme:\n  display_name: Acme of the second file\n',
    '30-empty.yaml': '# nothing\n',
    'README.md': 'acme: [',
  })
  assert.equal(get('acme')?.display_name, 'Acme of the second file')
  assert.equal(get('acme')?.token_url, 'https://acme.example/token')
})

const faults: [what: string, yaml: string, says: RegExp[]][] = [
  ['broken YAML', 'acme:\n  display_name: "Acme\n', [/^FILE:\d+: /]],
  ['a tab', 'acme:\n\tdisplay_name: Acme\n', [/^FILE:2: /]],
  ['one key twice', `acme:\n${whole}  display_name: Again\n`, [/^FILE:6: duplicated/]],
  ['one provider twice', `acme:\n${whole}acme:\n${whole}`, [/^FILE:6: duplicated/]],
  [
    'a pattern without quotes',
    `acme:\n${whole}  allowed_hosts: [*.acme.example]\n`,
    [/^FILE.*Quote a value that begins/],
  ],
  ['a list', '- acme\n', [/^FILE:1: expected provider names/]],
  ['a word', 'acme\n', [/^FILE:1: expected provider names/]],
  ['a provider that is no map', 'acme: yes\n', [/^FILE:1: a provider is a name/]],
  ['a name with a space', `"acme corp":\n${whole}`, [/a provider is a name of letters/]],
  ['a wrong type', `acme:\n${whole}  default_scopes: api\n`, [/^FILE:6: default_scopes: .*expected array/]],
  ['a missing key', `acme:\n${whole.replace(/.*token_url.*\n/, '')}`, [/^FILE:2: token_url: is needed for OAUTH2/]],
  [
    'a host with a port',
    `acme:\n${whole}  allowed_hosts: ['acme.example:443']\n`,
    [/^FILE:6: allowed_hosts.0: .*no port/],
  ],
  ['a host that is a URL', `acme:\n${whole}  allowed_hosts: ['https://acme.example']\n`, [/^FILE:6: allowed_hosts.0/]],
  ['every host', `acme:\n${whole}  allowed_hosts: ['*']\n`, [/^FILE:6: allowed_hosts.0/]],
  ['a star inside', `acme:\n${whole}  allowed_hosts: ['a.*.example']\n`, [/^FILE:6: allowed_hosts.0/]],
  ['capitals', `acme:\n${whole}  allowed_hosts: ['Acme.example']\n`, [/^FILE:6: allowed_hosts.0/]],
  ['an alias of nobody', 'acme:\n  alias: nobody\n', [/^FILE:2: alias: there is no provider "nobody"/]],
  ['an alias of itself', 'acme:\n  alias: acme\n', [/^FILE:2: alias: goes in a circle/]],
  ['an alias that is no name', 'acme:\n  alias: [acme]\n', [/^FILE:2: alias: there is no provider/]],
  [
    'a broken template',
    `acme:\n${whole}  refresh_url: https://acme.example/\${x\n`,
    [/^FILE:6: refresh_url: .*without "}"/],
  ],
  [
    'a way of paging nobody knows',
    `acme:\n${whole}  proxy:\n    paginate:\n      type: seek\n`,
    [/^FILE:8: proxy.paginate.type: /],
  ],
  [
    'a cursor without a name',
    `acme:\n${whole}  proxy:\n    paginate:\n      type: cursor\n      cursor_path_in_response: next\n`,
    [/^FILE:8: proxy.paginate.cursor_name_in_request: /],
  ],
  [
    'a link in two places',
    `acme:\n${whole}  proxy:\n    paginate:\n      type: link\n      link_rel_in_response_header: next\n      link_path_in_response_body: next\n`,
    [/^FILE:8: proxy.paginate: .*one of them/],
  ],
  [
    'a broken pattern',
    `acme:\n${whole}  token_response_captures:\n    id: "("\n`,
    [/^FILE:7: token_response_captures.id: is not a reg/],
  ],
  [
    'http',
    `acme:\n${whole}  refresh_url: http://acme.example/t\n`,
    [/^FILE:6: refresh_url: .*without TLS.*FAIRLEAD_EGRESS_ALLOW/],
  ],
  ['loopback', `acme:\n${whole}  refresh_url: https://127.0.0.1/t\n`, [/^FILE:6: refresh_url: .*not a public address/]],
  [
    'metadata',
    `acme:\n${whole}  revocation_url: https://169.254.169.254/t\n`,
    [/^FILE:6: revocation_url: .*not a public/],
  ],
  [
    'http in the second alternative',
    `acme:\n${whole}  refresh_url: https://\${connectionConfig.h}/t || http://acme.example/t\n`,
    [/^FILE:6: refresh_url: .*without TLS/],
  ],
]
/** More than this version knows: read, told of with its line, and not used. A misspelt key is among them, so it cannot open anything by itself. */
const beyond: [what: string, yaml: string, says: RegExp[]][] = [
  ['an unknown key', `acme:\n${whole}  token_uri: https://x.example\n`, [/:6: token_uri: is not known/]],
  ['two unknown keys', `acme:\n${whole}  b: 1\n  a: 1\n`, [/:6: b: is not/, /:7: a: is not/]],
  [
    'an unknown key further down',
    `acme:\n${whole}  connection_config:\n    host:\n      titel: Host\n`,
    [/:8: connection_config.host.titel: is not known/],
  ],
  ['an unknown mode', `acme:\n${whole.replace('OAUTH2', 'OAUTH3')}`, [/auth_mode OAUTH3/]],
  [
    'an unknown function',
    `acme:\n${whole}  proxy:\n    headers:\n      a: \${nope()}\n`,
    [/:8: proxy.headers.a: unknown function/],
  ],
  ['an assertion of another shape', `acme:\n${whole}  assertion: { type: saml }\n`, [/:6: assertion/]],
]
for (const [what, yaml, says] of beyond)
  test(`${what}: taken, and marked as unsupported`, () => {
    const { unsupported = [] } = load(yaml).get('acme')!
    assert.equal(unsupported.length >= says.length, true, unsupported.join())
    for (const pattern of says)
      assert.ok(
        unsupported.some(reason => pattern.test(reason)),
        unsupported.join(),
      )
  })

test('a file of a thousand definitions is read whole, whatever it holds', t => {
  const overlayPath = join(folder, 'many.yaml')
  writeFileSync(overlayPath, manyDefinitions())
  const before = process.cpuUsage()
  const catalogue = loadCatalogue({ overlayPath, egressAllow: parseEgressAllow('').rules })
  const spent = process.cpuUsage(before)
  const ms = Math.round((spent.user + spent.system) / 1000)
  t.diagnostic(`${catalogue.list().length} definitions in ${ms} ms of CPU, ours among them`)
  const mine = catalogue.list().filter(({ display_name }) => /^Provider |^alias-/.test(display_name))
  assert.equal(mine.length, manyEntries)
  // One of a kind that is here says something nobody has heard of: it is named, and the rest of its kind is not touched.
  const strange = mine.filter(({ unsupported = [] }) => unsupported.some(reason => /token_url_by_mode/.test(reason)))
  assert.ok(strange.length > 0 && strange.length < 30, `${strange.length}`)
  const unsupported = mine
    .filter(provider => provider.unsupported && !strange.includes(provider))
    .map(provider => provider.auth_mode)
  assert.deepEqual([...new Set(unsupported)].sort(), [
    'APP',
    'AWS_SIGV4',
    'BILL',
    'CUSTOM',
    'INSTALL_PLUGIN',
    'MCP_OAUTH2',
    'MCP_OAUTH2_GENERIC',
    'SIGNATURE',
    'TBA',
  ])
  assert.match(catalogue.get('aws-sigv4-0')!.unsupported!.join(), /many\.yaml:\d{4,}: service_of_tomorrow/)
  assert.equal(catalogue.get('alias-3')!.token_url, 'https://oauth2-3.example.com/oauth/token')
  assert.ok(hostAllowed(catalogue.get('oauth2-cc-1')!, 'acme.oauth2-cc-1.example.com'))
  assert.ok(!hostAllowed(catalogue.get('oauth2-cc-1')!, 'acme.example.com'))
})

test('three bad entries among a thousand: each is named with its line, and nothing beside them', () => {
  const good = manyDefinitions().split('\n\n')
  const bad = [
    'bad-one: { display_name: 1, auth_mode: API_KEY }',
    'bad-two:\n    display_name: Two\n    auth_mode: OAUTH2\n    authorization_url: http://two.example/a\n    token_url: https://two.example/t',
    'bad-three:\n    alias: nobody',
  ]
  const pieces = [...good.slice(0, 300), bad[0]!, ...good.slice(300, 700), bad[1]!, ...good.slice(700), bad[2]!]
  const text = pieces.join('\n\n')
  const lineOf = (name: string) => text.slice(0, text.indexOf(`\n${name}:`)).split('\n').length + 1
  const found = faultsOf(text)
  assert.deepEqual(
    found.map(fault => Number(/^FILE:(\d+): /.exec(fault)?.[1])).sort((a, b) => a - b),
    [lineOf('bad-one'), lineOf('bad-two') + 3, lineOf('bad-three') + 1],
    found.join('\n'),
  )
})

for (const [what, yaml, says] of faults)
  test(`${what}: refused with file and line`, () => {
    const found = faultsOf(yaml)
    assert.equal(found.length, says.length, found.join('\n') || 'it was taken')
    for (const [index, pattern] of says.entries()) assert.match(found[index]!, pattern)
  })

test('a circle of aliases is refused at every provider in it, and does not hang', () => {
  const found = faultsOf('a:\n  alias: b\nb:\n  alias: c\nc:\n  alias: a\n')
  assert.equal(found.length, 3)
  for (const fault of found) assert.match(fault, /^FILE:\d: alias: goes in a circle$/)
})

test('faults of every file are reported at once, each with its own file', () => {
  const found = faultsOf({
    'a.yaml': `acme:\n${whole}  default_scopes: 1\n`,
    'b.yaml': 'b: [',
    'c.yaml': 'acme:\n  categories: 1\n',
  })
  assert.deepEqual(found.map(fault => /([abc]\.yaml):(\d+)/.exec(fault)?.slice(1)).sort(), [
    ['a.yaml', '6'],
    ['b.yaml', '1'],
    ['c.yaml', '2'],
  ])
})

test('what the operator opened may be named, with http', () => {
  const yaml = `acme:\n${whole}  refresh_url: http://127.0.0.1:4500/t\n  revocation_url: http://idp.internal/r\n`
  assert.equal(faultsOf(yaml).length, 2)
  assert.equal(faultsOf(yaml, '127.0.0.1:4500').length, 1)
  assert.equal(faultsOf(yaml, '127.0.0.1:4501,idp.internal').length, 1)
  assert.deepEqual(faultsOf(yaml, '127.0.0.1:4500,idp.internal'), [])
})

const provider = load(`acme:
${whole}  refresh_url: https://\${connectionConfig.hostname}/token
  allowed_hosts: ['*.acme.example', 'exact.example', '[2001:db8::1]']
`).get('acme')!

const hosts: [string, boolean][] = [
  ['acme.example', true],
  ['a.acme.example', true],
  ['a.b.acme.example', true],
  ['exact.example', true],
  ['[2001:db8::1]', true],
  ['a.exact.example', false],
  ['badacme.example', false],
  ['bad-acme.example', false],
  ['acme.example.evil.example', false],
  ['a.acme.example.', false],
  ['.acme.example', false],
  ['acme.examples', false],
  ['a.acmeXexample', false],
  ['xn--acm-dma.example', false],
  ['evil.example', false],
  ['example', false],
  ['', false],
  ['[2001:db8::2]', false],
]
for (const [host, allowed] of hosts)
  test(`a credential ${allowed ? 'may' : 'must not'} go to "${host}"`, () => {
    assert.equal(hostAllowed(provider, host), allowed)
  })

test('an endpoint outside the list is not an endpoint', () => {
  const at = (hostname: string) => endpoint(provider, provider.refresh_url!, { hostname })
  assert.equal(at('eu.acme.example')?.href, 'https://eu.acme.example/token')
  assert.equal(at('EU.Acme.Example')?.href, 'https://eu.acme.example/token')
  for (const hostname of [
    'evil.example',
    'acme.example.evil.example',
    'acme.example。evil.example',
    '127.1',
    'localhost',
  ])
    assert.throws(
      () => at(hostname),
      error => error instanceof Failure && error.code === 'host_not_allowed' && !error.message.includes(hostname),
    )
  assert.equal(endpoint(provider, provider.refresh_url!, {}), undefined)
})

test('a catalogue of a thousand providers', t => {
  const names = Array.from({ length: 1_000 }, (_, n) => `provider-${n}`)
  const text = names
    .map((name, n) =>
      n % 15 ? `${name}:\n${whole}` : `${name}:\n  alias: provider-${n + 1}\n  display_name: ${name}\n`,
    )
    .join('')
  const began = performance.now()
  const { list } = load(text)
  t.diagnostic(`loaded in ${Math.round(performance.now() - began)} ms`)
  assert.ok(list().length >= 1_002)
})

test('both Salesforce providers say how a query pages', () => {
  const { get } = load()
  for (const name of ['salesforce', 'salesforce-sandbox'])
    assert.deepEqual(get(name)?.proxy?.paginate, {
      type: 'link',
      link_path_in_response_body: 'nextRecordsUrl',
      response_path: 'records',
    })
})
