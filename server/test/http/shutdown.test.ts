/** A stop seen from outside: the real process, a real signal. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { shutdownGrace } from '../../src/credential/timing.ts'
import { connectThrough, naming, open, send, startWorld } from '../proxy/world.ts'
import { testDatabase } from '../support/database.ts'
import { type Fairlead, freePort, request } from '../support/fairlead.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

interface Server {
  url: string
  key: string
  dataDir: string
  child: ChildProcess
  output(): string
  exited: Promise<[code: number | null, signal: string | null]>
}

async function startServer(dataDir: string, env: Record<string, string>): Promise<Server> {
  const port = await freePort()
  const key = randomUUID()
  const child = spawn(process.execPath, [main], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      PORT: String(port),
      FAIRLEAD_DATA_DIR: dataDir,
      FAIRLEAD_SECRET_KEY_DEV: key,
      FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
      ...env,
    },
  })
  let output = ''
  for (const stream of [child.stdout!, child.stderr!])
    stream.setEncoding('utf8').on('data', text => {
      output += text
    })
  const exited = once(child, 'exit') as Promise<[number | null, string | null]>
  return { url: `http://127.0.0.1:${port}`, key, dataDir, child, output: () => output, exited }
}

async function until(what: () => boolean | Promise<boolean>, why: () => string): Promise<void> {
  for (const end = Date.now() + 60_000; !(await what()); ) {
    assert.ok(Date.now() < end, why())
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

const ready = (server: Server) =>
  until(
    () => server.output().includes('"ready"'),
    () => `never ready: ${server.output()}`,
  )

const statusOf = (url: string): Promise<number | string> =>
  send(url, { path: '/ready' }).then(
    got => got.status,
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  )

test('SIGTERM during a call: not ready at once, the call ends whole, the process ends with 0', async () => {
  const atEnd: (() => Promise<void>)[] = []
  const atEndOf = { after: (work: () => Promise<void>) => void atEnd.unshift(work) }
  try {
    const world = await startWorld(atEndOf)
    const database = await testDatabase(atEndOf)
    const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-stop-'))
    atEnd.unshift(() => rm(dataDir, { recursive: true, force: true }))
    const providers = join(dataDir, 'providers.yaml')
    await writeFile(providers, world.providers)
    const server = await startServer(dataDir, {
      DATABASE_URL: database.url,
      FAIRLEAD_ENCRYPTION_KEY: randomBytes(32).toString('base64'),
      FAIRLEAD_PROVIDERS: providers,
    })
    atEnd.unshift(async () => void server.child.kill('SIGKILL'))
    await ready(server)
    const fairlead = outside(server)
    await fairlead.call('POST', '/integrations', {
      provider: 'own',
      unique_key: 'own',
      credentials: { type: 'OAUTH2', client_id: 'id', client_secret: 'secret' },
    })
    world.issuer.instanceUrl = world.upstream.url
    const id = await connectThrough(fairlead, 'own')
    assert.equal(await statusOf(server.url), 200)

    const asked = Promise.withResolvers<void>()
    const finish = Promise.withResolvers<void>()
    world.upstream.answer = async (_req, res) => {
      asked.resolve()
      await finish.promise
      res.end('whole')
    }
    // A keep-alive caller, whose connection would otherwise stay open for a minute after its answer.
    const call = open(server.url, {
      path: '/proxy/x',
      headers: { ...naming({ ...world, fairlead }, id), Connection: 'keep-alive' },
    })
    await asked.promise
    server.child.kill('SIGTERM')
    await until(
      () => server.output().includes('"stopping"'),
      () => 'the signal was not heard',
    )
    assert.equal(await statusOf(server.url), 503)
    finish.resolve()
    const [res] = await once(call, 'response')
    assert.deepEqual([res.statusCode, String(await res.toArray())], [200, 'whole'])
    const since = performance.now()
    assert.deepEqual(await server.exited, [0, null])
    assert.ok(performance.now() - since < 2_000, 'it lingered')
    assert.match(server.output(), /"stopped"/)
    assert.equal(await statusOf(server.url), 'ECONNREFUSED')
  } finally {
    for (const end of atEnd) await end()
  }
})

test('one data folder, one server: the second is refused in a sentence; an idle one stops at once', async t => {
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-twice-'))
  const first = await startServer(dataDir, {})
  t.after(async () => {
    first.child.kill('SIGKILL')
    await rm(dataDir, { recursive: true, force: true })
  })
  await ready(first)

  const second = await startServer(dataDir, {})
  assert.deepEqual(await second.exited, [1, null])
  assert.match(second.output(), new RegExp(`Another Fairlead server \\(process ${first.child.pid}\\) is running`))
  assert.match(second.output(), /FAIRLEAD_DATA_DIR/)
  assert.doesNotMatch(second.output(), /\n\s+at /)
  assert.equal(await statusOf(first.url), 200)

  // A caller that keeps its connection for later does not hold the server.
  const idle = open(first.url, { path: '/health', headers: { Connection: 'keep-alive' } })
  const [res] = await once(idle, 'response')
  await res.toArray()
  const since = performance.now()
  first.child.kill('SIGTERM')
  assert.deepEqual(await first.exited, [0, null])
  const took = performance.now() - since
  assert.ok(took < shutdownGrace / 2, `${Math.round(took)} ms: it waited for the idle caller until the grace was over`)
})

/** The calls of `Fairlead` on a server in a process of its own. */
function outside(server: Server): Fairlead {
  const url = server.url.replace('127.0.0.1', 'localhost')
  const call: Fairlead['call'] = (method, path, body) =>
    request(`${server.url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${server.key}`, 'Content-Type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  const app = { url, port: 0, generatedKeys: [], setupLink: undefined, stop: async () => {} }
  return { url: server.url, key: server.key, databaseUrl: '', servers: 1, log: server.output, call, app }
}
