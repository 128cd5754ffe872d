/**
 * `npm run prove -- --refreshes 1000000`: schedules of the simulation, one seed after the other, until that many token requests were made.
 * `--seed N` plays one schedule, with `--trace` step by step; `--from N` begins elsewhere; `--world '{"kind":"grace"}'` fixes circumstances.
 * Ends with an exit code when anything broke that must never break.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type Circumstances, type Report, simulate } from './schedule.ts'

interface Share {
  from: number
  step: number
  refreshes: number
  circumstances: Partial<Circumstances>
}

interface Totals {
  schedules: number
  steps: number
  tokenRequests: number
  introspections: number
  kinds: Record<string, number>
  outcomes: Record<string, number>
  breaks: { seed: number; kind: string; invariant: string; note: string }[]
}

const nothing = (): Totals => ({
  schedules: 0,
  steps: 0,
  tokenRequests: 0,
  introspections: 0,
  kinds: {},
  outcomes: {},
  breaks: [],
})

const count = (into: Record<string, number>, name: string, by: number): void => {
  into[name] = (into[name] ?? 0) + by
}

function add(totals: Totals, report: Report): void {
  totals.schedules++
  totals.steps += report.events
  totals.tokenRequests += report.tokenRequests
  totals.introspections += report.introspections
  count(totals.kinds, report.kind, 1)
  for (const [name, by] of report.counts) count(totals.outcomes, name, by)
  const { seed, kind } = report
  for (const { invariant, note } of report.breaches) totals.breaks.push({ seed, kind, invariant, note })
}

async function work({ from, step, refreshes, circumstances }: Share): Promise<Totals> {
  const totals = nothing()
  for (let seed = from; totals.tokenRequests < refreshes; seed += step)
    add(totals, await simulate(seed, { circumstances }))
  return totals
}

const inWorker = (share: Share): Promise<Totals> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: share })
    worker.once('message', resolve)
    worker.once('error', reject)
  })

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      refreshes: { type: 'string', default: '100000' },
      seed: { type: 'string' },
      from: { type: 'string', default: '1' },
      world: { type: 'string', default: '{}' },
      trace: { type: 'boolean', default: false },
    },
  })
  const circumstances = JSON.parse(values.world) as Partial<Circumstances>
  if (values.seed !== undefined) {
    const report = await simulate(Number(values.seed), { circumstances, trace: values.trace })
    for (const line of report.trace ?? []) console.log(line)
    for (const { invariant, note, at } of report.breaches)
      console.log(`BROKEN ${invariant} at ${(at / 1000).toFixed(3)} s: ${note}`)
    console.log(`seed ${values.seed}: ${report.kind}, ${report.tokenRequests} token requests, ${report.events} steps`)
    process.exitCode = report.breaches.length > 0 ? 1 : 0
    return
  }

  const began = performance.now()
  const workers = availableParallelism()
  const refreshes = Math.ceil(Number(values.refreshes) / workers)
  const from = Number(values.from)
  const shares = Array.from({ length: workers }, (_, i) => ({
    from: from + i,
    step: workers,
    refreshes,
    circumstances,
  }))
  const totals = nothing()
  for (const part of await Promise.all(shares.map(inWorker))) {
    totals.schedules += part.schedules
    totals.steps += part.steps
    totals.tokenRequests += part.tokenRequests
    totals.introspections += part.introspections
    for (const [name, by] of Object.entries(part.kinds)) count(totals.kinds, name, by)
    for (const [name, by] of Object.entries(part.outcomes)) count(totals.outcomes, name, by)
    totals.breaks.push(...part.breaks)
  }

  const line = (name: string, value: number) => console.log(`${value.toLocaleString('en').padStart(14)}  ${name}`)
  line('schedules', totals.schedules)
  line('steps', totals.steps)
  line('token requests', totals.tokenRequests)
  line('introspections', totals.introspections)
  for (const [name, value] of Object.entries(totals.kinds).sort()) line(`schedules of kind ${name}`, value)
  for (const [name, value] of Object.entries(totals.outcomes).sort()) line(name, value)
  line('breaks', totals.breaks.length)
  for (const { seed, kind, invariant, note } of totals.breaks.slice(0, 50))
    console.log(`BROKEN ${invariant}, seed ${seed} (${kind}): ${note}`)
  console.log(`in ${((performance.now() - began) / 1000).toFixed(0)} s on ${workers} cores`)
  process.exitCode = totals.breaks.length > 0 ? 1 : 0
}

if (isMainThread) await main()
else parentPort!.postMessage(await work(workerData as Share))
