/**
 * The main job, by itself: starts Fairlead and the Salesforce simulator on loopback, connects a sandbox through the real OAuth flow and
 * asks it something through the proxy. Every step goes over HTTP, as a product and its customer's browser would do it.
 * `--once` ends after the first run, with a non-zero exit code if any step failed; otherwise it stays up with a link to click.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { pino } from 'pino'
import { buildPages } from '../pages/build.ts'
import { type App, startApp } from '../server/src/app.ts'
import { readConfig } from '../server/src/config.ts'
import { walkConsent } from './consent.ts'
import { sandboxOverlay } from './overlay.ts'

const once = process.argv.includes('--once')
const say = (text = '') => void process.stdout.write(`${text}\n`)
const began = performance.now()

async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  const from = performance.now()
  process.stdout.write(`  ${what} … `)
  try {
    const result = await work()
    say(`done (${Math.round(performance.now() - from)} ms)`)
    return result
  } catch (error) {
    say('failed')
    throw new Error(what, { cause: error })
  }
}

/** The first free port from `from` on. */
async function freePort(from: number): Promise<number> {
  for (let port = from; port < from + 100; port++) {
    const free = await new Promise<boolean>(resolve => {
      const probe = createServer().once('error', () => resolve(false))
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
    })
    if (free) return port
  }
  throw new Error(`No free port from ${from} to ${from + 99}.`)
}

/** Whoever looks at the dashboard: made with the link of the first start, with a password nobody else has, and kept for the next. */
async function demoOperator(url: string, app: App, file: string): Promise<{ email: string; password: string }> {
  if (!app.setupLink) return JSON.parse(await readFile(file, 'utf8')) as { email: string; password: string }
  const operator = { email: 'ada@acme.com', password: randomBytes(9).toString('base64url') }
  const link = new URL(app.setupLink.reveal()).hash.slice(1)
  const made = await fetch(`${url}/operator/setup`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Origin: url },
    body: JSON.stringify({ ...operator, name: 'Ada of Acme', link }),
  })
  if (!made.ok) throw new Error(`POST /operator/setup answered ${made.status}: ${await made.text()}`)
  await writeFile(file, JSON.stringify(operator), { mode: 0o600 })
  return operator
}

async function main(): Promise<void> {
  const port = await freePort(Number(process.env.PORT ?? 3003))
  const url = `http://localhost:${port}`
  const dataDir = join(import.meta.dirname, '..', '.fairlead-demo')
  const key = randomUUID()
  let simulator: Simulator | undefined
  let app: App | undefined
  const stop = async () => {
    await app?.stop()
    await simulator?.close()
  }

  say('Fairlead demo: one Salesforce sandbox, from sign-in to SOQL\n')
  try {
    simulator = await step('Starting the Salesforce simulator', async () =>
      startSimulator({ port: await freePort(4500), callbacks: [`${url}/oauth/callback`], autoApprove: true }),
    )
    app = await step('Starting Fairlead (embedded PostgreSQL)', async () => {
      await mkdir(dataDir, { recursive: true, mode: 0o700 })
      const providers = join(dataDir, 'providers.yaml')
      await writeFile(providers, sandboxOverlay(simulator!.base('test', 'name'), ['*.salesforce.localhost']))
      const config = readConfig({
        PORT: String(port),
        FAIRLEAD_DATA_DIR: dataDir,
        FAIRLEAD_SECRET_KEY_DEV: key,
        FAIRLEAD_PROVIDERS: providers,
        FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
      })
      return startApp(config, pino({ level: 'warn' }, pino.destination(2)))
    })

    const call = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
        method,
        headers: {
          Authorization: `Bearer ${key}`,
          ...(body !== undefined && { 'Content-Type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
      const text = await answer.text()
      if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${text}`)
      return JSON.parse(text)
    }

    await step('Registering the integration "salesforce-sandbox"', async () => {
      const { clientId, clientSecret } = simulator!.app('acme--uat')
      const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
      const { data } = await call('GET', '/integrations')
      // Connections of an earlier run belong to a simulator that is gone.
      if (data.some((one: { unique_key: string }) => one.unique_key === 'salesforce-sandbox'))
        await call('DELETE', '/integrations/salesforce-sandbox')
      await call('POST', '/integrations', {
        provider: 'salesforce-sandbox',
        unique_key: 'salesforce-sandbox',
        credentials,
      })
    })

    // What people read on the connect page: that this will get access.
    await call('PATCH', '/environment/settings', { connect_ui: { product_name: 'Demo CRM' } })

    const openSession = async () =>
      (
        await call('POST', '/connect/sessions', {
          end_user: { id: 'ada', display_name: 'Ada of Acme', email: 'ada@acme.com' },
          allowed_integrations: ['salesforce-sandbox'],
        })
      ).data

    await step('Connecting the sandbox through the OAuth flow', async () => {
      const { token } = await openSession()
      await walkConsent(`${url}/oauth/connect/salesforce-sandbox?connect_session_token=${token}`)
    })

    const connection = await step('Reading the connection', async () => {
      const { connections } = await call('GET', '/connections?endUserId=ada')
      return call('GET', `/connections/${connections[0].connection_id}?provider_config_key=salesforce-sandbox`)
    })

    const query = 'SELECT Name, Industry, BillingCity FROM Account ORDER BY Name'
    const answer = await step('Asking the sandbox through the proxy', () =>
      call('GET', `/proxy/services/data/v66.0/query?q=${encodeURIComponent(query)}`, undefined, {
        'Provider-Config-Key': 'salesforce-sandbox',
        'Connection-Id': connection.connection_id,
      }),
    )

    say()
    say(`  connection    ${connection.connection_id}`)
    say(`  instance_url  ${connection.connection_config.instance_url}`)
    say(`  ${query}`)
    say()
    const rows = answer.records as Record<string, string | null>[]
    if (rows.length === 0) throw new Error('The query answered no rows.')
    for (const row of rows)
      say(`    ${String(row.Name).padEnd(38)} ${String(row.Industry ?? '').padEnd(16)} ${row.BillingCity ?? ''}`)
    say()
    say(`  ${rows.length} accounts, ${((performance.now() - began) / 1000).toFixed(1)} s from start.`)

    if (once) return await stop()
    const operator = await demoOperator(url, app, join(dataDir, 'operator.json'))
    // From here on a person clicks: pages are needed, and the simulator asks again.
    await buildPages(line => say(`  ${line}`))
    simulator.control.set({ autoApprove: false })
    const { connect_link: link } = await openSession()
    say()
    say(`  Dashboard      ${url}/app/`)
    say(`  Sign in as     ${operator.email}  ${operator.password}`)
    say(`  Connect one    ${link}`)
    say(`  API key (dev)  ${key}`)
    say(`  Your own org   ${url}/docs/providers/salesforce-sandbox`)
    say()
    say(`  Try it:  curl -H 'Authorization: Bearer ${key}' -H 'Provider-Config-Key: salesforce-sandbox' \\`)
    say(`             -H 'Connection-Id: ${connection.connection_id}' '${url}/proxy/services/data/v66.0/limits'`)
    say()
    say('  Ctrl-C stops it.')
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.once(signal, () => void stop().then(() => process.exit(0)))
  } catch (error) {
    await stop()
    throw error
  }
}

main().catch((error: unknown) => {
  const reasons: string[] = []
  for (let at: unknown = error; at instanceof Error; at = at.cause) reasons.push(at.message)
  process.stderr.write(`\nThe demo failed: ${reasons.join('\n  because: ')}\n`)
  process.exitCode = 1
})
