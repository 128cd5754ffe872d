/** A person who signs in to the wrong kind of org for the integration: caught before and after the log-in, repaired with one click. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { launch, skipWithoutBrowser } from './chromium.ts'

const kinds = [
  { org: 'acme--uat', host: 'test', meant: 'salesforce', right: 'salesforce-sandbox', title: 'This is a sandbox' },
  { org: 'acme', host: 'login', meant: 'salesforce-sandbox', right: 'salesforce', title: 'This is not a sandbox' },
] as const
const names = { salesforce: 'Salesforce', 'salesforce-sandbox': 'Salesforce Sandbox' }

for (const { org, host, meant, right, title } of kinds)
  test(`${org} on ${meant}, before and after the log-in`, { skip: skipWithoutBrowser() }, async t => {
    const ends = lastFirst(t)
    const simulator = await startSimulator({ contacts: 1 })
    ends.after(() => simulator.close())
    // Both log in at the same host, as with a My Domain that takes any user: what differs is the org that answers.
    const at = (key: string, alias = '') => `${key}:${alias && `\n  alias: ${alias}`}
  authorization_url: ${simulator.base(host)}/services/oauth2/authorize
  token_url: ${simulator.base(host)}/services/oauth2/token
  allowed_hosts: ['127.0.0.1']
`
    const fairlead = await startFairlead(ends, { providers: at(right) + at('any-log-in', meant) })
    const { clientId, clientSecret } = simulator.app(org)
    simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
    for (const key of [right, 'any-log-in']) {
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
      ['before', `&params[hostname]=${org}.my.salesforce.com`],
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
      await page.getByRole('button', { name: 'Continue to' }).click()
      if (when === 'after') await logIn()
      await page.getByRole('heading', { name: title }).waitFor()
      const stored = (await connected()).length
      await page.getByRole('link', { name: `Sign in on ${names[right]} instead` }).click()
      await logIn()
      await page.getByRole('heading', { name: `${names[right]} is connected` }).waitFor()
      assert.deepEqual(await connected(), Array(stored + 1).fill(right))
    }
  })
