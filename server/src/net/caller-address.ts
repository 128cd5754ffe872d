/**
 * Whose address a request came from. `X-Forwarded-For` is what anybody may write, so it is read from its end and only as far as proxies of
 * FAIRLEAD_TRUSTED_PROXIES wrote it: the first address that is none of theirs is the caller's. Nothing is allowed or sent anywhere because
 * of it (security checklist SS8): it is counted, and written into the audit trail.
 */
import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'

export type AddressOf = (req: Pick<IncomingMessage, 'headers' | 'socket'>) => string

/** CIDRs or single addresses, separated by commas or spaces. `networks` are CIDRs. */
export function parseTrustedProxies(text: string): { networks: string[]; faults: string[] } {
  const networks: string[] = []
  const faults: string[] = []
  for (const entry of text.split(/[\s,]+/).filter(Boolean)) {
    const [address = '', prefix, ...more] = entry.split('/')
    const family = isIP(address)
    const bits =
      prefix === undefined ? (family === 6 ? 128 : 32) : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN
    if (family === 0 || more.length > 0 || !(bits >= 0 && bits <= (family === 6 ? 128 : 32)))
      faults.push(`${entry} is neither an address nor a CIDR, e.g. 10.0.0.0/8.`)
    else networks.push(`${address}/${bits}`)
  }
  return { networks, faults }
}

/** IPv4 within IPv6 (::ffff:10.0.0.1), as a listener on both kinds sees it, is IPv4. */
const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '')

export function createAddressOf(networks: readonly string[]): AddressOf {
  const trusted = new BlockList()
  for (const network of networks) {
    const [address = '', bits] = network.split('/')
    trusted.addSubnet(address, Number(bits), isIP(address) === 6 ? 'ipv6' : 'ipv4')
  }
  const isTrusted = (address: string): boolean => {
    const family = isIP(address)
    return family !== 0 && trusted.check(address, family === 6 ? 'ipv6' : 'ipv4')
  }
  return ({ headers, socket }) => {
    let address = plain(socket.remoteAddress ?? '')
    if (!isTrusted(address)) return address
    const hops = String(headers['x-forwarded-for'] ?? '').split(',')
    while (isTrusted(address)) {
      const before = plain(hops.pop()?.trim() ?? '')
      // Nothing, or nothing that is an address: as far as it is known.
      if (isIP(before) === 0) break
      address = before
    }
    return address
  }
}

export const isLoopback = (address: string): boolean => address === '::1' || address.startsWith('127.')

/** What is counted together: an IPv6 customer has a whole /64 to call from (RFC 6177). */
export function networkOf(address: string): string {
  if (isIP(address) !== 6) return address
  const [head = '', tail] = address.split('%')[0]!.split('::')
  const before = head.split(':').filter(Boolean)
  const after = tail === undefined ? [] : tail.split(':').filter(Boolean)
  const middle = Array(Math.max(0, 8 - before.length - after.length)).fill('0')
  const groups = tail === undefined ? before : [...before, ...middle, ...after]
  return `${groups
    .slice(0, 4)
    .map(group => group.toLowerCase().replace(/^0+(?=.)/, ''))
    .join(':')}::/64`
}
