/** The steps of a sign-in, each callable by itself, so that a test can leave one out or take one twice. */
import assert from 'node:assert/strict'
import { sql } from '../../../src/db/sql.ts'
import type { Db } from '../../../src/seams.ts'
import { Browser, type Fairlead } from '../../support/fairlead.ts'

export const clientId = 'client-of-the-tests'
export const clientSecret = 'Client Secret of:the%tests+é/'

export async function addIntegration(fairlead: Fairlead, key: string, provider = key, scopes?: string): Promise<void> {
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret, ...(scopes && { scopes }) }
  const made = await fairlead.call('POST', '/integrations', { provider, unique_key: key, credentials })
  assert.equal(made.status, 200, made.text)
}

export async function openSession(fairlead: Fairlead, body: object = { end_user: { id: 'ada' } }): Promise<string> {
  const opened = await fairlead.call('POST', '/connect/sessions', body)
  assert.equal(opened.status, 201, opened.text)
  return opened.json.data.token
}

/** Where a browser goes first. The public base, because that is where its cookie belongs. */
export const startUrl = (fairlead: Fairlead, key: string, token: string, query = ''): string =>
  `${fairlead.app.url}/oauth/connect/${key}?connect_session_token=${token}${query}`

export interface Begun {
  browser: Browser
  token: string
  /** The provider's authorization page with our parameters. */
  authorize: URL
  state: string
}

export async function begin(
  fairlead: Fairlead,
  key: string,
  { browser = new Browser(), token, query = '' }: { browser?: Browser; token?: string; query?: string } = {},
): Promise<Begun> {
  const session = token ?? (await openSession(fairlead))
  const answer = await browser.open(startUrl(fairlead, key, session, query))
  assert.equal(answer.status, 302, answer.text)
  const authorize = new URL(answer.location ?? '')
  return { browser, token: session, authorize, state: authorize.searchParams.get('state') ?? '' }
}

/** The URL the provider sends the browser back to. */
export function callbackOf({ authorize, state }: Pick<Begun, 'authorize' | 'state'>, code: string): URL {
  const url = new URL(authorize.searchParams.get('redirect_uri') ?? '')
  url.searchParams.set('code', code)
  url.searchParams.set('state', state)
  return url
}

export interface Counts {
  connections: number
  credentials: number
  handshakes: number
}

export async function counts(db: Db): Promise<Counts> {
  const [row] = await db.query<Counts>(sql`
    select (select count(*) from connection)::int as connections, (select count(*) from credential)::int as credentials,
      (select count(*) from handshake)::int as handshakes`)
  return row!
}
