/**
 * One provider hangs, another one works: `node bench/isolation.ts [--calls N] [--seconds N]`. Callers of the one that works are measured
 * in turn without and with N calls waiting on the one that hangs; then it answers again, and so must everything.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Ask, type Load, load, quantile } from './load.ts'
import { freePort, pin, start } from './processes.ts'
import { openSite } from './site.ts'

const { values } = parseArgs({
  options: {
    calls: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '5' },
  },
})
const calls = Number(values.calls)
const ms = Number(values.seconds) * 1000
const rounds = Number(values.rounds)
const closers: (() => Promise<void>)[] = []
/** As server/src/proxy/lanes.ts has it. */
const mostAtOnce = 2_048
/** How long each round took to have all its calls refused or waiting, in ms. */
const openedAfter: number[] = []

/** In this process, because it does nothing. */
const held: ServerResponse[] = []
let answers = false
const hanging = createServer((_req, res) => {
  if (answers) res.end('ok')
  else held.push(res)
})
hanging.maxConnections = 100_000
hanging.listen(0, '127.0.0.1', 4_096)
await once(hanging, 'listening')

try {
  pin(process.pid, 0)
  const port = await freePort()
  const upstream = await start(
    process.execPath,
    [join(import.meta.dirname, 'reference/upstream.ts'), String(port)],
    port,
  )
  closers.push(upstream.stop)
  pin(upstream.pid, 0)
  const hangingUrl = `http://127.0.0.1:${(hanging.address() as AddressInfo).port}`
  const site = await openSite(`http://127.0.0.1:${port}`, hangingUrl)
  closers.push(site.stop)
  pin(site.server.pid, 1)
  const asking = (path: string, integration: string): Ask => ({
    url: new URL(`${site.url}/proxy${path}`),
    headers: {
      Authorization: `Bearer ${site.key}`,
      'Provider-Config-Key': integration,
      'Connection-Id': integration === 'sf' ? site.connectionId : site.secondId!,
    },
  })
  const works = asking('/x', 'sf')
  const hangs = asking('/x', 'second')
  const measure = async () => {
    const before = site.server.cpu()
    const figures = await load(works, 16, ms)
    return { ...figures, cpu: (site.server.cpu() - before) / figures.latencies.length }
  }

  await load(works, 16, ms)
  const quiet: (Load & { cpu: number })[] = []
  const hung: (Load & { cpu: number })[] = []
  const restMb = site.server.rss()
  let mostMb = restMb
  const mostByRound: number[] = []
  const watch = setInterval(() => {
    mostMb = Math.max(mostMb, site.server.rss())
  }, 100)
  const statuses = new Map<string, number>()
  let waiting: Waiting[] = []
  for (let round = 0; round < rounds; round++) {
    quiet.push(await measure())
    waiting = await open(hangs, calls, statuses)
    hung.push(await measure())
    mostByRound.push(Math.round(mostMb))
    mostMb = 0
    if (round < rounds - 1) await hangUp(waiting)
  }
  clearInterval(watch)

  // It answers again: those that waited get their answers, new calls are let through at once.
  answers = true
  for (const res of held.splice(0)) res.end('ok')
  const from = performance.now()
  const left = () => waiting.filter(one => one.status === undefined).length
  while (left() > 0 && performance.now() - from < 30_000) await sleep(10)
  const recovered = performance.now() - from
  for (const { status } of waiting) statuses.set(`after: ${status}`, (statuses.get(`after: ${status}`) ?? 0) + 1)
  await hangUp(waiting)
  const after = await load(hangs, 16, 1_000)
  const later: (Load & { cpu: number })[] = []
  for (let round = 0; round < rounds; round++) later.push(await measure())

  const figure = (list: (Load & { cpu: number })[], of: (one: Load & { cpu: number }) => number) =>
    list.map(of).sort((a, b) => a - b)[Math.floor(list.length / 2)]!
  const row = (name: string, list: (Load & { cpu: number })[]) => ({
    'the other provider': name,
    'p50 ms': round(figure(list, one => quantile(one.latencies, 0.5))),
    'p99 ms': round(figure(list, one => quantile(one.latencies, 0.99))),
    'CPU µs/request': round(
      figure(list, one => one.cpu),
      0,
    ),
    'requests/s': round(
      figure(list, one => one.latencies.length / one.seconds),
      0,
    ),
  })
  const rows = [row('quiet', quiet), row(`${calls} calls hang`, hung), row('answers again', later)]
  console.table(rows)
  const p99 = (list: (Load & { cpu: number })[]) => figure(list, one => quantile(one.latencies, 0.99))
  const summary = {
    'p99 ratio': round(p99(hung) / p99(quiet)),
    'CPU ratio': round(figure(hung, one => one.cpu) / figure(quiet, one => one.cpu)),
    'RSS at rest MB': round(restMb, 0),
    'RSS most MB, by round': mostByRound.join(' '),
    'RSS after MB': round(site.server.rss(), 0),
    'all refused or waiting after ms, by round': openedAfter.join(' '),
    'waiting answered after ms': round(recovered, 0),
    'never answered': left(),
    'requests/s of it afterwards': round(after.latencies.length / after.seconds, 0),
  }
  console.table(summary)
  console.log('answers to the calls that hang:', Object.fromEntries(statuses))
  console.log(JSON.stringify({ bench: 'isolation', rows, summary }))
} finally {
  hanging.closeAllConnections()
  hanging.close()
  for (const close of closers.reverse()) await close()
}

interface Waiting {
  socket: Socket
  status: string | undefined
}

/** Resolves when each call was refused or waits at the host that hangs, or waits for a connection to it, which nobody sees. */
async function open({ url, headers }: Ask, count: number, statuses: Map<string, number>): Promise<Waiting[]> {
  const lines = Object.entries({ Host: url.host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  const bytes = `GET ${url.pathname} HTTP/1.1\r\n${lines.join('')}\r\n`
  const all: Waiting[] = []
  for (let at = 0; at < count; at++) {
    const waiting: Waiting = { socket: connect(Number(url.port), url.hostname), status: undefined }
    waiting.socket.on('error', () => {
      waiting.status ??= 'broke'
    })
    waiting.socket.on('data', piece => {
      waiting.status ??= /Fairlead-Error: (\w+)/i.exec(String(piece))?.[1] ?? String(piece).slice(9, 12)
    })
    waiting.socket.write(bytes)
    all.push(waiting)
    if (at % 100 === 99) await sleep(5)
  }
  // 2,048 calls to one host may be under way; the others are refused.
  const refused = () => all.filter(one => one.status !== undefined).length
  const from = performance.now()
  while (refused() < count - mostAtOnce && performance.now() - from < 30_000) await sleep(50)
  openedAfter.push(Math.round(performance.now() - from))
  for (const { status } of all) statuses.set(status ?? 'waits', (statuses.get(status ?? 'waits') ?? 0) + 1)
  return all
}

async function hangUp(waiting: Waiting[]): Promise<void> {
  for (const { socket } of waiting) socket.destroy()
  held.length = 0
  await sleep(1_000)
}

function round(value: number, digits = 2): number {
  return Number(value.toFixed(digits))
}
