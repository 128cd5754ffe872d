/** Does an answer mean "this access token has ended"? Provider data says which; without it, a 401 does. */
import type { Live } from '../connection/live.ts'
import type { ExpiredToken } from '../provider/schema.ts'
import { plainBody } from './coding.ts'
import type { Held } from './forward.ts'

const anyUnauthorized: ExpiredToken[] = [{ status: 401 }]

const rulesOf = ({ provider }: Live): ExpiredToken[] => provider.expired_token ?? anyUnauthorized

/** By its status alone: whether the answer is worth holding back to be read. */
export const mayMeanExpired = (live: Live, status: number): boolean =>
  status >= 300 && rulesOf(live).some(rule => rule.status === status)

export function meansExpired(live: Live, held: Held): boolean {
  const text = textOf(held)
  return rulesOf(live).some(
    rule =>
      rule.status === held.status &&
      (rule.body_equals === undefined || text.trim() === rule.body_equals) &&
      !(rule.body_excludes ?? []).some(excluded => text.includes(excluded)),
  )
}

/** The caller may have asked for a compressed answer; the caller gets it so, we read it plain. What cannot be read says nothing. */
const textOf = (held: Held): string => plainBody(held)?.toString('utf8') ?? ''
