// Which Salesforce host a request is for, and how to write that host's URL back. A host is reached in two forms:
//   by name   http://acme--uat.sandbox.my.salesforce.localhost:4500/services/…   (browsers resolve *.localhost)
//   by path   http://127.0.0.1:4500/acme--uat/services/…                         (any client, no resolver needed)
// Whatever form a request came in by, every URL in its answer is in the same form.

import type { Community, Org, World } from './world.ts'

export type Form = 'name' | 'path'
export type GenericHost = 'login' | 'test'

export type Site =
  | { kind: 'generic'; name: GenericHost }
  /** With `community`: reached through a site of Experience Cloud, where a company's own customers sign in. */
  | { kind: 'org'; org: Org; community?: Community }
  /** The UI host, which users paste by mistake: its token endpoint knows no grant. */
  | { kind: 'lightning'; org: Org }
  /** A My Domain the org has left. */
  | { kind: 'moved'; org: Org; answer: 'redirect' | 'gone' }
  /** The simulator's own front page and admin API. */
  | { kind: 'front' }
  | { kind: 'nowhere' }

export type Address = { form: Form; authority: string; site: Site }

const PARTITION = {
  production: '',
  sandbox: 'sandbox.',
  developer: 'develop.',
  scratch: 'scratch.',
  playground: 'trailblaze.',
} as const

export const genericHostOf = (org: Org): GenericHost =>
  org.kind === 'sandbox' || org.kind === 'scratch' ? 'test' : 'login'

export const orgHostname = (org: Org): string => `${org.domain}.${PARTITION[org.kind]}my.salesforce.localhost`

/** Paths that stay answered on a former My Domain when the org was moved with `oldOAuth: true`. */
const isOAuthPath = (path: string) => /^\/(services\/oauth2|\.well-known|id)\//.test(path)

/** Splits a request's Host header and path into the host it means and the path Salesforce would have seen. */
export function locate(world: World, authority: string, rawPath: string): { address: Address; path: string } {
  const found = locateHost(world, authority, rawPath)
  const { site } = found.address
  if (site.kind !== 'org' || !site.community) return found
  // What stands behind the site's own prefix is what Salesforce would have seen.
  return { ...found, path: found.path.slice(site.community.prefix.length) || '/' }
}

function locateHost(world: World, authority: string, rawPath: string): { address: Address; path: string } {
  const hostname = authority.toLowerCase().replace(/:\d*$/, '')
  const named = /^(.+)\.(salesforce|force)\.localhost$/.exec(hostname)
  if (named) {
    const site = byName(world, hostname, rawPath)
    return { address: { form: 'name', authority, site }, path: rawPath }
  }
  const [, label = '', rest = ''] = /^\/([^/]*)(\/.*)?$/.exec(rawPath) ?? []
  const path = rest || '/'
  const site = byLabel(world, label.toLowerCase(), path)
  if (site) return { address: { form: 'path', authority, site }, path }
  return { address: { form: 'path', authority, site: { kind: 'front' } }, path: rawPath }
}

function byName(world: World, hostname: string, path: string): Site {
  if (hostname === 'login.salesforce.localhost') return { kind: 'generic', name: 'login' }
  if (hostname === 'test.salesforce.localhost') return { kind: 'generic', name: 'test' }
  for (const org of world.orgs) {
    const current = orgHostname(org)
    if (hostname === current) return { kind: 'org', org }
    if (hostname === siteHostname(org)) return siteAt(org, path)
    if (hostname === current.replace('.my.salesforce.', '.lightning.force.')) return { kind: 'lightning', org }
    if (org.former.some(f => hostname === orgHostname({ ...org, domain: f.domain }))) return left(org, hostname, path)
  }
  return { kind: 'nowhere' }
}

function byLabel(world: World, label: string, path: string): Site | undefined {
  if (label === 'login' || label === 'test') return { kind: 'generic', name: label }
  for (const org of world.orgs) {
    if (label === org.domain) return { kind: 'org', org }
    if (label === `${org.domain}.site`) return siteAt(org, path)
    if (label === `${org.domain}.lightning`) return { kind: 'lightning', org }
    if (org.former.some(f => f.domain === label)) return left(org, label, path)
  }
  return undefined
}

/** `.my.site.com` on the platform. */
const siteHostname = (org: Org): string => orgHostname(org).replace('.my.salesforce.', '.my.site.salesforce.')

function siteAt(org: Org, path: string): Site {
  const community = org.communities.find(({ prefix }) => path === prefix || path.startsWith(`${prefix}/`))
  return community ? { kind: 'org', org, community } : { kind: 'nowhere' }
}

/** The URL of a site: where its users sign in, and the issuer of its discovery. */
export function communityUrl(address: Pick<Address, 'form' | 'authority'>, org: Org, { prefix }: Community): string {
  const port = /:\d+$/.exec(address.authority)?.[0] ?? ''
  const host = address.form === 'path' ? `${address.authority}/${org.domain}.site` : `${siteHostname(org)}${port}`
  return `http://${host}${prefix}`
}

function left(org: Org, hostOrLabel: string, path: string): Site {
  const former = org.former.find(f => hostOrLabel === f.domain || hostOrLabel.startsWith(`${f.domain}.`))
  if (former?.oldOAuth && isOAuthPath(path)) return { kind: 'org', org }
  return { kind: 'moved', org, answer: former?.answer ?? 'gone' }
}

/** The base URL of an org or generic host, in the form the address came in by. */
export function baseOf(address: Pick<Address, 'form' | 'authority'>, target: Org | GenericHost): string {
  const port = /:\d+$/.exec(address.authority)?.[0] ?? ''
  if (address.form === 'path') {
    return `http://${address.authority}/${typeof target === 'string' ? target : target.domain}`
  }
  return `http://${typeof target === 'string' ? `${target}.salesforce.localhost` : orgHostname(target)}${port}`
}

/** The base of the host the request itself named; what discovery calls the issuer. */
export function ownBase(address: Address): string {
  const { site } = address
  if (site.kind === 'generic') return baseOf(address, site.name)
  if (site.kind === 'org' && site.community) return communityUrl(address, site.org, site.community)
  if (site.kind === 'org' || site.kind === 'lightning' || site.kind === 'moved') return baseOf(address, site.org)
  return `http://${address.authority}`
}
