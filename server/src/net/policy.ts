/**
 * The SSRF policy, pure: where Fairlead may connect. A caller of the proxy, a provider definition, a token answer's
 * `instance_url` and a webhook target all end in a URL that somebody else wrote; without this file each of them could
 * reach the loopback interface, the private network or a cloud's metadata service with our credentials attached.
 *
 * Two questions, because a name says nothing about where it leads: `checkUrl` judges the URL as written, `checkAddress`
 * judges every address its name resolved to. Both answer with a sentence for the operator, or undefined for "go ahead".
 *
 * Default: `https:` to port 443 or to an unprivileged port (1024–65535; providers do use 8443 and the like, while SSH,
 * SMTP and other privileged services do not speak TLS to us), on an address that IANA's special-purpose registries call
 * globally reachable. Every exception is an entry of FAIRLEAD_EGRESS_ALLOW.
 */
import ipaddr from 'ipaddr.js'
import { allowsAddress, allowsHost, type EgressRules, type IpAddress } from './allow.ts'

/** RFC 6761 §6.3: these names are loopback; they are never asked of DNS, which could say otherwise. */
export const loopbackAddresses: readonly string[] = ['127.0.0.1', '::1']

export const isLocalhost = (host: string): boolean => host === 'localhost' || host.endsWith('.localhost')

/** The host without the brackets of an IPv6 literal. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1')

export const portOf = (url: URL): number => Number(url.port || (url.protocol === 'http:' ? 80 : 443))

/**
 * Names with a meaning only inside somebody's network: RFC 6762 (local), RFC 8375 (home.arpa), RFC 7686 (onion),
 * ICANN's 2024 reservation (internal), old resolver habits (localdomain).
 */
const privateSuffixes = ['.local', '.internal', '.localdomain', '.home.arpa', '.onion']

/** Metadata services with a public-looking name. Their addresses are refused anyway; this refuses before asking DNS. */
const metadataHosts = new Set(['metadata.goog', 'metadata.tencentyun.com'])

/**
 * Metadata and host-agent addresses that carry credentials. Some lie in ranges that are private anyway; they are listed
 * because even an allowed *name* must not lead there: only an entry that spells the address does.
 */
const metadataRanges: [IpAddress, number][] = [
  ipaddr.parseCIDR('169.254.0.0/16'), // EC2, ECS .170.2, EKS .170.23, GCE, Azure, and every other link-local service
  ipaddr.parseCIDR('168.63.129.16/32'), // Azure WireServer, on a public address
  ipaddr.parseCIDR('100.100.100.200/32'), // Alibaba Cloud
  ipaddr.parseCIDR('192.0.0.192/32'), // Oracle Cloud
  ipaddr.parseCIDR('fd00:ec2::/32'), // EC2 and EKS over IPv6
  ipaddr.parseCIDR('fd20:ce::/32'), // Google Cloud over IPv6
  ipaddr.parseCIDR('fe80::/10'),
]

/** What an allowed name may lead to besides public addresses. */
const insideRanges = new Set(['loopback', 'private', 'uniqueLocal', 'carrierGradeNat'])

const nat64 = ipaddr.parseCIDR('64:ff9b::/96') as [ipaddr.IPv6, number]
const globalUnicast = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number]

const hint = 'an operator can permit it with FAIRLEAD_EGRESS_ALLOW'

/** Judges a URL as written. Resolves nothing. */
export function checkUrl(rules: EgressRules, url: URL): string | undefined {
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return `${url.protocol} is not http: or https:`
  if (url.username !== '' || url.password !== '') return 'the URL carries user information'
  const host = hostOf(url)
  const port = portOf(url)
  // One name, one spelling: a final dot would slip past every comparison of names, here and in `allowed_hosts`.
  if (host.endsWith('.')) return `${host} ends with a dot`

  const literal = parseAddress(host)
  if (literal) {
    if (allowsAddress(rules, literal, port)) return undefined
    if (!isPublic(literal)) return `${host} is not a public address; ${hint}`
  } else {
    if (allowsHost(rules, host, port)) return undefined
    if (isLocalhost(host)) {
      const allowed = loopbackAddresses.some(address => allowsAddress(rules, ipaddr.parse(address), port))
      return allowed ? undefined : `${host}:${port} is this machine; ${hint}`
    }
    if (!host.includes('.') || metadataHosts.has(host) || privateSuffixes.some(suffix => host.endsWith(suffix))) {
      return `${host} is not a public host name; ${hint}`
    }
  }
  if (url.protocol === 'http:') return `${host} would be asked without TLS; ${hint}`
  if (port !== 443 && port < 1024) return `port ${port} is not 443 or an unprivileged port; ${hint}`
  return undefined
}

/** Judges one address that `host` resolved to (or is). */
export function checkAddress(rules: EgressRules, host: string, port: number, address: string): string | undefined {
  const parsed = parseAddress(address)
  if (!parsed) return `${host} leads to something that is not an IP address`
  if (allowsAddress(rules, parsed, port)) return undefined
  if (allowsHost(rules, host, port) && insideRanges.has(parsed.range()) && !isMetadata(parsed)) return undefined
  return isPublic(parsed) ? undefined : `${host} leads to ${address}, which is not a public address; ${hint}`
}

/** IPv4-mapped IPv6 (RFC 4291 §2.5.5.2) is the IPv4 address: the kernel connects there. */
function parseAddress(text: string): IpAddress | undefined {
  // ipaddr.js also reads "127.1" and "0x7f.1". No URL or resolver yields those; whatever does is not an address. A name it
  // refuses by throwing, with a stack; most of what is asked about is a name.
  if (!text.includes(':') && !(/^[\d.]+$/.test(text) && ipaddr.IPv4.isValidFourPartDecimal(text))) return undefined
  return ipaddr.isValid(text) ? ipaddr.process(text) : undefined
}

const isMetadata = (address: IpAddress): boolean =>
  metadataRanges.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits))

/**
 * Globally reachable. For IPv6 that is 2000::/3 and nothing else (all IANA has given out), which leaves out
 * IPv4-compatible (::/96), RFC 8215's local NAT64, RFC 6145 translation, site-local, unique local and link-local without
 * a list that could be short; 6to4, Teredo and documentation lie inside and are refused by `range()`.
 * A NAT64 address (RFC 6052) is judged by the IPv4 address in it: with DNS64 every IPv4-only provider looks like that.
 */
function isPublic(address: IpAddress): boolean {
  if (isMetadata(address)) return false
  if (address instanceof ipaddr.IPv4) return address.range() === 'unicast'
  if (address.zoneId !== undefined) return false
  if (address.match(nat64)) return isPublic(new ipaddr.IPv4(address.toByteArray().slice(12)))
  // ISATAP (RFC 5214 §6.1): an interface identifier 0000:5efe or 0200:5efe tunnels to the IPv4 address behind it.
  const isatap = address.parts[5] === 0x5efe && (address.parts[4] === 0 || address.parts[4] === 0x0200)
  return address.range() === 'unicast' && address.match(globalUnicast) && !isatap
}
