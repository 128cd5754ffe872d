/** The grammar of FAIRLEAD_EGRESS_ALLOW: what each entry matches, and that a malformed one is named, not ignored. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import ipaddr from 'ipaddr.js'
import { allowsAddress, allowsHost, parseEgressAllow } from '../../src/net/allow.ts'

const rules = (text: string) => {
  const parsed = parseEgressAllow(text)
  assert.deepEqual(parsed.faults, [])
  return parsed.rules
}

const hosts: [entry: string, host: string, port: number, allowed: boolean][] = [
  ['sim', 'sim', 80, true],
  ['Sim.Example', 'sim.example', 8443, true],
  ['münchen.example', 'xn--mnchen-3ya.example', 443, true],
  ['my_service', 'my_service', 443, true],
  ['sim.example', 'a.sim.example', 443, false],
  ['sim.example', 'notsim.example', 443, false],
  ['sim.example:8080', 'sim.example', 8080, true],
  ['sim.example:8080', 'sim.example', 8081, false],
  ['*.sim.example', 'a.sim.example', 443, true],
  ['*.sim.example', 'a.b.sim.example', 443, true],
  ['*.sim.example', 'sim.example', 443, false],
  ['*.sim.example', 'notsim.example', 443, false],
  ['*.localhost:3900', 'acme--uat.sandbox.my.salesforce.localhost', 3900, true],
  ['*.localhost:3900', 'acme.localhost', 3901, false],
  [' a.example , b.example,', 'b.example', 443, true],
  ['127.0.0.1', 'localhost', 443, false],
]

const addresses: [entry: string, address: string, port: number, allowed: boolean][] = [
  ['127.0.0.1', '127.0.0.1', 1, true],
  ['127.0.0.1', '127.0.0.2', 1, false],
  ['127.0.0.1:3900', '127.0.0.1', 3900, true],
  ['127.0.0.1:3900', '127.0.0.1', 3901, false],
  ['10.0.0.0/8', '10.255.0.1', 22, true],
  ['10.1.2.3/8', '10.255.0.1', 22, true],
  ['10.0.0.0/8:443', '10.0.0.1', 443, true],
  ['10.0.0.0/8:443', '10.0.0.1', 80, false],
  ['10.0.0.0/8', '11.0.0.1', 22, false],
  ['::1', '::1', 5, true],
  ['[::1]', '::1', 5, true],
  ['[::1]:5', '::1', 5, true],
  ['[::1]:5', '::1', 6, false],
  ['fd00::/8', 'fd12::1', 6, true],
  ['[fd00::/8]:6', 'fd12::1', 6, true],
  ['[fd00::]/8:6', 'fd12::1', 7, false],
  ['::/0', '127.0.0.1', 1, false],
  ['sim.example', '127.0.0.1', 1, false],
]

for (const [entry, host, port, allowed] of hosts) {
  test(`"${entry}" ${allowed ? 'names' : 'does not name'} ${host}:${port}`, () => {
    assert.equal(allowsHost(rules(entry), host, port), allowed)
  })
}

for (const [entry, address, port, allowed] of addresses) {
  test(`"${entry}" ${allowed ? 'covers' : 'does not cover'} ${address} port ${port}`, () => {
    assert.equal(allowsAddress(rules(entry), ipaddr.parse(address), port), allowed)
  })
}

test('nothing set: no rules and no faults', () => {
  assert.deepEqual(parseEgressAllow(''), { rules: [], faults: [] })
  assert.deepEqual(parseEgressAllow(' , '), { rules: [], faults: [] })
})

const malformed = [
  '*',
  '*.',
  '**.example',
  'a.*.example',
  'http://sim',
  'sim/path',
  'sim:0',
  'sim:65536',
  'sim:',
  'sim:http',
  'a b',
  'user@sim',
  'sim.',
  '.sim',
  'a..b',
  '10.0.0.0/33',
  '10.0.0.0/',
  '10.0.0.0/8/8',
  '10.0.0/8',
  '300.0.0.1',
  '0x7f000001',
  '2130706433',
  '127.1',
  '[sim]:80',
  '[127.0.0.1]:80',
  'fd00::/129',
  'fd00::zz',
  'fe80::1%eth0',
  '::ffff:10.0.0.1',
  '-a.example',
  '[::1',
  '::1]:80',
]

for (const entry of malformed) {
  test(`"${entry}" is a fault that names it, and no rule`, () => {
    const { rules, faults } = parseEgressAllow(`ok.example,${entry},10.0.0.0/8`)
    assert.equal(rules.length, 2)
    assert.equal(faults.length, 1)
    assert.match(faults[0] ?? '', /^".*" .*\.$/)
    assert.ok(faults[0]?.startsWith(`"${entry}" `))
  })
}
