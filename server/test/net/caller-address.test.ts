import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAddressOf, networkOf, parseTrustedProxies } from '../../src/net/caller-address.ts'

const addressOf = createAddressOf(parseTrustedProxies('10.0.0.0/8, 192.0.2.1 2001:db8::/32').networks)
const from = (socket: string, forwarded?: string) =>
  addressOf({
    socket: { remoteAddress: socket },
    headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
  } as never)

const cases: [what: string, socket: string, forwarded: string | undefined, address: string][] = [
  ['no proxy', '198.51.100.1', undefined, '198.51.100.1'],
  ['a stranger who writes the header', '198.51.100.1', '203.0.113.9', '198.51.100.1'],
  ['a proxy of ours', '10.1.2.3', '203.0.113.9', '203.0.113.9'],
  ['as IPv4 within IPv6', '::ffff:10.1.2.3', '::ffff:203.0.113.9', '203.0.113.9'],
  ['two proxies of ours', '10.1.2.3', '203.0.113.9, 192.0.2.1', '203.0.113.9'],
  ['a client that wrote an address of its own before', '10.1.2.3', '10.0.0.1, 203.0.113.9', '203.0.113.9'],
  ['a client that wrote addresses of ours alone', '10.1.2.3', '10.0.0.1, 10.0.0.2', '10.0.0.1'],
  ['a header that is no address', '10.1.2.3', 'unknown', '10.1.2.3'],
  ['nothing in it', '10.1.2.3', '', '10.1.2.3'],
  ['over IPv6', '2001:db8::1', '2001:4860::8888', '2001:4860::8888'],
]
for (const [what, socket, forwarded, address] of cases) test(what, () => assert.equal(from(socket, forwarded), address))

test('what is no address and no CIDR is named', () => {
  for (const entry of ['10.0.0.0/33', 'proxy.acme.com', '10.0.0.0/8/8', '::1/129', '10.0.0/8', '10.0.0.0/'])
    assert.equal(parseTrustedProxies(entry).faults.length, 1, entry)
})

test('an IPv6 network is one caller', () => {
  for (const address of ['2001:db8:0:1::7', '2001:0db8:0000:0001:1:2:3:4', '2001:DB8:0:1::'])
    assert.equal(networkOf(address), '2001:db8:0:1::/64', address)
  assert.equal(networkOf('::1'), '0:0:0:0::/64')
  assert.equal(networkOf('198.51.100.1'), '198.51.100.1')
})
