/** Pages of an org's own Setup. Their names are the last part of the addresses Setup shows. */
import { readHost } from './hosts.ts'

export type SetupPage =
  /** External Client App Manager. */
  | 'ManageExternalClientApplication'
  /** App Manager: every kind of app. */
  | 'NavigationMenus'
  /** Connected Apps OAuth Usage: who uses what, Block, Unblock, Install. */
  | 'ConnectedAppsUsage'
  | 'ManageUsers'
  | 'PermSets'
  | 'NetworkAccess'
  | 'OrgDomain'
  | 'CompanyProfileInfo'

/** `org`: its instance URL. Undefined for a log-in that is nobody's org. */
export function setupLink(org: string | undefined, page: SetupPage): string | undefined {
  if (org === undefined || !URL.canParse(org)) return undefined
  const read = readHost(new URL(org).hostname, { localhost: true })
  if (read.ok && read.host.generic) return undefined
  // Elsewhere than in the commercial cloud the org's own address leads there, by a redirect.
  const base =
    read.ok && read.host.host.endsWith('.my.salesforce.com')
      ? `https://${read.host.host.replace(/\.salesforce\.com$/, '.salesforce-setup.com')}`
      : org.replace(/\/+$/, '')
  return `${base}/lightning/setup/${page}/home`
}
