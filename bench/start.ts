/**
 * How long a start takes, from the command to the first connection it takes: with the catalogue alone, and with a definition file of a thousand entries
 * laid over it, in turn, on one data folder (so each but the first is a second start). `node bench/start.ts [--rounds N]`. The CPU time is
 * the server's alone, to compare on a machine that has other work.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { manyDefinitions, manyEntries } from '../server/test/provider/many.ts'
import { quantile } from './load.ts'
import { freePort, start } from './processes.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' } }, strict: false })
const folder = await mkdtemp(join(tmpdir(), 'fairlead-start-'))
const definitions = join(folder, 'many.yaml')
await writeFile(definitions, manyDefinitions())
const main = join(import.meta.dirname, '../server/src/main.ts')

async function once(providers: string | undefined): Promise<{ ms: number; cpuMs: number }> {
  const port = await freePort()
  const { PATH, HOME } = process.env
  const from = performance.now()
  const server = await start(process.execPath, [main], port, {
    ...{ PATH, HOME, PORT: String(port), FAIRLEAD_DATA_DIR: join(folder, 'data'), LOG_LEVEL: 'error' },
    ...(providers && { FAIRLEAD_PROVIDERS: providers }),
  })
  const took = { ms: performance.now() - from, cpuMs: server.cpu() / 1000 }
  await server.stop()
  return took
}

const median = (numbers: number[]): number => Math.round(quantile(Float64Array.from(numbers).sort(), 0.5))

try {
  await once(definitions)
  const took: Record<string, { ms: number; cpuMs: number }[]> = {
    'catalogue alone': [],
    [`${manyEntries} beside it`]: [],
  }
  for (let round = 0; round < Number(values.rounds); round++)
    for (const [what, rounds] of Object.entries(took))
      rounds.push(await once(what === 'catalogue alone' ? undefined : definitions))
  const rows = Object.entries(took).map(([definitions, rounds]) => ({
    definitions,
    ready_ms: median(rounds.map(({ ms }) => ms)),
    cpu_ms: median(rounds.map(({ cpuMs }) => cpuMs)),
  }))
  console.table(rows)
  console.log(JSON.stringify({ bench: 'start', rows }))
} finally {
  // A server told to stop before it was up leaves PostgreSQL a moment behind.
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
}
