/** `openConnect` with the real Connect UI in its frame, a real server and the simulator; no WebSocket to be had. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Outcome } from '@fairlead/browser'
import { installed } from '../../release/test/packed.ts'
import { skipWithoutBrowser } from '../../server/test/browser/chromium.ts'
import { startBrowserWorld } from '../../server/test/browser/world.ts'
import { until } from '../../server/test/db/until.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'

test('Connect in a frame: a click, a sign-in, and the outcome', { skip: skipWithoutBrowser() }, async t => {
  const ends = lastFirst(t)
  const world = await startBrowserWorld(ends)
  const dist = join(await installed(t, 'browser'), 'node_modules/@fairlead/browser/dist')
  const product = createServer(async (req, res) => {
    const name = (req.url ?? '').slice('/sdk/'.length)
    if (!(await readdir(dist)).includes(name))
      return void res.setHeader('Content-Type', 'text/html').end('<h1>Product</h1>')
    res.setHeader('Content-Type', 'text/javascript').end(await readFile(join(dist, name)))
  }).listen(0, '127.0.0.1')
  await until(() => product.listening)
  ends.after(() => {
    product.closeAllConnections()
    product.close()
  })
  const { context, page } = await world.visit()
  await context.routeWebSocket(/.*/, socket => void socket.close())
  await page.goto(`http://127.0.0.1:${(product.address() as AddressInfo).port}/`)
  const sessionToken = new URL(await world.newLink()).searchParams.get('session_token')
  const options = JSON.stringify({ sessionToken, baseUrl: world.fairlead.app.url })
  await page.evaluate(`import('/sdk/index.js').then(sdk => { window.ending = sdk.openConnect(${options}) })`)
  const frame = page.frameLocator('iframe#fairlead-connect')
  await frame.getByRole('button', { name: 'Continue' }).click()
  const opening = context.waitForEvent('page')
  await frame.getByRole('button', { name: /^Continue to/ }).click()
  const popup = await opening
  await popup.getByRole('button', { name: 'Log In' }).click()
  await popup.getByRole('button', { name: 'Allow' }).click()
  const outcome = (await page.evaluate('ending')) as Outcome
  const [connection] = await world.connections()
  assert.equal(outcome.status, 'connected')
  assert.equal(outcome.status === 'connected' && outcome.connection_id, connection?.connection_id)
})
