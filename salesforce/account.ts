/**
 * What kind of org stands behind a token, and whether it is the kind an integration is for. The Organization itself is the authority; the
 * host of the identity URL is the hint when it cannot be asked.
 */
import { loginOf, type OrgKind, readHost } from './hosts.ts'

export interface Organization {
  id: string
  name: string
  instance: string
  edition: string
  kind: OrgKind
}

/** A query of it costs one API call. */
export const organizationQuery =
  'SELECT Id, Name, InstanceName, IsSandbox, OrganizationType, TrialExpirationDate FROM Organization'

/** The answer to `organizationQuery`; undefined when it is none. */
export function readOrganization(body: string): Organization | undefined {
  const row = (parse(body) as { records?: Record<string, unknown>[] } | undefined)?.records?.[0]
  if (typeof row?.Id !== 'string' || typeof row.IsSandbox !== 'boolean') return undefined
  const edition = text(row.OrganizationType)
  // What the Salesforce CLI decides by: a sandbox with an end is a scratch org.
  const side = row.IsSandbox ? (row.TrialExpirationDate ? 'scratch' : 'sandbox') : undefined
  const kind = side ?? (edition === 'Developer Edition' ? 'developer' : 'production')
  return { id: row.Id, name: text(row.Name), instance: text(row.InstanceName), edition, kind }
}

/** Newest first of the anonymous list at /services/data. */
export function readVersions(body: string): string[] {
  const list = parse(body)
  if (!Array.isArray(list)) return []
  const versions = list.map(one => text((one as { version?: unknown } | null)?.version))
  return versions.filter(version => /^\d{2,3}\.0$/.test(version)).sort((a, b) => Number(b) - Number(a))
}

/** The side of an identity URL, which stays on the generic log-in even when the sign-in ran at a My Domain. */
export function loginOfIdentity(identityUrl: unknown): 'production' | 'sandbox' | undefined {
  const url = typeof identityUrl === 'string' ? URL.parse(identityUrl) : null
  const read = url && readHost(url.hostname, { localhost: true })
  return read?.ok ? loginOf(read.host.kind) : undefined
}

/**
 * What was asked for and not granted. `offline_access` and `refresh_token` are one scope, which only a sign-in can have, and `full` is every
 * other.
 */
export function missingScopes(requested: readonly string[], granted: readonly string[], signsIn: boolean): string[] {
  const renews = (scope: string) => scope === 'refresh_token' || scope === 'offline_access'
  const has = (scope: string) =>
    granted.includes(scope) || (renews(scope) ? !signsIn || granted.some(renews) : granted.includes('full'))
  return requested.filter(scope => !has(scope))
}

/** Salesforce gives out the same id with 15 characters and, with a checksum, with 18. */
export const sameId = (a: string, b: string): boolean => a.slice(0, 15) === b.slice(0, 15)

const text = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 255) : '')

function parse(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}
