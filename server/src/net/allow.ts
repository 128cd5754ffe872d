/**
 * FAIRLEAD_EGRESS_ALLOW: the operator's exceptions to the egress policy. This file owns the grammar and the two questions
 * the policy asks of it (does an entry name this host, does one cover this address) and knows nothing of what is
 * otherwise forbidden. Without entries there are no exceptions; there is deliberately no entry that means "everything".
 *
 *   entry = ( host | "*." suffix | address | cidr ) [ ":" port ]      IPv6 goes in brackets when a port follows
 *
 * An entry without a port permits every port and `http:`; one with a port permits that port alone, `http:` or `https:`.
 */
import ipaddr from 'ipaddr.js'

export type IpAddress = ipaddr.IPv4 | ipaddr.IPv6

export type EgressRule =
  | { kind: 'host'; host: string; port: number | undefined }
  /** `suffix` keeps its leading dot, so that `*.example.com` matches neither `example.com` nor `badexample.com`. */
  | { kind: 'suffix'; suffix: string; port: number | undefined }
  | { kind: 'range'; network: IpAddress; bits: number; port: number | undefined }

export type EgressRules = readonly EgressRule[]

export function parseEgressAllow(text: string): { rules: EgressRules; faults: string[] } {
  const rules: EgressRule[] = []
  const faults: string[] = []
  for (const entry of text.split(',').map(part => part.trim())) {
    if (entry === '') continue
    const rule = parseEntry(entry)
    if (typeof rule === 'string') faults.push(`"${entry}" ${rule}`)
    else rules.push(rule)
  }
  return { rules, faults }
}

const notAnEntry = 'is not a host name, *.suffix, IP address or CIDR, each optionally with :port.'
const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/

/** The rule, or the rest of a sentence that begins with the entry and says what is wrong with it. */
function parseEntry(entry: string): EgressRule | string {
  const bracketed = /^\[([^\]]*)\](\/\d+)?(?::(\d+))?$/.exec(entry)
  const plain = /^([^:]*)(?::(\d+))?$/.exec(entry)
  // An IPv6 address without brackets has at least two colons, so neither pattern matched: all of it is the address.
  const subject = bracketed ? `${bracketed[1]}${bracketed[2] ?? ''}` : (plain?.[1] ?? entry)
  const digits = bracketed?.[3] ?? plain?.[2]
  const port = digits === undefined ? undefined : Number(digits)
  if (port !== undefined && (port < 1 || port > 65_535)) return 'has a port outside 1 to 65535.'
  if (bracketed && !subject.includes(':')) return 'has brackets around something that is not an IPv6 address.'

  if (subject.includes('/') || subject.includes(':') || ipaddr.IPv4.isValidFourPartDecimal(subject)) {
    return parseRange(subject, port)
  }
  if (subject.startsWith('*.')) {
    const suffix = hostName(subject.slice(2))
    return suffix === undefined ? notAnEntry : { kind: 'suffix', suffix: `.${suffix}`, port }
  }
  const host = hostName(subject)
  if (host === undefined) return notAnEntry
  if (ipaddr.isValid(host)) return `is an unusual spelling of an IP address; write ${host}.`
  return { kind: 'host', host, port }
}

function parseRange(subject: string, port: number | undefined): EgressRule | string {
  const [base = '', prefix] = subject.split('/')
  const valid = base.includes(':') ? ipaddr.IPv6.isValid(base) : ipaddr.IPv4.isValidFourPartDecimal(base)
  if (!valid || base.includes('%') || subject.split('/').length > 2) return notAnEntry
  const network = ipaddr.parse(base)
  const width = network.kind() === 'ipv4' ? 32 : 128
  if (prefix !== undefined && !(/^\d{1,3}$/.test(prefix) && Number(prefix) <= width)) {
    return `has a prefix length outside 0 to ${width}.`
  }
  // Addresses are unmapped before they are compared, so such an entry could never match.
  if (network instanceof ipaddr.IPv6 && network.isIPv4MappedAddress())
    return 'is an IPv4-mapped address; write the IPv4 form.'
  return { kind: 'range', network, bits: prefix === undefined ? width : Number(prefix), port }
}

/** The name as a URL spells it (lower case, IDNA in ASCII), or undefined when it is not a host name. */
function hostName(text: string): string | undefined {
  if (!/^[^\s/?#@:%\\*[\]]+$/.test(text)) return undefined
  const host = URL.parse(`https://${text}/`)?.hostname
  return host?.split('.').every(part => label.test(part)) ? host : undefined
}

const coversPort = (rule: EgressRule, port: number): boolean => rule.port === undefined || rule.port === port

/** Whether an entry names this host, by its exact name or by a suffix. */
export function allowsHost(rules: EgressRules, host: string, port: number): boolean {
  return rules.some(
    rule =>
      coversPort(rule, port) &&
      ((rule.kind === 'host' && rule.host === host) || (rule.kind === 'suffix' && host.endsWith(rule.suffix))),
  )
}

/** Whether an entry covers this address, as itself or by its network. */
export function allowsAddress(rules: EgressRules, address: IpAddress, port: number): boolean {
  return rules.some(
    rule =>
      rule.kind === 'range' &&
      coversPort(rule, port) &&
      rule.network.kind() === address.kind() &&
      address.match(rule.network, rule.bits),
  )
}
