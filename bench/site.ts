/** A server of ours with a connection made through the real OAuth flow, whose API is `upstream`; and another one, if there is a second. */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { walkConsent } from '../demo/consent.ts'
import { sandboxOverlay } from '../demo/overlay.ts'
import { freePort, type Process, start } from './processes.ts'

export interface Site {
  url: string
  key: string
  connectionId: string
  /** On the integration "second", when there is a second upstream. */
  secondId: string | undefined
  server: Process
  stop(): Promise<void>
}

export async function openSite(upstream: string, second?: string, nodeArgs: string[] = []): Promise<Site> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const key = randomUUID()
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  const simulator = await startSimulator({
    autoApprove: true,
    callbacks: [`${url}/oauth/callback`],
    // It holds a token request for 60 ms as Salesforce might, and ends the sixth grant of a user: neither is what is measured.
    settings: { refreshHoldMs: 0, maxApprovals: 1_000_000 },
  })
  const providers = join(folder, 'providers.yaml')
  writeFileSync(
    providers,
    `${sandboxOverlay(simulator.base('test'), ['127.0.0.1'])}  proxy: { base_url: '${upstream}' }\n${
      second === undefined ? '' : `second:\n  alias: salesforce-sandbox\n  proxy: { base_url: '${second}' }\n`
    }`,
  )
  const server = await start(
    process.execPath,
    [...nodeArgs, join(import.meta.dirname, '../server/src/main.ts')],
    port,
    {
      PATH: process.env.PATH,
      PORT: String(port),
      FAIRLEAD_URL: url,
      FAIRLEAD_DATA_DIR: folder,
      FAIRLEAD_SECRET_KEY_DEV: key,
      FAIRLEAD_PROVIDERS: providers,
      FAIRLEAD_EGRESS_ALLOW: '127.0.0.1',
      LOG_LEVEL: 'warn',
    },
  )
  const call = apiOf(url, key)
  const { clientId, clientSecret } = simulator.app('acme--uat')
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  const connected = async (provider: string, unique_key: string): Promise<string> => {
    await call('POST', '/integrations', { provider, unique_key, credentials })
    const session = await call('POST', '/connect/sessions', { end_user: { id: unique_key } })
    await walkConsent(`${url}/oauth/connect/${unique_key}?connect_session_token=${session.data.token}`)
    const { connections } = await call('GET', `/connections?endUserId=${unique_key}`)
    return connections[0]!.connection_id
  }
  const connectionId = await connected('salesforce-sandbox', 'sf')
  const secondId = second === undefined ? undefined : await connected('second', 'second')
  return {
    url,
    key,
    connectionId,
    secondId,
    server,
    async stop() {
      await server.stop()
      await simulator.close()
      rmSync(folder, { recursive: true })
    },
  }
}

/** The API as its owner calls it; any answer but a success throws. */
export function apiOf(url: string, key: string) {
  return async (method: string, path: string, body?: unknown) => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${await answer.text()}`)
    return (await answer.json()) as { data: { token: string }; connections: { connection_id: string }[] }
  }
}
