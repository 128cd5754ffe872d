/** A person who signs in to a sandbox on the integration for production: caught before and after the log-in, repaired with one click. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { launch, skipWithoutBrowser } from './chromium.ts'

test('a sandbox on production, before and after the log-in', { skip: skipWithoutBrowser() }, async t => {
  const ends = lastFirst(t)
  const simulator = await startSimulator({ contacts: 1 })
  ends.after(() => simulator.close())
  const at = (key: string, alias = '') => `${key}:${alias && `\n  alias: ${alias}`}
  authorization_url: ${simulator.base('test')}/services/oauth2/authorize
  token_url: ${simulator.base('test')}/services/oauth2/token
  allowed_hosts: ['127.0.0.1']
`
  const fairlead = await startFairlead(ends, { providers: at('salesforce-sandbox') + at('any-log-in', 'salesforce') })
  const { clientId, clientSecret } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
  for (const key of ['salesforce-sandbox', 'any-log-in']) {
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    assert.equal(
      (await fairlead.call('POST', '/integrations', { provider: key, unique_key: key, credentials })).status,
      200,
    )
  }
  const browser = await launch()
  ends.after(() => browser.close())
  const connected = async () =>
    (await fairlead.call('GET', '/connections')).json.connections.map(
      (one: { provider_config_key: string }) => one.provider_config_key,
    )

  for (const [when, params] of [
    ['before', '&params[hostname]=acme--uat'],
    ['after', ''],
  ] as const) {
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: when } })
    const page = await browser.newPage({ viewport: { width: 360, height: 740 } })
    await page.goto(
      `${fairlead.app.url}/oauth/connect/any-log-in?connect_session_token=${session.json.data.token}${params}`,
    )
    const logIn = async () => {
      await page.getByRole('button', { name: 'Log In' }).click()
      await page.getByRole('button', { name: 'Allow' }).click()
    }
    if (when === 'after') await logIn()
    await page.getByRole('heading', { name: 'This is a sandbox' }).waitFor()
    const stored = (await connected()).length
    await page.getByRole('link', { name: 'Sign in on Salesforce Sandbox instead' }).click()
    await logIn()
    await page.getByRole('heading', { name: 'Salesforce Sandbox is connected' }).waitFor()
    assert.deepEqual(await connected(), Array(stored + 1).fill('salesforce-sandbox'))
  }
})
