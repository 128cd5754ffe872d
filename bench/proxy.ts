/**
 * What a call through the proxy costs beside the least a proxy can do: `node bench/proxy.ts [--seconds N] [--rounds N]`.
 * Everything runs interleaved in one go, because ratios hold where absolute figures depend on the machine. The proxy under test has
 * core 1 to itself, callers and upstream share core 0 (with taskset; without it the ratios are noisier).
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Ask, load, quantile } from './load.ts'
import { freePort, type Process, pin, start } from './processes.ts'
import { openSite } from './site.ts'

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '2' }, rounds: { type: 'string', default: '5' } },
})
const ms = Number(values.seconds) * 1000
const rounds = Number(values.rounds)

interface Target {
  name: string
  ask: Ask
  /** Undefined: the upstream itself, called directly. */
  process?: Process
}

/** One measurement of one target. */
interface Figures {
  /** Microseconds of the proxy's CPU per request. */
  cpu: number
  perSecond: number
  p50: number
  p99: number
}

const reference = (name: string): string => join(import.meta.dirname, 'reference', name)
const upstreamPort = await freePort()
const upstream = `http://127.0.0.1:${upstreamPort}`
const closers: (() => Promise<void>)[] = []
const started = async (name: string, port: number): Promise<Process> => {
  const child = await start(process.execPath, [reference(name), String(port), upstream], port)
  closers.push(child.stop)
  return child
}

try {
  pin(process.pid, 0)
  pin((await started('upstream.ts', upstreamPort)).pid, 0)
  const site = await openSite(upstream)
  closers.push(site.stop)

  const path = '/services/data/v66.0/query?q=SELECT+Id+FROM+Account'
  // What an SDK sends along.
  const headers = { Accept: 'application/json', 'User-Agent': 'bench/1', 'Content-Type': 'application/json' }
  const through = (port: number): Ask => ({ url: new URL(`http://127.0.0.1:${port}${path}`), headers })
  const ours = (prefix: string): Ask => ({
    url: new URL(`${site.url}${prefix}${path}`),
    headers: {
      ...headers,
      Authorization: `Bearer ${site.key}`,
      'Provider-Config-Key': 'sf',
      'Connection-Id': site.connectionId,
    },
  })
  const targets: Target[] = [{ name: 'direct', ask: through(upstreamPort) }]
  for (const [name, file] of [
    ['undici dispatch', 'undici.ts'],
    ['node:http', 'node-http.ts'],
  ] as const) {
    const port = await freePort()
    targets.push({ name, ask: through(port), process: await started(file, port) })
  }
  const nginx = await startNginx()
  if (nginx) targets.push(nginx)
  targets.push({ name: 'fairlead', ask: ours('/proxy'), process: site.server })
  for (const { process: proxy } of targets) if (proxy) pin(proxy.pid, 1)

  const figures = new Map<string, Figures[]>()
  // Less, and V8 is still compiling what it measures: a fifth of the CPU in the first seconds.
  for (let turn = 0; turn < 4; turn++) for (const { ask } of targets) await load(ask, 16, 2_000)
  for (let round = 0; round < rounds; round++)
    for (const connections of [1, 16, 64])
      for (const target of targets) {
        const key = `${target.name} ${connections}`
        figures.set(key, [...(figures.get(key) ?? []), await measure(target, connections)])
      }

  const at = (name: string, connections: number) => medians(figures.get(`${name} ${connections}`)!)
  const bare = 'undici dispatch'
  const rows = targets.map(({ name }) => {
    const [one, sixteen, sixtyFour] = [at(name, 1), at(name, 16), at(name, 64)]
    return {
      proxy: name,
      'CPU µs/request (64)': round(sixtyFour.cpu, 0),
      '× undici': round(sixtyFour.cpu / at(bare, 64).cpu),
      'CPU µs (16)': round(sixteen.cpu, 0),
      'requests/s at 16': round(sixteen.perSecond, 0),
      '16 × undici': round(sixteen.perSecond / at(bare, 16).perSecond),
      'requests/s at 64': round(sixtyFour.perSecond, 0),
      '64 × undici': round(sixtyFour.perSecond / at(bare, 64).perSecond),
      'p50 ms added at 1': round(one.p50 - at('direct', 1).p50),
      'p99 ms at 64': round(sixtyFour.p99),
    }
  })
  console.table(rows)
  console.log(JSON.stringify({ bench: 'proxy', rows }))
} finally {
  for (const close of closers.reverse()) await close()
}

async function measure({ ask, process: proxy }: Target, connections: number): Promise<Figures> {
  const before = proxy?.cpu() ?? 0
  const { latencies, seconds } = await load(ask, connections, ms)
  const cpu = ((proxy?.cpu() ?? 0) - before) / latencies.length
  return {
    cpu,
    perSecond: latencies.length / seconds,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
  }
}

/** Rounds are short and a machine has other things to do: the middle one of each figure. */
function medians(rows: Figures[]): Figures {
  const middle = (key: keyof Figures) => rows.map(row => row[key]).sort((a, b) => a - b)[Math.floor(rows.length / 2)]!
  return { cpu: middle('cpu'), perSecond: middle('perSecond'), p50: middle('p50'), p99: middle('p99') }
}

function round(value: number, digits = 2): number {
  return Number(value.toFixed(digits))
}

/** One worker that keeps its connections to the upstream, as nginx is set up in front of an API. */
async function startNginx(): Promise<Target | undefined> {
  if (spawnSync('nginx', ['-v'], { stdio: 'ignore' }).status !== 0) return undefined
  const port = await freePort()
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-nginx-'))
  closers.push(async () => rmSync(folder, { recursive: true, force: true }))
  const config = join(folder, 'nginx.conf')
  writeFileSync(
    config,
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
    events { worker_connections 1024; }
    http {
      access_log off; client_body_temp_path ${folder}; proxy_temp_path ${folder}; keepalive_requests 10000000;
      fastcgi_temp_path ${folder}; uwsgi_temp_path ${folder}; scgi_temp_path ${folder};
      upstream api { server 127.0.0.1:${upstreamPort}; keepalive 128; keepalive_requests 10000000; }
      server {
        listen 127.0.0.1:${port};
        location / { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }
      }
    }`,
  )
  const child = await start('nginx', ['-c', config, '-e', join(folder, 'error.log')], port)
  closers.push(child.stop)
  return { name: 'nginx', ask: { url: new URL(`http://127.0.0.1:${port}/api`) }, process: child }
}
