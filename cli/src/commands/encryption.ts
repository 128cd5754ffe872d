import { setTimeout as sleep } from 'node:timers/promises'
import type { EncryptionView } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { bar, facts, instant, printable, type Screen, table } from '../output.ts'

const text = (screen: Screen, now: EncryptionView): string =>
  [
    facts([
      ['Encryption key', printable(now.kek_id)],
      ['Rows to seal anew', String(now.rows_left)],
    ]),
    '',
    table(
      ['data key', 'state', 'made'],
      now.data_keys.map(key => [key.id, key.state, instant(key.created_at, screen.now())]),
    ),
  ].join('\n')

const pollMs = 500

export const encryption: Command[] = [
  {
    words: 'encryption status',
    usage: '',
    summary: 'Names the keys of the environment and how far their rotation is. Ids only',
    options: [],
    args: { min: 0, max: 0 },
    async run({ client, screen }) {
      const now = await client.get<EncryptionView>('/encryption')
      return { json: now, text: text(screen, now) }
    },
  },
  {
    words: 'encryption rotate',
    usage: '[--wait]',
    summary: 'Makes new data keys; every secret is sealed anew in the background',
    options: ['wait'],
    args: { min: 0, max: 0 },
    async run({ client, screen, values }) {
      let now = await client.post<EncryptionView>('/encryption/rotate')
      if (!values.wait) return { json: now, text: text(screen, now) }
      let total = now.rows_left
      while (now.rows_left > 0) {
        // Rows that were added meanwhile are sealed with the new key; those that count are the old ones.
        total = Math.max(total, now.rows_left)
        screen.progress(bar(total - now.rows_left, total))
        await sleep(pollMs)
        now = await client.get<EncryptionView>('/encryption')
      }
      screen.progress('')
      screen.say(`Everything is sealed with the new keys (${total} rows). Back up the database now.`)
      return { json: now, text: text(screen, now) }
    },
  },
]
