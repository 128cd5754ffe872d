/** How the connect page looks, decided beside the page itself; and how many requests the keys may send. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Page } from 'playwright-core'
import { buildPages } from '../../../pages/build.ts'
import { until } from '../db/until.ts'
import { startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { invited, newOwner, password } from '../support/operator.ts'
import { launch, skipWithoutBrowser } from './chromium.ts'

const pixel = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)

describe('the settings of the connect page', { skip: skipWithoutBrowser() }, () => {
  it('are seen on the page itself while one edits, and are what people get once saved', async t => {
    await buildPages(() => {})
    const opened = lastFirst(t)
    const fairlead = await startFairlead(opened)
    const owner = await newOwner(fairlead)
    await invited(fairlead, owner, 'viewer')
    const credentials = { type: 'OAUTH2', client_id: 'client', client_secret: 'a-secret-of-the-client' }
    await fairlead.call('POST', '/integrations', {
      provider: 'salesforce',
      unique_key: 'crm',
      display_name: 'Salesforce',
      credentials,
    })
    // Even where nobody but one site may frame the connect page.
    await fairlead.call('PATCH', '/environment/settings', { allowed_origins: ['https://app.acme.com'] })
    const browser = await launch()
    opened.after(() => browser.close())
    const complaints: string[] = []
    const signIn = async (email: string): Promise<Page> => {
      const context = await browser.newContext({ reducedMotion: 'reduce' })
      const page = await context.newPage()
      page.on('console', message => void (message.type() === 'error' && complaints.push(message.text())))
      await page.goto(`${fairlead.url}/app/settings/connect`)
      await page.getByLabel('E-mail address').fill(email)
      await page.getByLabel('Password').fill(password)
      await page.getByRole('button', { name: 'Sign in' }).click()
      await page.getByRole('heading', { name: 'How it looks' }).waitFor()
      return page
    }
    const page = await signIn('owner@acme.com')
    const [light, dark] = [0, 1].map(n => page.frameLocator('iframe').nth(n))
    const accentOf = (n: number) =>
      page.evaluate<string>(
        `getComputedStyle(document.querySelectorAll('iframe')[${n}].contentDocument.documentElement).getPropertyValue('--accent')`,
      )
    const name = page.getByLabel('Your product’s name')
    await name.pressSequentially('Beacon')
    for (const frame of [light!, dark!])
      await frame.getByRole('heading', { name: 'Beacon', includeHidden: true }).first().waitFor({ state: 'attached' })
    assert.equal(await name.inputValue(), 'Beacon', 'the page beside it never took the focus')
    assert.equal(await light!.locator('html').getAttribute('data-theme'), 'light')
    assert.equal(await dark!.locator('html').getAttribute('data-theme'), 'dark')
    await page.getByLabel('Colour, light', { exact: true }).fill('#ffd400')
    await until(async () => (await accentOf(0)).includes('#ffd400'))
    // The frames are told one after the other.
    await until(async () => /#ffd400, #56c2cc/.test(await accentOf(1)))
    await page.getByLabel('Logo').setInputFiles({ name: 'logo.png', mimeType: 'image/png', buffer: pixel })
    await light!.locator('img.mark[src^="data:image/png"]').waitFor({ state: 'attached' })
    await page.getByLabel('Language of the preview').selectOption('ar')
    await light!.locator('html[dir="rtl"]').waitFor({ state: 'attached' })
    await page.getByRole('button', { name: 'Denied' }).click()
    await light!.locator('.seal.bad').waitFor({ state: 'attached' })
    assert.equal((await fairlead.call('GET', '/environment/settings')).json.connect_ui.product_name, null)

    await page.getByRole('button', { name: 'Save' }).first().click()
    await page.getByText('Moved until it can be read').waitFor()
    const settings = async () => (await fairlead.call('GET', '/environment/settings')).json.connect_ui
    await until(async () => (await settings()).product_name === 'Beacon')
    const saved = await settings()
    assert.deepEqual([saved.product_name, saved.logo], ['Beacon', `data:image/png;base64,${pixel.toString('base64')}`])
    assert.notEqual(saved.primary_light, '#ffd400')
    const colour = page.getByLabel('Colour, light', { exact: true })
    await until(async () => (await colour.inputValue()) === saved.primary_light)
    assert.deepEqual(complaints, [], 'under the page’s own policy')

    const viewer = await signIn('viewer@acme.com')
    assert.equal(await viewer.getByLabel('Your product’s name').isDisabled(), true)
    assert.equal(await viewer.getByRole('button', { name: 'Save' }).count(), 0)

    // Limits, where the keys are.
    await page.goto(`${fairlead.url}/app/keys`)
    await page.getByRole('button', { name: 'Limit', exact: true }).click()
    await page.getByLabel('Requests a minute').fill('600')
    await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click()
    await page.getByText('600 requests').waitFor()
    await page.getByRole('button', { name: 'Change' }).click()
    await page.getByLabel('Requests a minute').fill('9000')
    await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click()
    await page.getByText('At most 9,000 requests a minute.').waitFor()
    await until(async () => (await fairlead.call('GET', '/environment/settings')).json.requests_per_minute === 9000)

    // Another environment: made, chosen in the rail, and gone again.
    await page.goto(`${fairlead.url}/app/settings/environments`)
    await page.getByLabel('Name').fill('staging')
    await page.getByRole('button', { name: 'Make it' }).click()
    const rail = page.getByLabel('Environment', { exact: true })
    await rail.locator('option', { hasText: 'staging' }).waitFor({ state: 'attached' })
    await rail.selectOption('staging')
    await page.getByRole('heading', { name: 'First steps' }).waitFor()
    await rail.selectOption('dev')
    await page.goto(`${fairlead.url}/app/settings/environments`)
    await page.getByRole('button', { name: 'Delete staging' }).click()
    await page.getByRole('button', { name: 'Delete it' }).click()
    await rail.locator('option', { hasText: 'staging' }).waitFor({ state: 'detached' })
    await viewer.goto(`${fairlead.url}/app/settings/environments`)
    await viewer.getByText('you are in it').waitFor()
    assert.equal(await viewer.getByRole('button', { name: 'Make it' }).count(), 0)
  })
})
