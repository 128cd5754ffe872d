/** Connect UI in a real Chromium, on a real server and the simulator: every way it is shown, every screen, every way it can end. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { after, afterEach, before, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Frame, Page } from 'playwright-core'
import { lastFirst } from '../support/last-first.ts'
import { skipWithoutBrowser } from './chromium.ts'
import { type BrowserWorld, sandbox, startBrowserWorld, type Visitor } from './world.ts'

const axe = createRequire(import.meta.url).resolve('axe-core')

interface Seen {
  type: string
  payload?: Record<string, unknown>
  origin: string
}

describe('Connect UI', { skip: skipWithoutBrowser() }, () => {
  let world: BrowserWorld
  /** A developer's product on an origin of its own; the pages it serves are the parents and openers of ours. */
  let product: string
  let stranger: string
  const ends = lastFirst({ after })

  before(async () => {
    world = await startBrowserWorld(ends, severing(await serveSevering()))
    const credentials = { type: 'OAUTH2', client_id: 'x', client_secret: 'y' }
    await world.fairlead.call('POST', '/integrations', { provider: 'severing', unique_key: 'severing', credentials })
    product = await serve(parentPage)
    stranger = await serve(parentPage)
    await settings({ connect_ui: { product_name: 'Beacon CRM' } })
  })

  afterEach(() => world.leave())

  const settings = async (change: object) => {
    const answer = await world.fairlead.call('PATCH', '/environment/settings', change)
    assert.equal(answer.status, 200, answer.text)
    return answer.json
  }

  async function serve(html: (url: URL) => string): Promise<string> {
    const server = createServer((req, res) => {
      res.setHeader('Content-Type', 'text/html')
      res.end(html(new URL(req.url ?? '', 'http://product')))
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    ends.after(async () => void server.close())
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  /** A provider whose page keeps every other window away from it, as some banks' and identity providers' do. */
  const serveSevering = async (): Promise<string> => {
    const server = createServer((req, res) => {
      const url = new URL(req.url ?? '', 'http://severing')
      if (url.pathname === '/token') {
        res.setHeader('Content-Type', 'application/json')
        return res.end(JSON.stringify({ access_token: 'a', token_type: 'Bearer' }))
      }
      const back = new URL(url.searchParams.get('redirect_uri') ?? 'about:blank')
      back.searchParams.set('code', 'c')
      back.searchParams.set('state', url.searchParams.get('state') ?? '')
      res.setHeader('Content-Type', 'text/html')
      res.setHeader('Cross-Origin-Opener-Policy', 'same-origin')
      res.end(`<a href="${back.href.replaceAll('&', '&amp;')}">Back to the product</a>`)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    ends.after(async () => void server.close())
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  const severing = (base: string) => `
severing:
  display_name: Severing
  auth_mode: OAUTH2
  authorization_url: ${base}/authorize
  token_url: ${base}/token
  disable_pkce: true
  connection_config:
    workspace:
      type: string
      title: Workspace
      description: The first part of the address you work at.
      prefix: https://
      suffix: .severing.example
      pattern: ^[a-z]+$
      example: acme
      order: 1
    plan:
      type: string
      title: Plan
      enum: [shared, dedicated]
      order: 2
    cluster:
      type: string
      title: Cluster
      visible_when: { plan: dedicated }
      optional: true
      order: 3
keyed:
  display_name: Keyed
  auth_mode: API_KEY
  proxy: { base_url: 'https://api.keyed.example', headers: { Authorization: 'Bearer \${apiKey}' } }
  credentials:
    apiKey: { type: string, title: API key, pattern: '^key-', secret: true }
`

  /** The parent's side of the wire contract's protocol (§13), as its clients speak it; `?link=` frames a link instead. */
  const parentPage = (url: URL) => `<!doctype html><title>Product</title><body><h1>A product</h1><script>
    window.seen = []
    const link = ${JSON.stringify(url.searchParams.get('link'))}, popup = ${JSON.stringify(url.searchParams.get('popup'))}
    addEventListener('message', event => {
      seen.push({ ...event.data, origin: event.origin })
      if (event.data.type === 'ready' && window.sessionToken) event.source.postMessage({ type: 'session_token', sessionToken }, '*')
      if (event.data.type === 'close') document.querySelector('iframe')?.remove()
    })
    window.show = (base, token) => {
      window.sessionToken = token
      const frame = document.createElement('iframe')
      frame.id = 'connect-ui'
      frame.allow = 'clipboard-write'
      frame.style = 'position:fixed;inset:0;width:100vw;height:100vh;border:0;z-index:9999'
      frame.src = link ?? base + '/connect/?apiURL=https%3A%2F%2Fevil.example&lang=en&theme=system'
      document.body.append(frame)
    }
  </script>`

  const tokenOf = (link: string): string => new URL(link).searchParams.get('session_token') ?? ''
  /** A function's text, run in a page. Text, because these programs know nothing of the DOM's types. */
  const run = <Answer>(page: Page | Frame, text: string, ...given: unknown[]): Promise<Answer> =>
    page.evaluate(`(${text})(...${JSON.stringify(given)})`)
  const show = async (page: Page, link: string): Promise<void> =>
    run(page, '(base, token) => show(base, token)', world.fairlead.app.url, tokenOf(link))
  const seenBy = (page: Page): Promise<Seen[]> => run(page, '() => seen')
  const blockWindows = ({ context }: Visitor) => context.addInitScript('window.open = () => null')
  const title = (page: Page, name: string | RegExp) => page.getByRole('heading', { level: 1, name }).waitFor()
  const button = (page: Page, name: string | RegExp) => page.getByRole('button', { name })
  /** From the question of where one logs in to the page that asks for consent. */
  async function toConsent(page: Page): Promise<void> {
    await title(page, 'Where do you log in?')
    await button(page, 'Continue').click()
    await title(page, /^Connect Salesforce Sandbox/)
  }

  async function openWindow(page: Page, press: () => Promise<void> = () => button(page, /^Continue to/).click()) {
    const opened = page.waitForEvent('popup')
    await press()
    return opened
  }

  async function signIn(window: Page, decision: 'Allow' | 'Deny' = 'Allow'): Promise<void> {
    await window.getByRole('button', { name: 'Log In' }).click()
    await window.getByRole('button', { name: decision }).click()
  }

  /** No request left our origin and the provider's; nothing was complained about beyond what a test expects. */
  function stayedHome({ requests, complaints }: Visitor, others: string[] = [], expected = /status of 4\d\d/): void {
    const home = [
      world.fairlead.app.url,
      ...['test', 'acme--uat'].map(of => new URL(world.simulator.base(of, 'name')).origin),
      ...others,
    ]
    const away = requests.filter(url => /^https?:/.test(url) && !home.includes(new URL(url).origin))
    assert.deepEqual(away, [])
    assert.deepEqual(
      complaints.filter(text => !expected.test(text)),
      [],
    )
  }

  const script = readFile(axe, 'utf8')

  /** WCAG 2.2 A and AA, by axe; nothing serious, and nothing wider than the screen. */
  async function isSound(page: Page, where: string): Promise<void> {
    // Chromium's own world: the page's policy forbids evaluation, and it is meant to.
    const devtools = await page.context().newCDPSession(page)
    const { frameTree } = await devtools.send('Page.getFrameTree')
    const { executionContextId: contextId } = await devtools.send('Page.createIsolatedWorld', {
      frameId: frameTree.frame.id,
      worldName: 'axe',
    })
    await devtools.send('Runtime.evaluate', { contextId, expression: await script })
    const { result } = await devtools.send('Runtime.evaluate', {
      contextId,
      awaitPromise: true,
      returnByValue: true,
      expression: `axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
        .then(({ violations }) => violations.filter(v => v.impact === 'serious' || v.impact === 'critical')
          .map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join(' | ')))`,
    })
    await devtools.detach()
    assert.deepEqual(result.value, [], where)
    await fits(page, where)
  }

  async function fits(page: Page, where: string): Promise<void> {
    const [wide, screen] = await run<number[]>(page, '() => [document.documentElement.scrollWidth, innerWidth]')
    assert.ok(wide! <= screen!, `${where} is ${wide} px wide on a screen of ${screen}`)
  }

  for (const [theme, width] of [
    ['light', 1440],
    ['dark', 360],
  ] as const)
    it(`as a hosted page, ${theme}, ${width} px: from the link to a connection`, async () => {
      const earlier = (await world.connections()).length
      const visitor = await world.visit({ colorScheme: theme, viewport: { width, height: 800 } })
      const { page } = visitor
      const link = await world.newLink()
      await page.goto(link)
      await title(page, 'Where do you log in?')
      assert.equal(page.url(), `${world.fairlead.app.url}/connect/`, 'the token has left the address')
      await isSound(page, 'prepare')
      await page.reload()
      await toConsent(page)
      assert.match(
        (await page.textContent('main')) ?? '',
        /Beacon CRM will be able to:.*read and change your Salesforce data/,
      )
      assert.match((await page.textContent('main')) ?? '', /You are connecting as Ada of Acme/)
      await isSound(page, 'consent')
      const window = await openWindow(page)
      await page.getByText('Waiting for you at Salesforce Sandbox', { exact: true }).first().waitFor()
      await isSound(page, 'sign in')
      await signIn(window)
      await title(page, 'Salesforce Sandbox is connected')
      await isSound(page, 'done')
      if (!window.isClosed()) await window.waitForEvent('close')
      const host = new URL(world.simulator.base('acme--uat', 'name')).host
      assert.ok((await page.textContent('main'))?.includes(host))
      assert.equal((await world.connections()).length, earlier + 1)
      const shown = await run(page, '() => getComputedStyle(document.body).backgroundColor')
      assert.equal(shown, theme === 'light' ? 'rgb(243, 246, 247)' : 'rgb(13, 20, 24)')
      stayedHome(visitor)
    })

  it('in a frame: speaks with its parent alone, and says what became of it', async () => {
    await settings({ allowed_origins: [product] })
    const visitor = await world.visit()
    const { page } = visitor
    await page.goto(product)
    await show(page, await world.newLink())
    const frame = page.frameLocator('#connect-ui')
    await frame.getByRole('button', { name: 'Continue' }).click()
    const window = await openWindow(page, () => frame.getByRole('button', { name: /^Continue to/ }).click())
    await signIn(window)
    await frame.getByRole('heading', { name: 'Salesforce Sandbox is connected' }).waitFor()
    await frame.getByRole('button', { name: 'Finish' }).click()
    await page.locator('#connect-ui').waitFor({ state: 'detached' })
    const seen = await seenBy(page)
    assert.deepEqual(
      seen.map(({ type }) => type),
      ['ready', 'connect', 'close'],
    )
    assert.deepEqual([...new Set(seen.map(({ origin }) => origin))], [world.fairlead.app.url])
    const { providerConfigKey, connectionId, isPending } = seen[1]?.payload ?? {}
    assert.deepEqual([providerConfigKey, isPending], [sandbox, false])
    assert.ok((await world.connections()).some(({ connection_id }) => connection_id === connectionId))
    stayedHome(visitor, [product])
    await settings({ allowed_origins: [] })
  })

  it('in the frame of a site that is not on the list: shows nothing to press', async () => {
    await settings({ allowed_origins: [product] })
    const { page } = await world.visit()
    const link = await world.newLink()
    await page.goto(stranger)
    await show(page, link)
    const frame = page.frameLocator('#connect-ui')
    await frame.getByRole('heading', { name: 'This page may not be shown here' }).waitFor()
    assert.equal(await frame.getByRole('button', { name: 'Continue' }).count(), 0)
    // A link in a frame does not even load there.
    const visitor = await world.visit()
    await visitor.page.goto(`${stranger}/?link=${encodeURIComponent(link)}`)
    const blocked = visitor.page.waitForEvent('console', message => /frame-ancestors|Framing/.test(message.text()))
    await run(visitor.page, '() => show()')
    await blocked
    await settings({ allowed_origins: [] })
  })

  it('believes nobody but its parent about the session', async () => {
    const { page } = await world.visit()
    await page.goto(product)
    const token = tokenOf(await world.newLink())
    await run(page, 'base => show(base)', world.fairlead.app.url)
    await page.waitForFunction("seen.some(({ type }) => type === 'ready')")
    const ours = page.frames().find(frame => frame.url().startsWith(world.fairlead.app.url))!
    // From the page itself, of the wrong form, and polluting: none of them opens anything.
    await run(ours, "given => postMessage({ type: 'session_token', sessionToken: given }, '*')", token)
    const send = (message: unknown) =>
      run(page, "given => document.querySelector('iframe').contentWindow.postMessage(given, '*')", message)
    for (const message of [null, 'session_token', { type: 'session_token', sessionToken: 'nango_connect_session_x' }])
      await send(message)
    await send({ type: 'session_token', sessionToken: [token] })
    assert.equal(await ours.locator('main h1').textContent(), 'Loading')
    await send({ type: 'session_token', sessionToken: token })
    await ours.getByRole('heading', { name: 'Where do you log in?' }).waitFor()
  })

  it('as a popup: closes by itself and tells the page that opened it, when it is on the list', async () => {
    await settings({ allowed_origins: [product] })
    const { page } = await world.visit()
    await page.goto(product)
    const link = await world.newLink()
    const opened = page.waitForEvent('popup')
    await run(page, "url => void window.open(url, 'connect', 'popup,width=480,height=760')", link)
    const connect = await opened
    await toConsent(connect)
    await signIn(await openWindow(connect))
    await connect.waitForEvent('close')
    assert.deepEqual(
      (await seenBy(page)).map(({ type, origin }) => [type, origin]),
      [['connect', world.fairlead.app.url]],
    )
    await settings({ allowed_origins: [] })
  })

  it('as a link that says where to go back to: only there, and only when the environment names it to the letter', async () => {
    const done = `${product}/done?from=connect`
    await settings({ return_urls: [done] })
    const link = await world.newLink()
    const { page } = await world.visit()
    for (const wrong of [`${done}&x=1`, `${stranger}/done?from=connect`, `javascript:document.title='owned'`]) {
      await page.goto(`${link}&return_url=${encodeURIComponent(wrong)}`)
      await page.getByText('return_url_not_allowed').first().waitFor()
      assert.equal(await button(page, /^Continue/).count(), 0)
    }
    await page.goto(`${link}&return_url=${encodeURIComponent(done)}`)
    await page.reload()
    await toConsent(page)
    const window = await openWindow(page)
    await signIn(window)
    await title(page, 'Salesforce Sandbox is connected')
    await page.waitForURL(done)

    // Without a window the whole tab goes to the provider, and comes back there by itself.
    const here = await world.visit()
    await blockWindows(here)
    await here.page.goto(`${await world.newLink()}&return_url=${encodeURIComponent(done)}`)
    await toConsent(here.page)
    await button(here.page, /^Continue to/).click()
    await signIn(here.page)
    await here.page.waitForURL(done)
    await settings({ return_urls: [] })
  })

  it('in Arabic, by keyboard alone, right to left', async () => {
    const visitor = await world.visit({ locale: 'ar-EG', viewport: { width: 360, height: 800 } })
    const { page } = visitor
    await page.goto(await world.newLink())
    await title(page, 'أين تسجّل الدخول؟')
    assert.equal(await run(page, '() => getComputedStyle(document.body).direction'), 'rtl')
    assert.equal(await page.getAttribute('html', 'lang'), 'ar')
    await isSound(page, 'prepare')
    // The heading has the focus; from there: the choices, which the arrow keys walk through, then the address.
    await page.keyboard.press('Tab')
    await page.keyboard.press('ArrowDown')
    await page.keyboard.press('Tab')
    await page.keyboard.type('https://acme--uat.sandbox.lightning.force.com/lightning/setup/SetupOneHome/home')
    await page.getByText('acme--uat.sandbox.my.salesforce.com').waitFor()
    await isSound(page, 'a pasted address')
    await page.keyboard.press('Shift+Tab')
    await page.keyboard.press('ArrowUp')
    await page.keyboard.press('Enter')
    await title(page, /Beacon CRM/)
    await isSound(page, 'consent')
    const focused = () => run<string>(page, "() => document.activeElement?.className ?? ''")
    for (let step = 0; step < 6 && (await focused()) !== 'go'; step++) await page.keyboard.press('Tab')
    const window = await openWindow(page, () => page.keyboard.press('Enter'))
    await signIn(window)
    await title(page, /تم ربط/)
    await isSound(page, 'done')
    stayedHome(visitor)
  })

  it('understands what is pasted, and offers the right kind where there is one', async () => {
    const { page } = await world.visit()
    await page.goto(await world.newLink())
    await page.getByRole('radio', { name: /Paste an address/ }).check()
    const address = page.getByLabel('Address of your org')
    const reading = page.locator('#sf-read')
    for (const [pasted, said] of [
      ['acme--uat.sandbox.my.salesforce.com', /Sandbox uat of acme/],
      ['https://acme--uat.sandbox.lightning.force.com/lightning/page/home', /Sandbox uat of acme.*belongs to this org/],
      ['acme-dev-ed', /Developer Edition org acme-dev-ed.*logs in where production does/],
      ['acme--uat.sandbox.my.salesforce.com.evil.example', /not an address of Salesforce/],
      ['https://acme.my.salesforce.com@evil.example', /not an address/],
      ['ada@acme.com', /a user name/],
      ['na139.salesforce.com', /machine your org stands on/],
    ] as const) {
      await address.fill(pasted)
      await reading.filter({ hasText: said }).waitFor()
    }
    await address.fill('acme.my.salesforce.com')
    await page.getByText('That is a production org, and this connects sandboxes.').waitFor()
    assert.equal(await button(page, 'Continue').getAttribute('aria-disabled'), 'true')
    await button(page, 'Continue').click({ force: true })
    assert.equal(await page.locator('h1').textContent(), 'Where do you log in?')

    const credentials = { type: 'OAUTH2', client_id: 'x', client_secret: 'y' }
    await world.fairlead.call('POST', '/integrations', {
      provider: 'salesforce',
      unique_key: 'production',
      credentials,
    })
    await page.goto(await world.newLink({ end_user: { id: 'ada' }, allowed_integrations: [sandbox, 'production'] }))
    await title(page, 'Connect an account')
    await isSound(page, 'choose')
    await button(page, 'Salesforce Sandbox').click()
    await page.getByRole('radio', { name: 'Production' }).check()
    await button(page, 'Connect it with Salesforce instead').click()
    await page.getByRole('radio', { name: 'Production', checked: true }).waitFor()
    await button(page, 'Continue').click()
    await title(page, 'Connect Salesforce to Beacon CRM')
    await world.fairlead.call('DELETE', '/integrations/production')
  })

  /** Signs in as far as the window, and does there what a test wants. */
  async function attempt(act: (window: Page) => Promise<void>, theme: 'light' | 'dark' = 'light'): Promise<Visitor> {
    const visitor = await world.visit({ colorScheme: theme, viewport: { width: 360, height: 800 } })
    await visitor.page.goto(await world.newLink())
    await toConsent(visitor.page)
    await act(await openWindow(visitor.page))
    return visitor
  }

  it('fewer scopes than were asked for: it is connected, says what is missing, and waits to be read', async () => {
    const { control, app } = world.simulator
    for (const [theme, width] of [
      ['light', 1440],
      ['dark', 360],
    ] as const) {
      const { clientId } = app('acme--uat')
      const tokens = control.issueTokens({ username: 'ada@acme.com.uat', clientId, scopes: ['refresh_token'] })
      const body = { ...tokens, instance_url: world.simulator.base('acme--uat', 'name') }
      control.fail({ endpoint: 'token', grantType: 'authorization_code', status: 200, body })
      const visitor = await world.visit({ colorScheme: theme, viewport: { width, height: 800 } })
      const { page } = visitor
      await page.goto(await world.newLink())
      await toConsent(page)
      await signIn(await openWindow(page))
      await title(page, 'Salesforce Sandbox is connected')
      const shown = (await page.getByRole('status').textContent()) ?? ''
      assert.match(shown, /granted less than was asked for.*api: read and change your Salesforce data/)
      assert.match(shown, /looks after the app of Beacon CRM at Salesforce Sandbox/)
      await isSound(page, 'connected with less')
      assert.equal(await page.getByText('This closes by itself.').count(), 0)
      stayedHome(visitor)
    }
  })

  it('failure: access was denied, and it can be tried again', async () => {
    const { page } = await attempt(window => signIn(window, 'Deny'))
    await page.getByText('access_denied', { exact: true }).waitFor()
    await isSound(page, 'denied')
    await button(page, 'Try again').click()
    await signIn(await openWindow(page))
    await title(page, 'Salesforce Sandbox is connected')
  })

  it('failure: the secret is wrong', async () => {
    const right = world.simulator.app('acme--uat').clientSecret
    const change = (client_secret: string) =>
      world.fairlead.call('PATCH', `/integrations/${sandbox}`, {
        credentials: { type: 'OAUTH2', client_id: world.simulator.app('acme--uat').clientId, client_secret },
      })
    assert.equal((await change('wrong')).status, 200)
    const { page } = await attempt(signIn, 'dark')
    await page.getByText('token_client_invalid', { exact: true }).waitFor()
    await isSound(page, 'wrong secret')
    assert.equal((await change(right)).status, 200)
  })

  it('failure: the account is at a host that is not on the list', async () => {
    world.simulator.control.fail({
      endpoint: 'token',
      status: 200,
      body: JSON.stringify({
        access_token: 'a',
        refresh_token: 'r',
        instance_url: 'https://evil.example',
        token_type: 'Bearer',
      }),
    })
    const { page } = await attempt(signIn)
    await title(page, 'This account is at an address we do not send access to')
    await isSound(page, 'host refused')
    world.simulator.control.clearFaults()
  })

  it('failure: the session has ended, or there is none', async () => {
    const link = await world.newLink()
    const { page } = await world.visit()
    await page.goto(link)
    await toConsent(page)
    const window = await openWindow(page)
    await world.fairlead.call('DELETE', '/connect/session', undefined, { Authorization: `Bearer ${tokenOf(link)}` })
    await title(page, 'This link has ended')
    await isSound(page, 'ended')
    await window.close()
    await page.goto(`${world.fairlead.app.url}/connect/?session_token=nonsense`)
    await title(page, 'This link has ended')
    const fresh = await world.visit()
    await fresh.page.goto(`${world.fairlead.app.url}/connect/`)
    await title(fresh.page, 'This page was opened without a link')
    await isSound(fresh.page, 'no link')
  })

  it('failure: nothing came back for a minute, and it still listens', async () => {
    const { page } = await world.visit({ viewport: { width: 360, height: 800 } })
    await page.clock.install()
    await page.goto(await world.newLink())
    await toConsent(page)
    const window = await openWindow(page)
    await page.clock.fastForward(30_000)
    await page.getByText('Waiting for you at Salesforce Sandbox', { exact: true }).first().waitFor()
    await page.clock.fastForward(40_000)
    await title(page, 'Salesforce Sandbox never sent you back')
    assert.equal(await page.getByRole('listitem').count(), 4)
    assert.ok((await page.textContent('main'))?.includes(`${world.fairlead.app.url}/oauth/callback`))
    // The clock is the whole context's, and moving it in a window that closes meanwhile fails.
    const closed = window.waitForEvent('close')
    await signIn(window)
    await closed
    await page.clock.runFor(5_000)
    await title(page, 'Salesforce Sandbox is connected')
  })

  it('failure: a blocked window becomes a redirect, and in a frame a link', async () => {
    const earlier = (await world.connections()).length
    const visitor = await world.visit()
    await blockWindows(visitor)
    const { page } = visitor
    await page.goto(await world.newLink())
    await toConsent(page)
    await button(page, /^Continue to/).click()
    await signIn(page)
    await title(page, 'Salesforce Sandbox is connected')
    assert.equal(new URL(page.url()).pathname, '/oauth/callback')
    assert.equal((await world.connections()).length, earlier + 1)
    stayedHome(visitor)

    const framed = await world.visit()
    await blockWindows(framed)
    await framed.page.goto(product)
    await show(framed.page, await world.newLink())
    const frame = framed.page.frameLocator('#connect-ui')
    await frame.getByRole('button', { name: 'Continue' }).click()
    await frame.getByRole('button', { name: /^Continue to/ }).click()
    await frame.getByRole('heading', { name: 'Your browser blocked the window' }).waitFor()
    const tab = framed.context.waitForEvent('page')
    await frame.getByRole('link', { name: 'Open Salesforce Sandbox' }).click()
    await signIn(await tab)
    await frame.getByRole('heading', { name: 'Salesforce Sandbox is connected' }).waitFor()
  })

  it('needs no socket: with it blocked, the end is found by asking', async () => {
    const visitor = await world.visit()
    await visitor.context.routeWebSocket(/.*/, socket => void socket.close())
    const { page } = visitor
    await page.goto(await world.newLink())
    await toConsent(page)
    await signIn(await openWindow(page))
    await title(page, 'Salesforce Sandbox is connected')
  })

  it('needs no opener: a provider that cuts its window off (COOP) ends as well; its form is made of its data', async () => {
    const { page } = await world.visit()
    await page.goto(await world.newLink({ end_user: { id: 'ada' }, allowed_integrations: ['severing'] }))
    await title(page, 'Connect Severing')
    await isSound(page, 'a form')
    const region = page.getByLabel('Workspace')
    await button(page, 'Continue').click()
    await page.getByText('Workspace is needed.').waitFor()
    await region.fill('No Spaces')
    await page.getByText('This does not have the form Workspace has.').waitFor()
    await isSound(page, 'a form with a fault')
    await region.fill('https://acme.severing.example')
    await region.blur()
    assert.equal(await region.inputValue(), 'acme', 'the part that is asked')
    assert.equal(await page.getByLabel('Cluster').count(), 0)
    await page.getByLabel('Plan').selectOption('dedicated')
    await page.getByLabel('Cluster').fill('c1')
    await button(page, 'Continue').click()
    await title(page, 'Connect Severing to Beacon CRM')
    const window = await openWindow(page)
    await window.getByRole('link', { name: 'Back to the product' }).click()
    await title(page, 'Severing is connected')
    const [{ connection_id: id } = { connection_id: '' }] = await world.connections()
    const { json } = await world.fairlead.call('GET', `/connections/${id}?provider_config_key=severing`)
    assert.deepEqual(json.connection_config, { workspace: 'acme', plan: 'dedicated', cluster: 'c1' })
  })

  it('an OAuth client that the session leaves open is asked for, and is whom the provider sees', async () => {
    const { page } = await world.visit()
    const open = { oauth_client_id_override: '', oauth_client_secret_override: '' }
    const link = await world.newLink({
      end_user: { id: 'ada' },
      allowed_integrations: [sandbox],
      integrations_config_defaults: {
        [sandbox]: { connection_config: { ...open, hostname: 'acme--uat.sandbox.my.salesforce.com' } },
      },
    })
    await page.goto(link)
    await page.getByLabel('Client ID').fill('a-client-of-their-own')
    await page.getByRole('textbox', { name: 'Client secret' }).fill('and its secret')
    await button(page, 'Continue').click()
    const asked = page.context().waitForEvent('request', request => request.url().includes('oauth2/authorize'))
    await button(page, /^Continue to/).click()
    assert.equal(new URL((await asked).url()).searchParams.get('client_id'), 'a-client-of-their-own')
    assert.doesNotMatch((await asked).url(), /secret/)
  })

  it('a key: no window, and it is in the page no longer than it takes to send it', async () => {
    const made = await world.fairlead.call('POST', '/integrations', { provider: 'keyed', unique_key: 'keyed' })
    assert.equal(made.status, 200, made.text)
    const visitor = await world.visit({ colorScheme: 'dark', viewport: { width: 360, height: 800 } })
    const { page } = visitor
    await page.goto(await world.newLink({ end_user: { id: 'ada' }, allowed_integrations: ['keyed'] }))
    const key = page.getByRole('textbox', { name: 'API key' })
    await key.fill('wrong')
    await button(page, 'Connect Keyed').click()
    await page.getByText('This does not have the form API key has.').waitFor()
    await isSound(page, 'a key with a fault')
    assert.equal(await key.getAttribute('type'), 'password')
    await button(page, 'Show: API key').click()
    assert.notEqual(await key.getAttribute('type'), 'password')
    await key.fill('key-4f2a')
    await button(page, 'Connect Keyed').click()
    await title(page, 'Keyed is connected')
    assert.ok(!(await page.content()).includes('key-4f2a'))
    assert.ok(visitor.requests.every(url => !url.includes('key-4f2a')))
    const kept = await run<string>(
      page,
      '() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, history.state])',
    )
    assert.doesNotMatch(kept, /key-4f2a/)
    stayedHome(visitor)
  })

  it('failure: the server is away when the page is opened', async () => {
    const { context, page } = await world.visit()
    await context.route('**/connect/session', route => route.abort())
    await page.goto(await world.newLink())
    await title(page, 'This page cannot reach its server')
    await context.unroute('**/connect/session')
    await button(page, 'Try again').click()
    await title(page, 'Where do you log in?')
  })

  it('a reconnect names the account it expects, and refuses another with both side by side', async () => {
    const { page } = await attempt(signIn)
    await title(page, 'Salesforce Sandbox is connected')
    const [connection] = await world.connections()
    const opened = await world.fairlead.call('POST', '/connect/sessions/reconnect', {
      connection_id: connection?.connection_id,
      integration_id: sandbox,
    })
    const { page: anothers } = await world.visit()
    await refuses(anothers, opened.json.data.connect_link)
    const { page: own } = await world.visit()
    await own.goto(opened.json.data.connect_link)
    await signIn(await openWindow(own))
    await title(own, 'Salesforce Sandbox is connected again')
  })

  async function refuses(page: Page, link: string): Promise<void> {
    await page.goto(link)
    await title(page, 'Reconnect Salesforce Sandbox')
    const expected = (await page.getByRole('region', { name: 'Expected account' }).textContent()) ?? ''
    assert.ok(expected.includes(new URL(world.simulator.base('acme--uat', 'name')).host), expected)
    await isSound(page, 'reconnect')
    const window = await openWindow(page)
    await window.getByLabel('Username').fill('ben@acme.com.uat')
    await signIn(window)
    await page.getByText('account_mismatch', { exact: true }).waitFor()
    await page.getByRole('heading', { name: 'Connected' }).waitFor()
    await page.getByRole('heading', { name: 'Signed in as' }).waitFor()
    await isSound(page, 'another account')
  }

  it('wears the looks of the environment, and names are text', async () => {
    const logo = `data:image/svg+xml;base64,${Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><script>parent.document.title="owned"</script><rect width="8" height="8"/></svg>').toString('base64')}`
    const markup = `<img src=x onerror="document.title='owned'">`
    const { connect_ui: looks } = await settings({
      connect_ui: { primary_light: '#ffd400', logo, radius: 'square', product_name: markup, default_theme: 'dark' },
    })
    assert.notEqual(looks.primary_light, '#ffd400', 'yellow on white is moved until it can be read')
    const visitor = await world.visit({ colorScheme: 'light' })
    const { page } = visitor
    await page.goto(
      await world.newLink({ end_user: { id: 'm', display_name: markup }, allowed_integrations: [sandbox] }),
    )
    await toConsent(page)
    assert.match((await page.textContent('main')) ?? '', /<img src=x onerror=/)
    assert.equal(await page.locator('main img').count(), 2, 'the two marks')
    const style = (of: string) =>
      run(page, 'name => getComputedStyle(document.documentElement).getPropertyValue(name)', of)
    assert.equal(await style('--radius-control'), '0')
    assert.equal(await run(page, '() => getComputedStyle(document.documentElement).colorScheme'), 'dark')
    await isSound(page, 'in other colours')
    assert.notEqual(await page.title(), 'owned')
    stayedHome(visitor)
    await settings({ connect_ui: { logo: null, radius: 'soft', product_name: 'Beacon CRM', default_theme: 'system' } })
  })

  it('fits a small screen in every language', async () => {
    const { page } = await world.visit({ viewport: { width: 320, height: 700 } })
    const link = await world.newLink()
    for (const language of ['en', 'de', 'es', 'fr', 'ja', 'pt', 'ar']) {
      await page.goto(`${link}&lang=${language}`)
      await page.locator('form').waitFor()
      assert.equal(await page.getAttribute('html', 'lang'), language)
      await fits(page, `prepare in ${language}`)
      await page.locator('button.go').click()
      await page.locator('.terms').waitFor()
      await fits(page, `consent in ${language}`)
    }
    await page.getByRole('combobox').selectOption('de')
    await title(page, 'Salesforce Sandbox mit Beacon CRM verbinden')
  })

  it('is small: at most 60 KB in all, every language with it', async () => {
    const folder = new URL('../../../connect-ui/dist/', import.meta.url)
    const names = (await readdir(new URL('assets/', folder))).filter(name => name.endsWith('.gz'))
    const sizes = await Promise.all(names.map(async name => (await readFile(new URL(`assets/${name}`, folder))).length))
    const html = gzipSync(await readFile(new URL('index.html', folder))).length
    const all = sizes.reduce((sum, size) => sum + size, html)
    assert.ok(all <= 60 * 1024, `${all} bytes`)
  })
})
