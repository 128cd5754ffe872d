import type { Delivery } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { UsageFault } from '../faults.ts'
import { instant, printable, type Screen, state, table } from '../output.ts'

const deliveryTable = (screen: Screen, deliveries: Delivery[]): string =>
  deliveries.length === 0
    ? 'There are no deliveries.'
    : table(
        ['delivery', 'event', 'connection', 'receiver', 'state', 'tries', 'since', 'next try'],
        deliveries.map(one => [
          one.id,
          one.event.name,
          printable(one.event.connection_id ?? '–'),
          printable(one.receiver),
          state(screen, one.state),
          String(one.attempts),
          instant(one.event.created_at, screen.now()),
          instant(one.next_attempt_at, screen.now()),
        ]),
      )

export const webhooks: Command[] = [
  {
    words: 'webhooks deliveries',
    usage: '[--state S] [--event NAME] [--connection ID]',
    summary: 'Lists deliveries, newest event first, at most 200',
    options: ['state', 'event', 'connection'],
    args: { min: 0, max: 0 },
    async run({ client, screen, values }) {
      const { deliveries, next_cursor } = await client.get<{ deliveries: Delivery[]; next_cursor: string | null }>(
        '/webhooks/deliveries',
        { state: values.state, event: values.event, connection_id: values.connection, limit: 200 },
      )
      if (next_cursor) screen.say('These are the newest 200; there are older ones.')
      return { json: deliveries, text: deliveryTable(screen, deliveries) }
    },
  },
  {
    words: 'webhooks replay',
    usage: '(<delivery> | --since INSTANT)',
    summary: 'Sends one delivery again, or every failed one of events since an instant',
    example: 'webhooks replay --since 2026-11-22T08:00:00Z',
    options: ['since'],
    args: { min: 0, max: 1 },
    async run({ client, screen, values, args }) {
      const [id] = args
      if ((id === undefined) === (values.since === undefined))
        throw new UsageFault(
          'A replay takes the id of a delivery, or --since with an instant, e.g. --since 2026-11-22T08:00:00Z.',
        )
      if (id !== undefined) {
        const sent = await client.post<Delivery>(`/webhooks/deliveries/${encodeURIComponent(id)}/replay`)
        return { json: sent, text: deliveryTable(screen, [sent]) }
      }
      const answer = await client.post<{ replayed: number }>('/webhooks/replay', { since: values.since })
      return { json: answer, text: `${answer.replayed} on their way.` }
    },
  },
  {
    words: 'webhooks test',
    usage: '',
    summary: 'Sends the event webhook.test to the webhook URLs of the environment',
    options: [],
    args: { min: 0, max: 0 },
    async run({ client, screen }) {
      const { deliveries } = await client.post<{ deliveries: Delivery[] }>('/webhooks/test')
      return { json: deliveries, text: deliveryTable(screen, deliveries) }
    },
  },
]
