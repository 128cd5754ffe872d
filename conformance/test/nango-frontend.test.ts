/**
 * `@nangohq/frontend`, unmodified, on a page of somebody else's site in Chromium, told nothing but another host: the window it opens, how it
 * learns the end, and how it ends when the person says no or closes the window. The page is at `localhost` and the server at 127.0.0.1, which
 * are different sites to a browser.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { after, before, describe, it, type TestContext } from 'node:test'
import type { Page, WebSocketRoute } from 'playwright-core'
import { skipWithoutBrowser } from '../../server/test/browser/chromium.ts'
import { type BrowserWorld, sandbox, startBrowserWorld } from '../../server/test/browser/world.ts'
import { until } from '../../server/test/db/until.ts'
import { listening } from '../../server/test/proxy/world.ts'
import { request } from '../../server/test/support/fairlead.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'

/** What the page shows when the promise of the SDK has settled. */
interface Outcome {
  resolved?: { providerConfigKey: string; connectionId: string; isPending: boolean }
  rejected?: { isAuthError: boolean; type: string; message: string }
  events?: { type: string; payload?: { providerConfigKey: string; connectionId: string } }[]
}

const html = `<!doctype html><title>Beacon CRM</title><button id="auth">Connect</button><button id="ui">Open Connect</button><output></output>
<script type="module">
  import Nango, { AuthError } from '/sdk/index.js'
  const { host, token, key } = Object.fromEntries(new URLSearchParams(location.search))
  const nango = new Nango({ host, connectSessionToken: token })
  const show = outcome => void (document.querySelector('output').textContent = JSON.stringify(outcome))
  const events = []
  document.querySelector('#ui').onclick = () =>
    nango.openConnectUI({
      sessionToken: token,
      baseURL: host + '/connect',
      apiURL: host,
      onEvent: event => {
        events.push(event)
        if (event.type === 'close') show({ events })
      },
    })
  document.querySelector('#auth').onclick = () =>
    nango.auth(key, { detectClosedAuthWindow: true }).then(
      resolved => show({ resolved }),
      error => show({ rejected: { isAuthError: error instanceof AuthError, type: error.type, message: error.message } }),
    )
</script>`

describe('@nangohq/frontend in Chromium', { skip: skipWithoutBrowser() }, () => {
  let world: BrowserWorld
  let site: string
  const ends = lastFirst({ after })

  before(async () => {
    world = await startBrowserWorld(ends)
    const server = createServer(async (req, res) => {
      const module = /^\/sdk\/(\w+\.js)$/.exec(req.url ?? '')?.[1]
      const file = module && new URL(module, import.meta.resolve('@nangohq/frontend'))
      res.writeHead(200, { 'Content-Type': file ? 'text/javascript' : 'text/html' })
      res.end(file ? await readFile(file) : html)
    })
    site = `http://localhost:${await listening(server)}`
    ends.after(async () => {
      server.closeAllConnections()
      server.close()
    })
  })

  /** A page of the site with a session of its own. */
  async function visit(t: TestContext, user: string): Promise<{ page: Page; token: string }> {
    const link = await world.newLink({ end_user: { id: user }, allowed_integrations: [sandbox] })
    const { context, page } = await world.visit()
    t.after(() => context.close())
    const token = new URL(link).searchParams.get('session_token')!
    await page.goto(`${site}/?${new URLSearchParams({ host: world.fairlead.url, token, key: sandbox })}`)
    return { page, token }
  }

  /** The window that its button opens. */
  async function connect(page: Page): Promise<Page> {
    const [popup] = await Promise.all([
      page.waitForEvent('popup'),
      page.getByRole('button', { name: 'Connect', exact: true }).click(),
    ])
    await popup.getByRole('button', { name: 'Log In' }).waitFor()
    return popup
  }

  async function outcomeOf(page: Page): Promise<Outcome> {
    await page.locator('output:not(:empty)').waitFor({ state: 'attached' })
    return JSON.parse((await page.locator('output').textContent()) ?? '')
  }

  const connectionsOf = async (user: string): Promise<{ connection_id: string }[]> =>
    (await world.fairlead.call('GET', `/connections?endUserId=${user}`)).json.connections

  it('resolves with the connection when access is granted, and closes its window', async t => {
    const { page } = await visit(t, 'ada')
    const popup = await connect(page)
    assert.deepEqual(await connectionsOf('ada'), [])
    await popup.getByRole('button', { name: 'Log In' }).click()
    const closed = popup.waitForEvent('close')
    await popup.getByRole('button', { name: 'Allow' }).click()
    const outcome = await outcomeOf(page)
    const [connection, ...more] = await connectionsOf('ada')
    assert.ok(connection && more.length === 0)
    assert.deepEqual(outcome, {
      resolved: { providerConfigKey: sandbox, connectionId: connection.connection_id, isPending: false },
    })
    await closed
  })

  it('rejects with an AuthError when access is denied', async t => {
    const { page } = await visit(t, 'ben')
    const popup = await connect(page)
    await popup.getByRole('button', { name: 'Log In' }).click()
    await popup.getByRole('button', { name: 'Deny' }).click()
    const { resolved, rejected } = await outcomeOf(page)
    assert.equal(resolved, undefined)
    assert.deepEqual([rejected?.isAuthError, rejected?.type], [true, 'callback_err'])
    assert.ok(rejected?.message)
    assert.deepEqual(await connectionsOf('ben'), [])
  })

  it('rejects with window_closed when the window is closed before the end', async t => {
    const { page } = await visit(t, 'eve')
    const popup = await connect(page)
    await popup.close()
    const { rejected } = await outcomeOf(page)
    assert.deepEqual([rejected?.isAuthError, rejected?.type], [true, 'window_closed'])
    assert.deepEqual(await connectionsOf('eve'), [])
  })

  it('rejects with blocked_by_browser when no window opens', async t => {
    const { page } = await visit(t, 'kim')
    await page.evaluate(() => {
      window.open = () => null
    })
    await page.getByRole('button', { name: 'Connect', exact: true }).click()
    const { rejected } = await outcomeOf(page)
    assert.deepEqual([rejected?.isAuthError, rejected?.type], [true, 'blocked_by_browser'])
    assert.deepEqual(await connectionsOf('kim'), [])
  })

  it('opens Connect in a frame by openConnectUI, and hears ready, connect and close', async t => {
    const { page } = await visit(t, 'ida')
    await page.getByRole('button', { name: 'Open Connect' }).click()
    const frame = page.frameLocator('#connect-ui')
    await frame.getByRole('button', { name: 'Continue' }).click()
    const opened = page.waitForEvent('popup')
    await frame.getByRole('button', { name: /^Continue to/ }).click()
    const popup = await opened
    await popup.getByRole('button', { name: 'Log In' }).click()
    await popup.getByRole('button', { name: 'Allow' }).click()
    await frame.getByRole('heading', { name: 'Salesforce Sandbox is connected' }).waitFor()
    const { events = [] } = await outcomeOf(page)
    const [connection] = await connectionsOf('ida')
    assert.deepEqual(
      events.map(({ type }) => type),
      ['ready', 'connect', 'close'],
    )
    const { providerConfigKey, connectionId } = events[1]!.payload!
    assert.deepEqual([providerConfigKey, connectionId], [sandbox, connection!.connection_id])
    assert.equal(await page.locator('#connect-ui').count(), 0, 'the frame is gone')
  })

  it('loses its socket midway, and the session still knows the end', async t => {
    const { page, token } = await visit(t, 'lea')
    const sockets: WebSocketRoute[] = []
    await page.routeWebSocket(/./, socket => {
      sockets.push(socket, socket.connectToServer())
    })
    const popup = await connect(page)
    assert.equal(sockets.length, 2, 'its two ends')
    for (const end of sockets) await end.close()
    await popup.getByRole('button', { name: 'Log In' }).click()
    await popup.getByRole('button', { name: 'Allow' }).click()
    const headers = { Authorization: `Bearer ${token}` }
    const results = async () => (await request(`${world.fairlead.url}/connect/session/results`, { headers })).json.data
    await until(async () => (await results()).length > 0)
    const [{ success, connection_id }] = await results()
    assert.equal(success, true)
    assert.deepEqual(
      (await connectionsOf('lea')).map(connection => connection.connection_id),
      [connection_id],
    )
  })
})
