/** Signing in to the dashboard at an identity provider, in a real browser: by button, by link, and to show a secret. */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Page } from 'playwright-core'
import { buildPages } from '../../../pages/build.ts'
import { clientId, clientSecret, startIdentityProvider } from '../account/identity-provider.ts'
import { startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { newOwner } from '../support/operator.ts'
import { launch, skipWithoutBrowser } from './chromium.ts'

const shots = process.env.SHOTS

async function shot(page: Page, name: string): Promise<void> {
  if (!shots) return
  await mkdir(shots, { recursive: true })
  await page.screenshot({ path: join(shots, `${name}.png`) })
}

describe('signing in at an identity provider', { skip: skipWithoutBrowser() }, () => {
  it('is a button, finds the page one came for, and shows a secret after a fresh sign-in there', async t => {
    await buildPages(() => {})
    const opened = lastFirst(t)
    let redirectUri = ''
    const idp = await startIdentityProvider(opened, () => redirectUri)
    const fairlead = await startFairlead(opened, {
      env: {
        FAIRLEAD_OIDC_ISSUER: idp.issuer,
        FAIRLEAD_OIDC_CLIENT_ID: clientId,
        FAIRLEAD_OIDC_CLIENT_SECRET: clientSecret,
        FAIRLEAD_OIDC_NAME: 'Acme ID',
      },
    })
    redirectUri = `${fairlead.url}/app/oidc`
    const owner = await newOwner(fairlead)
    const secret = 'the-client-secret-nobody-sees'
    const credentials = { type: 'OAUTH2', client_id: 'client', client_secret: secret }
    await fairlead.call('POST', '/integrations', { provider: 'salesforce', unique_key: 'crm', credentials })
    const invite = async (email: string) =>
      (await owner.call('POST', '/operators', { email, role: 'admin' })).json.link as string
    await invite('ada@acme.com')
    idp.user = { sub: 'mallory', email: 'mallory@evil.example', email_verified: true }

    const browser = await launch()
    opened.after(() => browser.close())
    const visit = async () => {
      const context = await browser.newContext({ reducedMotion: 'reduce' })
      const complaints: string[] = []
      context.on('console', message => void (message.type() === 'error' && complaints.push(message.text())))
      return { page: await context.newPage(), complaints }
    }
    const stranger = await visit()
    await stranger.page.goto(`${fairlead.url}/app/`)
    await shot(stranger.page, 'sign-in')
    await stranger.page.getByRole('button', { name: 'Continue with Acme ID' }).click()
    await stranger.page.getByText('Nobody here signs in as mallory@evil.example').waitFor()
    assert.equal(stranger.page.url(), `${fairlead.url}/app/oidc`, 'no code stays in the address')
    await shot(stranger.page, 'stranger')
    await stranger.page.getByRole('link', { name: 'To the sign-in page' }).click()
    await stranger.page.getByRole('heading', { name: 'Sign in' }).waitFor()

    idp.user = { sub: 'ada', email: 'ada@acme.com', email_verified: true, name: 'Ada L' }
    const { page, complaints } = await visit()
    await page.goto(`${fairlead.url}/app/integrations/crm`)
    await page.getByRole('button', { name: 'Continue with Acme ID' }).click()
    await page.getByRole('button', { name: 'Show client id and secret' }).waitFor()
    assert.equal(new URL(page.url()).pathname, '/app/integrations/crm')
    const logIns = idp.logIns
    await page.getByRole('button', { name: 'Show client id and secret' }).click()
    await page.getByRole('heading', { name: 'Is it still you?' }).waitFor()
    assert.ok(!(await page.content()).includes(secret))
    await shot(page, 'confirm-there')
    const popup = page.waitForEvent('popup')
    await page.getByRole('button', { name: 'Sign in again at Acme ID' }).click()
    await (await popup).waitForEvent('close')
    await page.getByText(secret).waitFor()
    assert.equal(idp.logIns, logIns + 1)
    await page.reload()
    await page.getByRole('button', { name: 'Show client id and secret' }).waitFor()
    assert.ok(!(await page.content()).includes(secret))
    await page.goto(`${fairlead.url}/app/settings/you`)
    await page.getByText('You sign in at Acme ID').waitFor()
    await shot(page, 'you-there')
    assert.deepEqual(
      complaints.filter(text => !/status of 40[13]/.test(text)),
      [],
    )

    idp.user = { sub: 'bo' }
    const invited = await visit()
    await invited.page.goto(await invite('bo@acme.com'))
    await invited.page.getByRole('heading', { name: 'Choose how you sign in' }).waitFor()
    await shot(invited.page, 'link')
    await invited.page.getByRole('button', { name: 'Continue with Acme ID' }).click()
    await invited.page.getByRole('heading', { level: 1, name: 'Home' }).waitFor()
    assert.deepEqual(idp.alarms, [])
  })
})
