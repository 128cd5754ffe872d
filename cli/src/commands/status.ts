import type { StateName } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { Refused } from '../faults.ts'
import { facts, printable, state } from '../output.ts'
import { listAll } from './connections.ts'

export const status: Command[] = [
  {
    words: 'status',
    usage: '',
    summary: 'Whether the server is up and ready, its version, and how many connections are in each state',
    options: [],
    args: { min: 0, max: 0 },
    async run({ client, screen }) {
      const [health, ready, document] = await Promise.all(['/health', '/ready', '/openapi.json'].map(client.probe))
      const { info } = (document!.body ?? {}) as { info?: { title?: string; version?: string } }
      if (health!.status !== 200 || info?.title !== 'Fairlead')
        throw new Refused(health!.status, 'not_fairlead', `${client.url} is not a Fairlead server. Check FAIRLEAD_URL.`)
      const isReady = ready!.status === 200
      // Without its database it can count nothing.
      const counts = isReady ? await countByState(client) : undefined
      const { error } = (ready!.body ?? {}) as { error?: { message?: string } }
      return {
        json: { url: client.url, version: info.version, live: true, ready: isReady, connections: counts ?? null },
        text: facts([
          ['Server', client.url],
          ['Version', printable(info.version ?? '–')],
          ['Live', 'yes'],
          ['Ready', isReady ? 'yes' : `no: ${printable(error?.message ?? `it answered ${ready!.status}`)}`],
          ...Object.entries(counts ?? {}).map(([name, count]): [string, string] => [
            state(screen, name),
            String(count),
          ]),
        ]),
      }
    },
  },
]

async function countByState(client: Parameters<typeof listAll>[0]): Promise<Record<StateName, number>> {
  const counts: Record<StateName, number> = { active: 0, degraded: 0, needs_reauth: 0, blocked_by_policy: 0, paused: 0 }
  for (const one of await listAll(client)) counts[one.state.name]++
  return counts
}
