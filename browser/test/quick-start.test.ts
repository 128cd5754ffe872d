/** The README's programs as they stand there: both packages from their tarballs, a live server, Chromium, and no WebSocket to be had. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { installed, programsOf } from '../../release/test/packed.ts'
import { launch, skipWithoutBrowser } from '../../server/test/browser/chromium.ts'
import { openSite } from '../../server/test/connection/support/site.ts'
import { until } from '../../server/test/db/until.ts'
import { freePort } from '../../server/test/support/fairlead.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'

test('the quick start of the README: a click, a sign-in, a connection', { skip: skipWithoutBrowser() }, async t => {
  const ends = lastFirst(t)
  const site = await openSite(ends, ['salesforce-sandbox'])
  const [server] = site.servers
  const folder = await installed(t, 'node', 'browser')
  assert.deepEqual(await programsOf('browser/README.md', folder), ['session.mjs', 'page.mjs'])
  const port = await freePort()
  const backend = spawn(process.execPath, ['session.mjs'], {
    cwd: folder,
    env: { PATH: process.env.PATH, PORT: String(port), FAIRLEAD_URL: server.app.url, FAIRLEAD_SECRET_KEY: server.key },
  })
  ends.after(() => backend.kill())
  const session = () => fetch(`http://127.0.0.1:${port}`).catch(() => undefined)
  await until(async () => (await session())?.status === 200)

  const sdk = join(folder, 'node_modules/@fairlead/browser/dist')
  const page = `<!doctype html><script type="importmap">{"imports":{"@fairlead/browser":"/sdk/index.js"}}</script>
    <button disabled>Connect</button><script type="module" src="/page.mjs"></script>`
  const product = createServer(async (req, res) => {
    const [, name = ''] = /^\/sdk\/([\w-]+\.js)$/.exec(req.url ?? '') ?? []
    if (req.url === '/session') return void res.end(await (await session())!.text())
    if ((await readdir(sdk)).includes(name) || req.url === '/page.mjs')
      return void res
        .writeHead(200, { 'content-type': 'text/javascript' })
        .end(await readFile(name ? join(sdk, name) : join(folder, 'page.mjs')))
    res.writeHead(200, { 'content-type': 'text/html' }).end(page)
  }).listen(0, '127.0.0.1')
  await until(() => product.listening)
  ends.after(() => {
    product.closeAllConnections()
    product.close()
  })

  const origin = `http://127.0.0.1:${(product.address() as AddressInfo).port}`
  const set = await server.call('PATCH', '/environment/settings', { allowed_origins: [origin] })
  assert.equal(set.status, 200, set.text)

  const browser = await launch()
  ends.after(() => browser.close())
  const context = await browser.newContext()
  await context.routeWebSocket(/.*/, socket => void socket.close())
  const tab = await context.newPage()
  await tab.goto(`${origin}/`)
  await tab.locator('button:enabled').click()
  const said = tab.getByRole('button', { name: /Connected: / })
  await said.waitFor()
  const [connection] = (await server.call('GET', '/connections')).json.connections
  assert.equal(await said.textContent(), `Connected: ${connection.connection_id}`)
})
