// What every test needs: a simulator that is closed afterwards, and a client that speaks its OAuth the way a browser
// and a server would, by fetch.

import { createHash, randomBytes } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import type { TestContext } from 'node:test'
import { type Simulator, type SimulatorOptions, startSimulator } from '../src/index.ts'

export const CALLBACK = 'http://localhost:3003/oauth/callback'
export const ADA = 'ada@acme.com.uat'

/** Small and quick unless told otherwise. */
export async function simulate(t: TestContext, options: SimulatorOptions = {}): Promise<Simulator> {
  const { settings, ...rest } = options
  const simulator = await startSimulator({ contacts: 30, ...rest, settings: { refreshHoldMs: 0, ...settings } })
  t.after(() => simulator.close())
  return simulator
}

export const newVerifier = () => randomBytes(48).toString('base64url')
export const s256 = (verifier: string) => createHash('sha256').update(verifier).digest('base64url')

export type Json = Record<string, unknown>

/** A record that must hold text there; fails loudly otherwise. */
export function text(json: Json, key: string): string {
  const value = json[key]
  if (typeof value !== 'string') throw new Error(`${key} is ${JSON.stringify(value)} in ${JSON.stringify(json)}`)
  return value
}

export function authorizeUrl(simulator: Simulator, changes: Record<string, string | null> = {}, at = 'acme--uat'): URL {
  const url = new URL(`${simulator.base(at)}/services/oauth2/authorize`)
  const parameters: Record<string, string | null> = {
    response_type: 'code',
    client_id: simulator.app('acme--uat').clientId,
    redirect_uri: CALLBACK,
    state: 'the state',
    code_challenge: s256('v'.repeat(64)),
    code_challenge_method: 'S256',
    ...changes,
  }
  for (const [name, value] of Object.entries(parameters)) if (value !== null) url.searchParams.set(name, value)
  return url
}

export type Arrival = { status: number; location: URL | null; page: string }

export async function open(url: URL | string, init: RequestInit = {}): Promise<Arrival> {
  const response = await fetch(url, { redirect: 'manual', ...init })
  const location = response.headers.get('location')
  return { status: response.status, location: location ? new URL(location) : null, page: await response.text() }
}

const hidden = (page: string) => /name="request" value="([^"]+)"/.exec(page)?.[1] ?? ''
const action = (page: string) => /<form method="post" action="([^"]+)"/.exec(page)?.[1] ?? ''

/** Clicks through login and consent as a person would. */
export async function click(page: string, login: { username?: string; password?: string } = {}): Promise<Arrival> {
  const { username = ADA, password = 'Simulated-1' } = login
  return open(action(page), {
    method: 'POST',
    body: new URLSearchParams({ request: hidden(page), username, password }),
  })
}
export const decide = (page: string, decision: 'allow' | 'deny'): Promise<Arrival> =>
  open(action(page), { method: 'POST', body: new URLSearchParams({ request: hidden(page), decision }) })

/** A code without clicks, for tests about what comes after. */
export async function newCode(simulator: Simulator, changes: Record<string, string | null> = {}, at?: string) {
  const { location } = await open(authorizeUrl(simulator, changes, at), { headers: { 'x-simulator-approve': 'allow' } })
  return location?.searchParams.get('code') ?? ''
}

export type Answer = { status: number; json: Json; headers: Headers }

export async function post(
  url: string,
  form: Record<string, string | null>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const given = Object.entries(form).filter((entry): entry is [string, string] => entry[1] !== null)
  const response = await fetch(url, { method: 'POST', body: new URLSearchParams(given), headers })
  const body = await response.text()
  return { status: response.status, json: body ? (JSON.parse(body) as Json) : {}, headers: response.headers }
}

/** POST to the token endpoint with the sandbox app's own credentials unless changed. */
export function askToken(simulator: Simulator, form: Record<string, string | null>, at = 'acme--uat'): Promise<Answer> {
  const { clientId, clientSecret } = simulator.app('acme--uat')
  return post(`${simulator.base(at)}/services/oauth2/token`, {
    client_id: clientId,
    client_secret: clientSecret,
    ...form,
  })
}

export const exchange = (
  simulator: Simulator,
  code: string,
  changes: Record<string, string | null> = {},
  at?: string,
) =>
  askToken(
    simulator,
    { grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: 'v'.repeat(64), ...changes },
    at,
  )

export const refresh = (simulator: Simulator, refresh_token: string, changes: Record<string, string | null> = {}) =>
  askToken(simulator, { grant_type: 'refresh_token', refresh_token, ...changes })

export async function connect(simulator: Simulator, changes: Record<string, string | null> = {}): Promise<Json> {
  const { json } = await exchange(simulator, await newCode(simulator, changes))
  return json
}

export type RestAnswer = { status: number; json: unknown; headers: Headers }

export async function rest(
  tokens: Json,
  path: string,
  init: { method?: string; body?: unknown; headers?: Record<string, string> } = {},
): Promise<RestAnswer> {
  const response = await fetch(`${text(tokens, 'instance_url')}/services/data${path}`, {
    method: init.method ?? 'GET',
    headers: {
      authorization: `Bearer ${text(tokens, 'access_token')}`,
      'content-type': 'application/json',
      ...init.headers,
    },
    ...(init.body === undefined ? {} : { body: typeof init.body === 'string' ? init.body : JSON.stringify(init.body) }),
  })
  const body = await response.text()
  return { status: response.status, json: body ? JSON.parse(body) : null, headers: response.headers }
}

export const soql = (tokens: Json, q: string, headers: Record<string, string> = {}) =>
  rest(tokens, `/v60.0/query?q=${encodeURIComponent(q)}`, { headers })

/** A request with a Host header fetch would not let us set. */
export function byName(
  simulator: Simulator,
  host: string,
  path: string,
): Promise<{ status: number; location: string | null; body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: '127.0.0.1', port: simulator.port, path, headers: { host: `${host}:${simulator.port}` }, agent: false },
      response => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', chunk => {
          body += chunk
        })
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, location: response.headers.location ?? null, body }),
        )
      },
    )
    request.on('error', reject)
    request.end()
  })
}
