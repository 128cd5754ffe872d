/** A whole server in this process, on a database of its own, with the client calls a test makes all the time. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import { startBalancer, startConnectionBalancer } from '../../../bench/balancer.ts'
import { type App, startApp } from '../../src/app.ts'
import { type Config, readConfig } from '../../src/config.ts'
import { defaultTiming, type Timing } from '../../src/credential/timing.ts'
import { testDatabase } from './database.ts'
import { lastFirst } from './last-first.ts'

export interface Fairlead {
  url: string
  /** API key of `dev`, with every scope. */
  key: string
  app: App
  databaseUrl: string
  /** How many take turns at `url`. */
  servers: number
  /** Everything the server logged so far. */
  log(): string
  /** A call with the key; `body` goes as JSON. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
}

export interface Answer {
  status: number
  headers: Headers
  text: string
  /** The body as JSON; undefined when it is none. */
  // biome-ignore lint/suspicious/noExplicitAny: a test reads members of whatever came back
  json: any
}

interface Options {
  env?: Record<string, string>
  /** YAML laid over the built-in catalogue. */
  providers?: string
  timing?: Timing
  /** 1 although there could be more (below): the test is about what one process has or knows by itself, and says what that is. */
  replicas?: 1
  /** How turns are taken among several. By connection where bytes are looked at, which a balancer that speaks HTTP writes anew. */
  turns?: 'by request' | 'by connection'
}

type Test = { after(work: () => Promise<void>): void }

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  return typeof address === 'object' && address ? address.port : 0
}

export async function startFairlead(t: Test, options: Options = {}): Promise<Fairlead> {
  const opened = lastFirst(t)
  const database = await testDatabase(opened)
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-app-'))
  const port = await freePort()
  const key = randomUUID()
  const providersPath = join(dataDir, 'providers.yaml')
  if (options.providers) await import('node:fs/promises').then(fs => fs.writeFile(providersPath, options.providers!))
  const config = readConfig({
    PORT: String(port),
    FAIRLEAD_URL: `http://127.0.0.1:${port}`,
    FAIRLEAD_DATA_DIR: dataDir,
    DATABASE_URL: database.url,
    FAIRLEAD_ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    FAIRLEAD_SECRET_KEY_DEV: key,
    FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
    ...(options.providers && { FAIRLEAD_PROVIDERS: providersPath }),
    ...options.env,
  })
  let logged = ''
  const sink = new Writable({
    write(chunk, _encoding, done) {
      logged += chunk
      done()
    },
  })
  opened.after(() => rm(dataDir, { recursive: true, force: true }))
  const log = pino({ level: 'debug' }, sink)
  const start = (config: Config) => startApp(config, log, options.timing ?? defaultTiming)
  const count = options.replicas ?? replicas
  const app = count === 1 ? await start(config) : await startReplicas(opened, config, start, options.turns)
  opened.after(app.stop)
  const url = `http://127.0.0.1:${port}`
  return {
    url,
    key,
    app,
    databaseUrl: database.url,
    servers: count,
    log: () => logged,
    call: (method, path, body, headers = {}) =>
      request(`${url}${path}`, {
        method,
        headers: {
          Authorization: `Bearer ${key}`,
          ...(body !== undefined && { 'Content-Type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
  }
}

/**
 * FAIRLEAD_TEST_REPLICAS=3 (`npm run test:replicas`): every test that starts a server starts so many, behind a round-robin proxy at the one's
 * address. What holds for one must hold for them, except where a test asks for one.
 */
const replicas = Number(process.env.FAIRLEAD_TEST_REPLICAS ?? 1)

async function startReplicas(
  opened: Test,
  config: Config,
  start: (config: Config) => Promise<App>,
  turns: Options['turns'],
): Promise<App> {
  const balancer = await (turns === 'by connection' ? startConnectionBalancer : startBalancer)(config.port)
  opened.after(async () => balancer.stop())
  const apps: App[] = []
  for (let n = 0; n < replicas; n++) {
    const dataDir = join(config.dataDir, String(n))
    const app = await start({ ...config, dataDir, port: 0 })
    opened.after(app.stop)
    apps.push(app)
  }
  balancer.serve(apps.map(({ port }) => port))
  const stop = async (lingerMs?: number) => {
    await Promise.all(apps.map(app => app.stop(lingerMs)))
  }
  return { ...apps[0]!, port: config.port, stop }
}

export async function request(url: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, { redirect: 'manual', ...init })
  const text = await response.text()
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {}
  return { status: response.status, headers: response.headers, text, json }
}

/** A browser's cookies, by host: enough to walk a redirect flow without a browser. */
export class Browser {
  readonly #cookies = new Map<string, Map<string, string>>()

  async open(url: string, init: RequestInit = {}): Promise<Answer & { location: string | null }> {
    const host = new URL(url).host
    const jar = this.#cookies.get(host) ?? new Map<string, string>()
    this.#cookies.set(host, jar)
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
    // As a browser says of a click on a page of the same site.
    const headers = { 'Sec-Fetch-Site': 'same-origin', ...(cookie && { cookie }), ...init.headers }
    const answer = await request(url, { ...init, headers })
    for (const line of answer.headers.getSetCookie()) {
      const [pair = ''] = line.split(';')
      const cut = pair.indexOf('=')
      if (/max-age=0/i.test(line)) jar.delete(pair.slice(0, cut))
      else jar.set(pair.slice(0, cut), pair.slice(cut + 1))
    }
    const location = answer.headers.get('location')
    return { ...answer, location: location && new URL(location, url).href }
  }

  /** Follows redirects by GET until a page answers. */
  async follow(url: string): Promise<Answer & { url: string }> {
    for (let at = url, hops = 0; hops < 20; hops++) {
      const answer = await this.open(at)
      if (!answer.location) return { ...answer, url: at }
      at = answer.location
    }
    throw new Error('too many redirects')
  }
}
