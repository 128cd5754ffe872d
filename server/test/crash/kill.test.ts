/**
 * kill -9, again and again: the real server with the embedded PostgreSQL and the durability it ships with is killed at random moments
 * while sign-ins run through it. Every connection whose page said "connected" must be there and open afterwards, and the server
 * must start by itself each time. FAIRLEAD_TEST_KILLS sets the rounds, FAIRLEAD_TEST_SEED repeats a run's moments.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { walkConsent } from '../../../demo/consent.ts'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { until } from '../db/until.ts'
import { freePort, request } from '../support/fairlead.ts'

const rounds = Number(process.env.FAIRLEAD_TEST_KILLS ?? 50)
const seed = Number(process.env.FAIRLEAD_TEST_SEED ?? Date.now() % 2 ** 31)
const workers = 4
const key = '6b1d7c1e-5a0e-4c57-9a44-3f8f4f1f4f10'
const integration = 'salesforce-sandbox'

/** Mulberry32: small, and the same numbers for the same seed. */
function randomFrom(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

test(`${rounds} times kill -9 lose no acknowledged connection`, async t => {
  t.diagnostic(`seed ${seed}`)
  const random = randomFrom(seed)
  const port = await freePort()
  const url = `http://localhost:${port}`
  const base = `http://127.0.0.1:${port}`
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-kill-'))
  const simulator = await startSimulator({
    callbacks: [`${url}/oauth/callback`],
    autoApprove: true,
    contacts: 1,
    // One user approves thousands of times here; Salesforce would end the oldest.
    settings: { maxApprovals: 1_000_000 },
  })
  const providers = join(dataDir, 'providers.yaml')
  await writeFile(providers, sandboxOverlay(simulator.base('test'), ['127.0.0.1']))

  let server: ChildProcess | undefined
  let said = ''
  t.after(async () => {
    await end(server, 'SIGKILL')
    await endPostgres(dataDir)
    await simulator.close()
    await rm(dataDir, { recursive: true, force: true, maxRetries: 5 })
  })

  function start(): ChildProcess {
    said = ''
    const child = spawn(process.execPath, [join(import.meta.dirname, '../../src/main.ts')], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH,
        PORT: String(port),
        FAIRLEAD_DATA_DIR: dataDir,
        FAIRLEAD_SECRET_KEY_DEV: key,
        FAIRLEAD_PROVIDERS: providers,
        FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
        LOG_LEVEL: 'warn',
      },
    })
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', text => {
        said += text
      })
    server = child
    return child
  }

  const call = (method: string, path: string, body?: object) =>
    request(`${base}${path}`, {
      method,
      headers: { Authorization: `Bearer ${key}`, ...(body && { 'Content-Type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    })

  async function ready(child: ChildProcess): Promise<void> {
    const giveUp = performance.now() + 30_000
    for (;;) {
      const answer = await fetch(`${base}/ready`).catch(() => undefined)
      await answer?.arrayBuffer().catch(() => {})
      if (answer?.status === 200) return
      assert.ok(child.exitCode === null && child.signalCode === null, `it ended instead of starting: ${said}`)
      assert.ok(performance.now() < giveUp, `not ready within 30 s: ${said}`)
      await sleep(10)
    }
  }

  /** End users whose sign-in ended with the page that says so. */
  const acknowledged = new Set<string>()
  /** Signs end users in until the server is gone. */
  async function signIn(round: number, worker: number): Promise<void> {
    for (let n = 0; ; n++) {
      const endUser = `round-${round}-worker-${worker}-${n}`
      try {
        const { json } = await call('POST', '/connect/sessions', { end_user: { id: endUser } })
        await walkConsent(`${url}/oauth/connect/${integration}?connect_session_token=${json.data.token}`)
      } catch (error) {
        // Only losing the server ends a worker. Any answer it gave instead is a failure of the test.
        if (server?.killed) return
        throw error
      }
      acknowledged.add(endUser)
    }
  }

  /** Half of the kills fall after the first success of their round, half anywhere from its beginning. */
  async function moment(before: number): Promise<void> {
    if (random() < 0.5) await until(() => acknowledged.size > before)
    await sleep(random() * 400)
  }

  /** End user → connection id. */
  async function stored(): Promise<Map<string, string>> {
    const ids = new Map<string, string>()
    for (let page = 0; ; page++) {
      const { json } = await call('GET', `/connections?limit=2000&page=${page}`)
      for (const { end_user, connection_id } of json.connections) ids.set(end_user.id, connection_id)
      if (json.connections.length < 2000) return ids
    }
  }

  async function opens(endUsers: Iterable<string>): Promise<void> {
    const ids = await stored()
    for (const endUser of acknowledged) assert.ok(ids.has(endUser), `${endUser} is lost (seed ${seed})`)
    for (const endUser of endUsers) {
      const { status, json } = await call('GET', `/connections/${ids.get(endUser)}?provider_config_key=${integration}`)
      assert.equal(status, 200, JSON.stringify(json))
      assert.match(json.credentials.access_token, /^00D/)
      assert.equal(json.connection_config.instance_url, simulator.base('acme--uat'))
    }
  }

  await ready(start())
  const { clientId, clientSecret } = simulator.app('acme--uat')
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  const made = await call('POST', '/integrations', { provider: integration, unique_key: integration, credentials })
  assert.equal(made.status, 200, JSON.stringify(made.json))

  const times: number[] = []
  let killedWhileStarting = 0
  for (let round = 0; round < rounds; round++) {
    const before = new Set(acknowledged)
    const running = server!
    const work = Array.from({ length: workers }, (_, worker) => signIn(round, worker))
    // A failure of a worker must end the wait, and must not be reported as unhandled before it.
    await Promise.race([moment(before.size), Promise.all(work)])
    await end(running, 'SIGKILL')
    await Promise.all(work)

    // Now and then the start after a kill is killed as well, anywhere between the first module and the first answer.
    for (let again = random(); again < 0.2; again = random()) {
      const starting = start()
      await sleep(random() * 700)
      await end(starting, 'SIGKILL')
      killedWhileStarting++
    }
    const began = performance.now()
    await ready(start())
    times.push(performance.now() - began)
    await opens([...acknowledged].filter(endUser => !before.has(endUser)))
  }
  await opens(acknowledged)
  await end(server, 'SIGTERM')
  assert.equal(server?.exitCode, 0, said)

  assert.ok(acknowledged.size >= rounds / 2, `too little was at stake: ${acknowledged.size} connections`)
  times.sort((a, b) => a - b)
  const at = (share: number) => Math.round(times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0)
  t.diagnostic(
    `${acknowledged.size} acknowledged connections, 0 lost; ${rounds} kills at work, ${killedWhileStarting} while starting`,
  )
  t.diagnostic(`ready after a kill, ms: median ${at(0.5)}, p95 ${at(0.95)}, worst ${at(1)}`)
})

async function end(child: ChildProcess | undefined, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}

/** PostgreSQL outlives a killed server by a moment; the folder cannot go before it. Only the one of this folder. */
async function endPostgres(dataDir: string): Promise<void> {
  const pidFile = join(dataDir, 'postgres', 'postmaster.pid')
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0])
  const ours = async () => {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    return command.includes(join(dataDir, 'postgres'))
  }
  if (!(pid > 0) || !(await ours())) return
  process.kill(pid, 'SIGQUIT')
  const giveUp = performance.now() + 10_000
  while ((await ours()) && performance.now() < giveUp) await sleep(20)
}
