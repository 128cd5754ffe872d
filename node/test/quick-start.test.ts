/** The README's programs as they stand there, run from the packed tarball in an empty folder against a live server. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { installed, programsOf, runProgram } from '../../release/test/packed.ts'
import { openSite } from '../../server/test/connection/support/site.ts'
import { until } from '../../server/test/db/until.ts'
import { Browser, freePort } from '../../server/test/support/fairlead.ts'

test('the quick start of the README: connect, call, hear about it', async t => {
  const site = await openSite(t, ['salesforce-sandbox'])
  const [server] = site.servers
  const folder = await installed(t, 'node')
  const programs = await programsOf('node/README.md', folder)
  assert.deepEqual(programs, ['connect.mjs', 'accounts.mjs', 'hooks.mjs'])
  const env = { FAIRLEAD_URL: server.url, FAIRLEAD_SECRET_KEY: server.key }

  const link = await runProgram(folder, 'connect.mjs', env)
  const token = new URL(link.trim()).searchParams.get('session_token')
  const page = await new Browser().follow(
    `${server.app.url}/oauth/connect/salesforce-sandbox?connect_session_token=${token}`,
  )
  assert.equal(page.status, 200, page.text)

  const out = await runProgram(folder, 'accounts.mjs', env)
  const [first, ...names] = out.trim().split('\n')
  assert.match(first!, /^[0-9a-f-]{36} 200$/)
  assert.ok(names.includes('Edge Communications'), out)

  const port = await freePort()
  const settings = await server.call('PATCH', '/environment/settings', { webhook_url: `http://127.0.0.1:${port}/` })
  const hooks = spawn(process.execPath, ['hooks.mjs'], {
    cwd: folder,
    env: {
      ...env,
      PATH: process.env.PATH,
      PORT: String(port),
      FAIRLEAD_WEBHOOK_SIGNING_KEY: settings.json.webhook_signing_key,
    },
  })
  t.after(() => void hooks.kill())
  let heard = ''
  hooks.stdout.setEncoding('utf8').on('data', text => {
    heard += text
  })
  await until(
    async () => (await fetch(`http://127.0.0.1:${port}`, { method: 'POST' }).catch(() => undefined))?.status === 400,
  )
  await server.call('POST', '/webhooks/test')
  await until(async () => heard !== '')
  assert.equal(heard, 'webhook.test\n')
  hooks.kill()
  await once(hooks, 'exit')
})
