/**
 * A vendor on loopback, for its own SDK to talk to through Fairlead: an authorization server that consents at once, and an API that
 * takes the current access token and nothing else. Whatever arrives is kept, and looked through for our API key at the end.
 */
import assert from 'node:assert/strict'
import { createServer, type IncomingMessage } from 'node:http'
import { connectThrough, listening } from '../../server/test/proxy/world.ts'
import { type Fairlead, startFairlead } from '../../server/test/support/fairlead.ts'

export interface Arrived {
  method: string
  /** Below the vendor's base URL. */
  path: string
  query: URLSearchParams
  headers: IncomingMessage['headers']
  body: Buffer
}

export interface Reply {
  status?: number
  headers?: Record<string, string>
  /** An object goes as JSON. */
  body?: object | Buffer | string
}

interface Options {
  /** What the base URL of the API ends with, e.g. `/api`. */
  prefix?: string
  /** The API's answer to a token that has ended. */
  ended: Reply
  api: (request: Arrived, vendor: Vendor) => Reply
}

export interface Vendor {
  fairlead: Fairlead
  /** The API's base URL as the vendor knows it. */
  own: string
  /** The base URL an SDK is given. */
  via: string
  /** Requests the API took. */
  arrived: Arrived[]
  /** How often the API refused a token that had ended. */
  refused: number
  refreshes: number
  /** From now on the access token in use is refused. */
  endToken(): void
  /** Requests outside the base URL: where addresses in the vendor's answers led the SDK by itself. */
  elsewhere: Arrived[]
  /** Nothing that came to the vendor held our API key, whatever its spelling. */
  assertUnknownKey(): void
}

type Test = { after(work: () => Promise<void>): void }

export async function startVendor(t: Test, vendorName: string, { prefix = '', ended, api }: Options): Promise<Vendor> {
  // A provider of its own, not a change of the built-in one.
  const name = `${vendorName}-mock`
  let issued = 1
  let valid = 1
  const everything: string[] = []
  const reply = async (req: IncomingMessage): Promise<Reply> => {
    const pieces: Buffer[] = []
    for await (const piece of req) pieces.push(piece)
    const body = Buffer.concat(pieces)
    const url = new URL(req.url!, vendor.own)
    everything.push(`${req.method} ${req.url} ${JSON.stringify(req.rawHeaders)} ${body.toString('latin1')}`)
    if (url.pathname === '/oauth/authorize') {
      const back = new URL(url.searchParams.get('redirect_uri')!)
      back.searchParams.set('code', 'code')
      back.searchParams.set('state', url.searchParams.get('state')!)
      return { status: 302, headers: { Location: back.href } }
    }
    if (url.pathname === '/oauth/token') {
      if (new URLSearchParams(body.toString()).get('grant_type') === 'refresh_token') {
        vendor.refreshes++
        valid = ++issued
      }
      return { body: { access_token: `token-${issued}`, refresh_token: `refresh-${issued}`, token_type: 'bearer' } }
    }
    const { method = '', headers } = req
    const arrived = { method, path: url.pathname.slice(prefix.length), query: url.searchParams, headers, body }
    if (!url.pathname.startsWith(`${prefix}/`)) {
      vendor.elsewhere.push({ ...arrived, path: url.pathname })
      return api({ ...arrived, path: url.pathname }, vendor)
    }
    // Whatever the SDK presented to Fairlead, this is what the vendor's own documentation asks for.
    assert.match(String(headers.authorization), /^Bearer token-\d+$/)
    assert.equal(headers['x-api-key'], undefined)
    if (headers.authorization !== `Bearer token-${valid}`) {
      vendor.refused++
      return ended
    }
    vendor.arrived.push(arrived)
    return api(arrived, vendor)
  }
  let fault: unknown
  const server = createServer(async (req, res) => {
    const {
      status = 200,
      headers = {},
      body = '',
    } = await reply(req).catch((error: unknown): Reply => {
      fault ??= error
      return { status: 500, body: String(error) }
    })
    const isJson = typeof body === 'object' && !Buffer.isBuffer(body)
    res.writeHead(status, { ...(isJson && { 'Content-Type': 'application/json; charset=utf-8' }), ...headers })
    res.end(isJson ? JSON.stringify(body) : body)
  })
  const origin = `http://127.0.0.1:${await listening(server)}`
  t.after(async () => {
    server.closeAllConnections()
    server.close()
  })

  const vendor: Vendor = {
    fairlead: undefined as never,
    own: `${origin}${prefix}`,
    via: '',
    arrived: [],
    refused: 0,
    refreshes: 0,
    endToken() {
      valid = -1
    },
    elsewhere: [],
    assertUnknownKey() {
      if (fault) throw fault
      const { key } = vendor.fairlead
      // In base64 text looks different depending on how many bytes stand before it, modulo three.
      const encoded = [0, 1, 2].map(n =>
        Buffer.from(' '.repeat(n) + key)
          .toString('base64')
          .slice(4, -4),
      )
      for (const form of [key, ...encoded])
        assert.ok(!everything.some(one => one.includes(form)), 'our API key came to the vendor')
    },
  }
  vendor.fairlead = await startFairlead(t, {
    providers: `
${name}:
  display_name: ${name}
  auth_mode: OAUTH2
  authorization_url: ${origin}/oauth/authorize
  token_url: ${origin}/oauth/token
  proxy:
    base_url: ${vendor.own}
`,
  })
  const credentials = { type: 'OAUTH2', client_id: 'id', client_secret: 'secret' }
  await vendor.fairlead.call('POST', '/integrations', { provider: name, unique_key: name, credentials })
  vendor.via = `${vendor.fairlead.url}/via/${name}/${await connectThrough(vendor.fairlead, name)}`
  return vendor
}

/** The bytes of a file in a `multipart/form-data` body: between the blank line after `name="<field>"` and the next boundary. */
export function filePart({ headers, body }: Pick<Arrived, 'headers' | 'body'>, field: string): Buffer {
  const boundary = /boundary=(\S+)/.exec(headers['content-type'] ?? '')?.[1]
  assert.ok(boundary, headers['content-type'] ?? 'no content type')
  const text = body.toString('latin1')
  const head = text.indexOf(`name="${field}"`)
  assert.ok(head >= 0, text)
  const start = text.indexOf('\r\n\r\n', head) + 4
  return body.subarray(start, text.indexOf(`\r\n--${boundary}`, start))
}

/** Every value a byte can have, repeated: what a careless text conversion would not survive. */
export const allBytes = Buffer.from(Array.from({ length: 40_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff))
