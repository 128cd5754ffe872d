/**
 * The policy as a pure function, against an independent statement of what is forbidden: the special-purpose ranges are
 * written out here from IANA's registries and matched by node:net's BlockList, not by the library under test.
 */
import assert from 'node:assert/strict'
import { BlockList } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { checkAddress, checkUrl } from '../../src/net/policy.ts'

const special: [network: string, bits: number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  ['168.63.129.16', 32],
]
const forbidden = new BlockList()
for (const [network, bits] of special) forbidden.addSubnet(network, bits, 'ipv4')

const dotted = (n: number): string => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255].join('.')
const hex = (n: number): string => `${(n >>> 16).toString(16)}:${(n & 0xffff).toString(16)}`

/** Every way to write an IPv4 address as a URL's host. */
const spellings = (n: number): string[] => {
  const [a = 0, b = 0, c = 0, d = 0] = dotted(n).split('.').map(Number)
  return [
    dotted(n),
    `${dotted(n)}.`,
    String(n),
    `0x${n.toString(16)}`,
    `0${n.toString(8)}`,
    `0x${a.toString(16)}.${b}.0${c.toString(8)}.${d}`,
    `${a}.${n & 0xffffff}`,
    `${a}.${b}.${n & 0xffff}`,
    dotted(n).replaceAll('.', '。'),
    dotted(n).replaceAll(/\d/g, digit => String.fromCodePoint(0xff10 + Number(digit))),
    `[::ffff:${dotted(n)}]`,
    `[::ffff:${hex(n)}]`,
    `[64:ff9b::${dotted(n)}]`,
  ]
}

/** IPv6 forms that carry an IPv4 address and are never public, whatever the address. */
const tunnels = (n: number): string[] => [
  `[::${hex(n)}]`,
  `[::ffff:0:${hex(n)}]`,
  `[64:ff9b:1::${hex(n)}]`,
  `[2002:${hex(n)}::1]`,
  `[2001:0:${hex(n)}::1]`,
  `[2600:1::5efe:${hex(n)}]`,
  `[2600:1::200:5efe:${hex(n)}]`,
]

const inSpecial = fc.constantFrom(...special).chain(([network, bits]) =>
  fc.nat().map(host => {
    const base = network.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
    return (base + (bits === 32 ? 0 : host % 2 ** (32 - bits))) >>> 0
  }),
)
const anyIpv4 = fc.oneof(fc.nat(0xffffffff), inSpecial)

test('no IPv4 address outside the public ranges passes, in any spelling', () => {
  fc.assert(
    fc.property(anyIpv4, n => {
      const bad = forbidden.check(dotted(n), 'ipv4')
      for (const spelling of spellings(n)) {
        const refused = checkUrl([], new URL(`https://${spelling}/`)) !== undefined
        assert.equal(refused, bad, `${spelling} should be ${bad ? 'refused' : 'let through'}`)
      }
      assert.equal(checkAddress([], 'api.example', 443, dotted(n)) !== undefined, bad)
      assert.equal(checkAddress([], 'api.example', 443, `::ffff:${dotted(n)}`) !== undefined, bad)
      for (const tunnel of tunnels(n)) {
        assert.ok(checkUrl([], new URL(`https://${tunnel}/`)), tunnel)
        assert.ok(checkAddress([], 'api.example', 443, tunnel.slice(1, -1)), tunnel)
      }
    }),
    { numRuns: 2000 },
  )
})

test('no IPv6 address outside 2000::/3 passes, but for NAT64 of a public one', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 }), parts => {
      const address = parts.map(part => part.toString(16)).join(':')
      if ((parts[0] ?? 0) >> 13 !== 1) assert.ok(checkAddress([], 'api.example', 443, address), address)
    }),
  )
})

const addresses: [address: string, refused: boolean][] = [
  ['2606:4700::1111', false],
  ['2a00:1450:4001:80e::200e', false],
  ['64:ff9b::8.8.8.8', false],
  ['::ffff:8.8.8.8', false],
  ['::', true],
  ['::1', true],
  ['fe80::1', true],
  ['fe80::1%eth0', true],
  ['2606:4700::1111%eth0', true],
  ['fec0::1', true],
  ['fc00::1', true],
  ['fd00:ec2::254', true],
  ['fd20:ce::254', true],
  ['ff02::1', true],
  ['100::1', true],
  ['2001:db8::1', true],
  ['3fff::1', true],
  ['5f00::1', true],
  ['2001::1', true],
  ['2002:808:808::1', true],
  ['64:ff9b::10.0.0.1', true],
  ['64:ff9b::168.63.129.16', true],
  ['127.1', true],
  ['0x7f.1', true],
  ['localhost', true],
  ['', true],
]

for (const [address, refused] of addresses) {
  test(`a name that leads to ${JSON.stringify(address)} is ${refused ? 'refused' : 'let through'}`, () => {
    assert.equal(checkAddress([], 'api.example', 443, address) !== undefined, refused)
  })
}

const urls: [url: string, allow: string, refused: boolean][] = [
  ['https://login.salesforce.com/services/oauth2/token', '', false],
  ['https://acme.my.salesforce.com:8443/', '', false],
  ['https://xn--mnchen-3ya.example/', '', false],
  ['https://8.8.8.8/', '', false],
  ['https://[2606:4700::1111]/', '', false],
  // Scheme, user information, ports.
  ['http://login.salesforce.com/', '', true],
  ['http://8.8.8.8/', '', true],
  ['ftp://login.salesforce.com/', '', true],
  ['file:///etc/passwd', '', true],
  ['ws://login.salesforce.com/', '', true],
  ['wss://login.salesforce.com/', '', true],
  ['data:text/plain,x', '', true],
  ['javascript:1', '', true],
  ['https://user@login.salesforce.com/', '', true],
  ['https://:secret@login.salesforce.com/', '', true],
  ['https://login.salesforce.com:22/', '', true],
  ['https://login.salesforce.com:25/', '', true],
  ['https://login.salesforce.com:1023/', '', true],
  ['https://login.salesforce.com:0/', '', true],
  ['https://login.salesforce.com:1024/', '', false],
  // Names of somebody's own network.
  ['https://vault/', '', true],
  ['https://vault.local/', '', true],
  ['https://vault.default.svc.cluster.local/', '', true],
  ['https://vault.corp.internal/', '', true],
  ['https://nas.home.arpa/', '', true],
  ['https://localhost.localdomain/', '', true],
  ['https://abcdef.onion/', '', true],
  ['https://metadata.google.internal/', '', true],
  ['https://metadata.goog/', '', true],
  ['https://localhost/', '', true],
  ['https://a.localhost/', '', true],
  ['https://login.salesforce.com./', '', true],
  ['https://localhost./', 'localhost', true],
  // Allowed by name: every port and http:, or one port.
  ['http://vault/', 'vault', false],
  ['https://vault:22/', 'vault', false],
  ['http://vault:8200/', 'vault:8200', false],
  ['https://vault:8200/', 'vault:8200', false],
  ['http://vault:8201/', 'vault:8200', true],
  ['http://a.sim.internal:3900/', '*.sim.internal', false],
  ['http://sim.internal:3900/', '*.sim.internal', true],
  ['ftp://vault/', 'vault', true],
  ['http://user@vault/', 'vault', true],
  // Allowed by address.
  ['http://127.0.0.1:3900/', '127.0.0.1', false],
  ['http://2130706433:3900/', '127.0.0.1', false],
  ['http://[::ffff:127.0.0.1]:3900/', '127.0.0.1', false],
  ['http://127.0.0.2:3900/', '127.0.0.1', true],
  ['http://127.0.0.1:3901/', '127.0.0.1:3900', true],
  ['http://10.9.8.7/', '10.0.0.0/8', false],
  ['http://[fd00::7]/', 'fd00::/8', false],
  ['https://169.254.169.254/', '169.254.169.254', false],
  // localhost counts as 127.0.0.1 and ::1; the reverse does not hold.
  ['http://localhost:3900/', '127.0.0.0/8', false],
  ['http://acme.localhost:3900/', '127.0.0.1:3900', false],
  ['http://acme.localhost:3901/', '127.0.0.1:3900', true],
  ['http://acme.localhost:3900/', '::1', false],
  ['http://acme.localhost:3900/', '*.localhost', false],
  ['http://localhost:3900/', '*.localhost', true],
  ['http://127.0.0.1:3900/', 'localhost', true],
  // A network entry permits addresses, not plain names of a private zone, and not http: to names.
  ['https://vault/', '10.0.0.0/8', true],
  ['http://sim.example/', '10.0.0.0/8', true],
]

for (const [url, allow, refused] of urls) {
  test(`${url} with "${allow}" is ${refused ? 'refused' : 'let through'}`, () => {
    const { rules, faults } = parseEgressAllow(allow)
    assert.deepEqual(faults, [])
    const refusal = checkUrl(rules, new URL(url))
    assert.equal(refusal !== undefined, refused, String(refusal))
  })
}

const led: [allow: string, address: string, refused: boolean][] = [
  ['sim.example', '127.0.0.1', false],
  ['sim.example', '10.0.0.1', false],
  ['sim.example', 'fd12::1', false],
  ['sim.example', '8.8.8.8', false],
  ['sim.example:444', '10.0.0.1', true],
  ['other.example', '10.0.0.1', true],
  ['10.0.0.0/8', '10.0.0.1', false],
  ['10.0.0.0/8', '::ffff:10.0.0.1', false],
  ['10.0.0.0/8', '64:ff9b::10.0.0.1', true],
  // An allowed name must not lead to credentials of the machine: that takes an entry for the address.
  ['sim.example', '169.254.169.254', true],
  ['sim.example', '100.100.100.200', true],
  ['sim.example', '168.63.129.16', true],
  ['sim.example', 'fd00:ec2::254', true],
  ['sim.example', '0.0.0.0', true],
  ['sim.example', '224.0.0.1', true],
  ['sim.example,169.254.169.254', '169.254.169.254', false],
]

for (const [allow, address, refused] of led) {
  test(`with "${allow}", sim.example leading to ${address} is ${refused ? 'refused' : 'let through'}`, () => {
    assert.equal(checkAddress(parseEgressAllow(allow).rules, 'sim.example', 443, address) !== undefined, refused)
  })
}
