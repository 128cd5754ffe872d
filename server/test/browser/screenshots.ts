/**
 * `npm run screenshots`: a picture of every main screen, in both themes, on a large and a small screen, from real pages of a real server.
 * They go to screenshots/ (not kept in git), one folder per face. A face is a function that walks through its screens and takes pictures.
 * `npm run screenshots readme` takes those of the README, as WebP, into docs/pictures/, which is kept.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { password } from '../support/operator.ts'
import { startBusyWorld, startSetUpWorld } from './support/busy.ts'
import { type BrowserWorld, sandbox } from './world.ts'

const folder = join(import.meta.dirname, '../../../screenshots')
const pictures = join(import.meta.dirname, '../../../docs/pictures')

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

/** Every screen from right to left. Found by their places, not by their words. */
async function arabic({ world, page, theme, take }: Camera): Promise<void> {
  if (theme === 'dark') return
  const open = async (body: object) => {
    const session = { end_user: { id: 'noor', display_name: 'نور' }, ...body }
    await page.goto(`${await world.newLink(session)}&lang=ar`)
    await page.locator('h1').waitFor()
  }
  const go = () => page.locator('button.go').click()
  const signIn = async () => {
    const opened = page.waitForEvent('popup')
    await go()
    return opened
  }
  await open({ allowed_integrations: [] })
  await take('ar-1-choose')
  await open({ allowed_integrations: [sandbox] })
  await take('ar-2-where')
  await page.getByRole('radio').nth(2).check()
  await page.getByRole('textbox').fill('https://acme--uat.sandbox.lightning.force.com/lightning/page/home')
  await take('ar-2-where-pasted')
  await page.getByRole('radio').nth(1).check()
  await go()
  await page.locator('.terms').waitFor()
  await take('ar-3-consent')
  const window = await signIn()
  await window.getByRole('button', { name: /^(Log In|Allow)$/ }).waitFor()
  await take('ar-4-signing-in')
  await window.close()
  await open({ allowed_integrations: ['ledger'] })
  await page.getByRole('textbox').first().fill('not a key')
  await page.getByRole('textbox').first().blur()
  await take('ar-8-form')
  await page.goto(`${world.fairlead.app.url}/connect/?session_token=nonsense&lang=ar`)
  await page.locator('h1').waitFor()
  await take('ar-10-ended')
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

/** Once the page has what it was waiting for. */
async function settled(page: Page): Promise<void> {
  await page.getByRole('heading', { level: 1 }).first().waitFor()
  // A page that follows what happens is never idle; skeletons come after a moment, and only where something is waited for.
  await page.waitForTimeout(500)
  await page.locator('.skeleton').first().waitFor({ state: 'detached' })
}

async function examined(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Examine' }).click()
  await page.getByText('Not examined yet').waitFor({ state: 'detached' })
  await settled(page)
}

async function signIn({ world, page }: Camera): Promise<void> {
  await page.goto(`${world.fairlead.app.url}/app/`)
  await page.getByLabel('E-mail address').fill('owner@acme.com')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor()
}

/** The one that was made by hand and called: everything about it is real. */
const realConnection = async ({ world }: Camera): Promise<string> => {
  const listed = await world.fairlead.call('GET', `/connections?endUserId=ada&limit=1`)
  return `connections/${sandbox}/${listed.json.connections[0].connection_id}`
}

/** Every page of the dashboard, with a busy environment behind it. */
async function dashboard(camera: Camera): Promise<void> {
  const { world, page, take } = camera
  const open = async (path: string) => {
    await page.goto(`${world.fairlead.app.url}/app/${path}`)
    await settled(page)
  }
  await page.goto(`${world.fairlead.app.url}/app/`)
  await page.getByRole('button', { name: 'Sign in' }).waitFor()
  await take('0-sign-in')
  await signIn(camera)
  for (const [name, path] of [
    ['1-home', ''],
    ['2-integrations', 'integrations'],
    ['2-integrations-catalogue', 'integrations?new=1'],
    ['2-integrations-new', `integrations?provider=${sandbox}`],
    ['2-integration', `integrations/${sandbox}`],
    ['3-connections', 'connections'],
    ['4-connection', await realConnection(camera)],
    ['5-activity', 'activity'],
    ['6-webhooks', 'webhooks'],
    ['7-playground', 'playground'],
    ['8-keys', 'keys'],
    ['9-audit', 'audit'],
    ['10-settings-webhooks', 'settings/webhooks'],
    ['10-settings-connect', 'settings/connect'],
    ['10-settings-encryption', 'settings/encryption'],
    ['10-settings-environments', 'settings/environments'],
    ['10-settings-people', 'settings/people'],
    ['10-settings-you', 'settings/you'],
    ['11-nothing', 'nowhere'],
  ] as const) {
    await open(path)
    if (name === '4-connection') await examined(page)
    await take(name)
  }
  await open('activity')
  await page.locator('.line.calls').first().click()
  await page.getByRole('button', { name: 'Copy as curl' }).waitFor()
  await take('5-activity-call')
  await open('connections')
  for (const nth of [1, 2, 3]) await page.locator('.line.connections').nth(nth).getByRole('checkbox').check()
  await take('3-connections-bulk')
  await page.getByRole('button', { name: 'More…' }).click()
  await page.getByRole('menuitem', { name: 'Delete…' }).click()
  await page.getByRole('button', { name: 'Delete them' }).waitFor()
  await take('3-connections-bulk-delete')
  await open('connections?search=nobody')
  await take('3-connections-none')
  await open('webhooks')
  await page.locator('main td a').first().click()
  await page.getByRole('dialog').locator('pre').first().waitFor()
  await take('6-webhooks-delivery')
  await open('')
  await page.getByRole('heading', { name: 'Renewals of tokens' }).scrollIntoViewIfNeeded()
  await settled(page)
  await take('1-home-charts')
  await page.keyboard.press('Control+k')
  await page.keyboard.type('conn')
  await take('12-palette')
}

async function docs({ world, page, width, take }: Camera): Promise<void> {
  for (const path of [
    '',
    'quick-start',
    'security',
    'providers/salesforce-sandbox',
    'errors',
    'configuration',
    'api',
  ]) {
    await page.goto(`${world.fairlead.app.url}/docs/${path}`)
    await settled(page)
    await take(path === '' ? 'home' : path.replaceAll('/', '-'))
  }
  if (width < 800) return
  await page.getByRole('combobox').fill('callback url')
  await page.getByRole('option').first().waitFor()
  await take('search')
}

/** What a stranger sees first. */
async function readme(camera: Camera): Promise<void> {
  const { world, page, theme } = camera
  const devtools = await page.context().newCDPSession(page)
  const keep = async (name: string) => {
    await page.mouse.move(0, 0)
    const { data } = await devtools.send('Page.captureScreenshot', { format: 'webp', quality: 80 })
    await writeFile(join(pictures, `${name}-${theme}.webp`), Buffer.from(data, 'base64'))
  }
  await page.setViewportSize({ width: 520, height: 700 })
  await page.goto(await world.newLink())
  await page.getByRole('radio', { name: /Paste/ }).check()
  await page.getByLabel('Address of your org').fill('https://acme--uat.sandbox.lightning.force.com/lightning/page/home')
  await page.getByText('acme--uat').last().waitFor()
  await page.getByLabel('Address of your org').blur()
  await keep('connect')
  await page.setViewportSize({ width: 1280, height: 860 })
  await signIn(camera)
  await settled(page)
  await keep('home')
  await page.goto(`${world.fairlead.app.url}/app/${await realConnection(camera)}`)
  await examined(page)
  await keep('connection')
}

export const faces: Record<string, ((camera: Camera) => Promise<void>)[]> = {
  connect: [connect, arabic, silence],
  server: [server],
  dashboard: [dashboard],
  docs: [docs],
}

async function main(only: string[]): Promise<void> {
  const closers: (() => Promise<void>)[] = []
  const ends = { after: (close: () => Promise<void>) => void closers.push(close) }
  try {
    const isBusy = only.length === 0 || only.some(face => ['dashboard', 'readme'].includes(face))
    const world = await (isBusy ? startBusyWorld : startSetUpWorld)(ends)
    const walks: [string, ((camera: Camera) => Promise<void>)[]][] = only.includes('readme')
      ? [['readme', [readme]]]
      : Object.entries(faces).filter(([face]) => only.length === 0 || only.includes(face))
    for (const [face, steps] of walks) {
      const target = face === 'readme' ? pictures : join(folder, face)
      await rm(target, { recursive: true, force: true })
      await mkdir(target, { recursive: true })
      for (const theme of ['light', 'dark'] as const)
        for (const [width, height] of face === 'readme'
          ? ([[1280, 860]] as const)
          : ([
              [1440, 900],
              [360, 780],
            ] as const))
          for (const walk of steps) {
            const { page } = await world.visit({
              colorScheme: theme,
              viewport: { width, height },
              reducedMotion: 'reduce',
              ...(face === 'readme' && { deviceScaleFactor: 1.5 }),
            })
            const take = async (name: string, of = page) => {
              await of.mouse.move(0, 0)
              await of.screenshot({ path: join(target, `${name}-${theme}-${width}.png`), animations: 'disabled' })
            }
            await walk({ world, theme, width, page, take })
            await world.leave()
          }
      process.stdout.write(`${target}\n`)
    }
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

if (import.meta.main) await main(process.argv.slice(2))
