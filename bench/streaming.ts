/**
 * Bodies that never end, beside the least a proxy can do: `node bench/streaming.ts [--down MB] [--up MB] [--streams N] [--seconds N]`.
 * How much a process grows over a large body in every framing, how much later the first byte comes, what a thousand slow streams
 * hold, how late server-sent events arrive. Both proxies run in turn against one upstream.
 */
import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { quantile } from './load.ts'
import { freePort, type Process, pin, start } from './processes.ts'
import { openSite } from './site.ts'

const { values } = parseArgs({
  options: {
    down: { type: 'string', default: '500' },
    up: { type: 'string', default: '200' },
    streams: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '20' },
  },
})
const [downMb, upMb, streams, seconds] = [values.down, values.up, values.streams, values.seconds].map(Number) as [
  number,
  number,
  number,
  number,
]

interface Proxy {
  name: string
  base: string
  headers: Record<string, string>
  process: Process
}

const reference = (name: string): string => join(import.meta.dirname, 'reference', name)
const closers: (() => Promise<void>)[] = []
const started = async (name: string, ...args: string[]): Promise<[Process, number]> => {
  const port = await freePort()
  const child = await start(process.execPath, [reference(name), String(port), ...args], port)
  closers.push(child.stop)
  return [child, port]
}

try {
  pin(process.pid, 0)
  const [upstream, upstreamPort] = await started('streams.ts')
  pin(upstream.pid, 0)
  const origin = `http://127.0.0.1:${upstreamPort}`
  const site = await openSite(origin)
  closers.push(site.stop)
  const [bare, barePort] = await started('undici.ts', origin)
  const proxies: Proxy[] = [
    { name: 'undici dispatch', base: `http://127.0.0.1:${barePort}`, headers: {}, process: bare },
    {
      name: 'fairlead',
      base: `${site.url}/proxy`,
      headers: { Authorization: `Bearer ${site.key}`, 'Provider-Config-Key': 'sf', 'Connection-Id': site.connectionId },
      process: site.server,
    },
  ]
  for (const { process: proxy } of proxies) pin(proxy.pid, 1)
  // What a process takes for its first streams it keeps; the rest is what more bytes cost.
  for (const proxy of proxies)
    for (const framing of ['length', 'chunked', 'gzip']) {
      await download(proxy, 32, framing)
      await upload(proxy, 32, framing)
    }

  const rows: Record<string, string | number>[] = []
  for (const [direction, mb, move] of [
    ['down', downMb, download],
    ['up', upMb, upload],
  ] as const)
    for (const framing of ['length', 'chunked', 'gzip'])
      for (const proxy of proxies) {
        const cpu = proxy.process.cpu()
        const from = performance.now()
        const grown = await growth(proxy.process, () => move(proxy, mb, framing))
        rows.push({
          body: `${mb} MB ${direction}, ${framing}`,
          proxy: proxy.name,
          'grew by MB': round(grown),
          'MB/s': round((mb * 1000) / (performance.now() - from), 0),
          'CPU ms/MB': round((proxy.process.cpu() - cpu) / 1000 / mb, 2),
        })
      }
  console.table(rows)

  const latency: Record<string, string | number>[] = []
  const firsts = new Map(proxies.map(({ name }) => [name, [] as number[]]))
  for (let round = 0; round < 100; round++)
    for (const proxy of proxies) firsts.get(proxy.name)!.push(await firstByte(proxy))
  const events = new Map(proxies.map(({ name }) => [name, [] as number[]]))
  for (let round = 0; round < 3; round++)
    for (const proxy of proxies) events.get(proxy.name)!.push(...(await eventDelays(proxy, 3_000)))
  for (const { name } of proxies) {
    const first = Float64Array.from(firsts.get(name)!).sort()
    const delays = Float64Array.from(events.get(name)!).sort()
    latency.push({
      proxy: name,
      'first byte p50 ms': round(quantile(first, 0.5), 2),
      'first byte p99 ms': round(quantile(first, 0.99), 2),
      'event p50 ms': round(quantile(delays, 0.5), 2),
      'event p99 ms': round(quantile(delays, 0.99), 2),
    })
  }
  console.table(latency)

  const slow: Record<string, string | number>[] = []
  for (const proxy of proxies) {
    const { before, most, cpu, pieces } = await slowStreams(proxy)
    slow.push({
      proxy: proxy.name,
      streams,
      'RSS before MB': round(before),
      'most MB': round(most),
      'KB per stream': round(((most - before) * 1024) / streams),
      'KB received per stream': round(pieces / streams),
      'CPU % of a core': round(cpu),
    })
  }
  console.table(slow)
  console.log(JSON.stringify({ bench: 'streaming', rows, latency, slow }))
} finally {
  for (const close of closers.reverse()) await close()
}

function ask({ base, headers }: Proxy, path: string, method = 'GET', more: Record<string, string> = {}): ClientRequest {
  const { hostname, port, pathname } = new URL(base)
  return request({
    hostname,
    port,
    path: `${pathname.replace(/\/$/, '')}${path}`,
    method,
    headers: { ...headers, ...more },
    agent: false,
  })
}

async function answered(req: ClientRequest): Promise<IncomingMessage> {
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  if (res.statusCode !== 200) throw new Error(`answered ${res.statusCode}`)
  return res
}

async function download(proxy: Proxy, mb: number, framing: string): Promise<void> {
  const res = await answered(ask(proxy, `/down?mb=${mb}&framing=${framing}`).end())
  let bytes = 0
  for await (const piece of res) bytes += piece.length
  if (bytes !== mb << 20) throw new Error(`${bytes} bytes came down`)
}

async function upload(proxy: Proxy, mb: number, framing: string): Promise<void> {
  const megabyte = Buffer.alloc(1 << 20, 'streams of it, ')
  const req = ask(proxy, '/up', 'POST', {
    'Content-Type': 'application/octet-stream',
    ...(framing === 'gzip' && { 'Content-Encoding': 'gzip' }),
    ...(framing === 'chunked' ? { 'Transfer-Encoding': 'chunked' } : { 'Content-Length': String(mb << 20) }),
  })
  const done = answered(req)
  for (let left = mb; left > 0; left--) if (!req.write(megabyte)) await once(req, 'drain')
  req.end()
  const said = String(await (await done).toArray())
  if (Number(said) !== mb << 20) throw new Error(`${said} bytes went up`)
}

/** MB, at the most, by samples of its resident memory. */
async function growth(proxy: Process, work: () => Promise<void>): Promise<number> {
  const before = proxy.rss()
  let most = before
  const watch = setInterval(() => {
    most = Math.max(most, proxy.rss())
  }, 20)
  try {
    await work()
  } finally {
    clearInterval(watch)
  }
  return most - before
}

async function firstByte(proxy: Proxy): Promise<number> {
  const from = performance.now()
  const req = ask(proxy, '/down?mb=8&framing=chunked').end()
  const res = await answered(req)
  await once(res, 'data')
  const took = performance.now() - from
  req.destroy()
  return took
}

async function eventDelays(proxy: Proxy, ms: number): Promise<number[]> {
  const req = ask(proxy, '/events').end()
  const res = await answered(req)
  const delays: number[] = []
  const until = performance.now() + ms
  for await (const piece of res) {
    const now = performance.timeOrigin + performance.now()
    for (const [, at] of String(piece).matchAll(/data: \d+ ([\d.]+)/g)) delays.push(now - Number(at))
    if (performance.now() > until) break
  }
  req.destroy()
  return delays
}

async function slowStreams(proxy: Proxy) {
  const before = proxy.process.rss()
  const cpuBefore = proxy.process.cpu()
  let most = before
  let pieces = 0
  const watch = setInterval(() => {
    most = Math.max(most, proxy.process.rss())
  }, 250)
  const open = await Promise.all(
    Array.from({ length: streams }, async (_, i) => {
      await sleep(i)
      const req = ask(proxy, '/slow').on('error', () => {})
      req.end()
      const res = await answered(req)
      res.on('data', piece => {
        pieces += piece.length / 1024
      })
      return req
    }),
  )
  await sleep(seconds * 1000)
  clearInterval(watch)
  const cpu = (proxy.process.cpu() - cpuBefore) / (seconds + streams / 1000) / 10_000
  for (const req of open) req.destroy()
  await sleep(500)
  return { before, most, cpu, pieces }
}

function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits))
}
