/** A real server, the simulator under the names browsers resolve, and Chromium: what every test of a page starts from. */
import assert from 'node:assert/strict'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { buildPages } from '../../../pages/build.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import { launch } from './chromium.ts'

export const sandbox = 'salesforce-sandbox'

export interface BrowserWorld {
  simulator: Simulator
  fairlead: Fairlead
  /** A browser with nothing in it, and everything it did that a person does not see. */
  visit(options?: BrowserContextOptions): Promise<Visitor>
  /** Closes every browser that was opened so far. */
  leave(): Promise<void>
  newLink(body?: object): Promise<string>
  connections(): Promise<{ connection_id: string }[]>
}

export interface Visitor {
  context: BrowserContext
  page: Page
  requests: string[]
  complaints: string[]
}

type Ends = { after(work: () => Promise<void>): void }

/** `providers`: YAML laid over the catalogue beside the simulator's. */
export async function startBrowserWorld(
  ends: Ends,
  providers = '',
  env: Record<string, string> = {},
): Promise<BrowserWorld> {
  const opened = lastFirst(ends)
  await buildPages(line => void process.stdout.write(`${line}\n`))
  const simulator = await startSimulator()
  opened.after(() => simulator.close())
  const overlay = sandboxOverlay(simulator.base('test', 'name'), ['*.salesforce.localhost'])
  const fairlead = await startFairlead(opened, { providers: `${overlay}${providers}`, env })
  const { clientId, clientSecret } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.app.url}/oauth/callback`] })
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  const made = await fairlead.call('POST', '/integrations', { provider: sandbox, unique_key: sandbox, credentials })
  assert.equal(made.status, 200, made.text)
  const browser: Browser = await launch()
  const contexts: BrowserContext[] = []
  opened.after(() => browser.close())
  return {
    simulator,
    fairlead,
    async visit(options = {}) {
      const context = await browser.newContext(options)
      contexts.push(context)
      const seen = { requests: [] as string[], complaints: [] as string[] }
      context.on('request', request => void seen.requests.push(request.url()))
      context.on('console', message => {
        if (['error', 'warning'].includes(message.type()))
          seen.complaints.push(`${message.text()} at ${message.location().url}`)
      })
      context.on('weberror', error => void seen.complaints.push(error.error().message))
      return { context, page: await context.newPage(), ...seen }
    },
    async leave() {
      await Promise.all(contexts.splice(0).map(context => context.close()))
    },
    async newLink(body = { end_user: { id: 'ada', display_name: 'Ada of Acme' }, allowed_integrations: [sandbox] }) {
      const session = await fairlead.call('POST', '/connect/sessions', body)
      assert.equal(session.status, 201, session.text)
      return session.json.data.connect_link
    },
    connections: async () => (await fairlead.call('GET', '/connections')).json.connections,
  }
}
