import type { Receipt } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { instant, printable, type Screen, state, table } from '../output.ts'

export const receiptTable = (screen: Screen, receipts: Receipt[]): string =>
  receipts.length === 0
    ? 'There are no receipts.'
    : table(
        ['connection', 'integration', 'became', 'status', 'since', 'seen dead', 'reason'],
        receipts.map(receipt => [
          printable(receipt.connection_id),
          printable(receipt.provider_config_key),
          receipt.state,
          state(screen, receipt.status),
          instant(receipt.created_at, screen.now()),
          instant(receipt.verified_at, screen.now()),
          printable(receipt.reason ?? ''),
        ]),
      )

export const revocations: Command[] = [
  {
    words: 'revocations list',
    usage: '[--connection ID] [--integration K]',
    summary: 'Lists what became of tokens that were ended at their provider',
    options: ['connection', 'integration'],
    args: { min: 0, max: 0 },
    async run({ client, screen, values }) {
      const { revocations } = await client.get<{ revocations: Receipt[] }>('/revocations', {
        connection_id: values.connection,
        provider_config_key: values.integration,
      })
      return { json: revocations, text: receiptTable(screen, revocations) }
    },
  },
]
