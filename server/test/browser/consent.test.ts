/** What a person sees: a real Chromium, a real server, the simulator under the names browsers resolve. */
import assert from 'node:assert/strict'
import { after, before, describe, it, type TestContext } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { buildPages } from '../../../pages/build.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { password } from '../support/operator.ts'
import { launch, skipWithoutBrowser } from './chromium.ts'
import { allowAndStop } from './support/allow.ts'

const key = 'salesforce-sandbox'
const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
const account = (simulator: Simulator) => new URL(simulator.base('acme--uat', 'name')).host

describe('in Chromium', { skip: skipWithoutBrowser() }, () => {
  let simulator: Simulator
  let fairlead: Fairlead
  let browser: Browser
  const ends = lastFirst({ after })

  before(async () => {
    await buildPages(() => {})
    simulator = await startSimulator()
    ends.after(() => simulator.close())
    const providers = sandboxOverlay(simulator.base('test', 'name'), ['*.salesforce.localhost'])
    fairlead = await startFairlead(ends, { providers })
    const { clientId, clientSecret } = simulator.app('acme--uat')
    simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    const made = await fairlead.call('POST', '/integrations', { provider: key, unique_key: key, credentials })
    assert.equal(made.status, 200, made.text)
    browser = await launch()
    ends.after(() => browser.close())
  })

  /** A browser with nothing in it, and everything it did that a person does not see. */
  async function open(t: TestContext, options: BrowserContextOptions = {}) {
    const context = await browser.newContext(options)
    t.after(() => context.close())
    const seen = { requests: [] as string[], complaints: [] as string[] }
    context.on('request', request => void seen.requests.push(request.url()))
    context.on('console', message => {
      if (['error', 'warning'].includes(message.type()))
        seen.complaints.push(`${message.text()} at ${message.location().url}`)
    })
    context.on('weberror', error => void seen.complaints.push(error.error().message))
    return { context, page: await context.newPage(), ...seen }
  }

  const heading = (page: Page) => page.getByRole('heading', { level: 1 }).textContent()

  async function newLink(endUser: object = { id: 'ada', display_name: 'Ada of Acme' }): Promise<string> {
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: endUser, allowed_integrations: [key] })
    assert.equal(session.status, 201, session.text)
    return session.json.data.connect_link
  }

  const connections = async () => (await fairlead.call('GET', '/connections')).json.connections as { id: number }[]

  /** From the link to the page that asks for consent. */
  async function toConsent(page: Page, link: string): Promise<void> {
    const token = new URL(link).searchParams.get('session_token')
    await page.goto(`${fairlead.app.url}/oauth/connect/${key}?connect_session_token=${token}`)
    // Typed into the address bar, so it says who gains access first.
    await page.getByRole('button', { name: 'Continue to' }).click()
    await page.getByRole('button', { name: 'Log In' }).click()
    await page.getByRole('button', { name: 'Allow' }).waitFor()
  }

  async function decide(page: Page, decision: 'Allow' | 'Deny'): Promise<void> {
    await page.getByRole('button', { name: decision }).click()
    await page.waitForURL(url => url.pathname === '/oauth/callback' && url.search === '')
  }

  /** Every address this tab could still go back to. */
  async function history(context: BrowserContext, page: Page): Promise<string[]> {
    const devtools = await context.newCDPSession(page)
    const { entries } = await devtools.send('Page.getNavigationHistory')
    return entries.map(entry => entry.url)
  }

  /** Every origin that was asked for anything. */
  const origins = (requests: string[]) => [...new Set(requests.map(url => new URL(url).origin))].sort()
  const ours = () =>
    [fairlead.app.url, ...['test', 'acme--uat'].map(of => new URL(simulator.base(of, 'name')).origin)].sort()

  it('connects: sign-in, consent, and a page that says what happened', async t => {
    const earlier = (await connections()).length
    const { context, page, requests, complaints } = await open(t)
    await toConsent(page, await newLink())
    await decide(page, 'Allow')

    assert.equal(await heading(page), 'Salesforce Sandbox is connected')
    assert.equal(await page.getByText(account(simulator)).isVisible(), true)
    assert.equal(page.url(), `${fairlead.app.url}/oauth/callback`)
    const past = await history(context, page)
    assert.ok(past.length > 1, past.join(' '))
    for (const url of past) assert.doesNotMatch(url, /[?&#]code=|\/oauth\/callback./)
    assert.deepEqual(
      origins(requests).filter(origin => !ours().includes(origin)),
      [],
    )
    assert.deepEqual(complaints, [])
    const cookies = (await context.cookies(fairlead.app.url)).map(({ name }) => name)
    assert.deepEqual(
      cookies,
      ['fairlead_click'],
      'the cookie of the sign-in is gone; the one of the click says nothing',
    )
    assert.equal((await connections()).length, earlier + 1)

    await page.reload()
    assert.equal(await heading(page), 'A sign-in ends here, once')
    assert.equal((await connections()).length, earlier + 1)
  })

  it('says that access was not granted', async t => {
    const earlier = (await connections()).length
    const { context, page, requests, complaints } = await open(t)
    await toConsent(page, await newLink())
    await decide(page, 'Deny')

    assert.equal(await heading(page), 'Access was not granted')
    assert.equal(page.url(), `${fairlead.app.url}/oauth/callback`)
    for (const url of await history(context, page)) assert.doesNotMatch(url, /\/oauth\/callback./)
    assert.deepEqual(
      origins(requests).filter(origin => !ours().includes(origin)),
      [],
    )
    // Chromium itself reports that the page's status is 400.
    assert.deepEqual(
      complaints.filter(text => !text.includes('status of 400')),
      [],
    )
    assert.equal((await connections()).length, earlier)
  })

  it('refuses a sign-in that another browser began', async t => {
    const earlier = (await connections()).length
    const first = await open(t)
    const second = await open(t)
    await toConsent(first.page, await newLink())
    const moved = await allowAndStop(first.context, first.page)
    assert.match(moved, /code=/)

    await second.page.goto(moved)
    assert.equal(await heading(second.page), 'This sign-in belongs to another browser')
    assert.equal(second.page.url(), `${fairlead.app.url}/oauth/callback`)
    // Its own browser does not get it back: a state is looked at once.
    await first.page.goto(moved)
    assert.equal(await heading(first.page), 'This sign-in has already ended')
    assert.equal((await connections()).length, earlier)
  })

  it('shows a name that is markup to an operator as text', async t => {
    const person = await open(t)
    await toConsent(person.page, await newLink({ id: 'mallory', display_name: markup }))
    await decide(person.page, 'Allow')
    const { page, complaints, requests } = await open(t)
    await page.goto(`${fairlead.app.url}/app/`)
    await page.getByLabel('Your name').fill('Olive')
    await page.getByLabel('E-mail address').fill('olive@acme.com')
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Create the owner' }).click()
    await page.getByRole('link', { name: 'Connections', exact: true }).click()
    await page.getByText(markup).first().waitFor()
    assert.equal(await page.locator('img').count(), 0)
    assert.equal(await page.title(), 'Connections · Fairlead')
    assert.deepEqual(origins(requests), [fairlead.app.url])
    assert.deepEqual(complaints, [])
  })
})
