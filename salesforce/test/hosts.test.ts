/** What people paste, and what comes of it. Nothing but a host of Salesforce may ever come out. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import fc from 'fast-check'
import { loginOf, readHost, type SalesforceHost, titleOf } from '../hosts.ts'

/** Pasted → host, kind, and the words a person sees. */
const read: [pasted: string, host: string, kind: SalesforceHost['kind'], title: string][] = [
  // what the documentation asks for
  ['acme.my.salesforce.com', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['https://acme.my.salesforce.com', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['https://acme.my.salesforce.com/', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['  https://acme.my.salesforce.com\n', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['HTTPS://ACME.MY.SALESFORCE.COM', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['//acme.my.salesforce.com/home', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['acme--uat.sandbox.my.salesforce.com', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  [
    'https://acme--uat.sandbox.my.salesforce.com/?un=ada',
    'acme--uat.sandbox.my.salesforce.com',
    'sandbox',
    'Sandbox uat of acme',
  ],
  ['Acme--UAT.Sandbox.my.salesforce.com', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  [
    'acme-dev-ed.develop.my.salesforce.com',
    'acme-dev-ed.develop.my.salesforce.com',
    'developer',
    'Developer Edition org acme-dev-ed',
  ],
  ['acme-dev-ed.my.salesforce.com', 'acme-dev-ed.my.salesforce.com', 'developer', 'Developer Edition org acme-dev-ed'],
  [
    'orgfarm-0a1b2c.develop.my.salesforce.com',
    'orgfarm-0a1b2c.develop.my.salesforce.com',
    'developer',
    'Developer Edition org orgfarm-0a1b2c',
  ],
  [
    'power-fun-1234-dev-ed.scratch.my.salesforce.com',
    'power-fun-1234-dev-ed.scratch.my.salesforce.com',
    'scratch',
    'Scratch org power-fun-1234-dev-ed',
  ],
  [
    'wise-koala-dev-ed.trailblaze.my.salesforce.com',
    'wise-koala-dev-ed.trailblaze.my.salesforce.com',
    'playground',
    'Trailhead Playground wise-koala-dev-ed',
  ],
  ['acme.demo.my.salesforce.com', 'acme.demo.my.salesforce.com', 'other', 'Org acme'],
  ['acme.pc-rnd.my.salesforce.com', 'acme.pc-rnd.my.salesforce.com', 'other', 'Org acme'],
  ['acme.free.my.salesforce.com', 'acme.free.my.salesforce.com', 'other', 'Org acme'],
  ['acme.brandnew.my.salesforce.com', 'acme.brandnew.my.salesforce.com', 'other', 'Org acme'],
  // generic
  ['login.salesforce.com', 'login.salesforce.com', 'production', 'The log-in of every production org'],
  [
    'https://login.salesforce.com/?locale=de',
    'login.salesforce.com',
    'production',
    'The log-in of every production org',
  ],
  ['test.salesforce.com', 'test.salesforce.com', 'sandbox', 'The log-in of every sandbox and scratch org'],
  [
    'https://test.salesforce.com/services/oauth2/authorize',
    'test.salesforce.com',
    'sandbox',
    'The log-in of every sandbox and scratch org',
  ],
  // Lightning
  [
    'https://acme.lightning.force.com/lightning/page/home',
    'acme.my.salesforce.com',
    'production',
    'Production org acme',
  ],
  ['acme.lightning.force.com', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  [
    'https://acme--uat.sandbox.lightning.force.com/lightning/o/Account/list?filterName=Recent',
    'acme--uat.sandbox.my.salesforce.com',
    'sandbox',
    'Sandbox uat of acme',
  ],
  ['acme--uat.lightning.force.com', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  [
    'https://acme-dev-ed.develop.lightning.force.com/lightning/setup/SetupOneHome/home',
    'acme-dev-ed.develop.my.salesforce.com',
    'developer',
    'Developer Edition org acme-dev-ed',
  ],
  [
    'https://power-fun-1234-dev-ed.scratch.lightning.force.com/',
    'power-fun-1234-dev-ed.scratch.my.salesforce.com',
    'scratch',
    'Scratch org power-fun-1234-dev-ed',
  ],
  [
    'https://wise-koala-dev-ed.trailblaze.lightning.force.com#/x',
    'wise-koala-dev-ed.trailblaze.my.salesforce.com',
    'playground',
    'Trailhead Playground wise-koala-dev-ed',
  ],
  // Setup
  [
    'https://acme.my.salesforce-setup.com/lightning/setup/NavigationMenus/home',
    'acme.my.salesforce.com',
    'production',
    'Production org acme',
  ],
  [
    'https://acme--uat.sandbox.my.salesforce-setup.com/lightning/setup/ManageExternalClientApplication/home',
    'acme--uat.sandbox.my.salesforce.com',
    'sandbox',
    'Sandbox uat of acme',
  ],
  [
    'acme-dev-ed.develop.my.salesforce-setup.com',
    'acme-dev-ed.develop.my.salesforce.com',
    'developer',
    'Developer Edition org acme-dev-ed',
  ],
  // Visualforce and files
  ['https://acme--c.vf.force.com/apex/Page', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  [
    'https://acme--uat--c.sandbox.vf.force.com/apex/Page',
    'acme--uat.sandbox.my.salesforce.com',
    'sandbox',
    'Sandbox uat of acme',
  ],
  [
    'https://acme.file.force.com/sfc/servlet.shepherd/version/download/068',
    'acme.my.salesforce.com',
    'production',
    'Production org acme',
  ],
  ['acme--uat.sandbox.file.force.com', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  // what stands before the first dot
  ['acme', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['ACME', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  ['acme--uat', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  ['acme--full2', 'acme--full2.sandbox.my.salesforce.com', 'sandbox', 'Sandbox full2 of acme'],
  ['acme-corp', 'acme-corp.my.salesforce.com', 'production', 'Production org acme-corp'],
  ['acme-dev-ed', 'acme-dev-ed.develop.my.salesforce.com', 'developer', 'Developer Edition org acme-dev-ed'],
  ['acme--uat.sandbox', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  ['acme-dev-ed.develop', 'acme-dev-ed.develop.my.salesforce.com', 'developer', 'Developer Edition org acme-dev-ed'],
  // before enhanced domains
  ['acme--uat.my.salesforce.com', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  ['acme--uat.cs12.my.salesforce.com', 'acme--uat.sandbox.my.salesforce.com', 'sandbox', 'Sandbox uat of acme'],
  ['acme.na139.my.salesforce.com', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  // Microsoft Defender for Cloud Apps
  ['https://acme.my.salesforce.com.mcas.ms/', 'acme.my.salesforce.com', 'production', 'Production org acme'],
  [
    'acme--uat.sandbox.lightning.force.com.mcas.ms',
    'acme--uat.sandbox.my.salesforce.com',
    'sandbox',
    'Sandbox uat of acme',
  ],
  ['login.salesforce.com.mcas.ms', 'login.salesforce.com', 'production', 'The log-in of every production org'],
  // other clouds
  ['acme.my.salesforce.mil', 'acme.my.salesforce.mil', 'production', 'Production org acme (government)'],
  [
    'https://acme--uat.sandbox.my.salesforce.mil/x',
    'acme--uat.sandbox.my.salesforce.mil',
    'sandbox',
    'Sandbox uat of acme (government)',
  ],
  ['acme.lightning.crmforce.mil', 'acme.my.salesforce.mil', 'production', 'Production org acme (government)'],
  [
    'acme--uat.sandbox.lightning.crmforce.mil',
    'acme--uat.sandbox.my.salesforce.mil',
    'sandbox',
    'Sandbox uat of acme (government)',
  ],
  ['acme.my.sfcrmproducts.cn', 'acme.my.sfcrmproducts.cn', 'production', 'Production org acme (China)'],
  [
    'acme--uat.sandbox.my.sfcrmproducts.cn',
    'acme--uat.sandbox.my.sfcrmproducts.cn',
    'sandbox',
    'Sandbox uat of acme (China)',
  ],
  [
    'https://acme.lightning.sfcrmapps.cn/lightning/page/home',
    'acme.my.sfcrmproducts.cn',
    'production',
    'Production org acme (China)',
  ],
  ['acme.setup.sfcrmproducts.cn', 'acme.my.sfcrmproducts.cn', 'production', 'Production org acme (China)'],
  ['login.sfcrmproducts.cn', 'login.sfcrmproducts.cn', 'production', 'The log-in of every production org'],
  ['test.sfcrmproducts.cn', 'test.sfcrmproducts.cn', 'sandbox', 'The log-in of every sandbox and scratch org'],
  // sites
  ['acme.my.site.com', 'acme.my.site.com', 'production', 'Site of the production org acme'],
  ['https://acme.my.site.com/partners/s/login', 'acme.my.site.com', 'production', 'Site of the production org acme'],
  [
    'https://acme--uat.sandbox.my.site.com/help/s/',
    'acme--uat.sandbox.my.site.com',
    'sandbox',
    'Site of the sandbox uat of acme',
  ],
  [
    'acme-dev-ed.develop.my.site.com',
    'acme-dev-ed.develop.my.site.com',
    'developer',
    'Site of the developer edition org acme-dev-ed',
  ],
]

const refused: [pasted: string, because: RegExp][] = [
  ['', /Give the address/],
  ['   ', /Give the address/],
  // look-alikes
  ['acme.my.salesforce.com.evil.tld', /not an address of Salesforce/],
  ['https://evil.tld/acme.my.salesforce.com', /not an address of Salesforce/],
  ['https://evil.tld?x=acme.my.salesforce.com', /not an address of Salesforce/],
  ['https://evil.tld#.my.salesforce.com', /not an address of Salesforce/],
  ['acmemy.salesforce.com', /not the address of an org/],
  ['acme.mysalesforce.com', /not an address of Salesforce/],
  ['acme.my.salesforce.co', /not an address of Salesforce/],
  ['acme.my.salesforce.org', /not an address of Salesforce/],
  ['acme.my.saIesforce.com', /not an address of Salesforce/],
  ['acme.my.salesfоrce.com', /not a host name/],
  ['acme.my.xn--salesfrce-qcg.com', /not a host name/],
  ['xn--acme.my.salesforce.com', /not a host name/],
  ['acme。my。salesforce。com', /not a host name/],
  ['acme.my.salesforce.com\\.evil.tld', /not an address/],
  ['acme.my.salesforce.com%2eevil.tld', /not an address/],
  ['https://acme.my.salesforce.com@evil.tld', /user name/],
  ['https://user:pass@acme.my.salesforce.com', /user name/],
  ['evil-salesforce.com', /not an address of Salesforce/],
  ['acme.my-salesforce.com', /operator/],
  ['acme.my-lightning.com', /operator/],
  ['acme.my.salesforce.com.', /not a host name/],
  ['acme..my.salesforce.com', /not a host name/],
  ['.my.salesforce.com', /not a host name/],
  ['my.salesforce.com', /not the address of an org/],
  ['-acme.my.salesforce.com', /not a host name/],
  ['a_b.my.salesforce.com', /not a host name/],
  ['a.b.c.my.salesforce.com', /not the address of an org/],
  ['acme--.my.salesforce.com', /not a host name/],
  ['--uat.sandbox.my.salesforce.com', /not a host name/],
  // ways to somewhere else
  ['http://acme.my.salesforce.com', /https/],
  ['ftp://acme.my.salesforce.com', /https/],
  ['javascript://acme.my.salesforce.com', /https/],
  ['acme.my.salesforce.com:443', /port/],
  ['https://acme.my.salesforce.com:8443/', /port/],
  ['127.0.0.1', /IP address/],
  ['https://169.254.169.254/latest', /IP address/],
  ['[::1]', /IP address/],
  ['2130706433', /IP address/],
  ['0x7f000001', /IP address/],
  ['localhost', /not the name of an org/],
  ['acme.my.salesforce.localhost', /not an address of Salesforce/],
  // what people mean well
  ['ada@acme.com', /user name/],
  ['ada@acme.com.uat', /user name/],
  ['login', /not the name of an org/],
  ['test', /not the name of an org/],
  ['welcome.salesforce.com', /only finds orgs/],
  ['www.salesforce.com', /not the address of an org/],
  ['https://help.salesforce.com/s/articleView?id=x', /not the address of an org/],
  ['na139.salesforce.com', /instance/],
  ['cs12.salesforce.com', /instance/],
  ['na139.lightning.force.com', /instance/],
  ['usa662.my.salesforce.com', /instance/],
  ['acme.force.com', /address of a site/],
  ['acme.secure.force.com', /address of a site/],
  ['acme corp', /not an address/],
  ['acme.com', /not an address of Salesforce/],
  ['<script>', /not an address/],
  [`${'a'.repeat(64)}.my.salesforce.com`, /not a host name/],
  ['a'.repeat(3000), /too long/],
]

test('what people paste', () => {
  assert.ok(read.length + refused.length >= 80, String(read.length + refused.length))
  for (const [pasted, host, kind, title] of read) {
    const answer = readHost(pasted)
    assert.ok(answer.ok, `${pasted}: ${JSON.stringify(answer)}`)
    assert.deepEqual([answer.host.host, answer.host.kind, titleOf(answer.host)], [host, kind, title], pasted)
  }
})

test('what is refused, and why', () => {
  for (const [pasted, because] of refused) {
    const answer = readHost(pasted)
    assert.ok(!answer.ok, `${pasted} → ${JSON.stringify(answer)}`)
    assert.match(answer.fault, because, pasted)
  }
})

test('the path of a site is kept, of its own pages not', () => {
  const prefix = (pasted: string) => {
    const answer = readHost(pasted)
    return answer.ok ? answer.host.prefix : assert.fail(answer.fault)
  }
  assert.equal(prefix('https://acme.my.site.com/partners/s/login'), 'partners')
  assert.equal(prefix('https://acme.my.site.com/s/login'), undefined)
  assert.equal(prefix('https://acme.my.site.com/services/oauth2/token'), undefined)
  assert.equal(prefix('https://acme.my.site.com/../x'), undefined)
  assert.equal(prefix('https://acme.my.salesforce.com/partners'), undefined)
})

test('a Developer Edition is no sandbox', () => {
  assert.deepEqual((['production', 'developer', 'playground', 'other', 'sandbox', 'scratch'] as const).map(loginOf), [
    'production',
    'production',
    'production',
    'production',
    'sandbox',
    'sandbox',
  ])
})

const allowed =
  /^((login|test)\.(salesforce\.com|sfcrmproducts\.cn)|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)?\.my\.(salesforce\.com|salesforce\.mil|sfcrmproducts\.cn|site\.com))$/

test('whatever is pasted, nothing but a host of Salesforce comes out', () => {
  const pieces = fc.constantFrom(
    ...[
      'acme',
      'acme--uat',
      '.',
      '..',
      'my',
      'salesforce',
      'com',
      'sandbox',
      'lightning',
      'force',
      'site',
      'mil',
      'cn',
      'sfcrmproducts',
    ],
    ...[
      '.my.salesforce.com',
      '.lightning.force.com',
      '.my.site.com',
      '.mcas.ms',
      '.my.salesforce-setup.com',
      '.vf.force.com',
      '--c',
    ],
    ...[
      'https://',
      'http://',
      '//',
      '/',
      '\\',
      '@',
      ':',
      ':443',
      '?',
      '#',
      '%2e',
      '%00',
      '\u0000',
      ' ',
      '\t',
      '。',
      'evil.tld',
      'xn--',
      '-',
      '[::1]',
    ],
  )
  const pasted = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc.webUrl(),
    fc.domain(),
    fc.array(pieces, { minLength: 1, maxLength: 9 }).map(parts => parts.join('')),
    fc
      .tuple(fc.constantFrom(...read.map(([one]) => one)), fc.array(pieces, { maxLength: 3 }))
      .map(([one, more]) => one + more.join('')),
    fc
      .tuple(fc.array(pieces, { maxLength: 3 }), fc.constantFrom(...read.map(([one]) => one)))
      .map(([more, one]) => more.join('') + one),
  )
  fc.assert(
    fc.property(pasted, text => {
      const answer = readHost(text)
      if (!answer.ok) return assert.match(answer.fault, /\S.*\.$/s)
      assert.match(answer.host.host, allowed)
      // What a URL parser makes of it is the same host: nobody is told one thing and sent to another.
      assert.equal(new URL(`https://${answer.host.host}/`).host, answer.host.host)
      // Reading what came out changes nothing.
      const again = readHost(answer.host.host)
      assert.ok(again.ok && again.host.host === answer.host.host && again.host.kind === answer.host.kind)
    }),
    { numRuns: 20_000 },
  )
})

test('the names of the simulator are taken where that is said', () => {
  const pasted = 'http://acme--uat.sandbox.lightning.force.localhost:4500/x'
  const answer = readHost(pasted, { localhost: true })
  assert.ok(answer.ok && answer.host.host === 'acme--uat.sandbox.my.salesforce.localhost')
  assert.equal(readHost(pasted).ok, false)
})

test('it runs in a browser: it imports nothing', async () => {
  assert.doesNotMatch(
    await readFile(new URL('../hosts.ts', import.meta.url), 'utf8'),
    /^import |\bprocess\b|\bBuffer\b/m,
  )
})
