import { setTimeout as sleep } from 'node:timers/promises'
import type { ActivityView } from '@fairlead/contract'
import type { Client } from '../client.ts'
import type { Command, Values } from '../command.ts'
import { jsonLine, printable, type Screen, table } from '../output.ts'

interface Page {
  activity: ActivityView[]
  next_cursor: string | null
  dropped: number
}

const pollMs = 1_000
/** Two servers write what they have once a second, so a call may turn up behind one that ended later. */
const overlapMs = 10_000

const page = (client: Client, values: Values, more: Record<string, string | number | undefined>): Promise<Page> =>
  client.get('/activity', {
    connection_id: values.connection,
    provider_config_key: values.integration,
    status: values.status,
    limit: 200,
    ...more,
  })

const ms = (value: number): string => (value < 10 ? value.toFixed(1) : String(Math.round(value)))

/** What is out of the ordinary about it. */
const remarks = ({ outcome, error, retries, refreshed, repeats_token }: ActivityView): string =>
  [
    error ?? (outcome === 'answered' ? '' : outcome),
    retries > 0 ? `${retries} ${retries === 1 ? 'retry' : 'retries'}` : '',
    refreshed ? 'token renewed' : '',
    repeats_token ? 'the answer repeats the access token' : '',
  ]
    .filter(Boolean)
    .join(', ')

function cells(screen: Screen, call: ActivityView): string[] {
  const failed = call.outcome !== 'answered' || (call.status ?? 0) >= 400
  const status = String(call.status ?? '–')
  return [
    call.at,
    failed ? screen.colour('red', status) : status,
    printable(call.method),
    `${ms(call.total_ms)} ms`,
    printable(call.provider_config_key),
    printable(call.connection_id),
    printable(`${call.host ?? ''}${call.path}`),
    remarks(call),
  ]
}

const activityTable = (screen: Screen, calls: ActivityView[]): string =>
  calls.length === 0
    ? 'There were no calls.'
    : table(
        ['ended', 'status', 'method', 'took', 'integration', 'connection', 'path', ''],
        calls.map(call => cells(screen, call)),
      )

/** Prints what comes until the program is stopped, a line each. */
async function follow(client: Client, screen: Screen, values: Values): Promise<never> {
  let newest: string | undefined
  let seen = new Set<string>()
  for (;;) {
    const since = newest && new Date(Date.parse(newest) - overlapMs).toISOString()
    const recent: ActivityView[] = []
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const found = await page(client, values, { since, cursor, ...(newest === undefined && { limit: 20 }) })
      recent.push(...found.activity)
      cursor = newest === undefined ? null : found.next_cursor
    }
    for (const call of recent.toReversed())
      if (!seen.has(call.id)) screen.print(values.json ? jsonLine(call) : cells(screen, call).join('  ').trimEnd())
    seen = new Set(recent.map(call => call.id))
    newest = recent[0]?.at ?? newest
    await sleep(pollMs)
  }
}

export const activity: Command[] = [
  {
    words: 'activity list',
    usage: '[--connection ID] [--integration K] [--status S] [--follow]',
    summary:
      'Lists calls through the proxy, newest first, at most 200; with --follow it prints them as they end. S is 404 or 5xx',
    example: 'activity list --integration salesforce --status 5xx --follow',
    options: ['connection', 'integration', 'status', 'follow'],
    args: { min: 0, max: 0 },
    async run({ client, screen, values }) {
      if (values.follow) return follow(client, screen, values)
      const { activity: calls, next_cursor, dropped } = await page(client, values, {})
      if (next_cursor) screen.say('These are the newest; there are older ones.')
      if (dropped > 0) screen.say(`${dropped} calls were not recorded, because the database was too slow for them.`)
      return { json: calls, text: activityTable(screen, calls) }
    },
  },
]
