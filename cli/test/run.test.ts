/** Commands that start what stands beside the program, and the doctor: what they print, how they stop, and with which exit code. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSite } from '../../server/test/connection/support/site.ts'
import { testDatabase } from '../../server/test/support/database.ts'
import { freePort, request } from '../../server/test/support/fairlead.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'
import { bin, run } from './support.ts'

interface Ends {
  after(work: () => Promise<void>): void
}

/** The program in a process group of its own, as a terminal would start it. */
function launch(t: Ends, args: string[], env: Record<string, string>) {
  const child = spawn(process.execPath, [bin, ...args], {
    detached: true,
    env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', ...env },
  })
  const printed = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', piece => {
    printed.out += piece
  })
  child.stderr.setEncoding('utf8').on('data', piece => {
    printed.err += piece
  })
  const ended = new Promise<number | null>(resolve => child.on('close', resolve))
  t.after(async () => {
    if (child.exitCode === null) child.kill('SIGTERM')
    await ended
  })
  /** Resolves when it is printed; an end before that is a failure with everything it said. */
  const says = (words: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const look = () => words.test(printed.out) && resolve()
      child.stdout.on('data', look)
      look()
      void ended.then(code => reject(new Error(`ended with ${code}: ${printed.out}${printed.err}`)))
    })
  return { child, printed, ended, says }
}

async function serverEnv(t: Ends) {
  const { url } = await testDatabase(t)
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-cli-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const port = String(await freePort())
  return {
    port,
    env: {
      PORT: port,
      DATABASE_URL: url,
      FAIRLEAD_DATA_DIR: dataDir,
      FAIRLEAD_ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    },
  }
}

const stops: [name: string, stop: (pid: number) => void][] = [
  ['a supervisor, which tells this process alone', pid => process.kill(pid, 'SIGTERM')],
  ['Ctrl-C, which tells the whole group', pid => process.kill(-pid, 'SIGINT')],
]
for (const [name, stop] of stops)
  test(`start: ready, and stopped by ${name}: exit code 0, and nothing is left listening`, async t => {
    const ends = lastFirst(t)
    const { port, env } = await serverEnv(ends)
    const { child, printed, ended, says } = launch(ends, ['start'], env)
    await says(/"msg":"ready"/)
    assert.equal((await request(`http://127.0.0.1:${port}/ready`)).status, 200)
    stop(child.pid!)
    assert.equal(await ended, 0, printed.err)
    assert.match(printed.out, /"msg":"stopped"/)
    await assert.rejects(request(`http://127.0.0.1:${port}/health`))
  })

test('start with a configuration that cannot be: exit code 1, and every fault in a sentence', async t => {
  const ends = lastFirst(t)
  const { env } = await serverEnv(ends)
  const { printed, ended } = launch(ends, ['start'], { ...env, PORT: 'many', FAIRLEAD_ENCRYPTION_KEY: 'short' })
  assert.equal(await ended, 1)
  assert.match(printed.err, /PORT/)
  assert.match(printed.err, /FAIRLEAD_ENCRYPTION_KEY/)
  assert.doesNotMatch(printed.err, /\n\s+at /, 'no stack')
})

test('demo --once: the rows of a sandbox, exit code 0', async t => {
  const { printed, ended } = launch(t, ['demo', '--once'], { PORT: String(await freePort()) })
  assert.equal(await ended, 0, printed.out + printed.err)
  assert.match(printed.out, /Edge Communications/)
})

test('doctor: exit code 0 for a connection that is well, 1 when its grant has ended, 1 when there is none', async t => {
  const site = await openSite(t)
  const [server] = site.servers
  const id = await site.connect('ada')
  const env = { FAIRLEAD_URL: server.url, FAIRLEAD_SECRET_KEY: server.key }
  const well = await run(['doctor', id], env)
  assert.equal(well.code, 0, well.out + well.err)
  assert.match(well.out, /^ok {2}/m)
  const read = (await server.call('GET', `/connections/${id}?provider_config_key=sf&refresh_token=true`)).json
  const findings = await run(['doctor', id, '--json'], env)
  for (const secret of [read.credentials.access_token, read.credentials.refresh_token, server.key])
    assert.ok(!`${well.out}${findings.out}`.includes(secret))

  site.simulator.control.revokeRefreshTokens()
  site.simulator.control.expireAccessTokens()
  await server.call('POST', `/connections/${id}/refresh?provider_config_key=sf`)
  const ill = await run(['doctor', id, '--json'], env)
  assert.equal(ill.code, 1, ill.out + ill.err)
  assert.ok(ill.json.some((one: { severity: string; fix?: string }) => one.severity === 'error' && one.fix))
  const nobody = await run(['doctor', 'nobody'], env)
  assert.deepEqual([nobody.code, nobody.out], [1, ''])
})
