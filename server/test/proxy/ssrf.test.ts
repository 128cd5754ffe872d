/**
 * Every door through which somebody else's URL comes in, against every spelling of an address inside: what a provider says of the account,
 * paths, overriding headers, redirects, webhook URLs, and names that lead inside. One listener takes every address and port that any of
 * them means; it must not see a connection.
 */
import assert from 'node:assert/strict'
import dns from 'node:dns'
import { syncBuiltinESMExports } from 'node:module'
import { createServer } from 'node:net'
import { before, beforeEach, describe, test, after as whenDone } from 'node:test'
import { until } from '../db/until.ts'
import { forbiddenLiterals, forbiddenNames } from '../net/support/hosts.ts'
import { type Fairlead, startFairlead } from '../support/fairlead.ts'
import { lastFirst } from '../support/last-first.ts'
import {
  connectThrough,
  type Issuer,
  naming,
  send,
  startIssuer,
  startUpstream,
  type Upstream,
  type World,
} from './world.ts'

let issuer: Issuer
let upstream: Upstream
let fairlead: Fairlead
let id: string
const inside = { port: 0, connections: 0 }
const file = lastFirst({ after: whenDone })

/** Where names of this test lead; every other name leads nowhere. */
const leads = new Map<string, () => string[]>()
const realLookup = dns.promises.lookup

const hosts = [...forbiddenLiterals, ...forbiddenNames]
/** As a URL spells them, for a definition that allows them all: what then refuses is the egress alone. */
const spelled = [...new Set(hosts.map(host => new URL(`https://${host}/`).hostname))].filter(
  host => !host.endsWith('.'),
)

const definitions = () => `
strict:
  display_name: Strict
  auth_mode: OAUTH2
  authorization_url: ${issuer.url}/authorize
  token_url: ${issuer.url}/token
  allowed_hosts: ['127.0.0.1', '*.example']
  token_response_metadata: [instance_url]
  proxy:
    base_url: \${connectionConfig.instance_url}
loose:
  alias: strict
  allowed_hosts: [${['127.0.0.1', ...spelled].map(host => JSON.stringify(host)).join(', ')}]
`

before(async () => {
  issuer = await startIssuer(file)
  upstream = await startUpstream(file)
  const trap = createServer(socket => {
    inside.connections++
    socket.on('error', () => {}).destroy()
  })
  await new Promise<void>(resolve => trap.listen(0, '::', resolve))
  inside.port = (trap.address() as { port: number }).port
  file.after(async () => void trap.close())
  const allowed = [issuer.url, upstream.url].map(url => new URL(url).host).join(',')
  fairlead = await startFairlead(file, { providers: definitions(), env: { FAIRLEAD_EGRESS_ALLOW: allowed } })
  for (const name of ['strict', 'loose'])
    await fairlead.call('POST', '/integrations', {
      provider: name,
      unique_key: name,
      credentials: { type: 'OAUTH2', client_id: 'id', client_secret: 'secret' },
    })
  issuer.instanceUrl = upstream.url
  id = await connectThrough(fairlead, 'strict')

  dns.promises.lookup = (async (host: string, options: object) => {
    const found = leads.get(host)
    if (!found) return realLookup(host, options)
    return found().map(address => ({ address, family: address.includes(':') ? 6 : 4 }))
  }) as typeof realLookup
  syncBuiltinESMExports()
  file.after(async () => {
    dns.promises.lookup = realLookup
    syncBuiltinESMExports()
  })
})
beforeEach(() => {
  inside.connections = 0
  upstream.arrived.length = 0
  upstream.answer = (_req, res) => void res.end('ok')
  issuer.instanceUrl = upstream.url
})

const named = (connection: string, integration = 'strict') => naming({ fairlead } as World, connection, integration)
/** One call through each door. */
const both = async (connection: string, integration: string, rest = 'x') => [
  await send(fairlead.url, { path: `/proxy/${rest}`, headers: named(connection, integration) }),
  await send(fairlead.url, {
    path: `/via/${integration}/${connection}/${rest}`,
    headers: { Authorization: `Bearer ${fairlead.key}` },
  }),
]
const nothingHappened = (of: string) => assert.deepEqual([of, inside.connections, upstream.arrived.length], [of, 0, 0])

describe('an instance_url that leads inside', () => {
  for (const integration of ['strict', 'loose'])
    test(`of a ${integration} provider: no sign-in or no call`, async () => {
      for (const host of hosts)
        for (const scheme of ['http', 'https']) {
          issuer.instanceUrl = `${scheme}://${host}:${inside.port}`
          const connection = await connectThrough(fairlead, integration).catch(() => undefined)
          if (connection !== undefined)
            for (const got of await both(connection, integration)) {
              assert.match(got.ours ?? '', /^(egress_refused|host_not_allowed|proxy_base_unknown)$/, issuer.instanceUrl)
              assert.ok(got.status >= 400)
            }
          nothingHappened(issuer.instanceUrl)
        }
    })

  test('that comes with a renewal', async () => {
    const connection = await connectThrough(fairlead, 'loose')
    for (const host of hosts) {
      issuer.instanceUrl = `http://${host}:${inside.port}`
      await fairlead.call('POST', `/connections/${connection}/refresh?provider_config_key=loose`)
      for (const got of await both(connection, 'loose')) {
        // What is not taken over leaves the call where it was.
        if (got.ours === undefined) assert.equal(upstream.arrived.pop()?.headers.host, new URL(upstream.url).host)
      }
      nothingHappened(issuer.instanceUrl)
    }
  })
})

test('a path, by headers or by path, in every form of another host', async () => {
  for (const host of hosts)
    for (const rest of [
      `http://${host}:${inside.port}/`,
      `https://${host}:${inside.port}/`,
      `//${host}:${inside.port}/`,
      `\\\\${host}:${inside.port}/`,
      `http:/${host}:${inside.port}/`,
      `..//${host}:${inside.port}/`,
      `%2e%2e/%2f${host}:${inside.port}/`,
      `.;@${host}:${inside.port}/../x`,
    ]) {
      // No client can send what is no request line.
      if (/[^\x21-\xff]/.test(rest)) continue
      for (const got of await both(id, 'strict', rest)) assert.equal(got.status, 400, rest)
      nothingHappened(rest)
    }
  for (const host of hosts) {
    const rest = `/${host}:${inside.port}/`
    if (/[^\x21-\xff]/.test(rest)) continue
    // Behind /via/… it is the path after a base URL that ends with a slash.
    const [byHeaders, byPath] = await both(id, 'strict', rest)
    assert.deepEqual([byHeaders!.status, byPath!.status], [400, 200], rest)
    for (const { headers, url } of upstream.arrived.splice(0))
      assert.deepEqual([headers.host, url], [new URL(upstream.url).host, rest])
    nothingHappened(rest)
  }
})

test('a path that only looks like one stays below the base URL', async () => {
  for (const rest of [
    `@${'127.0.0.2'}:${inside.port}/`,
    `:${inside.port}/`,
    `127.0.0.2:${inside.port}/x`,
    `?http://[::1]:${inside.port}/`,
  ]) {
    for (const got of await both(id, 'strict', rest)) assert.equal(got.status, 200, rest)
    for (const { headers, url } of upstream.arrived.splice(0))
      assert.deepEqual([headers.host, url], [new URL(upstream.url).host, `/${rest}`])
    nothingHappened(rest)
  }
})

test('Base-Url-Override, and headers that would move the call', async () => {
  for (const host of hosts) {
    if (/[^\x21-\xff]/.test(host)) continue
    const url = `http://${host}:${inside.port}`
    const refused = await send(fairlead.url, {
      path: '/proxy/x',
      headers: { ...named(id), 'Base-Url-Override': url },
    })
    assert.deepEqual([refused.status, refused.ours], [400, 'base_url_override_disabled'])
    nothingHappened(url)
    const got = await send(fairlead.url, {
      path: '/proxy/x',
      headers: {
        ...named(id),
        Host: `${host}:${inside.port}`,
        'Nango-Proxy-Host': `${host}:${inside.port}`,
        'Nango-Proxy-Base-Url-Override': url,
        'X-Forwarded-Host': `${host}:${inside.port}`,
        'X-Original-URL': url,
      },
    })
    if (got.status === 200) assert.equal(upstream.arrived.pop()!.headers.host, new URL(upstream.url).host)
    nothingHappened(url)
  }
})

test('a redirect is the caller’s to follow', async () => {
  for (const host of hosts) {
    if (/[^\x21-\x7e]/.test(host)) continue
    const location = `http://${host}:${inside.port}/`
    for (const status of [301, 302, 303, 307, 308]) {
      upstream.answer = (_req, res) => void res.writeHead(status, { Location: location }).end()
      for (const got of await both(id, 'strict'))
        assert.deepEqual([got.status, got.headers.location, got.ours], [status, location, undefined])
    }
    upstream.arrived.length = 0
    nothingHappened(location)
  }
})

test('a webhook URL', async () => {
  for (const host of hosts)
    for (const scheme of ['http', 'https'])
      for (const member of ['webhook_url', 'webhook_url_secondary']) {
        const url = `${scheme}://${host}:${inside.port}/`
        const { status, json } = await fairlead.call('PATCH', '/environment/settings', { [member]: url })
        assert.equal(status, 400, url)
        assert.match(json.error.code, /^(webhook_url_refused|invalid_body)$/)
      }
  const { json } = await fairlead.call('GET', '/environment/settings')
  assert.deepEqual([json.webhook_url, json.webhook_url_secondary], [null, null])
  nothingHappened('webhook')
})

describe('a name that leads inside', () => {
  const addresses = [
    ...new Set(forbiddenLiterals.map(host => new URL(`https://${host}/`).hostname.replace(/[[\]]/g, ''))),
    '127.0.0.2',
    'fe80::1%lo',
  ]

  test('as an instance_url, alone or among public addresses', async () => {
    let serial = 0
    for (const address of addresses)
      for (const answer of [[address], ['192.0.2.1', address], [address, '8.8.8.8']]) {
        const host = `n${serial++}.example`
        leads.set(host, () => answer)
        issuer.instanceUrl = `https://${host}:${inside.port}`
        const connection = await connectThrough(fairlead, 'strict')
        for (const got of await both(connection, 'strict'))
          assert.deepEqual([got.status, got.ours], [502, 'egress_refused'], `${answer}`)
        nothingHappened(`${answer}`)
      }
  })

  test('that changes its mind between two calls: the second one is refused, and nothing is dialled that was not judged', async () => {
    let lookups = 0
    leads.set('rebinding.example', () => [lookups++ % 2 === 0 ? '127.0.0.2' : '::1'])
    issuer.instanceUrl = `https://rebinding.example:${inside.port}`
    const connection = await connectThrough(fairlead, 'strict')
    for (let round = 0; round < 10; round++)
      for (const got of await both(connection, 'strict')) assert.equal(got.ours, 'egress_refused')
    assert.ok(lookups >= 20)
    nothingHappened('rebinding')
  })

  test('as a webhook URL: taken as it is written, refused at the delivery', async () => {
    leads.set('hooks.example', () => ['127.0.0.2'])
    const url = `https://hooks.example:${inside.port}/`
    const { status } = await fairlead.call('PATCH', '/environment/settings', { webhook_url: url })
    assert.equal(status, 200)
    await connectThrough(fairlead, 'strict')
    const firstAttempt = async () => {
      const [delivery] = (await fairlead.call('GET', '/webhooks/deliveries')).json.deliveries
      return delivery && (await fairlead.call('GET', `/webhooks/deliveries/${delivery.id}`)).json.history[0]
    }
    await until(async () => (await firstAttempt()) !== undefined)
    assert.match((await firstAttempt()).error, /not a public address/)
    await fairlead.call('PATCH', '/environment/settings', { webhook_url: null })
    nothingHappened('webhook')
  })
})
