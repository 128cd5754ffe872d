/** The world that pictures are taken of and whose pages are timed: somebody has set it up, and then it has been in use for months. */
import { openDb } from '../../../src/db/open.ts'
import { newOwner } from '../../support/operator.ts'
import { newEncryptionKey, vaultOn } from '../../support/vault.ts'
import { type BrowserWorld, sandbox, startBrowserWorld } from '../world.ts'
import { fillWithData } from './data.ts'

type Ends = { after(work: () => Promise<void>): void }

const providers = `
ledger:
  display_name: Ledger
  auth_mode: API_KEY
  docs_connect: https://ledger.example/keys
  proxy: { base_url: 'https://api.ledger.example', headers: { Authorization: 'Bearer \${apiKey}' } }
  credentials:
    apiKey:
      type: string
      title: API key
      description: An administrator makes one under Settings, API.
      example: lk_live_4f2a…
      pattern: ^lk_(live|test)_
      secret: true
      doc_section: keys
  connection_config:
    workspace: { type: string, title: Workspace, suffix: .ledger.example, pattern: '^[a-z]+$', order: 1 }
`

/** A sign-in as somebody would do it, and what they would do then. */
async function connectOne(world: BrowserWorld): Promise<void> {
  const { page } = await world.visit()
  await page.goto(await world.newLink({ end_user: { id: 'ada', display_name: 'Ada of Acme', email: 'ada@acme.com' } }))
  await page.getByText('Salesforce Sandbox').first().click()
  await page.getByRole('radio', { name: 'Sandbox' }).check()
  await page.getByRole('button', { name: 'Continue' }).click()
  const opened = page.waitForEvent('popup')
  await page.getByRole('button', { name: /^Continue to/ }).click()
  const window = await opened
  await window.getByRole('button', { name: 'Log In' }).click()
  await window.getByRole('button', { name: 'Allow' }).click()
  await page.getByRole('heading', { name: 'Salesforce Sandbox is connected' }).waitFor()
  await world.leave()
  const [connection] = await world.connections()
  const at = { 'Provider-Config-Key': sandbox, 'Connection-Id': connection!.connection_id }
  for (const path of ['limits', 'query?q=SELECT+Name+FROM+Account', 'sobjects/Account/none', 'sobjects', 'limits'])
    await world.fairlead.call('GET', `/proxy/services/data/v66.0/${path}`, undefined, at)
}

/** An owner, three integrations, nobody connected. */
export const startSetUpWorld = (ends: Ends): Promise<BrowserWorld> => setUp(ends, newEncryptionKey())

async function setUp(ends: Ends, encryptionKey: string): Promise<BrowserWorld> {
  const world = await startBrowserWorld(ends, providers, { FAIRLEAD_ENCRYPTION_KEY: encryptionKey })
  const { call } = world.fairlead
  await call('PATCH', '/environment/settings', { connect_ui: { product_name: 'Beacon CRM' } })
  const credentials = { type: 'OAUTH2', client_id: 'x', client_secret: 'y' }
  for (const body of [
    { provider: 'ledger', unique_key: 'ledger' },
    { provider: 'salesforce', unique_key: 'salesforce', credentials },
  ]) {
    const made = await call('POST', '/integrations', body)
    if (made.status !== 200) throw new Error(made.text)
  }
  await newOwner(world.fairlead)
  return world
}

/** And a thousand connections, a hundred thousand calls, and one account that is really connected and called. */
export async function startBusyWorld(ends: Ends): Promise<BrowserWorld> {
  const encryptionKey = newEncryptionKey()
  const world = await setUp(ends, encryptionKey)
  const { call, databaseUrl } = world.fairlead
  await call('PATCH', '/environment/settings', { webhook_url: 'https://hooks.acme.com/fairlead' })
  const { db, close } = await openDb({ url: databaseUrl })
  ends.after(close)
  await fillWithData(world.fairlead, db, await vaultOn(db, encryptionKey))
  await connectOne(world)
  return world
}
