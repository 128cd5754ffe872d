/**
 * What it costs to read a connection with its credentials: `node bench/read.ts [--seconds N] [--rounds N] [--profile FOLDER]`.
 * The figure that counts is CPU per request; requests per second are those of a server that has core 1 to itself.
 */

import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Ask, load, quantile } from './load.ts'
import { freePort, pin, start } from './processes.ts'
import { openSite } from './site.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '5' },
    /** Where the server leaves a CPU profile when it ends. */
    profile: { type: 'string' },
  },
})
const ms = Number(values.seconds) * 1000
const nodeArgs = values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`]
const closers: (() => Promise<void>)[] = []

try {
  pin(process.pid, 0)
  const port = await freePort()
  const upstream = await start(
    process.execPath,
    [join(import.meta.dirname, 'reference/upstream.ts'), String(port)],
    port,
  )
  closers.push(upstream.stop)
  const site = await openSite(`http://127.0.0.1:${port}`, undefined, nodeArgs)
  closers.push(site.stop)
  pin(site.server.pid, 1)
  pin(upstream.pid, 1)
  const headers = { Authorization: `Bearer ${site.key}`, Accept: 'application/json' }
  const reading = (path: string): Ask => ({ url: new URL(`${site.url}${path}`), headers })
  const targets: [string, Ask, { cpu(): number }][] = [
    // What Node itself takes for an answer of this size: the floor.
    ['node:http, 1 KB', { url: new URL(`http://127.0.0.1:${port}/`), headers }, upstream],
    ['GET /health', reading('/health'), site.server],
    ['GET /connections/:id', reading(`/connections/${site.connectionId}?provider_config_key=sf`), site.server],
  ]
  const figures = new Map<string, { cpu: number; rate: number; p99: number }[]>(targets.map(([name]) => [name, []]))
  for (const [, ask] of targets) await load(ask, 16, ms)
  for (let round = 0; round < Number(values.rounds); round++)
    for (const [name, ask, server] of targets) {
      const before = server.cpu()
      const { latencies, seconds } = await load(ask, 16, ms)
      const cpu = (server.cpu() - before) / latencies.length
      figures.get(name)!.push({ cpu, rate: latencies.length / seconds, p99: quantile(latencies, 0.99) })
    }
  const rows = targets.map(([name]) => {
    const middle = (of: 'cpu' | 'rate' | 'p99') =>
      figures
        .get(name)!
        .map(one => one[of])
        .sort((a, b) => a - b)[Math.floor(Number(values.rounds) / 2)]!
    return {
      request: name,
      'CPU µs': Math.round(middle('cpu')),
      'per second and core': Math.round(1_000_000 / middle('cpu')),
      'requests/s': Math.round(middle('rate')),
      'p99 ms': Number(middle('p99').toFixed(1)),
    }
  })
  console.table(rows)
  console.log(JSON.stringify({ bench: 'read', rows }))
} finally {
  for (const close of closers.reverse()) await close()
}
