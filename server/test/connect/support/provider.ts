/**
 * An authorization server that does what a test tells it: every token request is kept as it came, and the answer is whatever the
 * test set. It also plays the API behind `instance_url`. It has no authorization page; a test goes straight to the callback.
 */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Asked {
  method: string
  /** Path and query, as sent. */
  url: string
  headers: IncomingHttpHeaders
  /** The body, verbatim. */
  body: string
  form: URLSearchParams
}

export type Answer = (res: ServerResponse, asked: Asked) => void

export interface Provider {
  port: number
  url: string
  /** Requests to the token endpoint, oldest first. */
  tokenRequests: Asked[]
  /** Every other request: the API, introspection. */
  otherRequests: Asked[]
  /** How the next token requests are answered. */
  answer: Answer
  /** How requests to the API are; undefined: with hello. */
  api: Answer | undefined
}

type Test = { after(work: () => Promise<void>): void }

export async function startProvider(t: Test): Promise<Provider> {
  const provider: Provider = {
    ...{ port: 0, url: '', tokenRequests: [], otherRequests: [], api: undefined },
    answer: res => void res.end(),
  }
  const server = createServer(async (req, res) => {
    let body = ''
    for await (const piece of req.setEncoding('utf8')) body += piece
    const { method = '', url = '', headers } = req
    const asked = { method, url, headers, body, form: new URLSearchParams(body) }
    if (url.split('?')[0] === '/token') {
      provider.tokenRequests.push(asked)
      provider.answer(res, asked)
    } else {
      provider.otherRequests.push(asked)
      if (provider.api && !url.endsWith('/introspect')) return provider.api(res, asked)
      const active = { active: true, exp: Math.floor(Date.now() / 1000) + 7200 }
      sendJson(200, url.endsWith('/introspect') ? active : { hello: 'world' })(res, asked)
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  provider.port = (server.address() as AddressInfo).port
  provider.url = `http://127.0.0.1:${provider.port}`
  t.after(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  return provider
}

export const send =
  (status: number, contentType: string, body: string): Answer =>
  res =>
    void res.writeHead(status, { 'Content-Type': contentType }).end(body)

export const sendJson = (status: number, body: unknown): Answer =>
  send(status, 'application/json', JSON.stringify(body))

/** A token response such as Salesforce sends; `changed` lays other members over it, `undefined` removes one. */
export const tokens = (provider: Provider, changed: Record<string, unknown> = {}) => ({
  access_token: '00D000000000001!ACCESS-token-of-the-mock',
  refresh_token: `5Aep861-REFRESH-token-of-the-mock-${provider.tokenRequests.length}`,
  token_type: 'Bearer',
  scope: 'api refresh_token',
  id: `${provider.url}/id/00D000000000001EAA/005000000000001AAA`,
  instance_url: provider.url,
  issued_at: '1785000000000',
  ...changed,
})

/** Catalogue entries that send people and codes to the mock; `own` lines go to the entry as they are. */
export const overlay = (name: string, tokenUrl: string, own = ''): string => `${name}:
  alias: salesforce-sandbox
  display_name: The mock
  authorization_url: ${new URL(tokenUrl).origin}/authorize
  token_url: ${tokenUrl}
${own}`
