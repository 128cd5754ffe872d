/**
 * Sign-ins one after the other, each whole: connect session, our start page, the provider's consent, our callback with its exchange, the
 * connection stored. `node bench/oauth.ts [--flows N] [--profile FOLDER]`. Caller and provider (the simulator) share this process, and what
 * they take is part of each flow. V8 is warmed for eight seconds first: in its first hundred flows a server takes twice as much CPU.
 */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { walkConsent } from '../demo/consent.ts'
import { quantile } from './load.ts'
import { pin } from './processes.ts'
import { openSite } from './site.ts'

const { values } = parseArgs({
  options: { flows: { type: 'string', default: '1000' }, profile: { type: 'string' } },
})
const flows = Number(values.flows)
const nodeArgs = values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`]

pin(process.pid, 0)
const site = await openSite('http://127.0.0.1:9', undefined, nodeArgs)
try {
  pin(site.server.pid, 1)
  const headers = { Authorization: `Bearer ${site.key}`, 'Content-Type': 'application/json' }
  const flow = async (user: string): Promise<void> => {
    // Not by fetch: of the caller's share that was a sixth.
    const asked = request(`${site.url}/connect/sessions`, { method: 'POST', headers })
    asked.end(JSON.stringify({ end_user: { id: user } }))
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    const { data } = JSON.parse(await text(answer)) as { data: { token: string } }
    await walkConsent(`${site.url}/oauth/connect/sf?connect_session_token=${data.token}`)
  }
  for (let n = 0, end = performance.now() + 8_000; performance.now() < end; n++) await flow(`warm-${n}`)

  const took: number[] = []
  const cpu = site.server.cpu()
  const ownCpu = process.cpuUsage()
  const from = performance.now()
  for (let n = 0, at = from; n < flows; n++) {
    await flow(`user-${n}`)
    const now = performance.now()
    took.push(now - at)
    at = now
  }
  const seconds = (performance.now() - from) / 1000
  const own = process.cpuUsage(ownCpu)
  const sorted = Float64Array.from(took).sort()
  const summary = {
    'flows/s': Number((flows / seconds).toFixed(1)),
    'p50 ms': Number(quantile(sorted, 0.5).toFixed(2)),
    'p99 ms': Number(quantile(sorted, 0.99).toFixed(2)),
    'server CPU ms/flow': Number(((site.server.cpu() - cpu) / 1000 / flows).toFixed(2)),
    'caller and provider CPU ms/flow': Number(((own.user + own.system) / 1000 / flows).toFixed(2)),
  }
  console.table(summary)
  console.log(JSON.stringify({ bench: 'oauth', summary }))
} finally {
  await site.stop()
}
