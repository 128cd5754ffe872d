/** For how many days what is kept of each kind, and how it is said: `activity=30,audit=400`. */

export const kinds = {
  activity: { days: 14, least: 1, most: 400, meaning: 'calls through the proxy; at most 5 GB of them' },
  bodies: {
    days: 1,
    least: 1,
    most: 14,
    meaning: 'bodies of calls, redacted and sealed, of integrations that capture them; at most 1 GB',
  },
  audit: { days: undefined, least: 30, most: 36_500, meaning: 'the audit trail; for good unless said' },
  deliveries: { days: 30, least: 1, most: 400, meaning: 'webhooks that were delivered' },
  failed_deliveries: { days: 90, least: 3, most: 400, meaning: 'webhooks that were given up' },
  sessions: { days: 0, least: 0, most: 90, meaning: 'connect sessions and their results after their end; 0: an hour' },
  receipts: { days: 365, least: 1, most: 36_500, meaning: 'receipts of revocations, without any token' },
  journal: {
    days: 7,
    least: 1,
    most: 90,
    meaning: 'answers of token endpoints that were saved, sealed, in the data folder: what a failover may have lost',
  },
  replaced_tokens: {
    days: 90,
    least: 7,
    most: 400,
    meaning: 'refresh tokens that were replaced, as fingerprints, and ended grants, without tokens',
  },
  retired_keys: { days: 30, least: 7, most: 400, meaning: 'data keys nothing is sealed with any more' },
} as const

export type Retention = {
  -readonly [Kind in keyof typeof kinds]: (typeof kinds)[Kind]['days'] extends undefined ? number | undefined : number
}

/** What is of no use, or asks for harm, without another kind. */
const outlast = [
  ['activity', 'bodies', 'because a body is found by its call'],
  ['replaced_tokens', 'journal', 'because an answer in the journal may be to a grant that has ended'],
  ['retired_keys', 'journal', 'because the journal may be sealed with one'],
  ['retired_keys', 'bodies', 'because a body may be sealed with one'],
] as const

const isKind = (name: string): name is keyof typeof kinds => Object.hasOwn(kinds, name)

/** Of each kind what is not said is the default. */
export function parseRetention(text: string): { retention: Retention; faults: string[] } {
  const faults: string[] = []
  const retention: Retention = {
    activity: kinds.activity.days,
    bodies: kinds.bodies.days,
    audit: kinds.audit.days,
    deliveries: kinds.deliveries.days,
    failed_deliveries: kinds.failed_deliveries.days,
    sessions: kinds.sessions.days,
    receipts: kinds.receipts.days,
    journal: kinds.journal.days,
    replaced_tokens: kinds.replaced_tokens.days,
    retired_keys: kinds.retired_keys.days,
  }
  for (const part of text.split(',').map(one => one.trim())) {
    if (part === '') continue
    const [, name = '', given = ''] = /^(\w+)\s*=\s*(\d{1,6})$/.exec(part) ?? []
    if (!isKind(name)) {
      faults.push(`"${part}" must read kind=days, the kind one of ${Object.keys(kinds).join(', ')}.`)
      continue
    }
    const { least, most } = kinds[name]
    const days = Number(given)
    if (days < least || days > most) faults.push(`${name} must be from ${least} to ${most} days.`)
    else retention[name] = days
  }
  for (const [name, other, why] of outlast)
    if (retention[name] < retention[other])
      faults.push(`${name} must not be less than ${other} (${retention[other]} days), ${why}.`)
  return { retention, faults }
}
