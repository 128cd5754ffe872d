/**
 * A Connect UI that is not ours, at an origin of its own, in the frame that `@nangohq/frontend` opens: what the wire contract says such a page
 * asks of the server and tells its parent. No build of Nango's own page is published on npm (DECISIONS.md), so the page here is written from the
 * contract; both SDKs in it, the parent's `openConnectUI` and the frame's `auth`, are theirs.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { after, before, describe, it } from 'node:test'
import { skipWithoutBrowser } from '../../server/test/browser/chromium.ts'
import { type BrowserWorld, sandbox, startBrowserWorld } from '../../server/test/browser/world.ts'
import { until } from '../../server/test/db/until.ts'
import { listening } from '../../server/test/proxy/world.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'

const product = `<!doctype html><title>Beacon CRM</title><button>Connect</button><script type="module">
  import Nango from '/sdk/index.js'
  const { ui, api, token } = Object.fromEntries(new URLSearchParams(location.search))
  window.events = []
  document.querySelector('button').onclick = () => {
    const connect = new Nango({ host: api }).openConnectUI({ baseURL: ui, apiURL: api, lang: 'de', onEvent: event => window.events.push(event) })
    setTimeout(() => connect.setSessionToken(token), 0)
  }
</script>`

/** The child of the contract's §13, told everything by its address and by its parent. */
const page = `<!doctype html><title>Connect</title><main></main><script type="module">
  import Nango from '/sdk/index.js'
  const query = new URLSearchParams(location.search)
  const api = query.get('apiURL').replace(/\\/$/, '')
  const tell = message => parent.postMessage(message, '*')
  const say = text => void (document.querySelector('main').textContent = text)
  let token
  const get = async (path, headers = {}) => {
    const answer = await fetch(api + path, { headers: { authorization: 'Bearer ' + token, ...headers } })
    if (answer.status !== 200) throw new Error(path + ' answered ' + answer.status)
    return (await answer.json()).data
  }
  const beacon = event => navigator.sendBeacon(api + '/connect/telemetry',
    new Blob([JSON.stringify({ token, event, timestamp: new Date() })], { type: 'application/json' }))
  addEventListener('message', async ({ data, origin, source }) => {
    if (data?.type === 'nango_oauth_callback_success' && origin === new URL(api).origin) {
      window.heard = data
      source.postMessage({ type: 'nango_oauth_callback_ack' }, origin)
    }
    if (data?.type !== 'session_token') return
    token = data.sessionToken
    try {
      const session = await get('/connect/session')
      beacon('open')
      const integrations = await get('/integrations')
      if (session.allowed_integrations?.length !== 1 || integrations.length !== 1) throw new Error('a list')
      const provider = await get('/providers/' + integrations[0].provider, { 'accept-language': query.get('lang') })
      const button = document.createElement('button')
      button.textContent = 'Connect ' + provider.display_name
      document.querySelector('main').append(button)
      button.onclick = async () => {
        beacon('click:connect')
        const nango = new Nango({ host: api, websocketsPath: session.websocketsPath, connectSessionToken: token })
        try {
          const detectClosedAuthWindow = query.get('detectClosedAuthWindow') === 'true'
          const payload = await nango.auth(integrations[0].unique_key, { params: {}, detectClosedAuthWindow })
          tell({ type: 'connect', payload })
          const ended = await fetch(api + '/connect/session', { method: 'DELETE', headers: { authorization: 'Bearer ' + token } })
          say('Done, ' + ended.status)
        } catch (error) {
          tell({ type: 'error', payload: { errorType: error.type, errorMessage: error.message } })
          say('Failed')
        }
      }
    } catch (error) {
      tell({ type: 'error', payload: { errorType: 'unknown_error', errorMessage: error.message } })
    }
  })
  tell({ type: 'ready' })
</script>`

interface Told {
  type: string
  payload?: { providerConfigKey?: string; connectionId?: string; errorType?: string; errorMessage?: string }
}

describe('a Connect UI of somebody else in Chromium', { skip: skipWithoutBrowser() }, () => {
  let world: BrowserWorld
  let port: number
  const ends = lastFirst({ after })

  before(async () => {
    world = await startBrowserWorld(ends)
    const server = createServer(async (req, res) => {
      const module = /^\/sdk\/(\w+\.js)$/.exec(req.url ?? '')?.[1]
      const file = module && new URL(module, import.meta.resolve('@nangohq/frontend'))
      res.writeHead(200, { 'Content-Type': file ? 'text/javascript' : 'text/html' })
      res.end(file ? await readFile(file) : req.url?.startsWith('/ui/') ? page : product)
    })
    port = await listening(server)
    ends.after(async () => {
      server.closeAllConnections()
      server.close()
    })
  })

  /** The product's page with the frame open, and what the page heard from it. */
  async function open(user: string) {
    const link = await world.newLink({ end_user: { id: user }, allowed_integrations: [sandbox] })
    const token = new URL(link).searchParams.get('session_token')!
    const { page, context, complaints } = await world.visit()
    const query = new URLSearchParams({ ui: `http://ui.localhost:${port}/ui`, api: world.fairlead.url, token })
    await page.goto(`http://localhost:${port}/?${query}`)
    await page.getByRole('button', { name: 'Connect' }).click()
    const frame = page.frameLocator('#connect-ui')
    const events = () => page.evaluate(() => (window as unknown as { events: Told[] }).events)
    return { page, context, frame, events, complaints, token }
  }
  const connectionsOf = async (user: string): Promise<{ connection_id: string }[]> =>
    (await world.fairlead.call('GET', `/connections?endUserId=${user}`)).json.connections

  it('reads session, integrations and provider from another origin, connects, is acknowledged, and ends the session', async t => {
    const { page, context, frame, events } = await open('ada')
    t.after(() => context.close())
    const [popup] = await Promise.all([
      page.waitForEvent('popup'),
      frame.getByRole('button', { name: 'Connect Salesforce Sandbox' }).click(),
    ])
    await popup.getByRole('button', { name: 'Log In' }).click()
    const closed = popup.waitForEvent('close')
    await popup.getByRole('button', { name: 'Allow' }).click()
    await frame.getByText('Done, 204').waitFor()
    await closed
    const [connection, ...more] = await connectionsOf('ada')
    assert.ok(connection && more.length === 0)
    const told = await events()
    assert.deepEqual(
      told.map(({ type }) => type),
      ['ready', 'connect'],
    )
    assert.deepEqual(told[1]?.payload, {
      ...{ providerConfigKey: sandbox, connectionId: connection.connection_id, isPending: false },
    })
    // By the window, as well as by the socket.
    const inside = page.frames().find(one => one.url().includes('/ui'))!
    const heard = await inside.evaluate(() => (window as unknown as { heard: unknown }).heard)
    assert.deepEqual(heard, { type: 'nango_oauth_callback_success' })
  })

  it('hears of a denial by the contract’s type, and can go on with the same session', async t => {
    const { page, context, frame, events } = await open('ben')
    t.after(() => context.close())
    const button = frame.getByRole('button', { name: /^Connect/ })
    const [popup] = await Promise.all([page.waitForEvent('popup'), button.click()])
    await popup.getByRole('button', { name: 'Log In' }).click()
    await popup.getByRole('button', { name: 'Deny' }).click()
    await until(async () => (await events()).length === 2)
    const [, told] = await events()
    assert.deepEqual([told?.type, told?.payload?.errorType], ['error', 'callback_err'])
    assert.deepEqual(await connectionsOf('ben'), [])
  })
})
