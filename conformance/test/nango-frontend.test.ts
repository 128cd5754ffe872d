/**
 * `@nangohq/frontend`, unmodified, on a page of somebody else's site in Chromium, told nothing but another host: the window it opens, how it
 * learns the end, how it ends when the person says no or closes the window, and the kinds that need no window. The page is at `localhost` and the server at 127.0.0.1, which
 * are different sites to a browser.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { after, before, describe, it, type TestContext } from 'node:test'
import type { Page, WebSocketRoute } from 'playwright-core'
import { skipWithoutBrowser } from '../../server/test/browser/chromium.ts'
import { type BrowserWorld, sandbox, startBrowserWorld } from '../../server/test/browser/world.ts'
import { type Provider, sendJson, startProvider } from '../../server/test/connect/support/provider.ts'
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

/** Kinds without a window: what the page gives, and a member of the credentials it becomes. */
const headless: [key: string, options: object | undefined, member: string | undefined][] = [
  ['keyed', { credentials: { apiKey: 'k-1' }, params: { region: 'eu' } }, 'apiKey'],
  ['plain', { credentials: { username: 'ada', password: '' } }, 'username'],
  ['client', { credentials: { client_id: 'c', client_secret: 's' } }, 'token'],
  ['login', { credentials: { type: 'TWO_STEP', user: 'ada', pass: 'p' } }, 'token'],
  ['signed', { credentials: { type: 'JWT', id: 'i', secret: 's' } }, 'token'],
  ['open', undefined, undefined],
]

const headlessProviders = (at: string): string => `
keyed:
  display_name: Keyed
  auth_mode: API_KEY
  connection_config: { region: { title: Region, pattern: '^[a-z]+$' } }
  proxy: { base_url: '${at}', headers: { x-key: '\${apiKey}' }, verification: { method: GET, endpoints: [me] } }
plain: { display_name: Plain, auth_mode: BASIC, proxy: { base_url: '${at}' } }
client: { display_name: Client, auth_mode: OAUTH2_CC, token_url: '${at}/token', proxy: { base_url: '${at}' } }
login:
  display_name: Login
  auth_mode: TWO_STEP
  credentials: { user: { title: User }, pass: { title: Password } }
  token_url: ${at}/token
  token_params: { user: '\${credentials.user}' }
  token_response: { token: access_token, token_expiration: expires_in, token_expiration_strategy: expireIn }
  proxy: { base_url: '${at}' }
signed:
  display_name: Signed
  auth_mode: JWT
  credentials: { id: { title: Id }, secret: { title: Secret } }
  signature: { protocol: HMAC }
  token: { signing_key: '\${credentials.secret}' }
  proxy: { base_url: '${at}' }
open: { display_name: Open, auth_mode: NONE, proxy: { base_url: '${at}' } }
`

describe('@nangohq/frontend in Chromium', { skip: skipWithoutBrowser() }, () => {
  let world: BrowserWorld
  let site: string
  /** Where the credentials of the kinds without a window are tried. */
  let provider: Provider
  const ends = lastFirst({ after })

  before(async () => {
    provider = await startProvider(ends)
    provider.answer = sendJson(200, { access_token: 'AT', expires_in: 3600 })
    world = await startBrowserWorld(ends, headlessProviders(provider.url))
    for (const [key] of headless)
      assert.equal((await world.fairlead.call('POST', '/integrations', { provider: key, unique_key: key })).status, 200)
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

  it('waits on when the window is closed and nobody asked it to look, and may be asked again', async t => {
    const { page, token } = await visit(t, 'mia')
    await page.clock.install()
    const asked = { host: world.fairlead.url, token, key: sandbox }
    const begin = () =>
      page.evaluate(async ({ host, token, key }) => {
        const { default: Nango } = await import(new URL('/sdk/index.js', location.href).href)
        Object.assign(window, { settled: [] })
        const settled = (outcome: unknown) => (window as unknown as { settled: unknown[] }).settled.push(outcome)
        void new Nango({ host, connectSessionToken: token }).auth(key).then(settled, settled)
      }, asked)
    const settled = () => page.evaluate(() => (window as unknown as { settled: { connectionId?: string }[] }).settled)
    const [first] = await Promise.all([page.waitForEvent('popup'), begin()])
    await first.getByRole('button', { name: 'Log In' }).waitFor()
    await first.close()
    await page.clock.runFor(60_000)
    assert.deepEqual(await settled(), [])
    const [second] = await Promise.all([page.waitForEvent('popup'), begin()])
    await second.getByRole('button', { name: 'Log In' }).click()
    await second.getByRole('button', { name: 'Allow' }).click()
    await until(async () => (await settled()).length === 1)
    const [connection] = await connectionsOf('mia')
    assert.equal((await settled())[0]?.connectionId, connection?.connection_id)
  })

  it('says what is asked for: an OAuth client of its own, and more of the authorization page', async t => {
    const { page, token } = await visit(t, 'noa')
    const [popup] = await Promise.all([
      page.waitForEvent('popup'),
      page.evaluate(
        async ({ host, token, key }) => {
          const { default: Nango } = await import(new URL('/sdk/index.js', location.href).href)
          const credentials = { oauth_client_id_override: 'own & only', oauth_client_secret_override: 's=1' }
          const authorization_params = { prompt: 'undefined', login_hint: 'noa' }
          const options = { credentials, authorization_params, user_scope: ['x'] }
          void new Nango({ host, connectSessionToken: token }).auth(key, options).catch(() => {})
        },
        { host: world.fairlead.url, token, key: sandbox },
      ),
    ])
    await popup.waitForURL(/client_id=/)
    const { searchParams } = new URL(popup.url())
    assert.deepEqual(
      ['client_id', 'prompt', 'login_hint', 'code_challenge_method'].map(name => searchParams.get(name)),
      ['own & only', null, 'noa', 'S256'],
    )
  })

  it('reconnects the account it has, under the same id', async t => {
    const { page } = await visit(t, 'ada')
    const [{ connection_id: id } = { connection_id: '' }] = await connectionsOf('ada')
    const body = { connection_id: id, integration_id: sandbox }
    const session = await world.fairlead.call('POST', '/connect/sessions/reconnect', body)
    assert.equal(session.status, 201, session.text)
    const [popup, outcome] = await Promise.all([
      page.waitForEvent('popup').then(async popup => {
        await popup.getByRole('button', { name: 'Log In' }).click()
        await popup.getByRole('button', { name: 'Allow' }).click()
        return popup
      }),
      page.evaluate(
        async ({ host, token, key }) => {
          const { default: Nango } = await import(new URL('/sdk/index.js', location.href).href)
          return new Nango({ host, connectSessionToken: token }).reconnect(key)
        },
        { host: world.fairlead.url, token: session.json.data.token, key: sandbox },
      ),
    ])
    assert.ok(popup)
    assert.deepEqual(outcome, { providerConfigKey: sandbox, connectionId: id, isPending: false })
  })

  /** The promise of `auth`, or of `create` where there is nothing to give. */
  const authOf = (page: Page, token: string, key: string, options: object | undefined): Promise<Outcome> =>
    page.evaluate(
      async ({ host, token, key, options }) => {
        const { default: Nango, AuthError } = await import(new URL('/sdk/index.js', location.href).href)
        const nango = new Nango({ host, connectSessionToken: token })
        return (options ? nango.auth(key, options) : nango.create(key)).then(
          (resolved: unknown) => ({ resolved }),
          (error: { type: string; message: string }) => ({
            rejected: { isAuthError: error instanceof AuthError, type: error.type, message: error.message },
          }),
        )
      },
      { host: world.fairlead.url, token, key, options },
    )

  it('connects without a window what needs none, each kind by its own endpoint', async t => {
    const context = await world.visit()
    t.after(() => context.context.close())
    const { page } = context
    await page.goto(site)
    for (const [key, options, member] of headless) {
      const link = await world.newLink({ end_user: { id: key } })
      const token = new URL(link).searchParams.get('session_token')!
      const { resolved, rejected } = await authOf(page, token, key, options)
      assert.equal(rejected, undefined, `${key}: ${JSON.stringify(rejected)}`)
      const [connection] = await connectionsOf(key)
      assert.deepEqual([resolved?.providerConfigKey, resolved?.connectionId], [key, connection?.connection_id])
      const path = `/connections/${connection?.connection_id}?provider_config_key=${key}`
      const { credentials } = (await world.fairlead.call('GET', path)).json
      if (member) assert.ok(credentials[member], `${key}: ${Object.keys(credentials)}`)
    }
  })

  it('rejects with the server’s own code what the provider, the session or this version does not take', async t => {
    const { page, token } = await visit(t, 'pia')
    provider.api = sendJson(401, { error: 'no such key' })
    const rows: [key: string, options: object, type: string][] = [
      ['keyed', { credentials: { apiKey: 'wrong' } }, 'integration_not_allowed'],
      [sandbox, { credentials: { apiKey: 'x' } }, 'invalid_auth_mode'],
      [sandbox, { credentials: { token_id: 'a', token_secret: 'b' } }, 'not_implemented'],
      [
        sandbox,
        { credentials: { username: 'a', password: 'b', organization_id: 'c', dev_key: 'd' } },
        'not_implemented',
      ],
      [sandbox, { credentials: { type: 'SIGNATURE', username: 'a', password: 'b' } }, 'not_implemented'],
      [sandbox, { credentials: { type: 'AWS_SIGV4', role_arn: 'a' } }, 'not_implemented'],
      [sandbox, { credentials: {}, installation: 'outbound' }, 'not_implemented'],
    ]
    for (const [key, options, type] of rows) {
      const { rejected } = await authOf(page, token, key, options)
      assert.deepEqual([rejected?.isAuthError, rejected?.type], [true, type], JSON.stringify(options))
      assert.ok(rejected!.message.length > 10)
    }
    const open = new URL(await world.newLink({ end_user: { id: 'pia' } })).searchParams.get('session_token')!
    const wrong = { credentials: { apiKey: 'wrong' }, params: { region: 'eu' } }
    const { rejected } = await authOf(page, open, 'keyed', wrong)
    assert.equal(rejected?.type, 'connection_test_failed')
    provider.api = undefined
    const { rejected: nobody } = await authOf(page, 'not-a-token', 'keyed', { credentials: { apiKey: 'x' } })
    assert.equal(nobody?.type, 'invalid_connect_session_token_format')
    assert.deepEqual(await connectionsOf('pia'), [])
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
