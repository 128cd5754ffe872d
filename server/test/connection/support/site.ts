/** Whole servers on one database, around one simulator, with connections made through the real flow. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type Simulator, startSimulator } from '@fairlead/salesforce-simulator'
import { sql } from '../../../src/db/sql.ts'
import type { Db } from '../../../src/seams.ts'
import { sandbox, simulatorOverlay } from '../../credential/support/room.ts'
import { until } from '../../db/until.ts'
import { testDatabase } from '../../support/database.ts'
import { type Answer, Browser, type Fairlead, startFairlead } from '../../support/fairlead.ts'

type Test = { after(work: () => Promise<void>): void }

export interface Site {
  simulator: Simulator
  db: Db
  servers: [Fairlead, Fairlead]
  /** What one more server on this database is started with. */
  env: Record<'DATABASE_URL' | 'FAIRLEAD_ENCRYPTION_KEY' | 'FAIRLEAD_SECRET_KEY_DEV', string>
  /** Signs somebody in; returns the connection's id. */
  connect(endUser: string, integration?: string): Promise<string>
  proxied(server: Fairlead, connectionId: string, integration?: string): Promise<Answer>
  read(server: Fairlead, connectionId: string): Promise<Answer>
}

export async function openSite(t: Test, integrations = ['sf']): Promise<Site> {
  const simulator = await startSimulator({ autoApprove: true })
  t.after(() => simulator.close())
  simulator.control.set({ maxApprovals: 100 })
  const { db, url } = await testDatabase()
  const env = {
    DATABASE_URL: url,
    FAIRLEAD_ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    FAIRLEAD_SECRET_KEY_DEV: '0f0e0d0c-0b0a-4908-8706-050403020100',
  }
  const start = async (): Promise<Fairlead> => {
    const server = await startFairlead(t, { env, providers: simulatorOverlay(simulator) })
    const key = env.FAIRLEAD_SECRET_KEY_DEV
    const call: Fairlead['call'] = (method, path, body, headers) =>
      server.call(method, path, body, { Authorization: `Bearer ${key}`, ...headers })
    return { ...server, key, call }
  }
  const servers: [Fairlead, Fairlead] = [await start(), await start()]
  const [first] = servers
  const { clientId, clientSecret } = simulator.app(sandbox)
  simulator.control.setApp({ clientId, rotation: true, callbacks: [`${first.app.url}/oauth/callback`] })
  for (const unique_key of integrations) {
    const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
    const made = await first.call('POST', '/integrations', { provider: 'salesforce-sandbox', unique_key, credentials })
    assert.equal(made.status, 200, made.text)
  }
  return {
    simulator,
    db,
    servers,
    env,
    async connect(endUser, integration = 'sf') {
      const session = await first.call('POST', '/connect/sessions', { end_user: { id: endUser } })
      const page = await new Browser().follow(
        `${first.app.url}/oauth/connect/${integration}?connect_session_token=${session.json.data.token}`,
      )
      assert.equal(page.status, 200, page.text)
      const listed = await first.call('GET', '/connections?limit=1')
      const id: string = listed.json.connections[0].connection_id
      await until(async () => (await db.query(sql`select id from credential where expires_at is null`)).length === 0)
      return id
    },
    proxied: (server, connectionId, integration = 'sf') =>
      server.call('GET', '/proxy/services/data/v66.0/limits', undefined, {
        'Provider-Config-Key': integration,
        'Connection-Id': connectionId,
      }),
    read: (server, connectionId) => server.call('GET', `/connections/${connectionId}?provider_config_key=sf`),
  }
}
