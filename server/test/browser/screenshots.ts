/**
 * `npm run screenshots`: a picture of every main screen, in both themes, on a large and a small screen, from real pages of a real server.
 * They go to screenshots/ (not kept in git), one folder per face. A face is a function that walks through its screens and takes pictures.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { type BrowserWorld, sandbox, startBrowserWorld } from './world.ts'

const folder = join(import.meta.dirname, '../../../screenshots')

export interface Camera {
  world: BrowserWorld
  theme: 'light' | 'dark'
  width: number
  page: Page
  /** One picture of what is in the window now. */
  take(name: string, page?: Page): Promise<void>
}

/** Connect UI, in the order people see it. */
async function connect({ world, page, take }: Camera): Promise<void> {
  const link = (body: object = {}) =>
    world.newLink({ end_user: { id: 'ada', display_name: 'Ada of Acme' }, allowed_integrations: [sandbox], ...body })
  const title = (name: string | RegExp) => page.getByRole('heading', { level: 1, name }).waitFor()
  const press = (name: string | RegExp) => page.getByRole('button', { name }).click()
  const openWindow = async (): Promise<Page> => {
    const opened = page.waitForEvent('popup')
    await press(/^Continue to/)
    return opened
  }
  const decide = async (window: Page, decision: string) => {
    // A browser that was there before is asked for its consent alone.
    const next = window.getByRole('button', { name: /^(Log In|Allow)$/ })
    await next.waitFor()
    if ((await next.textContent()) === 'Log In') await next.click()
    await window.getByRole('button', { name: decision }).click()
  }

  await page.goto(await link({ allowed_integrations: [] }))
  await title('Connect an account')
  await take('1-choose')
  await page.goto(await link())
  await title('Where do you log in?')
  await take('2-where')
  await page.getByRole('radio', { name: /Paste/ }).check()
  await page.getByLabel('Address of your org').fill('https://acme--uat.sandbox.lightning.force.com/lightning/page/home')
  await take('2-where-pasted')
  await page.getByRole('radio', { name: 'Sandbox' }).check()
  await press('Continue')
  await title(/^Connect Salesforce/)
  await take('3-consent')
  const window = await openWindow()
  await page.getByText('Waiting for you at').first().waitFor()
  await take('4-signing-in')
  await decide(window, 'Deny')
  await title('Access was not granted')
  await take('5-denied')
  await press('Try again')
  await decide(await openWindow(), 'Allow')
  await title('Salesforce Sandbox is connected')
  await take('6-done')

  const [connection] = await world.connections()
  const again = await world.fairlead.call('POST', '/connect/sessions/reconnect', {
    connection_id: connection?.connection_id,
    integration_id: sandbox,
  })
  await page.goto(again.json.data.connect_link)
  await title('Reconnect Salesforce Sandbox')
  await take('7-reconnect')
  await page.goto(await link({ allowed_integrations: ['ledger'] }))
  await title('Connect Ledger')
  await page.getByRole('textbox', { name: 'API key' }).fill('not a key')
  await page.getByRole('textbox', { name: 'API key' }).blur()
  await take('8-form')
  await page.goto(`${await link()}&lang=ar`)
  await page.locator('form').waitFor()
  await page.locator('button.go').click()
  await page.locator('.terms').waitFor()
  await take('9-arabic')
  await page.goto(`${world.fairlead.app.url}/connect/?session_token=nonsense`)
  await title('This link has ended')
  await take('10-ended')
}

/** A minute of nothing, in a minute that passes at once. */
async function silence({ world, page, take }: Camera): Promise<void> {
  await page.clock.install()
  await page.goto(await world.newLink())
  await page.getByRole('button', { name: 'Continue' }).click()
  const opened = page.waitForEvent('popup')
  await page.getByRole('button', { name: /^Continue to/ }).click()
  await opened
  await page.clock.fastForward(35_000)
  await page.clock.fastForward(35_000)
  await page.getByRole('heading', { name: /never sent you back/ }).waitFor()
  await take('11-silence')
}

/** The pages the server draws itself. */
async function server({ world, page, take }: Camera): Promise<void> {
  await page.goto(`${world.fairlead.app.url}/oauth/callback?error=access_denied&state=x`)
  await take('callback-failed')
  await page.goto(`${world.fairlead.app.url}/docs/`)
  await take('docs')
}

export const faces: Record<string, ((camera: Camera) => Promise<void>)[]> = {
  connect: [connect, silence],
  server: [server],
}

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

async function main(only: string[]): Promise<void> {
  const closers: (() => Promise<void>)[] = []
  const world = await startBrowserWorld({ after: close => void closers.push(close) }, providers)
  try {
    await world.fairlead.call('PATCH', '/environment/settings', { connect_ui: { product_name: 'Beacon CRM' } })
    const credentials = { type: 'OAUTH2', client_id: 'x', client_secret: 'y' }
    for (const body of [
      { provider: 'ledger', unique_key: 'ledger' },
      { provider: 'salesforce', unique_key: 'salesforce', credentials },
    ]) {
      const made = await world.fairlead.call('POST', '/integrations', body)
      if (made.status !== 200) throw new Error(made.text)
    }
    for (const [face, walks] of Object.entries(faces)) {
      if (only.length > 0 && !only.includes(face)) continue
      const target = join(folder, face)
      await rm(target, { recursive: true, force: true })
      await mkdir(target, { recursive: true })
      for (const theme of ['light', 'dark'] as const)
        for (const [width, height] of [
          [1440, 900],
          [360, 780],
        ] as const)
          for (const walk of walks) {
            const { page } = await world.visit({ colorScheme: theme, viewport: { width, height } })
            const take = async (name: string, of = page) => {
              await of.mouse.move(0, 0)
              await of.screenshot({ path: join(target, `${name}-${theme}-${width}.png`), animations: 'disabled' })
            }
            await walk({ world, theme, width, page, take })
            await world.leave()
          }
      process.stdout.write(`screenshots/${face}\n`)
    }
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

if (import.meta.main) await main(process.argv.slice(2))
