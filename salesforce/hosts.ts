/**
 * The addresses of Salesforce. People paste what their browser shows: a Lightning page, a Setup page, a bare name. This reads it, says
 * what kind of org it leads to, and answers the one host that OAuth and the API are reached at, or why there is none. Nothing that is
 * not a host of Salesforce ever comes out. Pure and without imports: the server, Connect UI and the dashboard run the same file.
 */

export type OrgKind = 'production' | 'sandbox' | 'developer' | 'scratch' | 'playground' | 'other'
export type Cloud = 'commercial' | 'government' | 'china'

export interface SalesforceHost {
  /** For OAuth and the API, e.g. acme--uat.sandbox.my.salesforce.com. */
  host: string
  kind: OrgKind
  cloud: Cloud
  /** login.… or test.…: every org of a kind, none in particular. */
  generic: boolean
  /** The customer's name in the address; undefined for a generic host. */
  myDomain: string | undefined
  /** `uat`, when the kind is sandbox and the host names it. */
  sandbox: string | undefined
  /** A site of Experience Cloud, where a company's own customers sign in. */
  site: boolean
  /** The first segment of a site's path, when it has one of its own. */
  prefix: string | undefined
}

/** `why` is for pages that say it in other languages. */
export type ReadHost = { ok: true; host: SalesforceHost } | { ok: false; fault: string; why: Why }
export type Why = 'empty' | 'malformed' | 'user' | 'instance' | 'site' | 'foreign'

export interface ReadOptions {
  /** Also takes the names the simulator is reached at, *.salesforce.localhost. Never on a server other people use. */
  localhost?: boolean
}

/** RFC 1123 §2.1. Punycode is not in it: no host of Salesforce is international, and look-alikes are. */
const label = /^(?!xn--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** Partition word of the My Domain (MyDomainSettings.domainPartition) → what kind of org stands behind it. */
const partitions: Record<string, OrgKind> = {
  sandbox: 'sandbox',
  develop: 'developer',
  scratch: 'scratch',
  trailblaze: 'playground',
  demo: 'other',
  free: 'other',
  patch: 'other',
  'pc-rnd': 'other',
  stm: 'other',
  stmfa: 'other',
}

interface Family {
  cloud: Cloud
  /** What follows the org's labels in the host that is asked for tokens. */
  api: string
  site?: string
  /** Hosts of pages, with the same labels before them. */
  pages: string[]
  /** login. and test. stand before it. */
  root?: string
}

const families: Family[] = [
  {
    cloud: 'commercial',
    api: '.my.salesforce.com',
    site: '.my.site.com',
    pages: ['.lightning.force.com', '.my.salesforce-setup.com', '.vf.force.com', '.file.force.com'],
    root: 'salesforce.com',
  },
  { cloud: 'government', api: '.my.salesforce.mil', pages: ['.lightning.crmforce.mil'] },
  {
    cloud: 'china',
    api: '.my.sfcrmproducts.cn',
    pages: ['.lightning.sfcrmapps.cn', '.setup.sfcrmproducts.cn'],
    root: 'sfcrmproducts.cn',
  },
]

const simulated: Family = {
  cloud: 'commercial',
  api: '.my.salesforce.localhost',
  pages: ['.lightning.force.localhost'],
  root: 'salesforce.localhost',
}

const where = 'Setup → My Domain shows it; it ends in .my.salesforce.com.'

export function readHost(pasted: string, options: ReadOptions = {}): ReadHost {
  const text = pasted.trim()
  if (text === '') return refuse(`Give the address of your org. ${where}`, 'empty')
  if (text.length > 2048) return refuse('This is too long to be an address.')
  if (/^[^/\s]+@[^/\s]+$/.test(text) && !text.includes('://'))
    return refuse(`This is a user name. The address of your org is needed: ${where}`, 'user')
  if (/[\s\\<>"'`{}|^\u0000-\u001f\u007f]/.test(text)) return refuse(`This is not an address. ${where}`)
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase()
  if (scheme && scheme !== 'https' && !(scheme === 'http' && options.localhost))
    return refuse('Salesforce is reached by https alone.')
  const rest = scheme ? text.slice(scheme.length + 3) : text.replace(/^\/\//, '')
  const [, authority = '', path = ''] = /^([^/?#]*)([^?#]*)/.exec(rest) ?? []
  if (authority.includes('@')) return refuse('An address with a user name in it is not taken.')
  if (authority.includes('%')) return refuse(`This is not an address. ${where}`)
  const [, name = '', port] = /^(.*?)(:\d*)?$/.exec(authority.toLowerCase()) ?? []
  if (port !== undefined && !(options.localhost && name.endsWith('.localhost')))
    return refuse('An address with a port is not taken.')
  return readName(name, path, options)
}

function readName(name: string, path: string, options: ReadOptions): ReadHost {
  if (/^\[|^[\d.]+$|^0x[\da-f]+$/.test(name)) return refuse(`An IP address is no address of an org. ${where}`)
  // Appended by Microsoft Defender for Cloud Apps to what an admin copies from a governed browser.
  const host = name.replace(/\.mcas\.ms$/, '')
  const labels = host.split('.')
  if (!labels.every(one => label.test(one))) return refuse(`This is not a host name. ${where}`)
  if (labels.length === 1) return fromBareName(host)
  for (const family of options.localhost ? [...families, simulated] : families) {
    const read = readIn(family, host, path)
    if (read) return read
  }
  // A name cut off after the partition: acme--uat.sandbox.
  if (labels.length === 2 && Object.hasOwn(partitions, labels[1]!)) return org(families[0]!, labels)
  return whyNot(host)
}

function readIn(family: Family, host: string, path: string): ReadHost | undefined {
  const { root, api, site } = family
  if (root && host === `login.${root}`) return generic(family, host, 'production')
  if (root && host === `test.${root}`) return generic(family, host, 'sandbox')
  const labelsBefore = (suffix: string) =>
    host.endsWith(suffix) ? host.slice(0, -suffix.length).split('.') : undefined
  const named = labelsBefore(api)
  if (named) return org(family, named)
  const sited = site === undefined ? undefined : labelsBefore(site)
  if (sited) return org(family, sited, { path })
  for (const page of family.pages) {
    const shown = labelsBefore(page)
    // Visualforce pages carry their package behind the org's name: acme--c, acme--uat--c.
    if (shown && page === '.vf.force.com') shown[0] = shown[0]!.replace(/--(?:(?!--).)*$/, '')
    if (shown) return org(family, shown)
  }
  return undefined
}

const refuse = (fault: string, why: Why = 'malformed'): ReadHost => ({ ok: false, fault, why })

const generic = ({ cloud }: Family, host: string, kind: OrgKind): ReadHost => ({
  ok: true,
  host: { host, kind, cloud, generic: true, myDomain: undefined, sandbox: undefined, site: false, prefix: undefined },
})

/** `acme`, `acme--uat`, `acme-dev-ed`: what stands before the first dot is all that people remember. */
function fromBareName(name: string): ReadHost {
  if (['login', 'test', 'www', 'salesforce', 'localhost'].includes(name))
    return refuse(`"${name}" is not the name of an org. ${where}`)
  const partition = name.includes('--') ? ['sandbox'] : name.endsWith('-dev-ed') ? ['develop'] : []
  return org(families[0]!, [name, ...partition])
}

/** The labels before a suffix: the org's name and at most one word for its partition. */
function org(family: Family, labels: string[], site?: { path: string }): ReadHost {
  const [name = '', word, ...more] = labels
  if (more.length > 0 || name === '' || name === 'www') return refuse(`This is not the address of an org. ${where}`)
  // The instance in the middle (cs12) and sandboxes without the word both ended with enhanced domains; their redirects in Spring '26.
  const isInstance = word !== undefined && /^(cs|na|eu|ap|um)\d+$/.test(word)
  const [myDomain = '', sandbox, ...rest] = name.split('--')
  if (myDomain === '' || sandbox === '' || rest.length > 0) return refuse(`This is not the name of an org. ${where}`)
  const partition =
    sandbox !== undefined && (word === undefined || isInstance) ? 'sandbox' : isInstance ? undefined : word
  if (/^(cs|na|eu|ap|um|usa|swe|deu|gbr|fra|ind|jpn|aus|can|bra)\d+s?$/.test(name) && word === undefined && !site)
    return refuse(`${name.toUpperCase()} is the instance your org stands on, and it may move. ${where}`, 'instance')
  const kind: OrgKind =
    sandbox !== undefined
      ? 'sandbox'
      : partition !== undefined
        ? Object.hasOwn(partitions, partition)
          ? partitions[partition]!
          : 'other'
        : myDomain.endsWith('-dev-ed')
          ? 'developer'
          : 'production'
  const suffix = site ? family.site! : family.api
  return {
    ok: true,
    host: {
      host: `${[name, ...(partition === undefined ? [] : [partition])].join('.')}${suffix}`,
      kind,
      cloud: family.cloud,
      generic: false,
      myDomain,
      sandbox,
      site: site !== undefined,
      prefix: site && prefixOf(site.path),
    },
  }
}

/** Segments that belong to Salesforce's own pages, not to a site's address. */
const ownSegments = new Set(['s', 'services', 'login', 'secur', 'idp', 'apex', 'setup', 'id', '.well-known'])

function prefixOf(path: string): string | undefined {
  const first = path.split('/').find(Boolean)
  return first && /^[A-Za-z0-9_]{1,80}$/.test(first) && !ownSegments.has(first.toLowerCase()) ? first : undefined
}

/** Why a host is none, for those people really paste; the rest is simply not Salesforce. */
function whyNot(host: string): ReadHost {
  if (host === 'welcome.salesforce.com') return refuse(`welcome.salesforce.com only finds orgs. ${where}`)
  if (/^[a-z]+\d+s?(\.lightning)?\.(salesforce|force)\.com$/.test(host))
    return refuse(`This is the instance your org stands on, and it may move. ${where}`, 'instance')
  if (/\.my-(salesforce|lightning)\.com$/.test(host))
    return refuse(
      'Addresses below my-salesforce.com are taken only when the operator of this server names the host in FAIRLEAD_PROVIDERS.',
      'foreign',
    )
  if (/(^|\.)secure\.force\.com$|\.force\.com$|\.salesforce-sites\.com$|\.salesforce-experience\.com$/.test(host))
    return refuse(`This is the address of a site, not of an org. ${where}`, 'site')
  if (/(^|\.)(salesforce|force|cloudforce|salesforce-setup)\.com$/.test(host))
    return refuse(`This belongs to Salesforce and is not the address of an org. ${where}`)
  return refuse(`${host} is not an address of Salesforce. ${where}`, 'foreign')
}

/** Which of Salesforce's two log-ins an org belongs to. Developer Edition and playgrounds log in where production does. */
export const loginOf = (kind: OrgKind): 'production' | 'sandbox' =>
  kind === 'sandbox' || kind === 'scratch' ? 'sandbox' : 'production'

/**
 * Whom an assertion for this org is addressed to (RFC 7523 §3): the log-in of its kind, which every org of it takes. The other clouds have
 * no such address that is documented; an org's own is taken everywhere.
 */
export const audienceOf = ({ host, kind, cloud }: SalesforceHost): string =>
  cloud !== 'commercial'
    ? `https://${host}`
    : `https://${loginOf(kind) === 'sandbox' ? 'test' : 'login'}.salesforce.com`

const kindTitles: Record<OrgKind, string> = {
  production: 'Production org',
  sandbox: 'Sandbox',
  developer: 'Developer Edition org',
  scratch: 'Scratch org',
  playground: 'Trailhead Playground',
  other: 'Org',
}

/** "Sandbox uat of acme", for a person to see while typing. */
export function titleOf({ kind, generic, myDomain, sandbox, site, cloud }: SalesforceHost): string {
  if (generic)
    return kind === 'sandbox' ? 'The log-in of every sandbox and scratch org' : 'The log-in of every production org'
  const what = site ? `Site of the ${kindTitles[kind].toLowerCase()}` : kindTitles[kind]
  const name = sandbox === undefined ? myDomain : `${sandbox} of ${myDomain}`
  const ground = { commercial: '', government: ' (government)', china: ' (China)' }[cloud]
  return `${what} ${name}${ground}`
}
