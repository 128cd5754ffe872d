/** A connection's tags: the developer's, and those that name its end user, by the wire contract's names. */
import type { EndUser, Organization } from '@fairlead/contract'

/** Keys are stored in lower case. */
export const lowerKeys = (tags: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(tags).map(([key, value]) => [key.toLowerCase(), value]))

/** The end user as tags, by the wire contract's names; the end user's own tags only when all of them fit into ten. */
export function tagsOf(
  endUser: EndUser | null | undefined,
  organization: Organization | null | undefined,
): Record<string, string> {
  const derived = {
    end_user_id: endUser?.id,
    end_user_email: endUser?.email,
    end_user_display_name: endUser?.display_name,
    organization_id: organization?.id,
    organization_display_name: organization?.display_name,
  }
  const base = Object.fromEntries(
    Object.entries(derived).filter((entry): entry is [string, string] => Boolean(entry[1])),
  )
  const own = Object.fromEntries(
    Object.entries(lowerKeys(endUser?.tags ?? {})).map(([key, value]) => [key, value.slice(0, 255)]),
  )
  const all = { ...base, ...own }
  return Object.keys(all).length <= 10 ? all : base
}
