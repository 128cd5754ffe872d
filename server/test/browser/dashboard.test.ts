/** The dashboard as an operator uses it: a real Chromium, a real server, the simulator behind it. */
import assert from 'node:assert/strict'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { buildPages } from '../../../pages/build.ts'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../db/until.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { invited, newOwner, password } from '../support/operator.ts'
import { newEncryptionKey, vaultOn } from '../support/vault.ts'
import { launch, skipWithoutBrowser } from './chromium.ts'
import { fillWithData } from './support/data.ts'

const key = 'salesforce-sandbox'
/** Where a person who changes the dashboard has the pictures put: SHOTS=folder. */
const shots = process.env.SHOTS

const axe = await import('axe-core').then(module => module.default.source)

/** Whatever is amiss on this page, as axe finds it. */
async function serious(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() =>
    (
      globalThis as unknown as {
        axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> }
      }
    ).axe.run(),
  )
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`)
}

async function shot(page: Page, name: string): Promise<void> {
  if (!shots) return
  await mkdir(shots, { recursive: true })
  await page.screenshot({ path: join(shots, `${name}.png`) })
}

const quietly = ['status of 401', 'status of 403', 'status of 404', 'status of 409', 'status of 429', 'status of 400']

async function open(browser: Browser, t: TestContext, options: BrowserContextOptions = {}) {
  // axe is put in by the test; the page's own policy would refuse it. The policy is asserted where it is made.
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    reducedMotion: 'reduce',
    bypassCSP: true,
    ...options,
  })
  t.after(() => context.close())
  const complaints: string[] = []
  const requests: string[] = []
  context.on('request', request => void requests.push(request.url()))
  context.on('weberror', error => void complaints.push(error.error().message))
  context.on('console', message => {
    if (message.type() === 'error' && !quietly.some(text => message.text().includes(text)))
      complaints.push(message.text())
  })
  return { context, page: await context.newPage(), complaints, requests }
}

async function signIn(page: Page, fairlead: Fairlead, email = 'owner@acme.com'): Promise<void> {
  await page.goto(`${fairlead.app.url}/app/`)
  await page.getByLabel('E-mail address').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor()
}

async function withSimulator(ends: {
  after(work: () => Promise<void>): void
}): Promise<{ simulator: Simulator; fairlead: Fairlead }> {
  const simulator = await startSimulator()
  ends.after(() => simulator.close())
  const fairlead = await startFairlead(ends, {
    providers: sandboxOverlay(simulator.base('test', 'name'), ['*.salesforce.localhost']),
  })
  const { clientId } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
  return { simulator, fairlead }
}

describe('the dashboard', { skip: skipWithoutBrowser() }, () => {
  let browser: Browser
  const ends = lastFirst({ after })
  before(async () => {
    await buildPages(() => {})
    browser = await launch()
    ends.after(() => browser.close())
  })

  it('is a first run by mouse: from an empty data folder to an answer through the proxy', async t => {
    const { simulator, fairlead } = await withSimulator(lastFirst(t))
    const { context, page, complaints, requests } = await open(browser, t, { bypassCSP: false })
    await page.goto(`${fairlead.app.url}/`)
    await page.getByRole('heading', { name: 'Set up this server' }).waitFor()
    await shot(page, 'setup')
    await page.getByLabel('Your name').fill('Olive Owner')
    await page.getByLabel('E-mail address').fill('owner@acme.com')
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Create the owner' }).click()
    await page.getByRole('link', { name: 'Add an integration' }).click()
    await shot(page, 'catalogue')
    await page.getByRole('link', { name: /^Salesforce Sandbox/ }).click()
    const { clientId, clientSecret } = simulator.app('acme--uat')
    await page.getByLabel(/^Client id/).fill(clientId)
    await page.getByLabel(/^Client secret/).fill(clientSecret)
    await page.getByText(`${fairlead.app.url}/oauth/callback`).first().waitFor()
    await page.getByText('Looks right.').or(page.getByText('Consumer keys that begin')).waitFor()
    await shot(page, 'new-integration')
    await page.getByRole('button', { name: 'Add the integration' }).click()
    const opened = context.waitForEvent('page')
    await page.getByRole('button', { name: 'Connect an account' }).first().click()
    const tab = await opened
    await tab.getByRole('radio', { name: 'Sandbox' }).check()
    await tab.getByRole('button', { name: 'Continue' }).click()
    const signIn = tab.waitForEvent('popup')
    await tab.getByRole('button', { name: /^Continue to/ }).click()
    const provider = await signIn
    await provider.getByRole('button', { name: 'Log In' }).click()
    await provider.getByRole('button', { name: 'Allow' }).click()
    await tab.getByRole('heading', { name: 'Salesforce Sandbox is connected' }).waitFor()
    await tab.close()
    await page.getByRole('link', { name: 'Home' }).click()
    await page.getByRole('link', { name: 'Open the playground' }).click()
    await page.getByRole('button', { name: 'Send' }).click()
    await page.getByText('Edge Communications').waitFor()
    await shot(page, 'playground')
    await page.getByRole('link', { name: 'Home' }).click()
    await page.getByText('p50').first().waitFor()
    assert.deepEqual(complaints, [])
    const foreign = requests.filter(
      url =>
        ![fairlead.app.url, 'blob:', 'data:'].some(own => url.startsWith(own)) &&
        !url.includes('salesforce.localhost') &&
        !url.startsWith('about:'),
    )
    assert.deepEqual(foreign, [])

    // The call is in Activity; another one appears there by itself.
    await page.goto(`${fairlead.app.url}/app/activity`)
    await page.getByText('200').first().waitFor()
    const rows = () => page.locator('.line.calls').count()
    const before = await rows()
    const { connections } = (await fairlead.call('GET', '/connections')).json
    const called = await fairlead.call('GET', '/proxy/services/data/v66.0/limits', undefined, {
      'Provider-Config-Key': key,
      'Connection-Id': connections[0].connection_id,
    })
    assert.equal(called.status, 200)
    const from = performance.now()
    await until(async () => (await rows()) > before)
    t.diagnostic(`a proxied call was on the page ${Math.round(performance.now() - from)} ms after its answer`)
    await page.goto(`${fairlead.app.url}/app/connections/${key}/${connections[0].connection_id}`)
    await page.getByRole('heading', { name: 'Tokens' }).waitFor()
    await page.getByRole('button', { name: 'Examine' }).click()
    await page.getByRole('button', { name: 'Examine again' }).waitFor({ timeout: 30_000 })
    assert.ok((await page.locator('.finding').count()) > 0)
    await shot(page, 'connection')

    // An address for the org's own messages: shown once, and what comes there is seen.
    await fairlead.call('PATCH', '/environment/settings', { webhook_url: 'http://127.0.0.1:9/' })
    await page.getByText('There is no address yet.').waitFor()
    await page.getByRole('button', { name: 'New address' }).click()
    const shown = page.getByRole('dialog').getByText(/\/webhook\/[A-Za-z0-9_-]{43}$/)
    await shown.waitFor()
    await shot(page, 'webhook-address')
    const url = ((await shown.textContent()) ?? '').trim()
    const message = { org: 'acme--uat', url, object: 'Account' }
    assert.equal((await simulator.control.sendOutboundMessage(message)).acknowledged, true)
    const path = `/connections/${connections[0].connection_id}/webhook-addresses?provider_config_key=${key}`
    await until(async () => (await fairlead.call('GET', path)).json.addresses[0].received_at !== null)
    await page.reload()
    await page.getByText('Last received').waitFor()
    assert.equal(await page.getByText('nothing yet').count(), 0)
    assert.ok(!(await page.content()).includes(url.slice(-43)))
    await page.getByRole('button', { name: 'End…' }).click()
    await page.getByRole('button', { name: 'End it' }).click()
    await page.getByText('There is no address yet.').waitFor()
    assert.equal((await simulator.control.sendOutboundMessage(message)).status, 404)
  })

  it('walks every page with a thousand connections and a hundred thousand calls', async t => {
    const opened = lastFirst(t)
    const encryptionKey = newEncryptionKey()
    const fairlead = await startFairlead(opened, { env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey } })
    const { db, close } = await openDb({ url: fairlead.databaseUrl })
    opened.after(close)
    const owner = await newOwner(fairlead)
    await invited(fairlead, owner, 'viewer')
    await fairlead.call('PATCH', '/environment/settings', { webhook_url: 'https://hooks.acme.com/fairlead' })
    const connection = await fillWithData(fairlead, db, await vaultOn(db, encryptionKey))
    const { page, complaints } = await open(browser, t)
    await signIn(page, fairlead)
    const measured: Record<string, number> = {}
    const timed = async (name: string, act: () => Promise<unknown>, seen: () => Promise<unknown>) => {
      const from = performance.now()
      await act()
      await seen()
      measured[name] = Math.round(performance.now() - from)
    }
    const go = (name: string) =>
      page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name, exact: true }).click()
    const pages: [name: string, path: string, seen: () => Promise<unknown>][] = [
      ['Home', '/app/', () => page.getByText('of 1,000').waitFor()],
      ['Integrations', '/app/integrations', () => page.getByText('Acme CRM').first().waitFor()],
      ['Connections', '/app/connections', () => page.locator('.line.connections').first().waitFor()],
      ['Activity', '/app/activity', () => page.locator('.line.calls').first().waitFor()],
      ['Webhooks', '/app/webhooks', () => page.getByText('connection.').first().waitFor()],
      ['Playground', '/app/playground', () => page.getByRole('button', { name: 'Send' }).waitFor()],
      ['API keys', '/app/keys', () => page.getByText('everything in this environment').waitFor()],
      ['Audit', '/app/audit', () => page.getByText('Sign in succeeded').first().waitFor()],
      ['Settings', '/app/settings', () => page.getByLabel('Webhook URL').waitFor()],
    ]
    const names: Record<string, string> = { 'API keys': 'keys' }
    for (const [name, , seen] of pages) {
      await timed(`to ${name}`, () => go(name), seen)
      assert.deepEqual(await serious(page), [], name)
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme })
        await shot(page, `${names[name] ?? name.toLowerCase()}-${colorScheme}`)
        if (colorScheme === 'dark') assert.deepEqual(await serious(page), [], `${name}, dark`)
      }
      await page.emulateMedia({ colorScheme: 'light' })
    }
    // Lists hold what is seen, not everything.
    await go('Connections')
    await page.locator('.line.connections').first().waitFor()
    assert.ok((await page.locator('.line.connections').count()) < 80)
    await timed(
      'filter by state',
      () => page.getByRole('button', { name: 'Needs sign-in' }).click(),
      () => page.waitForFunction("document.querySelectorAll('.line .state.active').length === 0"),
    )
    assert.match(page.url(), /state=needs_reauth/)
    await page.reload()
    await page.locator('.line .state.attention').first().waitFor()
    assert.equal(await page.locator('.line .state.active').count(), 0, 'a filter is in the address')
    await page.keyboard.press('j')
    await page.keyboard.press('j')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Tokens' }).waitFor()
    await page.goBack()
    await page.locator('.line .state.attention').first().waitFor()
    await page.getByRole('searchbox', { name: 'Search connections' }).fill('nobody has this name')
    await page.getByText('No connection matches').waitFor()
    await page.getByRole('button', { name: 'Clear the filters' }).click()
    await page.goto(`${fairlead.app.url}/app/connections/${connection.integration}/${connection.id}`)
    await page.getByRole('heading', { name: 'Tokens' }).waitFor()
    await page.getByText('Renewed').first().waitFor()
    assert.deepEqual(await serious(page), [], 'a connection')
    await shot(page, 'connection-light')
    await page.emulateMedia({ colorScheme: 'dark' })
    await shot(page, 'connection-dark')
    await page.emulateMedia({ colorScheme: 'light' })

    await go('Activity')
    await page.locator('.line.calls').first().waitFor()
    await timed(
      'open a call',
      () => page.locator('.line.calls').nth(3).click(),
      () => page.getByText('Where the time went').waitFor(),
    )
    assert.deepEqual(await serious(page), [], 'a call')
    await shot(page, 'call')
    await page.keyboard.press('Escape')
    await timed(
      'filter by status',
      () => page.getByRole('button', { name: '5xx' }).click(),
      () => page.waitForFunction("document.querySelectorAll('.line.calls .good').length === 0"),
    )

    await timed(
      '⌘K',
      () => page.keyboard.press('Control+k'),
      () => page.getByRole('textbox', { name: 'Go to' }).waitFor(),
    )
    await page.getByRole('textbox', { name: 'Go to' }).fill('Customer 77')
    await page.getByText('Connection', { exact: true }).first().waitFor()
    await shot(page, 'palette')
    await page.keyboard.press('Escape')

    // What is not there says so, and the way back works.
    await page.goto(`${fairlead.app.url}/app/connections/${connection.integration}/nothing`)
    await page.getByRole('alert').waitFor()
    await page.goto(`${fairlead.app.url}/app/nowhere`)
    await page.getByText('No page has this address').waitFor()
    for (const tab of ['connect', 'encryption', 'environments', 'people', 'you']) {
      await page.goto(`${fairlead.app.url}/app/settings/${tab}`)
      await page.locator('.card').first().waitFor()
      assert.deepEqual(await serious(page), [], tab)
      await shot(page, `settings-${tab}`)
    }
    // Narrow: nothing runs out of the page.
    await page.setViewportSize({ width: 360, height: 760 })
    for (const [name, path, seen] of pages) {
      await page.goto(`${fairlead.app.url}${path}`)
      await seen()
      const over = await page.evaluate<number>(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      )
      assert.ok(over <= 0, `${name} is ${over} px too wide at 360`)
      await shot(page, `narrow-${names[name] ?? name.toLowerCase()}`)
    }
    assert.deepEqual(complaints, [])
    t.diagnostic(`milliseconds until it was seen: ${JSON.stringify(measured)}`)
    // Generous: the machine is shared.
    for (const [name, took] of Object.entries(measured)) assert.ok(took < 10_000, `${name} took ${took} ms`)
  })

  it('says of each page that there is nothing yet, opens each by its address, and goes back to it', async t => {
    const fairlead = await startFairlead(lastFirst(t))
    await newOwner(fairlead)
    const { page, complaints } = await open(browser, t)
    await signIn(page, fairlead)
    for (const [path, heading, said] of [
      ['/', 'Home', 'First steps'],
      ['/integrations', 'Integrations', 'No integration yet'],
      ['/integrations?new=1', 'New integration', 'Salesforce Sandbox'],
      ['/integrations?new=1&search=nobody', 'New integration', 'No provider matches'],
      ['/integrations?provider=salesforce-sandbox', 'New Salesforce Sandbox integration', 'Before you start'],
      ['/connections', 'Connections', 'No connection yet'],
      ['/connections?state=paused', 'Connections', 'No connection matches'],
      ['/activity', 'Activity', 'No call yet'],
      ['/activity?status=5xx', 'Activity', 'No call matches'],
      ['/webhooks', 'Webhooks', 'Nothing was sent yet'],
      ['/webhooks?state=failed', 'Webhooks', 'None is failed'],
      ['/playground', 'Playground', 'No connection to call'],
      ['/keys', 'API keys', 'everything in this environment'],
      ['/audit', 'Audit', 'Sign in succeeded'],
      ['/settings/webhooks', 'Settings', 'Made with the first webhook URL.'],
      ['/settings/connect', 'Settings', 'How it looks'],
      ['/settings/encryption', 'Settings', 'Rotate'],
      ['/settings/environments', 'Settings', '(you are in it)'],
      ['/settings/people', 'Settings', 'Olive Owner'],
      ['/settings/you', 'Settings', 'Password'],
      ['/settings/nowhere', 'Settings', 'There is no such page of settings'],
    ] as const) {
      await page.goto(`${fairlead.app.url}/app${path}`)
      const there = async () => {
        await page.getByRole('heading', { level: 1, name: heading, exact: true }).waitFor()
        await page.getByRole('main').getByText(said).first().waitFor()
      }
      await there()
      assert.deepEqual(await serious(page), [], path)
      await page
        .getByRole('navigation', { name: 'Pages' })
        .getByRole('link', { name: heading === 'Home' ? 'Audit' : 'Home' })
        .click()
      await page.getByRole('heading', { level: 1, name: heading === 'Home' ? 'Audit' : 'Home' }).waitFor()
      await page.goBack()
      await there()
      assert.equal(page.url(), `${fairlead.app.url}/app${path}`)
    }
    assert.deepEqual(complaints, [])
  })

  it('says of each page why it could not be loaded, and loads it again', async t => {
    const opened = lastFirst(t)
    const encryptionKey = newEncryptionKey()
    const fairlead = await startFairlead(opened, { env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey } })
    const { db, close } = await openDb({ url: fairlead.databaseUrl })
    opened.after(close)
    await newOwner(fairlead)
    const connection = await fillWithData(fairlead, db, await vaultOn(db, encryptionKey))
    const { page } = await open(browser, t)
    await signIn(page, fairlead)
    const isOurs = (url: URL) => !/^\/(app|operator)(\/|$)/.test(url.pathname)
    for (const [path, said] of [
      ['/', 'of 1,000'],
      ['/integrations', 'Acme CRM sandbox'],
      ['/integrations?new=1', 'Salesforce Sandbox'],
      ['/integrations?provider=salesforce-sandbox', 'Before you start'],
      ['/integrations/salesforce', 'How it behaves'],
      ['/connections', 'Customer 1000'],
      [`/connections/${connection.integration}/${connection.id}`, 'Recent calls'],
      ['/activity', '/services/data'],
      ['/webhooks', 'Nothing was sent yet'],
      ['/playground', 'Nothing sent yet'],
      ['/keys', 'everything in this environment'],
      ['/audit', 'Sign in succeeded'],
      ['/settings/webhooks', 'Signing key'],
      ['/settings/connect', 'How it looks'],
      ['/settings/encryption', 'Rotate'],
      ['/settings/environments', '(you are in it)'],
    ] as const) {
      const message = 'The database is away. It is asked again by itself.'
      // What the client would try again by itself is seen after seconds; this is said at once.
      const refuse = { status: 429, json: { error: { code: 'rate_limited', message } } }
      await page.route(isOurs, route => route.fulfill(refuse))
      await page.goto(`${fairlead.app.url}/app${path}`)
      const alert = page.getByRole('alert').filter({ hasText: message }).first()
      await alert.waitFor()
      assert.equal(await page.locator('h1').count(), 1, path)
      assert.deepEqual(await serious(page), [], path)
      await page.unroute(isOurs)
      // One for each thing that is missing; what a page asks again by itself may be there before it is pressed.
      const again = page.getByRole('button', { name: 'Try again' })
      await until(async () => {
        for (const button of await again.all()) await button.click({ timeout: 500 }).catch(() => {})
        return (await again.count()) === 0
      }).catch(cause => {
        throw new Error(path, { cause })
      })
      await page.getByRole('main').getByText(said).first().waitFor()
    }

    // More than a page of connections: the end of the list brings the next one, and a filter asks the server.
    await db.query(sql`
      insert into connection (environment_id, integration_id, credential_id, connection_id, end_user, created_at)
      select environment_id, integration_id, credential_id, 'late-' || n, jsonb_build_object('id', 'l' || n, 'display_name', 'Late ' || n),
        created_at - n * interval '1 day'
      from connection, generate_series(1, 1500) n where connection_id = ${connection.id}`)
    await page.goto(`${fairlead.app.url}/app/connections`)
    await page.getByText('2,000 and more below').waitFor()
    await until(async () => {
      await page.evaluate("document.querySelector('.sheet').scrollTo(0, 1e9)")
      return (await page.getByText('2,500', { exact: true }).count()) > 0
    })
    await page.getByRole('searchbox', { name: 'Search connections' }).fill('Late 1499')
    await page.getByText('Late 1499').waitFor()
    await page.getByText('1', { exact: true }).waitFor()
  })

  it('asks who is there before it shows a secret, and shows a viewer none', async t => {
    const opened = lastFirst(t)
    const encryptionKey = newEncryptionKey()
    const fairlead = await startFairlead(opened, { env: { FAIRLEAD_ENCRYPTION_KEY: encryptionKey } })
    const { db, close } = await openDb({ url: fairlead.databaseUrl })
    opened.after(close)
    const owner = await newOwner(fairlead)
    await invited(fairlead, owner, 'viewer')
    const secret = 'the-client-secret-nobody-sees'
    await fairlead.call('POST', '/integrations', {
      provider: 'salesforce',
      unique_key: 'crm',
      credentials: { type: 'OAUTH2', client_id: 'client', client_secret: secret },
    })
    const person = await open(browser, t)
    await signIn(person.page, fairlead)
    await db.query({ text: "update operator_session set confirmed_at = confirmed_at - interval '1 hour'", values: [] })
    await person.page.goto(`${fairlead.app.url}/app/integrations/crm`)
    await person.page.getByRole('button', { name: 'Show client id and secret' }).click()
    await person.page.getByRole('heading', { name: 'Is it still you?' }).waitFor()
    await shot(person.page, 'confirm')
    assert.ok(!(await person.page.content()).includes(secret))
    await person.page.getByRole('dialog').getByLabel('Password').fill(password)
    await person.page.getByRole('button', { name: 'Confirm' }).click()
    await person.page.getByText(secret).waitFor()

    const viewer = await open(browser, t)
    const seen: string[] = []
    viewer.page.on('response', async response => {
      if (response.url().startsWith(fairlead.app.url)) seen.push(await response.text().catch(() => ''))
    })
    await signIn(viewer.page, fairlead, 'viewer@acme.com')
    for (const path of [
      '',
      'integrations',
      'integrations/crm',
      'connections',
      'activity',
      'webhooks',
      'playground',
      'keys',
      'audit',
      'settings/webhooks',
      'settings/encryption',
      'settings/people',
    ]) {
      await viewer.page.goto(`${fairlead.app.url}/app/${path}`)
      await viewer.page.getByRole('heading', { level: 1 }).waitFor()
      await viewer.page.waitForLoadState('load')
    }
    assert.equal(await viewer.page.getByRole('button', { name: 'Make an invitation' }).count(), 0)
    assert.ok(seen.length > 20 && !seen.some(text => text.includes(secret)))
  })

  it('weighs what was agreed', async t => {
    const folder = join(import.meta.dirname, '../../../dashboard/dist/assets')
    const files = (await readdir(folder)).filter(name => name.endsWith('.gz'))
    const sizes = await Promise.all(files.map(async name => (await stat(join(folder, name))).size))
    const total = sizes.reduce((sum, size) => sum + size, 0)
    t.diagnostic(`dashboard: ${(total / 1024).toFixed(1)} KB gzipped in ${files.length} files`)
    assert.ok(total < 220 * 1024)
  })
})
