/** The "new integration" screen where connections bring what opens them, and a connection whose state Salesforce's words explain. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Browser } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { newOwner, password } from '../support/operator.ts'
import { skipWithoutBrowser } from './chromium.ts'
import { type BrowserWorld, sandbox, startBrowserWorld, type Visitor } from './world.ts'

/** Where a person who changes the dashboard has the pictures put: SHOTS=folder. */
const shots = process.env.SHOTS

describe('for a person', { skip: skipWithoutBrowser() }, () => {
  let world: BrowserWorld
  const ends = lastFirst({ after })

  before(async () => {
    world = await startBrowserWorld(ends)
    await newOwner(world.fairlead)
  })

  async function signIn(colorScheme: 'light' | 'dark', width: number): Promise<Visitor> {
    const visitor = await world.visit({ colorScheme, viewport: { width, height: 900 }, reducedMotion: 'reduce' })
    const { page } = visitor
    await page.goto(`${world.fairlead.app.url}/app/`)
    await page.getByLabel('E-mail address').fill('owner@acme.com')
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor()
    return visitor
  }
  const looks = [
    ['light', 1440],
    ['dark', 1440],
    ['light', 360],
    ['dark', 360],
  ] as const

  it('JWT bearer: the key may be given once, the guide is that of the flow, and no client secret is wanted', async () => {
    for (const [theme, width] of looks) {
      const { page, complaints } = await signIn(theme, width)
      await page.goto(`${world.fairlead.app.url}/app/integrations?provider=salesforce-jwt`)
      const key = page.getByLabel('Private key (for all connections)')
      await key.waitFor()
      await page.getByRole('heading', { name: 'Make a key and a certificate' }).waitFor()
      assert.equal(await page.getByLabel('Client secret').count(), 0)
      if (shots) await page.screenshot({ path: join(shots, `jwt-${theme}-${width}.png`), fullPage: true })
      const wide = await page.evaluate('document.documentElement.scrollWidth > innerWidth')
      assert.equal(wide, false, `${width} px: the page is wider than the window`)
      if (theme === 'light' && width === 1440) {
        await page.getByLabel('Consumer key (for all connections)').fill('3MVG9abc')
        await key.fill('-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----')
        await page.getByRole('button', { name: 'Add the integration' }).click()
        await page.getByRole('heading', { level: 1, name: /JWT/ }).waitFor()
        const { json } = await world.fairlead.call('GET', '/integrations/salesforce-jwt')
        assert.deepEqual(json.data.preconfigured_credentials.toSorted(), ['client_id', 'private_key'])
      }
      assert.deepEqual(complaints, [])
      await world.leave()
    }
  })

  it('a connection that Salesforce ended says why, with every reason behind a click', async () => {
    const session = await world.fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    const start = `${world.fairlead.app.url}/oauth/connect/${sandbox}?connect_session_token=${session.json.data.token}`
    const browser = new Browser()
    let answer = await browser.open(start)
    const headers = { 'x-simulator-approve': 'allow' }
    while (answer.location)
      answer = await browser.open(answer.location.replace(/test\.salesforce\.localhost:(\d+)/, '127.0.0.1:$1/test'), {
        headers,
      })
    assert.equal(answer.status, 200, answer.text)
    const [{ connection_id: id }] = (await world.connections()) as [{ connection_id: string }]
    world.simulator.control.revokeRefreshTokens()
    await world.fairlead.call('POST', `/connections/${id}/refresh?provider_config_key=${sandbox}`)
    for (const [theme, width] of looks) {
      const { page, complaints } = await signIn(theme, width)
      await page.goto(`${world.fairlead.app.url}/app/connections/${sandbox}/${id}`)
      await page.getByText('Salesforce ended this access.').first().waitFor()
      await page.getByText('What may be behind it').click()
      await page.getByText('Somebody took the access back').waitFor()
      const link = page.getByRole('link', { name: 'Open it there' }).first()
      assert.match((await link.getAttribute('href')) ?? '', /\/lightning\/setup\/ConnectedAppsUsage\/home$/)
      if (shots) await page.screenshot({ path: join(shots, `ended-${theme}-${width}.png`) })
      assert.deepEqual(complaints, [])
      await world.leave()
    }
  })
})
