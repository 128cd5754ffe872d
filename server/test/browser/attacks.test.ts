/**
 * Attacks on linking, in Chromium: whoever begins a sign-in is not whoever finishes it, a page of another site opens, frames or feeds ours, a
 * link leads away, a mail scanner opens everything. After each there is no connection that anybody can use, and where a person stands there
 * is a page that says what happened. (Security checklist LK2–LK4, UI1, UI2, UI4.)
 */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, afterEach, before, describe, it } from 'node:test'
import type { Page } from 'playwright-core'
import { lastFirst } from '../support/last-first.ts'
import { skipWithoutBrowser } from './chromium.ts'
import { allowAndStop } from './support/allow.ts'
import { type BrowserWorld, sandbox, startBrowserWorld } from './world.ts'

const mallory = { end_user: { id: 'mallory', display_name: 'Mallory of Evil' }, allowed_integrations: [sandbox] }
const ada = { end_user: { id: 'ada', display_name: 'Ada of Acme' }, allowed_integrations: [sandbox] }

describe('attacks in Chromium', { skip: skipWithoutBrowser() }, () => {
  let world: BrowserWorld
  /** The product's page, and a page of another site; other sites, because `localhost`, `evil.localhost` and our 127.0.0.1 have nothing in common. */
  let product: string
  let evil: string
  const ends = lastFirst({ after })

  before(async () => {
    world = await startBrowserWorld(ends)
    product = await serve('localhost')
    evil = await serve('evil.localhost')
  })

  afterEach(async () => {
    await world.leave()
    await settings({ allowed_origins: [], return_urls: [], confirm_connections: false })
    assert.deepEqual(await world.connections(), [], 'no connection is left')
  })

  /** Every path is the same page: it keeps what it hears, and sends no referrer where its query says so. */
  async function serve(host: string): Promise<string> {
    const server = createServer((req, res) => {
      res.setHeader('Content-Type', 'text/html')
      if (req.url?.includes('silent')) res.setHeader('Referrer-Policy', 'no-referrer')
      res.end(`<!doctype html><title>${host}</title><h1>${host}</h1><script>
        window.heard = []
        addEventListener('message', ({ data, origin }) => heard.push({ data, origin }))
      </script>`)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    ends.after(async () => {
      server.closeAllConnections()
      server.close()
    })
    return `http://${host}:${(server.address() as AddressInfo).port}`
  }

  async function settings(change: object): Promise<void> {
    const answer = await world.fairlead.call('PATCH', '/environment/settings', change)
    assert.equal(answer.status, 200, answer.text)
  }

  const tokenOf = (link: string): string => new URL(link).searchParams.get('session_token') ?? ''
  const startOf = async (who: object, query = ''): Promise<string> =>
    `${world.fairlead.app.url}/oauth/connect/${sandbox}?connect_session_token=${tokenOf(await world.newLink(who))}${query}`
  const heading = (page: Page, name: string | RegExp) => page.getByRole('heading', { level: 1, name }).waitFor()
  const run = <Answer>(page: Page, text: string, ...given: unknown[]): Promise<Answer> =>
    page.evaluate(`(${text})(...${JSON.stringify(given)})`)

  /** Through the click of a link to the page that asks for consent. */
  async function toConsent(page: Page, start: string): Promise<void> {
    await page.goto(start)
    await page.getByRole('button', { name: 'Continue to' }).click()
    await page.getByRole('button', { name: 'Log In' }).click()
    await page.getByRole('button', { name: 'Allow' }).waitFor()
  }

  /** A page with a WebSocket of ours in it, as the wire contract's client for browsers opens one. */
  const socketOf = (page: Page): Promise<string> =>
    run(
      page,
      `url => new Promise(resolve => {
        window.socket = new WebSocket(url)
        socket.onmessage = ({ data }) => resolve(JSON.parse(data).ws_client_id)
      })`,
      world.fairlead.app.url.replace('http', 'ws'),
    )

  describe('the attacker starts, the victim finishes', () => {
    it('at the provider: the way back counts only in the browser that began', async () => {
      const attacker = await world.visit()
      const victim = await world.visit()
      await attacker.page.goto(await startOf(mallory))
      await attacker.page.getByRole('button', { name: 'Continue to' }).click()
      await attacker.page.getByRole('button', { name: 'Log In' }).waitFor()
      // The victim is sent the address the attacker stands at, and signs in there in earnest.
      await victim.page.goto(attacker.page.url())
      await victim.page.getByRole('button', { name: 'Log In' }).click()
      await victim.page.getByRole('button', { name: 'Allow' }).click()
      await heading(victim.page, 'This sign-in belongs to another browser')
      assert.equal(victim.page.url(), `${world.fairlead.app.url}/oauth/callback`)
    })

    it('by a link: it says who will gain access, and nothing happens without a click', async () => {
      const { page } = await world.visit()
      await page.goto(await startOf(mallory))
      await heading(page, 'Give access to your Salesforce Sandbox account?')
      assert.match((await page.textContent('main')) ?? '', /Mallory of Evil/)
    })

    for (const [name, path] of [
      ['on a page that names itself', '/'],
      ['on a page that hides its name', '/silent'],
    ] as const)
      it(`by a link with the id of the attacker’s own socket, ${name}`, async () => {
        // Two people behind one address, with the same browser: nothing but the page tells them apart.
        const attacker = await world.visit()
        await attacker.page.goto(product)
        const start = await startOf(mallory, `&ws_client_id=${await socketOf(attacker.page)}`)
        const victim = await world.visit()
        await victim.page.goto(`${evil}${path}`)
        await run(victim.page, 'url => void (location.href = url)', start)
        await heading(victim.page, 'Give access to your Salesforce Sandbox account?')
        assert.match((await victim.page.textContent('main')) ?? '', /Mallory of Evil/)
      })

    it('and clicks on, too: what nobody confirms is of no use, and the victim’s own name confirms nothing', async () => {
      await settings({ confirm_connections: true })
      const { page } = await world.visit()
      await toConsent(page, await startOf(mallory))
      await page.getByRole('button', { name: 'Allow' }).click()
      await heading(page, 'Salesforce Sandbox is connected')
      const [{ connection_id: id = '' } = {}] = await world.connections()
      const { call } = world.fairlead
      const path = `/connections/${id}?provider_config_key=${sandbox}`
      const named = { 'Provider-Config-Key': sandbox, 'Connection-Id': id }
      const confirm = () =>
        call('POST', `/connections/${id}/confirm?provider_config_key=${sandbox}`, { end_user_id: 'ada' })
      const tried = [
        await call('GET', path),
        await call('GET', '/proxy/services/data', undefined, named),
        await confirm(),
      ]
      assert.deepEqual(
        tried.map(({ status, headers }) => [status, headers.get('fairlead-error')]),
        [
          [424, 'connection_unconfirmed'],
          [424, 'connection_unconfirmed'],
          [409, 'conflict'],
        ],
      )
      assert.equal((await call('DELETE', path)).status, 200)
    })
  })

  describe('swapped callbacks', () => {
    it('between two browsers: neither gets the other’s', async () => {
      const visitors = [await world.visit(), await world.visit()]
      const ways: string[] = []
      for (const [at, { context, page }] of visitors.entries()) {
        await toConsent(page, await startOf(at === 0 ? ada : mallory))
        ways.push(await allowAndStop(context, page))
      }
      for (const [at, { page }] of visitors.entries()) {
        await page.goto(ways[1 - at]!)
        await heading(page, 'This sign-in belongs to another browser')
      }
      // And what was spoilt in the attempt is spoilt for good.
      for (const [at, { page }] of visitors.entries()) {
        await page.goto(ways[at]!)
        await heading(page, 'This sign-in has already ended')
      }
    })

    it('in one browser: a code belongs to the sign-in it was issued for', async () => {
      const { context, page } = await world.visit()
      const ways: URL[] = []
      for (const who of [ada, mallory]) {
        await toConsent(page, await startOf(who))
        ways.push(new URL(await allowAndStop(context, page)))
      }
      const [first, second] = ways as [URL, URL]
      const code = first.searchParams.get('code')!
      first.searchParams.set('code', second.searchParams.get('code')!)
      second.searchParams.set('code', code)
      for (const way of [first, second]) {
        await page.goto(way.href)
        await page.getByText('token_exchange_refused').waitFor()
      }
    })
  })

  describe('a hostile opener', () => {
    it('begins nothing by its socket where the environment names its own pages', async () => {
      await settings({ allowed_origins: [product] })
      const { page } = await world.visit()
      await page.goto(evil)
      const start = await startOf(mallory, `&ws_client_id=${await socketOf(page)}`)
      const opened = page.waitForEvent('popup')
      await run(page, 'url => void (window.popup = open(url))', start)
      const popup = await opened
      // Whose socket it is, only the server that holds it knows; another one asks for the click, as of anybody who comes from elsewhere.
      const refused = 'The account was not connected'
      await heading(
        popup,
        world.fairlead.servers === 1 ? refused : /^(The account was not connected|Give access to your )/,
      )
      if (await popup.getByRole('heading', { name: refused }).isVisible())
        assert.match((await popup.textContent('main')) ?? '', /origin_not_allowed/)
    })

    it('cannot feed a session to our page, say that a sign-in has ended, or hear how one did', async () => {
      const { page } = await world.visit()
      await page.goto(evil)
      const link = await world.newLink(ada)
      const opened = page.waitForEvent('popup')
      await run(page, 'url => void (window.popup = open(url))', `${world.fairlead.app.url}/connect/`)
      const connect = await opened
      await connect.getByRole('heading', { level: 1 }).waitFor()
      const before = await connect.textContent('main')
      const say = (message: unknown) => run(page, "message => popup.postMessage(message, '*')", message)
      await say({ type: 'session_token', sessionToken: tokenOf(link) })
      await say(
        JSON.parse('{"type":"session_token","__proto__":{"token":"x"},"constructor":{"prototype":{"token":"x"}}}'),
      )
      await say({ type: 'nango_oauth_callback_success' })
      // Messages are handled in order: when the last has been, so have the others.
      await connect.evaluate('new Promise(done => setTimeout(done))')
      assert.equal(await connect.textContent('main'), before)

      await connect.goto(link)
      await connect.getByRole('button', { name: 'Continue' }).click()
      await connect.getByRole('button', { name: /^Continue to/ }).waitFor()
      await say({ type: 'nango_oauth_callback_success' })
      await say({ type: 'connect', payload: { providerConfigKey: sandbox, connectionId: 'mallory' } })
      await connect.evaluate('new Promise(done => setTimeout(done))')
      assert.equal(await connect.getByRole('button', { name: /^Continue to/ }).count(), 1, 'it still asks')

      // The last page of a sign-in speaks to the page that began it; whoever opened the window in its stead hears nothing.
      await connect.goto(await startOf(ada))
      await connect.getByRole('button', { name: 'Continue to' }).click()
      await connect.getByRole('button', { name: 'Log In' }).click()
      await connect.getByRole('button', { name: 'Deny' }).click()
      await heading(connect, 'Access was not granted')
      assert.deepEqual(await run(page, '() => heard'), [])
    })
  })

  describe('a hostile frame', () => {
    const frames: [name: string, address: () => Promise<string>][] = [
      ['the link', () => world.newLink(ada)],
      ['the page before the provider’s', () => startOf(mallory)],
      ['the way back', async () => `${world.fairlead.app.url}/oauth/callback?code=c&state=s`],
      ['the dashboard', async () => `${world.fairlead.app.url}/app/`],
    ]
    for (const [name, address] of frames)
      it(`around ${name}: stays empty`, async () => {
        await settings({ allowed_origins: [product] })
        const { page } = await world.visit()
        await page.goto(evil)
        const refused = page.waitForEvent('console', message => /frame-ancestors|Framing/i.test(message.text()))
        await run(
          page,
          `url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame) }`,
          await address(),
        )
        await refused
        for (const frame of page.frames().slice(1))
          assert.doesNotMatch(frame.url(), /^http/, 'a page of ours was shown')
      })

    it('around the page that takes its token by message: shows nothing of the session, and says so', async () => {
      const { page } = await world.visit()
      await page.goto(evil)
      // The list comes after the page was served: that its policy lets nobody frame it is tested above.
      await run(
        page,
        `(base, token) => {
          const frame = document.createElement('iframe')
          frame.src = base + '/connect/'
          addEventListener('message', ({ data }) => {
            if (data.type === 'ready') window.give = () => frame.contentWindow.postMessage({ type: 'session_token', sessionToken: token }, '*')
          })
          document.body.append(frame)
        }`,
        world.fairlead.app.url,
        tokenOf(await world.newLink(ada)),
      )
      await page.waitForFunction('window.give')
      await settings({ allowed_origins: [product] })
      await run(page, '() => give()')
      const frame = page.frameLocator('iframe')
      await frame.getByRole('heading', { name: 'This page may not be shown here' }).waitFor()
      assert.doesNotMatch((await frame.locator('body').textContent()) ?? '', /Ada of Acme/)
      assert.equal(await frame.getByRole('button', { name: 'Continue' }).count(), 0)
    })
  })

  it('a foreign return URL: refused before anything began, and the browser goes nowhere', async () => {
    await settings({ return_urls: [`${product}/done`] })
    const visitor = await world.visit()
    const token = tokenOf(await world.newLink(ada))
    const { host } = new URL(product)
    for (const wrong of [`${evil}/done`, `${product}/done?to=${evil}`, `http://${host}@${new URL(evil).host}/done`]) {
      const query = `?connect_session_token=${token}&return_url=${encodeURIComponent(wrong)}`
      await visitor.page.goto(`${world.fairlead.app.url}/oauth/connect/${sandbox}${query}`)
      await visitor.page.getByRole('button', { name: 'Continue to' }).click()
      await heading(visitor.page, 'The account was not connected')
      assert.match((await visitor.page.textContent('main')) ?? '', /return_url_not_allowed/)
    }
    assert.deepEqual(
      visitor.requests.filter(url => new URL(url).origin !== world.fairlead.app.url),
      [],
      'nobody else was asked for anything',
    )
  })

  it('a mail scanner that opens every link it finds, in a browser of its own: begins nothing, and uses nothing up', async () => {
    const links = [await world.newLink(ada), await startOf(ada)]
    const scanner = await world.visit()
    const seen = new Set<string>()
    for (let next = links.shift(); next; next = links.shift()) {
      seen.add(next)
      await scanner.page.goto(next)
      await scanner.page.getByRole('heading', { level: 1 }).waitFor()
      // Links, and where forms go, as one that is curious would open them.
      const found = await run<string[]>(
        scanner.page,
        `() => [...document.querySelectorAll('a[href],form[action]')].map(one => one.href ?? one.action)`,
      )
      const ours = found.filter(url => url.startsWith(world.fairlead.app.url) && !url.includes('/docs/'))
      links.push(...ours.filter(url => !seen.has(url) && !links.includes(url)))
    }
    assert.ok(
      [...seen].some(url => url.includes('&click=')),
      'it opened where the button goes',
    )
    assert.deepEqual(
      scanner.requests.filter(url => /services\/oauth2|\/oauth\/callback/.test(url)),
      [],
      'nobody was sent to the provider',
    )
    // Whoever the link was for connects with it.
    const person = await world.visit()
    const start = [...seen].find(url => url.includes('/oauth/connect/') && !url.includes('&click='))!
    await toConsent(person.page, start)
    await person.page.getByRole('button', { name: 'Allow' }).click()
    await heading(person.page, 'Salesforce Sandbox is connected')
    const [{ connection_id: id = '' } = {}, ...others] = await world.connections()
    assert.deepEqual(others, [])
    await world.fairlead.call('DELETE', `/connections/${id}?provider_config_key=${sandbox}`)
  })
})
